"""Carries out backends' orders for one link: what each action does. One function per action, found by its type.

A stanza is checked, given to the ledger, and written when it is durable (`Link.send`). What is wrong with one action
fails that action alone: `xmpp.send_failed` says why, and the link goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edge.errors import Conflict, FieldError, HoldfastError, QueueFull, SessionGone, WireError
from edge.ids import new_stanza_id
from edge.model.link_phases import LinkPhase
from edge.protocol.callbacks.actions import (
    LinkAction,
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
)
from edge.protocol.xmpp.element import Element
from edge.protocol.xmpp.outgoing import (
    MessageFields,
    iq_error,
    iq_result,
    iq_stanza,
    message_stanza,
    presence_stanza,
    raw_stanza,
)
from edge.store.links_base import IqEntry

if TYPE_CHECKING:
    from edge.sessions.links.link import Link

Told = Callable[[HoldfastError | None], None]
IQ_TIMEOUT_S = 30.0
"""For requests that a backend wrote as XML."""


def speak(link: Link, action: LinkAction, name: str, told: Told) -> None:
    """Carry out one action. `name`: its id, or the edge's name for it. `told` is called once, when its effect is
    durable, or with what was in the way; refusals of a single stanza are told to the backend here."""
    do = _DOING[type(action)]
    try:
        do(link, action, name, told)
    except FieldError as error:
        _failed(link, name, "invalid", f"{error.field}: {error.problem}")
        told(None)
    except WireError as error:
        _failed(link, name, "invalid", str(error))
        told(None)
    except (Conflict, SessionGone) as error:
        told(error)


def _failed(link: Link, name: str, reason: str, text: str) -> None:
    link.tell("xmpp.send_failed", {"action_id": name, "reason": reason, "certain": True, "text": text})


def _send(link: Link, action: XmppSend, name: str, told: Told) -> None:
    _check_alive(link)
    stanza = action.stanza
    if isinstance(stanza, MessageFields) and stanza.id is None and link.is_component:
        stanza = replace(stanza, id=new_stanza_id())  # it may come twice: that has to show
    element = (
        raw_stanza(stanza, link.sender, limits=link.limits)
        if isinstance(stanza, str)
        else message_stanza(stanza, link.sender, limits=link.limits)
    )
    entry = None
    if element.name == "iq" and element.attributes.get("type") in ("get", "set"):
        entry = link.hearing.ask(element.attributes["id"], element.attributes.get("to"), name, IQ_TIMEOUT_S)
    _keep(link, element, name, told, entry)


def _presence(link: Link, action: XmppPresence, name: str, told: Told) -> None:
    _check_alive(link)
    stanza = action.stanza
    if isinstance(stanza, str):
        element = raw_stanza(stanza, link.sender, limits=link.limits, allowed=("presence",))
    else:
        element = presence_stanza(stanza, link.sender, limits=link.limits)
    if "to" not in element.attributes:
        link.ledger.save_result(presence=element.raw)
    _keep(link, element, name, told, None)


def _iq(link: Link, action: XmppIq, name: str, told: Told) -> None:
    _check_alive(link)
    id = link.hearing.next_id()
    element = iq_stanza(
        action.stanza_type, id, action.to, action.xml, link.sender, from_=action.sender, limits=link.limits
    )
    _keep(link, element, name, told, link.hearing.ask(id, action.to, name, action.timeout_s))


def _iq_reply(link: Link, action: XmppIqReply, name: str, told: Told) -> None:
    _check_alive(link)
    entry = link.hearing.asked(action.seq)
    if entry is None:
        raise FieldError(
            "seq", f"no request waits for an answer under {action.seq}: it was answered, or its time is up"
        )
    to, ours = entry.peer or None, (entry.action_id or None) if link.is_component else None
    if action.condition:
        element = iq_error(
            entry.id, to, action.condition, link.sender, from_=ours, kind=action.error_type, text=action.text
        )
    else:
        element = iq_result(entry.id, to, action.xml, link.sender, from_=ours, limits=link.limits)
    link.ledger.answered(entry.key)
    _keep(link, element, name, told, None)


def _keep(link: Link, element: Element, name: str, told: Told, entry: IqEntry | None) -> None:
    def kept(error: HoldfastError | None) -> None:
        if isinstance(error, QueueFull):
            _failed(link, name, "queue_full", str(error))
            error = None
        told(error)

    link.send(element.raw, name, entry, kept)


def _connect(link: Link, action: XmppConnect, name: str, told: Told) -> None:
    link.connect_again(action)
    told(None)


def _credentials(link: Link, action: XmppCredentials, name: str, told: Told) -> None:
    link.give_credentials(action.auth)
    told(None)


def _attach(link: Link, action: XmppAttach, name: str, told: Told) -> None:
    _check_alive(link)
    if action.client is None:
        raise FieldError("client", "must name the client session: the event that is answered is not a client's")
    link.attach([action.client])
    told(None)


def _detach(link: Link, action: XmppDetach, name: str, told: Told) -> None:
    if action.client is None:
        raise FieldError("client", "must name the client session: the event that is answered is not a client's")
    link.detach(action.client)
    told(None)


def _suspend(link: Link, action: XmppSuspend, name: str, told: Told) -> None:
    link.suspend()
    told(None)


def _disconnect(link: Link, action: XmppDisconnect, name: str, told: Told) -> None:
    link.log_out("requested", "the backend asked for it")
    told(None)


def _get(link: Link, action: XmppGet, name: str, told: Told) -> None:
    link.tell_state()
    told(None)


def _check_alive(link: Link) -> None:
    if link.phase in (LinkPhase.ENDING, LinkPhase.GONE) or link.leaving:
        raise SessionGone(f"link {link.id} has ended")


_DOING: dict[type, Callable[[Link, Any, str, Told], None]] = {
    XmppSend: _send,
    XmppPresence: _presence,
    XmppIq: _iq,
    XmppIqReply: _iq_reply,
    XmppConnect: _connect,
    XmppCredentials: _credentials,
    XmppAttach: _attach,
    XmppDetach: _detach,
    XmppSuspend: _suspend,
    XmppDisconnect: _disconnect,
    XmppGet: _get,
}
