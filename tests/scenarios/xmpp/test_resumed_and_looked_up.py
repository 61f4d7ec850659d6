"""Servers that lose messages while they hand a session over (ejabberd 23.01 does, now and then): with
`archive_after_resume` they come from the archive, and nothing comes twice by that."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.scenarios.xmpp.holding import MANY_S, Held, full_jid, held, link_id
from tests.scenarios.xmpp.kinds import ANY_KIND
from tests.support.waiting import wait_until
from tests.support.xmpp_peer import Peer

pytestmark = pytest.mark.scenario

PAUSE_S = 0.02
"""Between two messages: the load, not a wait for anything."""
OPEN = 4
"""Messages to a link that it may not have told of: ejabberd's archive in Mnesia is slow, and its queues are not tested
here."""


@contextlib.asynccontextmanager
async def talking(here: Held, contact: Peer, count: int) -> AsyncIterator[dict[int, list[str]]]:
    """The contact talks to all links while the block runs: what it said to each."""
    said: dict[int, list[str]] = {number: [] for number in range(count)}

    async def talk() -> None:
        for turn in range(1_000_000):
            for number in said:
                if len(said[number]) - len(here.notes.bodies(link_id(number))) < OPEN:
                    said[number].append(f"{turn} for {number}")
                    contact.say(full_jid(number), said[number][-1])
                await asyncio.sleep(PAUSE_S)

    task = asyncio.create_task(talk())
    try:
        yield said
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def replace_edge(here: Held, count: int, *, polite: bool) -> None:
    """The edge with the most links goes, another one comes, and the links go on."""
    links = [(edge, await here.links_of(edge, range(count))) for edge in here.edges]
    leaving, moved = max(links, key=lambda each: len(each[1]))
    before = here.counts("caught_up", moved)
    await here.start_edge()
    await (here.drain(leaving) if polite else here.kill(leaving))
    await here.happened_again("caught_up", before)


async def hand_over(kind: str, folder: Path, count: int, times: int) -> None:
    async with (
        held(
            folder, kind, 2, accounts=count + 1, server={"watchers": 1, "contacts": 0, "archive": True},
            xmpp={"archive_after_resume": True},
        ) as here,
        Peer(here.server, count) as contact,
    ):  # fmt: skip
        await here.connect(range(count))
        async with talking(here, contact, count) as said:
            for number in range(count):
                await here.told("message", link_id(number))
            for turn in range(times):
                await replace_edge(here, count, polite=turn % 2 == 0)
        for number in range(count):
            link, wanted = link_id(number), said[number]
            await wait_until(lambda: set(here.notes.bodies(link)) >= set(wanted), f"{link} has heard all", MANY_S)  # noqa: B023
            assert sorted(here.notes.bodies(link)) == sorted(wanted), "something came twice"
            # Less often, should a machine be so busy that an edge loses its lease, and the link moves while it looks.
            assert len(here.notes.of("caught_up", link)) <= len(here.notes.of("resumed", link))
            assert all(told.fields["whole"] for told in here.notes.of("caught_up", link))
        assert here.notes.all("reset") == []


@ANY_KIND
async def test_what_is_lost_in_a_handover_is_looked_up(kind: str, tmp_path: Path) -> None:
    await hand_over(kind, tmp_path, 12, 3)


@pytest.mark.long
async def test_what_is_lost_in_hundreds_of_handovers_is_looked_up(tmp_path: Path) -> None:
    await hand_over("ejabberd", tmp_path, 60, 10)
