"""One routes file, read by Pushpin and by the edge: the same requests reach the same backends, looking the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.scenarios.grip.test_routes_file import RoutedEdge
from tests.support.grip_proxy import GripProxy
from tests.support.ports import LOOPBACK
from tests.support.pushpin import Pushpin
from tests.support.raw_backend import Answer, Asked, RawBackend, raw_backend

pytestmark = pytest.mark.scenario

EVENTS = "application/websocket-events"

ROUTES = """
# a comment, and an empty line

*                                                       {0},over_http
*,proto=ws                                              {1},over_http   # behind a target
*,path_beg=/api                                         {1},over_http
*,path_beg=/api,ssl=yes                                 {2},over_http
*,path_beg=/cut,path_rem=4                              {1},over_http
*,path_beg=/old,replace_beg=/new                        {1},over_http
*,path_beg=/drop,replace_beg=                           {1},over_http
front.example,replace_beg=/inner,as_host=as.example     {2},over_http
front.example,path_beg=/hosted,as_host=as.example       {2},over_http,host=target.example
"quoted.example",header="X-One: a, b # c",header=X-Two:,header="X-Three:   3"   {2},over_http
down.example                                            127.0.0.1:1,over_http {1},over_http
"""

REQUESTS: Sequence[tuple[str, str]] = [
    # (host, path and query)
    ("any.example", "/"),
    ("any.example", "/api"),
    ("any.example", "/apis/x?y=z%20z"),
    ("any.example", "/cut/this"),
    ("any.example", "/cut"),
    ("any.example", "/old/path"),
    ("any.example", "/oldest"),
    ("any.example", "/drop/path"),
    ("front.example", "/path"),
    ("front.example:8080", "/hosted/path"),
    ("quoted.example", "/"),
    ("down.example", "/path"),
]
COMPARED = ("host", "x-one", "x-two", "x-three")


class RoutedPushpin(Pushpin):
    """A Pushpin with further lines in its routes file."""

    lines = ""

    def _configure(self) -> None:
        super()._configure()
        with (self.scratch / "routes").open("a") as file:
            file.write(self.lines)


async def answer(asked: Asked) -> Answer:
    if asked.header("content-type") == EVENTS:
        return Answer(headers=[("Content-Type", EVENTS)], body=asked.body)
    return Answer(body=b"here\n")


async def send(proxy: GripProxy, host: str, target: str, *, websocket: bool = False) -> str:
    """The status line of the answer to one request on a connection of its own."""
    lines = [f"GET {target} HTTP/1.1", f"Host: {host}", "X-Two: 2", "X-Three: two"]
    if websocket:
        lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(60):
            return (await reader.readline()).decode().strip()
    finally:
        writer.close()


async def seen(proxy: GripProxy, backends: Sequence[RawBackend]) -> list[object]:
    """What becomes of every request: its answer, and what which backend was asked."""
    found: list[object] = []
    for websocket in (False, True):
        for host, target in REQUESTS:
            for backend in backends:
                backend.asked.clear()
            status = await send(proxy, host, target, websocket=websocket)
            # What tells of the end of the socket before comes whenever it comes.
            asked = [
                (number, asked.method, asked.target, [asked.header(name) for name in COMPARED])
                for number, backend in enumerate(backends)
                for asked in [one for one in backend.asked if one.body != b"DISCONNECT\r\n"][:1]
            ]
            found.append((websocket, host, target, status.split(" ")[1], asked))
    return found


async def test_the_same_requests_reach_the_same_backends(tmp_path: Path) -> None:
    async with raw_backend(answer) as one, raw_backend(answer) as two, raw_backend(answer) as three:
        backends = [one, two, three]
        routes = ROUTES.format(*(backend.url.removeprefix("http://") for backend in backends))
        pushpin = RoutedPushpin(tmp_path)
        pushpin.lines = routes
        async with pushpin, RoutedEdge(tmp_path, routes) as edge:
            theirs = await seen(pushpin, backends)
            ours = await seen(edge, backends)
    assert ours == theirs
