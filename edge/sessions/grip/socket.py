"""A client's WebSocket whose backend speaks HTTP: the meeting point of its rules, its connection and its backend.

It is the `ConnectionListener` of its transport, the `Asker` of its requests, a `Member` of channels and `Held` by a
drain. What may be asked when is ruled by `edge.model.grip_socket`, what failures mean by `edge.model.grip_failures`.
The handshake is `edge.sessions.grip.opening`'s; what the backend has ordered to stay in force is kept by
`edge.sessions.grip.standing`.

An idle connection holds no task, no timer and no lock, only the bytes every request of it begins with. Longer than our
other rooms because four ports meet in one object; each method is short.
"""

from __future__ import annotations

import logging
from asyncio import Future
from collections.abc import Mapping

from edge.backend.http11 import Answer
from edge.backend.origin_base import Unanswered
from edge.errors import WireError
from edge.model.grip_failures import Again, GiveUp, Reject, refused, unanswered
from edge.model.grip_phases import GripFact, GripPhase
from edge.model.grip_socket import Dialogue
from edge.model.retry import retry_after_ms
from edge.protocol.callbacks.events import ClientRequest
from edge.protocol.grip.answer_fields import PLAIN, answer_fields
from edge.protocol.grip.control import PREFIX, Detach, parse_control
from edge.protocol.grip.forwarding import event_request_rest
from edge.protocol.grip.items import FrameKind, Item
from edge.protocol.grip.socket_events import SocketEvent, close_content, decode_events, read_close, sendable_code
from edge.sessions.connection import Connection, Frame
from edge.sessions.detached import DETACHED
from edge.sessions.grip.opening import Opening
from edge.sessions.grip.ports import Delivery, MemberKind
from edge.sessions.grip.services import GripServices
from edge.sessions.grip.standing import Standing
from edge.sessions.grip.standstill import LONGEST_MS, Standstill
from edge.sessions.grip.targets import subject_of
from edge.sessions.grip.ways import Way
from edge.sessions.routes import RouteHandle
from edge.wheel import Alarm

_log = logging.getLogger("holdfast.grip")

CONTROL_BYTES = 125
CLOSE_REASON_BYTES = 123
"""RFC 6455 §5.5: a control frame carries 125 bytes, two of them the code."""

_LIVE, _OVER = GripPhase.LIVE, GripPhase.OVER
_VIOLATIONS = frozenset((1002, 1007, 1008, 1009))
"""With these the transport ends a connection itself; a client says none of them in good order."""


