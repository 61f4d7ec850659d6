"""A backend that is one part of a larger application."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.support.client import connect
from tests.support.processes import Backend, Edge
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario


@pytest.mark.parametrize("framework", ["in_starlette", "in_fastapi"])
async def test_an_app_answers_where_it_is_mounted_and_nowhere_else(tmp_path: Path, framework: str) -> None:
    async with (
        Backend(tmp_path, f"tests.scenarios.mounted:{framework}") as backend,
        Edge(tmp_path, routes=[{"backend": backend.url, "callback_path": "/edge/"}]) as edge,
        connect(edge.url()) as client,
        httpx.AsyncClient() as browser,
    ):
        await client.send("hello")
        assert await client.expect(1) == ["HELLO"]
        answer = await browser.get(f"{backend.url}/page")
        assert (answer.status_code, answer.text) == (200, "a page of the application's own")


async def test_without_the_final_slash_the_edge_says_what_to_set(tmp_path: Path) -> None:
    async with (
        Backend(tmp_path, "tests.scenarios.mounted:in_starlette") as backend,
        Edge(tmp_path, routes=[{"backend": backend.url, "callback_path": "/edge"}]) as edge,
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(edge.url()):
                pass
        assert refused.value.response.status_code == 502
        wanted = f"set callback_path so that requests go to {backend.url}/edge/"
        await wait_until(lambda: wanted in edge.log(), "the edge says what to do")
