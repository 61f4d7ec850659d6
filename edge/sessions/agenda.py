"""What a session still has to carry out: answers of its backend and orders from elsewhere, one after the other.

Owns the order and the wholeness of answers. Each one is judged by the rules, its changes to the row are written, then
its actions are done; while one waits for Redis the ones behind it wait. A session has an agenda only while there is
something on it: the common answer, a few messages to its own client, never comes here.

A store that refuses is no reason to end a session: its backend is told instead (`refused`), or whoever gave the order.
"""

from __future__ import annotations

import logging
from asyncio import Future
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edge.backend.base import Outcome, Refused
from edge.errors import Conflict, FenceRefused, HoldfastError, SessionGone, StoreError
from edge.model.phases import Phase
from edge.model.verdict import Changes, Refusal
from edge.protocol.callbacks.actions import Accept, Action, BadResult, Publish, Reject, Result
from edge.protocol.callbacks.events import Close, Event, Open
from edge.sessions.executor import perform
from edge.sessions.services import Services
from edge.store.base import Committed, Patch, SessionRow, StoredTimer

if TYPE_CHECKING:
    from edge.sessions.local_session import LocalSession

_log = logging.getLogger("holdfast.session")

Reply = Callable[[HoldfastError | None], None]
"""Told once whether an order was carried out whole; the error says why not."""


class _Task:
    """One answer, or one order from elsewhere, on its way to being carried out."""

    __slots__ = ("event", "failure", "outcome", "owed", "published", "refused", "reply", "steps")

    def __init__(self, event: Event | None, outcome: Outcome, reply: Reply | None) -> None:
        self.event = event
        self.outcome = outcome
        self.reply = reply
        self.steps: deque[Action] = deque()
        self.published = 0
        """Publications and orders for links named after this task so far."""
        self.owed = 0
        """Publications given to the store and not yet accepted."""
        self.failure = ""
        self.refused = False
        """The failure is a rule of the session's that the order breaks: trying again does not help."""


