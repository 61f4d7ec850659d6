"""The links' half of the app: what happens to the users' XMPP sessions, and how tabs are told.

A link's state is what a new tab needs to know at once: who the contacts are and who of them is there, a key each, so
that a contact who comes or goes costs one small change. Everything a tab is told goes over the user's channels, and
what has to be there later has an id: handlers may run twice, publications do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from xml.etree import ElementTree

from backend_sdk import (
    App,
    Link,
    MessageStanza,
    XmppAuthFailed,
    XmppConnected,
    XmppCredentials,
    XmppDetached,
    XmppDisconnected,
    XmppMessage,
    XmppPresence,
    XmppReset,
    XmppResumed,
    XmppRoster,
    XmppSendFailed,
    XmppSent,
    XmppState,
)
from backend_sdk.examples.xmpp_chat.telling import MARKERS, NAME_LENGTH, bare, is_address, pack, people, talk

web = App()


@web.on_xmpp_connected
async def on_connected(link: Link, event: XmppConnected) -> None:
    """Logged in."""
    begin(link)


@web.on_xmpp_reset
async def on_reset(link: Link, event: XmppReset) -> None:
    """Logged in again, because the server had given up the session. Messages that may be lost are told one by one, as
    `XmppSendFailed`."""
    begin(link)


@web.on_xmpp_resumed
async def on_resumed(link: Link, event: XmppResumed) -> None:
    """The session goes on, perhaps on another edge: neither the server nor the contacts have noticed."""
    link.state["resumes"] = link.state.get("resumes", 0) + 1
    tell_link(link, "live")


@web.on_xmpp_detached
async def on_detached(link: Link, event: XmppDetached) -> None:
    """The XMPP server cannot be reached. The edge goes on trying, and what users say waits."""
    tell_link(link, "lost")


@web.on_xmpp_state
async def on_state(link: Link, event: XmppState) -> None:
    """A tab came (back) and found the link here."""
    tell_link(link, event.phase)


@web.on_xmpp_credentials
async def on_credentials(link: Link, event: XmppCredentials) -> None:
    """A tab came back to a link that is not there any more: only the user knows the password."""
    tell_over(link, "")
    link.disconnect()


@web.on_xmpp_auth_failed
async def on_auth_failed(link: Link, event: XmppAuthFailed) -> None:
    known = {"not-authorized": "The server does not know this address with this password."}
    tell_over(link, known.get(event.condition) or event.text or f"The server refused: {event.condition}.")


@web.on_xmpp_disconnected
async def on_disconnected(link: Link, event: XmppDisconnected) -> None:
    tell_over(link, event.text or "")


def begin(link: Link) -> None:
    """A new session at the server: it will tell who is there."""
    link.state["logins"] = link.state.get("logins", 0) + 1
    for key in [key for key in link.state if key.startswith("there ")]:
        del link.state[key]
    tell_link(link, "live")


def tell_link(link: Link, phase: str) -> None:
    """How the link is, and everything a tab needs to know of the contacts. Goes over the channel, not to the tab alone:
    so it can neither overtake nor be overtaken by what is told of a single contact."""
    counts = {"logins": link.state.get("logins", 0), "resumes": link.state.get("resumes", 0)}
    contacts = [contact(link, jid) for jid in contacts_of(link)]
    link.publish(people(link.id), pack({"is": "link", "phase": phase, "contacts": contacts, **counts}))


def tell_over(link: Link, why: str) -> None:
    link.publish(people(link.id), pack({"is": "over", "why": why}))


# What contacts say ------------------------------------------------------------------------------------------------


@web.on_xmpp_message
async def on_xmpp_message(link: Link, event: XmppMessage) -> None:
    stanza = event.stanza
    own = own_address(link)
    # Carbon copies are what the user's other clients sent, or got; archives have both.
    mine = stanza.carbon == "sent" or bare(stanza.sender or own) == own
    other = bare((stanza.to if mine else stanza.sender) or "")
    if stanza.type not in ("chat", "normal", "error") or not is_address(other):
        return  # rooms and announcements: not in this example
    if stanza.type == "error":
        tell_failed(link, event, stanza)
        return
    if stanza.body is not None:
        tell_said(link, event, stanza, other, mine)
    elif stanza.chat_state is not None and not mine and not event.replay:
        link.publish(people(link.id), pack({"is": "typing", "with": other, "on": stanza.chat_state == "composing"}))
    if stanza.receipt == "received" and stanza.receipt_id and not mine:
        tell_marks(link, event, "delivered", [stanza.receipt_id])
    if (MARKERS, "displayed") in stanza.children and (id := displayed_id(event.xml)):
        if mine:  # read by the user, elsewhere
            link.publish(talk(link.id), pack({"is": "read", "with": other, "id": id}), id=event.id)
        else:
            tell_marks(link, event, "seen", [id])


def tell_said(link: Link, event: XmppMessage, stanza: MessageStanza, other: str, mine: bool) -> None:
    id = (stanza.id if mine else stanza.stanza_id) or event.id
    said = {"is": "said", "id": id, "with": other, "mine": mine, "text": stanza.body, "stanza": stanza.id}
    sent_at = None if stanza.delay is None else in_ms(stanza.delay.stamp)
    # The archive may bring again, after a reset, what was here before. The id keeps it from being told twice.
    link.publish(talk(link.id), pack({**said, "at": sent_at or event.at}), id=id[:NAME_LENGTH])
    asked = stanza.receipt == "request" and stanza.carbon is None and not mine and not event.replay
    # Who may not see whether the user is there learns nothing by asking for receipts, either (XEP-0184 §8).
    if asked and stanza.id and link.state.get(f"contact {other}", {}).get("sub") in ("both", "from"):
        link.send(stanza.sender or "", receipt="received", receipt_id=stanza.id, id=f"got {event.id}")


def tell_failed(link: Link, event: XmppMessage, stanza: MessageStanza) -> None:
    """A server says that it could not deliver one of ours."""
    error = stanza.error
    why = "" if error is None else error.text or error.condition
    if stanza.id:
        told = {"is": "failed", "id": stanza.id, "why": f"Not delivered: {why or 'no reason given'}."}
        link.publish(talk(link.id), pack(told), id=event.id)


@web.on_xmpp_sent
async def on_sent(link: Link, event: XmppSent) -> None:
    """The user's server has them."""
    if ids := said_in(event.action_ids):
        tell_marks(link, event, "sent", ids)


