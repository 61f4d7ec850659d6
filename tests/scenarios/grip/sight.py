"""What a client sees of a proxy, in a form in which two proxies can be compared."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tests.support.raw_websocket import RawClient, dial, handshake
from tests.support.waiting import DEADLINE_S

NOT_COMPARED = frozenset({"date", "server"})


@dataclass(frozen=True, slots=True)
class Seen:
    """An HTTP response. Names of headers are in lower case; they are sorted, since their order says nothing."""

    status: int
    reason: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    whole: bool = True
    """It ended where its framing says, not where the connection broke."""


@dataclass(frozen=True, slots=True)
class SeenSocket:
    """A WebSocket from its 101 on."""

    headers: Sequence[tuple[str, str]]
    frames: Sequence[tuple[int, bytes]]
    """First byte and payload of each, the close frame included. Fragments of a message are joined."""
    cut: bool = False
    """The connection ended without a close frame."""


async def see_response(port: int, request: bytes, meanwhile: Callable[[], Awaitable[None]] | None = None) -> Seen:
    """Send a request and read its whole response; `meanwhile` runs when something of it has come."""
    async with asyncio.timeout(DEADLINE_S), dial(port) as client:
        client.write(request)
        return await read_response(client, head_only=request.startswith(b"HEAD "), meanwhile=meanwhile)


async def read_response(
    client: RawClient, *, head_only: bool = False, meanwhile: Callable[[], Awaitable[None]] | None = None
) -> Seen:
    status, reason, headers = await _head(client)
    while 100 <= status < 200:  # an interim response: the real one follows
        status, reason, headers = await _head(client)
    fields = dict(headers)
    if meanwhile is not None:
        await meanwhile()
    body, whole = b"", True
    if head_only or status in (0, 204, 304):
        pass
    elif fields.get("transfer-encoding") == "chunked":
        body, whole = await _chunks(client)
    elif "content-length" in fields:
        body = await client.reader.read(-1) if fields.get("connection") == "close" else b""
        if not body:
            with contextlib.suppress(asyncio.IncompleteReadError):
                body = await client.reader.readexactly(int(fields["content-length"]))
        whole = len(body) == int(fields["content-length"])
    else:
        body = await client.reader.read(-1)
    return Seen(status, reason, headers, body, whole)


async def see_socket(
    port: int,
    path: str,
    frames: Sequence[bytes] = (),
    meanwhile: Callable[[], Awaitable[None]] | None = None,
    headers: Sequence[str] = (),
    say: Callable[[str], Awaitable[None]] | None = None,
) -> Seen | SeenSocket:
    """Open a WebSocket, send frames, read to the end. A refused handshake is a `Seen`. `say` publishes a text to it:
    `meanwhile` begins when that is heard."""
    async with asyncio.timeout(DEADLINE_S), dial(port) as client:
        client.write(handshake(path, *headers))
        try:
            head = await client.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as incomplete:
            return Seen(0, "cut before an answer", (), incomplete.partial)
        if not head.startswith(b"HTTP/1.1 101"):
            client.reader = _unread(client.reader, head)
            return await read_response(client)
        for frame in frames:
            client.write(frame)
        if say is not None:
            await _heard(client, say)
        if meanwhile is not None:
            await meanwhile()
        return await _frames(client, _parse(head)[2])


async def _heard(client: RawClient, say: Callable[[str], Awaitable[None]]) -> None:
    """Pushpin answers a handshake before it has carried out the subscriptions that came with the answer."""
    first = asyncio.create_task(client.frame())
    while not first.done():
        await say("heard?")
        await asyncio.wait([first], timeout=0.1)
    frame = first.result()
    await say("heard.")
    while frame[1] != b"heard.":
        assert frame[1] == b"heard?", frame
        frame = await client.frame()


async def _frames(client: RawClient, headers: Sequence[tuple[str, str]]) -> SeenSocket:
    frames: list[tuple[int, bytes]] = []
    while True:
        try:
            frame = await client.frame()
        except (asyncio.IncompleteReadError, ConnectionError):
            return SeenSocket(headers, tuple(frames), cut=True)
        if frames and not frames[-1][0] & 0x80:  # a fragment is waiting for this one
            first, payload = frames.pop()
            frame = (first | frame[0] & 0x80, payload + frame[1])
        frames.append(frame)
        if frame[0] == 0x88:
            return SeenSocket(headers, tuple(frames))


def close_code(payload: bytes) -> int | None:
    return struct.unpack("!H", payload[:2])[0] if payload else None


def _unread(reader: asyncio.StreamReader, data: bytes) -> asyncio.StreamReader:
    """The same stream with `data` before what comes next."""
    reader._buffer[0:0] = data  # type: ignore[attr-defined]
    return reader


async def _head(client: RawClient) -> tuple[int, str, Sequence[tuple[str, str]]]:
    try:
        return _parse(await client.reader.readuntil(b"\r\n\r\n"))
    except asyncio.IncompleteReadError as incomplete:
        return 0, f"cut before an answer, after {incomplete.partial!r}", ()


def _parse(head: bytes) -> tuple[int, str, Sequence[tuple[str, str]]]:
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    _, status, *reason = first.split(" ", 2)
    headers = sorted((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
    return int(status), "".join(reason), tuple(header for header in headers if header[0] not in NOT_COMPARED)


async def _chunks(client: RawClient) -> tuple[bytes, bool]:
    body = b""
    try:
        while size := int((await client.reader.readuntil(b"\r\n")), 16):
            body += await client.reader.readexactly(size)
            await client.reader.readexactly(2)
        await client.reader.readuntil(b"\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return body, False
    return body, True
