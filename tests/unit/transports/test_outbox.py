"""What leaves: one write a tick, encoded once, bounded; and reading that can be paused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge.config import LimitSettings, RouteSettings
from edge.sessions.connection import Frame
from edge.transports.outbox import Flusher, Outbox
from tests.support.listener import Hall, listening, until
from tests.support.raw_websocket import client_frame, raw_websocket


class Wire(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.writes))


async def settled(size: Callable[[], int]) -> int:
    """A number once it no longer changes."""
    last, same = size(), 0
    while same < 20:
        await asyncio.sleep(0.002)
        last, same = (last, same + 1) if size() == last else (size(), 0)
    return last


async def test_all_of_one_tick_leaves_in_one_write() -> None:
    flusher = Flusher(asyncio.get_running_loop())
    wires = [Wire(), Wire()]
    boxes = [Outbox(wire, flusher) for wire in wires]
    for number in range(3):
        boxes[0].put(b"%d" % number)
    boxes[1].put(b"x")
    assert boxes[1].size() == 1
    assert wires[0].writes == []
    await asyncio.sleep(0)
    assert [wire.writes for wire in wires] == [[b"012"], [b"x"]]
    boxes[0].put(b"3")
    boxes[0].flush()
    boxes[0].put(b"4")
    await asyncio.sleep(0)
    assert wires[0].writes == [b"012", b"3", b"4"]


async def test_an_outbox_counts_what_it_and_the_loop_hold() -> None:
    wire = Wire()
    box = Outbox(wire, Flusher(asyncio.get_running_loop()))
    box.put(b"abc")
    box.flush()
    assert box.size() == 3
    box.put(b"de")
    box.put(b"f")
    assert box.size() == 6


async def test_one_frame_for_many_is_encoded_and_compressed_once() -> None:
    plain, packed = RouteSettings(path="/plain"), RouteSettings(path="/packed", compression=True)
    offer = "Sec-WebSocket-Extensions: permessage-deflate"
    async with (
        listening(plain, packed) as listener,
        raw_websocket(listener.port, "/plain") as one,
        raw_websocket(listener.port, "/plain") as two,
        raw_websocket(listener.port, "/packed", offer) as three,
        raw_websocket(listener.port, "/packed", offer) as four,
        raw_websocket(listener.port, "/packed", offer + "; server_max_window_bits=10") as five,
    ):
        frame = Frame("x" * 1_000)
        listener.hall.guests[0].connection.send(frame)
        wire = frame.wire
        listener.hall.guests[2].connection.send(frame)
        deflated = frame.deflated
        for number in (1, 3, 4):
            listener.hall.guests[number].connection.send(frame)
        assert frame.wire is wire
        assert frame.deflated is deflated
        for client in (one, two):
            assert await client.frame() == (0x81, b"x" * 1_000)
        for client in (three, four, five):
            head, payload = await client.frame()
            assert head == 0xC1
            assert len(payload) < 50


async def test_a_slow_reader_is_closed_with_1008() -> None:
    route = RouteSettings(limits=LimitSettings(outbox_bytes=200_000))
    async with (
        listening(route, send_buffer=8_192) as listener,
        raw_websocket(listener.port, receive_bytes=8_192) as client,
    ):
        guest = await listener.guest()
        sent = 0
        while sent < 10_000 and not listener.limits_hit():
            for _ in range(10):
                guest.connection.send(Frame(b"x" * 1_000))
                sent += 1
            await asyncio.sleep(0)
        assert listener.limits_hit() == {"outbox_bytes": 1}
        assert 200 < sent < 1_000
        assert await client.closing() == (1008, "slow consumer")
        client.write(client_frame(8, b"\x03\xf0"))
        await until(lambda: guest.ends)
        assert guest.ends == [(1008, "slow consumer", True, "slow")]


async def test_what_a_slow_reader_has_asked_for_before_does_not_close_it_and_what_others_send_does() -> None:
    route = RouteSettings(limits=LimitSettings(outbox_bytes=200_000))
    async with (
        listening(route, send_buffer=8_192) as listener,
        raw_websocket(listener.port, receive_bytes=8_192) as client,
    ):
        guest = await listener.guest()
        guest.connection.send(Frame(b"x" * 300_000), owed=True)
        guest.connection.flush()
        assert guest.congestions == [True]
        guest.connection.send(Frame(b"y" * 300_000), owed=True)
        assert listener.limits_hit() == {}
        guest.connection.send(Frame(b"z"))
        assert listener.limits_hit() == {"outbox_bytes": 1}
        assert await client.closing() == (1008, "slow consumer")


async def test_one_large_message_to_a_client_that_has_taken_everything_is_no_slowness() -> None:
    route = RouteSettings(limits=LimitSettings(outbox_bytes=10_000))
    async with listening(route) as listener, raw_websocket(listener.port) as client:
        guest = await listener.guest()
        guest.connection.send(Frame(b"x" * 5_000_000))
        _, payload = await client.frame()
        assert len(payload) == 5_000_000
        assert guest.ends == []


async def test_a_burst_within_one_tick_gets_a_chance_to_leave() -> None:
    route = RouteSettings(limits=LimitSettings(outbox_bytes=10_000))
    async with listening(route) as listener, raw_websocket(listener.port) as client:
        guest = await listener.guest()
        for _ in range(50):
            guest.connection.send(Frame(b"x" * 1_000))
        for _ in range(50):
            await client.frame()
        assert guest.ends == []


async def test_a_flood_of_pings_cannot_make_us_hoard_pongs() -> None:
    route = RouteSettings(limits=LimitSettings(outbox_bytes=50_000))
    async with listening(route, send_buffer=8_192) as listener:
        async with raw_websocket(listener.port, receive_bytes=4_096) as client:
            guest = await listener.guest()
            flood = client_frame(9, b"p" * 125) * 500
            while not listener.limits_hit() and not client.writer.is_closing():
                client.write(flood)
                await asyncio.sleep(0)
            assert listener.limits_hit() == {"outbox_bytes": 1}
        await until(lambda: guest.ends)
        assert guest.ends[0][3] == "slow"


async def test_paused_reading_reaches_the_client_as_backpressure() -> None:
    async with listening() as listener, raw_websocket(listener.port) as client:
        guest = await listener.guest()
        client.write(client_frame(1, b"a") + client_frame(1, b"b"))
        await until(lambda: guest.heard)
        guest.connection.pause_reading()
        guest.connection.pause_reading()
        # `a` and `b` came in one read: what was read is still delivered.
        assert guest.heard == ["a", "b"]
        message = client_frame(2, b"x" * 100_000)
        for _ in range(300):
            client.write(message)
        await asyncio.sleep(0.05)
        assert client.writer.transport.get_write_buffer_size() > 1_000_000
        assert guest.heard == ["a", "b"]
        guest.connection.resume_reading()
        await until(lambda: len(guest.heard) == 302)


async def test_pausing_within_a_message_still_delivers_what_was_read() -> None:
    hall = Hall(on_first=lambda guest: guest.connection.pause_reading())
    async with listening(hall=hall) as listener, raw_websocket(listener.port) as client:
        guest = await listener.guest()
        client.write(client_frame(1, b"m") * 10)
        await until(lambda: guest.heard)
        assert guest.heard == ["m"] * 10
        client.write(client_frame(1, b"n"))
        guest.connection.resume_reading()
        await until(lambda: len(guest.heard) == 11)
