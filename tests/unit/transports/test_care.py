"""Silence: pings, pongs, idle ends; by a clock that moves when told to."""

from __future__ import annotations

import pytest

from edge.clock import ManualClock
from edge.config import RouteSettings, TimeoutSettings
from edge.sessions.connection import Frame
from edge.transports.care import Care
from edge.wheel import Wheel
from tests.support.listener import Hall, Listener, listening, until
from tests.support.raw_websocket import client_frame, raw_websocket

ROUTE = RouteSettings(timeouts=TimeoutSettings(ping_s=25, pong_s=20))


def pass_seconds(listener: Listener, clock: ManualClock, seconds: int) -> None:
    for _ in range(seconds):
        clock.advance(1_000)
        listener.wheel.advance()


async def test_a_silent_client_is_pinged_and_stays_if_it_answers() -> None:
    clock = ManualClock()
    async with listening(ROUTE, clock=clock) as listener, raw_websocket(listener.port) as client:
        guest = await listener.guest()
        for _ in range(3):
            pass_seconds(listener, clock, 27)
            assert await client.frame() == (0x89, b"")
            client.write(client_frame(10, b"") + client_frame(1, b"here"))
            await until(lambda: guest.heard)
            guest.heard.clear()
        pass_seconds(listener, clock, 20)
        assert guest.ends == []


async def test_a_client_that_is_gone_without_a_word_is_dropped() -> None:
    clock = ManualClock()
    async with listening(ROUTE, clock=clock) as listener, raw_websocket(listener.port) as client:
        guest = await listener.guest()
        pass_seconds(listener, clock, 27)
        assert await client.frame() == (0x89, b"")
        pass_seconds(listener, clock, 19)
        assert guest.ends == []
        pass_seconds(listener, clock, 3)
        await until(lambda: guest.ends)
        assert guest.ends == [(1006, "ping timeout", False, "client")]
        assert listener.limits_hit() == {"pong_s": 1}


async def test_a_client_we_do_not_read_from_is_not_blamed_for_silence() -> None:
    clock = ManualClock()
    async with listening(ROUTE, clock=clock) as listener, raw_websocket(listener.port) as client:
        guest = await listener.guest()
        guest.connection.pause_reading()
        pass_seconds(listener, clock, 200)
        assert guest.ends == []
        guest.connection.resume_reading()
        client.write(client_frame(1, b"still here"))
        await until(lambda: guest.heard)


@pytest.mark.parametrize("talker", ["client", "session"])
async def test_idle_means_no_message_either_way(talker: str) -> None:
    clock = ManualClock()
    route = RouteSettings(timeouts=TimeoutSettings(idle_s=60, ping_s=0))
    async with listening(route, clock=clock) as listener, raw_websocket(listener.port) as client:
        guest = await listener.guest()
        pass_seconds(listener, clock, 50)
        if talker == "client":
            client.write(client_frame(1, b"x"))
            await until(lambda: guest.heard)
        else:
            guest.connection.send(Frame("x"))
            await client.frame()
        client.write(client_frame(9, b"a ping is no message"))
        await client.frame()
        pass_seconds(listener, clock, 55)
        client.write(client_frame(9, b"nor is this"))
        await client.frame()
        assert guest.ends == []
        pass_seconds(listener, clock, 10)
        assert await client.closing() == (1000, "idle")
        client.write(client_frame(8, b"\x03\xe8"))
        await until(lambda: guest.ends)
        assert guest.ends == [(1000, "idle", True, "idle")]


async def test_pings_are_answered_in_order() -> None:
    async with listening(hall=Hall(echo=True)) as listener, raw_websocket(listener.port) as client:
        client.write(client_frame(1, b"a") + client_frame(9, b"p") + client_frame(10, b"?") + client_frame(1, b"b"))
        assert [await client.frame() for _ in range(3)] == [(0x81, b"a"), (0x8A, b"p"), (0x81, b"b")]


class Patient:
    def __init__(self, again: int = 0) -> None:
        self.due = 0
        self.seen: list[int] = []
        self.again = again

    def look(self, now: int) -> int:
        self.seen.append(now)
        return now + self.again if self.again else 0


def test_patients_are_seen_in_time_and_once() -> None:
    clock = ManualClock(monotonic_ms=10_500)
    wheel = Wheel(clock)
    care = Care(wheel, clock)
    care.start()
    once, often, moved, gone = Patient(), Patient(again=3), Patient(), Patient()
    care.see(once, 2.5)
    care.see(often, 1)
    care.see(moved, 1)
    care.see(moved, 4)
    care.see(gone, 1)
    care.leave(gone)
    for _ in range(100):
        clock.advance(100)
        wheel.advance()
    assert once.seen == [14]  # not before 10.5 + 2.5
    assert often.seen == [12, 15, 18]
    assert moved.seen == [15]
    assert gone.seen == []


def test_a_clock_that_jumps_skips_nobody() -> None:
    clock = ManualClock()
    wheel = Wheel(clock)
    care = Care(wheel, clock)
    care.start()
    patients = [Patient() for _ in range(5)]
    for seconds, patient in enumerate(patients):
        care.see(patient, seconds)
    clock.advance(60_000)
    wheel.advance()
    assert all(patient.seen == [60] for patient in patients)
