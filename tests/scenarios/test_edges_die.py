"""An edge dies: its clients are cut, their backend is told of each of them, and nobody else notices anything."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.scenarios.halls import GATE_VARIABLE, chatter, edge_of, guests, house, nothing_kept, reported
from tests.support import proctree
from tests.support.client import connect
from tests.support.processes import Edge
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario


async def test_a_killed_edge_costs_nobody_elsewhere_anything(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as redis:
        async with house(tmp_path, redis.url, 3) as here, contextlib.AsyncExitStack() as stack:
            victims, *others = [await stack.enter_async_context(guests(edge, 22)) for edge in here.edges]
            survivors = [guest for group in others for guest in group]
            for number, victim in enumerate(victims):
                await victim.ask(f"!set n {number}", f"set n={number}")
                await victim.ask("!timer late 3600000 x", "set timer late")
            async with chatter(survivors[::4]) as talk:
                await here.edges[0].sigkill()
                for victim in victims:
                    assert (await victim.client.ended()).code == 1006
                await reported(here, victims)
                states = {entry["session"]: entry["state"] for entry in here.noted("close")}
                assert states == {
                    victim.session: {"hall": "lounge", "n": str(number)} for number, victim in enumerate(victims)
                }
                farewells = Counter(f"left {victim.session}" for victim in victims)
                for guest in survivors:
                    await guest.client.expect_that(
                        lambda _, guest=guest: sum(text.startswith("left ") for text in guest.heard()) >= len(victims),  # type: ignore[misc]
                        "the farewells published by on_close have come",
                    )
                    assert Counter(text for text in guest.heard() if text.startswith("left ")) == farewells
                await nothing_kept(redis, (guest.session for guest in victims))
                await talk.flows()
            assert all(guest.client.ending is None for guest in survivors)


async def test_the_survivor_that_reports_the_ends_may_be_killed_at_it(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with RedisServer(tmp_path / "redis") as redis:
        async with house(tmp_path, redis.url, 3, environment={GATE_VARIABLE: str(gate)}) as here:
            first, second, third = here.edges
            async with guests(first, 300) as victims, guests(second, 1) as [left], guests(third, 1) as [right]:
                homes = {await edge_of(second, left.session): second, await edge_of(third, right.session): third}
                keepers = {second: left, third: right}
                await first.sigkill()
                asked = await wait_until(lambda: here.noted("raw"), "a survivor tells the backend, which is slow")
                helper = homes[asked[0]["edge"]]
                other = third if helper is second else second
                await helper.sigkill()
                gate.touch()
                await reported(here, [*victims, keepers[helper]])
                reporters = {entry["edge"] for entry in here.noted("raw")}
                assert {homes[edge] for edge in reporters} == {helper, other}
                await nothing_kept(redis, (guest.session for guest in [*victims, keepers[helper]]))
                assert keepers[other].client.ending is None


async def test_a_killed_worker_is_replaced_and_its_sessions_reported(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as redis:
        async with house(tmp_path, redis.url, workers=2) as here:
            [edge] = here.edges
            async with guests(edge, 60) as everybody:
                home = {guest.session: await edge_of(edge, guest.session) for guest in everybody}
                assert len(set(home.values())) == 2
                killed = await edge.sigkill_worker()
                await wait_until(lambda: any(guest.client.ending for guest in everybody), "the first client is cut")
                lost_home = next(home[guest.session] for guest in everybody if guest.client.ending)
                lost = [guest for guest in everybody if home[guest.session] == lost_home]
                kept = [guest for guest in everybody if home[guest.session] != lost_home]
                for guest in lost:
                    assert (await guest.client.ended()).code == 1006
                await reported(here, lost)
                await wait_until(
                    lambda: len(pids := edge.worker_pids()) == 2 and killed not in pids, "two workers serve again"
                )
                for guest in kept:
                    await guest.ask("still here", "still here")
                await nothing_kept(redis, (guest.session for guest in lost))


def send_all(edge: Edge, how: signal.Signals) -> None:
    """Send a signal to every process of the edge."""
    proctree.kill(edge.members(), how)


async def test_an_edge_that_was_stopped_for_too_long_lets_go_and_comes_back_as_another(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as redis:
        async with house(tmp_path, redis.url, 2) as here:
            frozen, awake = here.edges
            async with guests(frozen, 30) as lost, guests(awake, 5) as kept:
                before = await edge_of(awake, lost[0].session)
                proctree.stop(frozen.members())
                try:
                    await reported(here, lost)
                finally:
                    send_all(frozen, signal.SIGCONT)
                for guest in lost:
                    assert (await guest.client.ended()).code == 1012
                await frozen.until_ready(60)
                async with connect(frozen.url("/lounge")) as newcomer:
                    session = str((await newcomer.expect(1))[0])
                    assert await edge_of(awake, session) != before
                assert {entry["edge"] for entry in here.noted("raw") if entry["cause"] == "edge-lost"} == {
                    await edge_of(awake, kept[0].session)
                }
                assert before not in {entry["edge"] for entry in here.noted("raw")}
                assert all(guest.client.ending is None for guest in kept)


async def test_when_all_edges_died_the_next_one_reports_every_end(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as redis:
        async with house(tmp_path, redis.url, 3) as here, contextlib.AsyncExitStack() as stack:
            lost = [
                guest for edge in here.edges for guest in await stack.enter_async_context(guests(edge, 20, "/cellar"))
            ]
            for edge in here.edges:
                proctree.stop(edge.members())
            await asyncio.gather(*(edge.sigkill() for edge in here.edges))
            for guest in lost:
                assert (await guest.client.ended()).code == 1006
            assert here.closed() == set()
            await here.edges[0].start()
            await reported(here, lost)
            await nothing_kept(redis, (guest.session for guest in lost))
