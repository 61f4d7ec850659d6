"""An edge in a dict, for the rules of HTTP: who may come in, what is refused, how answers look.

What the operations do to real sessions and a real Redis is tests/scenarios/test_control_api.py's question.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from edge.backend.shadow import ShadowFigures
from edge.clock import ManualClock
from edge.config import PublisherSettings, RouteSettings, Secret
from edge.control.app import control_app
from edge.errors import NotFound
from edge.model.link_backlog import ParkedEvent
from edge.model.release import ReleaseCounts, ReleaseTable, StoredTable
from edge.protocol.callbacks.actions import Result
from edge.protocol.grip.items import Item
from edge.sessions.grip.publisher import ItemResult
from edge.sessions.inquiries import SessionFilter
from edge.sessions.operations_port import AppState, ChannelState
from edge.sessions.release_desk import Change, NewRelease, ReleaseDesk
from edge.store.base import HistoryPage, Position, Publication, Published, SessionRow, StoredTimer
from edge.store.links_base import LinkRow
from edge.telemetry.metrics import Metrics


class MemoryReleases:
    """A `ReleaseStore`."""

    def __init__(self) -> None:
        self.stored: dict[str, StoredTable] = {}

    def releases(self, app: str) -> asyncio.Future[StoredTable]:
        return _done(self.stored.get(app, StoredTable()))

    def write_releases(self, app: str, document: Mapping[str, Any], expected: int) -> asyncio.Future[bool]:
        if self.stored.get(app, StoredTable()).version != expected:
            return _done(False)
        self.stored[app] = StoredTable(expected + 1, document)
        return _done(True)

    def hold_office(self, name: str, holder: str, ttl_ms: int) -> asyncio.Future[bool]:
        return _done(True)


def _done(value: Any) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


class MemoryEdge:
    """Keeps what it is told, and raises `failure` when that is set."""

    def __init__(self, routes: Sequence[RouteSettings] = ()) -> None:
        self.routes = routes
        self.complete = True
        self.laid_aside: list[ParkedEvent] = []
        self.lives: dict[str, Sequence[Mapping[str, Any]]] = {}
        self.published: list[Publication] = []
        self.rows: dict[str, SessionRow | LinkRow] = {}
        self.orders: list[tuple[str, Result]] = []
        self.order_apps: list[str | None] = []
        self.ended: list[tuple[str, int, str]] = []
        self.reasons: list[str] = []
        self.items: list[Item] = []
        self.recovered = 0
        self.drained = 0
        self.failure: Exception | None = None
        self.release_changes: list[str] = []
        self.release_store = MemoryReleases()
        self.counts = ReleaseCounts({}, complete=True)
        self.unhealthy = ""
        self.checked: list[tuple[str, str]] = []
        self._desk = ReleaseDesk(self.release_store, lambda: routes, ManualClock(), self._changed, self._check)

    async def _check(self, url: str, health_path: str) -> str:
        self.checked.append((url, health_path))
        return self.unhealthy

    async def _changed(self, app: str, stored: StoredTable) -> None:
        assert stored == self.release_store.stored[app]
        self.release_changes.append(app)

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def publish(
        self, channel: str, payload: str | bytes, *, id: str | None = None, sender: str | None = None
    ) -> Published:
        self._fail()
        position = Position(len(self.published) + 1, "e")
        self.published.append(Publication(channel, payload, position, sender, 1_700_000_000_000))
        return Published(position, id == "again")

    async def channel(self, channel: str) -> ChannelState:
        self._fail()
        return ChannelState(channel, 3, Position(7, "e"))

    async def history(self, channel: str, since: Position | None, limit: int) -> HistoryPage:
        self._fail()
        found = [p for p in self.published if p.channel == channel]
        if since is not None:
            found = [p for p in found if p.position.offset > since.offset]
        return HistoryPage(found[:limit], True, Position(len(self.published), "e"))

    async def publish_items(self, items: Sequence[Item], *, count: bool) -> Sequence[ItemResult]:
        self._fail()
        self.items += items
        return [ItemResult(item.channel, item.id == "again", 2 if count else None) for item in items]

    async def recover(self) -> None:
        self._fail()
        self.recovered += 1

    async def session(self, session: str) -> SessionRow | LinkRow:
        self._fail()
        if session not in self.rows:
            raise NotFound(f"there is no session {session!r}")
        return self.rows[session]

    async def sessions(self, wanted: SessionFilter) -> tuple[Sequence[SessionRow], bool]:
        self._fail()
        rows = [row for row in self.rows.values() if isinstance(row, SessionRow) and wanted.passes(row)]
        return rows[: wanted.limit], self.complete

    async def life(self, session: str) -> tuple[Sequence[Mapping[str, Any]], bool]:
        self._fail()
        if session not in self.lives:
            raise NotFound(f"nothing is known of session {session!r}")
        return self.lives[session], self.complete

    async def parked(self, link: str) -> Sequence[ParkedEvent]:
        self._fail()
        await self.session(link)
        return self.laid_aside

    def apps(self) -> Sequence[AppState]:
        apps = sorted({route.app for route in self.routes})
        return [AppState(app, [route.name for route in self.routes if route.app == app], "follow") for app in apps]

    async def act(self, session: str, order: Result, app: str | None = None) -> None:
        self._fail()
        self.orders.append((session, order))
        self.order_apps.append(app)

    async def end_session(self, session: str, code: int, reason: str) -> None:
        self._fail()
        self.ended.append((session, code, reason))

    async def releases(self, app: str) -> ReleaseTable:
        self._fail()
        return await self._desk.releases(app)

    async def put_release(self, app: str, new: NewRelease) -> ReleaseTable:
        return await self._desk.put_release(app, new)

    async def change_releases(self, app: str, change: Change) -> ReleaseTable:
        return await self._desk.change_releases(app, change)

    async def release_counts(self, app: str) -> ReleaseCounts:
        return self.counts

    async def shadow_figures(self, app: str) -> ShadowFigures:
        return ShadowFigures(4, 3, 1)

    def drain(self) -> None:
        self.drained += 1

    def readiness(self) -> Sequence[str]:
        return self.reasons


ROW = SessionRow(
    id="s1",
    app="chat",
    route="*/",
    release="abc",
    owner="edge.0.aa",
    fence=3,
    transport="websocket",
    client="192.0.2.1:5000",
    opened_at=1_700_000_000_000,
    user="ann",
    state={"room": "a"},
    version=2,
    channels=["b", "a"],
    timers=[StoredTimer("t", 1_700_000_001_000, None)],
)


@asynccontextmanager
async def api(
    edge: MemoryEdge,
    *,
    tokens: Sequence[Secret] = (),
    bind: str = "127.0.0.1:5561",
    base_url: str = "http://localhost:5561",
    metrics: Metrics | None = None,
    publishers: Sequence[PublisherSettings] = (),
    publish_bytes: int = 1_000_000,
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API over `edge`. `tokens` and `publishers` may be lists that change under way."""
    counted = metrics or Metrics()

    async def gather() -> Mapping[str, Any]:
        return counted.snapshot()

    app = control_app(
        edge,
        gather,
        bind=bind,
        tokens=lambda: tokens,
        publishers=lambda: publishers,
        publish_bytes=lambda: publish_bytes,
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=base_url) as client:
        yield client
