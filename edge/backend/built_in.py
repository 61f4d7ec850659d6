"""The backend called ``test``: the edge answers for itself, so that clients, proxies and publishers can be tried out
before there is a backend. It says what Pushpin's does:

- ``/`` says hello, ``/response`` is a held response, ``/stream`` a held stream, ``/ws`` a WebSocket that echoes;
- the held ones are subscribed to the channels named in the query (``?channel=a&channel=b``), or else to ``test``.

It is spoken to in HTTP over a pair of sockets, as any backend is: there is no second way in the edge that only tests
go.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast
from urllib.parse import parse_qsl, urlsplit

import httptools

from edge.errors import WireError
from edge.protocol.grip.socket_events import EVENTS_TYPE, SocketEvent, decode_events, encode_events

BODY_MOST = 100_000
"""Bytes of a request's body; Pushpin's."""
EVENTS_MOST = 1_100_000
"""The same for WebSocket events: as many as the edge lets one request carry."""

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)
_Headers = Sequence[tuple[str, str]]
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found"}


@dataclass(frozen=True, slots=True)
class Reply:
    """What the test backend says."""

    status: int
    headers: _Headers
    body: bytes

    def encode(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {_REASONS[self.status]}", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


class BuiltInDialer:
    """Opens connections to the test backend; it has no address."""

    __slots__ = ()

    async def dial(self, make: Callable[[], ProtocolT], connect_s: float) -> ProtocolT:
        """A new connection, made by `make`, whose other end is a `BuiltInBackend`."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            await loop.connect_accepted_socket(BuiltInBackend, theirs)
            _, connection = await loop.create_unix_connection(make, sock=ours)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        return connection


class BuiltInBackend(asyncio.Protocol):
    """One connection of the test backend."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._transport.abort()
        except httptools.HttpParserError:
            self._transport.abort()

    # httptools calls these while it parses.

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = []
        self._body = bytearray()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        if len(self._body) <= EVENTS_MOST:
            self._body += body

    def on_message_complete(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(reply_to(self._target.decode("latin-1"), self._headers, bytes(self._body)).encode())


def reply_to(target: str, headers: _Headers, body: bytes) -> Reply:
    """What the test backend answers to a request; names of `headers` in lower case."""
    url = urlsplit(target)
    path = url.path.removesuffix("/") or "/"
    channels = list(dict.fromkeys(value for name, value in parse_qsl(url.query) if name == "channel")) or ["test"]
    fields = dict(headers)
    if fields.get("content-type") == EVENTS_TYPE:
        return _echo(path, "grip" in fields.get("sec-websocket-extensions", ""), channels, body)
    if len(body) > BODY_MOST:
        return _text(400, "request too large\n")
    names = ", ".join("".join(char for char in channel if char.isprintable()) for channel in channels)
    subscriptions = [("Grip-Channel", names)]
    match path:
        case "/":
            return _text(200, "Hello from the Holdfast test handler!\n")
        case "/response":
            return _text(200, "nothing for now\n", [("Grip-Hold", "response"), *subscriptions])
        case "/stream":
            return _text(200, "[stream opened]\n", [("Grip-Hold", "stream"), *subscriptions])
    return _text(404, "no such test resource\n")


def _echo(path: str, grip: bool, channels: Sequence[str], body: bytes) -> Reply:
    try:
        events = decode_events(body)
    except WireError as error:
        return _text(400, f"{error}\n")
    if path != "/ws":
        return _text(404, "no such test resource\n")
    answers = []
    for event in events:
        match event.kind:
            case "OPEN":
                answers.append(SocketEvent("OPEN"))
                if grip:
                    answers += [_subscribe(channel) for channel in channels]
            case "TEXT" | "BINARY":
                answers.append(SocketEvent(event.kind, (b"m:" if grip else b"") + (event.content or b"")))
            case "PING":
                answers.append(SocketEvent("PONG", event.content))
            case "CLOSE":
                answers.append(event)
    extensions = [("Sec-WebSocket-Extensions", "grip")] if grip else []
    return Reply(200, [("Content-Type", EVENTS_TYPE), *extensions], encode_events(answers))


def _subscribe(channel: str) -> SocketEvent:
    return SocketEvent("TEXT", b"c:" + json.dumps({"type": "subscribe", "channel": channel}).encode())


def _text(status: int, text: str, headers: _Headers = ()) -> Reply:
    return Reply(status, [("Content-Type", "text/plain"), *headers], text.encode())
