"""Does what `edge.model.drain` decides: waits, closes, and tells the log how far it is."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from edge.clock import Clock, SystemClock
from edge.model.drain import CloseClients, Drain, DrainPlan, Over, Phase, StopAccepting

_log = logging.getLogger("holdfast.drain")

PROGRESS_MS = 1_000
"""Between two lines in the log, at least."""


class Drainable(Protocol):
    """What a drain asks of the edge. All calls are synchronous and none of them raises."""

    def begin_drain(self) -> None:
        """Readiness fails from now on (``draining``). Everything else goes on. Once."""
        ...

    def stop_accepting(self) -> None:
        """Close the public listeners; what is connected stays. Once."""
        ...

    def clients(self) -> int:
        """Client connections that nobody has begun to close, handshakes under way included."""
        ...

    def close_clients(self, count: int) -> None:
        """Begin closing `count` of `clients()` with 1012 ``service restart``; they no longer count as clients."""
        ...

    def unfinished(self) -> int:
        """Connections being closed, events without an outcome, and orders for others that are not carried out."""
        ...


class Draining:
    """One drain. `run` it; `hurry` may be called at any time, also before."""

    def __init__(self, edge: Drainable, plan: DrainPlan, clock: Clock | None = None) -> None:
        self._edge = edge
        self._plan = plan
        self._clock = clock or SystemClock()
        self._drain = Drain(plan, self._clock.monotonic_ms())
        self._hurried = asyncio.Event()
        self._next_line_ms = 0

    def hurry(self) -> None:
        """Everything at once: at most a second more."""
        self._hurried.set()

    async def run(self) -> None:
        """Until nothing is left, or the time is up."""
        self._edge.begin_drain()
        _log.info("draining: readiness fails now; closing clients in %g s", self._plan.delay_s)
        while self._drain.phase is not Phase.OVER:
            if self._hurried.is_set():
                self._drain.hurry(self._clock.monotonic_ms())
            self._step()
            await self._wait()

    def _step(self) -> None:
        now_ms = self._clock.monotonic_ms()
        for order in self._drain.step(now_ms, self._edge.clients(), self._edge.unfinished()):
            match order:
                case StopAccepting():
                    self._edge.stop_accepting()
                    _log.info("no new connections from here on", extra={"clients": self._edge.clients()})
                case CloseClients(count):
                    self._edge.close_clients(count)
                case Over(0):
                    _log.info("drained")
                case Over(left):
                    _log.warning("the time is up; cutting off what is left", extra={"left": left})
        if now_ms >= self._next_line_ms and self._drain.phase in (Phase.CLOSING, Phase.FINISHING):
            self._next_line_ms = now_ms + PROGRESS_MS
            counts = {"clients": self._edge.clients(), "unfinished": self._edge.unfinished()}
            _log.info("draining", extra=counts)

    async def _wait(self) -> None:
        """Until the next step is due, or somebody is in a hurry."""
        now_ms = self._clock.monotonic_ms()
        delay_s = (self._drain.wake_at(now_ms) - now_ms) / 1000
        if delay_s <= 0:
            return
        if self._hurried.is_set():
            await asyncio.sleep(delay_s)
            return
        try:
            async with asyncio.timeout(delay_s):
                await self._hurried.wait()
        except TimeoutError:
            return
