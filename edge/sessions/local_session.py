"""A session this process owns: the meeting point of its rules, its connection, its backend and its row.

It is the `ConnectionListener` of its transport, the `Mailbox` of the deliverer and a `Subscriber` of the hub. It
decides nothing itself: the rules are in `edge.model.session`, what each action does in `edge.sessions.executor`. What
is here is order: answers are applied one after the other, each one whole, in the order of their events; while an
answer waits for Redis the ones behind it wait, and nothing more is taken from the queue.

An idle session holds no task, no timer and no lock.
"""

from __future__ import annotations

import logging
from asyncio import Future
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from edge.backend.base import Expired, Outcome, Refused, Release
from edge.config import LimitSettings, RouteSettings
from edge.errors import Conflict, FenceRefused, HoldfastError, SessionGone, StoreError
from edge.model.session import Changes, Flow, Phase, Refusal, Session, plain
from edge.protocol.callbacks.actions import Accept, Action, BadResult, Publish, Reject, Result
from edge.protocol.callbacks.events import Close, Event, Headers, Message, Open, Parcel
from edge.sessions.connection import Connection, Frame
from edge.sessions.detached import DETACHED
from edge.sessions.executor import perform
from edge.sessions.routes import RouteHandle
from edge.sessions.services import Services
from edge.store.base import Committed, Patch, Position, SessionRow, StoredTimer
from edge.telemetry.metrics import Counter, RouteMeters
from edge.wheel import Alarm

_log = logging.getLogger("holdfast.session")

Reply = Callable[[HoldfastError | None], None]
"""Told once whether an order was carried out whole; the error says why not."""

CLOSE_REASON_BYTES = 123
"""RFC 6455 §5.5: a control frame carries 125 bytes, two of them the code."""


class _Task:
    """One answer, or one order from elsewhere, on its way to being applied."""

    __slots__ = ("event", "failure", "outcome", "owed", "published", "refused", "reply", "steps")

    def __init__(self, event: Event | None, outcome: Outcome, reply: Reply | None) -> None:
        self.event = event
        self.outcome = outcome
        self.reply = reply
        self.steps: deque[Action] = deque()
        self.published = 0
        """Publications named after this task so far."""
        self.owed = 0
        """Publications given to the store and not yet accepted."""
        self.failure = ""
        self.refused = False
        """The failure is a rule of the session's that the order breaks: trying again does not help."""


