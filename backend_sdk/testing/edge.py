"""`TestEdge` and its twin without ``await``, `SyncTestEdge`: what tests hold in their hands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

from starlette.types import ASGIApp

from backend_sdk.errors import Headers
from backend_sdk.events import Position
from backend_sdk.testing.caller import Caller
from backend_sdk.testing.core import C, Core, L
from backend_sdk.testing.links import LinkDriver
from backend_sdk.testing.records import ClientRecord, Closed

T = TypeVar("T")


def _handshake(path: str, query: str, headers: Headers, subprotocols: Sequence[str], client: str) -> dict[str, Any]:
    pairs = headers.items() if hasattr(headers, "items") else headers
    return {
        "method": "GET",
        "path": path,
        "query": query,
        "headers": [["Host", "edge.test"], *([name, value] for name, value in pairs)],
        "client": client,
        "scheme": "ws",
        "subprotocols": list(subprotocols),
    }


class _Edge(Generic[C, L]):
    """What needs no waiting, the same in both twins.

    app
        An `App`, or any ASGI app that has one mounted; `path` says where.
    secrets
        What requests are signed with; an `App`'s own by default, none for other apps.
    encoding
        How bodies go both ways: ``msgpack`` or ``json``.
    release
        The SHA that sessions are on.
    history
        Publications every channel remembers; 0: none.
    attempts
        How often an event is tried before the test gets `BackendFailed`.
    """

    __test__ = False  # pytest: not a test class

    def __init__(
        self,
        app: ASGIApp,
        *,
        path: str = "/",
        secrets: Sequence[str | bytes] | None = None,
        encoding: Literal["json", "msgpack"] = "msgpack",
        release: str = "test",
        history: int = 100,
        attempts: int = 1,
    ) -> None:
        self._caller = Caller(app, path, encoding, secrets)
        self._core: Core[C, L] = Core(self._caller, self._make, self._make_link, release, history, attempts)
        self._stop = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    def _make(self, id: str, release: str) -> C:
        raise NotImplementedError

    def _make_link(self, id: str, jid: str, release: str) -> L:
        raise NotImplementedError

    def link(self, id: str, *, jid: str | None = None) -> L:
        """The XMPP link of that id, whose far end the test plays from now on. One that nobody has connected is made
        with `jid`, as if it had been; without it that is a LookupError."""
        return self._core.link(id, jid)

    @property
    def now_ms(self) -> int:
        """The edge's clock, ms since the epoch; only `advance` moves it."""
        return self._core.now_ms

    @property
    def clients(self) -> Sequence[C]:
        """All clients there ever were, in the order they came."""
        return list(self._core.clients.values())

    def publish(self, channel: str, payload: str | bytes, *, id: str | None = None, sender: str | None = None) -> bool:
        """Publish from outside, as the control API does. False when `id` was there before. Raises
        `backend_sdk.errors.Unavailable` while the store is away."""
        return self._core.publish(channel, payload, id, sender)

    def position(self, channel: str) -> Position:
        """A channel's newest position."""
        return self._core.channel(channel).position

    def history(self, channel: str) -> list[str | bytes]:
        """What a channel remembers, oldest first."""
        return [kept.payload for kept in self._core.channel(channel).kept]

    def lose_answers(self, count: int = 1) -> None:
        """The next `count` answers get lost on their way: the backend has handled the events, and gets them again."""
        self._core.lost_answers += count

    @property
    def store_away(self) -> bool:
        """Whether the edge's Redis is away; may be set. Then, as on a real edge, an answer that changes the session
        (state, user, release, subscriptions, timers, or an action with an `id`) is refused whole, a publication alone;
        the backend gets a `refused` event, and a client that was being let in gets 503."""
        return self._core.store_away

    @store_away.setter
    def store_away(self, away: bool) -> None:
        self._core.store_away = away

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        started: asyncio.Future[None] = loop.create_future()
        self._life = loop.create_task(self._caller.live(started, self._stop))
        await started

    async def _finish(self) -> None:
        self._stop.set()
        if self._life is not None:
            await self._life


