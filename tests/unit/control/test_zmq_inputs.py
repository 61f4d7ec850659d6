"""ZeroMQ inputs with real sockets and a real Redis: what Pushpin's publishers send arrives, nonsense ends nothing."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import zmq
import zmq.asyncio

from edge.clock import SystemClock
from edge.config import GripSettings
from edge.control.zmq_inputs import ZmqInputs
from edge.errors import StartError
from tests.support.ports import LOOPBACK, free_port
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until
from tests.unit.sessions.grip.conftest import (
    GripEdge,
    Guest,
    OpenGripEdge,
    open_grip_edge,
    prefix,
    redis_server,
    redis_url,
)

__all__ = ["open_grip_edge", "prefix", "redis_server", "redis_url"]


@pytest.fixture
async def edge(open_grip_edge: OpenGripEdge, redis_url: str, prefix: str) -> GripEdge:
    return await open_grip_edge(redis_url, prefix)


@pytest.fixture
def settings() -> GripSettings:
    return GripSettings(
        zmq_pull=f"tcp://{LOOPBACK}:{free_port()}", zmq_sub=f"tcp://{LOOPBACK}:{free_port()}", publish_bytes=10_000
    )


@pytest.fixture
async def inputs(edge: GripEdge, settings: GripSettings) -> AsyncIterator[ZmqInputs]:
    made = ZmqInputs(settings, edge.publisher, edge.metrics, SystemClock())
    made.start()
    yield made
    await made.stop()


Connect = Callable[[int, str], zmq.asyncio.Socket]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """A publisher's socket: ``connect(zmq.PUSH, address)``; closed after the test."""
    sockets: list[zmq.asyncio.Socket] = []
    context = zmq.asyncio.Context()

    def connected(kind: int, address: str) -> zmq.asyncio.Socket:
        sockets.append(socket := context.socket(kind))
        socket.connect(address)
        return socket

    yield connected
    for socket in sockets:
        socket.close(linger=0)
    context.term()


def fields(content: str, channel: str | None = "room") -> dict[str, Any]:
    formats = {"formats": {"ws-message": {"content": content}}}
    return formats if channel is None else {"channel": channel, **formats}


def in_json(content: str, channel: str | None = "room") -> bytes:
    return b"J" + json.dumps(fields(content, channel)).encode()


def tnetstring(value: Any) -> bytes:
    """What Pushpin's own publishers send."""
    if isinstance(value, dict):
        body = b"".join(tnetstring(key) + tnetstring(each) for key, each in value.items())
        return b"%d:%s}" % (len(body), body)
    data = value.encode() if isinstance(value, str) else value
    return b"%d:%s," % (len(data), data)


async def test_items_that_are_pushed_arrive_in_order_in_every_encoding(
    edge: GripEdge, inputs: ZmqInputs, settings: GripSettings, connect: Connect
) -> None:
    guest = Guest()
    await edge.join(guest, "room")
    push = connect(zmq.PUSH, settings.zmq_pull)
    for payload in (in_json("json"), b"T" + tnetstring(fields("tnetstring")), tnetstring(fields("bare"))):
        await push.send(payload)
    for number in range(1_200):
        await push.send(in_json(str(number)))
    expected = ["json", "tnetstring", "bare", *(str(number) for number in range(1_200))]
    await wait_until(lambda: len(guest.read) == len(expected), "all arrive")
    assert guest.read == expected
    accepted = edge.metrics.process.items_published["accepted"]
    await wait_until(lambda: accepted.value == len(expected), "all are counted")


async def test_items_of_a_pub_socket_arrive_on_the_channel_it_names(
    edge: GripEdge, inputs: ZmqInputs, settings: GripSettings, connect: Connect
) -> None:
    guest = Guest()
    await edge.join(guest, "room ○")
    pub = connect(zmq.XPUB, settings.zmq_sub)
    # The subscription to everything: from then on nothing is lost.
    assert await asyncio.wait_for(pub.recv(), 30) == b"\x01"
    await pub.send_multipart(["room ○".encode(), in_json("one", channel=None)])
    await pub.send_multipart(["room ○".encode(), tnetstring(fields("two", channel="ignored"))])
    await wait_until(lambda: guest.read == ["one", "two"], "both arrive")


