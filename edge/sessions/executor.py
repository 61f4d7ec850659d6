"""What each action does. One function per action, found by its type; the order of things is the agenda's.

A function answers with a future when the actions behind it have to wait (a subscription that must stand before the
next publication), else None. Failures do not travel by exception: what the store refuses is noted with `owe`.
"""

from __future__ import annotations

import functools
from asyncio import Future
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edge.model.phases import Phase
from edge.protocol.callbacks.actions import (
    Accept,
    Action,
    CloseSession,
    Publish,
    Reject,
    Result,
    Send,
    Subscribe,
    Unsubscribe,
    XmppAttach,
    XmppConnect,
    XmppDetach,
    is_link,
)
from edge.sessions.connection import Frame
from edge.sessions.services import Services
from edge.store.base import Position

if TYPE_CHECKING:
    from edge.sessions.agenda import Agenda
    from edge.sessions.local_session import LocalSession

REPEAT_TTL_MS = 60_000
"""How long a publication without an id of its own is known by its event's: longer than it takes a survivor to notice
that an edge is dead and to report a `close` whose answer the dead one may have carried out."""

_HELD = (Phase.LIVE, Phase.CLOSING)


def perform(agenda: Agenda, action: Action, services: Services) -> Future[None] | None:
    """Carry out one action of the agenda's session, or pass it on to the session it names."""
    session = agenda.session
    target = action.session
    if type(action) is Publish:
        _publish(agenda, action, services)
        return None
    if target is not None and target != session.session:
        _pass_on(agenda, target, action, services)
        return None
    if type(action) is Send:
        session.connection.send(Frame(action.payload), owed=agenda.answers)
        return None
    do = _DOING.get(type(action))
    return do(session, action, services) if do is not None else None


def _accept(session: LocalSession, action: Accept, services: Services) -> None:
    session.accepted()
    session.connection.accept(action.subprotocol, action.headers)


def _reject(session: LocalSession, action: Reject, services: Services) -> None:
    session.reject(action.status, action.headers, action.text.encode())


def _close(session: LocalSession, action: CloseSession, services: Services) -> None:
    session.close(action.code, action.reason)


def _subscribe(session: LocalSession, action: Subscribe, services: Services) -> Future[None] | None:
    if session.model.phase not in _HELD:
        return None
    since = Position(*action.since) if action.since is not None else None
    return services.hub.subscribe(session, action.channel, since)


def _unsubscribe(session: LocalSession, action: Unsubscribe, services: Services) -> None:
    services.hub.unsubscribe(session, action.channel)


def _publish(agenda: Agenda, action: Publish, services: Services) -> None:
    sender = (action.session or agenda.session.session) if action.except_self else None
    policy = services.policies.of(action.channel)
    services.metrics.process.publications_published.value += 1
    if action.id is not None:
        published = services.store.publish(action.channel, action.payload, policy, sender=sender, id=action.id)
    else:
        id = agenda.publication_id()
        published = services.store.publish(
            action.channel, action.payload, policy, sender=sender, id=id, id_ttl_ms=REPEAT_TTL_MS
        )
    agenda.owe(published, f"publish to {action.channel!r}")


def _pass_on(agenda: Agenda, target: str, action: Action, services: Services) -> None:
    """An action that names another session. What became of it is told to the backend later: `gone`, or `refused`."""
    session = agenda.session
    action = replace(action, session=None)
    if is_link(target):
        action = _for_link(agenda, action)
    app = session.route.app
    gone = functools.partial(services.deliverer.report_gone, app, target)
    services.post.order(target, Result((action,)), gone, agenda.reporter(), session.handle)


def _for_link(agenda: Agenda, action: Action) -> Action:
    """An order of this session's backend for a link: which client is meant, and a name by which it is done once,
    however often it has to be passed on."""
    client = agenda.session.session
    if isinstance(action, XmppConnect) and action.attach is None:
        action = replace(action, attach=(client,))
    elif isinstance(action, XmppAttach | XmppDetach) and action.client is None:
        action = replace(action, client=client)
    if action.id is None and not isinstance(action, XmppConnect) and (name := agenda.action_name()) is not None:
        action = replace(action, id=name)
    return action


_DOING: dict[type, Callable[[LocalSession, Any, Services], Future[None] | None]] = {
    Accept: _accept,
    Reject: _reject,
    CloseSession: _close,
    Subscribe: _subscribe,
    Unsubscribe: _unsubscribe,
    # Identify, SetTimer, CancelTimer and Pin are changes to the row: done when the store has accepted them.
}
