"""Pings and pongs of clients whose backend wants to see them, and connections that are cut without a goodbye."""

from __future__ import annotations

import pytest

from edge.clock import ManualClock
from edge.config import LimitSettings, RouteSettings, TimeoutSettings
from edge.sessions.connection import Frame
from edge.transports.websocket import OWN_PING
from tests.support.listener import Guest, Hall, listening, until
from tests.support.raw_websocket import client_frame, close_frame, dial, handshake, raw_websocket


def with_control_frames(guest: Guest) -> None:
    guest.connection.accept(None, [], control_frames=True)


async def test_pings_and_pongs_are_passed_on_and_not_answered() -> None:
    async with listening(hall=Hall(welcome=with_control_frames)) as listener, raw_websocket(listener.port) as client:
        guest = await listener.guest()
        client.write(client_frame(9, b"p") + client_frame(10, b"") + client_frame(9, b"") + client_frame(1, b"m"))
        await until(lambda: guest.heard)
        assert guest.controls == [("ping", b"p"), ("pong", b""), ("ping", b"")]
        guest.connection.send(Frame("first"))
        guest.connection.pong(b"p")
        guest.connection.ping(b"")
        guest.connection.send(Frame("last"))
        answers = [await client.frame() for _ in range(4)]
        assert answers == [(0x81, b"first"), (0x8A, b"p"), (0x89, b""), (0x81, b"last")]


async def test_pongs_to_the_edges_own_pings_are_its_own() -> None:
    clock = ManualClock()
    route = RouteSettings(timeouts=TimeoutSettings(ping_s=25, pong_s=20))
    hall = Hall(welcome=with_control_frames)
    async with listening(route, clock=clock, hall=hall) as listener, raw_websocket(listener.port) as client:
        guest = await listener.guest()
        for _ in range(27):
            clock.advance(1_000)
            listener.wheel.advance()
        assert await client.frame() == (0x89, OWN_PING)
        client.write(client_frame(10, OWN_PING) + client_frame(10, b"mine") + client_frame(1, b"m"))
        await until(lambda: guest.heard)
        assert guest.controls == [("pong", b"mine")]


async def test_elsewhere_nobody_is_told_of_them() -> None:
    async with listening() as listener, raw_websocket(listener.port) as client:
        guest = await listener.guest()
        client.write(client_frame(9, b"p") + client_frame(10, b"q") + client_frame(1, b"m"))
        assert await client.frame() == (0x8A, b"p")
        await until(lambda: guest.heard)
        assert guest.controls == []


async def test_a_flood_of_pings_for_the_backend_goes_over_the_message_rate() -> None:
    route = RouteSettings(limits=LimitSettings(messages_per_s=2))
    hall = Hall(welcome=with_control_frames)
    async with listening(route, clock=ManualClock(), hall=hall) as listener, raw_websocket(listener.port) as client:
        client.write(client_frame(9, b"p") * 5)
        assert await client.closing() == (1008, "message rate")
        assert len((await listener.guest()).controls) == 4


async def test_dropped_behind_what_was_sent() -> None:
    async with listening() as listener, raw_websocket(listener.port) as client:
        guest = await listener.guest()
        guest.connection.send(Frame("last words"))
        guest.connection.drop()
        guest.connection.drop()
        guest.connection.send(Frame("too late"))
        guest.connection.ping(b"too late")
        assert await client.eof() == b"\x81\x0alast words"
        assert guest.ends == [(1006, "dropped", False, "backend")]
        client.writer.close()
        await until(lambda: listener.reception.connections == 0)


async def test_a_goodbye_that_the_backend_leaves_unanswered() -> None:
    async with listening(hall=Hall(finish=False)) as listener, raw_websocket(listener.port) as client:
        guest = await listener.guest()
        client.write(close_frame(4001, "bye"))
        await until(lambda: guest.goodbyes)
        guest.connection.drop()
        assert await client.eof() == b""
        assert guest.ends == [(4001, "bye", True, "client")]


@pytest.mark.parametrize("later", [False, True])
async def test_dropped_before_the_handshake_is_answered(later: bool) -> None:
    hall = Hall(welcome=lambda guest: None if later else guest.connection.drop())
    async with listening(hall=hall) as listener, dial(listener.port) as client:
        client.write(handshake())
        guest = await listener.guest()
        if later:
            guest.connection.drop()
        assert await client.eof() == b""
        await until(lambda: guest.ends)
        assert guest.ends == [(1006, "dropped", False, "backend")]
