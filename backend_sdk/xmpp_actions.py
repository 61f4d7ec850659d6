"""Orders for XMPP links, as `backend_sdk.actions` makes the others: in the form that goes on the wire, checked while
they are made. `session` names the link (``x:…``); None: the link whose event is answered.

Whether XML is a stanza, and an address an address, is found out where it is sent: an `XmppSendFailed` says so. No
error shows a password or token.

Source: edge/protocol/callbacks/SPEC.md, "Actions on links".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, Required, TypedDict

from backend_sdk.arguments import Common, checked_name, checked_text, flag, is_int, number, one_of, set_common, words_of
from backend_sdk.errors import ActionError
from backend_sdk.xmpp_auth import ScramKeys, auth_of

LINK_PREFIX = "x:"
"""What the ids of links begin with, and no other session's does."""

MessageType = Literal["chat", "normal", "groupchat", "headline"]
ChatState = Literal["active", "composing", "paused", "inactive", "gone"]
Receipt = Literal["request", "received"]
PresenceType = Literal["available", "unavailable", "subscribe", "subscribed", "unsubscribe", "unsubscribed"]
Show = Literal["away", "chat", "dnd", "xa"]
IqType = Literal["get", "set"]
ErrorType = Literal["auth", "cancel", "continue", "modify", "wait"]
StanzaName = Literal["message", "presence", "iq"]
Coalesced = Literal["presence", "chatstate"]

ALL_STANZAS: tuple[StanzaName, ...] = ("message", "presence", "iq")
ALL_COALESCED: tuple[Coalesced, ...] = ("presence", "chatstate")

_BARE_JID = re.compile("""(?:[^"&'/:<>@\\s\\x00-\\x1f\\x7f]+@)?[^"&'/<>@\\s\\x00-\\x1f\\x7f]+""")  # RFC 7622 §3
_PART_BYTES = 1023
_CONDITION = re.compile("[a-z-]+")


From = TypedDict("From", {"from": str}, total=False)
"""Apart, for in Python it is a keyword: who sends, at a component's domain."""


class Connect(Common, total=False):
    type: Required[Literal["xmpp.connect"]]
    jid: Required[str]
    auth: dict[str, Any]
    resource: str
    on_connect: OnConnect
    route: Route
    attach: list[str]
    keep_after_detach_s: float
    sent: bool
    detached: bool


class OnConnect(TypedDict, total=False):
    roster: bool
    presence: str
    carbons: bool


class Route(TypedDict, total=False):
    stanzas: list[str]
    coalesce: list[str]


class SendStanza(Common, From, total=False):
    type: Required[Literal["xmpp.send"]]
    xml: str
    to: str
    stanza_type: str
    stanza_id: str
    body: str
    subject: str
    thread: str
    chat_state: str
    receipt: str
    receipt_id: str
    extra: str


class SendPresence(Common, From, total=False):
    type: Required[Literal["xmpp.presence"]]
    xml: str
    to: str
    stanza_type: str
    stanza_id: str
    show: str
    status: str
    priority: int
    extra: str


class AskIq(Common, From, total=False):
    type: Required[Literal["xmpp.iq"]]
    xml: Required[str]
    to: str
    stanza_type: str
    timeout_s: float


class ReplyIq(Common, total=False):
    type: Required[Literal["xmpp.iq_reply"]]
    seq: Required[int]
    xml: str
    condition: str
    error_type: str
    text: str


class GiveCredentials(Common, total=False):
    type: Required[Literal["xmpp.credentials"]]
    auth: Required[dict[str, Any]]


class Attach(Common, total=False):
    type: Required[Literal["xmpp.attach", "xmpp.detach"]]
    client: str


class Plain(Common, total=False):
    type: Required[Literal["xmpp.suspend", "xmpp.disconnect", "xmpp.get"]]


LinkAction = Connect | SendStanza | SendPresence | AskIq | ReplyIq | GiveCredentials | Attach | Plain


