"""Edges that hold XMPP links die, are rolled and freeze: the links go on elsewhere, and neither the XMPP server, nor
contacts, nor the backend lose a word or see anything of it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.scenarios.xmpp.holding import Held, held, link_id
from tests.scenarios.xmpp.traffic import EVERYTHING, Traffic, Watch
from tests.support import proctree
from tests.support.xmpp import SERVERS
from tests.support.xmpp_peer import Peer

pytestmark = [pytest.mark.scenario, pytest.mark.parametrize("kind", sorted(SERVERS))]

WATCHERS = 3


@contextlib.asynccontextmanager
async def busy(
    folder: Path, kind: str, count: int, edges: int, *, rate: float = 60, lease_s: float = 2.0
) -> AsyncIterator[tuple[Held, Traffic, Sequence[int]]]:
    """So many links, spread over so many edges, with contacts that talk to them and see them: and see nothing happen to
    them until the block ends."""
    server = {"watchers": WATCHERS, "contacts": 4}
    async with (
        held(folder, kind, edges, accounts=count + WATCHERS, server=server, edge={"lease_s": lease_s}) as here,
        contextlib.AsyncExitStack() as stack,
    ):
        contacts = await asyncio.gather(
            *(stack.enter_async_context(Peer(here.server, count + place)) for place in range(WATCHERS))
        )
        links = range(count)
        await here.connect(links, **EVERYTHING)
        watches = [Watch(contact, links) for contact in contacts]
        for watch in watches:
            await watch.begins()
        async with Traffic(here, contacts, links, rate) as talk:
            await talk.flows()
            yield here, talk, links
        for watch in watches:
            watch.saw_nothing()
        assert set(here.counts("connected", links).values()) == {1}
        assert here.notes.all("reset") == []
        assert here.notes.all("disconnected") == []


async def kill_edges(here: Held, talk: Traffic, links: Sequence[int], times: int) -> None:
    """The oldest edge is killed and a new one started, so often; each time the links it had go on under traffic."""
    for _ in range(times):
        victim = here.edges[0]
        lost = await here.links_of(victim, links)
        assert lost
        before = here.counts("resumed", lost)
        await here.kill(victim)
        await here.start_edge()
        await here.happened_again("resumed", before)
        await talk.flows()


async def test_killed_edges_cost_links_nothing(kind: str, tmp_path: Path) -> None:
    async with busy(tmp_path, kind, 60, 3) as (here, talk, links):
        await kill_edges(here, talk, links, 2)


@pytest.mark.long
async def test_many_killed_edges_cost_many_links_nothing(kind: str, tmp_path: Path) -> None:
    # A lease that nobody loses to a busy machine: the only takeovers are those of this test.
    async with busy(tmp_path, kind, 500, 3, rate=100, lease_s=6) as (here, talk, links):
        await kill_edges(here, talk, links, 5)


async def test_an_edge_that_is_rolled_hands_its_links_over_at_once(kind: str, tmp_path: Path) -> None:
    # Nobody waits for this lease to end: who waited would be too late for every deadline here.
    async with busy(tmp_path, kind, 30, 2, lease_s=600) as (here, talk, links):
        for _ in range(2):
            leaving = here.edges[0]
            moved = await here.links_of(leaving, links)
            assert moved
            before = here.counts("resumed", moved)
            await here.start_edge()
            await here.drain(leaving)
            await here.happened_again("resumed", before)
            await talk.flows()


async def test_an_edge_that_was_stopped_for_too_long_falls_silent(kind: str, tmp_path: Path) -> None:
    async with busy(tmp_path, kind, 20, 2) as (here, talk, links):
        frozen, awake = here.edges
        lost = await here.links_of(frozen, links)
        assert lost
        proctree.stop(frozen.members())
        try:
            await here.happened("resumed", lost)
            await talk.flows()
        finally:
            proctree.kill(frozen.members(), signal.SIGCONT)
        await frozen.until_ready(60)
        await talk.flows(5)
        assert here.counts("resumed", links) == {number: int(number in lost) for number in links}
        now = await here.id_of(awake)
        assert {await here.owner(link_id(number), awake) for number in links} == {now}


async def test_an_edge_alone_that_was_stopped_for_too_long_takes_its_links_up_again(kind: str, tmp_path: Path) -> None:
    async with busy(tmp_path, kind, 10, 1) as (here, talk, _):
        [edge] = here.edges
        members = edge.members()
        before = await here.id_of(edge)
        proctree.stop(members)
        try:
            await here.lapsed(before)
        finally:
            proctree.kill(members, signal.SIGCONT)
        await edge.until_ready(60)
        await talk.flows(3)
