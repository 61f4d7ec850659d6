"""The rules of logging in to an XMPP server: one by one, and not at all while it cannot be reached.

Pure: `now`, rates and randomness are handed in. Who waits, and in which order, is `edge.links.pacing`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

Random = Callable[[], float]
"""Draws from [0, 1)."""

CATCH_UP_MS = 50
"""How much lateness may be made up for. Timers are late by 20 ms or so, which should not cost turns; more at once would
be the burst that this is here to prevent."""
FAILURES_TO_OPEN = 5
BACKOFF_FIRST_MS = 1_000
BACKOFF_MOST_MS = 60_000
_DOUBLINGS = 6
"""2^6 × 1 s is past the cap."""
PROBE_MS = 45_000
"""What a probe may take before another is let through: to connect (15 s) and to log in (30 s). Whoever had the turn may
be gone."""


class Turns:
    """When the next may go: a token bucket that holds next to nothing, so that turns are spread evenly and not given in
    bursts. Each gap is drawn from half to one and a half of the mean: edges that start together do not stay in step."""

    __slots__ = ("_next_ms",)

    def __init__(self) -> None:
        self._next_ms = 0.0

    @property
    def next_ms(self) -> float:
        """Monotonic time."""
        return self._next_ms

    def free(self, now_ms: int) -> bool:
        return self._next_ms <= now_ms

    def take(self, now_ms: int, rate_per_s: float, random: Random) -> None:
        """Use the turn that is free. A rate of 0 sets no limit; it may be another each time, as reloads change it."""
        if rate_per_s:
            gap_ms = 1000 / rate_per_s * (0.5 + random())
            self._next_ms = max(self._next_ms, now_ms - CATCH_UP_MS) + gap_ms


class Phase(Enum):
    """Of a circuit."""

    CLOSED = "closed"
    """The server is there, as far as anybody knows."""
    OPEN = "open"
    """It is not, and nobody may try for a while."""
    PROBING = "probing"
    """Somebody tries, for all."""


class Circuit:
    """Whether a server may be tried at all.

    Failures in a row open it; after a pause, longer each time, one may probe; a success closes it. The pause is a draw
    from 0 up to 1 s doubled each time, at most 60 s ("full jitter": Brooker, "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015).
    """

    __slots__ = ("_failures", "_openings", "_phase", "_until_ms")

    def __init__(self) -> None:
        self._phase = Phase.CLOSED
        self._failures = 0
        self._openings = 0
        self._until_ms = 0

    @property
    def phase(self) -> Phase:
        return self._phase

    def free(self, now_ms: int) -> bool:
        """May somebody try now?"""
        return self._phase is Phase.CLOSED or self._until_ms <= now_ms

    @property
    def next_ms(self) -> int:
        """When it is free, if it is not (monotonic time); any time in the past while it is closed."""
        return 0 if self._phase is Phase.CLOSED else self._until_ms

    def enter(self, now_ms: int) -> None:
        """Somebody tries. While it is not closed, this is the probe."""
        if self._phase is not Phase.CLOSED:
            self._phase = Phase.PROBING
            self._until_ms = now_ms + PROBE_MS

    def withdraw(self, now_ms: int) -> None:
        """Who entered last does not try after all."""
        if self._phase is Phase.PROBING:
            self._phase = Phase.OPEN
            self._until_ms = now_ms

    def reached(self) -> None:
        """The server was there, whoever tried."""
        self._phase = Phase.CLOSED
        self._failures = self._openings = 0

    def unreachable(self, now_ms: int, random: Random, *, permanent: bool = False) -> None:
        """It was not. `permanent`: nor will it be soon; open at once, and for as long as can be.

        While the circuit is open, failures are those of tries that began before, and say nothing new.
        """
        if self._phase is Phase.OPEN:
            return
        self._failures += 1
        if self._phase is Phase.CLOSED and self._failures < FAILURES_TO_OPEN and not permanent:
            return
        doublings = _DOUBLINGS if permanent else min(self._openings, _DOUBLINGS)
        most = min(BACKOFF_MOST_MS, BACKOFF_FIRST_MS << doublings)
        self._openings += 1
        self._phase = Phase.OPEN
        self._until_ms = now_ms + int(random() * most) + 1