def is_link(session: str) -> bool:
    """Whether that is a link's id, and no client's."""
    return session.startswith(LINK_PREFIX)


def xmpp_connect(
    jid: str,
    *,
    password: str | None = None,
    scram: ScramKeys | None = None,
    token: str | None = None,
    external: bool = False,
    callback: bool = False,
    username: str | None = None,
    resource: str = "",
    roster: bool = False,
    presence: str | None = None,
    carbons: bool = True,
    stanzas: Sequence[StanzaName] = ALL_STANZAS,
    coalesce: Sequence[Coalesced] = ALL_COALESCED,
    attach: Sequence[str] | None = None,
    keep_after_detach_s: float = 300,
    sent: bool = False,
    detached: bool = False,
    session: str | None = None,
    id: str | None = None,
) -> Connect:
    """Begin a link, unless it is there already; then an `XmppState` says how it is.

    `jid` is bare, and a component's its domain. One of `password`, `scram`, `token`, `external` (the client
    certificate in the edge's settings) and `callback` (ask with `XmppCredentials` whenever they are needed) says how to
    log in; none of them: a component, whose secret is in the settings. After each login that began a new session at the
    server the edge fetches the `roster`, sends `presence` (XML) and asks for `carbons`. `stanzas` become events;
    those of `coalesce` may be replaced by newer ones of the same sender while they wait. `attach`: client sessions that
    use the link; None: the one whose event is answered. `sent`, `detached`: report acknowledgements, interruptions.
    """
    if not isinstance(jid, str) or not _BARE_JID.fullmatch(jid) or any(_too_long(part) for part in jid.split("@")):
        raise ActionError("jid", "must be a bare address: local@domain, or a component's domain")
    action: Connect = {"type": "xmpp.connect", "jid": jid}
    if (password, scram, token, username) != (None,) * 4 or external is not False or callback is not False:
        action["auth"] = auth_of(password, scram, token, external, callback, username)
        if "@" not in jid and username is None and not (external or callback):
            raise ActionError("username", "is missing, and the jid has no local part to take its place")
    if resource != "":
        if _too_long(checked_text("resource", resource)) or re.search("[\x00-\x1f\x7f]", resource):
            raise ActionError("resource", f"must be at most {_PART_BYTES} bytes, without control characters")
        action["resource"] = resource
    on_connect: OnConnect = {}
    if flag("roster", roster):
        on_connect["roster"] = True
    if presence is not None:
        on_connect["presence"] = checked_text("presence", presence)
    if not flag("carbons", carbons):
        on_connect["carbons"] = False
    if on_connect:
        action["on_connect"] = on_connect
    route: Route = {}
    if tuple(stanzas) != ALL_STANZAS:
        route["stanzas"] = words_of("stanzas", stanzas, ALL_STANZAS)
    if tuple(coalesce) != ALL_COALESCED:
        route["coalesce"] = words_of("coalesce", coalesce, ALL_COALESCED)
    if route:
        action["route"] = route
    if attach is not None:
        if isinstance(attach, str):
            raise ActionError("attach", "must be a list of session ids, not a string")
        action["attach"] = [_client(f"attach[{index}]", each) for index, each in enumerate(attach)]
    if keep_after_detach_s != 300:
        action["keep_after_detach_s"] = number("keep_after_detach_s", keep_after_detach_s, 0, 86_400)
    if flag("sent", sent):
        action["sent"] = True
    if flag("detached", detached):
        action["detached"] = True
    _common(action, session, id)
    return action


