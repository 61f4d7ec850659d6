"""Who cannot keep up is told so and costs nobody anything: neither memory nor the others' messages."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import RecordingClient, connect
from tests.support.journal import Journal
from tests.support.processes import Backend, Edge
from tests.support.proctree import resident_bytes
from tests.support.raw_websocket import RawClient, client_frame, close_frame, raw_websocket
from tests.support.scrape import counted, until_counted
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario

OUTBOX_BYTES = 262_144
MESSAGE_BYTES = 20_000
MOST_GROWTH = 32 * 1024 * 1024
"""Of the edge's memory, while several times as much is sent to those who do not read."""


def numbered(number: int) -> str:
    return f"{number} ".ljust(MESSAGE_BYTES, "x")


def room_route(backend: Backend, **timeouts: float) -> dict[str, Any]:
    return {"backend": backend.url, "limits": {"outbox_bytes": OUTBOX_BYTES}, "timeouts": timeouts}


async def flood(speaker: RecordingClient, enough: Callable[[], bool]) -> int:
    """Publish numbered messages, a few at a time, until it is `enough`; how many."""
    number = 0
    while not enough():
        await speaker.expect(1 + number - 8)  # 1: the welcome
        await speaker.send(numbered(number))
        number += 1
        assert number < 20_000, "hundreds of megabytes went to somebody who does not read"
    return number


async def flood_until_closed(edge: Edge, speaker: RecordingClient, slow: int) -> int:
    """Publish until `slow` clients were found too slow; how many messages that took."""
    watching = asyncio.create_task(until_counted(edge, slow, "limits_hit_total", limit="outbox_bytes"))
    number = await flood(speaker, watching.done)
    await watching
    return number


async def frames_until_close(client: RawClient) -> tuple[list[bytes], int, str]:
    """Everything up to the close frame: the messages, then its code and reason."""
    messages: list[bytes] = []
    while True:
        head, payload = await client.frame()
        if head == 0x88:
            return messages, struct.unpack("!H", payload[:2])[0], payload[2:].decode()
        if head == 0x81:
            messages.append(payload)


async def test_a_client_that_stops_reading_is_closed_and_its_room_goes_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    async with contextlib.AsyncExitStack() as stack:
        backend = await stack.enter_async_context(Backend(tmp_path, "tests.scenarios.backends:rooms", journal=journal))
        route = room_route(backend, close_s=120.0, ping_s=0.0)  # time enough to read what was left for it
        edge = await stack.enter_async_context(Edge(tmp_path, routes=[route]))
        slow = await stack.enter_async_context(raw_websocket(edge.port, "/lobby", receive_bytes=4096))
        welcome = (await slow.frame())[1].decode()
        speaker, listener = [await stack.enter_async_context(connect(edge.url("/lobby"))) for _ in range(2)]
        await listener.expect(1)
        number = await flood_until_closed(edge, speaker, 1)
        expected = [numbered(n) for n in range(number)]
        for client in (speaker, listener):
            assert (await client.expect(number + 1))[1:] == expected
        messages, code, reason = await frames_until_close(slow)
        assert (code, reason) == (1008, "slow consumer")
        assert [message.decode() for message in messages] == expected[: len(messages)]
        assert len(messages) < number
        slow.write(close_frame(1008))
        await wait_until(lambda: any(entry["type"] == "close" for entry in journal.entries()), "the backend knows")
        (told,) = [entry for entry in journal.entries() if entry["type"] == "close"]
        assert (told["session"], told["cause"], told["code"]) == (welcome.removeprefix("welcome "), "slow", 1008)
        assert await counted(edge, "connections_closed_total", cause="slow") == 1
        # The room hears that it left, and goes on.
        await listener.expect_that(lambda messages: any("left" in str(each) for each in messages), "it has left")
        await speaker.send("still here")
        await listener.expect_that(lambda messages: "still here" in messages, "the room goes on")
    journal.close()


