"""An answer that is carried out in part: what follows a subscription waits until the subscription stands, so that a
client which was told of it misses nothing. Publications that come meanwhile came later, and are shown later.
"""

from __future__ import annotations

from edge.protocol.grip.socket_events import SocketEvent
from edge.sessions.grip.ports import Delivery
from edge.wheel import Alarm

LONGEST_MS = 2_000
"""Without Redis no subscription stands: then the answer goes on all the same."""
DELIVERIES_MOST = 1_000
"""So does it when more publications than this have come meanwhile."""


class Standstill:
    """`events`: what is left of the answer. `left`: subscriptions that do not stand yet."""

    __slots__ = ("_left", "alarm", "deliveries", "events")

    def __init__(self, events: list[SocketEvent], left: int) -> None:
        self.events = events
        self._left = left
        self.deliveries: list[Delivery] = []
        self.alarm: Alarm | None = None

    def stood(self) -> bool:
        """One more subscription stands. Whether all do."""
        self._left -= 1
        return self._left <= 0

    def keep(self, delivery: Delivery) -> bool:
        """Show it later. Whether there is room for more."""
        self.deliveries.append(delivery)
        return len(self.deliveries) < DELIVERIES_MOST

    def end(self) -> None:
        if self.alarm is not None:
            self.alarm.cancel()
