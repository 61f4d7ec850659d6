"""What stanzas say, as fixed fields: messages (carbons unwrapped), presence, iq and rosters.

The fields are a convenience beside the stanza's bytes, which stay the truth: nothing here is needed to pass a stanza
on. Servers and contacts write what they like, so nothing raises: what makes no sense is left out. Whose word is taken
for what is decided here, as that is where clients get forged: carbons and roster pushes only from the account itself
(XEP-0280 §11, RFC 6121 §2.1.6), archive ids only from the account's own archive (XEP-0359 §6). JIDs are compared as
they come: the account's own server has normalised both sides.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, Literal

from edge.facts import fact
from edge.protocol.xmpp import names
from edge.protocol.xmpp.element import Element

STANZAS = ("message", "presence", "iq")
_MESSAGE_TYPES = ("normal", "chat", "groupchat", "headline", "error")
_SHOWS = ("away", "chat", "dnd", "xa")
_CHAT_STATES = ("active", "composing", "paused", "inactive", "gone")
_SUBSCRIPTIONS = ("none", "to", "from", "both", "remove")
_PASSING = frozenset({names.HINTS})
"""Beside a chat state these say nothing to its reader."""

Child = tuple[str, str]
"""Namespace and name of an element."""


@fact
class Delay:
    """When a stanza was first sent, says `sender` (XEP-0203)."""

    stamp: str
    sender: str | None


@fact
class StanzaError:
    """RFC 6120 §8.3. `condition` is the defined one; empty when it is missing."""

    type: str
    condition: str
    text: str | None


@fact
class Message:
    """RFC 6121 §5. Of a carbon copy, the fields are those of the message inside.

    `stanza_id`: its id in the account's own archive. `receipt`: one is asked for (``request``), or this is the one for
    message `receipt_id` (``received``; XEP-0184). `children`: of other namespaces, except those read into other fields.
    """

    sender: str | None
    to: str | None
    type: str
    id: str | None
    body: str | None
    subject: str | None
    thread: str | None
    delay: Delay | None
    stanza_id: str | None
    carbon: Literal["sent", "received"] | None
    chat_state: str | None
    receipt: Literal["request", "received"] | None
    receipt_id: str | None
    error: StanzaError | None
    children: Sequence[Child]


@fact
class Presence:
    """RFC 6121 §4. `type` is ``available`` where the stanza has none."""

    sender: str | None
    to: str | None
    type: str
    id: str | None
    show: str | None
    status: str | None
    priority: int
    delay: Delay | None
    error: StanzaError | None
    children: Sequence[Child]


@fact
class Iq:
    """RFC 6120 §8.2.3. `query`: what is inside besides an error."""

    sender: str | None
    to: str | None
    type: str
    id: str | None
    query: Child | None
    error: StanzaError | None


Stanza = Message | Presence | Iq


@fact
class RosterItem:
    """`ask`: a subscription was requested. `subscription` ``remove``, in pushes: the item is gone."""

    jid: str
    subscription: str
    name: str | None
    ask: bool
    groups: Sequence[str]


@fact
class Roster:
    """`full`: all items; else a push with those that changed. `version`: None when the server keeps none."""

    version: str | None
    full: bool
    items: Sequence[RosterItem]


def is_stanza(element: Element) -> bool:
    return element.name in STANZAS and element.namespace in names.STANZA_NAMESPACES


def read_stanza(element: Element, account: str) -> Stanza | None:
    """`account`: bare JID of the link's own account, as the server gave it. None: no stanza."""
    if not is_stanza(element):
        return None
    if element.name == "message":
        return read_message(element, account)
    return read_presence(element, account) if element.name == "presence" else read_iq(element)


def read_message(element: Element, account: str) -> Message:
    copied = carbon_of(element, account)
    if copied is None:
        return _message(element, account)
    direction, inner, delay = copied
    message = _message(inner, account)
    return replace(message, carbon=direction, delay=message.delay or delay)