async def test_clients_that_never_read_again_are_let_go_and_cost_bounded_memory(tmp_path: Path) -> None:
    slow, journal = 10, Journal(tmp_path / "journal")
    async with contextlib.AsyncExitStack() as stack:
        backend = await stack.enter_async_context(Backend(tmp_path, "tests.scenarios.backends:rooms", journal=journal))
        edge = await stack.enter_async_context(Edge(tmp_path, routes=[room_route(backend, close_s=1.0)]))
        speaker = await stack.enter_async_context(connect(edge.url("/lobby")))
        (worker,) = edge.worker_pids()
        before = resident_bytes(worker)
        for _ in range(slow):
            await stack.enter_async_context(raw_websocket(edge.port, "/lobby", receive_bytes=4096))
        await flood_until_closed(edge, speaker, slow)
        assert resident_bytes(worker) - before < MOST_GROWTH

        def told() -> list[str]:
            return [entry["cause"] for entry in journal.entries() if entry["type"] == "close"]

        await wait_until(lambda: len(told()) >= slow, "the backend is told of all of them")
        assert told() == ["slow"] * slow

        async def gone() -> bool:
            return await counted(edge, "connections") == 1

        await wait_until(gone, "their connections are gone")
    journal.close()


async def standstill(value: Callable[[], int]) -> int:
    """Wait until `value` has not changed for two seconds."""
    last, since = value(), time.monotonic()

    def still() -> bool:
        nonlocal last, since
        if value() != last:
            last, since = value(), time.monotonic()
        return time.monotonic() - since > 2

    await wait_until(still, "nothing moves any more", 60)
    return last


async def test_a_client_that_sends_faster_than_its_backend_answers_is_slowed_down_and_loses_nothing(
    tmp_path: Path,
) -> None:
    total = 2_500
    async with contextlib.AsyncExitStack() as stack:
        backend = await stack.enter_async_context(Backend(tmp_path, "tests.scenarios.backends:plain"))
        patient = {"handshake_s": 200.0, "retry_window_s": 180.0, "request_s": 120.0}
        # Its answers come faster than it reads between its writes; that is not what is looked at here.
        route = {"backend": backend.url, "timeouts": patient, "limits": {"outbox_bytes": 2 * total * MESSAGE_BYTES}}
        edge = await stack.enter_async_context(Edge(tmp_path, routes=[route]))
        client = await stack.enter_async_context(raw_websocket(edge.port))
        (worker,) = edge.worker_pids()
        before = resident_bytes(worker)
        backend.freeze()
        sent = 0

        async def send_all() -> None:
            nonlocal sent
            for number in range(total):
                client.write(client_frame(1, numbered(number).encode(), mask=b"\0\0\0\0"))
                await client.writer.drain()
                sent += 1

        sending = asyncio.create_task(send_all())
        await until_counted(edge, 1, "reading_paused")
        stopped_at = await standstill(lambda: sent)
        assert stopped_at < total, "50 MB went into an edge whose backend answers nothing"
        assert resident_bytes(worker) - before < MOST_GROWTH
        backend.thaw()
        for number in range(total):
            head, payload = await client.frame()
            assert (head, payload.decode()) == (0x81, numbered(number))
        await sending
        assert await counted(edge, "reading_paused") == 0


async def test_a_client_that_asks_faster_than_it_takes_answers_is_slowed_down_and_not_closed(tmp_path: Path) -> None:
    """Its own answers never overrun its outbox: while it does not take them, the backend is asked for no more."""
    total, crowd = 2_500, 4
    async with contextlib.AsyncExitStack() as stack:
        backend = await stack.enter_async_context(Backend(tmp_path, "tests.scenarios.backends:plain"))
        edge = await stack.enter_async_context(Edge(tmp_path, routes=[room_route(backend)]))
        # Several, so that what is written to them is gathered for longer than a tick.
        opened = [raw_websocket(edge.port, receive_bytes=65_536) for _ in range(crowd)]
        clients = [await stack.enter_async_context(each) for each in opened]
        sent = [0] * crowd

        async def send_all(index: int) -> None:
            for number in range(total):
                clients[index].write(client_frame(1, numbered(number).encode(), mask=b"\0\0\0\0"))
                await clients[index].writer.drain()
                sent[index] += 1

        sending = [asyncio.create_task(send_all(index)) for index in range(crowd)]
        await until_counted(edge, crowd, "reading_paused")
        await standstill(lambda: sum(sent))
        assert max(sent) < total
        for client in clients:
            for number in range(total):
                head, payload = await client.frame()
                assert (head, payload.decode()) == (0x81, numbered(number))
        await asyncio.gather(*sending)
        assert await counted(edge, "limits_hit_total", limit="outbox_bytes") == 0
