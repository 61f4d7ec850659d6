"""The test backend: what it answers, and that it is reached as any backend is."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
import uvloop

from edge.backend.built_in import BODY_MOST, BuiltInDialer, Reply, reply_to
from edge.protocol.grip.instruct import parse_instruct
from edge.protocol.grip.socket_events import EVENTS_TYPE, SocketEvent, decode_events, encode_events
from tests.support.waiting import wait_until

EVENTS = [("content-type", EVENTS_TYPE), ("sec-websocket-extensions", "grip")]


def told(reply: Reply) -> list[SocketEvent]:
    assert reply.status == 200
    assert ("Content-Type", EVENTS_TYPE) in reply.headers
    return decode_events(reply.body)


@pytest.mark.parametrize(
    ("target", "status", "text"),
    [
        ("/", 200, "Hello from the Holdfast test handler!\n"),
        ("/response", 200, "nothing for now\n"),
        ("/stream/?channel=a", 200, "[stream opened]\n"),
        ("/ws", 404, "no such test resource\n"),
        ("/nowhere", 404, "no such test resource\n"),
    ],
)
def test_resources(target: str, status: int, text: str) -> None:
    reply = reply_to(target, [], b"")
    assert (reply.status, reply.body.decode()) == (status, text)


@pytest.mark.parametrize("mode", ["response", "stream"])
def test_holds_name_the_channels_of_the_query(mode: str) -> None:
    def channels(query: str) -> list[str]:
        reply = reply_to(f"/{mode}{query}", [], b"")
        raw = [(name.encode(), value.encode()) for name, value in reply.headers]
        instruct = parse_instruct(reply.status, raw, reply.body)
        assert instruct is not None
        assert instruct.hold == mode
        return [channel.name for channel in instruct.channels]

    assert channels("") == ["test"]
    assert channels("?channel=a&x=y&channel=b%20%0D%0Ac&channel=a") == ["a", "b c"]


def test_a_request_that_is_too_large() -> None:
    assert reply_to("/", [], b"x" * (BODY_MOST + 1)).status == 400


def test_a_websocket_echoes_and_subscribes() -> None:
    opened = told(reply_to("/ws?channel=a", EVENTS, encode_events([SocketEvent("OPEN")])))
    assert opened == [SocketEvent("OPEN"), SocketEvent("TEXT", b'c:{"type": "subscribe", "channel": "a"}')]
    said = [
        SocketEvent("TEXT", b"hi"),
        SocketEvent("BINARY", b"\0"),
        SocketEvent("PING", b"p"),
        SocketEvent("PONG"),
        SocketEvent("CLOSE", b"\x03\xe8bye"),
    ]
    assert told(reply_to("/ws", EVENTS, encode_events(said))) == [
        SocketEvent("TEXT", b"m:hi"),
        SocketEvent("BINARY", b"m:\0"),
        SocketEvent("PONG", b"p"),
        SocketEvent("CLOSE", b"\x03\xe8bye"),
    ]
    assert told(reply_to("/ws", EVENTS, encode_events([SocketEvent("DISCONNECT")]))) == []


def test_a_websocket_without_grip_only_echoes() -> None:
    plain = EVENTS[:1]
    assert told(reply_to("/ws", plain, encode_events([SocketEvent("OPEN")]))) == [SocketEvent("OPEN")]
    assert told(reply_to("/ws", plain, encode_events([SocketEvent("TEXT", b"hi")]))) == [SocketEvent("TEXT", b"hi")]
    assert reply_to("/elsewhere", plain, encode_events([SocketEvent("OPEN")])).status == 404
    assert reply_to("/ws", plain, b"OPEN").status == 400


class Collector(asyncio.Protocol):
    """The edge's end of a connection."""

    def __init__(self) -> None:
        self.received = b""
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_it_is_reached_over_a_connection_of_its_own(factory: type) -> None:
    async def ask() -> None:
        connection = await BuiltInDialer().dial(Collector, 1)
        for part in (
            b"GET / HT",
            b"TP/1.1\r\nHost: x\r\n\r\nPOST /ws HTTP/1.1\r\nContent-Length: 6\r\n",
            b"\r\nhello\n",
        ):
            connection.transport.write(part)
        await wait_until(lambda: connection.received.count(b"HTTP/1.1 ") == 2, "both are answered")
        assert connection.received.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 38\r\n")
        connection.transport.write(b"no HTTP\r\n\r\n")
        await wait_until(lambda: connection.lost, "who does not speak HTTP is cut off")

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(ask())
