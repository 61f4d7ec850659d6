"""The store on the loop that production runs: its transports differ from asyncio's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import uvloop

from edge.clock import SystemClock
from edge.config import EdgeSettings
from edge.store.base import BusListener, HistoryPolicy
from edge.store.redis import open_store
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until
from tests.unit.store.conftest import Ears


async def talk(url: str, ears: Ears) -> None:
    listener: BusListener = ears.listener()
    store = open_store(EdgeSettings(redis=url), "edge", SystemClock())
    await store.start(listener)
    await store.subscribe("room")
    await asyncio.gather(*(store.publish("room", str(n), HistoryPolicy(10, 0)) for n in range(20)))
    await store.send("edge", b"hello")
    await wait_until(lambda: len(ears.publications) == 20 and ears.mail, "everything is heard")
    await store.close()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_publications_and_mail_arrive_under_uvloop(kind: str, tmp_path: Path) -> None:
    path, ears = tmp_path / "r.sock", Ears()
    with RedisServer(tmp_path / "redis", f"unixsocket {path}") as server:
        uvloop.run(talk(server.url if kind == "tcp" else f"unix://{path}", ears))
    assert [p.payload for p in ears.publications] == [str(n) for n in range(20)]
    assert ears.mail == [("edge", b"hello")]