@web.on_xmpp_send_failed
async def on_send_failed(link: Link, event: XmppSendFailed) -> None:
    for id in said_in([event.action_id] if event.action_id else []):
        why = "Not sent" if event.certain else "It is not known whether this arrived"
        told = {"is": "failed", "id": id, "why": f"{why}: {event.text or event.reason}."}
        link.publish(talk(link.id), pack(told), id=event.id)


def tell_marks(link: Link, event: XmppMessage | XmppSent, mark: str, ids: Sequence[str]) -> None:
    link.publish(talk(link.id), pack({"is": "mark", "mark": mark, "ids": list(ids)}), id=f"{event.id} {mark}")


def said_in(action_ids: Sequence[str]) -> list[str]:
    """The messages among these orders, by the ids that tabs know."""
    return [id.removeprefix("say ") for id in action_ids if id.startswith("say ")]


# Who the contacts are, and who of them is there: kept in the link's state -------------------------------------------


@web.on_xmpp_roster
async def on_roster(link: Link, event: XmppRoster) -> None:
    """All contacts, or those that have changed."""
    items = {item.jid: item for item in event.items if is_address(item.jid) and item.subscription != "remove"}
    gone = contacts_of(link) if event.full else [item.jid for item in event.items]
    for jid in gone:
        if jid not in items:
            link.state.pop(f"contact {jid}", None)
            link.state.pop(f"there {jid}", None)
    for jid, item in items.items():
        link.state[f"contact {jid}"] = {"name": item.name, "sub": item.subscription}
    tell_link(link, "live")


@web.on_xmpp_presence
async def on_presence(link: Link, event: XmppPresence) -> None:
    """One of a contact's clients came, changed or went."""
    stanza = event.stanza
    jid, _, resource = (stanza.sender or "").partition("/")
    if stanza.type not in ("available", "unavailable") or not is_address(jid) or jid == own_address(link):
        return
    there = link.state.get(f"there {jid}", {})
    if stanza.type == "available":
        there[resource] = [stanza.priority, stanza.show or "available", stanza.status]
    else:
        there.pop(resource, None)
    if there:
        link.state[f"there {jid}"] = there
    else:
        link.state.pop(f"there {jid}", None)
    link.publish(people(link.id), pack({"is": "contact", **contact(link, jid)}))


def contacts_of(link: Link) -> list[str]:
    return [key.removeprefix("contact ") for key in link.state if key.startswith("contact ")]


def contact(link: Link, jid: str) -> dict[str, Any]:
    """What a tab shows of a contact: of several clients, the one the contact prefers."""
    item: Mapping[str, Any] = link.state.get(f"contact {jid}", {})
    there: Mapping[str, Any] = link.state.get(f"there {jid}", {})
    _, show, status = max(there.values(), key=lambda each: each[0], default=(0, "offline", None))
    return {"jid": jid, "name": item.get("name"), "sub": item.get("sub"), "show": show, "status": status}


# Small things -----------------------------------------------------------------------------------------------------


def own_address(link: Link) -> str:
    """``x:<address>:<mark>``, as `listen` made it."""
    return link.id.removeprefix("x:").rpartition(":")[0]


def displayed_id(xml: str) -> str | None:
    """Which message a contact has seen (XEP-0333), also in a carbon copy. Stanzas stand in a stream, whose namespace a
    parser has to be told; the edge lets no DTD through, so nothing in them can grow."""
    try:
        stanza = ElementTree.fromstring(f"<stream xmlns='jabber:client'>{xml}</stream>")  # noqa: S314
    except ElementTree.ParseError:
        return None
    marker = next(stanza.iter(f"{{{MARKERS}}}displayed"), None)
    return None if marker is None else marker.get("id")


def in_ms(stamp: str) -> int | None:
    """The time a server noted (XEP-0082), or None when it noted something else."""
    try:
        return int(datetime.fromisoformat(stamp).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
