"""Is a release there? Pure: time and randomness are handed in.

Two ways to be *away*: nothing takes connections, or several fresh requests in a row fail although something does.
One failing request says little (its own events may be the reason, and retries of it say no more), so only first
tries count.
While away, one request at a time finds out whether it is back, at growing distances.
"""

from __future__ import annotations

from collections.abc import Callable

from edge.model.retry import backoff_ms

AWAY_AFTER = 5
"""First tries that fail in a row before a release that takes connections counts as away."""


class Health:
    """What is known of one release. `failing`: something failed since the last good answer. `window_ms`: the route's
    retry window; probes come at least four times in it, so that no event gives up on a release that is back."""

    __slots__ = (
        "_fresh_failures",
        "_random",
        "away_since_ms",
        "failing",
        "last_error",
        "probe_ms",
        "probes",
        "window_ms",
    )

    def __init__(self, random: Callable[[], float], window_ms: int = 30_000) -> None:
        self._random = random
        self.window_ms = window_ms
        self._fresh_failures = 0
        self.away_since_ms: int | None = None
        self.failing = False
        self.last_error = "no answer"
        self.probes = 0
        self.probe_ms = 0

    @property
    def away(self) -> bool:
        return self.away_since_ms is not None

    def may_probe(self, now_ms: int) -> bool:
        """It is away, and time to see whether it is back."""
        return now_ms >= self.probe_ms

    def unreachable(self, error: str, now_ms: int) -> bool:
        """No connection could be made, and none is left. True: it has just gone away."""
        self.failing = True
        self.last_error = error
        return self._gone(now_ms)

    def failed(self, error: str, now_ms: int, *, fresh: bool) -> bool:
        """A request got no usable answer; `fresh`: on its first try. True: it has just gone away."""
        self.failing = True
        self.last_error = error
        if self.away:
            return self._gone(now_ms)
        self._fresh_failures += fresh
        return self._fresh_failures >= AWAY_AFTER and self._gone(now_ms)

    def answered(self, now_ms: int) -> int | None:
        """A request got an answer that means something. How long it was away, if it has just come back."""
        self._fresh_failures = 0
        self.failing = False
        self.probes = 0
        if self.away_since_ms is None:
            return None
        away_ms = now_ms - self.away_since_ms
        self.away_since_ms = None
        return away_ms

    def _gone(self, now_ms: int) -> bool:
        if self.away and now_ms < self.probe_ms:
            return False  # under way when it went away: no probe, and counted already
        self.probes += 1
        self.probe_ms = now_ms + min(backoff_ms(self.probes, self._random), self.window_ms // 4)
        if self.away:
            return False
        self.away_since_ms = now_ms
        return True
