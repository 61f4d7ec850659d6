"""What backends are asked: the same by Pushpin and by Holdfast, for the same request of a client.

Not compared, or not asked for here:

- Targets with odd escapes and headers without a value: Pushpin writes the former anew (`%zz` becomes `%25zz`) and
  leaves the latter out; Holdfast passes on what it got.
- `Grip-Sig`, `Connection-Id`: made anew for each request or connection. That they are there is.
- `Grip-Feature`: each names what it can do. Ours has no logical sessions, and gone links, which 1.36 has not yet.
- `Accept-Encoding`, and `Accept: */*` where the client said nothing: 1.36's own HTTP client asks for them.
- How a body is framed.
- `X-Forwarded-*`, `Forwarded` and `X-Real-IP`: Pushpin passes on what anybody says; Holdfast believes trusted proxies
  only, and says itself where a request came from.
- What concerns one connection: `TE`, and headers that `Connection` names.
- `Connection-Id` and `Meta-*` on requests that are no WebSockets: a client could pass them off as Holdfast's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.scenarios.grip.conftest import PROXIES
from tests.scenarios.grip.sight import see_response, see_socket
from tests.support.grip_proxy import GripProxy, GripRoute
from tests.support.raw_backend import Answer, Asked, RawBackend, raw_backend
from tests.support.raw_websocket import client_frame
from tests.support.waiting import DEADLINE_S

pytestmark = [pytest.mark.scenario, pytest.mark.asyncio(loop_scope="module")]

NOT_COMPARED = frozenset(
    {
        "grip-sig", "grip-feature", "connection-id", "accept-encoding", "content-length", "transfer-encoding",
        "forwarded", "x-real-ip", "te", "x-hop", "meta-a",
    }
)  # fmt: skip

BROWSER = (
    "User-Agent: Mozilla/5.0", "Accept: text/html", "Accept-Encoding: gzip", "Accept-Language: de", "Cookie: a=1; b=2",
    "Referer: http://a.example/", "Origin: http://a.example", "Upgrade-Insecure-Requests: 1", "Sec-Fetch-Mode: cors",
)  # fmt: skip
FORGED = (
    "Grip-Sig: forged", "Grip-Last: c; last-id=1", "Grip-Feature: x", "Grip-Hold: stream", "Meta-A: 1",
    "Connection-Id: forged", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "Forwarded: for=1.2.3.4",
    "X-Real-IP: 9.9.9.9",
)  # fmt: skip


def request(first: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"{first} HTTP/1.1", "Host: a.example:8080", *headers, "", ""]).encode() + body


REQUESTS = {
    "browser": request("GET /a/b?c=d%20e&f=%2F", *BROWSER),
    "bare": request("GET /"),
    "forged": request("GET /", *FORGED),
    "authorized": request("GET /", "Authorization: Basic eDp5", "Via: 1.1 x", "Range: bytes=0-1", "If-None-Match: x"),
    "repeated": request("GET /", "X-Twice: 1", "X-Twice: 2"),
    "hop-by-hop": request(
        "GET /", "Connection: keep-alive, X-Hop", "X-Hop: 1", "Keep-Alive: timeout=3", "TE: trailers"
    ),
    "event-source": request("GET /events", "Accept: text/event-stream", "Last-Event-ID: 7", "Cache-Control: no-cache"),
    "post": request("POST /p", "Content-Type: text/plain", "Content-Length: 5", body=b"hello"),
    "post-nothing": request("POST /p", "Content-Length: 0"),
    "post-chunked": request("POST /p", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
    "expecting": request("POST /p", "Expect: 100-continue", "Content-Length: 2", body=b"ok"),
    "delete": request("DELETE /p/1"),
    "patch": request("PATCH /p/1", "Content-Type: application/json", "Content-Length: 2", body=b"{}"),
    "odd-path": request("GET //x/../y;z/%C3%A9/a+b?q=%2F&=&&a"),
}

SOCKETS = {
    "bare": (),
    "browser": (*BROWSER, "Sec-WebSocket-Protocol: a, b", "Pragma: no-cache"),
    "forged": FORGED,
    "compressing": ("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",),
}


@dataclass
class Side:
    proxy: GripProxy
    backend: RawBackend

    async def asked(self, message: bytes) -> Asked:
        before = len(self.backend.asked)
        await see_response(self.proxy.port, message)
        return await self.backend.request(before)

    async def asked_by_socket(self, path: str, headers: Sequence[str]) -> list[Asked]:
        """OPEN and a message. What comes after the backend's CLOSE is left out."""
        await see_socket(self.proxy.port, path, (client_frame(1, b"hi"),), headers=headers)
        return [asked for asked in self.backend.asked if asked.target == path][:2]


async def _respond(asked: Asked) -> Answer:
    if asked.header("content-type") != "application/websocket-events":
        return Answer(headers=[("Content-Type", "text/plain")], body=b"x")
    headers = [("Content-Type", "application/websocket-events")]
    if asked.body == b"OPEN\r\n":
        return Answer(headers=[*headers, ("Set-Meta-User", "anna"), ("Set-Meta-A", "kept")], body=asked.body)
    return Answer(headers=headers, body=b"CLOSE\r\n")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sides(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Side, Side]]:
    folder = tmp_path_factory.mktemp("sides")
    async with (
        raw_backend(_respond) as theirs,
        raw_backend(_respond) as ours,
        PROXIES["pushpin"](folder, GripRoute([theirs.url])) as pushpin,
        PROXIES["holdfast"](folder, GripRoute([ours.url])) as holdfast,
    ):
        yield Side(pushpin, theirs), Side(holdfast, ours)


def _compared(asked: Asked) -> list[tuple[str, str]]:
    headers = [(name.lower(), value) for name, value in asked.headers]
    return sorted(
        (name, value)
        for name, value in headers
        if name not in NOT_COMPARED and not name.startswith("x-forwarded-") and (name, value) != ("accept", "*/*")
    )


@pytest.mark.parametrize("name", REQUESTS)
async def test_requests(sides: tuple[Side, Side], name: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        theirs, ours = await asyncio.gather(*(side.asked(REQUESTS[name]) for side in sides))
    assert (ours.method, ours.target, ours.body) == (theirs.method, theirs.target, theirs.body)
    assert _compared(ours) == _compared(theirs)
    assert "grip-sig" in ours.names()
    assert ours.header("grip-sig") != "forged"
    assert ours.header("grip-feature") != "x"


@pytest.mark.parametrize("name", SOCKETS)
async def test_websockets(sides: tuple[Side, Side], name: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        theirs, ours = await asyncio.gather(*(side.asked_by_socket(f"/{name}?x=1", SOCKETS[name]) for side in sides))
    assert [asked.body for asked in ours] == [b"OPEN\r\n", b"TEXT 2\r\nhi\r\n"]
    for our, their in zip(ours, theirs, strict=True):
        assert (our.method, our.target, our.body) == (their.method, their.target, their.body)
        assert _compared(our) == _compared(their)
    assert ours[1].header("meta-a") == theirs[1].header("meta-a") == "kept"
    identities = {asked.header("connection-id") for asked in ours}
    assert len(identities) == 1
    assert identities != {"forged"}
    assert len({asked.header("grip-sig") for asked in ours} - {"forged"}) >= 1
