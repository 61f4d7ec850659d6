"""Whole requests through an origin, against servers that misbehave."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.backend import origin as origin_module
from edge.backend.http11 import Answer
from edge.backend.origin_base import Unanswered
from tests.support.waiting import wait_until
from tests.unit.backend.raw import OK, REQUEST, Line, Told, answers, parts_of, scene


async def test_connections_are_kept_and_the_one_used_last_is_used_first() -> None:
    async with scene(answers) as s:
        first, second = s.ask(), s.ask()
        assert (await first.answer()).body == b"ok"
        assert (await second.answer()).body == b"ok"
        assert len(s.server.lines) == 2
        for _ in range(5):
            await s.ask().answer()
        assert len(s.server.lines) == 2
        assert s.meters.requests.value == 7
        assert s.meters.backend_connections.value == 2


async def test_an_asker_may_ask_again_when_it_is_told() -> None:
    async with scene(answers, connections=1) as s:

        class Again(Told):
            left = 5

            def answered(self, answer: Answer) -> None:
                if self.left:
                    self.left -= 1
                    s.origin.ask(REQUEST, self, 10)
                else:
                    super().answered(answer)

        asker = Again()
        s.origin.ask(REQUEST, asker, 10)
        await asker.answer()
        assert s.meters.requests.value == 6
        assert len(s.server.lines) == 1


async def test_requests_past_the_limit_wait_in_order() -> None:
    order: list[bytes] = []

    async def serve(line: Line) -> None:
        while True:
            order.append((await line.request())[-2:])
            await line.say(OK)

    async with scene(serve, connections=1) as s:
        asked = [s.ask(REQUEST[:-2] + b"%02d" % n) for n in range(20)]
        for told in asked:
            await told.answer()
        assert order == [b"%02d" % n for n in range(20)]
        assert len(s.server.lines) == 1


async def test_a_request_that_finds_no_connection_in_time_is_told_so() -> None:
    async def serve(line: Line) -> None:
        await line.request()
        await line.reader.read()

    async with scene(serve, connections=1, connect_s=0.2) as s:
        served = s.ask()
        await wait_until(lambda: s.server.open == 1, "the server has the connection")
        failure = await s.ask().failure()
        assert (failure.kind, failure.sent) == ("full", False)
        assert not served.done
        assert s.meters.request_failures["full"].value == 1


async def test_too_many_that_wait_are_told_so_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin_module, "WAITING_MOST", 2)

    async def serve(line: Line) -> None:
        await line.request()
        await line.reader.read()

    async with scene(serve, connections=1, connect_s=15) as s:
        s.ask()
        await wait_until(lambda: s.server.open == 1, "the server has the connection")
        oldest, *others = [s.ask() for _ in range(3)]
        assert (await oldest.failure()).kind == "full"
        assert not any(other.done for other in others)


async def test_a_backend_that_is_not_there_is_told_to_all_at_once() -> None:
    async with scene(answers, connect_s=15) as s:
        await s.server.stop()
        asked = [s.ask() for _ in range(200)]
        for told in asked:
            failure = await told.failure()
            assert (failure.kind, failure.phrase, failure.sent) == ("connect", "connection refused", False)
        await s.server.start()
        assert (await s.ask().answer()).status == 200


async def test_a_refused_connection_leaves_waiting_what_a_busy_one_will_serve() -> None:
    go = asyncio.Event()

    async def serve(line: Line) -> None:
        while True:
            await line.request()
            await go.wait()
            await line.say(OK)

    async with scene(serve) as s:
        first = s.ask()
        await wait_until(lambda: s.server.open == 1, "the server has the connection")
        assert s.server._server is not None
        s.server._server.close()
        second = s.ask()
        await wait_until(lambda: bool(s.origin._connect_phrase), "the second connection is refused")
        assert not second.done
        go.set()
        await first.answer()
        await second.answer()


async def test_a_name_that_leads_nowhere_and_a_url_that_is_none() -> None:
    async with scene(answers) as s:
        for url, phrase in (("http://nowhere.invalid", "name not found"), ("ftp://x", "not accepted")):
            told = Told()
            s.origins.of(s.route, replace(s.target, url=url)).ask(REQUEST, told, 5)
            failure = await told.failure()
            assert failure.kind == "connect"
            assert phrase in failure.phrase


async def test_a_kept_connection_that_was_closed_is_replaced_without_a_word() -> None:
    async def serve(line: Line) -> None:
        await line.request()
        await line.say(OK)
        if line.number <= 3:
            await line.request()  # closed with the second request read and nothing answered
            return
        await answers(line)

    async with scene(serve) as s:
        first = [s.ask() for _ in range(3)]
        for told in first:
            await told.answer()
        second = [s.ask() for _ in range(3)]
        for told in second:
            assert (await told.answer()).body == b"ok"
        assert len(s.server.lines) == 6
        assert s.meters.request_failures == {}


async def test_a_retry_that_finds_nobody_says_that_the_request_may_have_been_carried_out() -> None:
    async with scene(answers) as s:

        async def serve(line: Line) -> None:
            await line.request()
            await line.say(OK)
            await line.request()
            assert s.server._server is not None
            s.server._server.close()

        s.server.serve = serve
        await s.ask().answer()
        failure = await s.ask().failure()
        assert (failure.kind, failure.sent) == ("reset", True)
        server_is_gone = await s.ask().failure()
        assert (server_is_gone.kind, server_is_gone.sent) == ("connect", False)


async def test_what_left_on_one_connection_has_left_though_the_next_did_not_take_it() -> None:
    async def serve(line: Line) -> None:
        if line.number == 1:
            await line.request()
            await line.say(OK)
            await line.request()
            return
        line.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await go.wait()
        line.reset()

    go = asyncio.Event()
    async with scene(serve) as s:
        await s.ask().answer()
        told = s.ask(b"POST / HTTP/1.1\r\nContent-Length: 20000000\r\n\r\n" + b"x" * 20_000_000, 15)
        await wait_until(lambda: len(s.server.lines) == 2, "it is tried again")
        go.set()
        failure = await told.failure()
        assert (failure.kind, failure.sent) == ("reset", True)


@pytest.mark.parametrize(
    ("octets", "kind"),
    [
        (b"", "reset"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "reset"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok", "reset"),
        (b"<html>", "garbage"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "garbage"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", "garbage"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001, "garbage"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "garbage"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", "garbage"),
    ],
)
async def test_failures_of_a_new_connection_are_told(octets: bytes, kind: str) -> None:
    async def serve(line: Line) -> None:
        await line.request()
        await line.say(octets)

    async with scene(serve, answer_bytes=1000) as s:
        failure = await s.ask().failure()
        assert (failure.kind, failure.sent) == (kind, True)
        assert len(s.server.lines) == 1
        assert s.meters.request_failures[kind].value == 1


async def test_a_request_that_was_reset_before_it_was_out_was_not_sent() -> None:
    async def serve(line: Line) -> None:
        line.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await go.wait()
        line.reset()

    go = asyncio.Event()
    async with scene(serve) as s:
        told = s.ask(b"POST / HTTP/1.1\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 50_000_000, 15)
        await wait_until(lambda: s.meters.requests.value == 1, "the request leaves")
        go.set()
        failure = await told.failure()
        assert (failure.kind, failure.sent) == ("reset", False)


async def test_a_backend_that_never_answers() -> None:
    async def serve(line: Line) -> None:
        await line.request()
        await line.reader.read()

    async with scene(serve) as s:
        failure = await s.ask(timeout_s=0.1).failure()
        assert (failure.kind, failure.sent) == ("timeout", True)
        await wait_until(lambda: s.server.open == 0, "the connection is closed")


async def test_a_second_answer_nobody_asked_for_does_not_become_that_of_the_next_request() -> None:
    async def serve(line: Line) -> None:
        while True:
            number = (await line.request())[-2:]
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + number
            await line.say(answer + answer)

    async with scene(serve) as s:
        for n in range(5):
            body = b"%02d" % n
            assert (await s.ask(REQUEST[:-2] + body).answer()).body == body


async def test_who_is_forgotten_is_told_nothing() -> None:
    async def serve(line: Line) -> None:
        await line.request()
        await go.wait()
        await line.say(OK)
        await answers(line)

    go = asyncio.Event()
    async with scene(serve, connections=1) as s:
        in_flight, waits, stays = s.ask(), s.ask(), s.ask()
        await wait_until(lambda: s.meters.requests.value == 1, "the request leaves")
        s.origin.forget(in_flight)
        s.origin.forget(waits)
        s.origin.forget(Told())
        go.set()
        await stays.answer()
        assert not in_flight.done
        assert not waits.done
        assert s.meters.requests.value == 2


async def test_an_asker_that_fails_ends_nobody_elses_request(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Told):
        def answered(self, answer: Answer) -> None:
            raise ValueError("oh")

        def unanswered(self, failure: Unanswered) -> None:
            raise ValueError("oh")

    async with scene(answers, connections=1) as s:
        s.origin.ask(REQUEST, Broken(), 5)
        assert (await s.ask().answer()).body == b"ok"
        assert len(s.server.lines) == 1
        await s.server.stop()
        s.origin.ask(REQUEST, Broken(), 5)
        assert (await s.ask().failure()).kind == "connect"
    assert "ValueError" in caplog.text


async def test_closing_tells_everybody_and_later_requests_too() -> None:
    async def serve(line: Line) -> None:
        await line.request()
        await line.reader.read()

    async with scene(serve, connections=1) as s:
        origin = s.origin
        under_way, waits = s.ask(), s.ask()
        await wait_until(lambda: s.server.open == 1, "the server has the connection")
        s.origins.close()
        assert await under_way.failure() == Unanswered("closed", "closed by the edge", sent=True)
        assert await waits.failure() == Unanswered("closed", "closed by the edge", sent=False)
        late = Told()
        origin.ask(REQUEST, late, 5)
        assert not late.done
        assert (await late.failure()).kind == "closed"


HEADS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b",
        b"HTTP/1.1 404 Not Found\r\nX: y\r\nContent-Length: %d\r\n\r\n%b",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b",
    ]
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(HEADS, st.binary(min_size=1, max_size=30), st.lists(st.integers(0, 120), max_size=6)),
        min_size=1,
        max_size=8,
    )
)
async def test_answers_are_the_same_however_they_are_cut(script: list[tuple[bytes, bytes, list[int]]]) -> None:
    left = list(script)

    async def serve(line: Line) -> None:
        while left:
            await line.request()
            form, body, cuts = left.pop(0)
            await line.say(*parts_of(form % (len(body), body), cuts))

    async with scene(serve, connections=1) as s:
        for form, body, _ in script:
            answer = await s.ask().answer()
            assert answer.body == body
            assert answer.status == (404 if b"404" in form else 200)
            assert (b"X", b"y") in answer.headers or answer.status == 200
