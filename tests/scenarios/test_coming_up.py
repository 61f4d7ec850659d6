"""An edge that starts says so from its first moment, whatever it still waits for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.client import connect
from tests.support.processes import Backend, Edge
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario


async def test_probes_are_answered_while_redis_is_waited_for(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path / "redis")
    edge_settings = {"store_wait_s": 60.0}  # longer than this test takes to look
    async with Backend(tmp_path, "tests.scenarios.backends:counting") as backend:
        edge = Edge(tmp_path, backend=backend.url, redis=redis.url, edge=edge_settings)
        entering = asyncio.create_task(edge.__aenter__())
        try:

            async def starting() -> bool:
                status, why = await edge.get("/readyz")
                return status == 503 and b'"starting"' in why and b"store away" in why

            await wait_until(starting, "readiness says what it waits for")
            assert await edge.status("/livez") == 200
            with redis:
                await entering
                async with connect(edge.url()) as client:
                    await client.send("hello")
                    assert await client.expect(1) == ["hello 1 backend"]
        finally:
            entering.cancel()
            await asyncio.gather(entering, return_exceptions=True)
            await edge.kill_tree()
