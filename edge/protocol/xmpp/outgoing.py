"""What a backend has sent to an XMPP server: one stanza, from raw XML or from fields, and never anything else.

A link's stream is shared by everything its backend says, so whatever could end it, or be taken for more than one
stanza, is refused before it touches the wire: the text is read alone by the framer that reads streams, and by expat's
rules for namespaces. What passes is sent as it was written. Whether the server likes it is between the two: it answers
with an error stanza.

`sender`, everywhere: whose link it is, `edge.protocol.xmpp.senders`. Raw stanzas say themselves who they are from; what
is made of fields is given a `from` where the link needs one.

Refusals are FieldErrors named as in the action; the action fails, the link stays up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from edge.errors import FieldError, WireError
from edge.protocol.xmpp import escape, names
from edge.protocol.xmpp.element import Element
from edge.protocol.xmpp.framing import Framer, StreamLimits, StreamViolation
from edge.protocol.xmpp.jid import parse_jid
from edge.protocol.xmpp.phrases import ACK_ID, BIND_ID, CARBONS_ID, PING_ID
from edge.protocol.xmpp.senders import Sender, rule_of
from edge.protocol.xmpp.stanza import STANZAS

_STREAMS = {
    namespace: f"<stream:stream xmlns='{namespace}' xmlns:stream='{names.STREAMS}'>".encode()
    for namespace in names.STANZA_NAMESPACES
}
"""What is around each stanza on the wire, as far as it matters to what a stanza means."""
_NEXT = b"<r xmlns='urn:xmpp:sm:3'/>"
_LIMITS = StreamLimits()
_NOT_INSIDE = frozenset({names.STREAMS})
"""Of the stream around the stanza."""
_OURS = frozenset({names.BIND, names.SESSION})
"""The link does this itself (RFC 6120 §7)."""
_OUR_IDS = frozenset({BIND_ID, CARBONS_ID, PING_ID})
"""Answers to these are the stream's own, and nobody else would be told of them."""
_IQ_TYPES = ("get", "set", "result", "error")
_ERROR_TYPES = ("auth", "cancel", "continue", "modify", "wait")

T = TypeVar("T")

MessageType = Literal["normal", "chat", "groupchat", "headline"]
ChatState = Literal["active", "composing", "paused", "inactive", "gone"]
Receipt = Literal["request", "received"]
Show = Literal["away", "chat", "dnd", "xa"]
PresenceType = Literal["available", "unavailable", "subscribe", "subscribed", "unsubscribe", "unsubscribed"]


@dataclass(frozen=True, slots=True)
class MessageFields:
    """`receipt`: ask for one, or be the one for `receipt_id` (XEP-0184). `xml`: more elements, to stand inside.
    `sender`: the `from`; None: the link's own address."""

    to: str
    type: MessageType = "chat"
    id: str | None = None
    body: str | None = None
    subject: str | None = None
    thread: str | None = None
    chat_state: ChatState | None = None
    receipt: Receipt | None = None
    receipt_id: str | None = None
    xml: str = ""
    sender: str | None = None


@dataclass(frozen=True, slots=True)
class PresenceFields:
    """Without `to` the server tells everybody who may know; a component has to tell each of them. `xml`: more elements,
    to stand inside. `sender`: the `from`; None: the link's own address."""

    to: str | None = None
    type: PresenceType = "available"
    id: str | None = None
    show: Show | None = None
    status: str | None = None
    priority: int = 0
    xml: str = ""
    sender: str | None = None


def raw_stanza(
    xml: str, sender: Sender, *, limits: StreamLimits = _LIMITS, allowed: Iterable[str] = STANZAS, field: str = "xml"
) -> Element:
    """`xml` as the one stanza it is; send its `raw`. Raises FieldError.

    A stanza stands in the namespace of the link's stream, best by not naming any: jabber:client is another one to a
    component, and is not taken for its own. `allowed`: names of stanzas. White space around the stanza is dropped; an
    XML declaration is refused, as it is inside a stream.
    """
    rule = rule_of(sender)
    element = _alone(xml, rule.namespace, limits, field)
    wanted = tuple(allowed)
    if element.namespace != rule.namespace or element.name not in wanted:
        kinds = f"<{'>, <'.join(wanted)}>"
        raise FieldError(field, f"must be {kinds} in the namespace {rule.namespace}: leave the link's `xmlns` out")
    rule.check(element.attributes.get("from"), field)
    if rule.needs_to and "to" not in element.attributes:
        raise FieldError(field, "must say whom it is to: a component has no account that the server could mean")
    _check_inside(element, field)
    if element.name == "iq":
        _check_iq(element, field)
    return element


