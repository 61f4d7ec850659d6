"""Several edges on one Redis, guests in their halls, and what the backend has noted about them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from edge.store.keys import Keys
from tests.support.client import RecordingClient, connect
from tests.support.journal import Journal
from tests.support.processes import Backend, Edge
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until

APP = "tests.scenarios.hall_app:app"
GATE_VARIABLE = "CLOSE_GATE"
"""Environment: a file without which the backend answers no `close`."""
LEASE_S = 2.0


@dataclass(frozen=True, slots=True)
class Guest:
    """A client and its session's id."""

    client: RecordingClient
    session: str

    def heard(self) -> list[str]:
        """Everything after the welcome, which is the session's id."""
        return [str(message) for message in self.client.messages[1:]]

    async def ask(self, text: str, answer: str) -> None:
        """Send a command, and wait for its answer."""
        await self.client.send(text)
        await self.client.expect_that(lambda _: answer in self.heard(), f"{answer!r} answers {text!r}")


@dataclass(frozen=True, slots=True)
class House:
    """A backend, its journal, and edges in front of it."""

    backend: Backend
    journal: Journal
    edges: list[Edge]

    def noted(self, type: str) -> list[dict[str, Any]]:
        return [entry for entry in self.journal.entries() if entry["type"] == type]

    def closed(self) -> set[str]:
        """Sessions whose end the handler has dealt with."""
        return {entry["session"] for entry in self.noted("close")}


@contextlib.asynccontextmanager
async def house(
    folder: Path,
    redis: str,
    count: int = 1,
    *,
    edge: Mapping[str, Any] | None = None,
    route: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[House]:
    """`count` edges on `redis`, and a backend behind all of them. `edge` and `route` are settings of [edge] and of the
    one [[route]]."""
    journal = Journal(folder / "journal")
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(journal.close)
        backend = await stack.enter_async_context(Backend(folder, APP, journal=journal, environment=environment))
        settings = {"lease_s": LEASE_S, **(edge or {})}
        edges = [
            Edge(
                folder,
                name=f"edge{number}",
                routes=[{"backend": backend.url, **(route or {})}],
                redis=redis,
                edge=settings,
                **options,
            )
            for number in range(count)
        ]
        await asyncio.gather(*(stack.enter_async_context(each) for each in edges))
        yield House(backend, journal, edges)
        for each in edges:
            assert not any(sign in each.log() for sign in ("Traceback", "never retrieved")), each.log_tail()


@contextlib.asynccontextmanager
async def guests(edge: Edge, count: int, path: str = "/lounge") -> AsyncIterator[list[Guest]]:
    """`count` clients of one edge."""
    async with contextlib.AsyncExitStack() as stack:
        clients = await asyncio.gather(*(stack.enter_async_context(connect(edge.url(path))) for _ in range(count)))
        yield [Guest(client, str((await client.expect(1))[0])) for client in clients]


async def edge_of(edge: Edge, session: str) -> str:
    """Id of the edge process that owns the session, as any edge tells it."""
    async with httpx.AsyncClient(base_url=edge.control_url, timeout=20) as http:
        return str((await http.get(f"/v1/sessions/{session}")).json()["edge"])


class Chatter:
    """Guests that talk to the backend all the time, each waiting for an answer before it goes on."""

    def __init__(self, talkers: Sequence[Guest]) -> None:
        self.answered = [0] * len(talkers)
        self._stop = asyncio.Event()
        self._tasks = [asyncio.create_task(self._talk(number, guest)) for number, guest in enumerate(talkers)]

    async def _talk(self, number: int, guest: Guest) -> None:
        while not self._stop.is_set():
            text = f"m{self.answered[number]}"
            await guest.ask(text, text)
            self.answered[number] += 1

    async def flows(self, rounds: int = 3) -> None:
        """Return when everybody has been answered `rounds` times more."""
        before = list(self.answered)

        def everybody() -> bool:
            failed = [task for task in self._tasks if task.done() and task.exception()]
            if failed:
                failed[0].result()
            return all(now >= then + rounds for now, then in zip(self.answered, before, strict=True))

        await wait_until(everybody, f"everybody was answered {rounds} times more")

    async def stop(self) -> None:
        """Let everybody finish; raises what went wrong for any of them."""
        self._stop.set()
        await asyncio.gather(*self._tasks)


@contextlib.asynccontextmanager
async def chatter(talkers: Sequence[Guest]) -> AsyncIterator[Chatter]:
    """Everybody talks until the block ends."""
    talk = Chatter(talkers)
    try:
        yield talk
    finally:
        await talk.stop()


async def nothing_kept(redis: RedisServer, sessions: Iterable[str]) -> None:
    """Wait until Redis holds no rows of these sessions any more."""
    names = [Keys().session(session) for session in sessions]

    def nothing_left() -> bool:
        with redis.client() as client:
            return not client.exists(*names)

    await wait_until(nothing_left, "their rows are gone")


async def reported(here: House, lost: Sequence[Guest]) -> None:
    """Wait until every one of these has been reported as lost with its edge, and check how: once in effect, under its
    stable id, and nobody else."""
    sessions = {guest.session for guest in lost}

    def entries() -> list[dict[str, Any]]:
        return [entry for entry in here.noted("close") if entry["cause"] == "edge-lost"]

    await wait_until(
        lambda: {entry["session"] for entry in entries()} >= sessions, f"the ends of {len(sessions)} are reported"
    )
    for entry in entries():
        assert entry["session"] in sessions, "a session that lives was reported as ended"
        assert entry["code"] == 1006
        assert entry["id"] == f"{entry['session']}:close"
    assert Counter(entry["session"] for entry in here.noted("close")).most_common(1)[0][1] == 1
