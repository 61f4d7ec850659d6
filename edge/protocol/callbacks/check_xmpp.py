"""Checks the orders for XMPP links: their shape. Everything of `edge.protocol.callbacks.check` holds here as well.

Whether XML is a stanza, and an address an address, is judged where it is sent (`edge.protocol.xmpp.outgoing`): there
one action fails and the link stays up. The exception is the address of a link itself, without which there is none.
Nothing in an error is a value, for these actions carry passwords.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar, get_args

from edge.errors import FieldError, WireError
from edge.protocol.callbacks.actions import (
    AskBackend,
    LinkAction,
    OnConnect,
    Routing,
    XmppAttach,
    XmppConnect,
    XmppCredentials,
    XmppDetach,
    XmppDisconnect,
    XmppGet,
    XmppIq,
    XmppIqReply,
    XmppPresence,
    XmppSend,
    XmppSuspend,
    is_link,
)
from edge.protocol.callbacks.check_auth import parse_auth
from edge.protocol.callbacks.fields import COMMON, Obj, checked_name, checked_text, common, only_known, optional
from edge.protocol.xmpp.jid import Jid, parse_jid
from edge.protocol.xmpp.outgoing import (
    ChatState,
    MessageFields,
    MessageType,
    PresenceFields,
    PresenceType,
    Receipt,
    Show,
)

T = TypeVar("T")

KEEP_S_MAX = 86_400
"""A day: who comes back later logs in again."""
IQ_TIMEOUT_S_MAX = 600

_CONDITION = frozenset("abcdefghijklmnopqrstuvwxyz-")
_ERROR_TYPES = ("auth", "cancel", "continue", "modify", "wait")
_STANZAS = ("message", "presence", "iq")
_COALESCED = ("presence", "chatstate")


def _parse_connect(obj: Obj, from_json: bool) -> XmppConnect:
    session, key = _link(obj, _CONNECT_FIELDS)
    jid = _own_address(obj)
    auth = obj.get("auth")
    return XmppConnect(
        str(jid),
        None if auth is None else parse_auth(auth, jid),
        _resource(obj),
        _on_connect(obj),
        _routing(obj),
        _clients(obj),
        _number(obj, "keep_after_detach_s", 300.0, 0, KEEP_S_MAX),
        _bool(obj, "sent", False),
        _bool(obj, "detached", False),
        session,
        key,
    )


def _parse_send(obj: Obj, from_json: bool) -> XmppSend:
    session, key = _link(obj, _SEND_FIELDS)
    xml = _whole(obj, _SEND_FIELDS)
    if xml is not None:
        return XmppSend(xml, session, key)
    if obj.get("to") is None:
        raise FieldError("to", "is missing (or xml, for a whole stanza)")
    receipt, receipt_id = _one_of(obj, "receipt", get_args(Receipt)), _text_or_none(obj, "receipt_id")
    if (receipt == "received") != (receipt_id is not None):
        raise FieldError("receipt_id", "must say which message is received, and only with the receipt `received`")
    fields = MessageFields(
        checked_text("to", obj["to"]),
        _one_of(obj, "stanza_type", get_args(MessageType)) or "chat",
        _text_or_none(obj, "stanza_id"),
        _text_or_none(obj, "body"),
        _text_or_none(obj, "subject"),
        _text_or_none(obj, "thread"),
        _one_of(obj, "chat_state", get_args(ChatState)),
        receipt,
        receipt_id,
        _text_or_none(obj, "extra") or "",
        _text_or_none(obj, "from"),
    )
    return XmppSend(fields, session, key)


def _parse_presence(obj: Obj, from_json: bool) -> XmppPresence:
    session, key = _link(obj, _PRESENCE_FIELDS)
    xml = _whole(obj, _PRESENCE_FIELDS)
    if xml is not None:
        return XmppPresence(xml, session, key)
    priority = optional(obj, "priority", 0)
    if type(priority) is not int or not -128 <= priority <= 127:
        raise FieldError("priority", "must be an integer from -128 to 127")
    fields = PresenceFields(
        _text_or_none(obj, "to"),
        _one_of(obj, "stanza_type", get_args(PresenceType)) or "available",
        _text_or_none(obj, "stanza_id"),
        _one_of(obj, "show", get_args(Show)),
        _text_or_none(obj, "status"),
        priority,
        _text_or_none(obj, "extra") or "",
        _text_or_none(obj, "from"),
    )
    return XmppPresence(fields, session, key)


def _parse_iq(obj: Obj, from_json: bool) -> XmppIq:
    session, key = _link(obj, _IQ_FIELDS)
    return XmppIq(
        _text(obj, "xml"),
        _text_or_none(obj, "to"),
        _one_of(obj, "stanza_type", ("get", "set")) or "get",
        _number(obj, "timeout_s", 30.0, 1, IQ_TIMEOUT_S_MAX),
        _text_or_none(obj, "from"),
        session,
        key,
    )


def _parse_iq_reply(obj: Obj, from_json: bool) -> XmppIqReply:
    session, key = _link(obj, _IQ_REPLY_FIELDS)
    seq = obj.get("seq")
    if type(seq) is not int or not 1 <= seq < 2**63:
        raise FieldError("seq", "is missing" if seq is None else "must be an integer from 1 on")
    xml, condition = _text_or_none(obj, "xml") or "", _text_or_none(obj, "condition") or ""
    error_type, text = _one_of(obj, "error_type", _ERROR_TYPES), _text_or_none(obj, "text")
    if condition:
        if xml:
            raise FieldError("condition", "only one of xml and condition may be given")
        if not _CONDITION.issuperset(condition):
            raise FieldError("condition", "must be one of RFC 6120 section 8.3.3, such as service-unavailable")
    elif error_type is not None or text is not None:
        raise FieldError("text" if error_type is None else "error_type", "may only be given with condition")
    return XmppIqReply(seq, xml, condition, error_type or "cancel", text, session, key)


def _parse_credentials(obj: Obj, from_json: bool) -> XmppCredentials:
    session, key = _link(obj, _CREDENTIALS_FIELDS)
    auth = obj.get("auth")
    if auth is None:
        raise FieldError("auth", "is missing")
    credentials = parse_auth(auth, None)
    if isinstance(credentials, AskBackend):
        raise FieldError("auth.callback", "is what this answers; it must be the credentials themselves")
    return XmppCredentials(credentials, session, key)


def _parse_attach(obj: Obj, from_json: bool) -> XmppAttach:
    session, key = _link(obj, _CLIENT_FIELDS)
    return XmppAttach(_client("client", obj.get("client")), session, key)


def _parse_detach(obj: Obj, from_json: bool) -> XmppDetach:
    session, key = _link(obj, _CLIENT_FIELDS)
    return XmppDetach(_client("client", obj.get("client")), session, key)


def _parse_suspend(obj: Obj, from_json: bool) -> XmppSuspend:
    return XmppSuspend(*_link(obj, COMMON))


def _parse_disconnect(obj: Obj, from_json: bool) -> XmppDisconnect:
    return XmppDisconnect(*_link(obj, COMMON))


def _parse_get(obj: Obj, from_json: bool) -> XmppGet:
    return XmppGet(*_link(obj, COMMON))


_CONNECT_FIELDS = COMMON | {
    "jid", "auth", "resource", "on_connect", "route", "attach", "keep_after_detach_s", "sent", "detached"
}  # fmt: skip
_SEND_FIELDS = COMMON | {
    "xml", "to", "from", "stanza_type", "stanza_id", "body", "subject", "thread", "chat_state", "receipt", "receipt_id",
    "extra",
}  # fmt: skip
_PRESENCE_FIELDS = COMMON | {"xml", "to", "from", "stanza_type", "stanza_id", "show", "status", "priority", "extra"}
_IQ_FIELDS = COMMON | {"to", "from", "stanza_type", "xml", "timeout_s"}
_IQ_REPLY_FIELDS = COMMON | {"seq", "xml", "condition", "error_type", "text"}
_CREDENTIALS_FIELDS = COMMON | {"auth"}
_CLIENT_FIELDS = COMMON | {"client"}

_ON_CONNECT_FIELDS = frozenset({"roster", "presence", "carbons"})
_ROUTE_FIELDS = frozenset({"stanzas", "coalesce"})

XMPP_PARSERS: Mapping[str, Callable[[Obj, bool], LinkAction]] = MappingProxyType(
    {
        "xmpp.connect": _parse_connect,
        "xmpp.send": _parse_send,
        "xmpp.presence": _parse_presence,
        "xmpp.iq": _parse_iq,
        "xmpp.iq_reply": _parse_iq_reply,
        "xmpp.credentials": _parse_credentials,
        "xmpp.attach": _parse_attach,
        "xmpp.detach": _parse_detach,
        "xmpp.suspend": _parse_suspend,
        "xmpp.disconnect": _parse_disconnect,
        "xmpp.get": _parse_get,
    }
)


# -- parts of a connect --------------------------------------------------------------------------------------


def _own_address(obj: Obj) -> Jid:
    value = obj.get("jid")
    if value is None:
        raise FieldError("jid", "is missing")
    try:
        jid = parse_jid(checked_text("jid", value))
    except FieldError:
        raise
    except WireError as error:
        raise FieldError("jid", str(error)) from None
    if jid.resource:
        raise FieldError("jid", "must be bare; what is behind the slash belongs into resource")
    return jid


def _resource(obj: Obj) -> str:
    resource = checked_text("resource", optional(obj, "resource", ""))
    if resource:
        try:
            parse_jid(f"a/{resource}")
        except WireError as error:
            raise FieldError("resource", str(error)) from None
    return resource


def _on_connect(obj: Obj) -> OnConnect:
    value = _map(obj, "on_connect", _ON_CONNECT_FIELDS)
    return _inside(
        "on_connect",
        lambda: OnConnect(
            _bool(value, "roster", False), _text_or_none(value, "presence"), _bool(value, "carbons", True)
        ),
    )


def _routing(obj: Obj) -> Routing:
    value = _map(obj, "route", _ROUTE_FIELDS)
    return _inside("route", lambda: Routing(_words(value, "stanzas", _STANZAS), _words(value, "coalesce", _COALESCED)))


def _clients(obj: Obj) -> tuple[str, ...] | None:
    value = obj.get("attach")
    if value is None:
        return None
    if type(value) is not list:
        raise FieldError("attach", "must be a list of session ids")
    ids = []
    for index, each in enumerate(value):
        checked_name(f"attach[{index}]", each)
        ids.append(_client(f"attach[{index}]", each))
    return tuple(id for id in ids if id is not None)


def _client(field: str, value: object) -> str | None:
    if value is None:
        return None
    checked_name(field, value)
    client = str(value)
    if is_link(client):
        raise FieldError(field, "must be a client's session, not a link")
    return client


# -- one check per kind of field -----------------------------------------------------------------------------


def _link(obj: Obj, known: frozenset[str]) -> tuple[str | None, str | None]:
    session, key = common(obj, known)
    if session is not None and (not is_link(session) or len(session) == len("x:")):
        raise FieldError("session", "must be a link: x: and a name")
    return session, key


def _whole(obj: Obj, known: frozenset[str]) -> str | None:
    """`xml`, where a stanza is given whole: then no field may say anything else."""
    if obj.get("xml") is None:
        return None
    for field in sorted(known - COMMON - {"xml"}):
        if obj.get(field) is not None:
            raise FieldError(field, "may not be given beside xml, which is the whole stanza")
    return _text(obj, "xml")


def _map(obj: Obj, field: str, known: frozenset[str]) -> Obj:
    """The map in `field`, empty where absent."""
    value = obj.get(field)
    if value is None:
        return {}
    if type(value) is not dict:
        raise FieldError(field, "must be a map")
    only_known(value, known, field)
    return value


def _inside(place: str, check: Callable[[], T]) -> T:
    """What `check` returns; its errors name fields of `place`."""
    try:
        return check()
    except FieldError as error:
        raise FieldError(f"{place}.{error.field}", error.problem) from None


def _text(obj: Obj, field: str) -> str:
    if obj.get(field) is None:
        raise FieldError(field, "is missing")
    return checked_text(field, obj[field])


def _text_or_none(obj: Obj, field: str) -> str | None:
    return None if obj.get(field) is None else checked_text(field, obj[field])


def _one_of(obj: Obj, field: str, allowed: Sequence[str]) -> Any:
    """One of `allowed`, which are those of a Literal; None where absent."""
    value = obj.get(field)
    if value is not None and (type(value) is not str or value not in allowed):
        raise FieldError(field, f"must be one of {', '.join(allowed)}")
    return value


def _words(obj: Obj, field: str, allowed: Sequence[str]) -> tuple[str, ...]:
    """Some of `allowed`, each once; all where absent."""
    value = obj.get(field)
    if value is None:
        return tuple(allowed)
    if type(value) is not list:
        raise FieldError(field, "must be a list")
    for index, word in enumerate(value):
        if type(word) is not str or word not in allowed:
            raise FieldError(f"{field}[{index}]", f"must be one of {', '.join(allowed)}")
    return tuple(dict.fromkeys(value))


def _bool(obj: Obj, field: str, default: bool) -> bool:
    value = optional(obj, field, default)
    if type(value) is not bool:
        raise FieldError(field, "must be true or false")
    return value


def _number(obj: Obj, field: str, default: float, least: int, most: int) -> float:
    value = optional(obj, field, default)
    if type(value) not in (int, float) or not least <= value <= most:
        raise FieldError(field, f"must be a number from {least} to {most}")
    return float(value)