class LocalSession:
    """See the module's docstring. Not thread-safe: everything happens on the loop's thread."""

    __slots__ = (
        "_agenda",
        "_alarms",
        "_announced",
        "_cause",
        "_chosen",
        "_chosen_at",
        "_current",
        "_ending",
        "_leaving",
        "_services",
        "_waiting",
        "client",
        "connection",
        "fence",
        "handle",
        "meters",
        "model",
        "opened_at",
        "registered",
        "transport",
    )

    def __init__(self, id: str, services: Services, handle: RouteHandle, connection: Connection) -> None:
        self._services = services
        self.handle = handle
        self.connection: Connection = connection
        release = self._chosen = services.releases.choose(handle.settings, None, None)
        self._chosen_at = services.releases.version
        self.model = Session(id, release.sha)
        self.meters: RouteMeters = services.metrics.route(handle.name, release.sha)
        self.transport = ""
        self.client = ""
        self.opened_at = 0
        self.fence = FIRST_FENCE
        self.registered = False
        """The store has this session's row, and as the model knows it."""
        self._agenda: deque[_Task] | None = None
        self._current: _Task | None = None
        self._waiting = False
        """`_current` waits for the store; nothing moves until it answers."""
        self._cause: str | None = None
        """Why we closed the connection, when the transport cannot know."""
        self._announced = False
        """The deliverer knows that we have events, and has not come for them yet."""
        self._ending: tuple[int, str, bool, str] | None = None
        """How the connection ended while `open` was still being answered."""
        self._alarms: dict[str, Alarm] | None = None
        self._leaving: tuple[int, str, str] | None = None
        """How to close the connection once everything is answered (`leave`)."""

    @classmethod
    def inherited(cls, row: SessionRow, services: Services, handle: RouteHandle) -> LocalSession:
        """A plain session of an edge that died: all that is left to do is to tell its backend of the end."""
        session = cls(row.id, services, handle, DETACHED)
        session.transport, session.client, session.opened_at = row.transport, row.client, row.opened_at
        session.fence, session.registered = row.fence, True
        model = session.model
        model.release, model.pinned, model.user = row.release, row.pinned, row.user
        session._chosen_at = _CHOOSE_AGAIN
        model.state, model.version = dict(row.state) or None, row.version
        model.inherited(services.clock.wall_ms())
        session.meters = services.metrics.route(handle.name, row.release)
        session.meters.sessions.value += 1
        return session

    def report(self) -> None:
        """Tell the backend what waits in the queue (of an inherited session: its end)."""
        self._announce()

    # ConnectionListener: what the transport tells.

    def received(self, payload: str | bytes) -> None:
        flow = self.model.received(payload, self._services.clock.wall_ms(), self._limits())
        if flow:
            self._see_to(flow)

    def closing(self, code: int, reason: str) -> None:
        self._see_to(self.model.said_goodbye())

    def ended(self, code: int, reason: str, *, clean: bool, cause: str) -> None:
        model = self.model
        if cause == "backend" and self._cause is not None:
            cause = self._cause
        if model.phase in (Phase.LIVE, Phase.CLOSING):
            self.meters.connections_closed[cause].value += 1
        if model.paused:
            self.meters.reading_paused.value -= 1
        self._let_go()
        self.connection = DETACHED
        if model.phase in (Phase.OPENING, Phase.ABANDONED):
            self._ending = (code, reason, clean, cause)
        self._see_to(model.ended(code, reason, clean=clean, cause=cause, now=self._services.clock.wall_ms()))

    # Mailbox: what the deliverer asks.

    @property
    def session(self) -> str:
        return self.model.id

    @property
    def route(self) -> RouteSettings:
        return self.handle.settings

    @property
    def release(self) -> Release:
        releases = self._services.releases
        if self._chosen_at != releases.version:
            self._chosen_at = releases.version
            self._chosen = releases.choose(self.handle.settings, self.model.pinned, self.model.release)
        return self._chosen

    @property
    def settling(self) -> bool:
        return self._current is not None

    def take(self, max_events: int, max_bytes: int) -> Parcel:
        model = self.model
        self._announced = False
        release = self.release.sha
        if release != model.release:
            model.moved(release, self._services.clock.wall_ms())
            self._change_meters(release)
            self._write_release()
        events = model.take(max_events, max_bytes)
        return Parcel(model.id, model.release, model.user, model.state or {}, model.version, 1, events)

    def refresh(self, parcel: Parcel) -> Parcel:
        model = self.model
        return replace(parcel, user=model.user, state=model.state or {}, version=model.version)

    def settle(self, outcomes: Sequence[tuple[Event, Outcome]]) -> None:
        for event, outcome in outcomes:
            if (
                type(event) is Message
                and type(outcome) is Result
                and self._agenda is None
                and self._current is None
                and plain(outcome)
            ):
                # The hot path: nothing to ask anybody, nothing to wait for.
                connection = self.connection
                for action in outcome.actions:
                    connection.send(Frame(action.payload))  # type: ignore[union-attr]
                self._settled(event)
                continue
            self._add(_Task(event, outcome, None))
        if self._agenda is not None:
            self._run()

    # Subscriber: what the hub tells.

    @property
    def delivered(self) -> Counter:
        return self.meters.publications_delivered

    def gap(self, channel: str, since: Position, position: Position) -> None:
        now = self._services.clock.wall_ms()
        self._see_to(self.model.gap_found(channel, (since.offset, since.epoch), (position.offset, position.epoch), now))

    # Orders from elsewhere.

    def begin(self, request_open: Callable[[Session, int], int]) -> None:
        """Register, then tell the backend. The row comes first, so that whoever survives us knows of every session
        that a backend was told of; but a client does not wait for a Redis that is away."""
        self.opened_at = self._services.clock.wall_ms()
        self.meters.sessions.value += 1
        request_open(self.model, self.opened_at)
        if not self._services.store.health().up:
            self._announce()
            return
        self.register().add_done_callback(lambda _: self._announce())

    def register(self) -> Future[None]:
        """Write this session's row (again)."""
        future = self._services.store.register(self.row())

        def done(answer: Future[None]) -> None:
            error = None if answer.cancelled() else answer.exception()
            self.registered = not answer.cancelled() and error is None
            if isinstance(error, FenceRefused) and self.model.phase is not Phase.DONE:
                self.lose()

        future.add_done_callback(done)
        return future

    def put_back(self) -> Future[None] | None:
        """Write the row again, unless a change of it may be on its way, which this would undo: None, and later then."""
        if self._waiting:
            self.registered = False
            return None
        return self.register()

    def row(self) -> SessionRow:
        """The session as the store should know it."""
        model = self.model
        return SessionRow(
            id=model.id,
            app=self.handle.settings.app,
            route=self.handle.name,
            release=model.release,
            owner=self._services.edge_id,
            fence=self.fence,
            transport=self.transport,
            client=self.client,
            opened_at=self.opened_at,
            user=model.user,
            pinned=model.pinned,
            state=model.state or {},
            version=model.version,
            channels=tuple(model.channels or ()),
            timers=tuple(StoredTimer(name, due, data) for name, (due, data) in (model.timers or {}).items()),
        )

    def order(self, result: Result, reply: Reply | None = None) -> None:
        """Carry out actions and state changes from the control API or another session, in turn with the answers."""
        if self.model.phase in (Phase.ENDED, Phase.DONE, Phase.ABANDONED):
            if reply is not None:
                reply(SessionGone(f"session {self.session} has ended"))
            return
        self._add(_Task(None, result, reply))
        self._run()

    def close(self, code: int, reason: str, cause: str | None = None) -> None:
        """Close the connection behind everything sent so far. `cause` is what the backend will read, None: backend."""
        opening = self.model.phase is Phase.OPENING
        if not self.model.ordered_to_close():
            return
        self._cause = cause or self._cause
        if opening:
            connection, self.connection = self.connection, DETACHED
            connection.reject(503, (("Retry-After", "1"),), reason.encode())
        else:
            self.connection.close(code, _fit(reason))

    def leave(self, code: int, reason: str, cause: str) -> None:
        """Close when everything that was read from the client has been answered; nothing more is read meanwhile."""
        if self.model.asked_to_leave():
            self.close(code, reason, cause)
        else:
            self._leaving = (code, reason, cause)
            self.connection.pause_reading()

    def leave_now(self) -> None:
        """Who still waits for answers before it leaves waits no longer."""
        if self.model.leaving and self._leaving is not None:
            self.close(*self._leaving)

    def lose(self) -> None:
        """Another edge owns this session now and has told the backend of its end: let go without another word."""
        self.registered = False
        self.model.lost()
        connection, self.connection = self.connection, DETACHED
        if self._services.registry.remove(self):
            self.meters.sessions.value -= 1
        self._let_go()
        connection.close(1012, "session moved: this edge lost its lease")

    def _let_go(self) -> None:
        """No more publications and no more timers: there is nobody left to get them."""
        for channel in self.model.channels or ():
            self._services.hub.unsubscribe(self, channel)
        if self._alarms is not None:
            for alarm in self._alarms.values():
                alarm.cancel()
            self._alarms = None

    # Order: one task after the other.

    def _add(self, task: _Task) -> None:
        if self._agenda is None:
            self._agenda = deque()
        self._agenda.append(task)

    def _run(self) -> None:
        while not self._waiting:
            task = self._current
            if task is None:
                if not self._agenda:
                    self._agenda = None
                    return
                task = self._current = self._agenda.popleft()
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
                self._announce()

    def _wait_for(self, wait: Future[None]) -> None:
        self._waiting = True

        def go_on(_: Future[None]) -> None:
            self._waiting = False
            self._run()

        wait.add_done_callback(go_on)

    def owe(self, future: Future[Any], what: str) -> None:
        """The current task is not done before `future` is; it failing makes the task fail. Later steps do not wait."""
        task = self._current
        if task is None:
            return
        task.owed += 1

        def paid(answer: Future[Any]) -> None:
            task.owed -= 1
            if not answer.cancelled() and (error := answer.exception()) is not None:
                task.failure = task.failure or f"{what}: {error}"
            if not task.owed:
                self._run()

        future.add_done_callback(paid)

    def publication_id(self) -> str | None:
        """A name for the current task's next publication: the same on whichever edge carries out the answer to this
        event. None for an order from elsewhere, which nobody carries out twice."""
        task = self._current
        if task is None or task.event is None:
            return None
        task.published += 1
        return f"~{task.event.id}/{task.published}"

    def _begin(self, task: _Task) -> None:
        outcome = task.outcome
        if isinstance(outcome, Result):
            now = self._services.clock.wall_ms()
            verdict = self.model.judge(task.event, outcome, now, self._limits())
            if isinstance(verdict, Refusal):
                self._refuse(task, verdict)
                return
            if verdict.changes is not None and type(task.event) is not Close:
                self._commit(task, verdict.changes, verdict.actions, again=True)
            else:
                task.steps.extend(self._with_answer(task.event, verdict.actions))
        elif isinstance(outcome, BadResult):
            self._fail_open_or_close(task.event, 502, 1011, f"{outcome.field}: {outcome.problem}")
        elif isinstance(outcome, Refused):
            self._take_verdict(task.event, outcome)
        else:
            self._expire(task.event, outcome)

    def _with_answer(self, event: Event | None, actions: Sequence[Action]) -> Sequence[Action]:
        """An answer of `open` says accept or reject, or means accept."""
        if type(event) is not Open:
            return actions
        for action in actions:
            if isinstance(action, (Accept, Reject)) and action.session in (None, self.session):
                return (action, *(other for other in actions if other is not action))
        return (Accept(), *actions)

    # Outcomes that are no result.

    def _refuse(self, task: _Task, refusal: Refusal) -> None:
        if refusal.limit:
            self.meters.limits_hit[refusal.limit].value += 1
        else:
            self.meters.bad_results.value += 1
        if task.reply is not None:
            task.failure, task.refused = refusal.reason, True
            return
        _log.warning("session %s: result refused: %s", self.session, refusal.reason)
        self._fail_open_or_close(task.event, 502, refusal.code, refusal.reason)

    def _fail_open_or_close(self, event: Event | None, status: int, code: int, reason: str) -> None:
        if type(event) is Open:
            self.reject(status, (), reason.encode())
        else:
            self.model.drop_waiting()
            self.close(code, reason)

    def _take_verdict(self, event: Event | None, refused: Refused) -> None:
        if type(event) is Open:
            self.reject(refused.status, refused.headers, refused.body)
        else:
            self.model.drop_waiting()
            self.close(1011, f"backend answered {refused.status}")

    def _expire(self, event: Event | None, expired: Expired) -> None:
        if type(event) is Open:
            body = f"backend unavailable: {expired.last_error}\n".encode()
            self.reject(503, (("Retry-After", str(expired.retry_after_s)),), body)
        else:
            self.meters.events_expired.value += self.model.drop_waiting()
            self.close(1013, "backend unavailable", "expired")

    def reject(self, status: int, headers: Headers, body: bytes) -> None:
        self.model.rejected()
        self.connection.reject(status, headers, body)
        self._forget()

    # Changes to the row.

    def _commit(self, task: _Task, changes: Changes, actions: Sequence[Action], *, again: bool) -> None:
        self._waiting = True
        if not self.registered and self.model.phase is not Phase.DONE:
            # In front of the commit, and taken as done: a registration after it would write the row of before.
            self.register()
            self.registered = True
        future = self._services.store.commit(self._patch(changes))

        def done(answer: Future[Committed]) -> None:
            self._waiting = False
            error = StoreError("cancelled") if answer.cancelled() else answer.exception()
            if error is None:
                committed = answer.result()
                self.model.applied(changes, committed.version)
                self._set_alarms(changes)
                fresh = [a for a in actions if type(a) is Publish or a.id is None or a.id not in committed.repeated]
                task.steps.extend(self._with_answer(task.event, fresh))
            elif isinstance(error, FenceRefused) and again:
                self._reclaim(task, changes, actions)
                return
            else:
                # It may have reached Redis all the same. The model says what holds: the row is written again.
                self.registered = False
                task.failure = f"nothing of it was done: {error}"
                if type(task.event) is Open and self.model.phase is not Phase.DONE:
                    self.reject(503, (("Retry-After", "5"),), b"session store unavailable\n")
            self._run()

        future.add_done_callback(done)

    def _reclaim(self, task: _Task, changes: Changes, actions: Sequence[Action]) -> None:
        """Our write was refused. Either another edge owns the session, or Redis lost the row: then we put it back, if
        that has not been done meanwhile."""
        self._waiting = True

        def loaded(answer: Future[SessionRow | None]) -> None:
            self._waiting = False
            if answer.cancelled() or answer.exception() is not None:
                task.failure = "nothing of it was done: the session's row could not be read"
            elif self.model.phase is Phase.DONE:
                task.failure = "nothing of it was done: the session is over"
            elif (row := answer.result()) is not None and (row.owner, row.fence) != self._title():
                self.lose()
                task.failure = f"nothing of it was done: edge {row.owner} owns the session now"
            else:
                self.registered = row is not None  # if it is not there, the commit puts it back first
                self._commit(task, changes, actions, again=False)
                return
            self._run()

        self._services.store.load(self.session).add_done_callback(loaded)

    def _title(self) -> tuple[str, int]:
        """What the row says while the session is ours: owner and fence."""
        return self._services.edge_id, self.fence

    def _patch(self, changes: Changes) -> Patch:
        return Patch(
            session=self.session,
            fence=self.fence,
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

    def _set_alarms(self, changes: Changes) -> None:
        if self.model.phase in (Phase.ENDED, Phase.DONE):
            return
        alarms = self._alarms if self._alarms is not None else {}
        for name in changes.cancel_timers:
            alarm = alarms.pop(name, None)
            if alarm is not None:
                alarm.cancel()
        now = self._services.clock.wall_ms()
        for name, (due, _) in changes.set_timers.items():
            old = alarms.pop(name, None)
            if old is not None:
                old.cancel()
            alarms[name] = self._services.wheel.after(max(0, due - now), lambda name=name: self._ring(name))  # type: ignore[misc]
        self._alarms = alarms or None

    def _ring(self, name: str) -> None:
        if self._alarms is not None:
            self._alarms.pop(name, None)
        self._see_to(self.model.timer_due(name, self._services.clock.wall_ms()))

    # Ends of tasks, events and the session.

    def _finish(self, task: _Task) -> None:
        failure = task.failure
        if task.reply is not None:
            error: HoldfastError = Conflict(failure) if task.refused else StoreError(failure)
            if failure and self.model.phase is Phase.DONE:
                error = SessionGone(f"session {self.session} has ended: {failure}")
            task.reply(error if failure else None)
        elif failure:
            _log.warning("session %s: an answer could not be carried out: %s", self.session, failure)
            if task.event is not None:
                now = self._services.clock.wall_ms()
                self.model.result_refused(task.event.id, failure, now)
        if task.event is not None:
            self._settled(task.event)

    def _settled(self, event: Event) -> None:
        self._see_to(self.model.settled(event, self._limits()))
        if self.model.phase is Phase.DONE:
            self._forget()

    def _forget(self) -> None:
        """The session is over and its backend knows, or never knew of it."""
        if self._services.registry.remove(self):
            self.meters.sessions.value -= 1
            self._services.registry.forget(self._services, self.session, self.fence)

    def accepted(self) -> None:
        """The backend took the session (the executor says so, after the handshake was answered)."""
        if self.model.phase is not Phase.ABANDONED:
            self.model.accepted()
            return
        code, reason, clean, cause = self._ending or (1006, "", False, self._cause or "backend")
        now = self._services.clock.wall_ms()
        self.model.ended_while_opening(code, reason, clean=clean, cause=cause, now=now)

    def _see_to(self, flow: int) -> None:
        if flow & Flow.DELIVER:
            self._announce()
        if flow & Flow.PAUSE:
            self.meters.reading_paused.value += 1
            self.connection.pause_reading()
        elif flow & Flow.RESUME:
            self.meters.reading_paused.value -= 1
            self.connection.resume_reading()
        if flow & Flow.FINISH:
            self.connection.finish()
        elif flow & Flow.LEAVE:
            self.leave_now()

    def _announce(self) -> None:
        """Tell the deliverer that there are events, once, and not before everything taken earlier is settled."""
        model = self.model
        if self._announced or model.flying is not None or not model.queue or self._current is not None:
            return
        self._announced = True
        self._services.deliverer.ready(self)

    def _write_release(self) -> None:
        """Put the new release into the row, for operators and for whoever inherits the session. Nobody waits for it: a
        row that could not be written is put right by the next registration, and a newer owner is met by the next
        commit."""
        if self.registered:
            patch = Patch(session=self.session, fence=self.fence, release=self.model.release)
            self._services.store.commit(patch).add_done_callback(
                lambda answer: answer.cancelled() or answer.exception()
            )

    def _change_meters(self, release: str) -> None:
        """Gauges follow the session to its new release."""
        old, new = self.meters, self._services.metrics.route(self.handle.name, release)
        old.sessions.value -= 1
        new.sessions.value += 1
        if self.model.paused:
            old.reading_paused.value -= 1
            new.reading_paused.value += 1
        for channel in self.model.channels or ():
            self._services.hub.recount(channel)
        self.meters = new

    def _limits(self) -> LimitSettings:
        return self.handle.settings.limits


_CHOOSE_AGAIN = -1
FIRST_FENCE = 1
"""Fence of a session's first owner; whoever takes the session over gets a higher one."""


def _fit(reason: str) -> str:
    """`reason` cut to what a close frame can carry, on a character's border."""
    return reason.encode()[:CLOSE_REASON_BYTES].decode(errors="ignore")
