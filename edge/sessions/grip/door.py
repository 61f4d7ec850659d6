"""The door to GRIP routes: a WebSocket handshake becomes a `GripSocket`."""

from __future__ import annotations

from edge.protocol.callbacks.events import ClientRequest
from edge.sessions.connection import Connection, ConnectionListener
from edge.sessions.grip.services import GripServices
from edge.sessions.grip.socket import GripSocket
from edge.sessions.routes import RouteHandle


class GripDoor:
    """`Door` of GRIP routes."""

    __slots__ = ("_services",)

    def __init__(self, services: GripServices) -> None:
        self._services = services

    def open(
        self, connection: Connection, route: RouteHandle, request: ClientRequest, transport: str
    ) -> ConnectionListener:
        socket = GripSocket(self._services, route, connection, request)
        socket.begin()
        return socket
