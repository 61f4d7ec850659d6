"""What of an answer a store that is away cannot do, by the edge's rules (`edge.model.session`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backend_sdk.testing.records import ClientRecord, SessionRecord

STAYED_AWAY = "Redis stayed away"

_CHANGES = frozenset({"identify", "pin", "timer", "cancel_timer"})


def needs_store(session: SessionRecord, event: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    """Whether the answer to `event` changes the session's row, and so takes effect with Redis or not at all."""
    kind = event.get("type")
    if kind == "close":
        return False  # the row goes with the session
    if kind == "timer" or result.get("state"):
        return True  # a timer leaves the row when its event is answered
    own = (action for action in result.get("actions", ()) if action.get("session", session.id) == session.id)
    return any(_changes(session, action) for action in own)


def _changes(session: SessionRecord, action: Mapping[str, Any]) -> bool:
    channels = session.channels if isinstance(session, ClientRecord) else ()
    match action["type"]:
        case "publish":
            return False  # remembered by its channel, not by the session
        case "subscribe":
            return "id" in action or action["channel"] not in channels
        case "unsubscribe":
            return "id" in action or action["channel"] in channels
        case kind:
            # What a link sends is in the store before it is on the wire.
            return "id" in action or kind in _CHANGES or kind.startswith("xmpp.")
