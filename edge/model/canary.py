"""When a canary goes on, and when it is taken back: a rule over the edges' own figures.

An edge's counters begin with its process and never fall, so what happened in a step is the difference to what each edge
said when the step began. An edge that came later began at nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from edge.model.release import Canary

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the buckets that durations are counted in: half a millisecond (a local backend) to a whole retry
window. One more bucket is for what is longer."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one edge, or all, counted of a release. `answered`: events with a good result; `failed`: requests without a
    usable answer, results that do not hold, events given up on. `took`: events per bucket of `SECONDS`, from happening
    to outcome. A verdict of the backend (4xx) is no failure: refusing a client is its right."""

    answered: int = 0
    failed: int = 0
    took: Sequence[int] = ()

    @property
    def events(self) -> int:
        return self.answered + self.failed

    @property
    def error_rate(self) -> float:
        return self.failed / self.events if self.events else 0.0

    def p99_ms(self) -> float:
        """The 99th percentile of `took`, by straight lines within buckets; of what is in the last one, its bound."""
        wanted, seen = 0.99 * sum(self.took), 0
        for count, low, high in zip(self.took, (0.0, *SECONDS), (*SECONDS, SECONDS[-1]), strict=False):
            if count and seen + count >= wanted:
                return (low + (high - low) * (wanted - seen) / count) * 1000
            seen += count
        return 0.0

    def since(self, before: Figures) -> Figures:
        """What came on top of `before`."""
        took = tuple(now - then for now, then in zip_longest(self.took, before.took, fillvalue=0))
        return Figures(self.answered - before.answered, self.failed - before.failed, took)

    def plus(self, other: Figures) -> Figures:
        took = tuple(one + two for one, two in zip_longest(self.took, other.took, fillvalue=0))
        return Figures(self.answered + other.answered, self.failed + other.failed, took)


@dataclass(slots=True)
class Step:
    """One step of a canary, as its keeper has seen it: what each edge said first, and says now."""

    sha: str
    since: int
    before: dict[str, Figures]
    now: dict[str, Figures]

    @classmethod
    def begin(cls, canary: Canary, figures: Mapping[str, Figures]) -> Step:
        return cls(canary.sha, canary.step_at, dict(figures), dict(figures))

    def is_of(self, canary: Canary) -> bool:
        return (self.sha, self.since) == (canary.sha, canary.step_at)

    def add(self, figures: Mapping[str, Figures]) -> None:
        """What the edges say now; what one that is gone said last stands."""
        self.now.update(figures)

    @property
    def figures(self) -> Figures:
        """Of this step, all edges together."""
        total = Figures()
        for edge, now in self.now.items():
            total = total.plus(now.since(self.before.get(edge, Figures())))
        return total


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason`: for people, in numbers."""

    what: Literal["wait", "go on", "take back"]
    reason: str


def decide(canary: Canary, figures: Figures, now: int) -> Decision:
    """What to do with a running canary, `figures` being those of its present step."""
    if figures.events >= canary.min_events:
        rate, limit = figures.error_rate, canary.max_error_rate
        if limit is not None and rate > limit:
            counted = f"{figures.failed} of {figures.events} events failed"
            return Decision("take back", f"{counted}: {rate:.2%} is more than {limit:.2%}")
        p99_ms = figures.p99_ms()
        if canary.max_p99_ms is not None and p99_ms > canary.max_p99_ms:
            return Decision("take back", f"p99 of {p99_ms:.0f} ms is more than {canary.max_p99_ms} ms")
    if now < canary.step_at + canary.every_ms:
        return Decision("wait", "the step is not over")
    if figures.events < canary.min_events:
        return Decision("wait", f"only {figures.events} events; {canary.min_events} are needed to tell")
    return Decision("go on", f"{figures.events} events, {figures.error_rate:.2%} failed")
