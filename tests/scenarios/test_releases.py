"""Sessions and releases, as far as this frame goes: pins hold, and are let go, from the next event on."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.support.client import RecordingClient, connect
from tests.support.processes import Backend, Edge

pytestmark = pytest.mark.scenario

APP = "tests.scenarios.backends:pinning"


async def ask(client: RecordingClient, text: str) -> object:
    await client.send(text)
    return (await client.expect(len(client.messages) + 1))[-1]


async def test_a_pinned_session_goes_to_its_release_from_the_next_event_on_and_back_when_unpinned(
    tmp_path: Path,
) -> None:
    async with (
        Backend(tmp_path, APP, name="a", environment={"BACKEND_NAME": "a"}) as a,
        Backend(tmp_path, APP, name="b", environment={"BACKEND_NAME": "b"}) as b,
        Edge(tmp_path, routes=[{"backend": a.url, "release": "r-a", "release_urls": [b.url]}]) as edge,
        connect(edge.url()) as pinned,
        connect(edge.url()) as other,
    ):
        async with httpx.AsyncClient(base_url=edge.control_url) as control:
            put = await control.put("/v1/apps/default/releases/r-b", json={"url": b.url})
            put.raise_for_status()
        assert await ask(pinned, "who?") == "a r-a"
        assert await ask(pinned, "pin r-b") == "a r-a"
        assert await ask(pinned, "who?") == "b r-b"
        assert await ask(other, "who?") == "a r-a"
        assert await ask(pinned, "pin") == "b r-b"
        assert await ask(pinned, "who?") == "a r-a"
