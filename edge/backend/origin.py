"""One backend of GRIP routes with its kept connections: who goes next, and when another connection is opened.

The usual request takes an idle connection (the one used last, so that those too many fall idle and close) and costs a
handful of calls: no task, no future, no alarm of its own. Only what finds no idle connection waits, in order, for one
that is being opened or falls idle. Nothing here is tried again but what met a connection that the backend had closed.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import AbstractEventLoop
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from edge.backend.heads import KnownHeads
from edge.backend.http11 import Answer, AnswerLimits, ConnectionOwner, Failure, HttpConnection
from edge.backend.origin_base import AnswerListener, Asker, Unanswered, Upstream
from edge.backend.stream11 import StreamExchange
from edge.clock import Clock
from edge.config import RouteSettings
from edge.errors import BackendError
from edge.telemetry.metrics import Metrics
from edge.wheel import Alarm, Wheel

_log = logging.getLogger("holdfast.backend")

DIALS_MOST = 64
"""Connections being opened at once: a burst must not overflow a backend's queue of connections to accept (128 in many
servers), where each one lost costs a second."""
WAITING_MOST = 65_536
"""Requests that may wait for a connection; past it the oldest are told ``full``."""
HEADER_BYTES = 65_536


@dataclass(slots=True, eq=False)
class OriginContext:
    """What every origin is given from outside."""

    clock: Clock
    wheel: Wheel
    loop: AbstractEventLoop
    metrics: Metrics


class Dials(Protocol):
    """What opens connections: a `Dialer`, or what stands in for one where settings lead nowhere."""

    async def dial(self, make: Callable[[], AskConnection], connect_s: float) -> AskConnection: ...


class Waiting(Protocol):
    """A request that waits for a connection."""

    since_ms: int

    def start(self, connection: AskConnection) -> None:
        """Here is one."""
        ...

    def refuse(self, failure: Unanswered) -> None:
        """There is none."""
        ...


class AskConnection(HttpConnection):
    """A connection, and whose whole request it carries. `asker`: None when nobody cares; `request`: empty while it
    carries none; `left_before`: one that had left on another connection already."""

    __slots__ = ("asker", "left_before", "request")

    asker: Asker | None
    request: bytes
    left_before: bytes | None


class WaitingAsk:
    """A whole request that waits. `before`: what became of it on a kept connection. If it had left, that stays what is
    to be told should there be no new one: the backend may have acted on it."""

    __slots__ = ("_before", "_origin", "_request", "_timeout_ms", "asker", "since_ms")

    def __init__(
        self, origin: BackendOrigin, request: bytes, asker: Asker, timeout_ms: int, before: Unanswered | None = None
    ) -> None:
        self._origin = origin
        self._request = request
        self._timeout_ms = timeout_ms
        self._before = before
        self.asker = asker
        self.since_ms = 0

    def start(self, connection: AskConnection) -> None:
        if self._before is not None and self._before.sent:
            connection.left_before = self._request
        self._origin.ask_on(connection, self._request, self.asker, self._timeout_ms)

    def refuse(self, failure: Unanswered) -> None:
        before = self._before
        self._origin.tell(self.asker, before if before is not None and before.sent else failure)


class BackendOrigin:
    """Implements `edge.backend.origin_base.Origin`, and owns its connections (`ConnectionOwner`, `stream11.Lender`)."""

    __slots__ = (
        "__weakref__",
        "_again",
        "_alarm",
        "_closed",
        "_connect_phrase",
        "_connections",
        "_context",
        "_dialer",
        "_dialing",
        "_dials",
        "_heads",
        "_idle",
        "_in_flight",
        "_limits",
        "_meters",
        "_now_ms",
        "_observe",
        "_requests",
        "_route",
        "_waiting",
        "used_ms",
    )

    def __init__(self, context: OriginContext, route: RouteSettings, dialer: Dials) -> None:
        self._context = context
        self._now_ms = context.clock.monotonic_ms
        self._dialer = dialer
        self._meters = meters = context.metrics.route(route.name, "")
        self._requests = meters.requests
        self._in_flight = meters.in_flight
        self._observe = meters.request_seconds.observe
        self._idle: list[AskConnection] = []
        self._connections: set[AskConnection] = set()
        # Both in the order they came, by the identity of asker or stream, so that any of them can be forgotten.
        self._waiting: OrderedDict[int, Waiting] = OrderedDict()
        self._again: OrderedDict[int, Waiting] = OrderedDict()
        """What met a connection that the backend had closed: only a new one will do."""
        self._dials: set[asyncio.Task[None]] = set()
        self._dialing = 0
        self._connect_phrase = ""
        """Why the last connection was not opened; empty: it was."""
        self._alarm: Alarm | None = None
        self._closed = False
        self._heads = KnownHeads()
        self.used_ms = self._now_ms()
        self._route = route
        self._limits = AnswerLimits(body_bytes=route.grip.answer_bytes, header_bytes=HEADER_BYTES)

    # -- what callers ask --------------------------------------------------------------------------------------

    def ask(self, request: bytes, asker: Asker, timeout_s: float) -> None:
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.usable:
                self.ask_on(connection, request, asker, int(timeout_s * 1000))
                return
        self._wait(id(asker), WaitingAsk(self, request, asker, int(timeout_s * 1000)))

    def forget(self, asker: Asker) -> None:
        key = id(asker)
        if self._waiting.pop(key, None) is None and self._again.pop(key, None) is None:
            for connection in self._connections:
                if connection.asker is asker:
                    connection.asker = None

    def stream(self, head: bytes, listener: AnswerListener, silence_s: float) -> Upstream:
        exchange = StreamExchange(self, self._context.clock, self._context.wheel, head, listener, silence_s)
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.usable:
                exchange.start(connection)
                return exchange
        self._wait(id(exchange), exchange)
        return exchange

    # -- what the table of origins asks ------------------------------------------------------------------------

    def update(self, route: RouteSettings) -> None:
        """The route's settings may have changed (a reload)."""
        if route is self._route:
            return
        self._route = route
        limits = AnswerLimits(body_bytes=route.grip.answer_bytes, header_bytes=HEADER_BYTES)
        if limits != self._limits:
            self._limits = limits
            self._heads.clear()
            for connection in self._connections:
                connection.limits = limits

    @property
    def quiet(self) -> bool:
        """Nothing is under way and nothing waits."""
        return not (self._waiting or self._again or self._dialing) and len(self._idle) == len(self._connections)

    def hang_up(self) -> None:
        """Nobody has asked for long: close what is idle. Whoever asks later gets a new connection."""
        for connection in list(self._idle):
            connection.close()

    def close(self) -> None:
        """Close all connections. What is under way or waits fails with kind ``closed``."""
        self._closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        for task in self._dials:
            task.cancel()
        for connection in list(self._connections):
            connection.close()
        self._refuse_all()

    # -- inside: requests --------------------------------------------------------------------------------------

    def ask_on(self, connection: AskConnection, request: bytes, asker: Asker, timeout_ms: int) -> None:
        self.used_ms = now = self._now_ms()
        connection.asker = asker
        connection.request = request
        self._requests.value += 1
        self._in_flight.value += 1
        connection.send(request, now, now + timeout_ms)

    def tell(self, asker: Asker, failure: Unanswered) -> None:
        """Tell `asker`; a mistake of one must not end the others' requests."""
        self._meters.request_failures[failure.kind].value += 1
        try:
            asker.unanswered(failure)
        except Exception:
            _log.exception("route %s: a failed request could not be told", self._route.name)

    # -- inside: who waits -------------------------------------------------------------------------------------

    def _wait(self, key: int, entry: Waiting, *, again: bool = False) -> None:
        self.used_ms = entry.since_ms = self._now_ms()
        (self._again if again else self._waiting)[key] = entry
        if self._closed:
            self._context.loop.call_soon(self._refuse_all)
            return
        if len(self._waiting) > WAITING_MOST:
            self._context.loop.call_soon(self._shed)
        if self._alarm is None:
            self._alarm = self._context.wheel.at(entry.since_ms + self._patience_ms, self._expire)
        self._dial_more()

    def _offer(self, connection: AskConnection, *, new: bool = False) -> None:
        """A connection is free: for the next who waits."""
        if new and self._again:
            self._again.popitem(last=False)[1].start(connection)
        elif self._waiting:
            self._waiting.popitem(last=False)[1].start(connection)
        else:
            self._idle.append(connection)

    @property
    def _patience_ms(self) -> int:
        return round(self._route.timeouts.connect_s * 1000)

    def _expire(self) -> None:
        """Those who have waited for too long are told so."""
        self._alarm = None
        now = self._now_ms()
        due = now - self._patience_ms
        for queue in (self._again, self._waiting):
            while queue and next(iter(queue.values())).since_ms <= due:
                queue.popitem(last=False)[1].refuse(self._too_late())
        oldest = [next(iter(queue.values())).since_ms for queue in (self._again, self._waiting) if queue]
        if oldest and self._alarm is None:
            self._alarm = self._context.wheel.at(min(oldest) + self._patience_ms, self._expire)

    def _too_late(self) -> Unanswered:
        if self._connect_phrase:
            return Unanswered("connect", self._connect_phrase, sent=False)
        if self._dialing:
            return Unanswered("connect", "no connection in time", sent=False)
        return Unanswered("full", f"all {len(self._connections)} connections are busy", sent=False)

    def _shed(self) -> None:
        while len(self._waiting) > WAITING_MOST:
            self._waiting.popitem(last=False)[1].refuse(Unanswered("full", "too many requests wait", sent=False))

    def _refuse_all(self) -> None:
        self._refuse((self._again, self._waiting), Unanswered("closed", "closed by the edge", sent=False))

    @staticmethod
    def _refuse(queues: Sequence[OrderedDict[int, Waiting]], failure: Unanswered) -> None:
        """Tell all who wait now; some may ask again when they are told."""
        for queue in queues:
            for _ in range(len(queue)):
                if queue:
                    queue.popitem(last=False)[1].refuse(failure)

    # -- inside: opening connections ---------------------------------------------------------------------------

    def _dial_more(self) -> None:
        """Open as many connections as requests wait, if there may be so many."""
        room = self._route.grip.backend_connections - len(self._connections) - self._dialing
        wanted = min(len(self._again) + len(self._waiting), DIALS_MOST) - self._dialing
        for _ in range(min(wanted, room)):
            self._dialing += 1
            task = self._context.loop.create_task(self._dial())
            self._dials.add(task)
            task.add_done_callback(self._dials.discard)

    async def _dial(self) -> None:
        try:
            connection = await self._dialer.dial(self._new_connection, self._route.timeouts.connect_s)
            if not connection.usable:
                raise BackendError("connection closed at once")  # noqa: TRY301
        except BackendError as error:
            self._dialing -= 1
            self._connect_phrase = str(error)
            self._unreachable(Unanswered("connect", self._connect_phrase, sent=False))
        except BaseException:
            self._dialing -= 1
            raise
        else:
            self._dialing -= 1
            self._connect_phrase = ""
            if self._closed:
                connection.close()
            else:
                self._offer(connection, new=True)
                self._dial_more()

    def _unreachable(self, failure: Unanswered) -> None:
        """A connection was not opened: at once tell whom no other will serve soon, one for each that failed. The last
        one to fail ends the hope of all, but for that in requests under way, whose connections fall idle."""
        queues = [queue for queue in (self._again, self._waiting) if queue]
        if self._dialing:
            if queues:
                queues[0].popitem(last=False)[1].refuse(failure)
            return
        if any(connection.request for connection in self._connections):
            queues = [self._again]
        self._refuse(queues, failure)

    def _new_connection(self) -> AskConnection:
        context = self._context
        connection = AskConnection(cast(ConnectionOwner, self), context.clock, context.wheel, self._limits, self._heads)
        connection.asker = None
        connection.request = b""
        connection.left_before = None
        return connection

    # -- what connections report (ConnectionOwner) -------------------------------------------------------------

    def answered(self, connection: AskConnection, answer: Answer) -> None:
        asker = connection.asker
        connection.asker = None
        connection.request = b""
        self._in_flight.value -= 1
        self._observe((connection.ended_ms - connection.asked_ms) / 1000)
        if connection.usable:
            if self._waiting:
                self._offer(connection)
            else:
                self._idle.append(connection)
        if asker is not None:
            try:
                asker.answered(answer)
            except Exception:
                _log.exception("route %s: an answer could not be taken in", self._route.name)

    def failed(self, connection: AskConnection, failure: Failure) -> None:
        request, timeout_ms = connection.request, connection.due_ms - connection.asked_ms
        asker, connection.asker = connection.asker, None
        connection.request = b""
        self._in_flight.value -= 1
        self._observe((self._now_ms() - connection.asked_ms) / 1000)
        if asker is None:
            return
        told = Unanswered(failure.kind, failure.phrase, failure.sent or connection.left_before is request)
        if failure.kept and failure.kind == "reset":
            self._wait(id(asker), WaitingAsk(self, request, asker, timeout_ms, told), again=True)
        else:
            self.tell(asker, told)

    def made(self, connection: AskConnection) -> None:
        self._connections.add(connection)
        self._meters.backend_connections.value += 1

    def lost(self, connection: AskConnection) -> None:
        self._connections.discard(connection)
        self._meters.backend_connections.value -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._closed:
            self._dial_more()

    # -- what streams report (Lender) --------------------------------------------------------------------------

    def began(self) -> None:
        self.used_ms = self._now_ms()
        self._requests.value += 1
        self._in_flight.value += 1

    def over(self, connection: AskConnection, kind: str) -> None:
        self._in_flight.value -= 1
        if kind:
            self._meters.request_failures[kind].value += 1
        self._observe((self._now_ms() - connection.asked_ms) / 1000)
        if connection.usable:
            self._offer(connection)

    def refused(self, kind: str) -> None:
        self._meters.request_failures[kind].value += 1

    def again(self, exchange: StreamExchange) -> None:
        self._wait(id(exchange), exchange, again=True)

    def withdrawn(self, exchange: StreamExchange) -> None:
        self._waiting.pop(id(exchange), None)
        self._again.pop(id(exchange), None)
