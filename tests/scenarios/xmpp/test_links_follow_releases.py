"""A link belongs to a release like any session: it moves when another is promoted, or its own is retired; its server
and its contacts see nothing of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.release_control import Control, controlling
from tests.scenarios.xmpp.holding import MANY_S, Held, held, link_id
from tests.support.waiting import wait_until
from tests.support.xmpp_peer import Peer

pytestmark = pytest.mark.scenario

OLD, NEW = "0ddc0de", "3f2a1c0"


@asynccontextmanager
async def two_releases(
    folder: Path, numbers: Sequence[int], policy: str = "follow"
) -> AsyncIterator[tuple[Held, Control]]:
    """Links on OLD, and NEW that is healthy."""
    async with (
        held(folder, "prosody", releases=[OLD, NEW], accounts=max(numbers) + 1, policy=policy) as here,
        controlling(here.edges[0]) as control,
    ):
        await here.connect(numbers)
        await control.put(NEW, here.releases[NEW].url)
        yield here, control


def moves(here: Held, number: int) -> list[tuple[Any, Any]]:
    """From where to where, as the backend was told."""
    told = here.notes.unnumbered("release", link_id(number))
    return [(each.fields["from_release"], each.fields["to_release"]) for each in told]


async def test_links_follow_a_promotion_and_come_back_with_a_rollback(tmp_path: Path) -> None:
    numbers = range(1, 11)
    async with two_releases(tmp_path, numbers) as (here, control), Peer(here.server, 0) as contact:
        await control.until_sessions(OLD, 10)
        # Twice: what a release is told the second time is news, too.
        there, back = (OLD, NEW), (NEW, OLD)
        for expected in ([there], [there, back], [there, back, there], [there, back, there, back]):
            await (control.post(f"/releases/{NEW}/promote") if len(expected) % 2 else control.post("/rollback"))
            await control.until_sessions(expected[-1][1], 10)
            for number in numbers:
                await wait_until(lambda: moves(here, number) == expected, "the backend was told", MANY_S)  # noqa: B023
        contact.say(here.server.jid(1), "echo still here")
        await contact.until_it_has(["still here"])
        assert here.notes.all("detached") == here.notes.all("resumed") == []
        assert len(here.notes.all("connected")) == 10


async def test_a_busy_link_leaves_a_retired_release_when_it_has_become_idle(tmp_path: Path) -> None:
    async with two_releases(tmp_path, [1, 2], "pin") as (here, control), Peer(here.server, 0) as contact:
        await control.post(f"/releases/{NEW}/promote")
        await control.post(f"/releases/{OLD}/retire", {"how": "when-idle", "for_ms": 3_000})
        until = time.monotonic() + 6
        said: list[str] = []
        while time.monotonic() < until:
            said.append(f"busy {len(said)}")
            contact.say(here.server.jid(1), f"echo {said[-1]}")
            await contact.until_it_has(said)
            await asyncio.sleep(0.5)
        assert moves(here, 1) == []
        assert moves(here, 2) == [(OLD, NEW)]
        await control.until_sessions(NEW, 2)
        assert moves(here, 1) == [(OLD, NEW)]
