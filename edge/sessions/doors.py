"""Which door a connection goes through: that of its route's protocol."""

from __future__ import annotations

from edge.protocol.callbacks.events import ClientRequest
from edge.sessions.connection import Connection, ConnectionListener, Door
from edge.sessions.routes import RouteHandle


class Doors:
    """The `Door` of this process. A reload may change a route's protocol: what is open stays what it is."""

    __slots__ = ("_callbacks", "_grip")

    def __init__(self, callbacks: Door, grip: Door) -> None:
        self._callbacks = callbacks
        self._grip = grip

    def open(
        self, connection: Connection, route: RouteHandle, request: ClientRequest, transport: str
    ) -> ConnectionListener:
        door = self._grip if route.settings.protocol == "grip" else self._callbacks
        return door.open(connection, route, request, transport)
