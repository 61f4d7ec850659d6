"""Going down politely, as a rule: when to stop accepting, how many clients to close now, when it is over.

Delay (load balancers notice that readiness fails) → closing (clients are closed evenly over the window, so that
their reconnects are spread as well) → finishing (events in flight get their answers) → over. `hurry` shortens what
is left to `HURRY_S`. Doing it is `edge.lifecycle.drain`'s job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from edge.config import Settings

FINISH_MOST_S = 30.0
"""Upper bound for finishing, whatever the routes' retry windows are: a shutdown has an end."""
FINISH_LEAST_S = 5.0
"""Lower bound: closing handshakes need a little time even where events do not wait."""
HURRY_S = 1.0
"""From a second request to stop until the end."""
TICK_MS = 100
"""Between two rounds of closing: fine enough that a round is small, coarse enough to cost nothing."""


@dataclass(frozen=True, slots=True)
class DrainPlan:
    """How long each phase may take, in seconds."""

    delay_s: float
    window_s: float
    finish_s: float

    @property
    def total_s(self) -> float:
        """The longest a drain can take."""
        return self.delay_s + self.window_s + self.finish_s


def plan_for(settings: Settings) -> DrainPlan:
    """The plan that follows from `settings`. Events get the longest retry window of the routes, within bounds."""
    longest = max((route.timeouts.retry_window_s for route in settings.routes), default=0.0)
    finish_s = min(max(longest, FINISH_LEAST_S), FINISH_MOST_S)
    return DrainPlan(settings.edge.drain_delay_s, settings.edge.drain_window_s, finish_s)


class Phase(Enum):
    """Where a drain is."""

    DELAY = auto()
    CLOSING = auto()
    FINISHING = auto()
    OVER = auto()


@dataclass(frozen=True, slots=True)
class StopAccepting:
    """Close the listeners. Once, before the first client is closed."""


@dataclass(frozen=True, slots=True)
class CloseClients:
    """Begin closing `count` clients that are not being closed yet."""

    count: int


@dataclass(frozen=True, slots=True)
class Over:
    """Nothing is left to wait for, or the time is up: then `left` says what is lost."""

    left: int


Order = StopAccepting | CloseClients | Over


def closes_due(total: int, closed: int, elapsed_ms: int, window_ms: int) -> int:
    """How many of `total` clients to close now, so that closings are even over the window.

    `closed` were closed before. The last ones are due at the window's end at the latest, the first in its first tick.
    """
    if elapsed_ms >= window_ms:
        return max(total - closed, 0)
    due = -(-total * (elapsed_ms + TICK_MS) // (window_ms + TICK_MS))
    return max(min(due, total) - closed, 0)


class Drain:
    """One drain from its beginning (`now_ms`, monotonic) to its end. Ask `step` again at `wake_at` or when hurried."""

    def __init__(self, plan: DrainPlan, now_ms: int) -> None:
        self.phase = Phase.DELAY
        self._plan = plan
        self._until_ms = now_ms + round(plan.delay_s * 1000)
        self._window_ms = round(plan.window_s * 1000)
        self._window_start_ms = 0
        self._total = 0
        self._closed = 0
        self._end_ms = now_ms + round(plan.total_s * 1000)
        self._hurried = False

    def hurry(self, now_ms: int) -> None:
        """Everything at once, and `HURRY_S` to the end. Repeating it changes nothing."""
        if not self._hurried:
            self._hurried = True
            self._end_ms = min(self._end_ms, now_ms + round(HURRY_S * 1000))

    def step(self, now_ms: int, clients: int, unfinished: int) -> Sequence[Order]:
        """What to do now. `clients`: connections nobody has begun to close; `unfinished`: closing connections and
        events without an outcome."""
        orders: list[Order] = []
        if self.phase is Phase.DELAY and (self._hurried or now_ms >= self._until_ms):
            self.phase = Phase.CLOSING
            self._window_start_ms = now_ms
            self._total = clients
            orders.append(StopAccepting())
        if self.phase is Phase.CLOSING:
            orders.extend(self._close(now_ms, clients))
        elif self.phase is Phase.FINISHING:
            if clients + unfinished == 0 or now_ms >= self._end_ms:
                self.phase = Phase.OVER
                orders.append(Over(clients + unfinished))
            elif clients:  # handshakes that were answered after the window
                orders.append(CloseClients(clients))
        return orders

    def _close(self, now_ms: int, clients: int) -> Sequence[Order]:
        """Clients that left by themselves make the rest of the window lighter, not shorter; none left ends it."""
        # Handshakes that were under way when the listeners closed still become clients: they join the count.
        self._total = max(self._total, self._closed + clients)
        gone = self._total - self._closed - clients
        window_ms = 0 if self._hurried else self._window_ms
        elapsed_ms = now_ms - self._window_start_ms
        count = min(closes_due(self._total, self._closed + gone, elapsed_ms, window_ms), clients)
        self._closed += count
        if elapsed_ms >= window_ms or clients == count:
            self.phase = Phase.FINISHING
            self._end_ms = min(self._end_ms, now_ms + round(self._plan.finish_s * 1000))
        return [CloseClients(count)] if count else []

    def wake_at(self, now_ms: int) -> int:
        """When to ask `step` again, monotonic milliseconds."""
        match self.phase:
            case Phase.DELAY:
                return now_ms if self._hurried else self._until_ms
            case Phase.CLOSING:
                return now_ms if self._hurried else min(now_ms + TICK_MS, self._window_start_ms + self._window_ms)
            case Phase.FINISHING:
                return min(now_ms + TICK_MS, max(self._end_ms, now_ms))
            case Phase.OVER:
                return now_ms
