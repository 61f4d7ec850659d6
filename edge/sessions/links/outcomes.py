"""Carries out what a backend answers to a link's events, and orders from elsewhere, one after the other.

What an answer does to the link itself becomes durable in one write with the event's being accepted: a crash before it
means that the event comes again and nothing of the answer was done; after it, that all was. What goes to others
(publications, orders for client sessions and other links) is done before that, under names that are the same each
time.
"""

from __future__ import annotations

import logging
from asyncio import Future
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args

from edge.backend.base import Expired, Outcome, Refused
from edge.errors import Conflict, HoldfastError, SessionGone, StoreError
from edge.protocol.callbacks.actions import (
    Action,
    BadResult,
    LinkAction,
    Pin,
    Publish,
    Result,
    XmppConnect,
    is_link,
)
from edge.protocol.callbacks.events import Event, LinkEvent
from edge.sessions.executor import REPEAT_TTL_MS
from edge.sessions.links.speaking import speak

if TYPE_CHECKING:
    from edge.sessions.links.link import Link

_log = logging.getLogger("holdfast.links")

LINK_ACTIONS = get_args(LinkAction)
PARK_AFTER = 10
"""Retry windows (30 s each, as a rule) in which a backend answers 5xx to one event alone, until it is laid aside."""
_AWAY = ("status 502", "status 503", "status 504")
"""What load balancers say of a backend that is not there: nothing that is the event's fault."""

Reply = Callable[[HoldfastError | None], None]


@dataclass(slots=True, eq=False)
class _Work:
    """An answer to `event`, or an order with a `reply`."""

    event: Event | None
    outcome: Outcome
    reply: Reply | None = None
    owed: int = 0
    """What goes to others and is not there yet: works behind this one wait for it."""
    drafts: int = 0
    """Stanzas of an order that are not durable yet; only its reply waits for them."""
    begun: bool = False
    failures: list[str] = field(default_factory=list)
    refused: HoldfastError | None = None


