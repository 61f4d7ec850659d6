"""Gives turns to log in to XMPP servers, in the order in which they were asked for.

Owns who waits for which server of the settings, and one alarm for each; the rules are `edge.model.pacing`'s. After an
edge has died, its thousands of links ask for turns at once; their number in the queue is all that they need wait for.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random as randomness
from collections import OrderedDict
from dataclasses import dataclass

from edge.clock import Clock
from edge.config import XmppSettings
from edge.errors import DialError
from edge.model.pacing import Circuit, Phase, Random, Turns
from edge.wheel import Alarm, Wheel

_log = logging.getLogger("holdfast.links")

MOST_WAITING = 100_000
"""For one server. As many as an edge holds; more is a fault, and shows as one."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How it stands with one server, for metrics and operators."""

    waiting: int
    phase: Phase
    reason: str
    """Why the server could not be reached the last time; empty while it can."""


class Pacer:
    """Turns to log in, for each server by itself."""

    __slots__ = ("_clock", "_gates", "_random", "_wheel")

    def __init__(self, clock: Clock, wheel: Wheel, random: Random = randomness.random) -> None:
        self._clock = clock
        self._wheel = wheel
        self._random = random
        self._gates: dict[str, _Gate] = {}

    async def admitted(self, server: XmppSettings) -> None:
        """Wait for a turn: first come, first served, `server.logins_per_s` of them a second, none while the server
        cannot be reached. However long it takes; cancelling gives the turn to the next.

        Afterwards tell `reached` or `unreachable`. Who does neither (cancelled, or another reason not to try) holds the
        others up for 45 s at most, and only when this was the one try that decides whether the server is back.

        Raises DialError when there are more waiting than can be meant.
        """
        gate = self._gate(server.domain)
        gate.rate_per_s = server.logins_per_s
        await gate.pass_through()

    def reached(self, domain: str) -> None:
        """The server was there: it has answered, whatever it said."""
        self._gate(domain).reached()

    def unreachable(self, domain: str, reason: str, *, permanent: bool = False) -> None:
        """There was no way to it. After five in a row, or one that is `permanent`, nobody tries for a while."""
        self._gate(domain).unreachable(reason, permanent=permanent)

    def state(self, domain: str) -> Pace:
        """How it stands with the server of `domain`."""
        return self._gate(domain).pace

    def _gate(self, domain: str) -> _Gate:
        gate = self._gates.get(domain)
        if gate is None:
            gate = self._gates[domain] = _Gate(domain, self._clock, self._wheel, self._random)
        return gate


class _Gate:
    """The queue before one server."""

    __slots__ = (
        "_alarm", "_alarm_ms", "_circuit", "_clock", "_domain", "_random", "_reason", "_turns", "_waiting", "_wheel",
        "rate_per_s",
    )  # fmt: skip

    def __init__(self, domain: str, clock: Clock, wheel: Wheel, random: Random) -> None:
        self.rate_per_s = 0.0
        self._domain = domain
        self._clock = clock
        self._wheel = wheel
        self._random = random
        self._turns = Turns()
        self._circuit = Circuit()
        self._reason = ""
        # Ordered, and anybody can leave at once; a deque would have to be searched.
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._alarm: Alarm | None = None
        self._alarm_ms = 0

    @property
    def pace(self) -> Pace:
        return Pace(len(self._waiting), self._circuit.phase, self._reason)

    async def pass_through(self) -> None:
        """See `Pacer.admitted`."""
        if not self._waiting and self._take():
            return
        if len(self._waiting) >= MOST_WAITING:
            raise DialError(f"{len(self._waiting):,} logins wait for their turn at {self._domain} already")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        self._arm()
        try:
            await turn
        except asyncio.CancelledError:
            self._waiting.pop(turn, None)
            if not turn.cancelled():  # it had its turn, and nobody will tell how it went
                self._circuit.withdraw(self._clock.monotonic_ms())
            self._let_in()
            raise

    def reached(self) -> None:
        if self._circuit.phase is not Phase.CLOSED:
            _log.info("%s can be reached again", self._domain, extra={"waiting": len(self._waiting)})
        self._circuit.reached()
        self._reason = ""
        self._let_in()

    def unreachable(self, reason: str, *, permanent: bool) -> None:
        before = self._circuit.phase
        self._circuit.unreachable(self._clock.monotonic_ms(), self._random, permanent=permanent)
        self._reason = reason
        if before is Phase.CLOSED and self._circuit.phase is Phase.OPEN:
            _log.warning("%s cannot be reached, its links wait: %s", self._domain, reason)
        self._let_in()

    def _take(self) -> bool:
        now = self._clock.monotonic_ms()
        if not (self._turns.free(now) and self._circuit.free(now)):
            return False
        self._turns.take(now, self.rate_per_s, self._random)
        self._circuit.enter(now)
        return True

    def _let_in(self) -> None:
        """Give the turns that are due, and see to the next."""
        while self._waiting:
            turn = next(iter(self._waiting))
            if not turn.done():  # else it was cancelled, and is about to leave
                if not self._take():
                    break
                turn.set_result(None)
            del self._waiting[turn]
        self._arm()

    def _arm(self) -> None:
        if not self._waiting:
            return
        due_ms = max(math.ceil(self._turns.next_ms), self._circuit.next_ms)
        if self._alarm is not None and self._alarm.pending:
            if self._alarm_ms <= due_ms:
                return
            self._alarm.cancel()
        self._alarm_ms = due_ms
        self._alarm = self._wheel.at(due_ms, self._let_in)
