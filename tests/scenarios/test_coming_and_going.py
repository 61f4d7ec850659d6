"""Processes of an edge come and go: politely, rudely, and back on the ports they had."""

from __future__ import annotations

from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.support import proctree
from tests.support.client import Ending, connect
from tests.support.processes import Backend, Edge
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario

ECHO = "tests.scenarios.echo_app:app"


async def test_a_client_keeps_its_connection_while_the_backend_is_killed_and_started_again(tmp_path: Path) -> None:
    async with (
        Backend(tmp_path, ECHO) as backend,
        Edge(tmp_path, backend=backend.url) as edge,
        connect(edge.url()) as client,
    ):
        for turn in range(5):
            await client.send(f"{turn}")
            assert (await client.expect(turn + 1))[-1] == f"{turn} from {backend.server_pid}"
            await backend.restart()
        assert client.ending is None
        assert await client.close() == Ending(1000, "")


async def test_sigterm_closes_clients_with_1012_and_exits_with_zero(tmp_path: Path) -> None:
    async with Backend(tmp_path, ECHO) as backend, Edge(tmp_path, backend=backend.url, workers=2) as edge:
        async with connect(edge.url()) as one, connect(edge.url()) as two:
            edge.sigterm()
            assert [(await client.ended()).code for client in (one, two)] == [1012, 1012]
        assert await edge.exit_code() == 0
        assert edge.members() == []
        await edge.start()
        async with connect(edge.url()) as client:
            await client.send("again")
            assert await client.expect(1) == [f"again from {backend.server_pid}"]


async def test_a_worker_that_is_killed_is_replaced_and_the_others_serve_on(tmp_path: Path) -> None:
    async with Backend(tmp_path, ECHO) as backend, Edge(tmp_path, backend=backend.url, workers=2) as edge:
        before = edge.worker_pids()
        assert len(before) == 2
        dead = await edge.sigkill_worker()
        await wait_until(lambda: len(edge.worker_pids()) == 2, "there are two workers again")
        after = edge.worker_pids()
        assert dead not in after
        assert set(before) - {dead} <= set(after)
        await edge.until_ready()
        async with connect(edge.url()) as client:
            await client.send("hello")
            assert await client.expect(1) == [f"hello from {backend.server_pid}"]


async def test_an_edge_that_lost_everything_at_once_comes_back_on_its_ports(tmp_path: Path) -> None:
    async with Backend(tmp_path, ECHO) as backend, Edge(tmp_path, backend=backend.url) as edge:
        tree = edge.members()
        async with connect(edge.url()) as client:
            await edge.sigkill()
            assert (await client.ended()).code == 1006
        assert not any(proctree.is_alive(pid) for pid in tree)
        await edge.start()
        async with connect(edge.url()) as client:
            await client.send("hello")
            assert await client.expect(1) == [f"hello from {backend.server_pid}"]


async def test_a_reload_changes_routes_and_keeps_connections(tmp_path: Path) -> None:
    async with (
        Backend(tmp_path, ECHO) as backend,
        Edge(tmp_path, backend=backend.url) as edge,
        connect(edge.url("/old")) as client,
    ):
        edge.settings["route"] = [{"backend": backend.url, "path": "/new"}]
        edge.reload()

        async def moved() -> bool:
            try:
                async with connect(edge.url("/elsewhere")):
                    return False
            except InvalidStatus as refusal:
                return refusal.response.status_code == 404

        await wait_until(moved, "the reload shows")
        async with connect(edge.url("/new")):
            await client.send("still here")
            assert await client.expect(1) == [f"still here from {backend.server_pid}"]


async def test_a_frozen_backend_makes_nobody_lose_a_message(tmp_path: Path) -> None:
    async with (
        Backend(tmp_path, ECHO) as backend,
        Edge(tmp_path, backend=backend.url) as edge,
        connect(edge.url()) as client,
    ):
        await client.send("warm")
        await client.expect(1)
        backend.freeze()
        for number in range(10):
            await client.send(f"{number}")
        backend.thaw()
        answers = await client.expect(11)
        assert answers[1:] == [f"{number} from {backend.server_pid}" for number in range(10)]


async def test_wrong_settings_are_said_by_the_failing_start(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"route\[0\]\.policy"):
        async with Edge(tmp_path, routes=[{"backend": "http://127.0.0.1:1", "policy": "wander"}]):
            pass
