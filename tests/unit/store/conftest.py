"""Stores on real Redis servers: standalone, a cluster with sharded pub/sub, and one of 6.2 without."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from edge.clock import SystemClock
from edge.config import EdgeSettings
from edge.store.base import BusListener, Publication, SessionRow
from edge.store.redis import RedisStore, open_store
from tests.support.redis import redis_cluster, redis_cluster_62, redis_server, redis_url

__all__ = ["redis_cluster", "redis_cluster_62", "redis_server", "redis_url"]


@dataclass
class Ears:
    """A bus listener that writes down what it is told."""

    publications: list[Publication] = field(default_factory=list)
    mail: list[tuple[str, bytes]] = field(default_factory=list)
    interruptions: int = 0
    restored: list[list[str]] = field(default_factory=list)

    def listener(self) -> BusListener:
        def interrupted() -> None:
            self.interruptions += 1

        return BusListener(
            self.publications.append,
            lambda sender, body: self.mail.append((sender, body)),
            interrupted,
            lambda channels: self.restored.append(list(channels)),
        )


@dataclass
class Edge:
    """A store as one edge process has it."""

    id: str
    store: RedisStore
    ears: Ears


OpenEdge = Callable[..., Awaitable[Edge]]


@pytest.fixture
async def open_edge() -> AsyncIterator[OpenEdge]:
    """``await open_edge(url, prefix="x:", store_wait_s=1.0)``: a started store, closed after the test."""
    edges: list[Edge] = []

    async def opened(url: str, prefix: str = "", *, start: bool = True, **settings: float) -> Edge:
        name = f"edge{len(edges)}-{secrets.token_hex(3)}"
        numbers = {key: int(value) if key == "store_queue" else value for key, value in settings.items()}
        store = open_store(EdgeSettings(redis=url, **numbers), name, SystemClock(), prefix=prefix or "hf:")  # type: ignore[arg-type]
        assert isinstance(store, RedisStore)
        edge = Edge(name, store, Ears())
        edges.append(edge)
        if start:
            await store.start(edge.ears.listener())
        return edge

    yield opened
    await asyncio.gather(*(edge.store.close() for edge in edges))


@pytest.fixture(params=["standalone", "cluster", "cluster of 6.2"])
def url(request: pytest.FixtureRequest) -> str:
    """Every kind of installation the promises hold on."""
    name = {"standalone": "redis_url", "cluster": "redis_cluster", "cluster of 6.2": "redis_cluster_62"}
    found = request.getfixturevalue(name[request.param])
    return found if isinstance(found, str) else str(found.url)


@pytest.fixture
def prefix() -> str:
    """Keys of this test alone."""
    return f"t{secrets.token_hex(4)}:"


@pytest.fixture
async def edge(open_edge: OpenEdge, url: str, prefix: str) -> Edge:
    return await open_edge(url, prefix)


@pytest.fixture
async def other(open_edge: OpenEdge, url: str, prefix: str) -> Edge:
    """A second edge on the same Redis."""
    return await open_edge(url, prefix)


def row(sid: str, owner: str, **fields: object) -> SessionRow:
    """A session's row with the dull fields filled in."""
    known: dict[str, object] = {
        "app": "chat", "route": "*/", "release": "abc", "fence": 1, "transport": "websocket",
        "client": "127.0.0.1:5", "opened_at": 1_700_000_000_000, **fields,
    }  # fmt: skip
    return SessionRow(id=sid, owner=owner, **known)  # type: ignore[arg-type]
