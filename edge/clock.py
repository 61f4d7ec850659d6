"""Time, as a thing that can be handed in.

Two kinds, never mixed: *wall* milliseconds since the Unix epoch go on the wire (an event's `at`); *monotonic*
milliseconds are for deadlines and never go backwards.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where `now` comes from."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds since some fixed point; only differences mean anything."""
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000


class ManualClock:
    """A clock that moves when told to, for tests."""

    __slots__ = ("monotonic", "wall")

    def __init__(self, wall_ms: int = 1_700_000_000_000, monotonic_ms: int = 0) -> None:
        self.wall = wall_ms
        self.monotonic = monotonic_ms

    def wall_ms(self) -> int:
        return self.wall

    def monotonic_ms(self) -> int:
        return self.monotonic

    def advance(self, ms: int) -> None:
        """Move both clocks forward by `ms` milliseconds."""
        self.wall += ms
        self.monotonic += ms