def carbon_of(element: Element, account: str) -> tuple[Literal["sent", "received"], Element, Delay | None] | None:
    """The message inside a carbon copy, and when it was sent; None for any other message, and for forged copies."""
    if element.attributes.get("from") != account:
        return None
    for child in element.children():
        if child.namespace == names.CARBONS and child.name in ("sent", "received"):
            direction: Literal["sent", "received"] = "sent" if child.name == "sent" else "received"
            forwarded = child.child("forwarded", names.FORWARD)
            opened = None if forwarded is None else unwrap(forwarded, account)
            return None if opened is None else (direction, *opened)
    return None


def unwrap(forwarded: Element, account: str) -> tuple[Element, Delay | None] | None:
    """The message in a ``<forwarded/>``, and when it was sent (XEP-0297)."""
    inner = forwarded.child("message", names.CLIENT)
    return None if inner is None else (inner, _delay(forwarded, account))


def _message(element: Element, account: str) -> Message:
    attributes = element.attributes
    archived = _stanza_id(element, account)
    receipt = _receipt(element)
    state = next((each.name for each in element.children() if each.namespace == names.CHAT_STATES), None)
    kind = attributes.get("type")
    return Message(
        attributes.get("from"),
        attributes.get("to"),
        kind if kind in _MESSAGE_TYPES else "normal",
        attributes.get("id"),
        _own_text(element, "body"),
        _own_text(element, "subject"),
        _own_text(element, "thread"),
        _delay(element, account),
        archived,
        None,
        state if state in _CHAT_STATES else None,
        None if receipt is None else receipt[0],
        None if receipt is None else receipt[1],
        _error(element),
        _others(element, account),
    )


def read_presence(element: Element, account: str) -> Presence:
    attributes = element.attributes
    show = _own_text(element, "show")
    return Presence(
        attributes.get("from"),
        attributes.get("to"),
        attributes.get("type") or "available",
        attributes.get("id"),
        show if show in _SHOWS else None,
        _own_text(element, "status"),
        _priority(_own_text(element, "priority")),
        _delay(element, account),
        _error(element),
        _others(element, account),
    )


def read_iq(element: Element) -> Iq:
    attributes = element.attributes
    query = next(((each.namespace, each.name) for each in element.children() if each.name != "error"), None)
    return Iq(
        attributes.get("from"),
        attributes.get("to"),
        attributes.get("type", ""),
        attributes.get("id"),
        query,
        _error(element),
    )


def read_roster(element: Element, account: str) -> Roster | None:
    """The roster in an iq that answers a request for it, or that pushes a change of it; None for anything else.

    Whether an answer was asked for is known to `edge.protocol.xmpp.iq_table` alone.
    """
    if element.name != "iq" or element.attributes.get("from", account) != account:
        return None
    kind = element.attributes.get("type")
    query = element.child("query", names.ROSTER)
    if query is None or kind not in ("set", "result"):
        return None
    items = tuple(_roster_item(item) for item in query.children() if item.name == "item" and item.attributes.get("jid"))
    if kind == "set" and len(items) != 1:
        return None  # RFC 6121 §2.1.6: a push has one item
    return Roster(query.attributes.get("ver"), kind == "result", items)


def replaces(stanza: Stanza) -> Hashable | None:
    """What a stanza is the news of: it makes older ones with the same key worthless, for who waits for both.

    None: it has to be told in any case. Presence in rooms does (a kick, a change of nick), and so do chat states that
    come with anything else.
    """
    if isinstance(stanza, Presence):
        passing = stanza.type in ("available", "unavailable") and all(
            not namespace.startswith(names.ROOMS) for namespace, _ in stanza.children
        )
        return ("presence", stanza.sender) if passing else None
    if isinstance(stanza, Message) and stanza.chat_state is not None and stanza.type in ("chat", "normal", "groupchat"):
        said = (stanza.body, stanza.subject, stanza.receipt, stanza.carbon, stanza.stanza_id, stanza.error)
        if said == (None,) * len(said) and all(
            namespace == names.CHAT_STATES or namespace in _PASSING for namespace, _ in stanza.children
        ):
            return ("chatstate", stanza.sender, stanza.thread)
    return None


# -- parts


def _own_text(element: Element, name: str) -> str | None:
    """Text of a child of the stanza's own namespace: the one without a language of its own, else the first."""
    found = [each for each in element.children() if each.name == name and each.namespace == element.namespace]
    if not found:
        return None
    return next((each for each in found if "xml:lang" not in each.attributes), found[0]).text()