def xmpp_send(
    to: str,
    body: str | None = None,
    *,
    type: MessageType = "chat",
    stanza_id: str | None = None,
    subject: str | None = None,
    thread: str | None = None,
    chat_state: ChatState | None = None,
    receipt: Receipt | None = None,
    receipt_id: str | None = None,
    extra: str = "",
    sender: str | None = None,
    session: str | None = None,
    id: str | None = None,
) -> SendStanza:
    """Send a message. `receipt`: ask for one (``request``), or be the one for message `receipt_id` (``received``).
    `extra`: XML of more elements, to stand inside. `sender`: of a component's link, who at its domain says this; None:
    the link's own address."""
    action: SendStanza = {"type": "xmpp.send", "to": checked_text("to", to)}
    _set_sender(action, sender)
    if type != "chat":
        action["stanza_type"] = one_of("type", type, MessageType)
    if (receipt == "received") != (receipt_id is not None):
        raise ActionError("receipt_id", "must say which message is received, and only with the receipt `received`")
    texts = {"stanza_id": stanza_id, "body": body, "subject": subject, "thread": thread, "receipt_id": receipt_id}
    _set_texts(action, texts)
    if chat_state is not None:
        action["chat_state"] = one_of("chat_state", chat_state, ChatState)
    if receipt is not None:
        action["receipt"] = one_of("receipt", receipt, Receipt)
    if extra != "":
        action["extra"] = checked_text("extra", extra)
    _common(action, session, id)
    return action


def xmpp_send_xml(xml: str, *, session: str | None = None, id: str | None = None) -> SendStanza:
    """Send one whole stanza of any kind."""
    action: SendStanza = {"type": "xmpp.send", "xml": checked_text("xml", xml)}
    _common(action, session, id)
    return action


def xmpp_presence(
    to: str | None = None,
    *,
    type: PresenceType = "available",
    show: Show | None = None,
    status: str | None = None,
    priority: int = 0,
    stanza_id: str | None = None,
    extra: str = "",
    sender: str | None = None,
    xml: str | None = None,
    session: str | None = None,
    id: str | None = None,
) -> SendPresence:
    """Send presence, from fields, or whole as `xml`. What has no `to` is remembered, and sent again by each new
    session at the server. A component's link has to say `to` whom; `sender` is as in `xmpp_send`."""
    action: SendPresence = {"type": "xmpp.presence"}
    if xml is not None:
        given = (to, type, show, status, priority, stanza_id, extra, sender)
        if given != (None, "available", None, None, 0, None, "", None):
            raise ActionError("xml", "is the whole presence: nothing else may be given beside it")
        action["xml"] = checked_text("xml", xml)
    _set_sender(action, sender)
    _set_texts(action, {"to": to, "stanza_id": stanza_id, "status": status})
    if type != "available":
        action["stanza_type"] = one_of("type", type, PresenceType)
    if show is not None:
        action["show"] = one_of("show", show, Show)
    if not is_int(priority) or not -128 <= priority <= 127:
        raise ActionError("priority", f"must be a whole number from -128 to 127, not {priority!r}")
    if priority:
        action["priority"] = priority
    if extra != "":
        action["extra"] = checked_text("extra", extra)
    _common(action, session, id)
    return action


def xmpp_iq(
    to: str | None,
    xml: str,
    *,
    type: IqType = "get",
    timeout_s: float = 30,
    sender: str | None = None,
    session: str | None = None,
    id: str | None = None,
) -> AskIq:
    """Ask something: one `XmppIqResult` follows in any case. `xml`: the one element inside. `to` None: the account
    itself, at its server (a component has none). `sender`: as in `xmpp_send`."""
    action: AskIq = {"type": "xmpp.iq", "xml": checked_text("xml", xml)}
    _set_sender(action, sender)
    if to is not None:
        action["to"] = checked_text("to", to)
    if type != "get":
        action["stanza_type"] = one_of("type", type, IqType)
    if timeout_s != 30:
        action["timeout_s"] = number("timeout_s", timeout_s, 1, 600)
    _common(action, session, id)
    return action


