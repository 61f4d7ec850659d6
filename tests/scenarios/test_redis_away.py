"""Redis goes away: what does not need it goes on, what does waits, and when it is back all is as it was, unasked."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.scenarios.halls import Guest, House, chatter, guests, house, nothing_kept, reported
from tests.support.processes import Edge
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario

PAUSE_S = 20.0
LOUNGE = [{"prefix": "lounge", "history_count": 10_000}]


@pytest.fixture
def redis(tmp_path: Path) -> RedisServer:
    """With a file of everything it was told, so that it may come back as it went."""
    return RedisServer(tmp_path / "redis", "appendonly yes", "appendfsync always")


@contextlib.asynccontextmanager
async def two_edges(
    folder: Path, redis: RedisServer, **edge: float
) -> AsyncIterator[tuple[House, list[Guest], list[Guest]]]:
    """Two edges, and on each of them guests in one hall and guests that need nothing from Redis: (house, hall, plain).
    Guests of the first edge come first."""
    with redis:
        async with (
            house(folder, redis.url, 2, edge=edge, channels=LOUNGE) as here,
            contextlib.AsyncExitStack() as stack,
        ):
            hall, plain = [
                [guest for edge in here.edges for guest in await stack.enter_async_context(guests(edge, count, path))]
                for path, count in (("/lounge", 10), ("/", 15))
            ]
            yield here, hall, plain


async def unready(edge: Edge) -> list[str]:
    """Wait until the edge says that it is not ready; why."""

    async def reasons() -> list[str]:
        status, body = await edge.get("/readyz")
        return list(json.loads(body)["reasons"]) if status == 503 else []

    return await wait_until(reasons, f"{edge.name} says why it is not ready")


async def all_unready(here: House) -> None:
    for edge in here.edges:
        [reason] = await unready(edge)
        assert reason.startswith("store away")
        assert await edge.status("/livez") == 200


async def all_ready(here: House) -> None:
    for edge in here.edges:
        await edge.until_ready()


async def heard_by_all(hall: Sequence[Guest], texts: Sequence[str]) -> None:
    """Everybody hears each of these once."""
    for guest in hall:
        await guest.client.expect_that(
            lambda _, guest=guest: set(guest.heard()) >= set(texts),  # type: ignore[misc]
            "all publications have come",
        )
        assert len([text for text in guest.heard() if text in texts]) == len(texts)


def nobody_was_cut(*groups: Sequence[Guest]) -> None:
    assert [guest.client.ending for group in groups for guest in group if guest.client.ending] == []


async def test_plain_traffic_flows_on_and_newcomers_are_let_in(tmp_path: Path, redis: RedisServer) -> None:
    async with two_edges(tmp_path, redis, store_wait_s=2) as (here, hall, plain), chatter([*plain, *hall]) as talk:
        await talk.flows()
        redis.kill()
        await all_unready(here)
        await talk.flows(10)
        async with guests(here.edges[0], 5, "/") as newcomers, guests(here.edges[1], 5, "/") as more:
            async with chatter([*newcomers, *more]) as small_talk:
                await small_talk.flows(5)
                redis.start()
                await all_ready(here)
                await talk.flows(5)
                await small_talk.flows(5)
            await newcomers[0].ask("!set n 1", "set n=1")
        assert here.noted("refused") == []
        nobody_was_cut(hall, plain)


@pytest.mark.parametrize("keep_data", [True, False], ids=["as it was", "empty"])
async def test_what_needs_redis_waits_and_everything_is_put_back(
    tmp_path: Path, redis: RedisServer, keep_data: bool
) -> None:
    async with two_edges(tmp_path, redis, store_wait_s=25) as (here, hall, plain), chatter(plain) as talk:
        await hall[0].client.send("!say before")
        await heard_by_all(hall, ["before"])
        redis.kill()
        await all_unready(here)
        for number, guest in enumerate(hall):
            await guest.client.send(f"!set n {number}")
            await guest.client.send(f"!say after{number}")
        await talk.flows()
        assert not any("set n=" in text for guest in hall for text in guest.heard())
        redis.restart(keep_data=keep_data)
        await all_ready(here)
        for number, guest in enumerate(hall):
            await guest.client.expect_that(lambda _, n=number, g=guest: f"set n={n}" in g.heard(), "it is carried out")  # type: ignore[misc]
        await heard_by_all(hall, [f"after{number}" for number in range(len(hall))])
        for guest in hall:
            if keep_data:
                assert "gap lounge" not in guest.heard()
            else:
                await guest.client.expect_that(lambda _, guest=guest: "gap lounge" in guest.heard(), "the gap is told")  # type: ignore[misc]
        assert here.noted("refused") == []
        assert here.noted("close") == []
        nobody_was_cut(hall, plain)

        # Rows and leases are whole again: a survivor finds everything.
        lost = [*hall[: len(hall) // 2], *plain[: len(plain) // 2]]
        await talk.stop()
        await here.edges[0].sigkill()
        await reported(here, lost)
        states = {entry["session"]: entry["state"] for entry in here.noted("close")}
        for number, guest in enumerate(hall[: len(hall) // 2]):
            assert states[guest.session] == {"hall": "lounge", "n": str(number)}


async def test_past_the_wait_the_backend_is_told_and_clients_stay(tmp_path: Path, redis: RedisServer) -> None:
    async with two_edges(tmp_path, redis, store_wait_s=1) as (here, hall, plain):
        redis.kill()
        await all_unready(here)
        for guest in hall:
            await guest.client.send("!set n 1")
            await guest.client.send("!say lost")
        await hall[0].client.send(f"!to {hall[-1].session} lost")  # it lives on the other edge
        for guest in hall:
            await guest.client.expect_that(
                lambda _, guest=guest: guest.heard().count("refused") == 2 + (guest is hall[0]),  # type: ignore[misc]
                "every refusal is told",
            )
        assert {entry["session"] for entry in here.noted("refused")} == {guest.session for guest in hall}
        assert all("Redis" in entry["error"] for entry in here.noted("refused"))
        redis.restart(keep_data=True)
        await all_ready(here)
        for guest in hall:
            await guest.ask("!set n 2", "set n=2")
        await hall[0].client.send("!say again")
        await heard_by_all(hall, ["again"])
        assert not any("lost" in guest.heard() for guest in hall)
        nobody_was_cut(hall, plain)


async def test_a_session_that_ended_meanwhile_is_forgotten_later_and_not_reported_again(
    tmp_path: Path, redis: RedisServer
) -> None:
    async with two_edges(tmp_path, redis, store_wait_s=1) as (here, hall, plain):
        leaving, staying = [*hall[:5], *plain[:5]], [*hall[5:10], *plain[5:15]]
        redis.kill()
        await all_unready(here)
        for guest in leaving:
            await guest.client.close()
        await wait_until(lambda: here.closed() >= {guest.session for guest in leaving}, "their backend knows")
        await hall[5].ask("!set n 1", "refused")  # so what was to be written about them was refused before
        redis.restart(keep_data=True)
        await all_ready(here)
        await nothing_kept(redis, (guest.session for guest in leaving))
        await here.edges[0].sigkill()
        await reported(here, staying)


async def test_a_redis_that_is_stopped_for_a_while_makes_nobody_dead(tmp_path: Path, redis: RedisServer) -> None:
    async with two_edges(tmp_path, redis, store_wait_s=1) as (here, hall, plain), chatter([*plain, *hall]) as talk:
        over = time.monotonic() + PAUSE_S
        redis.pause()
        try:
            await all_unready(here)
            while time.monotonic() < over:
                await talk.flows()
        finally:
            redis.go_on()
        await all_ready(here)
        for guest in hall:
            await guest.ask("!set n 2", "set n=2")
        await talk.flows()
        assert here.noted("close") == []
        nobody_was_cut(hall, plain)


def embedded(edge: Edge) -> int:
    """Pid of the edge's own Redis."""
    [path] = edge.folder.rglob("redis.pid")
    return int(path.read_text() or 0)


async def test_an_embedded_redis_that_dies_is_started_again(tmp_path: Path) -> None:
    async with house(tmp_path, "", workers=2, channels=LOUNGE) as here, guests(here.edges[0], 20) as hall:
        [edge] = here.edges
        pid = embedded(edge)
        async with chatter(hall) as talk:
            await talk.flows()
            os.kill(pid, signal.SIGKILL)
            await wait_until(lambda: embedded(edge) not in (0, pid), "there is another Redis")
            await edge.until_ready()
            await talk.flows()
        for number, guest in enumerate(hall):
            await guest.ask(f"!set n {number}", f"set n={number}")
            await guest.client.send(f"!say again{number}")
        await heard_by_all(hall, [f"again{number}" for number in range(len(hall))])
        assert here.noted("close") == []
        nobody_was_cut(hall)