class GripSocket:
    """See the module's docstring. Not thread-safe: everything happens on the loop's thread."""

    __slots__ = (
        "_cause",
        "_closing",
        "_detached",
        "_done",
        "_handle",
        "_leaving",
        "_paused",
        "_poll",
        "_poll_ms",
        "_services",
        "_standing",
        "_standstill",
        "client",
        "connection",
        "dialogue",
        "marker",
        "number",
        "opening",
        "prefix",
        "subject",
        "way",
    )

    way: Way
    """To the target the connection is with."""

    def __init__(
        self, services: GripServices, route: RouteHandle, connection: Connection, request: ClientRequest
    ) -> None:
        self._services = services
        self._handle = route
        self.connection: Connection = connection
        self.client = request.client
        self.subject = subject_of(route.settings, services.releases, request)
        self.dialogue = Dialogue()
        self.prefix = b""
        """What every request begins with."""
        self.number = 0
        """Which of the route's targets that is."""
        self.marker: bytes | None = None
        """What messages of the backend begin with beside its orders; None: it gives no orders."""
        self.opening: Opening | None = Opening(services, route, request, self)
        self._standing: Standing | None = None
        self._standstill: Standstill | None = None
        self._poll: Alarm | None = None
        self._poll_ms = 0
        self._paused = False
        self._detached = False
        self._closing = False
        """Somebody has said goodbye to the client, or the client to us."""
        self._cause: str | None = None
        """Why we closed the connection, when the transport cannot know."""
        self._leaving: tuple[int, str, str] | None = None
        self._done = False

    def begin(self) -> None:
        """Tell the backend."""
        self._services.held.add(self)
        self._handle.meters.sessions.value += 1
        assert self.opening is not None
        self.opening.try_next()

    # ConnectionListener: what the transport tells.

    def received(self, payload: str | bytes) -> None:
        if type(payload) is not str:
            self._hear(SocketEvent("BINARY", payload))  # type: ignore[arg-type]
            return
        content = payload.encode()
        event = SocketEvent("TEXT", content)
        if self.dialogue.takes_alone(event):
            self._send(b"TEXT %x\r\n%b\r\n" % (len(content), content))  # `encode_events`, written out
        else:
            self._hear(event)

    def pinged(self, payload: bytes) -> None:
        self._hear(SocketEvent("PING", payload or None))

    def ponged(self, payload: bytes) -> None:
        self._hear(SocketEvent("PONG", payload or None))

    def _hear(self, event: SocketEvent) -> None:
        dialogue = self.dialogue
        if dialogue.heard(event):
            self.ask()
        elif not self._paused and dialogue.full(self.way.buffer_bytes):
            self._paused = True
            self._handle.meters.reading_paused.value += 1
            self.connection.pause_reading()

    def congested(self, yes: bool) -> None:
        dialogue = self.dialogue
        dialogue.congested = yes
        if not yes and dialogue.ready:
            self.ask()

    def closing(self, code: int, reason: str) -> None:
        self._closing = True
        dialogue = self.dialogue
        if self._detached:
            self.connection.finish()
            return
        if code in _VIOLATIONS:
            dialogue.move(GripFact.VANISHED)
        else:
            dialogue.said_goodbye(close_content(None if code == 1005 else code, reason))
        self._go_on()

    def ended(self, code: int, reason: str, *, clean: bool, cause: str) -> None:
        dialogue, meters = self.dialogue, self._handle.meters
        if cause == "backend" and self._cause is not None:
            cause = self._cause
        if self.opening is None:
            meters.connections_closed[cause].value += 1
            if cause == "slow":
                _log.warning(
                    "route %s, client %s: closed, because it took nothing while more than limits.outbox_bytes waited "
                    "for it", self._handle.name, self.client,
                )  # fmt: skip
        if self._paused:
            self._paused = False
            meters.reading_paused.value -= 1
        if self._standing is not None:
            self._standing.end()
        self.connection = DETACHED
        self._closing = True
        dialogue.congested = False
        if dialogue.phase is GripPhase.CLOSED and clean:
            dialogue.said_goodbye(close_content(code, reason))
        else:
            dialogue.move(GripFact.VANISHED)
        self._go_on()

    # Asker: what became of a request.

    def answered(self, answer: Answer) -> None:
        dialogue, headers = self.dialogue, answer.headers
        if dialogue.phase is not _LIVE or self.way.plain.get(id(headers)) is not headers or answer.status != 200:
            self._answered(answer)
            return
        # The hot path: a live connection whose backend says nothing but what is in the events.
        try:
            events = decode_events(answer.body)
        except WireError as error:
            self.break_off("backend's events are malformed", error)
            return
        self._count_delivered(dialogue.sent)
        dialogue.accept_all()
        if events and not self.carry_out(events):
            return
        if self._paused or self._leaving is not None or not dialogue.rests():
            self.settle()

    def _answered(self, answer: Answer) -> None:
        """Any answer. Once understood, headers that say nothing are known when they come again."""
        fields = answer_fields(answer.headers)
        if fields is PLAIN:
            self.way.remember_plain(answer.headers)
        if answer.status != 200 or not fields.events:
            self._refused(answer)
            return
        try:
            events = decode_events(answer.body)
        except WireError as error:
            self.break_off("backend's events are malformed", error)
            return
        dialogue = self.dialogue
        self._count_delivered(dialogue.sent)
        problem = dialogue.answered(fields, self.way.buffer_bytes)
        if problem is not None:
            self.break_off(problem, "Content-Bytes-Accepted")
        elif self.opening is not None:
            self.opening.answered(answer, events)
        elif not events or self._detached or self.carry_out(events):
            self.settle()

    def _count_delivered(self, events: int) -> None:
        meters = self._handle.meters
        meters.events_delivered.value += events
        if events:
            meters.batch_size.observe(events)

    def unanswered(self, failure: Unanswered) -> None:
        dialogue = self.dialogue
        if self.opening is not None:
            self.opening.unanswered(failure)
            return
        verdict = unanswered(
            failure.kind,
            sent=failure.sent,
            failures=dialogue.failures,
            retry_unanswered=self._handle.settings.grip.retry_unanswered,
            random=self._services.random,
        )
        self._see_to(verdict, failure.phrase)

    def _refused(self, answer: Answer) -> None:
        """An answer that is no answer to events."""
        dialogue = self.dialogue
        if self.opening is not None and dialogue.phase is GripPhase.OPENING:
            self.opening.refused(answer)
        elif self.opening is not None or dialogue.disconnecting:
            self.fail()
        elif answer.status == 200:
            self.break_off("backend's answer is not application/websocket-events", answer.header(b"content-type"))
        else:
            wall_ms = self._services.clock.wall_ms()
            after_ms = retry_after_ms(answer.header(b"retry-after"), wall_ms)
            verdict = refused(answer.status, failures=dialogue.failures, retry_after_ms=after_ms)
            self._see_to(verdict, f"status {answer.status}")

    def _see_to(self, verdict: Again | GiveUp, detail: object) -> None:
        if isinstance(verdict, GiveUp):
            self._give_up(verdict, detail)
            return
        dialogue = self.dialogue
        dialogue.failures += 1
        self._handle.meters.events_retried.value += max(1, dialogue.sent)
        self._services.wheel.after(verdict.after_ms, self._again)

    def _again(self) -> None:
        if self.dialogue.phase is not _OVER:
            self._send(self.dialogue.again())

    # Requests.

    def ask(self) -> None:
        self._send(self.dialogue.take())

    def _send(self, body: bytes) -> None:
        way = self.way
        if way.version != self._services.releases.version:
            way = self._find_way_again()
        dialogue = self.dialogue
        if dialogue.meta is None and dialogue.replayed == 0:
            rest = (way.rest or way.sign()) % (len(body), body)
        else:
            meta = tuple(dialogue.meta.values()) if dialogue.meta else ()
            rest = event_request_rest(way.token(), meta, dialogue.replayed, body)
        way.origin.ask(self.prefix + rest, self, way.timeout_s)

    def _find_way_again(self) -> Way:
        """Releases or settings have changed: the target may be elsewhere now."""
        ways, old = self._services.ways, self.way
        way = ways.of(self._handle, self.number, self.subject) or ways.of(self._handle, 0, self.subject) or old
        start = b"POST " + old.before
        if way.before != old.before and self.prefix.startswith(start):
            self.prefix = b"POST " + way.before + self.prefix[len(start) :]
        self.way = way
        return way

    # Answers.

    def carry_out(self, events: list[SocketEvent]) -> bool:
        """What an answer tells the client, in order. True: it is settled; False: it waits, or broke the connection."""
        marker, connection = self.marker, self.connection
        for number, event in enumerate(events, 1):
            kind, content = event.kind, event.content or b""
            if kind == "TEXT" or kind == "BINARY":
                if marker is not None:
                    if kind == "TEXT" and content.startswith(PREFIX):
                        join = self._obey(content)
                        if join is not None:
                            self.stand_still([join], events[number:])
                            return False
                        continue
                    if not content.startswith(marker):
                        continue  # as in Pushpin: neither an order nor a message
                    content = content[len(marker) :]
                if kind == "BINARY":
                    connection.send(Frame(content), owed=True)
                    continue
                try:
                    connection.send(Frame(content.decode()), owed=True)
                except UnicodeDecodeError as error:
                    self.break_off("backend sent text that is not UTF-8", error)
                    return False
            elif kind == "PING":
                connection.ping(content[:CONTROL_BYTES])
            elif kind == "PONG":
                connection.pong(content[:CONTROL_BYTES])
            elif kind == "CLOSE":
                self.dialogue.move(GripFact.BACKEND_CLOSED)
                self._close(*read_close(event.content))
                break
            elif kind == "DISCONNECT":
                self.dialogue.move(GripFact.FAILED)
                self._closing = True
                connection.drop()
                self._wrap_up()
                return False
            elif kind == "OPEN":
                self.break_off("backend sent OPEN again", "events")
                return False
        if self._standing is not None and events:
            self._standing.sent()
        return True

    def _obey(self, content: bytes) -> Future[None] | None:
        """Carry out an order of the backend's. What is wrong with it is said to people, and ends nothing."""
        try:
            order = parse_control(content)
        except WireError as error:
            self.count_bad("malformed control message", error)
            return None
        if order is None:
            self.count_bad("unknown control message", content[:80])
        elif self.connection is DETACHED:
            pass
        elif type(order) is not Detach:
            return self.orders().obey(order)
        elif not self._detached:
            self._detached = True
            self.dialogue.said_goodbye(None)
        return None

    def orders(self) -> Standing:
        if self._standing is None:
            self._standing = Standing(self._services, self._handle, self, self.client)
        return self._standing

    def stand_still(self, joins: list[Future[None]], events: list[SocketEvent]) -> None:
        """Carry on when all of `joins` stand, or it takes too long."""
        still = self._standstill = Standstill(events, len(joins))
        still.alarm = self._services.wheel.after(LONGEST_MS, lambda: self._carry_on(still))

        def stood(_: Future[None]) -> None:
            if still.stood():
                self._carry_on(still)

        for join in joins:
            join.add_done_callback(stood)

    def _carry_on(self, still: Standstill) -> None:
        if self._standstill is not still:
            return
        self._standstill = None
        still.end()
        opening = self.opening
        done = self.carry_out(still.events) if opening is None else opening.let_in(still.events)
        again: Standstill | None = self._standstill
        if again is not None:
            again.deliveries = still.deliveries
        else:
            for delivery in still.deliveries:
                self.deliver(delivery)
        if done:
            self.settle()

    def settle(self) -> None:
        """The answer has been carried out: what comes next?"""
        dialogue = self.dialogue
        if dialogue.settled():
            # The client has said more already. Whether it takes what it was answered decides when it is asked about.
            self.connection.flush()
            if dialogue.ready:
                self.ask()
        if self._paused and self._leaving is None and not dialogue.full(self.way.buffer_bytes):
            self._paused = False
            self._handle.meters.reading_paused.value -= 1
            self.connection.resume_reading()
        if dialogue.interval_s:
            self._poll_ms = self._services.clock.monotonic_ms() + dialogue.interval_s * 1_000
            if self._poll is None:
                self._poll = self._services.wheel.at(self._poll_ms, self._poll_due)
        if dialogue.phase is not _LIVE:
            self._wrap_up()
        elif self._leaving is not None and dialogue.idle:
            self.leave_now()

    def _poll_due(self) -> None:
        """The timer starts anew with every answer; the alarm stays where it is, and looks when it rings."""
        self._poll = None
        dialogue = self.dialogue
        if dialogue.interval_s and self._services.clock.monotonic_ms() < self._poll_ms:
            self._poll = self._services.wheel.at(self._poll_ms, self._poll_due)
        elif dialogue.poll():
            self.ask()

    # Member: what channels tell.

    @property
    def kind(self) -> MemberKind:
        return "socket"

    @property
    def meta(self) -> Mapping[str, str]:
        return self.orders().meta

    @property
    def channels(self) -> Mapping[str, None]:
        return self.orders().channels

    @property
    def route(self) -> str:
        return self._handle.name

    def deliver(self, delivery: Delivery) -> None:
        still = self._standstill
        if still is not None:
            if not still.keep(delivery):
                self._carry_on(still)
            return
        published = delivery.item.socket
        assert published is not None
        if published.action == "send":
            if delivery.frame is not None:
                self.connection.send(delivery.frame)
                if self._standing is not None:
                    self._standing.sent()
            else:
                self.show(published.kind, published.content)
        elif published.action == "refresh":
            if self.dialogue.refresh():
                self.ask()
        else:
            self.dismiss(sendable_code(published.code), published.reason)

    def skipped(self, item: Item, problem: str | None = None) -> None:
        if problem is not None and self._handle.settings.grip.debug:
            self.dismiss(1011, problem)

    def missed(self, channel: str) -> None:
        """WebSockets have no ids to continue from: their backends are not asked, as behind Pushpin."""

    def show(self, kind: FrameKind, content: str | bytes) -> None:
        """Send a frame that is nobody's answer: published, kept alive with, or delayed."""
        if kind == "text" or kind == "binary":
            self.connection.send(Frame(content))
        else:
            data = content.encode() if isinstance(content, str) else content
            (self.connection.ping if kind == "ping" else self.connection.pong)(data[:CONTROL_BYTES])
        if self._standing is not None:
            self._standing.sent()

    # Held: what a drain asks.

    @property
    def closable(self) -> bool:
        return not self._closing and self._leaving is None

    def leave(self, code: int, reason: str, cause: str) -> None:
        if not self.closable:
            return
        self._leaving = (code, reason, cause)
        if self.opening is not None or self._detached or self.dialogue.idle:
            self.leave_now()
        else:
            self.connection.pause_reading()

    def leave_now(self) -> None:
        if self._leaving is not None and not self._closing:
            code, reason, self._cause = self._leaving
            self._close(code, reason)

    # Ends.

    def dismiss(self, code: int, reason: str) -> None:
        """Neither side has ended the connection: both hear of it at once."""
        if not self._closing:
            if not self._detached:
                self.dialogue.said_goodbye(None)
            self._close(code, reason)
            self._go_on()

    def _close(self, code: int, reason: str) -> None:
        """Close the client's connection behind everything it is owed."""
        if self._standing is not None:
            self._standing.flush()
        self._closing = True
        self.connection.close(code, reason.encode()[:CLOSE_REASON_BYTES].decode(errors="ignore"))

    def break_off(self, problem: str, detail: object) -> None:
        """The backend's answer does not hold."""
        self._handle.meters.bad_results.value += 1
        self._give_up(GiveUp(1011, problem), detail)

    def _give_up(self, verdict: GiveUp, detail: object) -> None:
        self.complain(verdict.reason, detail)
        if self.opening is not None and self.dialogue.phase is GripPhase.OPENING:
            self.opening.reject(Reject(502, f"Error while proxying to origin: {verdict.reason}."), detail)
            return
        self.dialogue.move(GripFact.FAILED)
        if not self._detached:
            self._close(verdict.code, verdict.reason)
        self._wrap_up()

    def fail(self) -> None:
        self.dialogue.move(GripFact.FAILED)
        self._wrap_up()

    def _go_on(self) -> None:
        """Something was said beside the client's messages: ask, or see whether all is said."""
        if self.dialogue.ready:
            self.ask()
        else:
            self._wrap_up()

    def _wrap_up(self) -> None:
        """Where nothing is left to say to the backend, let the client go; and when it has, forget the connection."""
        if self.dialogue.phase is not _OVER:
            return
        self.connection.finish()
        if self.connection is DETACHED and not self._done:
            self._done = True
            if self._poll is not None:
                self._poll.cancel()
            self._services.held.remove(self)
            self._handle.meters.sessions.value -= 1

    def count_bad(self, problem: str, detail: object) -> None:
        self._handle.meters.bad_results.value += 1
        self.complain(problem, detail)

    def complain(self, problem: str, detail: object) -> None:
        self.way.complain(self._handle.name, problem, detail, self._services.clock.monotonic_ms())
