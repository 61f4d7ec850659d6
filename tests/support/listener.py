"""A real listener of client connections on a real port, with a recording session behind each connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import uvicorn

from edge.clock import Clock, SystemClock
from edge.config import EdgeSettings, RouteSettings
from edge.protocol.callbacks.events import ClientRequest
from edge.sessions.connection import Connection, Frame, HttpDoor
from edge.sessions.routes import RouteHandle, Routes
from edge.telemetry.metrics import Metrics
from edge.transports.http import listener_config
from edge.transports.reception import Reception
from edge.wheel import Wheel

DEADLINE_S = 10.0


async def until(condition: Callable[[], object], what: str = "the condition") -> None:
    """Wait for `condition` to hold; fail after a deadline that only a broken program reaches."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.002)
    assert condition(), what


@dataclass
class Guest:
    """A session's side that keeps what it is told; it echoes and lets go of its own accord if asked to."""

    connection: Connection
    route: RouteHandle
    request: ClientRequest
    transport: str
    echo: bool = False
    finish: bool = True
    on_first: Callable[[Guest], None] | None = None
    heard: list[str | bytes] = field(default_factory=list)
    controls: list[tuple[str, bytes]] = field(default_factory=list)
    """Pings and pongs that were passed on: ``ping`` or ``pong``, and the payload."""
    congestions: list[bool] = field(default_factory=list)
    goodbyes: list[tuple[int, str]] = field(default_factory=list)
    ends: list[tuple[int, str, bool, str]] = field(default_factory=list)

    def received(self, payload: str | bytes) -> None:
        self.heard.append(payload)
        if self.on_first is not None and len(self.heard) == 1:
            self.on_first(self)
        if self.echo:
            self.connection.send(Frame(payload))

    def pinged(self, payload: bytes) -> None:
        self.controls.append(("ping", payload))

    def ponged(self, payload: bytes) -> None:
        self.controls.append(("pong", payload))

    def congested(self, yes: bool) -> None:
        self.congestions.append(yes)

    def closing(self, code: int, reason: str) -> None:
        self.goodbyes.append((code, reason))
        if self.finish:
            self.connection.finish()

    def ended(self, code: int, reason: str, *, clean: bool, cause: str) -> None:
        self.ends.append((code, reason, clean, cause))


@dataclass
class Hall:
    """The door: greets every connection with a `Guest`. `welcome` answers the handshake (default: accept at once)."""

    echo: bool = False
    finish: bool = True
    on_first: Callable[[Guest], None] | None = None
    welcome: Callable[[Guest], None] = lambda guest: guest.connection.accept(None, [])
    guests: list[Guest] = field(default_factory=list)

    def open(self, connection: Connection, route: RouteHandle, request: ClientRequest, transport: str) -> Guest:
        guest = Guest(connection, route, request, transport, self.echo, self.finish, self.on_first)
        self.guests.append(guest)
        self.welcome(guest)
        return guest


@dataclass
class Listener:
    """What a test holds of a running listener."""

    port: int
    hall: Hall
    reception: Reception
    routes: Routes
    metrics: Metrics
    wheel: Wheel
    server: uvicorn.Server

    def url(self, path: str = "/") -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    async def guest(self, number: int = 0) -> Guest:
        """The session's side of the connection that came as this number; waits for it."""
        await until(lambda: len(self.hall.guests) > number, "a connection reached the door")
        return self.hall.guests[number]

    def limits_hit(self) -> dict[str, int]:
        """Limit → how often, over all routes and none."""
        hit: dict[str, int] = {}
        for meters in [self.routes.nowhere, *(route.meters for route in self.routes)]:
            for limit, counter in meters.limits_hit.items():
                hit[limit] = hit.get(limit, 0) + counter.value
        return hit


@contextlib.asynccontextmanager
async def listening(
    *routes: RouteSettings,
    edge: EdgeSettings | None = None,
    hall: Hall | None = None,
    http: HttpDoor | None = None,
    clock: Clock | None = None,
    send_buffer: int = 0,
    tls: tuple[str, str] | None = None,
) -> AsyncIterator[Listener]:
    """Serve `routes` (default: one that takes everything) on the running loop; the real transport under uvicorn.

    `http` is the door for requests of GRIP routes; `tls`: certificate file, key file.
    `send_buffer`: bytes of the kernel's buffer for each client (its default grows to megabytes).
    With a `clock` of its own the wheel does not turn by itself: move the clock and call `wheel.advance()`.
    """
    loop = asyncio.get_running_loop()
    metrics, hall = Metrics(), hall or Hall()
    wheel = Wheel(clock or SystemClock())
    if clock is None:
        wheel.start(loop)
    table = Routes(list(routes) or [RouteSettings()], metrics)
    reception = Reception(
        edge or EdgeSettings(), table, hall, http_door=http, wheel=wheel, clock=clock or SystemClock(), loop=loop
    )
    reception.start()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if send_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        options = {"ssl_certfile": tls[0], "ssl_keyfile": tls[1]} if tls else {}
        config = listener_config(reception, **options)
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[listener])
        try:
            yield Listener(listener.getsockname()[1], hall, reception, table, metrics, wheel, server)
        finally:
            await _take_down(server, reception, hall)
            wheel.stop()


async def _take_down(server: uvicorn.Server, reception: Reception, hall: Hall) -> None:
    for guest in hall.guests:
        guest.connection.close(1001, "test over")
        guest.connection.finish()
    reception.stop()
    for running in server.servers:
        running.close()
    for protocol in list(server.server_state.connections):
        protocol.transport.abort()
