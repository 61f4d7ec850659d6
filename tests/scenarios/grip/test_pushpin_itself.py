"""The measure works: Pushpin runs here as it would elsewhere. When this fails, no comparison says anything."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.support.client import connect
from tests.support.grip_proxy import GripRoute, http_url, publish, ws_url
from tests.support.pushpin import Pushpin
from tests.support.raw_backend import Answer, Asked, raw_backend

pytestmark = pytest.mark.scenario

EVENTS = "application/websocket-events"


async def answer(asked: Asked) -> Answer:
    match asked.body:
        case b"":
            return Answer(headers=[("Grip-Hold", "stream"), ("Grip-Channel", "news")], body=b"hello\n")
        case b"OPEN\r\n":
            return Answer(headers=[("Content-Type", EVENTS)], body=b"OPEN\r\n")
        case events:
            return Answer(headers=[("Content-Type", EVENTS)], body=events)


async def test_pushpin_holds_publishes_and_turns_websockets_into_requests(tmp_path: Path) -> None:
    async with raw_backend(answer) as backend, Pushpin(tmp_path, GripRoute([backend.url])) as proxy:
        async with (
            httpx.AsyncClient() as client,
            client.stream("GET", http_url(proxy)) as response,
        ):
            lines = response.aiter_lines()
            assert await anext(lines) == "hello"
            await publish(proxy, {"channel": "news", "formats": {"http-stream": {"content": "all is well\n"}}})
            assert await anext(lines) == "all is well"
        async with connect(ws_url(proxy)) as socket:
            await socket.send("echo")
            assert await socket.expect(1) == ["echo"]
