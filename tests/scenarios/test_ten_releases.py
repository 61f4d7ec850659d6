"""Two hundred clients live through ten releases in a row, and notice none."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.scenarios.release_control import controlling
from tests.support.client import RecordingClient, connect
from tests.support.processes import Backend, Edge
from tests.support.redis import redis_server, redis_url

__all__ = ["redis_server", "redis_url"]

pytestmark = pytest.mark.scenario

APP = "tests.scenarios.release_app:app"
RELEASES = 10
PINNED = 10
ROLLING = 190
PAUSE_S = 0.2
"""Between an answer and the client's next word: some 800 messages a second in all."""


class Guest:
    """A client that says numbers, one at a time, and takes down which releases answered."""

    def __init__(self, client: RecordingClient) -> None:
        self.client = client
        self.answers: list[str] = []
        self.stopped = False

    async def talk(self) -> None:
        while not self.stopped:
            await self.say(str(len(self.answers)))
            await asyncio.sleep(PAUSE_S)

    async def say(self, text: str) -> None:
        await self.client.send(text)
        got = await self.client.expect(len(self.answers) + 1, deadline_s=30)
        answer = str(got[len(self.answers)])
        assert answer.startswith(f"{text} "), f"{answer!r} to {text!r}"
        self.answers.append(answer)

    @property
    def releases(self) -> list[str]:
        """In the order they came, each once in a row."""
        seen = [answer.split()[-1] for answer in self.answers]
        return [sha for at, sha in enumerate(seen) if at == 0 or seen[at - 1] != sha]


async def test_two_hundred_clients_live_through_ten_releases_and_notice_none(tmp_path: Path, redis_url: str) -> None:
    async with AsyncExitStack() as stack:
        first = Backend(tmp_path, APP, name="r0")
        await stack.enter_async_context(first)
        later = [Backend(tmp_path, APP, name=f"r{number}") for number in range(1, RELEASES + 1)]
        routes = [{"backend": first.url, "release": "r0", "release_urls": [backend.url for backend in later]}]
        edges = [Edge(tmp_path, routes=routes, redis=redis_url, name=f"edge{number}") for number in (0, 1)]
        for edge in edges:
            await stack.enter_async_context(edge)
        control = await stack.enter_async_context(controlling(edges[0]))
        other = await stack.enter_async_context(controlling(edges[1]))
        urls = [edges[number % 2].url() for number in range(PINNED + ROLLING)]
        guests = [Guest(await stack.enter_async_context(connect(url))) for url in urls]
        pinned, rolling = guests[:PINNED], guests[PINNED:]
        for guest in pinned:
            await guest.say("pin r0")
        talks = [asyncio.create_task(guest.talk()) for guest in guests]
        for number, backend in enumerate(later, 1):
            async with asyncio.timeout(60):
                await stack.enter_async_context(backend)
            await control.put(f"r{number}", backend.url, health="/healthz")
            await (control if number % 2 else other).post(f"/releases/r{number}/promote")
            await control.until_sessions(f"r{number}", ROLLING)
            if number > 1:
                old = f"r{number - 1}"
                await other.post(f"/releases/{old}/retire")
                await other.until_state(old, "empty")
                await later[number - 2].kill_tree()  # nobody needs it, and nobody may notice that it is gone
                await other.delete(f"/releases/{old}")
        assert await control.sessions() == {"r0": PINNED, f"r{RELEASES}": ROLLING}
        assert {guest.answers[-1].split()[-1] for guest in pinned} == {"r0"}
        await control.post("/releases/r0/retire", {"how": "over", "for_ms": 2_000})
        await control.until_sessions(f"r{RELEASES}", PINNED + ROLLING)
        for guest in guests:
            guest.stopped = True
        await asyncio.gather(*talks)
        for guest in guests:
            assert guest.client.ending is None
            assert len(guest.client.messages) == len(guest.answers), "an answer came twice, or nobody asked for it"
        in_order = [f"r{number}" for number in range(RELEASES + 1)]
        for guest in rolling:
            assert [sha for sha in in_order if sha in guest.releases] == guest.releases
        for guest in pinned:
            assert guest.releases in (["r0"], ["r0", f"r{RELEASES}"])
