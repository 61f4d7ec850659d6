"""Servers that speak HTTP as badly as a test needs, and those who ask them."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from edge.backend.http11 import Answer
from edge.backend.origin import BackendOrigin
from edge.backend.origin_base import AnswerHead, RawHeaders, Unanswered, Upstream
from edge.backend.origins import BackendOrigins
from edge.clock import SystemClock
from edge.config import RouteSettings, TargetSettings
from edge.telemetry.metrics import Metrics, RouteMeters
from edge.wheel import Wheel

DEADLINE_S = 20.0
REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ROUTE = RouteSettings(app="a", protocol="grip")


@dataclass(eq=False)
class Line:
    """One connection as the server sees it. `number` counts from 1."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> bytes:
        """A whole request with a length, or none."""
        head = await self.head()
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return head + await self.reader.readexactly(length)

    async def say(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0)

    def reset(self) -> None:
        """Close with an RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Serve = Callable[[Line], Awaitable[None]]


@dataclass(eq=False)
class RawServer:
    """Runs `serve` for every connection, and closes it afterwards."""

    serve: Serve
    port: int = 0
    lines: list[Line] = field(default_factory=list)
    open: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, **options: Any) -> None:
        self._server = await asyncio.start_server(
            self._run, "127.0.0.1", self.port, limit=1 << 25, reuse_address=True, **options
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        line = Line(len(self.lines) + 1, reader, writer)
        self.lines.append(line)
        self.open += 1
        try:
            await self.serve(line)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()


class Told:
    """An `Asker` that keeps what it is told, and never more than one thing."""

    def __init__(self) -> None:
        self._told: asyncio.Future[Answer | Unanswered] = asyncio.get_running_loop().create_future()

    def answered(self, answer: Answer) -> None:
        self._told.set_result(answer)

    def unanswered(self, failure: Unanswered) -> None:
        self._told.set_result(failure)

    @property
    def done(self) -> bool:
        return self._told.done()

    async def outcome(self) -> Answer | Unanswered:
        return await asyncio.wait_for(asyncio.shield(self._told), DEADLINE_S)

    async def answer(self) -> Answer:
        outcome = await self.outcome()
        assert isinstance(outcome, Answer), outcome
        return outcome

    async def failure(self) -> Unanswered:
        outcome = await self.outcome()
        assert isinstance(outcome, Unanswered), outcome
        return outcome


class Heard:
    """An `AnswerListener` that keeps everything, and checks the order."""

    def __init__(self) -> None:
        self.head: AnswerHead | None = None
        self.parts: list[bytes] = []
        self.trailers: RawHeaders | None = None
        self.failure: Unanswered | None = None
        self.pauses: list[bool] = []
        self.over = asyncio.Event()
        self.upstream: Upstream | None = None

    def began(self, head: AnswerHead) -> None:
        assert self.head is None
        assert not self.over.is_set()
        self.head = head

    def body(self, data: bytes) -> None:
        assert self.head is not None
        assert not self.over.is_set()
        self.parts.append(data)

    def ended(self, trailers: RawHeaders) -> None:
        assert self.head is not None
        assert not self.over.is_set()
        self.trailers = trailers
        self.over.set()

    def failed(self, failure: Unanswered) -> None:
        assert not self.over.is_set()
        self.failure = failure
        self.over.set()

    def sending_paused(self, yes: bool) -> None:
        assert not self.over.is_set()
        assert yes is not (self.pauses[-1] if self.pauses else False)
        self.pauses.append(yes)

    @property
    def data(self) -> bytes:
        return b"".join(self.parts)

    async def whole(self) -> AnswerHead:
        """Wait for a good end."""
        await asyncio.wait_for(self.over.wait(), DEADLINE_S)
        assert self.failure is None, self.failure
        assert self.head is not None
        return self.head

    async def failing(self) -> Unanswered:
        await asyncio.wait_for(self.over.wait(), DEADLINE_S)
        assert self.failure is not None
        return self.failure


@dataclass(eq=False)
class Scene:
    """A server, and the edge's side of it."""

    server: RawServer
    origins: BackendOrigins
    route: RouteSettings
    target: TargetSettings
    meters: RouteMeters
    wheel: Wheel

    @property
    def origin(self) -> BackendOrigin:
        return self.origins.of(self.route, self.target)

    def ask(self, request: bytes = REQUEST, timeout_s: float = 10.0) -> Told:
        told = Told()
        self.origin.ask(request, told, timeout_s)
        assert not told.done
        return told

    def stream(self, head: bytes, *parts: bytes, complete: bool = True, silence_s: float = 10.0) -> Heard:
        heard = Heard()
        heard.upstream = self.origin.stream(head, heard, silence_s)
        assert not heard.over.is_set()
        for part in parts:
            heard.upstream.send(part)
        if complete:
            heard.upstream.complete()
        return heard


@asynccontextmanager
async def scene(serve: Serve, *, connections: int = 100, connect_s: float = 5.0, **grip: Any) -> AsyncIterator[Scene]:
    """`serve` on a free port, and origins for it."""
    server = RawServer(serve)
    await server.start()
    clock = SystemClock()
    wheel = Wheel(clock)
    loop = asyncio.get_running_loop()
    wheel.start(loop)
    metrics = Metrics()
    origins = BackendOrigins(clock, wheel, metrics, loop)
    route = replace(
        ROUTE,
        timeouts=replace(ROUTE.timeouts, connect_s=connect_s),
        grip=replace(ROUTE.grip, backend_connections=connections, **grip),
    )
    target = TargetSettings(f"http://127.0.0.1:{server.port}")
    meters = metrics.route(route.name, "")
    try:
        yield Scene(server, origins, route, target, meters, wheel)
    finally:
        origins.close()
        await server.stop()
        while meters.backend_connections.value:
            await asyncio.sleep(0.01)
        wheel.stop()
        assert meters.in_flight.value == 0


async def answers(line: Line, *octets: bytes) -> None:
    """Answer one request after the other with the same bytes, in the parts between ``|``."""
    while True:
        await line.request()
        for answer in octets or (OK,):
            await line.say(*answer.split(b"|"))


def parts_of(octets: bytes, cuts: Sequence[int]) -> list[bytes]:
    """`octets`, cut at these places."""
    places = sorted({min(cut, len(octets)) for cut in cuts} | {0, len(octets)})
    return [octets[start:end] for start, end in pairwise(places)]
