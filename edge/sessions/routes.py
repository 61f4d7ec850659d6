"""The routes of this process, as cells whose settings a reload replaces under live connections.

Connections and sessions hold a `RouteHandle`, never `RouteSettings`: they read `handle.settings` when they need a
limit or a secret, and so see what the last reload said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edge.config import LimitSettings, RouteSettings, TimeoutSettings
from edge.model.limits import AddressCounts
from edge.model.routing import Claim, RouteTable
from edge.telemetry.metrics import Metrics, RouteMeters


@dataclass(frozen=True, slots=True)
class HeadBounds:
    """What a request's head may cost before its route is known: the widest limits of all routes; 0: none."""

    headers: int
    header_bytes: int
    handshake_s: float


class RouteHandle:
    """One route while this process lives: its settings as they are now, its meters, its connections per address.

    `meters` are those that do not depend on a release (label ``release=""``).
    """

    __slots__ = ("addresses", "meters", "settings")

    def __init__(self, settings: RouteSettings, meters: RouteMeters) -> None:
        self.settings = settings
        self.meters = meters
        self.addresses = AddressCounts()

    @property
    def name(self) -> str:
        return self.settings.name

    def __repr__(self) -> str:
        return f"RouteHandle({self.name})"


class Routes:
    """Finds the route of a handshake. `replace` is what a reload calls; it never touches a connection."""

    __slots__ = ("_by_name", "_handles", "_metrics", "_table", "bounds", "nowhere")

    def __init__(self, settings: Sequence[RouteSettings], metrics: Metrics) -> None:
        self._metrics = metrics
        self._handles: list[RouteHandle] = []
        self._by_name: dict[str, RouteHandle] = {}
        self._table = RouteTable(())
        self.nowhere = metrics.route("", "")
        """Meters of handshakes that were refused before their route was known."""
        self.replace(settings)

    def find(self, host: str, path: str, *, websocket: bool = True, tls: bool = False) -> RouteHandle | None:
        """The route that takes a request with this Host header and path (without query), or None."""
        number = self._table.find(host, path, websocket=websocket, tls=tls)
        return None if number is None else self._handles[number]

    def named(self, name: str) -> RouteHandle | None:
        """The route that logs and metrics call `name`, if there still is one."""
        return self._by_name.get(name)

    def replace(self, settings: Sequence[RouteSettings]) -> None:
        """Use these routes from now on. A route that takes the same requests, of the same name, app and protocol,
        keeps its handle.

        A route that is gone keeps serving its live connections with its last settings; it takes no new ones.
        """
        known = {_key(handle.settings): handle for handle in self._handles}
        handles = []
        for route in settings:
            handle = known.get(_key(route))
            if handle is None:
                handle = RouteHandle(route, self._metrics.route(route.name, ""))
            else:
                handle.settings = route
            handles.append(handle)
        self._handles = handles
        self._by_name = {handle.name: handle for handle in handles}
        self._table = RouteTable([claim_of(route) for route in settings])
        self.bounds = _widest(settings)

    def __iter__(self) -> Iterator[RouteHandle]:
        return iter(tuple(self._handles))


def _widest(settings: Sequence[RouteSettings]) -> HeadBounds:
    limits = [route.limits for route in settings] or [LimitSettings()]
    timeouts = [route.timeouts for route in settings] or [TimeoutSettings()]
    return HeadBounds(
        headers=_wider([limit.headers for limit in limits]),
        header_bytes=_wider([limit.header_bytes for limit in limits]),
        handshake_s=max(timeout.handshake_s for timeout in timeouts),
    )


def _wider(limits: Sequence[int]) -> int:
    """The largest; 0 is no limit, and wider than any."""
    return 0 if 0 in limits else max(limits)


def claim_of(route: RouteSettings) -> Claim:
    """What the route asks of requests."""
    return Claim(*route.claim, route.whole_segments)


def _key(route: RouteSettings) -> tuple[str, ...]:
    return route.app, route.protocol, route.name, *route.claim
