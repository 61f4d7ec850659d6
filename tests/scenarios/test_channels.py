"""Channels over several edges, on every kind of Redis installation: everybody hears everything, once and in order."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import pytest

from backend_sdk.events import Position
from backend_sdk.publisher import AsyncPublisher
from tests.scenarios.halls import Guest, House, guests, house
from tests.support.redis import redis_cluster, redis_cluster_62, redis_url
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario

__all__ = ["redis_cluster", "redis_cluster_62", "redis_url"]

COUNT = 40
"""Publications of each publisher."""
SHORT = 20
"""What a channel named short… remembers."""


@pytest.fixture(params=["standalone", "cluster", "cluster of 6.2"])
def url(request: pytest.FixtureRequest) -> str:
    """Every kind of installation the promises hold on."""
    name = {"standalone": "redis_url", "cluster": "redis_cluster", "cluster of 6.2": "redis_cluster_62"}
    found = request.getfixturevalue(name[request.param])
    return found if isinstance(found, str) else str(found.url)


@contextlib.asynccontextmanager
async def running(folder: Path, url: str, workers: int = 1) -> AsyncIterator[House]:
    """Two edges; history for channels named long… and short…."""
    channels = [{"prefix": "long", "history_count": 10_000}, {"prefix": "short", "history_count": SHORT}]
    async with house(folder, url, 2, workers=workers, channels=channels, edge={"lease_s": 10}) as here:
        yield here


@contextlib.asynccontextmanager
async def hall(here: House, path: str, count: int = 4) -> AsyncIterator[list[Guest]]:
    """`count` guests of one hall on each edge, whom everything reaches that is said there from now on."""
    async with contextlib.AsyncExitStack() as stack:
        everybody = [g for edge in here.edges for g in await stack.enter_async_context(guests(edge, count, path))]
        for guest in everybody:
            # They are welcomed before they are subscribed. What they say next is answered when they are.
            await guest.ask("!set in hall", "set in=hall")
            guest.client.messages.remove("set in=hall")
        yield everybody


def name(kind: str) -> str:
    """A channel of this test alone: the Redis is shared."""
    return f"{kind}-{secrets.token_hex(4)}"


async def heard(listeners: Sequence[Guest], count: int) -> None:
    for guest in listeners:
        await guest.client.expect(1 + count)


def in_order(texts: Sequence[str], publishers: int) -> bool:
    """Each publisher's ``<publisher>.<number>`` in its order, all there, none twice."""
    return (
        all(
            [text for text in texts if text.startswith(f"{publisher}.")] == [f"{publisher}.{n}" for n in range(COUNT)]
            for publisher in range(publishers)
        )
        and len(texts) == publishers * COUNT
    )


@pytest.mark.parametrize("kind", ["none", "long"])
async def test_what_is_published_anywhere_reaches_everybody_everywhere(tmp_path: Path, url: str, kind: str) -> None:
    channel = name(kind)
    async with running(tmp_path, url, workers=2) as here, hall(here, f"/{channel}") as listeners:
        speakers = listeners[::3]

        async def speak(number: int, speaker: Guest) -> None:
            for n in range(COUNT):
                await speaker.client.send(f"!say {number}.{n}")

        await asyncio.gather(*(speak(number, speaker) for number, speaker in enumerate(speakers)))
        await heard(listeners, len(speakers) * COUNT)
        for guest in listeners:
            assert in_order(guest.heard(), len(speakers))
        if kind == "long":
            # One order for all: that of the offsets.
            assert len({tuple(guest.heard()) for guest in listeners}) == 1


async def test_what_was_missed_comes_first_and_then_what_is_live(tmp_path: Path, url: str) -> None:
    channel = name("long")
    async with (
        running(tmp_path, url) as here,
        hall(here, f"/{channel}", 1) as witnesses,
        contextlib.AsyncExitStack() as stack,
    ):
        publishers = [await stack.enter_async_context(AsyncPublisher(edge.control_url)) for edge in here.edges]
        first = (await publishers[0].publish(channel, "before")).position
        assert first.offset == 1

        async def hammer(number: int, publisher: AsyncPublisher) -> None:
            for n in range(COUNT):
                await publisher.publish(channel, f"{number}.{n}")

        hammering = [asyncio.create_task(hammer(n, publisher)) for n, publisher in enumerate(publishers)]
        late: list[Guest] = []
        for goal in (10, 25, 40, 55):
            await witnesses[0].client.expect(1 + goal)
            for edge in here.edges:
                path = f"/{channel}?offset={first.offset}&epoch={first.epoch}"
                late += await stack.enter_async_context(guests(edge, 2, path))
        await asyncio.gather(*hammering)
        everything = len(publishers) * COUNT
        await heard(witnesses, 1 + everything)
        await heard(late, everything)
        expected = witnesses[0].heard()[1:]
        for guest in late:
            assert guest.heard() == expected
        assert in_order(expected, len(publishers))

        # The same through the control API of any edge, in pages.
        for publisher in publishers:
            found: list[str | bytes] = []
            since = Position(first.offset, first.epoch)
            while len(found) < everything:
                page = await publisher.history(channel, since, limit=30)
                assert page.whole
                found += [publication.payload for publication in page.publications]
                since = Position(since.offset + len(page.publications), first.epoch)
            assert found == expected


