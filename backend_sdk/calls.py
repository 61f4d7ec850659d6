"""The control API's calls as values: what to send, how to read the answer, whether it may be repeated. Pure.

`backend_sdk.publisher` carries them out, once for asyncio and once for everybody else.

Source: the edge's own description, /openapi.json on its control port.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from backend_sdk import actions
from backend_sdk.actions import Action
from backend_sdk.errors import (
    BadCall,
    ControlError,
    NotConfirmed,
    NotFound,
    SessionGone,
    Unauthorized,
    Unavailable,
)
from backend_sdk.events import Position
from backend_sdk.values import check_key, check_value
from backend_sdk.wire import JsonEncoding, payload_from_json

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Published:
    """Where a publication went. `duplicate`: one with this id was there before, and `position` is its."""

    position: Position
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Publication:
    """One remembered message of a channel. `at`: ms since the epoch."""

    offset: int
    payload: str | bytes
    at: int


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Publications in order. `whole`: none between what was asked for and the first one is missing. `position`: the
    channel's newest."""

    publications: Sequence[Publication]
    whole: bool
    position: Position


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """A channel now: `subscribers` over all edges, and its newest position (offset 0: no history)."""

    channel: str
    subscribers: int
    position: Position


@dataclass(frozen=True, slots=True)
class TimerInfo:
    """A timer that waits; `due` in ms since the epoch."""

    name: str
    due: int
    data: Any


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session now. `opened_at`: ms since the epoch; `client`: ``ip:port``; `pinned`: the release it is kept on."""

    id: str
    app: str
    route: str
    release: str
    user: str | None
    edge: str
    transport: str
    client: str
    opened_at: int
    state: Mapping[str, Any]
    version: int
    channels: Sequence[str]
    timers: Sequence[TimerInfo]
    pinned: str | None = None
    link: Mapping[str, Any] | None = None
    """Of an XMPP link: `jid`, `phase`, `resumable`, `attached`, `waiting` (events), `unacked` (stanzas)."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One call. `repeatable`: doing it twice is doing it once, so it may be tried again when its outcome is unknown.
    `ending`: it ends something, so when tried again "gone" is what was wanted."""

    method: str
    path: str
    read: Callable[[Any], T]
    params: Mapping[str, str | int] = field(default_factory=dict)
    body: bytes | None = None
    repeatable: bool = True
    ending: bool = False


def publish(channel: str, payload: str | bytes, id: str | None, sender: str | None) -> Call[Published]:
    """Publish. Without an id it gets one, so that it can be repeated safely."""
    action = actions.publish(channel, payload, id=new_id() if id is None else id)
    body: dict[str, Any] = {name: value for name, value in action.items() if name not in ("type", "channel")}
    if sender is not None:
        body["sender"] = sender
    return Call("POST", f"/v1/channels/{quote(channel, safe='')}/publications", _published, body=_packed(body))


def channel(name: str) -> Call[ChannelInfo]:
    """Ask about a channel."""
    return Call("GET", f"/v1/channels/{quote(name, safe='')}", _channel)


def history(channel: str, since: Position | None, limit: int) -> Call[HistoryPage]:
    """Read what a channel remembers after `since`, or its newest `limit`."""
    params: dict[str, str | int] = {"limit": limit}
    if since is not None:
        params |= {"offset": since.offset, "epoch": since.epoch}
    return Call("GET", f"/v1/channels/{quote(channel, safe='')}/history", _history, params=params)


def session(id: str) -> Call[SessionInfo]:
    """Ask about a session."""
    return Call("GET", f"/v1/sessions/{quote(id, safe='')}", _session)


def sessions(user: str) -> Call[list[SessionInfo]]:
    """A user's sessions."""
    return Call(
        "GET", "/v1/sessions", lambda body: [_session(each) for each in body["sessions"]], params={"user": user}
    )


def close(session: str, code: int, reason: str) -> Call[None]:
    """End a session."""
    checked = actions.close(code, reason)
    params: dict[str, str | int] = {"code": checked["code"]}
    if "reason" in checked:
        params["reason"] = checked["reason"]
    path = f"/v1/sessions/{quote(session, safe='')}"
    return Call("DELETE", path, lambda body: None, params=params, ending=True)


def act(
    session: str, orders: Sequence[Action], set: Mapping[str, Any], unset: Sequence[str], app: str | None
) -> Call[str]:
    """Give orders to a session. Those without an id get one, so that they can be repeated safely."""
    for key, value in set.items():
        check_key(key)
        check_value(value, f"state[{key!r}]")
    whole = [{**order, "id": order.get("id") or new_id()} for order in orders]
    body: dict[str, Any] = {"actions": whole}
    change = {name: part for name, part in (("set", dict(set)), ("unset", list(unset))) if part}
    if change:
        body["state"] = change
    if app is not None:
        body["app"] = app
    path = f"/v1/sessions/{quote(session, safe='')}/actions"
    return Call("POST", path, lambda answer: str(answer["outcome"]), body=_packed(body))


def new_id() -> str:
    """An idempotency key nobody else has."""
    return uuid.uuid4().hex


def error(status: int, body: bytes) -> ControlError:
    """The error an answer that is not 2xx stands for."""
    code, message = "unexpected", body[:200].decode("utf-8", "replace")
    try:
        told = json.loads(body)["error"]
        code, message = str(told["code"]), str(told["message"])  # the message names a bad field itself
    except (ValueError, KeyError, TypeError):
        pass  # a proxy's page, say: its beginning is the message
    match status:
        case 401 | 403:
            return Unauthorized(status, code, message)
        case 404:
            return NotFound(status, code, message)
        case 410:
            return SessionGone(status, code, message)
        case 504:
            return NotConfirmed(status, code, message)
        case 429 | 502 | 503:
            return Unavailable(status, code, message)
        case _ if 400 <= status < 500:
            return BadCall(status, code, message)
        case _:
            return ControlError(status, code, message)


def read(call: Call[T], status: int, body: bytes) -> T:
    """What a 2xx answer says. Raises `ControlError` when that is not what was agreed."""
    try:
        return call.read(json.loads(body) if body else {})
    except (ValueError, KeyError, TypeError) as problem:
        text = f"the answer to {call.method} {call.path} cannot be read: {problem!r}"
        raise ControlError(status, "unreadable", text) from problem


def _packed(body: dict[str, Any]) -> bytes:
    return JsonEncoding().pack(body)


def _position(body: Any) -> Position:
    return Position(int(body["offset"]), str(body["epoch"]))


def _published(body: Any) -> Published:
    return Published(_position(body), bool(body["duplicate"]))


def _channel(body: Any) -> ChannelInfo:
    return ChannelInfo(str(body["channel"]), int(body["subscribers"]), _position(body))


def _history(body: Any) -> HistoryPage:
    publications = [
        Publication(int(each["offset"]), payload_from_json(each), int(each["at"])) for each in body["publications"]
    ]
    return HistoryPage(publications, bool(body["whole"]), _position(body))


def _session(body: Any) -> SessionInfo:
    return SessionInfo(
        id=body["session"],
        app=body["app"],
        route=body["route"],
        release=body["release"],
        user=body["user"],
        edge=body["edge"],
        transport=body["transport"],
        client=body["client"],
        opened_at=body["opened_at"],
        state=body["state"],
        version=body["version"],
        channels=body["channels"],
        timers=[TimerInfo(each["name"], each["due"], each["data"]) for each in body["timers"]],
        pinned=body.get("pinned"),
        link=body.get("link"),
    )
