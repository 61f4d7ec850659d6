"""A door for HTTP requests that keeps what it is told, and answers as a test wants; and a client that reads answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import h11

from edge.protocol.callbacks.events import ClientRequest, Headers
from edge.sessions.connection import ClientExchange
from edge.sessions.routes import RouteHandle
from edge.transports.http import ClientHttp
from tests.support.listener import Listener
from tests.support.raw_websocket import DEADLINE_S, RawClient, dial


@dataclass
class Visit:
    """One request, from the sessions' side."""

    client: ClientExchange
    route: RouteHandle
    request: ClientRequest
    length: int | None
    when_whole: Callable[[Visit], None]
    body_: bytearray = field(default_factory=bytearray)
    trailers: list[Headers] = field(default_factory=list)
    """One entry: the request was complete."""
    congestions: list[bool] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    def body(self, data: bytes) -> None:
        assert data
        assert not self.trailers
        self.body_ += data

    def body_ended(self, trailers: Headers) -> None:
        self.trailers.append(trailers)
        self.when_whole(self)

    def congested(self, yes: bool) -> None:
        self.congestions.append(yes)

    def gone(self, cause: str) -> None:
        self.ends.append(cause)

    @property
    def facts(self) -> tuple[str, str, str, bytes, list[tuple[str, str]]]:
        """What must not depend on how the bytes came."""
        request = self.request
        trailers = [item for fields in self.trailers for item in fields]
        return request.method, request.path, request.query, bytes(self.body_), trailers


def echo(visit: Visit) -> None:
    """Answer with the request's body."""
    visit.client.answer(200, "", [("Content-Type", "text/plain")], bytes(visit.body_))


def hold(visit: Visit) -> None:
    """Leave the request without an answer."""


@dataclass
class HttpHall:
    """`welcome` is called for each request as it comes, `when_whole` when it is complete (default: echo)."""

    when_whole: Callable[[Visit], None] = echo
    welcome: Callable[[Visit], None] = hold
    visits: list[Visit] = field(default_factory=list)

    def exchange(self, client: ClientExchange, route: RouteHandle, request: ClientRequest, length: int | None) -> Visit:
        visit = Visit(client, route, request, length, self.when_whole)
        self.visits.append(visit)
        self.welcome(visit)
        return visit


@dataclass
class Answer:
    status: int
    reason: str
    headers: list[tuple[str, str]]
    """Names in lower case."""
    body: bytes
    version: str
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def __getitem__(self, name: str) -> str:
        """A field's value; a KeyError if it is not there exactly once."""
        values = [value for key, value in self.headers if key == name]
        if len(values) != 1:
            raise KeyError(name)
        return values[0]

    def __contains__(self, name: str) -> bool:
        return any(key == name for key, _ in self.headers)


class HttpClient:
    """Writes any bytes, and reads answers with h11, which is strict."""

    def __init__(self, raw: RawClient) -> None:
        self.raw = raw
        self._over = False
        self._unread = b""

    def write(self, data: bytes) -> None:
        self.raw.write(data)

    async def head(self) -> bytes:
        """Everything up to the next empty line."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.raw.reader.readuntil(b"\r\n\r\n")

    async def answer(self, method: str = "GET") -> Answer:
        """The next whole answer to a request with `method`."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        parser.send(h11.EndOfMessage())
        if self._unread:
            parser.receive_data(self._unread)
        answer = Answer(0, "", [], b"", "")
        async with asyncio.timeout(DEADLINE_S):
            while True:
                event = parser.next_event()
                if event is h11.NEED_DATA:
                    parser.receive_data(await self.raw.reader.read(65_536))
                elif isinstance(event, h11.InformationalResponse):
                    continue
                elif isinstance(event, h11.Response):
                    fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
                    version = event.http_version.decode()
                    answer = Answer(event.status_code, event.reason.decode("latin-1"), fields, b"", version)
                elif isinstance(event, h11.Data):
                    answer.body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    answer.trailers = [(name.decode(), value.decode()) for name, value in event.headers]
                    self._unread = parser.trailing_data[0]
                    return answer
                else:
                    raise AssertionError(f"no answer: {event}")

    async def ask(self, request: bytes, method: str = "GET") -> Answer:
        self.write(request)
        return await self.answer(method)

    async def eof(self) -> bytes:
        """Everything up to the end of the server's half."""
        return self._unread + await self.raw.eof()


@contextlib.asynccontextmanager
async def http_client(port: int, receive_bytes: int = 0) -> AsyncIterator[HttpClient]:
    async with dial(port, receive_bytes) as raw:
        yield HttpClient(raw)


@contextlib.asynccontextmanager
async def talking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[HttpClient]:
    """The same over any connection."""
    try:
        yield HttpClient(RawClient(reader, writer))
    finally:
        writer.transport.abort()


def http_connections(listener: Listener) -> list[ClientHttp]:
    """The connections that are no WebSockets (yet)."""
    connections: set[Any] = set(listener.server.server_state.connections)
    return [each for each in connections if isinstance(each, ClientHttp)]


def get(path: str = "/", *extra: str, method: str = "GET", version: str = "1.1") -> bytes:
    """A request without a body; `extra` are more header lines."""
    return ("\r\n".join([f"{method} {path} HTTP/{version}", "Host: localhost", *extra]) + "\r\n\r\n").encode("latin-1")


def post(path: str, body: bytes, *extra: str) -> bytes:
    return get(path, f"Content-Length: {len(body)}", *extra, method="POST") + body


def post_chunked(path: str, *chunks: bytes, extra: tuple[str, ...] = (), end: bytes = b"0\r\n\r\n") -> bytes:
    head = get(path, "Transfer-Encoding: chunked", *extra, method="POST")
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end
