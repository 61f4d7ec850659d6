"""Every limit of a real edge: refused with the documented code, and counted under its name."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import connect
from tests.support.processes import Backend, Edge
from tests.support.raw_websocket import RawClient, client_frame, dial, handshake, raw_websocket
from tests.support.scrape import limits_hit
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario

TEXT, BINARY, CONTINUATION = 1, 2, 0
ROUTES: dict[str, dict[str, Any]] = {
    "/message": {"limits": {"message_bytes": 1_000}},
    "/frame": {"limits": {"frame_bytes": 1_000, "message_bytes": 10_000}},
    "/deflate": {"limits": {"message_bytes": 1_000}, "compression": True},
    "/messages": {"limits": {"messages_per_s": 1}},
    "/bytes": {"limits": {"bytes_per_s": 100}},
    "/address": {"limits": {"connections_per_ip": 2}},
    "/subscriptions": {"limits": {"subscriptions": 5}},
    "/headers": {"limits": {"headers": 10}},
    "/header-bytes": {"limits": {"header_bytes": 500}},
    "/origins": {"origins": ["https://chat.example"]},
    "/late": {"timeouts": {"handshake_s": 1.0}},
    "/idle": {"timeouts": {"idle_s": 1.0}},
    "/silent": {"timeouts": {"ping_s": 1.0, "pong_s": 1.0}},
}


@contextlib.asynccontextmanager
async def limited(folder: Path, paths: dict[str, dict[str, Any]], **edge: Any) -> AsyncIterator[tuple[Edge, Backend]]:
    async with Backend(folder, "tests.scenarios.telling:curious") as backend:
        routes = [{"path": path, "backend": backend.url, **route} for path, route in paths.items()]
        async with Edge(folder, routes=routes, edge=edge) as running:
            yield running, backend


async def refused(edge: Edge, path: str, *headers: str) -> tuple[int, dict[str, str], bytes]:
    async with dial(edge.port) as client:
        client.write(handshake(path, *headers))
        return await client.answer()


def big(payload: bytes) -> bytes:
    return client_frame(BINARY, payload)


async def told(client: RawClient) -> tuple[int, str]:
    return await client.closing()


async def test_each_limit_of_a_route(tmp_path: Path) -> None:
    async with limited(tmp_path, ROUTES) as (edge, backend):
        expected: dict[str, int] = {}

        async def check(limit: str, times: int = 1) -> None:
            """Nothing but this one was counted since the last check."""
            expected[limit] = expected.get(limit, 0) + times

            async def counted() -> bool:
                return await limits_hit(edge) == expected

            await wait_until(counted, f"{expected} are counted")

        # Sizes: whole, in one frame, in fragments, and after decompression.
        async with raw_websocket(edge.port, "/message") as client:
            client.write(big(b"x" * 1_000) + big(b"x" * 1_001))
            assert await told(client) == (1009, "message too big")
        await check("message_bytes")
        async with raw_websocket(edge.port, "/message") as client:
            client.write(client_frame(TEXT, b"x" * 600, fin=False) + client_frame(CONTINUATION, b"x" * 600))
            assert await told(client) == (1009, "message too big")
        await check("message_bytes")
        async with raw_websocket(edge.port, "/frame") as client:
            client.write(client_frame(TEXT, b"x" * 900, fin=False) + client_frame(CONTINUATION, b"x" * 900) + big(b""))
            client.write(big(b"x" * 1_001))
            assert await told(client) == (1009, "frame too big")
        await check("frame_bytes")
        async with raw_websocket(edge.port, "/deflate", "Sec-WebSocket-Extensions: permessage-deflate") as client:
            bomb = zlib.compressobj(wbits=-15)
            squeezed = (bomb.compress(b"x" * 100_000) + bomb.flush(zlib.Z_SYNC_FLUSH))[:-4]
            assert len(squeezed) < 1_000
            client.write(client_frame(BINARY, squeezed, rsv=0x40))
            assert await told(client) == (1009, "message too big")
        await check("message_bytes")

        # Rates: twice the second's worth passes at once.
        async with raw_websocket(edge.port, "/messages") as client:
            client.write(big(b"m") * 50)
            assert await told(client) == (1008, "message rate")
        await check("messages_per_s")
        async with raw_websocket(edge.port, "/bytes") as client:
            client.write(big(b"x" * 100) * 50)
            assert await told(client) == (1008, "byte rate")
        await check("bytes_per_s")

        # Connections of one address.
        async with raw_websocket(edge.port, "/address"), raw_websocket(edge.port, "/address"):
            assert (await refused(edge, "/address"))[0] == 429
            async with raw_websocket(edge.port, "/message"):
                pass  # other routes count for themselves
        await check("connections_per_ip")

        # What the backend may do for one session.
        async with connect(edge.url("/subscriptions")) as greedy:
            await greedy.send("!subscribe 5")
            assert (await greedy.expect(2))[1] == "subscribed"
            await greedy.send("!subscribe 6")
            ending = await greedy.ended()
            assert (ending.code, ending.reason) == (1008, "too many subscriptions")
        await check("subscriptions")

        # Heads of handshakes.
        assert (await refused(edge, "/headers", *(f"X-{n}: 1" for n in range(11))))[0] == 431
        await check("headers")
        assert (await refused(edge, "/header-bytes", "X-Big: " + "x" * 600))[0] == 431
        await check("header_bytes")
        assert (await refused(edge, "/origins", "Origin: https://evil.example"))[0] == 403
        assert (await refused(edge, "/origins"))[0] == 403
        await check("origins", 2)
        async with raw_websocket(edge.port, "/origins", "Origin: https://chat.example"):
            pass

        # Silence.
        async with raw_websocket(edge.port, "/idle") as client:
            assert await told(client) == (1000, "idle")
        await check("idle_s")
        async with raw_websocket(edge.port, "/silent") as client:
            await client.frame()  # its request, told by the backend
            assert await client.frame() == (0x89, b"")
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await client.frame()
        await check("pong_s")

        # A backend that does not answer in time.
        backend.freeze()
        status, _, body = await refused(edge, "/late")
        backend.thaw()
        assert (status, body) == (504, b"The backend has not answered in time.\n")
        await check("handshake_s")


async def test_connections_of_a_process(tmp_path: Path) -> None:
    async with limited(tmp_path, {"/": {}}, max_connections=3) as (edge, _):
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(raw_websocket(edge.port))
            status, headers, body = await refused(edge, "/")
            assert (status, body) == (503, b"The edge is full.\n")
            assert int(headers["retry-after"]) > 0
            assert await limits_hit(edge) == {"max_connections": 1}

        async def room() -> bool:
            with contextlib.suppress(AssertionError):
                async with raw_websocket(edge.port):
                    return True
            return False

        await wait_until(room, "there is room again")


async def test_handshakes_a_second(tmp_path: Path) -> None:
    async with limited(tmp_path, {"/": {}}, handshakes_per_s=1) as (edge, _):

        async def answer() -> int:
            return (await refused(edge, "/"))[0]

        statuses = await asyncio.gather(*(answer() for _ in range(30)))
        assert {101, 503} == set(statuses)
        assert await limits_hit(edge) == {"handshakes_per_s": statuses.count(503)}


async def test_a_handshake_that_does_not_come_whole(tmp_path: Path) -> None:
    route = {"timeouts": {"handshake_s": 1.0}}
    async with limited(tmp_path, {"/": route}) as (edge, _):
        async with dial(edge.port) as client:
            client.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            assert (await client.answer())[0] == 408
        assert (await limits_hit(edge))["handshake_s"] >= 1
