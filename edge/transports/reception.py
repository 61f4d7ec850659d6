"""What all client connections of one process share: routes, the door to the sessions, the clockwork, the counts.

There is one `Reception` per process. It owns the process-wide limits; those of a route stand in its `RouteHandle`.
"""

from __future__ import annotations

import asyncio
from email.utils import formatdate

from edge.clock import Clock
from edge.config import EdgeSettings
from edge.model.limits import TokenBucket
from edge.model.proxies import parse_networks
from edge.sessions.connection import Door, HttpDoor
from edge.sessions.routes import Routes
from edge.telemetry.metrics import RouteMeters
from edge.transports.care import Care
from edge.transports.outbox import Flusher
from edge.wheel import Wheel


class Reception:
    """Shared by every connection; `start` and `stop` it with the event loop it was made for."""

    __slots__ = (
        "_date",
        "_date_at",
        "_handshakes",
        "care",
        "clock",
        "connections",
        "door",
        "exchanges",
        "flusher",
        "http_door",
        "loop",
        "routes",
        "settings",
        "trusted",
        "wheel",
    )

    def __init__(
        self,
        settings: EdgeSettings,
        routes: Routes,
        door: Door,
        *,
        http_door: HttpDoor | None = None,
        wheel: Wheel,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`door` is where WebSockets are brought, `http_door` where requests of routes that proxy HTTP are; without
        one these are answered 502. Raises ValueError for a bad network in `settings.trusted_proxies`."""
        self.routes = routes
        self.door = door
        self.http_door = http_door
        self.wheel = wheel
        self.clock = clock
        self.loop = loop
        self.flusher = Flusher(loop)
        self.care = Care(wheel, clock)
        self.connections = 0
        """Client sockets that came as WebSockets and are still open, handshakes included."""
        self.exchanges = 0
        """HTTP requests at the door whose answers are under way, held ones included."""
        self._date = ""
        self._date_at = -1
        self._handshakes = TokenBucket(clock.monotonic_ms())
        self.replace(settings)

    def replace(self, settings: EdgeSettings) -> None:
        """Use these process-wide limits from now on (a reload)."""
        self.settings = settings
        self.trusted = parse_networks(settings.trusted_proxies)

    def start(self) -> None:
        self.care.start()

    def stop(self) -> None:
        self.care.stop()

    def date(self) -> str:
        """For Date fields (RFC 9110 §5.6.7); made once a second."""
        if self._date_at != self.care.now:
            self._date_at = self.care.now
            self._date = formatdate(self.clock.wall_ms() / 1000, usegmt=True)
        return self._date

    def take_handshake(self) -> bool:
        """Whether one more handshake may begin now; a second's worth may come at once."""
        rate = self.settings.handshakes_per_s
        return not rate or self._handshakes.take(1, self.clock.monotonic_ms(), rate, burst_s=1.0)


def count_refusal(meters: RouteMeters, reason: str, limit: str = "") -> None:
    """A handshake was refused; `limit` names the setting that made it so, if one did."""
    meters.handshakes_rejected[reason].value += 1
    if limit:
        meters.limits_hit[limit].value += 1
