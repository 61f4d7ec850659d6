"""A link's row as fields of a Redis hash, its stanzas and iq entries as bytes, and back. Versioned: `ROW_VERSION`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge.errors import StoreRefused
from edge.store.links_base import ROW_VERSION, HeldLink, IqEntry, LinkRow, Save, Stanza
from edge.store.rows import dump, load

STATE = "st:"
_TEXTS = {"app", "route", "release", "jid", "owner", "sm_id", "location", "phase", "bound_jid", "last_mam_id", "pinned"}
_NUMBERS = {
    "fence": "fence", "stream": "stream", "sm_max": "sm_max_s", "h_in": "h_in", "out_base": "out_base",
    "out_n": "out_n", "seq": "seq", "done": "done", "in_bytes": "event_bytes", "out_bytes": "stanza_bytes",
    "lost_at": "lost_at", "detached_at": "detached_at", "state_version": "state_version",
}  # fmt: skip
"""Field in Redis → of `LinkRow`. Scripts know most of them."""
_BYTES = {"presence", "credentials"}
_PACKED = {"connect", "attached"}


def to_stored(row: LinkRow) -> list[Any]:
    """Field, value, … of everything but owner and fence. Raises ValueError or TypeError."""
    fields: list[Any] = []
    # What every script reads comes first: a small hash is searched from its beginning.
    for stored, name in _NUMBERS.items():
        if stored != "fence":
            fields += (stored, getattr(row, name))
    fields += ("version", ROW_VERSION, "inactive", int(row.inactive))
    for name in sorted(_TEXTS - {"owner"}):
        fields += (name, getattr(row, name))
    for name in sorted(_BYTES):
        fields += (name, getattr(row, name))
    fields += ("connect", dump(dict(row.connect)), "attached", dump(list(row.attached)))
    for key, value in row.state.items():
        fields += (STATE + key, dump(value))
    return fields


def from_stored(link: str, flat: Sequence[bytes]) -> LinkRow | None:
    """The row in a reply of HGETALL; None when there is none. Raises StoreRefused for one of a newer version."""
    if not flat:
        return None
    known: dict[str, Any] = {}
    state: dict[str, Any] = {}
    for field, value in zip(flat[::2], flat[1::2], strict=True):
        name = field.decode()
        if name in _NUMBERS:
            known[_NUMBERS[name]] = int(value)
        elif name in _TEXTS:
            known[name] = value.decode()
        elif name in _BYTES:
            known[name] = value
        elif name in _PACKED:
            known[name] = load(value)
        elif name == "inactive":
            known[name] = value == b"1"
        elif name.startswith(STATE):
            state[name[len(STATE) :]] = load(value)
        elif name == "version" and int(value) > ROW_VERSION:
            raise StoreRefused(f"link {link}: its row has version {int(value)}, this edge reads up to {ROW_VERSION}")
    return LinkRow(id=link, state=state, **(known | {"attached": tuple(known.get("attached", ()))}))


def saved(save: Save) -> tuple[list[Any], list[str]]:
    """(field, value, …; fields to delete). Raises ValueError or TypeError."""
    fields: list[Any] = []
    for name in (
        "phase",
        "bound_jid",
        "lost_at",
        "detached_at",
        "presence",
        "last_mam_id",
        "credentials",
        "release",
        "pinned",
        "state_version",
    ):
        value = getattr(save, name)
        if value is not None:
            fields += (name, value)
    if save.inactive is not None:
        fields += ("inactive", int(save.inactive))
    if save.attached is not None:
        fields += ("attached", dump(list(save.attached)))
    for key, value in save.state_set.items():
        fields += (STATE + key, dump(value))
    return fields, [STATE + key for key in save.state_unset]


def stanza_to_stored(stanza: Stanza) -> bytes:
    return dump([stanza.action_id, stanza.at, stanza.raw])


def stanza_from_stored(data: bytes) -> Stanza:
    action_id, at, raw = load(data)
    return Stanza(raw, at, action_id)


def iq_to_stored(entry: IqEntry) -> bytes:
    return dump([entry.id, entry.peer, entry.due_ms, entry.action_id])


def iq_from_stored(key: str, data: bytes) -> IqEntry:
    id, peer, due_ms, action_id = load(data)
    return IqEntry(key, id, peer, due_ms, action_id)


def held(link: str, reply: Sequence[Any]) -> HeldLink:
    """(row, unacknowledged, iq table) as Redis answers them."""
    row = from_stored(link, reply[0])
    if row is None:
        raise ValueError("no row")
    table = reply[2]
    iqs = [iq_from_stored(key.decode(), entry) for key, entry in zip(table[::2], table[1::2], strict=True)]
    return HeldLink(row, [stanza_from_stored(each) for each in reply[1]], iqs)
