"""GRIP's channels and publisher as edges have them: on a real Redis, with members that write down what they get."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from edge.clock import SystemClock
from edge.config import EdgeSettings, GripRouteSettings, GripSettings
from edge.protocol.grip.bus import unpack_item
from edge.protocol.grip.items import Item
from edge.sessions.grip.channels import GripChannels
from edge.sessions.grip.ports import Delivery, MemberKind
from edge.sessions.grip.publisher import ItemPublisher
from edge.sessions.post import Post
from edge.sessions.services import Services
from edge.store.base import BusListener, Publication
from edge.store.redis import RedisStore, open_store
from edge.telemetry.metrics import Metrics
from edge.wheel import Wheel
from tests.support.redis import redis_cluster, redis_server, redis_url

__all__ = ["redis_cluster", "redis_server", "redis_url"]


class Guest:
    """A member that writes down what it is told."""

    def __init__(self, kind: MemberKind = "socket", route: str = "*/", meta: Mapping[str, str] | None = None) -> None:
        self.kind: MemberKind = kind
        self.route = route
        self.meta: Mapping[str, str] = meta or {}
        self.channels: Collection[str] | Mapping[str, str | None] = ()
        self.deliveries: list[Delivery] = []
        self.left_out: list[tuple[str | None, str | None]] = []
        self.told_missed: list[str] = []
        self.on_delivery: Callable[[], None] = lambda: None

    def deliver(self, delivery: Delivery) -> None:
        self.on_delivery()
        self.deliveries.append(delivery)

    def skipped(self, item: Item, problem: str | None = None) -> None:
        self.left_out.append((item.id, problem))

    def missed(self, channel: str) -> None:
        self.told_missed.append(channel)

    @property
    def read(self) -> list[str]:
        """Contents of the format it takes."""
        return [content_of(delivery.item, self.kind) for delivery in self.deliveries]


def content_of(item: Item, kind: MemberKind) -> str:
    content: str | bytes
    if kind == "socket":
        assert item.socket is not None
        content = item.socket.content
    elif kind == "stream":
        assert item.stream is not None
        content = item.stream.content
    else:
        assert item.response is not None
        content = item.response.body
    return content if isinstance(content, str) else content.decode()


@dataclass
class GripEdge:
    """What one edge process has for GRIP. `settings` and `routes` may be changed under way."""

    id: str
    store: RedisStore
    wheel: Wheel
    metrics: Metrics
    channels: GripChannels
    publisher: ItemPublisher
    post: Post
    settings: list[GripSettings]
    routes: dict[str, GripRouteSettings] = field(default_factory=dict)
    lost: Callable[[Item], bool] = lambda item: False
    """Items that do not come over the bus."""

    def heard(self, publication: Publication) -> None:
        assert isinstance(publication.payload, bytes)
        if publication.payload.startswith(b"\xc1") or not self.lost(unpack_item(publication.payload)):
            self.channels.publication(publication)

    async def join(self, member: Guest, channel: str, *filters: str) -> None:
        """Subscribe, and wait until it stands."""
        if (standing := self.channels.join(member, channel, filters)) is not None:
            await asyncio.wait_for(asyncio.shield(standing), 30)


OpenGripEdge = Callable[..., Awaitable[GripEdge]]


class _NoHub:
    def subscribers(self, channel: str) -> int:
        return 0


@pytest.fixture
async def open_grip_edge() -> AsyncIterator[OpenGripEdge]:
    """``await open_grip_edge(url, prefix, settings)``: a started edge, with a lease; closed after the test."""
    edges: list[GripEdge] = []

    async def opened(url: str, prefix: str, settings: GripSettings | None = None, **store: Any) -> GripEdge:
        name = f"edge{len(edges)}-{secrets.token_hex(3)}"
        clock, metrics = SystemClock(), Metrics()
        wheel, post = Wheel(clock), Post()
        wheel.start(asyncio.get_running_loop())
        opened = open_store(EdgeSettings(redis=url, **store), name, clock, prefix=prefix, meters=metrics.process)
        assert isinstance(opened, RedisStore)
        current = [settings or GripSettings()]
        routes: dict[str, GripRouteSettings] = {}
        channels = GripChannels(opened, wheel, clock, metrics, lambda: current[0], routes.get)
        post.receivers, post.recover = channels.receivers, channels.recover
        fields: dict[str, Any] = dict.fromkeys(("deliverer", "policies", "registry", "releases"))
        post.services = Services(
            edge_id=name,
            clock=clock,
            wheel=wheel,
            metrics=metrics,
            store=opened,
            hub=cast(Any, _NoHub()),
            post=post,
            **fields,
        )
        publisher = ItemPublisher(opened, post, metrics, lambda: current[0])
        edge = GripEdge(name, opened, wheel, metrics, channels, publisher, post, current, routes)
        edges.append(edge)
        listener = BusListener(edge.heard, post.received, channels.interrupted, channels.restored)
        await opened.start(listener)
        await opened.renew(name, 60_000, {})
        return edge

    yield opened
    for edge in edges:
        edge.wheel.stop()
    await asyncio.gather(*(edge.store.close() for edge in edges))


@pytest.fixture(params=["standalone", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    name = {"standalone": "redis_url", "cluster": "redis_cluster"}
    found = request.getfixturevalue(name[request.param])
    return found if isinstance(found, str) else str(found.url)


@pytest.fixture
def prefix() -> str:
    """Keys of this test alone."""
    return f"t{secrets.token_hex(4)}:"


@pytest.fixture
async def edge(open_grip_edge: OpenGripEdge, url: str, prefix: str) -> GripEdge:
    return await open_grip_edge(url, prefix)


@pytest.fixture
async def other(open_grip_edge: OpenGripEdge, url: str, prefix: str) -> GripEdge:
    """A second edge on the same Redis."""
    return await open_grip_edge(url, prefix)
