"""The `Deliverer`: finds the pool for each mailbox, and looks after the pools as a whole.

client = BackendClient(edge_id, clock, wheel, metrics, loop)
client.ready(mailbox)            # from then on it is the client's; outcomes come through `mailbox.settle`
left = await client.drain(10.0)  # wait for everything in flight and queued
client.close()
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import AbstractEventLoop
from collections.abc import Callable
from random import random as system_random

from edge.backend.base import Mailbox, Release
from edge.backend.context import Context
from edge.backend.http11 import AnswerLimits
from edge.backend.letters import Group, Letter
from edge.backend.pool import Pool
from edge.backend.shadow import Shadows
from edge.clock import Clock
from edge.config import RouteSettings
from edge.telemetry.metrics import Metrics
from edge.wheel import Alarm, Wheel

_log = logging.getLogger("holdfast.backend")

UNUSED_MS = 60_000
"""A pool that nobody used for this long is dropped: its release has most likely been retired."""
KNOWN_MOST = 1_024
"""Pairs of route and release objects whose pool is remembered without comparing them."""


class BackendClient:
    """Implements `edge.backend.base.Deliverer`. All calls happen on the loop's thread."""

    def __init__(
        self,
        edge_id: str,
        clock: Clock,
        wheel: Wheel,
        metrics: Metrics,
        loop: AbstractEventLoop,
        *,
        random: Callable[[], float] = system_random,
        limits: AnswerLimits | None = None,
        note: Callable[[int, str, str, str], None] = lambda at, session, what, detail: None,
    ) -> None:
        self._clock = clock
        self._wheel = wheel
        self._pools: dict[tuple[str, str, Release], Pool] = {}
        # By identity of the settings' and the release's objects, which are kept alive here: no comparing of strings
        # for each event.
        self._known: dict[tuple[int, int], tuple[RouteSettings, Release, Pool]] = {}
        self.shadows = Shadows(edge_id, clock)
        self._quiet: list[asyncio.Future[None]] = []
        self._closed = False
        self._context = Context(
            edge_id=edge_id,
            clock=clock,
            wheel=wheel,
            loop=loop,
            metrics=metrics,
            random=random,
            limits=limits or AnswerLimits(),
            ready=self._ready,
            adopt=self._adopt,
            fell_quiet=self._fell_quiet,
            shadows=self.shadows,
            note=note,
        )
        self._sweeper: Alarm = wheel.after(UNUSED_MS // 2, self._sweep)

    def ready(self, mailbox: Mailbox) -> None:
        """`mailbox` has events and nothing of it is in flight. Never blocks, never raises."""
        self._ready(mailbox, self._clock.monotonic_ms())

    def report_gone(self, app: str, session: str) -> None:
        """An action named a session that has ended: say so (`gone`) in the next request to that app."""
        self._context.keep_gone(app, (session,))

    def releases_changed(self) -> None:
        """Sessions may belong to other releases now. Without this call it is noticed at the next try."""
        for pool in list(self._pools.values()):
            pool.look_again()

    @property
    def open_events(self) -> int:
        """Events taken and not settled, plus one for each mailbox that waits."""
        return sum([pool.open_events for pool in self._pools.values()])

    @property
    def pools(self) -> int:
        """Pairs of route and release that have been used lately."""
        return len(self._pools)

    async def drain(self, deadline_s: float) -> int:
        """Wait until nothing is in flight and nothing waits, `deadline_s` at most. How many events were left."""
        loop = self._context.loop
        deadline = loop.time() + deadline_s
        while self.open_events and (left := deadline - loop.time()) > 0:
            quiet = loop.create_future()
            self._quiet.append(quiet)
            await asyncio.wait([quiet], timeout=left)
        return self.open_events

    def close(self) -> None:
        """Close all connections; what was not settled never will be. Nothing is delivered afterwards."""
        self._closed = True
        self._sweeper.cancel()
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        self._known.clear()

    def _ready(self, mailbox: Mailbox, since_ms: int) -> None:
        if self._closed:
            return
        route, release = mailbox.route, mailbox.release
        known = self._known.get((id(route), id(release)))
        pool = known[2] if known is not None else self._pool(route, release)
        pool.ready(mailbox, since_ms)

    def _adopt(self, letter: Letter) -> None:
        mailbox = letter.mailbox
        self._pool(mailbox.route, mailbox.release).adopt(Group([letter]))

    def _pool(self, route: RouteSettings, release: Release) -> Pool:
        key = (route.name, route.callback_path, release)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(self._context, route, release)
        else:
            pool.update(route)
        if len(self._known) >= KNOWN_MOST:
            self._known.clear()
        self._known[id(route), id(release)] = (route, release, pool)
        return pool

    def _fell_quiet(self) -> None:
        waiting, self._quiet = self._quiet, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _sweep(self) -> None:
        """Drop the pools of releases nobody uses any more, with their connections."""
        now = self._clock.monotonic_ms()
        for key, pool in list(self._pools.items()):
            if pool.quiet and now - pool.used_ms >= UNUSED_MS:
                pool.close()
                del self._pools[key]
                self._known = {ids: found for ids, found in self._known.items() if found[2] is not pool}
        self._sweeper = self._wheel.after(UNUSED_MS // 2, self._sweep)
