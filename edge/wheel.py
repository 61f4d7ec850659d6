"""One timing wheel per process, instead of a loop timer per connection.

Alarms are kept in buckets of `granularity_ms`; the loop holds a single timer, for the earliest bucket. Setting and
cancelling are O(1) but for a heap push per *new* bucket, of which there are few: 100,000 connections pinged every 25 s
share 1,250 buckets of 20 ms. (Varghese & Lauck 1987, scheme 6, with a heap of bucket numbers in place of a fixed ring,
so that far-away alarms need no cascade.)
"""

from __future__ import annotations

import heapq
import logging
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable

from edge.clock import Clock

_log = logging.getLogger("holdfast.wheel")


class Alarm:
    """A callback that is due some time. `cancel` is idempotent and O(1): the bucket skips what has no callback."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None

    @property
    def pending(self) -> bool:
        """Neither run nor cancelled yet."""
        return self.callback is not None


class Wheel:
    """Runs callbacks never early, and late by at most `granularity_ms` (plus what the loop is late itself)."""

    __slots__ = ("_armed_for", "_buckets", "_clock", "_due", "_granularity_ms", "_handle", "_loop")

    def __init__(self, clock: Clock, granularity_ms: int = 20) -> None:
        self._clock = clock
        self._granularity_ms = granularity_ms
        self._buckets: dict[int, list[Alarm]] = {}
        self._due: list[int] = []
        self._loop: AbstractEventLoop | None = None
        self._handle: TimerHandle | None = None
        self._armed_for = 0

    def start(self, loop: AbstractEventLoop) -> None:
        """Run alarms on `loop` from now on. Without it, only `advance` does (tests with a manual clock)."""
        self._loop = loop
        self._arm()

    def stop(self) -> None:
        """Run nothing more; alarms that are set stay set."""
        self._loop = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def at(self, due_ms: int, callback: Callable[[], None]) -> Alarm:
        """Call `callback` at monotonic time `due_ms`; in the past means at the next turn."""
        alarm = Alarm(callback)
        # Rounded up, so that an alarm is never early; bucket n runs when n × granularity has been reached.
        number = -(-due_ms // self._granularity_ms)
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = [alarm]
            heapq.heappush(self._due, number)
            if self._due[0] == number:
                self._arm()
        else:
            bucket.append(alarm)
        return alarm

    def after(self, delay_ms: int, callback: Callable[[], None]) -> Alarm:
        """Call `callback` in `delay_ms`."""
        return self.at(self._clock.monotonic_ms() + delay_ms, callback)

    def next_due_ms(self) -> int | None:
        """When the next bucket is due (its alarms may all be cancelled), or None."""
        return self._due[0] * self._granularity_ms if self._due else None

    def advance(self) -> None:
        """Run every alarm that is due now. A callback that raises is logged and does not stop the others."""
        now = self._clock.monotonic_ms()
        while self._due and self._due[0] * self._granularity_ms <= now:
            for alarm in self._buckets.pop(heapq.heappop(self._due)):
                callback, alarm.callback = alarm.callback, None
                if callback is not None:
                    try:
                        callback()
                    except Exception:
                        _log.exception("an alarm failed")

    def _arm(self) -> None:
        if self._loop is None or not self._due:
            return
        if self._handle is not None:
            if self._armed_for <= self._due[0]:
                return
            self._handle.cancel()
        self._armed_for = self._due[0]
        delay_ms = self._armed_for * self._granularity_ms - self._clock.monotonic_ms()
        self._handle = self._loop.call_later(max(0, delay_ms) / 1000, self._turn)

    def _turn(self) -> None:
        self._handle = None
        self.advance()
        self._arm()