def message_stanza(fields: MessageFields, sender: Sender, *, limits: StreamLimits = _LIMITS) -> Element:
    """Raises FieldError."""
    _one_of("type", fields.type, MessageType)
    _one_of("chat_state", fields.chat_state, ChatState)
    _one_of("receipt", fields.receipt, Receipt)
    if (fields.receipt == "received") != (fields.receipt_id is not None):
        raise FieldError("receipt_id", "must say which message is received, and only with the receipt `received`")
    inside = [_element("subject", fields.subject), _element("body", fields.body), _element("thread", fields.thread)]
    if fields.chat_state is not None:
        inside.append(f"<{fields.chat_state} xmlns='{names.CHAT_STATES}'/>")
    if fields.receipt is not None:
        named = "" if fields.receipt_id is None else _attribute("id", fields.receipt_id, "receipt_id")
        inside.append(f"<{fields.receipt} xmlns='{names.RECEIPTS}'{named}/>")
    head = _head(fields.to, fields.type, fields.id, sender, fields.sender)
    return _build("message", head, inside, fields.xml, sender, limits)


def presence_stanza(fields: PresenceFields, sender: Sender, *, limits: StreamLimits = _LIMITS) -> Element:
    """Raises FieldError."""
    _one_of("type", fields.type, PresenceType)
    _one_of("show", fields.show, Show)
    if not -128 <= fields.priority <= 127:
        raise FieldError("priority", "must be an integer from -128 to 127")
    inside = [_element("show", fields.show), _element("status", fields.status)]
    if fields.priority:
        inside.append(f"<priority>{fields.priority}</priority>")
    kind = None if fields.type == "available" else fields.type
    head = _head(fields.to, kind, fields.id, sender, fields.sender)
    return _build("presence", head, inside, fields.xml, sender, limits)


def iq_stanza(
    kind: Literal["get", "set"], id: str, to: str | None, xml: str, sender: Sender, *, from_: str | None = None,
    limits: StreamLimits = _LIMITS,
) -> Element:  # fmt: skip
    """A request. `xml`: the one element inside. `from_`: who asks; None: the link's own address. Raises FieldError."""
    return _build("iq", _head(to, kind, id, sender, from_), (), xml, sender, limits)


def iq_result(
    id: str, to: str | None, xml: str, sender: Sender, *, from_: str | None = None, limits: StreamLimits = _LIMITS
) -> Element:
    """The answer to a request from `to`. `xml`: nothing, or the one element inside. `from_`: whom the request was to;
    None: the link's own address. Raises FieldError."""
    return _build("iq", _head(to, "result", id, sender, from_), (), xml, sender, limits)


def iq_error(
    id: str, to: str | None, condition: str, sender: Sender, *, from_: str | None = None, kind: str = "cancel",
    text: str | None = None,
) -> Element:  # fmt: skip
    """The refusal of a request from `to`: `condition` and `kind` are RFC 6120 §8.3.2's. `from_`: as in `iq_result`.
    Raises FieldError."""
    if not condition.isascii() or not condition.replace("-", "").isalpha():
        raise FieldError("condition", "must be a stanza error condition such as service-unavailable")
    if kind not in _ERROR_TYPES:
        raise FieldError("error_type", f"must be one of {', '.join(_ERROR_TYPES)}")
    said = _element("text", text, f" xmlns='{names.STANZA_ERRORS}'")
    error = f"<error type='{kind}'><{condition} xmlns='{names.STANZA_ERRORS}'/>{said}</error>"
    return _build("iq", _head(to, "error", id, sender, from_), (error,), "", sender, _LIMITS)


