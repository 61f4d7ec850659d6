"""The control API as the scenarios of releases use it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.support.processes import Edge
from tests.support.waiting import wait_until

BASE = "/v1/apps/default"


class Control:
    """One edge's; what it refuses fails the test."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self._good(await self.client.post(BASE + path, json=body or {}))

    async def delete(self, path: str) -> dict[str, Any]:
        return self._good(await self.client.delete(BASE + path))

    async def put(self, sha: str, url: str, **fields: Any) -> dict[str, Any]:
        return self._good(await self.client.put(f"{BASE}/releases/{sha}", json={"url": url, **fields}))

    async def table(self) -> dict[str, Any]:
        return self._good(await self.client.get(f"{BASE}/releases"))

    async def sessions(self) -> dict[str, int]:
        """By SHA; empty while not every edge answered."""
        table = await self.table()
        return {row["sha"]: row["sessions"] for row in table["releases"] if table["complete"]}

    async def until_sessions(self, sha: str, count: int, deadline_s: float = 15) -> None:
        async def there() -> bool:
            return (await self.sessions()).get(sha) == count

        await wait_until(there, f"release {sha} has {count} sessions", deadline_s)

    async def until_state(self, sha: str, state: str, deadline_s: float = 15) -> None:
        async def there() -> bool:
            return {row["sha"]: row["state"] for row in (await self.table())["releases"]}.get(sha) == state

        await wait_until(there, f"release {sha} is {state}", deadline_s)

    async def until_canary(self, outcome: str, deadline_s: float = 30) -> dict[str, Any]:
        tables: list[dict[str, Any]] = []

        async def there() -> bool:
            tables[:] = [await self.table()]
            return bool(tables[0]["canary"]["outcome"] == outcome)

        await wait_until(there, f"the canary is {outcome}", deadline_s)
        return tables[0]

    @staticmethod
    def _good(answer: httpx.Response) -> dict[str, Any]:
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body


@asynccontextmanager
async def controlling(edge: Edge) -> AsyncIterator[Control]:
    async with httpx.AsyncClient(base_url=edge.control_url, timeout=20) as client:
        yield Control(client)