def xmpp_iq_reply(
    seq: int,
    xml: str = "",
    *,
    condition: str | None = None,
    error_type: ErrorType = "cancel",
    text: str | None = None,
    session: str | None = None,
    id: str | None = None,
) -> ReplyIq:
    """Answer the `XmppIq` with this `seq`: with `xml` (nothing, or one element), or with an error `condition`
    (RFC 6120 §8.3.3)."""
    if not is_int(seq) or not 1 <= seq < 2**63:
        raise ActionError("seq", f"must be a whole number from 1, not {seq!r}")
    action: ReplyIq = {"type": "xmpp.iq_reply", "seq": seq}
    if xml != "":
        action["xml"] = checked_text("xml", xml)
    if condition is not None:
        if xml != "":
            raise ActionError("condition", "only one of xml and condition may be given")
        if not isinstance(condition, str) or not _CONDITION.fullmatch(condition):
            raise ActionError("condition", f"must be one of RFC 6120 §8.3.3, such as item-not-found, not {condition!r}")
        action["condition"] = condition
    elif text is not None or error_type != "cancel":
        raise ActionError("error_type" if text is None else "text", "goes with a condition")
    if error_type != "cancel":
        action["error_type"] = one_of("error_type", error_type, ErrorType)
    if text is not None:
        action["text"] = checked_text("text", text)
    _common(action, session, id)
    return action


def xmpp_credentials(
    *,
    password: str | None = None,
    scram: ScramKeys | None = None,
    token: str | None = None,
    external: bool = False,
    username: str | None = None,
    session: str | None = None,
    id: str | None = None,
) -> GiveCredentials:
    """The answer to an `XmppCredentials` event: one of these, used once and not stored by the edge."""
    auth = auth_of(password, scram, token, external, False, username)
    action: GiveCredentials = {"type": "xmpp.credentials", "auth": auth}
    _common(action, session, id)
    return action


def xmpp_attach(client: str | None = None, *, session: str | None = None, id: str | None = None) -> Attach:
    """This client session uses the link; None: the one whose event is answered."""
    return _attach("xmpp.attach", client, session, id)


def xmpp_detach(client: str | None = None, *, session: str | None = None, id: str | None = None) -> Attach:
    """This client session does not use the link any more; None: the one whose event is answered."""
    return _attach("xmpp.detach", client, session, id)


def xmpp_suspend(*, session: str | None = None, id: str | None = None) -> Plain:
    """Close the connection and leave the session at the server, until something is to be sent or a client attaches."""
    return _plain("xmpp.suspend", session, id)


def xmpp_disconnect(*, session: str | None = None, id: str | None = None) -> Plain:
    """Log out: the link ends with an `XmppDisconnected`."""
    return _plain("xmpp.disconnect", session, id)


def xmpp_get(*, session: str | None = None, id: str | None = None) -> Plain:
    """Ask how the link is: an `XmppState`."""
    return _plain("xmpp.get", session, id)


# -- parts


def _attach(
    type: Literal["xmpp.attach", "xmpp.detach"], client: str | None, session: str | None, id: str | None
) -> Attach:
    action: Attach = {"type": type}
    if client is not None:
        action["client"] = _client("client", client)
    _common(action, session, id)
    return action


def _plain(type: Literal["xmpp.suspend", "xmpp.disconnect", "xmpp.get"], session: str | None, id: str | None) -> Plain:
    action: Plain = {"type": type}
    _common(action, session, id)
    return action


def _common(action: Common, session: str | None, id: str | None) -> None:
    if session is not None:
        check_link("session", session)
    set_common(action, session, id)


def check_link(field: str, link: str) -> None:
    """Raises `ActionError` when that is no link's id."""
    if not is_link(checked_name(field, link)) or link == LINK_PREFIX:
        raise ActionError(field, f"must be a link's id: x: and a name, not {link!r}")


def _client(field: str, session: str) -> str:
    if is_link(checked_name(field, session)):
        raise ActionError(field, f"must be a client's session, not the link {session!r}")
    return session


def _set_texts(action: SendStanza | SendPresence, texts: dict[str, str | None]) -> None:
    for field, value in texts.items():
        if value is not None:
            action[field] = checked_text(field, value)  # type: ignore[literal-required]


def _set_sender(action: From, sender: str | None) -> None:
    if sender is not None:
        action["from"] = checked_text("sender", sender)


def _too_long(part: str) -> bool:
    return len(part.encode(errors="replace")) > _PART_BYTES
