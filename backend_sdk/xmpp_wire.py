"""Events of XMPP links, from the fields they have on the wire. Pure; `backend_sdk.wire` reads the rest of a request.

Fields that are not known are passed over, and fields that are must be there and of their type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backend_sdk.fields import FieldProblem, take, take_or_none, take_texts
from backend_sdk.xmpp_events import (
    Child,
    Delay,
    IqStanza,
    LinkEvent,
    MessageStanza,
    PresenceStanza,
    RosterItem,
    StanzaError,
    XmppAuthFailed,
    XmppCaughtUp,
    XmppConnected,
    XmppCredentials,
    XmppDetached,
    XmppDisconnected,
    XmppIq,
    XmppIqResult,
    XmppMessage,
    XmppPresence,
    XmppReset,
    XmppResumed,
    XmppRoster,
    XmppSendFailed,
    XmppSent,
    XmppState,
)

Raw = dict[str, Any]
Reader = Callable[[Raw, str], Any]


def _text(raw: Raw, field: str) -> Any:
    return take(raw, field, str)


def _text_or_none(raw: Raw, field: str) -> Any:
    return take_or_none(raw, field, str)


def _int(raw: Raw, field: str) -> Any:
    return take(raw, field, int)


def _int_or_none(raw: Raw, field: str) -> Any:
    return take_or_none(raw, field, int)


def _bool(raw: Raw, field: str) -> Any:
    return take(raw, field, bool)


def _message(raw: Raw, field: str) -> MessageStanza:
    stanza = take(raw, field, dict)
    texts = ("body", "subject", "thread", "stanza_id", "carbon", "chat_state", "receipt", "receipt_id")
    said = [take_or_none(stanza, text, str, "stanza.") for text in texts]
    rest: list[Any] = [*said, _delay(stanza), _error(stanza), _children(stanza)]
    return MessageStanza(*_head(stanza), *rest)


def _presence(raw: Raw, field: str) -> PresenceStanza:
    stanza = take(raw, field, dict)
    return PresenceStanza(
        *_head(stanza),
        take_or_none(stanza, "show", str, "stanza."),
        take_or_none(stanza, "status", str, "stanza."),
        take(stanza, "priority", int, "stanza."),
        _delay(stanza),
        _error(stanza),
        _children(stanza),
    )


def _iq(raw: Raw, field: str) -> IqStanza:
    stanza = take(raw, field, dict)
    query = take_or_none(stanza, "query", list, "stanza.")
    return IqStanza(*_head(stanza), None if query is None else _child(query, "stanza.query"), _error(stanza))


def _iq_or_none(raw: Raw, field: str) -> IqStanza | None:
    return None if take_or_none(raw, field, dict) is None else _iq(raw, field)


def _items(raw: Raw, field: str) -> tuple[RosterItem, ...]:
    items = []
    for index, item in enumerate(take(raw, field, list)):
        place = f"{field}[{index}]"
        if type(item) is not dict:
            raise FieldProblem(place, "must be a map")
        items.append(
            RosterItem(
                take(item, "jid", str, f"{place}."),
                take(item, "sub", str, f"{place}."),
                take_or_none(item, "name", str, f"{place}."),
                take(item, "ask", bool, f"{place}."),
                take_texts(item, "groups", f"{place}."),
            )
        )
    return tuple(items)


def _head(stanza: Raw) -> tuple[Any, Any, Any, Any]:
    return (
        take_or_none(stanza, "from", str, "stanza."),
        take_or_none(stanza, "to", str, "stanza."),
        take(stanza, "type", str, "stanza."),
        take_or_none(stanza, "id", str, "stanza."),
    )


def _delay(stanza: Raw) -> Delay | None:
    delay = take_or_none(stanza, "delay", dict, "stanza.")
    if delay is None:
        return None
    return Delay(take(delay, "stamp", str, "stanza.delay."), take_or_none(delay, "from", str, "stanza.delay."))


def _error(stanza: Raw) -> StanzaError | None:
    error = take_or_none(stanza, "error", dict, "stanza.")
    if error is None:
        return None
    place = "stanza.error."
    kind, condition = take(error, "type", str, place), take(error, "condition", str, place)
    return StanzaError(kind, condition, take_or_none(error, "text", str, place))


def _children(stanza: Raw) -> tuple[Child, ...]:
    return tuple(_child(child, "stanza.children") for child in take(stanza, "children", list, "stanza."))


def _child(pair: object, place: str) -> Child:
    if type(pair) is not list or len(pair) != 2 or not all(type(part) is str for part in pair):
        raise FieldProblem(place, "must be made of [namespace, name]")
    return Child(*pair)


_FIELDS: dict[type[LinkEvent], dict[str, Reader]] = {
    XmppConnected: {"resumable": _bool, "max_s": _int_or_none, "fresh": _bool},
    XmppResumed: {"gap_ms": _int, "redelivered": _int},
    XmppMessage: {"stanza": _message, "xml": _text, "replay": _bool},
    XmppPresence: {"stanza": _presence, "xml": _text},
    XmppIq: {"stanza": _iq, "xml": _text, "reply_by": _int_or_none},
    XmppRoster: {"ver": _text_or_none, "full": _bool, "items": _items},
    XmppIqResult: {
        "action_id": _text,
        "ok": _bool,
        "reason": _text_or_none,
        "stanza": _iq_or_none,
        "xml": _text_or_none,
    },
    XmppSent: {"action_ids": take_texts},
    XmppSendFailed: {"action_id": _text_or_none, "reason": _text, "certain": _bool, "text": _text},
    XmppReset: {
        "reason": _text,
        "server_h": _int_or_none,
        "resent": _int,
        "unknown": take_texts,
        "mam_after": _text_or_none,
    },
    XmppCaughtUp: {"count": _int, "whole": _bool},
    XmppDetached: {"reason": _text, "text": _text},
    XmppDisconnected: {"reason": _text, "text": _text, "will_retry": _bool},
    XmppAuthFailed: {"condition": _text, "text": _text, "will_retry": _bool},
    XmppCredentials: {"reason": _text},
    XmppState: {"phase": _text, "resumable": _bool, "attached": take_texts, "waiting": _int, "unacked": _int},
}
"""Each event's own fields on the wire, in the order its class has them."""


def _decoder(made: Callable[..., Any], readers: dict[str, Reader]) -> Callable[[Raw], Any]:
    def decode(raw: Raw) -> Any:
        seq, jid = take(raw, "seq", int), take(raw, "jid", str)
        own = [read(raw, field) for field, read in readers.items()]
        return made(raw["id"], raw["at"], raw["attempt"], seq, jid, *own)

    return decode


LINK_EVENTS: dict[str, Callable[[Raw], Any]] = {
    vars(made)["type"]: _decoder(made, readers) for made, readers in _FIELDS.items()
}
"""By type on the wire: the event from its fields, whose common ones are checked. Raise FieldProblem."""