def _priority(text: str | None) -> int:
    """RFC 6121 §4.7.2.3: -128 to 127."""
    if text is None or len(text) > 8 or not text.isascii():
        return 0
    try:
        return max(-128, min(127, int(text)))
    except ValueError:
        return 0


def _delay(element: Element, account: str) -> Delay | None:
    """Anybody may claim a delay, and several may: our server's word counts first, else the first one's does."""
    found = [
        Delay(stamp, each.attributes.get("from"))
        for each in element.children()
        if each.name == "delay" and each.namespace == names.DELAY and (stamp := each.attributes.get("stamp"))
    ]
    ours = (account, account.rpartition("@")[2])
    return next((delay for delay in found if delay.sender in ours), found[0] if found else None)


def _stanza_id(element: Element, account: str) -> str | None:
    for each in element.children():
        if each.name == "stanza-id" and each.namespace == names.STANZA_ID and each.attributes.get("by") == account:
            return each.attributes.get("id")
    return None


def _receipt(element: Element) -> tuple[Literal["request", "received"], str | None] | None:
    for each in element.children():
        if each.namespace == names.RECEIPTS:
            if each.name == "request":
                return "request", None
            if each.name == "received":
                return "received", each.attributes.get("id")
    return None


def _error(element: Element) -> StanzaError | None:
    if element.attributes.get("type") != "error":
        return None
    error = element.child("error")
    if error is None:
        return StanzaError("", "", None)
    text = error.child("text", names.STANZA_ERRORS)
    defined = (each.name for each in error.children() if each.namespace == names.STANZA_ERRORS and each.name != "text")
    return StanzaError(error.attributes.get("type", ""), next(defined, ""), None if text is None else text.text())


def _others(element: Element, account: str) -> tuple[Child, ...]:
    return tuple(
        (each.namespace, each.name)
        for each in element.children()
        if each.namespace != element.namespace
        and each.namespace != names.DELAY
        and not (each.namespace == names.STANZA_ID and each.attributes.get("by") == account)
    )


def _roster_item(item: Element) -> RosterItem:
    attributes = item.attributes
    subscription = attributes.get("subscription", "none")
    return RosterItem(
        attributes["jid"],
        subscription if subscription in _SUBSCRIPTIONS else "none",
        attributes.get("name"),
        attributes.get("ask") == "subscribe",
        tuple(each.text() for each in item.children() if each.name == "group"),
    )


# -- as backends see it


def stanza_form(stanza: Stanza) -> dict[str, Any]:
    """The fields by the names they have in events. Every field is there; null: the stanza does not have it."""
    head = {"from": stanza.sender, "to": stanza.to, "type": stanza.type, "id": stanza.id}
    error = None if stanza.error is None else _error_form(stanza.error)
    if isinstance(stanza, Iq):
        query = None if stanza.query is None else list(stanza.query)
        return {"name": "iq", **head, "query": query, "error": error}
    rest = {"delay": _delay_form(stanza.delay), "error": error, "children": [list(each) for each in stanza.children]}
    if isinstance(stanza, Presence):
        said = {"show": stanza.show, "status": stanza.status, "priority": stanza.priority}
        return {"name": "presence", **head, **said, **rest}
    return {
        "name": "message",
        **head,
        "body": stanza.body,
        "subject": stanza.subject,
        "thread": stanza.thread,
        "stanza_id": stanza.stanza_id,
        "carbon": stanza.carbon,
        "chat_state": stanza.chat_state,
        "receipt": stanza.receipt,
        "receipt_id": stanza.receipt_id,
        **rest,
    }


def roster_form(roster: Roster) -> dict[str, Any]:
    items = [
        {"jid": item.jid, "sub": item.subscription, "name": item.name, "ask": item.ask, "groups": list(item.groups)}
        for item in roster.items
    ]
    return {"ver": roster.version, "full": roster.full, "items": items}


def _delay_form(delay: Delay | None) -> dict[str, Any] | None:
    return None if delay is None else {"stamp": delay.stamp, "from": delay.sender}


def _error_form(error: StanzaError) -> dict[str, Any]:
    return {"type": error.type, "condition": error.condition, "text": error.text}
