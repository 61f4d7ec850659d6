"""Whoever dies, and whichever connection breaks at the worst moment: what a backend ordered has its effect once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import connect
from tests.support.journal import VARIABLE, Journal
from tests.support.processes import Backend, Edge
from tests.support.redis import RedisServer
from tests.support.reply_holder import ReplyHolder
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[tuple[RedisServer, ReplyHolder]]:
    """A Redis, and a way to it whose answers can be kept back."""
    with RedisServer(tmp_path / "redis") as server:
        async with ReplyHolder(server.port) as holder:
            yield server, holder


async def test_what_a_dying_edge_published_last_is_not_published_again_by_its_survivor(
    tmp_path: Path, redis: tuple[RedisServer, ReplyHolder]
) -> None:
    server, holder = redis
    settings: dict[str, Any] = {"edge": {"lease_s": 2.0}}
    async with (
        Backend(tmp_path, "tests.scenarios.backends:rooms") as backend,
        Edge(tmp_path, backend=backend.url, redis=server.url, name="survivor", **settings) as survivor,
        Edge(tmp_path, backend=backend.url, redis=holder.url, name="dying", **settings) as dying,
        connect(survivor.url("/lobby?user=watcher")) as watcher,
    ):
        await watcher.expect(1)
        async with connect(dying.url("/lobby?user=ada")) as ada:
            row = f"hf:s:{{{str((await ada.expect(1))[0]).removeprefix('welcome ')}}}"
            holder.hold()  # from now on the dying edge does not learn what Redis has done for it
            await ada.close()
        assert (await watcher.expect(2))[1:] == ["left ada"]
        await dying.sigkill()
        with server.client() as client:
            assert client.exists(row), "the edge died before it could forget the session"
            await wait_until(lambda: not client.exists(row), "the survivor has told the backend and forgotten it")
        assert "1 sessions reported as ended" in survivor.log()
        await watcher.send("that was all")
        assert (await watcher.expect(3))[1:] == ["left ada", "that was all"]


async def test_an_answer_that_redis_took_but_did_not_confirm_can_be_given_again(
    tmp_path: Path, redis: tuple[RedisServer, ReplyHolder]
) -> None:
    server, holder = redis
    journal = Journal(tmp_path / "journal")
    async with (
        Backend(tmp_path, "tests.scenarios.backends:insistent", environment={VARIABLE: str(journal.path)}) as backend,
        Edge(tmp_path, backend=backend.url, redis=holder.url, edge={"store_wait_s": 0.5}) as edge,
        connect(edge.url()) as client,
    ):
        holder.hold()
        await client.send("first")
        with server.client() as look:
            await wait_until(lambda: look.keys("hf:a:*:only-once"), "Redis has applied the answer")
        await wait_until(journal.entries, "the backend is told")
        assert client.messages == [], "nothing of the answer was done"
        assert "nothing of it was done" in journal.entries()[0]["error"]
        holder.let_go()
        assert await client.expect(2) == ["once", "sorry for the delay"]
        with server.client() as look:
            (row,) = look.keys("hf:s:*")
            assert not look.hexists(row, "st:asked"), "what was refused is not in the row either"
            assert look.hexists(row, "st:insisted")
            await client.send("second")
            assert await client.expect(3) == ["once", "sorry for the delay", "heard second"]
            assert look.hexists(row, "st:asked")