async def test_messages_that_are_no_items_are_counted_and_told_and_the_others_arrive(
    edge: GripEdge,
    inputs: ZmqInputs,
    settings: GripSettings,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
) -> None:
    guest = Guest()
    await edge.join(guest, "room")
    push = connect(zmq.PUSH, settings.zmq_pull)
    pub = connect(zmq.XPUB, settings.zmq_sub)
    await asyncio.wait_for(pub.recv(), 30)
    nonsense = [b"", b"J", b"J[]", b"T5:abc", b"\xff\xfe", b"J{}", in_json("no channel", channel=None)]
    for payload in nonsense:
        await push.send(payload)
    await push.send_multipart([b"room", in_json("two parts")])
    await push.send(in_json("a"))
    await wait_until(lambda: guest.read == ["a"], "the good one arrives")
    for parts in ([b"room"], [b"", in_json("x")], [b"\xff", in_json("x")], [b"room", b"J"], [b"a", b"b", b"c"]):
        await pub.send_multipart(parts)
    await pub.send_multipart([b"room", in_json("b")])
    await wait_until(lambda: guest.read == ["a", "b"], "the good one arrives")
    assert edge.metrics.process.items_dropped["malformed"].value == len(nonsense) + 1 + 5
    assert "a message on grip.zmq_pull is no item and was left out: " in caplog.text


async def test_a_message_that_is_too_large_costs_its_sender_the_connection_and_nobody_else(
    edge: GripEdge, inputs: ZmqInputs, settings: GripSettings, connect: Connect
) -> None:
    guest = Guest()
    await edge.join(guest, "room")
    large, other = (connect(zmq.PUSH, settings.zmq_pull) for _ in range(2))
    await large.send(in_json("x" * 20_000))
    await other.send(in_json("small"))
    await wait_until(lambda: guest.read == ["small"], "the small one arrives")


async def test_while_redis_is_away_items_are_lost_with_a_word_and_come_again_after(
    open_grip_edge: OpenGripEdge,
    redis_server: RedisServer,
    prefix: str,
    settings: GripSettings,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
) -> None:
    edge = await open_grip_edge(redis_server.url, prefix, store_wait_s=0.2)
    inputs = ZmqInputs(settings, edge.publisher, edge.metrics, SystemClock())
    inputs.start()
    guest = Guest()
    await edge.join(guest, "room")
    push = connect(zmq.PUSH, settings.zmq_pull)
    redis_server.kill()
    await push.send(in_json("lost"))
    await wait_until(lambda: "items from ZeroMQ are lost: 1 of 1 items" in caplog.text, "the log says so")
    redis_server.restart(keep_data=True)
    await wait_until(lambda: edge.store.health().up, "Redis is back")
    await edge.join(other := Guest(), "another")

    async def arrives() -> bool:
        await push.send(in_json("x"))
        return guest.read[-1:] == ["x"]

    await wait_until(arrives, "items arrive again")
    assert other.read == []
    await inputs.stop()


async def test_an_address_that_is_taken_is_a_start_error(
    edge: GripEdge, inputs: ZmqInputs, settings: GripSettings
) -> None:
    second = ZmqInputs(settings, edge.publisher, edge.metrics, SystemClock())
    with pytest.raises(StartError, match=r"grip\.zmq_pull = 'tcp://.* cannot be listened on: Address already in use"):
        second.start()
    await second.stop()


async def test_without_pyzmq_inputs_are_a_start_error_that_says_what_to_install(
    edge: GripEdge, settings: GripSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zmq.asyncio", None)
    with pytest.raises(StartError, match=r"pip install 'holdfast\[zmq\]'"):
        ZmqInputs(settings, edge.publisher, edge.metrics, SystemClock())
    none = ZmqInputs(GripSettings(), edge.publisher, edge.metrics, SystemClock())
    none.start()
    await none.stop()