class Agenda:
    """See the module's docstring. `session.agenda_done` is called when everything is carried out."""

    __slots__ = ("_current", "_services", "_tasks", "session", "waiting")

    def __init__(self, session: LocalSession, services: Services) -> None:
        self.session = session
        self._services = services
        self._tasks: deque[_Task] = deque()
        self._current: _Task | None = None
        self.waiting = False
        """The current task waits for the store; nothing moves until it answers."""

    def add(self, event: Event | None, outcome: Outcome, reply: Reply | None) -> None:
        """Put an outcome of `event`, or an order (no event), at the end."""
        self._tasks.append(_Task(event, outcome, reply))

    def run(self) -> None:
        """Carry out what can be carried out now."""
        while not self.waiting:
            task = self._current
            if task is None:
                if not self._tasks:
                    self.session.agenda_done()
                    return
                task = self._current = self._tasks.popleft()
                self._begin(task)
            elif task.steps:
                wait = perform(self, task.steps.popleft(), self._services)
                if wait is not None:
                    self._wait_for(wait)
            elif task.owed:
                return
            else:
                self._finish(task)
                self._current = None

    def _wait_for(self, wait: Future[None]) -> None:
        self.waiting = True

        def go_on(_: Future[None]) -> None:
            self.waiting = False
            self.run()

        wait.add_done_callback(go_on)

    # What the executor needs of the task whose action it does.

    def owe(self, future: Future[Any], what: str) -> None:
        """The current task is not done before `future` is; it failing makes the task fail. Later steps do not wait."""
        task = self._current
        assert task is not None
        task.owed += 1

        def paid(answer: Future[Any]) -> None:
            task.owed -= 1
            if not answer.cancelled() and (error := answer.exception()) is not None:
                task.failure = task.failure or f"{what}: {error}"
            if not task.owed:
                self.run()

        future.add_done_callback(paid)

    @property
    def answers(self) -> bool:
        """What is carried out is the answer to an event of the session's own, and no order from elsewhere."""
        return self._current is not None and self._current.event is not None

    def publication_id(self) -> str | None:
        """A name for the current task's next publication: the same on whichever edge carries out the answer to this
        event. None for an order from elsewhere, which nobody carries out twice."""
        task = self._current
        if task is None or task.event is None:
            return None
        task.published += 1
        return f"~{task.event.id}/{task.published}"

    def action_name(self) -> str | None:
        """A name for the current task's next order to a link, the same whenever it is carried out."""
        task = self._current
        if task is None or task.event is None:
            return None
        task.published += 1
        return f"^{task.event.id}/{task.published}"

    def reporter(self) -> Callable[[str], None]:
        """Tells the backend what of its answer to the current event failed, however much later that shows."""
        event = self._current.event if self._current is not None else None

        def report(failure: str) -> None:
            if event is not None:
                self.session.refused(event, failure)

        return report

    # Beginning and finishing.

    def _begin(self, task: _Task) -> None:
        outcome, session = task.outcome, self.session
        if isinstance(outcome, Result):
            self._judge(task, outcome)
        elif isinstance(outcome, BadResult):
            session.fail(task.event, 1011, f"{outcome.field}: {outcome.problem}")
        elif isinstance(outcome, Refused):
            session.take_verdict(task.event, outcome)
        else:
            session.expire(task.event, outcome)

    def _judge(self, task: _Task, result: Result) -> None:
        session = self.session
        now = self._services.clock.wall_ms()
        verdict = session.model.judge(task.event, result, now, session.route.limits)
        if isinstance(verdict, Refusal):
            self._refuse(task, verdict)
        elif verdict.changes is not None and type(task.event) is not Close:
            self._commit(task, verdict.changes, verdict.actions, again=True)
        else:
            task.steps.extend(self._with_answer(task.event, verdict.actions))

    def _with_answer(self, event: Event | None, actions: Sequence[Action]) -> Sequence[Action]:
        """An answer of `open` says accept or reject, or means accept."""
        if type(event) is not Open:
            return actions
        for action in actions:
            if isinstance(action, (Accept, Reject)) and action.session in (None, self.session.session):
                return (action, *(other for other in actions if other is not action))
        return (Accept(), *actions)

    def _refuse(self, task: _Task, refusal: Refusal) -> None:
        meters = self.session.meters
        if refusal.limit:
            meters.limits_hit[refusal.limit].value += 1
        else:
            meters.bad_results.value += 1
        if task.reply is not None:
            task.failure, task.refused = refusal.reason, True
            return
        _log.warning("session %s: result refused: %s", self.session.session, refusal.reason)
        self.session.fail(task.event, refusal.code, refusal.reason)

    def _finish(self, task: _Task) -> None:
        failure = task.failure
        if task.reply is not None:
            error: HoldfastError = Conflict(failure) if task.refused else StoreError(failure)
            if failure and self.session.model.phase is Phase.DONE:
                error = SessionGone(f"session {self.session.session} has ended: {failure}")
            task.reply(error if failure else None)
        elif failure:
            _log.warning("session %s: an answer could not be carried out: %s", self.session.session, failure)
            if task.event is not None:
                self.session.note("refused", f"of the answer to {task.event.id}: {failure}")
                self.session.model.result_refused(task.event.id, failure, self._services.clock.wall_ms())
        if task.event is not None:
            self.session.settled(task.event)

    # Changes to the row.

    def _commit(self, task: _Task, changes: Changes, actions: Sequence[Action], *, again: bool) -> None:
        session = self.session
        self.waiting = True
        if not session.registered and session.model.phase is not Phase.DONE:
            # In front of the commit, and taken as done: a registration after it would write the row of before.
            session.register()
            session.registered = True
        future = self._services.store.commit(_patch(session, changes))

        def done(answer: Future[Committed]) -> None:
            self.waiting = False
            error = StoreError("cancelled") if answer.cancelled() else answer.exception()
            if error is None:
                committed = answer.result()
                session.applied(changes, committed.version)
                fresh = [a for a in actions if type(a) is Publish or a.id is None or a.id not in committed.repeated]
                task.steps.extend(self._with_answer(task.event, fresh))
            elif isinstance(error, FenceRefused) and again:
                self._reclaim(task, changes, actions)
                return
            else:
                # It may have reached Redis all the same. The model says what holds: the row is written again.
                session.registered = False
                task.failure = f"nothing of it was done: {error}"
                if type(task.event) is Open and session.model.phase is not Phase.DONE:
                    session.reject(503, (("Retry-After", "5"),), b"session store unavailable\n")
            self.run()

        future.add_done_callback(done)

    def _reclaim(self, task: _Task, changes: Changes, actions: Sequence[Action]) -> None:
        """Our write was refused. Either another edge owns the session, or Redis lost the row: then we put it back, if
        that has not been done meanwhile."""
        session = self.session
        self.waiting = True

        def loaded(answer: Future[SessionRow | None]) -> None:
            self.waiting = False
            if answer.cancelled() or answer.exception() is not None:
                task.failure = "nothing of it was done: the session's row could not be read"
            elif session.model.phase is Phase.DONE:
                task.failure = "nothing of it was done: the session is over"
            elif (row := answer.result()) is not None and (row.owner, row.fence) != self._title():
                session.lose()
                task.failure = f"nothing of it was done: edge {row.owner} owns the session now"
            else:
                session.registered = row is not None  # if it is not there, the commit puts it back first
                self._commit(task, changes, actions, again=False)
                return
            self.run()

        self._services.store.load(session.session).add_done_callback(loaded)

    def _title(self) -> tuple[str, int]:
        """What the row says while the session is ours: owner and fence."""
        return self._services.edge_id, self.session.fence


def _patch(session: LocalSession, changes: Changes) -> Patch:
    return Patch(
        session=session.session,
        fence=session.fence,
        state_set=changes.state_set,
        state_unset=tuple(changes.state_unset),
        user=changes.user,
        pinned=changes.pinned,
        subscribe=tuple(changes.subscribe),
        unsubscribe=tuple(changes.unsubscribe),
        set_timers=tuple(StoredTimer(name, due, data) for name, (due, data) in changes.set_timers.items()),
        cancel_timers=tuple(changes.cancel_timers),
        action_ids=tuple(changes.action_ids),
    )
