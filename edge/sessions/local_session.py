"""A session this process owns: the meeting point of its rules, its connection, its backend and its row.

It is the `ConnectionListener` of its transport, the `Mailbox` of the deliverer and a `Subscriber` of the hub. It
decides nothing itself: the rules are in `edge.model.session`, the order in which answers are carried out is its
agenda's (`edge.sessions.agenda`), and what each action does is in `edge.sessions.executor`.

An idle session holds no task, no timer and no lock. Longer than our other rooms because three ports meet in one object;
each method is short, and splitting it would part the fields they share.
"""

from __future__ import annotations

import logging
from asyncio import Future
from collections.abc import Callable, Sequence
from dataclasses import replace

from edge.backend.base import Expired, Outcome, Refused, Release
from edge.config import LimitSettings, RouteSettings
from edge.errors import FenceRefused, SessionGone
from edge.model.cohort import Subject
from edge.model.phases import Phase
from edge.model.session import Flow, Session
from edge.model.verdict import Changes, plain
from edge.protocol.callbacks.actions import Result
from edge.protocol.callbacks.events import Event, Headers, Message, Open, Parcel
from edge.sessions.agenda import Agenda, Reply
from edge.sessions.connection import Connection, Frame
from edge.sessions.detached import DETACHED
from edge.sessions.routes import RouteHandle
from edge.sessions.services import Services
from edge.store.base import Patch, Position, SessionRow, StoredTimer
from edge.telemetry.metrics import Counter, RouteMeters
from edge.wheel import Alarm

_log = logging.getLogger("holdfast.session")

NOTED_BYTES = 160
"""Of the body of a refused handshake, in the session's life."""
CLOSE_REASON_BYTES = 123
"""RFC 6455 §5.5: a control frame carries 125 bytes, two of them the code."""


