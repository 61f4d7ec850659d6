"""Several edges on one Redis, guests in their halls, and what the backend has noted about them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.client import RecordingClient, connect
from tests.support.journal import Journal
from tests.support.processes import Backend, Edge

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
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[House]:
    """`count` edges on `redis`, and a backend behind all of them. `edge` are settings of [edge]."""
    journal = Journal(folder / "journal")
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(journal.close)
        backend = await stack.enter_async_context(Backend(folder, APP, journal=journal, environment=environment))
        settings = {"lease_s": LEASE_S, **(edge or {})}
        edges = [
            Edge(folder, name=f"edge{number}", backend=backend.url, redis=redis, edge=settings, **options)
            for number in range(count)
        ]
        await asyncio.gather(*(stack.enter_async_context(each) for each in edges))
        yield House(backend, journal, edges)


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