class Outcomes:
    """One link's."""

    __slots__ = ("_current", "_expired", "_handing_back", "_link", "_works")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._works: list[_Work] = []
        self._current: _Work | None = None
        self._expired = (0, 0)
        """An event's seq, and how many retry windows long a backend failed at it."""
        self._handing_back = False

    @property
    def busy(self) -> bool:
        return self._current is not None or bool(self._works)

    def settle(self, outcomes: Sequence[tuple[Event, Outcome]]) -> None:
        self._works.extend(_Work(event, outcome) for event, outcome in outcomes)
        self._run()

    def order(self, result: Result, reply: Reply) -> None:
        self._works.append(_Work(None, result, reply))
        self._run()

    def drop(self) -> None:
        """The link is another edge's now."""
        works, self._works = self._works, []
        for work in works:
            if work.reply is not None:
                work.reply(SessionGone("the link has another owner"))

    def _run(self) -> None:
        link = self._link
        while self._current is None and self._works:
            work = self._current = self._works.pop(0)
            self._begin(work)
            if not work.owed:
                self._finish(work)
        link.pump()
        if not self.busy:
            link.mailbox.announce()

    # -- one after the other

    def _begin(self, work: _Work) -> None:
        outcome, event = work.outcome, work.event
        if self._handing_back and event is not None:
            return  # behind one that comes again: so does this
        if isinstance(outcome, Result):
            self._do(work, outcome)
        elif isinstance(outcome, Expired):
            self._not_taken(event, outcome)
        elif isinstance(outcome, BadResult):
            self._park(event, f"its answer does not hold: {outcome.field}: {outcome.problem}")
        elif isinstance(outcome, Refused):
            self._park(event, f"the backend answered {outcome.status}")

    def _finish(self, work: _Work) -> None:
        self._current = None
        link, event = self._link, work.event
        if work.reply is not None:
            work.begun = True
            _reply(work)
        elif event is not None:
            if work.failures and not self._handing_back:
                link.tell("refused", {"of": event.id, "error": "; ".join(work.failures)})
            if isinstance(event, LinkEvent) and not self._handing_back:
                seq = int(event.fields["seq"])
                if seq:
                    link.ledger.accept(seq)
            if link.mailbox.settled(event, handed_back=self._handing_back):
                self._handing_back = False

    def _not_taken(self, event: Event | None, expired: Expired) -> None:
        """Nobody answered within the retry window. The event waits on; the backend may be gone for hours."""
        if not isinstance(event, LinkEvent):
            return
        seq = int(event.fields["seq"])
        failed = expired.last_error.startswith("status 5") and not expired.last_error.startswith(_AWAY)
        tries = failed + (self._expired[1] if self._expired[0] == seq else 0)
        self._expired = (seq, tries)
        if failed and tries >= PARK_AFTER:
            self._park(event, f"{expired.last_error}, {tries} retry windows long")
        else:
            self._handing_back = True

    def _park(self, event: Event | None, why: str) -> None:
        if isinstance(event, LinkEvent) and event.fields["seq"]:
            self._link.park(event, why)

    def _do(self, work: _Work, result: Result) -> None:
        link = self._link
        for index, action in enumerate(result.actions):
            problem = self._problem(index, action)
            if problem is not None:
                if work.reply is not None:
                    work.refused = Conflict(problem)
                else:
                    self._park(work.event, f"its answer does not hold: {problem}")
                return
        if result.state_set or result.state_unset:
            link.ledger.change_state(result.state_set, result.state_unset)
        for index, action in enumerate(result.actions):
            self._act(work, index, action)

    def _problem(self, index: int, action: Action) -> str | None:
        """Why an action may not stand where it stands."""
        own = action.session is None or action.session == self._link.id
        if isinstance(action, Publish | Pin) or not own or isinstance(action, LINK_ACTIONS):
            return None
        return f"actions[{index}].session: a link has no client: name the session that the action is for"

    def _act(self, work: _Work, index: int, action: Action) -> None:
        link = self._link
        own = action.session is None or action.session == link.id
        if isinstance(action, Publish):
            self._publish(work, index, action)
        elif not own:
            self._pass_on(work, index, action)
        elif isinstance(action, Pin):
            link.pin(action.release)
        else:
            assert isinstance(action, LINK_ACTIONS)
            # With its event the action is accepted in the same write, so its name need not be remembered.
            of = work.event.id if work.event is not None else link.hearing.next_id()
            name = action.id or f"~{of}/{index + 1}"
            if work.reply is None:
                speak(link, action, name, _nobody)
            else:
                work.drafts += 1
                speak(link, action, name, _payer(work))

    def _resume(self) -> None:
        work = self._current
        if work is not None and not work.owed:
            self._finish(work)
            self._run()

    def _owe(self, work: _Work, future: Future[Any], what: str) -> None:
        work.owed += 1

        def paid(answer: Future[Any]) -> None:
            work.owed -= 1
            if not answer.cancelled() and (error := answer.exception()) is not None:
                work.failures.append(f"{what}: {error}")
            if not work.owed and self._current is work:
                self._resume()

        future.add_done_callback(paid)

    def _publish(self, work: _Work, index: int, action: Publish) -> None:
        link = self._link
        services = link.services.shared
        services.metrics.process.publications_published.value += 1
        policy = services.policies.of(action.channel)
        if action.id is not None or work.event is None:
            published = services.store.publish(action.channel, action.payload, policy, sender=None, id=action.id)
        else:
            id = f"~{work.event.id}/{index + 1}"
            published = services.store.publish(
                action.channel, action.payload, policy, sender=None, id=id, id_ttl_ms=REPEAT_TTL_MS
            )
        self._owe(work, published, f"publish to {action.channel!r}")

    def _pass_on(self, work: _Work, index: int, action: Action) -> None:
        """An action for a client session, or for another link. What becomes of it is told to the backend later."""
        link, target = self._link, str(action.session)
        shared = link.services.shared
        order = replace(action, session=None)
        if isinstance(order, XmppConnect) and order.attach is None:
            order = replace(order, attach=())
        if order.id is None and work.event is not None and (is_link(target) or shared.registry.get(target) is None):
            # Wherever it is carried out, once: should this edge die now, the next owner's backend orders it again.
            order = replace(order, id=f"^{work.event.id}/{index + 1}")
        app = link.handle.settings.app
        event = work.event

        def failed(what: str) -> None:
            if event is not None:
                link.tell("refused", {"of": event.id, "error": what})
                link.pump()

        shared.post.order(
            target,
            Result((order,)),
            lambda: shared.deliverer.report_gone(app, target),
            failed,
            handle=link.handle,
        )


def _payer(work: _Work) -> Reply:
    def paid(error: HoldfastError | None) -> None:
        work.drafts -= 1
        work.refused = work.refused or error
        if work.begun:
            _reply(work)

    return paid


def _reply(work: _Work) -> None:
    """Tell who gave an order, once all of it is done."""
    reply = work.reply
    if reply is not None and not work.drafts:
        work.reply = None
        reply(work.refused or (StoreError("; ".join(work.failures)) if work.failures else None))


def _nobody(error: HoldfastError | None) -> None:
    """An answer's stanza: what is in the way of it has been told to the backend."""
