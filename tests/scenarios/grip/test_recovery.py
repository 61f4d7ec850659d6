"""What is missed is fetched: with ids, over links, from backends that come and go, on several edges with one Redis."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.scenarios.grip.http_stage import HttpStage, held, script, serving
from tests.support.grip_proxy import GripEdge, GripRoute
from tests.support.ports import LOOPBACK, free_port
from tests.support.raw_backend import Answer, Asked
from tests.support.redis import RedisServer, redis_server
from tests.support.waiting import DEADLINE_S, wait_until

pytestmark = pytest.mark.scenario

__all__ = ["redis_server"]

NEXT = ("Grip-Link", "</next>; rel=next")


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=DEADLINE_S * 3) as client:
        yield client


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[HttpStage]:
    port = free_port()
    async with GripEdge(tmp_path, GripRoute([f"http://{LOOPBACK}:{port}"])) as edge:
        yield HttpStage(edge, port)


class Feed:
    """A backend that keeps a list of items, and publishes nothing: a test does. /poll and /feed answer with what comes
    after Grip-Last, or `since` in the query."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self.asked: list[Asked] = []

    async def __call__(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        path, _, query = asked.target.partition("?")
        since = int(query.removeprefix("since=") or 0)
        last = asked.header("grip-last")
        if last is not None:
            since = int(last.partition("last-id=")[2])
        newest = f"list; prev-id={len(self.items)}"
        body = "".join(f"{item}\n" for item in self.items[since:]).encode()
        if path == "/poll":
            return Answer(body=body) if body else held("response", newest, body=b"nothing\n")
        return held("stream", newest, NEXT, body=body)

    def add(self, item: str) -> dict[str, str]:
        """A new item, and the ids to publish it with."""
        self.items.append(item)
        return {"id": str(len(self.items)), "prev_id": str(len(self.items) - 1)}


async def test_an_item_between_the_answer_and_the_subscription_is_not_missed(
    stage: HttpStage, client: httpx.AsyncClient
) -> None:
    """The backend has an item published while its own answer, which does not have it, is on its way."""
    feed = Feed()

    async def respond(asked: Asked) -> Answer:
        answer = await feed(asked)
        if len(feed.asked) <= 2:
            ids = feed.add(f"item {len(feed.asked)}")
            content = f"{feed.items[-1]}\n"
            await stage.publish("list", **ids, http_response={"body": content}, http_stream={"content": content})
        return answer

    async with stage.backend(respond):
        answer = await client.get(stage.url("/poll"))
        assert answer.text == "item 1\n"
        async with stage.stream("/feed?since=1") as stream:
            await stream.until(b"item 2\n")
    assert [asked.target for asked in feed.asked[:3]] == ["/poll", "/poll", "/feed?since=1"]


async def test_a_lost_publication_is_fetched_when_the_next_one_comes(
    stage: HttpStage, client: httpx.AsyncClient
) -> None:
    feed = Feed()
    async with stage.backend(feed), stage.stream("/feed") as stream:
        poll = asyncio.create_task(client.get(stage.url("/poll")))
        await wait_until(lambda: len(feed.asked) >= 2, "both are held")
        feed.add("lost")
        ids = feed.add("seen")
        await stage.publish("list", **ids, http_response={"body": "seen\n"}, http_stream={"content": "seen\n"})
        await stream.until(b"seen\n")
        assert stream.body == b"lost\nseen\n"
        assert (await poll).text == "lost\nseen\n"
        ids = feed.add("after")
        await stage.publish("list", **ids, http_stream={"content": "after\n"})
        await stream.until(b"after\n")
        assert stream.body == b"lost\nseen\nafter\n"


async def test_a_gap_is_filled_by_a_backend_that_was_away_meanwhile(
    stage: HttpStage, client: httpx.AsyncClient
) -> None:
    feed = Feed()
    async with contextlib.AsyncExitStack() as stack:
        async with stage.backend(feed):
            stream = await stack.enter_async_context(stage.stream("/feed"))
            poll = asyncio.create_task(client.get(stage.url("/poll")))
            await wait_until(lambda: len(feed.asked) >= 2, "both are asked for")
            await stage.until_held(2)
        feed.add("lost")
        ids = feed.add("seen")
        await stage.publish("list", **ids, http_response={"body": "seen\n"}, http_stream={"content": "seen\n"})
        async with refusing(stage.port) as refused:
            await wait_until(refused, "the backend was missed twice")
        assert (stream.body, stream.ended, poll.done()) == (b"", False, False)
        async with stage.backend(feed):
            await stream.until(b"lost\nseen\n")
            assert (await poll).text == "lost\nseen\n"


async def test_publications_to_any_edge_reach_holds_on_all_edges(
    tmp_path: Path, redis_server: RedisServer, client: httpx.AsyncClient
) -> None:
    port = free_port()
    route = GripRoute([f"http://{LOOPBACK}:{port}"])
    async with (
        GripEdge(tmp_path, route, redis=redis_server.url, name="one") as one,
        GripEdge(tmp_path, route, redis=redis_server.url, name="two", workers=2) as two,
    ):
        stages = [HttpStage(one, port), HttpStage(two, port)]
        backend = script(feed=held("stream", "everywhere"), poll=held("response", "everywhere-polled"))
        async with (
            stages[0].backend(backend),
            stages[0].stream("/feed") as first,
            stages[1].stream("/feed") as second,
            stages[1].stream("/feed") as third,
        ):
            streams = (first, second, third)
            for number, (stage, stream) in enumerate(itertools.product(stages, streams)):
                await stage.publish_until(stream, "everywhere", http_stream={"content": f"ready {number}\n"})
            for number, stage in enumerate(stages * 5):
                await stage.publish("everywhere", http_stream={"content": f"<{number}>"})
            for stream in streams:
                for number in range(10):
                    await stream.until(f"<{number}>".encode())
                    assert stream.body.count(f"<{number}>".encode()) == 1
            poll = asyncio.create_task(client.get(stages[0].url("/poll")))
            answer = await stages[1].answered(poll, "everywhere-polled", {"body": "from the other edge"})
            assert answer.text == "from the other edge"


async def test_an_edge_that_goes_gives_its_clients_what_it_owes_them(tmp_path: Path, client: httpx.AsyncClient) -> None:
    port = free_port()
    backend = script(
        feed=held("stream", "a", ("Grip-Link", "</gone>; rel=gone"), body=b"first\n"),
        poll=held("response", "b", ("Grip-Timeout", "600"), body=b"later\n"),
        gone=Answer("204 No Content"),
    )
    async with GripEdge(tmp_path, GripRoute([f"http://{LOOPBACK}:{port}"])) as edge:
        stage = HttpStage(edge, port)
        async with stage.backend(backend), stage.stream("/feed") as stream:
            await stream.until(b"first\n")
            poll = asyncio.create_task(client.get(stage.url("/poll")))
            await stage.until_held(2)
            edge.sigterm()
            assert (await poll).text == "later\n"
            await stream.until_end()
            assert (stream.body, stream.error) == (b"first\n", "")
            assert await edge.exit_code() == 0
            (gone,) = [asked for asked in backend.asked if asked.target == "/gone"]
            assert (gone.method, gone.body) == ("POST", b"")


async def test_many_streams_share_the_answer_of_one_link(stage: HttpStage) -> None:
    backend = script(
        feed=held("stream", "shared; prev-id=1", NEXT),
        next=held("stream", "shared; prev-id=2", NEXT, body=b"for all\n"),
    )
    async with stage.backend(backend) as server, contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(stage.stream("/feed")) for _ in range(20)]
        await stage.until_held(20)
        await stage.publish("shared", id="2", prev_id="1", http_stream={"action": "hint"})
        for stream in streams:
            await stream.until(b"for all\n")
        assert [asked.target for asked in server.asked] == ["/feed"] * 20 + ["/next"]


@contextlib.asynccontextmanager
async def refusing(port: int) -> AsyncIterator[Callable[[], bool]]:
    """Somebody listens on the backend's port, and hangs up on whoever comes. Asked: whether two have come."""
    came = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        came += 1
        writer.transport.abort()

    async with serving(port, hang_up):
        yield lambda: came >= 2
