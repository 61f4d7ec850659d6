"""The door to GRIP routes: a WebSocket handshake becomes a `GripSocket`, an HTTP request an `Exchange`."""

from __future__ import annotations

from edge.protocol.callbacks.events import ClientRequest
from edge.sessions.connection import ClientExchange, Connection, ConnectionListener, ExchangeListener
from edge.sessions.grip.exchange import Exchange
from edge.sessions.grip.services import GripServices
from edge.sessions.grip.socket import GripSocket
from edge.sessions.routes import RouteHandle


class GripDoor:
    """`Door` and `HttpDoor` of GRIP routes."""

    __slots__ = ("_services",)

    def __init__(self, services: GripServices) -> None:
        self._services = services

    def open(
        self, connection: Connection, route: RouteHandle, request: ClientRequest, transport: str
    ) -> ConnectionListener:
        socket = GripSocket(self._services, route, connection, request)
        socket.begin()
        return socket

    def exchange(
        self, client: ClientExchange, route: RouteHandle, request: ClientRequest, length: int | None
    ) -> ExchangeListener:
        exchange = Exchange(self._services, route, client, request, length)
        exchange.begin()
        return exchange