def delayed(stanza: bytes, stamp: str, sender: str) -> bytes:
    """A stanza of ours that is sent a second time, with the time of the first (XEP-0203). `stamp`: XEP-0082."""
    note = f"<delay xmlns='{names.DELAY}' from='{escape.attribute(sender)}' stamp='{stamp}'/>".encode()
    if not stanza.endswith(b"/>"):
        at = stanza.rindex(b"</")
        return stanza[:at] + note + stanza[at:]
    name = stanza[1:].split(None, 1)[0].split(b"/", 1)[0]
    return b"%b>%b</%b>" % (stanza[:-2], note, name)


# -- checks


def _alone(xml: str, namespace: str, limits: StreamLimits, field: str) -> Element:
    try:
        data = xml.encode()
    except UnicodeEncodeError:
        raise FieldError(field, "has half a surrogate pair, which is no character") from None
    framer = Framer(limits)
    framer.feed(_STREAMS[namespace])
    try:
        heard = framer.feed(data + _NEXT)
    except StreamViolation as violation:
        raise FieldError(field, f"cannot be sent over XMPP: {violation.problem} ({violation.condition})") from None
    # What comes behind it on the wire must mean there what it means anywhere.
    if len(heard) != 2 or not isinstance(heard[0], Element) or getattr(heard[1], "raw", b"") != _NEXT:
        raise FieldError(field, "must be exactly one whole stanza")
    return heard[0]


def _check_inside(element: Element, field: str) -> None:
    """Nothing in a stanza looks like a part of the stream around it, to whoever reads less carefully."""
    waiting = [element]
    while waiting:
        one = waiting.pop()
        if one.namespace in _NOT_INSIDE or any(name.startswith(_STREAM_ATTRIBUTE) for name in one.attributes):
            raise FieldError(field, f"must not have <{one.name}> of {one.namespace or 'no namespace'} inside")
        waiting += one.children()


_STREAM_ATTRIBUTE = f"{{{names.STREAMS}}}"


def _check_iq(element: Element, field: str) -> None:
    """RFC 6120 §8.2.3. A server that cannot answer an iq might as well not have got it."""
    kind = element.attributes.get("type")
    if kind not in _IQ_TYPES:
        raise FieldError(field, f"must be an iq whose type is one of {', '.join(_IQ_TYPES)}")
    id = element.attributes.get("id")
    if not id:
        raise FieldError(field, "must be an iq with an id")
    if kind in ("get", "set") and (id in _OUR_IDS or id.startswith(ACK_ID)):
        raise FieldError(field, f"must be an iq with another id than {id!r}, which is the link's own")
    inside = element.children()
    if (len(inside) != 1 and kind in ("get", "set")) or (len(inside) > 1 and kind == "result"):
        raise FieldError(field, f"must have exactly one element inside an iq of type {kind}")
    if any(child.namespace in _OURS for child in inside):
        raise FieldError(field, "must leave resource binding to the link")


def _one_of(field: str, value: str | None, allowed: object) -> None:
    if value is not None and value not in get_args(allowed):
        raise FieldError(field, f"must be one of {', '.join(get_args(allowed))}")


# -- writing


def _build(name: str, head: str, inside: Iterable[str], xml: str, sender: Sender, limits: StreamLimits) -> Element:
    content = "".join(inside) + xml
    whole = f"<{name}{head}>{content}</{name}>" if content else f"<{name}{head}/>"
    return raw_stanza(whole, sender, limits=limits, allowed=(name,))


def _head(to: str | None, kind: str | None, id: str | None, sender: Sender, said: str | None) -> str:
    rule = rule_of(sender)
    from_ = rule.choose(said)
    if to is not None:
        _checked("to", to, parse_jid)
    elif rule.needs_to:
        raise FieldError("to", "must be there: a component has no account that the server could mean")
    attributes = (("from", from_), ("to", to), ("type", kind), ("id", id))
    return "".join(_attribute(name, value, name) for name, value in attributes if value is not None)


def _attribute(name: str, value: str, field: str) -> str:
    return f" {name}='{_checked(field, value, escape.attribute)}'"


def _element(name: str, text: str | None, head: str = "") -> str:
    return "" if text is None else f"<{name}{head}>{_checked(name, text, escape.text)}</{name}>"


def _checked(field: str, value: str, check: Callable[[str], T]) -> T:
    try:
        return check(value)
    except WireError as error:
        raise FieldError(field, f"cannot be sent: {error}") from None
