"""Streamed requests and answers, against servers that misbehave."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.backend.origin_base import AnswerHead, chunk
from tests.support.waiting import wait_until
from tests.unit.backend.raw import OK, Heard, Line, Scene, answers, parts_of, scene

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


async def ok_after(s: Scene, connections: int) -> None:
    """The origin still works, with so many connections made in all."""
    assert (await s.ask().answer()).body == b"ok"
    assert len(s.server.lines) == connections


@pytest.mark.parametrize(
    ("request_head", "octets", "status", "body", "length", "keeps"),
    [
        (GET, b"HTTP/1.1 200 Fine\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", 2, True),
        (GET, b"HT|TP/1.1 200 Fi|ne\r\nCont|ent-Length: 2\r|\n\r\no|k", 200, b"ok", 2, True),
        (GET, b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, b"ok", None, True),
        (GET, b"HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", 200, b"ok", 2, False),
        (GET, b"HTTP/1.0 200 Fine\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", 2, False),
        (GET, b"HTTP/1.1 204 Fine\r\n\r\n", 204, b"", 0, True),
        (GET, b"HTTP/1.1 304 Fine\r\nContent-Length: 9\r\n\r\n", 304, b"", 9, True),
        (GET, b"HTTP/1.1 304 Fine\r\n\r\n", 304, b"", None, True),
        (GET, b"HTTP/1.1 100 C\r\n\r\n|HTTP/1.1 103 E\r\nLink: a\r\n\r\nHTTP/1.1 204 Fine\r\n\r\n", 204, b"", 0, True),
        (GET, b"HTTP/1.1 200 Fine\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 Other\r\n", 200, b"ok", 2, False),
        (HEAD, b"HTTP/1.1 200 Fine\r\nContent-Length: 9\r\n\r\n", 200, b"", 9, True),
        (HEAD, b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n", 200, b"", None, True),
        (HEAD, b"HTTP/1.1 200 Fine\r\n\r\n", 200, b"", None, True),
        (HEAD, b"HTTP/1.1 200 Fine\r\nConnection: close\r\n\r\n", 200, b"", None, False),
        (HEAD, b"HTTP/1.0 200 Fine\r\n\r\n", 200, b"", None, False),
        (HEAD, b"HTTP/1.1 200 Fine\r\nContent-Length: 2\r\n\r\nok", 200, b"", 2, False),
        (HEAD, b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 Fine\r\nContent-Length: 9\r\n\r\n", 200, b"", 9, True),
    ],
)
async def test_answers(
    request_head: bytes, octets: bytes, status: int, body: bytes, length: int | None, keeps: bool
) -> None:
    async def serve(line: Line) -> None:
        await line.request()
        await line.say(*octets.split(b"|"))
        await answers(line)

    async with scene(serve) as s:
        heard = s.stream(request_head)
        head = await heard.whole()
        assert (head.status, head.reason, head.length) == (status, "Fine", length)
        assert not any(name == b"Link" for name, _ in head.headers)
        assert heard.data == body
        assert heard.trailers == ()
        s.server.serve = answers
        await ok_after(s, 1 if keeps else 2)
        assert s.meters.requests.value == 2
        assert s.meters.request_failures == {}


async def test_a_body_without_length_ends_with_the_connection() -> None:
    async def serve(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\n\r\nsome", b"thing")

    async with scene(serve) as s:
        heard = s.stream(GET)
        assert (await heard.whole()).length is None
        assert heard.data == b"something"


async def test_trailers() -> None:
    async def serve(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n")
        await line.say(chunk(b"ok"), chunk(b"", [(b"A", b"b"), (b"C", b"d")]))
        await answers(line)

    async with scene(serve) as s:
        heard = s.stream(GET)
        head = await heard.whole()
        assert list(heard.trailers or ()) == [(b"A", b"b"), (b"C", b"d")]
        assert (b"A", b"b") not in head.headers
        await ok_after(s, 1)


@pytest.mark.parametrize(
    ("octets", "kind"),
    [
        (b"", "reset"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "reset"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok", "reset"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok", "garbage"),
        (b"HTTP/1.1 200 OK\r\nContent-", "reset"),
        (b"<html>", "garbage"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", "garbage"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "garbage"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nT: " + b"x" * 600_000, "garbage"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "garbage"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", "garbage"),
    ],
)
async def test_failures(octets: bytes, kind: str) -> None:
    async def serve(line: Line) -> None:
        await line.request()
        await line.say(octets)

    async with scene(serve) as s:
        failure = await s.stream(GET).failing()
        assert (failure.kind, failure.sent) == (kind, True)
        assert s.meters.request_failures[kind].value == 1
        s.server.serve = answers
        await ok_after(s, 2)


async def test_a_reset_in_the_middle() -> None:
    async def serve(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\n\r\nso far")
        await go.wait()
        line.reset()

    go = asyncio.Event()
    async with scene(serve) as s:
        heard = s.stream(GET)
        await wait_until(lambda: heard.data == b"so far", "the body begins")
        go.set()
        assert (await heard.failing()).phrase == "connection reset"


async def test_request_bodies_arrive_whole() -> None:
    async def serve(line: Line) -> None:
        got.append(await line.request())
        await line.say(OK)
        got.append(await line.reader.readuntil(b"0\r\nT: u\r\n\r\n"))
        await line.say(OK)

    got: list[bytes] = []
    async with scene(serve) as s:
        await s.stream(POST % 6, b"abc", b"", b"def").whole()
        await s.stream(CHUNKED, chunk(b"abc"), chunk(b"de"), chunk(b"", [(b"T", b"u")])).whole()
        assert got == [POST % 6 + b"abcdef", CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\nT: u\r\n\r\n"]
        assert len(s.server.lines) == 1


async def test_an_answer_begins_while_the_request_is_still_being_sent() -> None:
    async def serve(line: Line) -> None:
        await line.head()
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        await line.say(await line.reader.readexactly(4))
        await answers(line)

    async with scene(serve) as s:
        heard = s.stream(POST % 4, complete=False)
        await wait_until(lambda: heard.head is not None, "the answer begins")
        assert heard.upstream is not None
        heard.upstream.send(b"ec")
        heard.upstream.send(b"ho")
        heard.upstream.complete()
        await heard.whole()
        assert heard.data == b"echo"
        await ok_after(s, 1)


async def test_an_answer_that_ends_before_the_request_closes_the_connection() -> None:
    async def serve(line: Line) -> None:
        await line.head()
        await line.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await line.reader.read()

    async with scene(serve) as s:
        heard = s.stream(POST % 1_000_000, b"x" * 1000, complete=False)
        assert (await heard.whole()).status == 413
        assert heard.upstream is not None
        heard.upstream.send(b"more")
        heard.upstream.pause()
        heard.upstream.resume()
        heard.upstream.complete()
        heard.upstream.cancel()
        await wait_until(lambda: s.server.open == 0, "the connection is closed")


async def test_an_early_refusal_is_read_although_the_connection_is_reset_behind_it() -> None:
    async def serve(line: Line) -> None:
        line.writer.transport.pause_reading()  # type: ignore[attr-defined]
        line.writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        line.writer.close()  # with bytes unread: an RST

    async with scene(serve) as s:
        for _ in range(20):
            heard = s.stream(POST % 30_000_000, b"x" * 30_000_000, complete=False)
            assert (await heard.whole()).status == 413


async def test_an_early_refusal_is_read_although_a_write_meets_the_reset_first() -> None:
    async def serve(line: Line) -> None:
        line.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await go.wait()
        line.writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")

    go = asyncio.Event()
    async with scene(serve) as s:
        heard = s.stream(POST % 1_000_000, b"x" * 1_000, complete=False)
        assert heard.upstream is not None
        heard.upstream.pause()
        await wait_until(lambda: s.server.open == 1, "the server has the connection")
        go.set()
        await wait_until(lambda: s.server.open == 0, "the server has answered and closed")
        for _ in range(50):
            heard.upstream.send(b"x" * 1_000)
            await asyncio.sleep(0)
        assert (await heard.whole()).status == 413
        assert heard.data == b"no"


async def test_a_backend_that_is_slow_to_take_a_body_pauses_its_sender() -> None:
    async def serve(line: Line) -> None:
        await line.head()
        line.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await go.wait()
        line.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await line.reader.readexactly(20_000_000)
        await line.say(OK)

    go = asyncio.Event()
    async with scene(serve) as s:
        heard = s.stream(POST % 20_000_000, b"x" * 20_000_000)
        await wait_until(lambda: heard.pauses == [True], "the sender is paused")
        go.set()
        await heard.whole()
        assert heard.pauses == [True, False]


async def test_what_waits_for_a_connection_is_bounded_too() -> None:
    async def serve(line: Line) -> None:
        while True:
            await line.request()
            await go.wait()
            await line.say(OK)

    go = asyncio.Event()
    async with scene(serve, connections=1) as s:
        first = s.ask()
        heard = s.stream(POST % 100_000, b"x" * 60_000, b"x" * 40_000)
        assert heard.pauses == [True]
        go.set()
        await first.answer()
        await heard.whole()
        assert heard.pauses[:2] == [True, False]
        assert len(s.server.lines) == 1


async def test_a_paused_answer_is_not_read() -> None:
    async def serve(line: Line) -> None:
        await line.request()
        line.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n")
        for _ in range(30):
            line.writer.write(b"x" * 1_000_000)
            await line.writer.drain()
        written.set()
        await answers(line)

    class Pausing(Heard):
        def body(self, data: bytes) -> None:
            super().body(data)
            assert self.upstream is not None
            if len(self.parts) == 1:
                self.upstream.pause()

    written = asyncio.Event()
    async with scene(serve) as s:
        heard = Pausing()
        heard.upstream = s.origin.stream(GET, heard, 0.1)
        heard.upstream.complete()
        await wait_until(lambda: heard.parts, "the body begins")
        await asyncio.sleep(0.3)  # longer than the silence that is allowed: a pause is not the backend's
        assert not written.is_set()
        assert len(heard.parts) == 1
        heard.upstream.resume()
        await heard.whole()
        assert len(heard.data) == 30_000_000
        await ok_after(s, 1)


async def test_a_listener_that_pauses_at_the_end_leaves_a_connection_that_reads() -> None:
    class Pausing(Heard):
        def began(self, head: AnswerHead) -> None:
            super().began(head)
            assert self.upstream is not None
            self.upstream.pause()

    async with scene(answers) as s:
        for _ in range(3):
            heard = Pausing()
            heard.upstream = s.origin.stream(GET, heard, 10)
            heard.upstream.complete()
            await heard.whole()
        await ok_after(s, 1)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_silence_ends_it(said: bytes) -> None:
    async def serve(line: Line) -> None:
        await line.request()
        await line.say(said)
        await line.reader.read()

    async with scene(serve) as s:
        failure = await s.stream(GET, silence_s=0.1).failing()
        assert (failure.kind, failure.sent) == ("timeout", True)
        await wait_until(lambda: s.server.open == 0, "the connection is closed")


async def test_bytes_either_way_are_no_silence() -> None:
    async def serve(line: Line) -> None:
        await line.head()
        for _ in range(8):
            await line.reader.readexactly(1)
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")
        for _ in range(8):
            await asyncio.sleep(0.1)
            await line.say(b"x")

    async with scene(serve) as s:
        heard = s.stream(POST % 8, complete=False, silence_s=0.7)
        assert heard.upstream is not None
        for _ in range(8):
            await asyncio.sleep(0.1)
            heard.upstream.send(b"x")
        heard.upstream.complete()
        await heard.whole()


async def test_a_kept_connection_that_was_closed_is_replaced_unless_a_body_had_begun() -> None:
    async def serve(line: Line) -> None:
        await line.request()
        await line.say(OK)
        if line.number <= 2:
            await line.head()
            return
        await answers(line)

    async with scene(serve) as s:
        await s.stream(GET).whole()
        await s.stream(GET).whole()
        assert len(s.server.lines) == 2
        failure = await s.stream(POST % 2, b"hi").failing()
        assert failure.kind == "reset"
        await ok_after(s, 3)
        assert s.meters.request_failures["reset"].value == 1


async def test_a_retry_that_finds_nobody_says_that_the_request_may_have_been_carried_out() -> None:
    async with scene(answers) as s:

        async def serve(line: Line) -> None:
            await line.request()
            await line.say(OK)
            await line.request()
            assert s.server._server is not None
            s.server._server.close()

        s.server.serve = serve
        await s.stream(GET).whole()
        failure = await s.stream(GET).failing()
        assert (failure.kind, failure.sent) == ("reset", True)


async def test_a_refused_connection() -> None:
    async with scene(answers) as s:
        await s.server.stop()
        failure = await s.stream(POST % 2, b"hi").failing()
        assert (failure.kind, failure.phrase, failure.sent) == ("connect", "connection refused", False)


async def test_cancelling_in_every_state() -> None:
    async def serve(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", b"ab")
        await line.reader.read()

    class Cancels(Heard):
        def body(self, data: bytes) -> None:
            super().body(data)
            assert self.upstream is not None
            self.upstream.cancel()

    async with scene(serve, connections=1) as s:
        under_way, waits = s.stream(GET), s.stream(GET)
        assert under_way.upstream is not None
        assert waits.upstream is not None
        await wait_until(lambda: under_way.data == b"ab", "the body begins")
        waits.upstream.cancel()
        under_way.upstream.cancel()
        await wait_until(lambda: s.server.open == 0, "the connection is closed")
        inside = Cancels()
        inside.upstream = s.origin.stream(GET, inside, 10)
        inside.upstream.complete()
        await wait_until(lambda: inside.parts, "the body begins")
        s.server.serve = answers
        await ok_after(s, 3)
        for heard in (under_way, waits, inside):
            assert not heard.over.is_set()
        assert s.meters.in_flight.value == 0


async def test_closing_tells_streams_too() -> None:
    async def serve(line: Line) -> None:
        await line.request()
        await line.reader.read()

    async with scene(serve, connections=1) as s:
        under_way, waits = s.stream(GET), s.stream(GET)
        await wait_until(lambda: s.server.open == 1, "the server has the connection")
        s.origins.close()
        assert (await under_way.failing()).kind == "closed"
        assert (await waits.failing()).kind == "closed"


async def test_a_listener_that_fails_ends_its_own_exchange_only(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Heard):
        def began(self, head: AnswerHead) -> None:
            raise ValueError("oh")

    async with scene(answers) as s:
        broken = Broken()
        s.origin.stream(GET, broken, 10).complete()
        assert (await broken.failing()).kind == "closed"
        await s.stream(GET).whole()
    assert "ValueError" in caplog.text


async def test_streams_and_whole_requests_share_connections_and_their_limit() -> None:
    async with scene(answers, connections=2) as s:
        for _ in range(5):
            heards = [s.stream(GET), s.stream(POST % 2, b"hi"), s.stream(GET)]
            asked = [s.ask(), s.ask()]
            for heard in heards:
                await heard.whole()
            for told in asked:
                await told.answer()
        assert len(s.server.lines) <= 2
        assert s.meters.requests.value == 25


async def test_unknown_settings_of_targets_fail_requests_not_callers() -> None:
    async with scene(answers) as s:
        target = replace(s.target, url="https://localhost:1", client_cert="/nowhere/cert.pem")
        heard = Heard()
        s.origins.of(s.route, target).stream(GET, heard, 10)
        failure = await heard.failing()
        assert failure.kind == "connect"
        assert "/nowhere/cert.pem" in failure.phrase


FORMS = st.sampled_from(
    [
        b"HTTP/1.1 200 Fine\r\nContent-Length: %d\r\n\r\n%b",
        b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nL: x\r\n\r\nHTTP/1.1 200 Fine\r\nContent-Length: %d\r\n\r\n%b",
        b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n%x;e=f\r\n%b\r\n3\r\nend\r\n0\r\nT: u\r\n\r\n",
        b"HTTP/1.1 200 Fine\r\nConnection: close\r\nX: %d\r\n\r\n%b",
    ]
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(FORMS, st.binary(min_size=1, max_size=30), st.lists(st.integers(0, 150), max_size=6)),
        min_size=1,
        max_size=5,
    )
)
async def test_answers_are_the_same_however_they_are_cut(script: list[tuple[bytes, bytes, list[int]]]) -> None:
    left = list(script)

    async def serve(line: Line) -> None:
        while left:
            await line.request()
            form, body, cuts = left.pop(0)
            await line.say(*parts_of(form % (len(body), body), cuts))
            if b"close" in form:
                return

    async with scene(serve, connections=1) as s:
        for form, body, _ in script:
            heard = s.stream(GET)
            head = await heard.whole()
            chunked = b"chunked" in form
            assert heard.data == (body + b"end" if chunked else body)
            assert list(heard.trailers or ()) == ([(b"T", b"u")] if chunked else [])
            assert (head.status, head.reason) == (200, "Fine")