class TestClient(ClientRecord):
    """A client of a `TestEdge`; `TestEdge.connect` makes it."""

    __test__ = False

    def __init__(self, edge: TestEdge, id: str, release: str) -> None:
        super().__init__(id, release)
        self._edge = edge

    async def send(self, payload: str | bytes) -> None:
        """Send a message and wait until the backend's answer has taken effect."""
        await self._edge._core.message(self, payload)

    async def send_json(self, value: Any) -> None:
        """Send `value` as JSON text."""
        await self.send(json.dumps(value))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye."""
        await self._edge._core.end(self, Closed(code, reason), clean=True, cause="client")

    async def vanish(self, cause: str = "client") -> None:
        """Be gone without a close frame (1006); `cause` as in the `close` event, say ``edge-lost``."""
        await self._edge._core.end(self, Closed(1006, ""), clean=False, cause=cause)


class TestLink(LinkDriver[Coroutine[Any, Any, None]]):
    """An XMPP link of a `TestEdge`; `TestEdge.link` gives it. Its methods are awaited."""

    __test__ = False


class TestEdge(_Edge[TestClient, TestLink]):
    __doc__ = f"An edge in memory, for tests that await.\n{_Edge.__doc__}"

    def _make(self, id: str, release: str) -> TestClient:
        return TestClient(self, id, release)

    def _make_link(self, id: str, jid: str, release: str) -> TestLink:
        return TestLink(id, jid, release, self._core.happen, lambda work: work, lambda: self.now_ms)

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._finish()

    async def connect(
        self,
        path: str = "/",
        *,
        query: str = "",
        headers: Headers = (),
        subprotocols: Sequence[str] = (),
        client: str = "127.0.0.1:50000",
        transport: str = "websocket",
    ) -> TestClient:
        """A client connects. Raises `Rejected` when the backend refuses it."""
        return await self._core.connect(_handshake(path, query, headers, subprotocols, client), transport)

    async def advance(self, ms: int) -> None:
        """Let `ms` milliseconds pass; timers run at their time, in order."""
        await self._core.advance(ms)

    async def promote(self, release: str) -> None:
        """Roll out another release: sessions that are not pinned get a `release` event."""
        await self._core.promote(release)

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[None]:
        """Events that happen inside leave in one request at the end."""
        self._core.holding = True
        try:
            yield
        finally:
            self._core.holding = False
        await self._core.flush()


class SyncTestClient(ClientRecord):
    """A client of a `SyncTestEdge`; as `TestClient`, without ``await``."""

    __test__ = False

    def __init__(self, edge: SyncTestEdge, id: str, release: str) -> None:
        super().__init__(id, release)
        self._edge = edge

    def send(self, payload: str | bytes) -> None:
        """Send a message and wait until the backend's answer has taken effect."""
        self._edge._run(self._edge._core.message(self, payload))

    def send_json(self, value: Any) -> None:
        """Send `value` as JSON text."""
        self.send(json.dumps(value))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye."""
        self._edge._run(self._edge._core.end(self, Closed(code, reason), clean=True, cause="client"))

    def vanish(self, cause: str = "client") -> None:
        """Be gone without a close frame (1006)."""
        self._edge._run(self._edge._core.end(self, Closed(1006, ""), clean=False, cause=cause))


class SyncTestLink(LinkDriver[None]):
    """An XMPP link of a `SyncTestEdge`; as `TestLink`, without ``await``."""

    __test__ = False


class SyncTestEdge(_Edge[SyncTestClient, SyncTestLink]):
    __doc__ = f"An edge in memory, for tests that do not await; it brings its own event loop.\n{_Edge.__doc__}"

    def _make(self, id: str, release: str) -> SyncTestClient:
        return SyncTestClient(self, id, release)

    def _make_link(self, id: str, jid: str, release: str) -> SyncTestLink:
        return SyncTestLink(id, jid, release, self._core.happen, self._run, lambda: self.now_ms)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner()
        self._run(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._run(self._finish())
        finally:
            self._runner.close()

    def connect(
        self,
        path: str = "/",
        *,
        query: str = "",
        headers: Headers = (),
        subprotocols: Sequence[str] = (),
        client: str = "127.0.0.1:50000",
        transport: str = "websocket",
    ) -> SyncTestClient:
        """A client connects. Raises `Rejected` when the backend refuses it."""
        return self._run(self._core.connect(_handshake(path, query, headers, subprotocols, client), transport))

    def advance(self, ms: int) -> None:
        """Let `ms` milliseconds pass; timers run at their time, in order."""
        self._run(self._core.advance(ms))

    def promote(self, release: str) -> None:
        """Roll out another release: sessions that are not pinned get a `release` event."""
        self._run(self._core.promote(release))

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Events that happen inside leave in one request at the end."""
        self._core.holding = True
        try:
            yield
        finally:
            self._core.holding = False
        self._run(self._core.flush())
