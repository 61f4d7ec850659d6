"""A canary is taken back by itself when its figures are bad and goes all the way when they are good; nobody notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.release_control import Control, controlling
from tests.support.client import RecordingClient, connect
from tests.support.processes import Backend, Edge
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario

APP = "tests.scenarios.release_app:app"
CLIENTS = 40


class Talk:
    """Clients that say a number, wait for its answer, and go on, until they are stopped."""

    def __init__(self, clients: list[RecordingClient]) -> None:
        self.clients = clients
        self.rounds = 0
        self._stopped = False

    async def run(self) -> None:
        await asyncio.gather(*(self._talk(client) for client in self.clients))

    async def _talk(self, client: RecordingClient) -> None:
        number = 0
        while not self._stopped:
            await client.send(f"{number}")
            answers = await client.expect(number + 1, deadline_s=30)
            assert str(answers[number]).split()[0] == str(number)
            number += 1
            self.rounds += 1

    def stop(self) -> None:
        self._stopped = True

    @property
    def undisturbed(self) -> bool:
        return all(client.ending is None for client in self.clients)


@asynccontextmanager
async def talking(
    folder: Path, canary: Mapping[str, str], edges: int = 1
) -> AsyncIterator[tuple[Control, Talk, asyncio.Task[None]]]:
    """An edge with two workers, the releases old and new, and clients that never stop talking."""
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(Backend(folder, APP, name="old", environment={"BACKEND_NAME": "old"}))
        new = await stack.enter_async_context(Backend(folder, APP, name="new", environment=canary))
        edge = await stack.enter_async_context(
            Edge(folder, routes=[{"backend": old.url, "release": "old", "release_urls": [new.url]}], workers=2)
        )
        control = await stack.enter_async_context(controlling(edge))
        await control.put("new", new.url, health="/healthz")
        clients = [await stack.enter_async_context(connect(edge.url())) for _ in range(CLIENTS)]
        talk = Talk(clients)
        running = asyncio.create_task(talk.run())
        try:
            yield control, talk, running
        finally:
            talk.stop()
            await asyncio.wait([running], timeout=60)


def plan(**fields: Any) -> dict[str, Any]:
    return {"steps": [25, 100], "every_ms": 2_000, "min_events": 20} | fields


async def test_a_canary_that_fails_is_taken_back_and_every_message_is_answered(tmp_path: Path) -> None:
    async with talking(tmp_path, {"BACKEND_FAILS": "yes"}) as (control, talk, running):
        await control.post("/releases/new/canary", plan(max_error_rate=0.05, every_ms=600_000))
        table = await control.until_canary("rolled-back")
        assert {row["sha"]: row["share"] for row in table["releases"]} == {"old": 100, "new": 0}
        assert "events failed" in table["canary"]["reason"]
        said = talk.rounds
        await wait_until(lambda: talk.rounds > said + 10 * CLIENTS, "everybody talks on")
        talk.stop()
        await running
        assert talk.undisturbed
        await control.until_sessions("old", CLIENTS)


async def test_a_canary_that_is_slow_is_taken_back(tmp_path: Path) -> None:
    async with talking(tmp_path, {"BACKEND_SLOW_S": "0.4"}) as (control, talk, running):
        await control.post("/releases/new/canary", plan(max_p99_ms=250, every_ms=600_000))
        table = await control.until_canary("rolled-back")
        assert "is more than 250 ms" in table["canary"]["reason"]
        talk.stop()
        await running
        assert talk.undisturbed


async def test_a_good_canary_goes_through_its_steps_and_is_the_release_then(tmp_path: Path) -> None:
    async with talking(tmp_path, {}) as (control, talk, running):
        await control.post("/releases/new/canary", plan(max_p99_ms=20_000, max_error_rate=0.5))
        table = await control.until_canary("done")
        assert table["current"] == "new"
        assert {row["sha"]: row["share"] for row in table["releases"]} == {"old": 0, "new": 100}
        await control.until_sessions("new", CLIENTS)
        talk.stop()
        await running
        assert talk.undisturbed
