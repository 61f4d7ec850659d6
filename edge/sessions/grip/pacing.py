"""Deliveries of one route at a limited rate (`message_rate`), for backends that get a request for each of them.

What is over the rate waits in a bounded queue and goes in batches; what is over the queue is dropped, counted, and
told once a second with the route's name. Pushpin: ``message_rate`` and ``message_hwm``.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from edge.clock import Clock
from edge.config import GripRouteSettings
from edge.telemetry.metrics import Counter
from edge.wheel import Alarm, Wheel

_log = logging.getLogger("holdfast.grip")

BATCH_MS = 25
BURST_S = 0.1
"""Unused allowance is kept for this long: also a loop that is late keeps the rate."""
TELL_MS = 1_000

Act = Callable[[], None]
"""A delivery; must not raise."""


class Pacer:
    """The deliveries of one route. `settings` may be replaced at any time."""

    def __init__(self, route: str, settings: GripRouteSettings, wheel: Wheel, clock: Clock, dropped: Counter) -> None:
        self.settings = settings
        self._route = route
        self._wheel = wheel
        self._clock = clock
        self._dropped = dropped
        self._queue: deque[tuple[Act, int]] = deque()
        self._allowance = self._burst()
        self._filled_ms = clock.monotonic_ms()
        self._batch: Alarm | None = None
        self._untold = 0

    def put(self, size: int, act: Act) -> bool:
        """Do `act` now or in its turn. False: the queue is full, it will not be done."""
        cost = self._cost(size)
        if not self._queue:
            self._fill()
            if self._affords():
                self._allowance -= cost
                act()
                return True
        if len(self._queue) >= self.settings.message_queue:
            self._drop()
            return False
        self._queue.append((act, cost))
        self._arm()
        return True

    def __len__(self) -> int:
        """Deliveries that wait."""
        return len(self._queue)

    def _cost(self, size: int) -> int:
        block = self.settings.message_block_bytes
        return max(1, -(-size // block)) if block else 1

    def _burst(self) -> float:
        return max(1.0, self.settings.message_rate * BURST_S)

    def _affords(self) -> bool:
        """A delivery may be dearer than what is left: it goes all the same, and the next ones wait for longer."""
        return self._allowance >= 1

    def _fill(self) -> None:
        now_ms = self._clock.monotonic_ms()
        earned = self.settings.message_rate * (now_ms - self._filled_ms) / 1_000
        self._filled_ms = now_ms
        self._allowance = min(self._burst(), self._allowance + earned)

    def _arm(self) -> None:
        if self._batch is None:
            self._batch = self._wheel.after(BATCH_MS, self._turn)

    def _turn(self) -> None:
        self._batch = None
        self._fill()
        # Without a rate (a reload has taken it away) everything goes.
        while self._queue and (self._affords() or not self.settings.message_rate):
            act, cost = self._queue.popleft()
            self._allowance -= cost
            act()
        if self._queue:
            self._arm()

    def _drop(self) -> None:
        self._dropped.value += 1
        self._untold += 1
        if self._untold == 1:
            self._wheel.after(TELL_MS, self._tell)

    def _tell(self) -> None:
        count, self._untold = self._untold, 0
        _log.warning(
            "route %s: %d deliveries were dropped in the last second: more than message_queue (%d) waited for"
            " message_rate (%g a second)",
            self._route,
            count,
            self.settings.message_queue,
            self.settings.message_rate,
        )
