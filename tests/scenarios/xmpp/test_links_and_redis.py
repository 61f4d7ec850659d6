"""Redis falls silent or restarts while edges hold XMPP links: nothing is acknowledged that is not durable, so nothing
is lost, and nothing comes twice."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.scenarios.xmpp.holding import Held, full_jid, held
from tests.scenarios.xmpp.kinds import ANY_KIND
from tests.scenarios.xmpp.traffic import EVERYTHING, Traffic, Watch
from tests.support.waiting import wait_until
from tests.support.xmpp_peer import Peer

pytestmark = [pytest.mark.scenario, ANY_KIND]

LINKS = range(20)
LENGTHS = [pytest.param(5.0, id="shortly"), pytest.param(20.0, id="for long", marks=pytest.mark.long)]


@contextlib.asynccontextmanager
async def two_edges(folder: Path, kind: str) -> AsyncIterator[tuple[Held, Peer]]:
    """With links on both, and a contact that sees nothing of what happens to them."""
    server = {"watchers": 1, "contacts": 4}
    async with (
        held(folder, kind, 2, accounts=len(LINKS) + 1, server=server) as here,
        Peer(here.server, len(LINKS)) as contact,
    ):
        await here.connect(LINKS, **EVERYTHING)
        watch = Watch(contact, LINKS)
        await watch.begins()
        yield here, contact
        watch.saw_nothing()
        assert set(here.counts("connected", LINKS).values()) == {1}


async def unready(here: Held, over: float) -> None:
    """Wait until the edges say that Redis is away, and it has been for as long as the test wants."""

    async def both() -> bool:
        statuses = await asyncio.gather(*(edge.status("/readyz") for edge in here.edges))
        return statuses == [503, 503] and time.monotonic() >= over

    await wait_until(both, "both edges are not ready", 60)


@pytest.mark.parametrize("length_s", LENGTHS)
async def test_a_redis_that_is_silent_costs_nothing(kind: str, length_s: float, tmp_path: Path) -> None:
    async with two_edges(tmp_path, kind) as (here, contact), Traffic(here, [contact], LINKS) as talk:
        await talk.flows()
        over = time.monotonic() + length_s
        here.redis.pause()
        try:
            await unready(here, over)
        finally:
            here.redis.go_on()
        await talk.flows(3)


@pytest.mark.parametrize("length_s", LENGTHS)
async def test_a_redis_that_restarts_with_its_data_costs_nothing(kind: str, length_s: float, tmp_path: Path) -> None:
    async with two_edges(tmp_path, kind) as (here, contact), Traffic(here, [contact], LINKS) as talk:
        await talk.flows()
        over = time.monotonic() + length_s
        here.redis.stop()
        try:
            await unready(here, over)
        finally:
            here.redis.start()
        await talk.flows(3)


async def test_live_edges_write_anew_what_redis_has_forgotten(kind: str, tmp_path: Path) -> None:
    async with two_edges(tmp_path, kind) as (here, contact), Traffic(here, [contact], LINKS) as talk:
        await talk.flows()
        here.redis.restart(keep_data=False)
        await talk.flows(3)
        lost = await here.links_of(here.edges[0], LINKS)
        assert lost
        before = here.counts("resumed", lost)
        await here.kill(here.edges[0])
        await here.happened_again("resumed", before)
        await talk.flows()


async def said_while_redis_is_silent(here: Held, contact: Peer, links: Sequence[int]) -> dict[int, list[str]]:
    """Messages that have reached the edges, as far as they take them, and are durable nowhere."""
    bodies = {number: [f"unheard {place} of {number}" for place in range(8)] for number in links}
    for number, said in bodies.items():
        for body in said:
            contact.say(full_jid(number), body)
    await contact.all_taken()
    return bodies


async def test_nothing_is_acknowledged_while_redis_is_silent(kind: str, tmp_path: Path) -> None:
    """Shown by killing the edges then: whatever they had acknowledged would be lost."""
    async with two_edges(tmp_path, kind) as (here, contact):
        here.redis.pause()
        try:
            await unready(here, 0)
            said = await said_while_redis_is_silent(here, contact, LINKS)
            for edge in list(here.edges):
                await here.kill(edge)
        finally:
            here.redis.go_on()
        await here.start_edge()
        await here.happened("resumed", LINKS)
        for number, bodies in said.items():
            await here.has_heard(number, bodies)