class LocalSession:
    """See the module's docstring. Not thread-safe: everything happens on the loop's thread."""

    __slots__ = (
        "_agenda",
        "_alarms",
        "_announced",
        "_cause",
        "_chosen",
        "_chosen_at",
        "_congested",
        "_ending",
        "_leaving",
        "_services",
        "client",
        "connection",
        "fence",
        "handle",
        "matched",
        "meters",
        "model",
        "opened_at",
        "registered",
        "transport",
    )

    def __init__(
        self,
        id: str,
        services: Services,
        handle: RouteHandle,
        connection: Connection,
        matched: frozenset[str] = frozenset(),
    ) -> None:
        self._services = services
        self.handle = handle
        self.connection: Connection = connection
        self.matched = matched
        """Texts of the cohort rules that the handshake met."""
        subject = Subject(id, None, matched)
        release = self._chosen = services.releases.choose(handle.settings, subject, None, None, 0)
        self._chosen_at = services.releases.version
        self.model = Session(id, release.sha)
        self.meters: RouteMeters = services.metrics.route(handle.name, release.sha)
        self.transport = ""
        self.client = ""
        self.opened_at = 0
        self.fence = FIRST_FENCE
        self.registered = False
        """The store has this session's row, and as the model knows it."""
        self._agenda: Agenda | None = None
        """Answers that are being carried out, while there are any."""
        self._cause: str | None = None
        """Why we closed the connection, when the transport cannot know."""
        self._congested = False
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
        session.note("inherited", f"edge {row.owner} died; this one tells the backend of the end")
        return session

    def report(self) -> None:
        """Tell the backend what waits in the queue (of an inherited session: its end)."""
        self._announce()

    # ConnectionListener: what the transport tells.

    def received(self, payload: str | bytes) -> None:
        flow = self.model.received(payload, self._services.clock.wall_ms(), self._limits())
        if flow:
            self._see_to(flow)

    def pinged(self, payload: bytes) -> None:
        """Answered by the transport: callbacks know no control frames."""

    def ponged(self, payload: bytes) -> None:
        """See `pinged`."""

    def congested(self, yes: bool) -> None:
        self._congested = yes
        if not yes:
            self._announce()

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
        self._congested = False
        self.connection = DETACHED
        self.note("close", f"{cause}: code {code}{f' {reason}' if reason else ''}, {'clean' if clean else 'not clean'}")
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
            self._chosen = self._choose(stay=True)
        return self._chosen

    @property
    def settling(self) -> bool:
        return self._agenda is not None

    def take(self, max_events: int, max_bytes: int) -> Parcel:
        model = self.model
        self._announced = False
        self._follow()
        events = model.take(max_events, max_bytes)
        return Parcel(model.id, model.release, model.user, model.state or {}, model.version, 1, events)

    def refresh(self, parcel: Parcel) -> Parcel:
        model = self.model
        return replace(parcel, user=model.user, state=model.state or {}, version=model.version)

    def settle(self, outcomes: Sequence[tuple[Event, Outcome]]) -> None:
        for event, outcome in outcomes:
            if type(event) is Message and type(outcome) is Result and self._agenda is None and plain(outcome):
                # The hot path: nothing to ask anybody, nothing to wait for.
                connection = self.connection
                for action in outcome.actions:
                    connection.send(Frame(action.payload), owed=True)  # type: ignore[union-attr]
                self.settled(event)
            else:
                self._do(event, outcome, None)

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

    def refused(self, event: Event, failure: str) -> None:
        """Something of the answer to `event`, settled long ago, could not be carried out: its backend is told."""
        self.note("refused", f"of the answer to {event.id}: {failure}")
        self._see_to(self.model.result_refused(event.id, failure, self._services.clock.wall_ms()))

    def put_back(self) -> Future[None] | None:
        """Write the row again, unless a change of it may be on its way, which this would undo: None, and later then."""
        if self._agenda is not None and self._agenda.waiting:
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
        self._do(None, result, reply)

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

    def move(self, *, stay: bool) -> bool:
        """Go to the release that is chosen for this session now, and tell the backend there, also when nothing else
        happens. Not `stay`: it is its turn to leave one that is being emptied. False: it is where it belongs."""
        if self.model.phase is not Phase.LIVE:
            return False
        self._chosen_at = self._services.releases.version
        self._chosen = self._choose(stay=stay)
        if not self._follow():
            return False
        self._announce()
        return True

    def notify(self, text: str) -> None:
        """Send the client a message that its backend did not send: an operator's notice."""
        if self.model.phase is Phase.LIVE:
            self.connection.send(Frame(text))

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
        self.note("moved", "another edge owns the session now: this one had lost its lease")
        self.model.lost()
        connection, self.connection = self.connection, DETACHED
        if self._services.registry.remove(self):
            self.meters.sessions.value -= 1
        self._let_go()
        connection.close(1012, "session moved: this edge lost its lease")

    def note(self, what: str, detail: str) -> None:
        """A rare fact, for people who ask why (`edge.sessions.journal`)."""
        services = self._services
        services.journal.note(services.clock.wall_ms(), self.model.id, what, detail)

    def _let_go(self) -> None:
        """No more publications and no more timers: there is nobody left to get them."""
        for channel in self.model.channels or ():
            self._services.hub.unsubscribe(self, channel)
        if self._alarms is not None:
            for alarm in self._alarms.values():
                alarm.cancel()
            self._alarms = None

    # Outcomes that are no result (the agenda calls these).

    def fail(self, event: Event | None, code: int, reason: str) -> None:
        """The backend's answer to `event` does not hold: the session is over. Of a handshake: 502."""
        self.note("refused", f"the answer of release {self.model.release} does not hold: {reason}")
        if type(event) is Open:
            self.reject(502, (), reason.encode())
        else:
            self.model.drop_waiting()
            self.close(code, reason)

    def take_verdict(self, event: Event | None, refused: Refused) -> None:
        """The backend refused `event` with a 4xx."""
        self.note("refused", f"release {self.model.release} answered {refused.status}")
        if type(event) is Open:
            self.reject(refused.status, refused.headers, refused.body)
        else:
            self.model.drop_waiting()
            self.close(1011, f"backend answered {refused.status}")

    def expire(self, event: Event | None, expired: Expired) -> None:
        """Nobody answered within the retry window."""
        if type(event) is Open:
            body = f"backend unavailable: {expired.last_error}\n".encode()
            self.reject(503, (("Retry-After", str(expired.retry_after_s)),), body)
        else:
            self.meters.events_expired.value += (dropped := self.model.drop_waiting())
            self.note("drop", f"no answer in time, and {dropped} more events with it: {expired.last_error}")
            self.close(1013, "backend unavailable", "expired")

    def reject(self, status: int, headers: Headers, body: bytes) -> None:
        """Refuse the handshake: the session never was."""
        said = body[:NOTED_BYTES].decode(errors="replace").strip()
        self.note("handshake", f"rejected with {status} by way of release {self.model.release}: {said or 'no text'}")
        self.model.rejected()
        self.connection.reject(status, headers, body)
        self._forget()

    # Changes to the row.

    def applied(self, changes: Changes, version: int) -> None:
        """The store has accepted `changes`."""
        self.model.applied(changes, version)
        if changes.pinned is not None or changes.user is not None:
            self._chosen_at = _CHOOSE_AGAIN
        self._set_alarms(changes)

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

    # Ends of events and of the session.

    def _do(self, event: Event | None, outcome: Outcome, reply: Reply | None) -> None:
        """Carry out an outcome when those before it are done."""
        if self._agenda is None:
            self._agenda = Agenda(self, self._services)
            self._agenda.add(event, outcome, reply)
            self._agenda.run()
        else:
            self._agenda.add(event, outcome, reply)

    def agenda_done(self) -> None:
        """Everything is carried out: the next events may go."""
        self._agenda = None
        self._announce()

    def settled(self, event: Event) -> None:
        """The outcome of `event` has been carried out."""
        flow = self.model.settled(event, self._limits())
        if flow & Flow.DELIVER and self.model.flying is None:
            # The client has asked for more already. Whether it takes the answers decides when it is asked about.
            self.connection.flush()
        self._see_to(flow)
        if self.model.phase is _DONE:
            self._forget()

    def _forget(self) -> None:
        """The session is over and its backend knows, or never knew of it."""
        if self._services.registry.remove(self):
            self.meters.sessions.value -= 1
            self._services.registry.forget(self._services, self.session, self.fence)

    def accepted(self) -> None:
        """The backend took the session (the executor says so, after the handshake was answered)."""
        took_ms = self._services.clock.wall_ms() - self.opened_at
        where = f"{self.transport} from {self.client} on route {self.handle.name}"
        self.note("handshake", f"accepted by release {self.model.release} in {took_ms} ms: {where}")
        if self.model.phase is not Phase.ABANDONED:
            self.model.accepted()
            self._follow()  # releases may have changed meanwhile, and a walk past us does not touch a handshake
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
        """Tell the deliverer that there are events, once, and not before everything taken earlier is settled. Nor while
        the client is behind with taking answers: more of them would only pile up, and then cost it its connection."""
        model = self.model
        if self._announced or model.flying is not None or not model.queue or self._agenda is not None:
            return
        if self._congested and model.phase is Phase.LIVE:
            return
        self._announced = True
        self._services.deliverer.ready(self)

    def _choose(self, *, stay: bool) -> Release:
        model, services = self.model, self._services
        subject = Subject(model.id, model.user, self.matched)
        now = services.clock.wall_ms()
        return services.releases.choose(self.handle.settings, subject, model.pinned, model.release, now, stay=stay)

    def _follow(self) -> bool:
        """Be on the release that was chosen. False: it is."""
        release, model = self.release.sha, self.model
        if release == model.release:
            return False
        self.note("release", f"from {model.release} to {release}")
        model.moved(release, self._services.clock.wall_ms())
        self._change_meters(release)
        self._write_release()
        return True

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
_DONE = Phase.DONE
FIRST_FENCE = 1
"""Fence of a session's first owner; whoever takes the session over gets a higher one."""


def _fit(reason: str) -> str:
    """`reason` cut to what a close frame can carry, on a character's border."""
    return reason.encode()[:CLOSE_REASON_BYTES].decode(errors="ignore")
