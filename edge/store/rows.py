"""A session's row as fields of a Redis hash, and back. Values of state and timers are opaque msgpack to
Redis and Lua."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack

from edge.store.base import SessionRow, StoredTimer

STATE = "st:"
TIMER = "tm:"
CHANNEL = "ch:"


def dump(value: Any) -> bytes:
    """msgpack. Raises ValueError or TypeError for what it cannot hold."""
    try:
        packed: bytes = msgpack.packb(value, use_bin_type=True)
    except OverflowError as error:
        raise ValueError(str(error)) from None
    return packed


def load(data: bytes) -> Any:
    return msgpack.unpackb(data, raw=False, strict_map_key=False)


def timer_field(timer: StoredTimer) -> tuple[str, bytes]:
    return TIMER + timer.name, dump([timer.due_ms, timer.data])


def to_fields(row: SessionRow) -> list[Any]:
    """Field, value, … of everything but owner and fence."""
    fields: list[Any] = [
        "app", row.app, "route", row.route, "release", row.release, "transport", row.transport,
        "client", row.client, "at", row.opened_at, "v", row.version,
    ]  # fmt: skip
    if row.user is not None:
        fields += ("user", row.user)
    if row.pinned is not None:
        fields += ("pinned", row.pinned)
    for key, value in row.state.items():
        fields += (STATE + key, dump(value))
    for channel in row.channels:
        fields += (CHANNEL + channel, b"")
    for timer in row.timers:
        fields += timer_field(timer)
    return fields


def from_fields(sid: str, flat: Sequence[bytes]) -> SessionRow | None:
    """The row in a reply of HGETALL; None when there is none."""
    if not flat:
        return None
    plain: dict[str, str] = {}
    state: dict[str, Any] = {}
    channels: list[str] = []
    timers: list[StoredTimer] = []
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        match name[:3]:
            case b"st:":
                state[name[3:].decode()] = load(value)
            case b"ch:":
                channels.append(name[3:].decode())
            case b"tm:":
                due_ms, data = load(value)
                timers.append(StoredTimer(name[3:].decode(), due_ms, data))
            case _ if name not in (b"token", b"outcome"):
                plain[name.decode()] = value.decode()
    return SessionRow(
        id=sid, app=plain["app"], route=plain["route"], release=plain["release"], owner=plain["owner"],
        fence=int(plain["fence"]), transport=plain["transport"], client=plain["client"],
        opened_at=int(plain["at"]), user=plain.get("user"), pinned=plain.get("pinned"), state=state,
        version=int(plain["v"]), channels=tuple(channels), timers=tuple(timers),
    )  # fmt: skip
