"""How long clients may take, and how much may wait for them; and requests that are not plainly one thing."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from edge.clock import ManualClock
from edge.config import LimitSettings, RouteSettings, TimeoutSettings
from edge.transports.http import BODY_SILENCE_S, KEEP_ALIVE_S, LINGER_S, SEND_SILENCE_S
from tests.support.http_hall import HttpHall, get, hold, http_client, http_connections, post, post_chunked
from tests.support.listener import Listener, listening, until
from tests.unit.transports.test_outbox import settled

GRIP = RouteSettings(protocol="grip")


async def pass_seconds(listener: Listener, clock: ManualClock, seconds: int) -> None:
    for _ in range(seconds):
        clock.advance(1_000)
        listener.wheel.advance()
    await asyncio.sleep(0)


async def test_an_idle_connection_is_closed() -> None:
    clock = ManualClock()
    async with listening(GRIP, http=HttpHall(), clock=clock) as listener, http_client(listener.port) as client:
        for _ in range(2):
            assert (await client.ask(get())).status == 200
            await pass_seconds(listener, clock, KEEP_ALIVE_S - 2)
        await pass_seconds(listener, clock, 5)
        assert await client.eof() == b""
        await until(lambda: not listener.server.server_state.connections)


async def test_a_held_request_waits_for_ever() -> None:
    clock = ManualClock()
    hall = HttpHall(when_whole=hold)
    async with listening(GRIP, http=hall, clock=clock) as listener, http_client(listener.port) as client:
        assert listener.wheel.next_due_ms() is not None
        client.write(get("/before"))
        await until(lambda: hall.visits)
        hall.visits[0].client.answer(200, "", [], b"")
        await client.answer()
        client.write(get())
        await until(lambda: len(hall.visits) == 2)
        await pass_seconds(listener, clock, 4_000)
        hall.visits[1].client.begin(200, "", [], None)
        await pass_seconds(listener, clock, 4_000)
        hall.visits[1].client.write(b"at last")
        hall.visits[1].client.end()
        assert (await client.answer()).body == b"at last"


@pytest.mark.parametrize("begun", [False, True])
async def test_a_request_on_which_nothing_moves_for_the_routes_idle_time(begun: bool) -> None:
    clock = ManualClock()
    hall = HttpHall(when_whole=hold)
    route = replace(GRIP, timeouts=TimeoutSettings(idle_s=1_800))
    async with listening(route, http=hall, clock=clock) as listener, http_client(listener.port) as client:
        client.write(post("/", b"x"))
        await until(lambda: hall.visits and hall.visits[0].trailers)
        visit = hall.visits[0]
        await pass_seconds(listener, clock, 1_700)
        if begun:
            visit.client.begin(200, "", [], None)
            visit.client.write(b"x")
            await client.head()
            await pass_seconds(listener, clock, 1_790)
        assert visit.ends == []
        await pass_seconds(listener, clock, 110)
        await until(lambda: visit.ends)
        assert visit.ends == ["limit"]
        if not begun:
            assert (await client.answer()).status == 504
        assert listener.limits_hit() == {"idle_s": 1}


@pytest.mark.parametrize("begun", [False, True])
async def test_a_body_that_stops_coming(begun: bool) -> None:
    clock = ManualClock()
    hall = HttpHall()
    async with listening(GRIP, http=hall, clock=clock) as listener, http_client(listener.port) as client:
        client.write(post("/", b"x" * 100)[:-50])
        await until(lambda: hall.visits and hall.visits[0].body_)
        await pass_seconds(listener, clock, BODY_SILENCE_S - 3)
        client.write(b"x")
        await until(lambda: len(hall.visits[0].body_) == 51)
        await pass_seconds(listener, clock, BODY_SILENCE_S - 3)
        assert hall.visits[0].ends == []
        if begun:
            hall.visits[0].client.begin(200, "", [], None)
            await client.head()
        await pass_seconds(listener, clock, 8)
        await until(lambda: hall.visits[0].ends)
        assert hall.visits[0].ends == ["limit"]
        if begun:
            with pytest.raises(ConnectionResetError):
                await client.eof()
        else:
            assert (await client.answer()).status == 408
        assert listener.limits_hit() == {"body_silence": 1}


async def test_a_body_that_is_not_read_is_not_late() -> None:
    clock = ManualClock()
    hall = HttpHall(welcome=lambda visit: visit.client.pause_reading())
    async with listening(GRIP, http=hall, clock=clock) as listener, http_client(listener.port) as client:
        client.write(get("/", "Content-Length: 5", method="POST"))
        await until(lambda: hall.visits)
        await pass_seconds(listener, clock, 1_000)
        hall.visits[0].client.resume_reading()
        await pass_seconds(listener, clock, BODY_SILENCE_S - 3)
        client.write(b"hello")
        assert (await client.answer()).body == b"hello"


async def test_a_slow_reader_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    hall = HttpHall(when_whole=hold)
    route = replace(GRIP, limits=LimitSettings(outbox_bytes=200_000))
    async with (
        listening(route, http=hall, send_buffer=8_192) as listener,
        http_client(listener.port, receive_bytes=8_192) as client,
    ):
        client.write(get())
        await until(lambda: hall.visits)
        visit = hall.visits[0]
        visit.client.begin(200, "", [], None)
        sent = 0
        with caplog.at_level(logging.WARNING, "holdfast.http"):
            while sent < 10_000 and not listener.limits_hit():
                for _ in range(10):
                    visit.client.write(b"x" * 1_000)
                    sent += 1
                await asyncio.sleep(0)
        assert 200 < sent < 1_000
        await until(lambda: visit.ends)
        assert visit.ends == ["slow"]
        assert visit.congestions[0] is True
        assert listener.limits_hit() == {"outbox_bytes": 1}
        assert "client 127.0.0.1 " in caplog.text
        with pytest.raises(ConnectionResetError):
            await client.eof()


async def test_congestion_is_told_and_so_is_its_end() -> None:
    hall = HttpHall(when_whole=hold)
    async with (
        listening(GRIP, http=hall, send_buffer=65_536) as listener,
        http_client(listener.port, receive_bytes=65_536) as client,
    ):
        client.write(get())
        await until(lambda: hall.visits)
        visit = hall.visits[0]
        visit.client.begin(200, "", [], 3_000_000)
        visit.client.write(b"x" * 3_000_000)
        await until(lambda: visit.congestions)
        visit.client.end()  # nothing is told after it
        assert len((await client.answer()).body) == 3_000_000
        assert visit.congestions == [True]
        client.write(get())
        await until(lambda: len(hall.visits) == 2)
        visit = hall.visits[1]
        visit.client.begin(200, "", [], None)
        visit.client.write(b"x" * 3_000_000)
        await until(lambda: visit.congestions)
        await client.raw.reader.readexactly(3_000_000)
        await until(lambda: visit.congestions == [True, False])


async def test_the_next_request_waits_until_the_client_has_taken_its_answer() -> None:
    hall = HttpHall()
    async with (
        listening(GRIP, http=hall, send_buffer=65_536) as listener,
        http_client(listener.port, receive_bytes=65_536) as client,
    ):
        client.write(post("/", b"x" * 3_000_000) + get("/next"))
        await until(lambda: hall.visits and hall.visits[0].trailers)
        (connection,) = http_connections(listener)
        await until(lambda: connection._rest)
        assert len(hall.visits) == 1
        assert len((await client.answer()).body) == 3_000_000
        assert (await client.answer()).body == b""


@pytest.mark.parametrize("whole", [False, True])
async def test_a_client_that_takes_nothing_more(whole: bool) -> None:
    clock = ManualClock()
    hall = HttpHall(when_whole=hold)
    route = replace(GRIP, limits=LimitSettings(outbox_bytes=0))
    async with (
        listening(route, http=hall, clock=clock, send_buffer=65_536) as listener,
        http_client(listener.port, receive_bytes=65_536) as client,
    ):
        client.write(get())
        await until(lambda: hall.visits)
        visit = hall.visits[0]
        if whole:
            visit.client.answer(200, "", [], b"x" * 3_000_000)
        else:
            visit.client.begin(200, "", [], None)
            visit.client.write(b"x" * 3_000_000)
            await until(lambda: visit.congestions)
        await until(lambda: http_connections(listener)[0].outbox.congested)
        await settled(http_connections(listener)[0].outbox.size)
        await pass_seconds(listener, clock, SEND_SILENCE_S - 3)
        assert listener.server.server_state.connections
        await pass_seconds(listener, clock, 2 * SEND_SILENCE_S + KEEP_ALIVE_S)
        await until(lambda: not listener.server.server_state.connections)
        assert visit.ends == ([] if whole else ["slow"])


async def test_a_client_that_does_not_close_its_half() -> None:
    clock = ManualClock()
    async with listening(GRIP, http=HttpHall(), clock=clock) as listener, http_client(listener.port) as client:
        await client.ask(get("/", "Connection: close"))
        await pass_seconds(listener, clock, LINGER_S + 3)
        await until(lambda: not listener.server.server_state.connections)


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
        (HEAD + b"Content-Length: 5, 5\r\n\r\nhello", 400),
        (HEAD + b"Content-Length: +5\r\n\r\nhello", 400),
        (HEAD + b"Content-Length : 5\r\n\r\nhello", 400),
        (HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (HEAD + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", 400),
        (HEAD + b"X: a\r\n b\r\n\r\n", 400),
        (HEAD + b"X: a\nContent-Length: 5\r\n\r\nhello", 400),
        (HEAD + b"X: a\rContent-Length: 5\r\n\r\nhello", 400),
        (HEAD + b"X: \x00\r\n\r\n", 400),
        (HEAD + b"Host: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\n\n", 400),
        (b"GET /\r\n\r\n", 505),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 405),
        (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET http:/// HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /#a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n", 417),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"X-A: 1\r\n" * 200, 431),
        (b"GET / HTTP/1.1\r\nX-Endless: " + b"x" * 40_000, 431),
        (b"GET / HTTP/1.1\r\nX-Endless: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ],
)
async def test_what_could_be_understood_in_two_ways_is_refused(request_: bytes, status: int) -> None:
    hall = HttpHall()
    async with listening(GRIP, http=hall) as listener, http_client(listener.port) as client:
        client.write(get("/good"))
        assert (await client.answer()).status == 200
        client.write(request_ + get("/smuggled"))
        answer = await client.answer()
        assert (answer.status, answer["connection"]) == (status, "close")
        assert await client.eof() == b""
        assert all(not visit.trailers for visit in hall.visits[1:])


async def test_a_body_that_breaks_after_the_answer_began() -> None:
    hall = HttpHall(welcome=lambda visit: visit.client.begin(200, "", [], None))
    async with listening(GRIP, http=hall) as listener, http_client(listener.port) as client:
        client.write(post_chunked("/", b"abc", end=b"zz\r\n"))
        await until(lambda: hall.visits and hall.visits[0].ends)
        assert hall.visits[0].ends == ["client"]
        with pytest.raises(ConnectionResetError):
            await client.eof()
