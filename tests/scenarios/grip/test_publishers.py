"""Who may publish: with publishers configured, the libraries prove themselves with what they always could send.

Pushpin asks nobody, so there is nothing to compare.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.support.grip_proxy import EdgeOptions, GripEdge, GripRoute, http_url, post_publish
from tests.support.raw_backend import Answer, Asked, raw_backend
from tests.support.waiting import DEADLINE_S

pytestmark = pytest.mark.scenario

KEY = "a-key-of-these-tests-of-thirty-two-bytes-or-more"


async def hold(asked: Asked) -> Answer:
    return Answer(headers=[("Grip-Hold", "stream"), ("Grip-Channel", "news")], body=b"opened\n")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GripEdge]:
    options = EdgeOptions(settings={"publisher": [{"name": "desk", "key": KEY}]})
    folder = tmp_path_factory.mktemp("publishers")
    async with raw_backend(hold) as backend, GripEdge(folder, GripRoute([backend.url]), options=options) as edge:
        yield edge


async def run(*arguments: str) -> tuple[int, str]:
    """`publish_once` with these arguments: its status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.scenarios.grip.libraries.publish_once", *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("way", ["jwt", "basic"])
async def test_a_publisher_is_known_by_its_token_or_password(edge: GripEdge, way: str) -> None:
    async with httpx.AsyncClient(timeout=DEADLINE_S) as client, client.stream("GET", http_url(edge)) as response:
        lines = response.aiter_lines()
        assert await anext(lines) == "opened"
        assert await run(edge.control_url, "news", f"by {way}\n", way, "desk", KEY) == (0, "")
        assert await anext(lines) == f"by {way}"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "proof", [(), ("jwt", "desk", KEY[::-1]), ("jwt", "nobody", KEY), ("basic", "desk", KEY[::-1]), ("bearer", "", KEY)]
)
async def test_nobody_else_publishes(edge: GripEdge, proof: tuple[str, ...]) -> None:
    status, output = await run(edge.control_url, "news", "not by us\n", *proof)
    assert status == 1
    assert "401" in output


@pytest.mark.asyncio(loop_scope="module")
async def test_a_refusal_says_what_to_do(edge: GripEdge) -> None:
    item: dict[str, Any] = {"channel": "news", "formats": {"http-stream": {"content": "x"}}}
    status, text = await post_publish(edge, json.dumps({"items": [item]}).encode())
    assert status == 401
    assert "JWT" in text
