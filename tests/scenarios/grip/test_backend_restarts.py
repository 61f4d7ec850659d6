"""What clients of a GRIP backend notice of its deaths: nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.support.client import connect
from tests.support.grip_proxy import GripEdge, GripRoute, http_url, publish, ws_url
from tests.support.ports import LOOPBACK, free_port
from tests.support.processes import Backend
from tests.support.scrape import until_counted
from tests.support.waiting import DEADLINE_S, wait_until

pytestmark = pytest.mark.scenario

KEY = "a-key-of-these-tests-of-thirty-two-bytes-or-more"
RESTARTS = 20
SENT_WHILE_DOWN = frozenset({3, 11})
"""Rounds in which the client speaks while its backend is dead: those wait for the edge's next attempt."""


def message(channel: str, text: str) -> dict[str, Any]:
    formats = {
        "http-stream": {"content": f"{text}\n"},
        "http-response": {"body": f"{text}\n"},
        "ws-message": {"content": text},
    }
    return {"channel": channel, "formats": formats}


async def test_a_stream_a_long_poll_and_a_websocket_survive_20_restarts_of_their_backend(tmp_path: Path) -> None:
    port = free_port()
    edge = GripEdge(tmp_path, GripRoute([f"http://{LOOPBACK}:{port}"], sig_key=KEY))
    grip_url = f"{edge.control_url}?{urlencode({'iss': 'pushpin', 'key': KEY})}"
    application = "tests.scenarios.grip.libraries.django_site:app"
    backend = Backend(tmp_path, application, port=port, environment={"GRIP_URL": grip_url})
    async with (
        edge,
        backend,
        httpx.AsyncClient(timeout=DEADLINE_S * 5) as client,
        client.stream("GET", http_url(edge, "/stream?channel=news")) as stream,
        connect(ws_url(edge, "/socket")) as socket,
    ):
        lines = stream.aiter_lines()
        assert await anext(lines) == "opened"
        poll = asyncio.create_task(client.get(http_url(edge, "/poll?channel=answer&timeout=300")))
        await socket.send("subscribe news")
        await socket.expect(1)
        await until_counted(edge, 2, "grip_channels")  # the poll is held: before, its backend's death would be a 502
        for number in range(RESTARTS):
            await backend.sigkill()
            if number in SENT_WHILE_DOWN:
                await socket.send(f"echo {number}")
            # Nobody needs the backend for what is published.
            await publish(edge, message("news", f"news {number}"))
            assert await next_line(lines) == f"news {number}"
            await backend.start()
            if number not in SENT_WHILE_DOWN:
                await socket.send(f"echo {number}")
            await socket.expect_that(having(f"echo {number}"), f"echo {number} has come")
        assert not poll.done()
        await wait_until(lambda: answered(edge, poll), "the long poll is answered")
        assert (poll.result().status_code, poll.result().text) == (200, "the answer\n")
        assert socket.ending is None
        news = [text for text in socket.messages if str(text).startswith("news")]
        assert news == [f"news {number}" for number in range(RESTARTS)]
        echoes = [text for text in socket.messages if str(text).startswith("echo")]
        assert without_repeats(echoes) == [f"echo {number}" for number in range(RESTARTS)]


def having(text: str) -> Callable[[Sequence[object]], bool]:
    return lambda messages: text in messages


async def next_line(lines: AsyncIterator[str]) -> str:
    async with asyncio.timeout(DEADLINE_S):
        return await anext(lines)


async def answered(edge: GripEdge, poll: asyncio.Task[httpx.Response]) -> bool:
    await publish(edge, message("answer", "the answer"))
    await asyncio.wait([poll], timeout=0.2)
    return poll.done()


def without_repeats(texts: Sequence[object]) -> list[object]:
    """A message whose answer was lost with its backend is asked again: at least once is what is promised."""
    return list(dict.fromkeys(texts))