async def test_who_missed_more_than_history_remembers_is_told_of_a_gap(tmp_path: Path, url: str) -> None:
    channel = name("short")
    async with running(tmp_path, url) as here, AsyncPublisher(here.edges[0].control_url) as publisher:
        first = (await publisher.publish(channel, "0")).position
        for n in range(1, SHORT + 2):
            await publisher.publish(channel, str(n))
        since = f"offset={first.offset}&epoch={first.epoch}"
        within = f"offset={first.offset + 1}&epoch={first.epoch}"
        other_life = f"offset={SHORT}&epoch=elsewhere"
        edge = here.edges[1]
        async with (
            guests(edge, 1, f"/{channel}?{since}") as [too_late],
            guests(edge, 1, f"/{channel}?{within}") as [in_time],
            guests(edge, 1, f"/{channel}?{other_life}") as [stranger],
        ):
            for guest in (too_late, stranger):
                await guest.client.expect_that(lambda _, guest=guest: guest.heard() == [f"gap {channel}"], "it is told")  # type: ignore[misc]
            await in_time.client.expect(1 + SHORT)
            assert in_time.heard() == [str(n) for n in range(2, SHORT + 2)]
            await publisher.publish(channel, "live")
            for guest in (too_late, in_time, stranger):
                await guest.client.expect_that(lambda _, guest=guest: guest.heard()[-1] == "live", "it is live")  # type: ignore[misc]


async def test_a_session_may_leave_itself_out_and_ids_take_effect_once(tmp_path: Path, url: str) -> None:
    channel = name("none")
    async with running(tmp_path, url) as here, hall(here, f"/{channel}", 3) as listeners:
        speaker, *others = listeners
        await speaker.client.send("!others theirs")
        for guest in others:
            await guest.client.expect(2)
        for edge in here.edges:
            async with AsyncPublisher(edge.control_url) as publisher:
                outcomes = [await publisher.publish(channel, "once", id="first") for _ in range(3)]
                assert [outcome.duplicate for outcome in outcomes] == [edge is not here.edges[0], True, True]
        for guest in listeners:
            await guest.client.send("!say repeated second")
        await speaker.ask("!send private third", "private")
        await speaker.client.send("!send private third")
        await speaker.client.send("!say end")
        for guest in listeners:
            await guest.client.expect_that(lambda _, guest=guest: "end" in guest.heard(), "the end is heard")  # type: ignore[misc]
            expected = Counter(["once", "repeated", "end"] + (["private"] if guest is speaker else ["theirs"]))
            assert Counter(guest.heard()) == expected


async def test_orders_for_sessions_elsewhere_arrive_in_order_and_once(tmp_path: Path, url: str) -> None:
    async with running(tmp_path, url) as here, hall(here, "/", 4) as everybody:
        for n in range(10):
            for number, guest in enumerate(everybody):
                for other in everybody:
                    if other is not guest:
                        await guest.client.send(f"!to {other.session} {number}:{n}")
        expected = 10 * (len(everybody) - 1)
        await heard(everybody, expected)
        for guest in everybody:
            for number in range(len(everybody)):
                said = [text for text in guest.heard() if text.startswith(f"{number}:")]
                assert said in ([], [f"{number}:{n}" for n in range(10)])
            assert len(guest.heard()) == expected
        giver, *_, taker = everybody
        for _ in range(3):
            await giver.client.send(f"!to {taker.session} gift present")
        await giver.client.send(f"!to {taker.session} last")
        await taker.client.expect_that(lambda _: "last" in taker.heard(), "the last order arrives")
        assert taker.heard().count("gift") == 1


async def test_an_order_for_a_session_that_has_ended_is_told_as_gone(tmp_path: Path, url: str) -> None:
    async with running(tmp_path, url) as here, hall(here, "/", 2) as everybody:
        giver, *_, ended = everybody
        await ended.client.close()
        await wait_until(lambda: ended.session in here.closed(), "its backend knows")

        async def is_gone() -> bool:
            async with httpx.AsyncClient(base_url=here.edges[0].control_url, timeout=20) as http:
                return (await http.get(f"/v1/sessions/{ended.session}")).status_code == 410

        await wait_until(is_gone, "every edge knows")
        await giver.client.send(f"!to {ended.session} hello")

        async def told() -> bool:
            # News travels with the next request that is due anyway.
            await giver.client.send("anything")
            return any(entry["session"] == ended.session for entry in here.noted("gone"))

        await wait_until(told, "the backend is told")
        assert giver.client.ending is None
