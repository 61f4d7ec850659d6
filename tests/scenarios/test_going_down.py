"""SIGTERM: nobody new is sent here, everybody here is answered and told, nothing is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.support.client import RecordingClient, connect
from tests.support.journal import Journal
from tests.support.ports import accepts
from tests.support.processes import Backend, Edge
from tests.support.scrape import until_counted
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario

CLIENTS = 40
WINDOW_S = 3.0


@contextlib.asynccontextmanager
async def clients_of(edge: Edge, count: int) -> AsyncIterator[list[RecordingClient]]:
    async with contextlib.AsyncExitStack() as stack:
        yield list(await asyncio.gather(*(stack.enter_async_context(connect(edge.url())) for _ in range(count))))


async def closing_times(clients: Sequence[RecordingClient]) -> list[float]:
    """When each of them was closed; all of them as they should be."""

    async def when(client: RecordingClient) -> float:
        ending = await client.ended()
        assert (ending.code, ending.reason) == (1012, "service restart")
        return time.monotonic()

    return sorted(await asyncio.gather(*map(when, clients)))


@pytest.mark.parametrize("workers", [1, 2])
async def test_readiness_fails_first_and_clients_are_closed_one_by_one(tmp_path: Path, workers: int) -> None:
    journal = Journal(tmp_path / "journal")
    edge_settings = {"drain_delay_s": 5.0, "drain_window_s": WINDOW_S}
    async with (
        Backend(tmp_path, "tests.scenarios.backends:counting", journal=journal) as backend,
        Edge(tmp_path, backend=backend.url, workers=workers, edge=edge_settings) as edge,
        clients_of(edge, CLIENTS) as clients,
    ):
        edge.sigterm()

        async def not_ready() -> bool:
            status, why = await edge.get("/readyz")
            return status == 503 and b"draining" in why

        await wait_until(not_ready, "readiness fails, and says why")
        async with connect(edge.url()) as late:  # a load balancer that has not noticed yet
            await late.send("late")
            assert await late.expect(1) == ["late 1 backend"]
            assert all(client.ending is None for client in clients)
            closing = asyncio.create_task(closing_times([*clients, late]))
            await wait_until(lambda: not accepts(edge.port), "no new connections are taken")
            times = await closing
        assert times[-1] - times[0] > WINDOW_S / 10, "all were closed at once"
        assert await edge.exit_code() == 0
        closes = [entry for entry in journal.entries() if entry["type"] == "close"]
        assert len({entry["session"] for entry in closes}) == len(closes) == CLIENTS + 1
        assert {(entry["cause"], entry["code"]) for entry in closes} == {("drain", 1012)}
    journal.close()


@pytest.mark.parametrize("workers", [1, 2])
async def test_what_was_read_from_clients_is_answered_before_they_are_closed(tmp_path: Path, workers: int) -> None:
    async with (
        Backend(tmp_path, "tests.scenarios.backends:counting") as backend,
        Edge(tmp_path, backend=backend.url, workers=workers) as edge,
        clients_of(edge, CLIENTS) as clients,
    ):
        backend.freeze()
        for number in range(3):
            for client in clients:
                await client.send(str(number))
        await until_counted(edge, CLIENTS * 3, "messages_received_total")
        edge.sigterm()
        # Nobody is left whom the drain has not asked to leave.
        await wait_until(lambda: edge.log().count(" clients=0 unfinished=") >= workers, "the drain waits for answers")
        assert all(client.ending is None for client in clients)
        backend.thaw()
        await closing_times(clients)
        for client in clients:
            assert client.messages == ["0 1 backend", "1 2 backend", "2 3 backend"]
        assert await edge.exit_code() == 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_second_sigterm_hurries(tmp_path: Path, workers: int) -> None:
    async with (
        Backend(tmp_path, "tests.scenarios.backends:plain") as backend,
        Edge(
            tmp_path, backend=backend.url, workers=workers, edge={"drain_delay_s": 600.0, "drain_window_s": 600.0}
        ) as edge,
        clients_of(edge, CLIENTS) as clients,
    ):
        edge.sigterm()

        async def not_ready() -> bool:
            return await edge.status("/readyz") == 503

        await wait_until(not_ready, "the drain has begun")
        backend.freeze()  # and one of them waits for an answer that will not come in time
        await clients[0].send("anybody?")
        await until_counted(edge, 1, "messages_received_total")
        edge.sigterm()
        await closing_times(clients)
        assert await edge.exit_code() == 0
        assert clients[0].messages == []
        backend.thaw()
