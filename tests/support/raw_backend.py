"""An HTTP/1.1 backend in the test's own loop that answers with exactly the bytes a test says, and keeps what it was
asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from tests.support.ports import LOOPBACK
from tests.support.waiting import DEADLINE_S, wait_until


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came in."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """All values of the header, joined by commas; None when there is none."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(values) if values else None

    def names(self) -> set[str]:
        """Names of all headers, in lower case."""
        return {name.lower() for name, _ in self.headers}


@dataclass(frozen=True, slots=True)
class Answer:
    """A response with a Content-Length, and nothing in it that is not said here."""

    status: str = "200 OK"
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    def encode(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status}", *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join([*lines, f"Content-Length: {len(self.body)}", "", ""]).encode("latin-1") + self.body


Respond = Callable[[Asked], Awaitable["Answer | bytes"]]


@dataclass
class RawBackend:
    """What a test holds of a running backend. `respond` may be changed while it runs; bytes are sent as they are and
    the connection closed after them."""

    respond: Respond
    port: int = 0
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    async def request(self, number: int) -> Asked:
        """The request that came as this number, from 0; waits for it."""
        await wait_until(lambda: len(self.asked) > number, f"request {number} has come to the backend")
        return self.asked[number]


@contextlib.asynccontextmanager
async def raw_backend(respond: Respond, port: int = 0) -> AsyncIterator[RawBackend]:
    """Serve on `port` (0: the system's choice) until the block ends; connections still open then are cut."""
    backend = RawBackend(respond)
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_serve(backend, reader, writer))
        serving.add(task)
        # Ends of connections are what these backends are for; what goes wrong in `respond` shows in asyncio's log.
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            await task
        serving.discard(task)
        writer.transport.abort() if task.cancelled() else writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, port)
    backend.port = server.sockets[0].getsockname()[1]
    try:
        yield backend
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await server.wait_closed()
        await wait_until(lambda: not serving, "the backend's connections have ended")


async def _serve(backend: RawBackend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        asked = await _read(reader)
        backend.asked.append(asked)
        answer = await backend.respond(asked)
        if isinstance(answer, bytes):
            writer.write(answer)
            await writer.drain()
            return
        writer.write(answer.encode())
        await writer.drain()


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    fields = {name.lower(): value for name, value in headers}
    async with asyncio.timeout(DEADLINE_S):
        if fields.get("transfer-encoding", "").lower() == "chunked":
            body = await _chunks(reader)
        else:
            body = await reader.readexactly(int(fields.get("content-length", "0")))
    return Asked(method, target, headers, body)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).partition(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    while (await reader.readline()).strip():
        pass
    return body
