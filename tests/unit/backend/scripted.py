"""A backend that misbehaves on command, and mailboxes that check every promise of the deliverer."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack

from edge.backend.base import Outcome, Release
from edge.backend.client import BackendClient
from edge.clock import SystemClock
from edge.config import RouteSettings
from edge.protocol.callbacks.events import Event, Message, Parcel
from edge.protocol.callbacks.wire import JSON_TYPE, MSGPACK_TYPE
from edge.telemetry.metrics import Metrics
from edge.wheel import Wheel

DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the backend got it."""

    line: str
    headers: dict[str, str]
    body: bytes
    number: int

    @property
    def content(self) -> dict[str, Any]:
        packed = self.headers["content-type"] == MSGPACK_TYPE
        found: dict[str, Any] = msgpack.unpackb(self.body) if packed else json.loads(self.body)
        return found

    @property
    def events(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = self.content["events"]
        return events

    @property
    def ids(self) -> list[str]:
        return [event["id"] for event in self.events]


def http(status: int = 200, body: bytes = b"", type: str = JSON_TYPE, *headers: str) -> bytes:
    """A whole answer with a length."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", f"Content-Type: {type}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def echo(request: Request, but: Sequence[str] = ()) -> bytes:
    """Answer every event with a send of its own id, in the request's encoding; leave out those in `but`."""
    results = [{"id": id, "actions": [{"type": "send", "text": id}]} for id in request.ids if id not in but]
    if request.headers["content-type"] == MSGPACK_TYPE:
        return http(200, msgpack.packb({"results": results}), MSGPACK_TYPE)
    return http(200, json.dumps({"results": results}).encode())


Behaviour = Callable[[Request, asyncio.StreamWriter], Awaitable[bytes | None]]


async def good(request: Request, writer: asyncio.StreamWriter) -> bytes:
    return echo(request)


@dataclass(eq=False)
class Backend:
    """An HTTP server of our own. `behave` gets each request and says what to write; None: nothing (it did that itself,
    or never answers)."""

    behave: Behaviour = good
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    connections: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, **options: Any) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, limit=1 << 25, reuse_address=True, **options
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Die at once: the listener and every connection."""
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
                body = await reader.readexactly(int(headers["content-length"]))
                request = Request(head[0], headers, body, len(self.requests) + 1)
                self.requests.append(request)
                answer = await self.behave(request, writer)
                if answer is not None:
                    writer.write(answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()

    @property
    def release(self) -> Release:
        return Release("app", "sha1", f"http://127.0.0.1:{self.port}")


class Box:
    """A mailbox that checks: taken only when nothing is under way, settled once each, in order."""

    def __init__(self, desk: Desk, session: str) -> None:
        self.desk = desk
        self.session = session
        self.queue: deque[Event] = deque()
        self.taken: deque[Event] = deque()
        self.outcomes: list[tuple[str, Outcome]] = []
        self.count = 0
        self.version = 0
        self.announced = False
        self.settling = False
        """As a session whose last answer waits for Redis."""

    @property
    def route(self) -> RouteSettings:
        return self.desk.route

    @property
    def release(self) -> Release:
        return self.desk.release

    def put(self, payload: str | bytes = "x", events: int = 1) -> None:
        """Events happen."""
        for _ in range(events):
            self.count += 1
            at = self.desk.clock.wall_ms()
            self.queue.append(Message(f"{self.session}:{self.count}", at, payload))
        self._announce()

    def take(self, max_events: int, max_bytes: int) -> Parcel:
        assert self.announced
        assert not self.taken
        self.announced = False
        while self.queue and len(self.taken) < max_events:
            self.taken.append(self.queue.popleft())
        return Parcel(self.session, self.release.sha, None, {"v": self.version}, self.version, 1, list(self.taken))

    def refresh(self, parcel: Parcel) -> Parcel:
        return replace(parcel, state={"v": self.version}, version=self.version)

    def settle(self, outcomes: Sequence[tuple[Event, Outcome]]) -> None:
        assert outcomes
        for event, outcome in outcomes:
            assert self.taken.popleft() is event
            self.outcomes.append((event.id, outcome))
            self.version += 1
        self.desk.settled()
        if self.queue and not self.taken:
            self._announce()

    def _announce(self) -> None:
        if not self.announced and not self.taken:
            self.announced = True
            self.desk.client.ready(self)

    @property
    def done(self) -> bool:
        return not self.queue and not self.taken


class Desk:
    """A client with its surroundings, and the boxes it serves."""

    def __init__(self, release: Release, route: RouteSettings) -> None:
        self.clock = SystemClock()
        self.wheel = Wheel(self.clock)
        self.metrics = Metrics()
        self.route = route
        self.release = release
        loop = asyncio.get_running_loop()
        self.wheel.start(loop)
        self.client = BackendClient("edge-1", self.clock, self.wheel, self.metrics, loop)
        self.boxes: list[Box] = []
        self._changed: asyncio.Future[None] | None = None

    def box(self) -> Box:
        box = Box(self, f"s{len(self.boxes)}")
        self.boxes.append(box)
        return box

    def settled(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that settling an event may fulfil."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._changed = asyncio.get_running_loop().create_future()
                await asyncio.wait([self._changed], timeout=0.05)

    async def all_done(self) -> None:
        await self.until(lambda: all(box.done for box in self.boxes))

    @property
    def meters(self) -> Any:
        return self.metrics.route(self.route.name, self.release.sha)

    def close(self) -> None:
        self.client.close()
        self.wheel.stop()


@asynccontextmanager
async def desk_and_backend(
    behave: Behaviour = good, route: RouteSettings | None = None
) -> AsyncIterator[tuple[Desk, Backend]]:
    backend = Backend(behave)
    await backend.start()
    desk = Desk(backend.release, route or RouteSettings())
    try:
        yield desk, backend
    finally:
        desk.close()
        await backend.stop()
