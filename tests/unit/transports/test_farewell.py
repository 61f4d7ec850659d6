"""Every way a connection ends: who says what, in which order, and what the session is told."""

from __future__ import annotations

import pytest

from edge.clock import ManualClock
from edge.config import LimitSettings, RouteSettings
from edge.sessions.connection import Frame
from tests.support.listener import Hall, listening, until
from tests.support.raw_websocket import client_frame, close_frame, raw_websocket


async def test_answers_owed_leave_before_the_echo_of_a_goodbye() -> None:
    async with listening(hall=Hall(finish=False)) as listener, raw_websocket(listener.port) as client:
        client.write(client_frame(1, b"question") + close_frame(3001, "bye") + client_frame(1, b"after the end"))
        guest = await listener.guest()
        await until(lambda: guest.goodbyes)
        assert guest.heard == ["question"]
        assert guest.goodbyes == [(3001, "bye")]
        assert guest.ends == []
        guest.connection.send(Frame("answer"))
        guest.connection.finish()
        guest.connection.send(Frame("too late"))
        assert await client.frame() == (0x81, b"answer")
        assert await client.closing() == (3001, "bye")
        assert await client.eof() == b""
        assert guest.ends == [(3001, "bye", True, "client")]


async def test_a_client_may_shut_its_half_after_its_goodbye() -> None:
    async with listening(hall=Hall(finish=False)) as listener, raw_websocket(listener.port) as client:
        client.write(close_frame(1000))
        client.writer.write_eof()
        guest = await listener.guest()
        await until(lambda: guest.goodbyes)
        guest.connection.send(Frame("answer"))
        guest.connection.finish()
        assert await client.frame() == (0x81, b"answer")
        assert await client.closing() == (1000, "")
        await until(lambda: listener.reception.connections == 0)


async def test_the_echo_waits_for_close_s_only() -> None:
    clock = ManualClock()
    async with (
        listening(hall=Hall(finish=False), clock=clock) as listener,
        raw_websocket(listener.port) as client,
    ):
        client.write(close_frame(1000))
        guest = await listener.guest()
        await until(lambda: guest.goodbyes)
        clock.advance(4_900)
        listener.wheel.advance()
        assert guest.ends == []
        clock.advance(2_100)
        listener.wheel.advance()
        assert guest.ends == [(1000, "", True, "client")]
        assert await client.closing() == (1000, "")


async def test_a_goodbye_without_a_code() -> None:
    async with listening() as listener, raw_websocket(listener.port) as client:
        client.write(client_frame(8, b""))
        assert await client.frame() == (0x88, b"")
        guest = await listener.guest()
        assert guest.ends == [(1005, "", True, "client")]


async def test_the_session_may_answer_a_goodbye_with_a_code_of_its_own() -> None:
    async with listening(hall=Hall(finish=False)) as listener, raw_websocket(listener.port) as client:
        client.write(close_frame(1000))
        guest = await listener.guest()
        await until(lambda: guest.goodbyes)
        guest.connection.close(4000, "no, I leave")
        assert await client.closing() == (4000, "no, I leave")


async def test_a_dropped_socket() -> None:
    async with listening() as listener:
        async with raw_websocket(listener.port):
            guest = await listener.guest()
        await until(lambda: guest.ends)
        assert guest.ends == [(1006, "", False, "client")]
        assert listener.reception.connections == 0
        guest.connection.send(Frame("into the void"))
        guest.connection.close(1000, "")
        guest.connection.finish()
        guest.connection.pause_reading()
        guest.connection.resume_reading()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x01a", 1002),
        (client_frame(3, b""), 1002),
        (client_frame(1, b"\xff"), 1007),
        (client_frame(2, b"x" * 2_000), 1009),
        (client_frame(2, b"x" * 900, fin=False) + client_frame(0, b"x" * 900), 1009),
    ],
)
async def test_a_violation_ends_it_after_the_answers_owed(data: bytes, code: int) -> None:
    route = RouteSettings(limits=LimitSettings(message_bytes=1_000))
    async with listening(route, hall=Hall(echo=True)) as listener, raw_websocket(listener.port) as client:
        client.write(client_frame(1, b"first") + data)
        assert await client.frame() == (0x81, b"first")
        assert (await client.closing())[0] == code
        assert await client.eof() == b""
        guest = await listener.guest()
        assert [end[0] for end in guest.ends] == [code]
        assert guest.ends[0][3] == ("limit" if code == 1009 else "client")
        assert listener.limits_hit() == ({"message_bytes": 1} if code == 1009 else {})


async def test_our_close_frame_survives_what_the_client_still_sends() -> None:
    """Closing a socket with unread bytes resets it, and a reset destroys what is on its way."""
    route = RouteSettings(limits=LimitSettings(message_bytes=1_000))
    async with listening(route) as listener, raw_websocket(listener.port) as client:
        client.write(client_frame(2, b"x" * 1_001)[:20])
        for _ in range(50):
            client.write(b"y" * 10_000)
        assert await client.closing() == (1009, "message too big")


async def test_a_client_that_never_answers_our_close_frame() -> None:
    clock = ManualClock()
    async with listening(clock=clock) as listener, raw_websocket(listener.port) as client:
        guest = await listener.guest()
        guest.connection.close(1012, "restart")
        assert await client.closing() == (1012, "restart")
        client.write(client_frame(1, b"I go on talking"))
        clock.advance(7_000)
        listener.wheel.advance()
        assert guest.ends == [(1012, "restart", False, "backend")]
        assert guest.heard == []
        clock.advance(7_000)
        listener.wheel.advance()
        await until(lambda: listener.reception.connections == 0)


async def test_meters_follow_a_connection() -> None:
    async with listening(hall=Hall(echo=True)) as listener:
        (route,) = listener.routes
        async with raw_websocket(listener.port) as client:
            assert route.meters.connections.value == 1
            client.write(client_frame(1, "hällo".encode()) + client_frame(2, b"x" * 300))
            await client.frame()
            await client.frame()
            assert (route.meters.messages_in.value, route.meters.bytes_in.value) == (2, 306)
            assert (route.meters.messages_out.value, route.meters.bytes_out.value) == (2, 306)
        await until(lambda: route.meters.connections.value == 0)
        assert route.meters.connections_opened.value == 1
