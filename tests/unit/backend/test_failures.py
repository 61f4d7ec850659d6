"""The failure table of edge/protocol/callbacks/SPEC.md, row by row, against a real server that fails on command."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import replace
from email.utils import formatdate
from itertools import groupby

import pytest

from edge.backend.base import Expired, Refused, Release
from edge.backend.dialer import Target
from edge.backend.http11 import Answer
from edge.backend.redirects import advice
from edge.config import PoolSettings, RouteSettings, TimeoutSettings
from edge.protocol.callbacks.actions import NOTHING, BadResult, Result, Send
from edge.protocol.callbacks.wire import JSON_TYPE, MSGPACK_TYPE
from tests.unit.backend.scripted import Backend, Behaviour, Desk, Request, desk_and_backend, echo, good, http

SHORT = TimeoutSettings(request_s=0.3, connect_s=0.5, retry_window_s=0.8)
QUICK = RouteSettings(timeouts=TimeoutSettings(request_s=0.3, connect_s=0.5, retry_window_s=20))
ONE_SLOT = replace(QUICK, pool=PoolSettings(slots=1))


def first_then_good(answer: bytes | None) -> Behaviour:
    """The first request gets this answer (None: none at all), all others a good one."""

    async def behave(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        return answer if request.number == 1 else echo(request)

    return behave


def delivered(desk: Desk) -> None:
    """Every event was answered with its own id, in order."""
    for box in desk.boxes:
        assert box.outcomes == [
            (f"{box.session}:{n}", Result((Send(f"{box.session}:{n}"),))) for n in range(1, box.count + 1)
        ]


RETRYABLE = {
    "408": http(408),
    "425": http(425),
    "429": http(429),
    "500": http(500, b"oops"),
    "502": http(502),
    "503": http(503),
    "504": http(504),
    "599, which nobody planned for": http(599),
    "201": http(201, b"{}"),
    "200 with garbage": http(200, b"<h1>It works!</h1>"),
    "200 with another type": http(200, b'{"results": []}', "text/html"),
    "200 cut short": http(200, b'{"results": [')[:-3] + b"   ",
    "not HTTP": b"SSH-2.0-OpenSSH\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    "headers without end": b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 20_000,
    "one endless header": b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 200_000,
    "a huge header": b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 70_000 + b"\r\n\r\n",
    "no answer in time": None,
}


@pytest.mark.parametrize("name", RETRYABLE)
async def test_what_is_retried(name: str) -> None:
    async with desk_and_backend(first_then_good(RETRYABLE[name]), QUICK) as (desk, backend):
        desk.box().put()
        await desk.all_done()
        delivered(desk)
        assert [event["attempt"] for request in backend.requests for event in request.events] == [1, 2]
        assert desk.meters.events_retried.value == 1


@pytest.mark.parametrize("cut", [b"", b"HTTP/1.1 200 OK\r\nConte", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
async def test_an_answer_that_breaks_off_is_retried(cut: bytes) -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        if request.number > 1:
            return echo(request)
        writer.write(cut)
        await writer.drain()
        writer.transport.close()
        return None

    async with desk_and_backend(behave, QUICK) as (desk, _):
        desk.box().put()
        await desk.all_done()
        delivered(desk)
        assert desk.meters.request_failures["reset"].value == 1


async def test_an_answer_that_is_too_large_is_not_read_to_its_end() -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        if request.number > 1:
            return echo(request)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.transport.is_closing():
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
        return None

    route = replace(QUICK, timeouts=replace(QUICK.timeouts, request_s=10))
    async with desk_and_backend(behave, route) as (desk, _):
        desk.box().put()
        await desk.all_done()
        delivered(desk)
        assert desk.meters.request_failures["garbage"].value == 1


async def test_an_answer_that_drips_is_cut_at_the_deadline() -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        if request.number > 1:
            return echo(request)
        for byte in http(200, b'{"results": [{"actions": []}]}' + b" " * 5000):
            writer.write(bytes([byte]))
            await asyncio.sleep(0.005)
        return None

    async with desk_and_backend(behave, QUICK) as (desk, _):
        desk.box().put()
        await desk.all_done()
        delivered(desk)
        assert desk.meters.request_failures["timeout"].value == 1


async def test_204_means_no_actions_for_any_of_them() -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        return b"HTTP/1.1 204 No Content\r\n\r\n"

    async with desk_and_backend(behave, ONE_SLOT) as (desk, backend):
        for _ in range(30):
            desk.box().put()
        await desk.all_done()
        assert all(box.outcomes == [(f"{box.session}:1", NOTHING)] for box in desk.boxes)
        assert len(backend.requests) == 1


async def test_a_refused_event_ends_with_status_end_to_end_headers_and_body() -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        return http(403, b"x" * 100_000, "text/plain", "WWW-Authenticate: Bearer", "Keep-Alive: timeout=5")

    async with desk_and_backend(behave, QUICK) as (desk, backend):
        box = desk.box()
        box.put()
        await desk.all_done()
        headers = (("Content-Type", "text/plain"), ("WWW-Authenticate", "Bearer"))
        assert box.outcomes == [("s0:1", Refused(403, headers, b"x" * 65_536))]
        assert len(backend.requests) == 1
        assert desk.meters.events_refused.value == 1


async def test_a_redirect_is_a_verdict_and_worth_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        return http(302, b"", JSON_TYPE, f"Location: http://127.0.0.1:{writer.get_extra_info('sockname')[1]}/other")

    async with desk_and_backend(behave, QUICK) as (desk, backend):
        for _ in range(10):
            desk.box().put()
        await desk.all_done()
        assert all(box.outcomes == [(f"{box.session}:1", Refused(502, (), b""))] for box in desk.boxes)
        assert all(request.line.startswith("POST / ") for request in backend.requests)
    (line,) = [line for line in caplog.messages if "redirect" in line]
    port = backend.port
    assert f"status 302 from http://127.0.0.1:{port}/; set callback_path" in line
    assert line.endswith(f"requests go to http://127.0.0.1:{port}/other")


@pytest.mark.parametrize(
    ("location", "goal"),
    [
        (None, "the final URL"),
        ("", "the final URL"),
        ("/edge/", "http://backend:80/edge/"),
        ("edge/", "http://backend:80/edge/"),
        ("//elsewhere/x", "http://elsewhere/x"),
        ("http://[bad", "the final URL"),
        ("/\x1b[31m", "the final URL"),
        ("/" + "x" * 1_000, "http://backend:80/" + "x" * 282),
    ],
)
def test_the_advice_on_a_redirect_names_where_it_leads(location: str | None, goal: str) -> None:
    headers = [] if location is None else [(b"Location", location.encode("latin-1"))]
    answer = Answer(307, headers, b"")
    target = Target(tls=False, host="backend", port=80, authority="backend:80", path="/edge")
    expected = f"status 307 from http://backend:80/edge; set callback_path so that requests go to {goal}"
    assert advice(answer, target) == expected


@pytest.mark.parametrize("status", [500, 422])
async def test_one_poison_event_in_a_batch_of_64_ends_alone(status: int) -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        return http(status, b"poison") if "s40:1" in request.ids else echo(request)

    timeouts = replace(QUICK.timeouts, retry_window_s=2.0)
    async with desk_and_backend(behave, replace(ONE_SLOT, timeouts=timeouts)) as (desk, backend):
        boxes = [desk.box() for _ in range(64)]
        for box in boxes:
            box.put()
        await desk.all_done()
        assert len(backend.requests[0].events) == 64
        outcomes = {box.session: box.outcomes for box in boxes}
        [(_, poisoned)] = outcomes.pop("s40")
        assert all(found == [(f"{name}:1", Result((Send(f"{name}:1"),)))] for name, found in outcomes.items())
        if status == 500:
            assert poisoned == Expired("status 500", 5)
        else:
            assert isinstance(poisoned, Refused)
            # Six halvings, both halves each time.
            assert len(backend.requests) == 13


async def test_a_poison_event_of_one_session_does_not_overtake_or_lose_its_neighbours() -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        return http(400) if "s0:3" in request.ids else echo(request)

    async with desk_and_backend(behave, QUICK) as (desk, backend):
        box = desk.box()
        box.put(events=8)
        await desk.all_done()
        assert [id for id, _ in box.outcomes] == [f"s0:{n}" for n in range(1, 9)]
        assert [id for id, outcome in box.outcomes if isinstance(outcome, Refused)] == ["s0:3"]
        # The state went along as it was when each request left.
        seen = {request.ids[0]: request.events[0]["version"] for request in backend.requests}
        assert seen["s0:4"] == 3


async def test_events_left_out_of_results_are_retried_alone_and_in_order() -> None:
    left_out: list[str] = []

    async def behave(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        if request.number == 1:
            left_out.extend(["s0:2", "s3:1"])
            return echo(request, but=left_out)
        return echo(request)

    async with desk_and_backend(behave, ONE_SLOT) as (desk, backend):
        boxes = [desk.box() for _ in range(5)]
        boxes[0].put(events=3)
        for box in boxes[1:]:
            box.put()
        await desk.all_done()
        delivered(desk)
        assert sorted(request.ids for request in backend.requests[1:]) == [["s0:2"], ["s3:1"]]


async def test_a_backend_that_never_answers_an_event_is_given_up_on() -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        return echo(request, but=["s1:1"])

    async with desk_and_backend(behave, RouteSettings(timeouts=SHORT)) as (desk, _):
        for _ in range(3):
            desk.box().put()
        await desk.all_done()
        assert desk.boxes[1].outcomes == [("s1:1", Expired("event left out of results", 5))]
        assert desk.meters.events_delivered.value == 2


async def test_a_bad_result_is_not_retried_and_spoils_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        return echo(request).replace(b'"type": "send", "text": "s1:1"', b'"type": "shout","text": "s1:1"')

    async with desk_and_backend(behave, ONE_SLOT) as (desk, backend):
        for _ in range(3):
            desk.box().put()
        await desk.all_done()
        [(_, outcome)] = desk.boxes[1].outcomes
        assert isinstance(outcome, BadResult)
        assert outcome.field == "actions[0].type"
        assert len(backend.requests) == 1
        assert desk.meters.bad_results.value == 1
    assert "actions[0].type: unknown action shout" in caplog.text


async def test_the_window_ends_retrying_with_the_last_error() -> None:
    async def behave(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        return http(503, b"", JSON_TYPE, "Retry-After: 60")

    async with desk_and_backend(behave, RouteSettings(timeouts=SHORT)) as (desk, backend):
        box = desk.box()
        box.put()
        await desk.all_done()
        assert box.outcomes == [("s0:1", Expired("status 503", 60))]
        # At once, and a last time when the window ends: Retry-After is honoured, but bounded by the window.
        assert [request.events[0]["attempt"] for request in backend.requests] == [1, 2]
        assert desk.meters.events_expired.value == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_is_honoured(form: str) -> None:
    times: list[float] = []

    async def behave(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        times.append(asyncio.get_running_loop().time())
        if len(times) > 1:
            return echo(request)
        value = "1" if form == "seconds" else formatdate(desk.clock.wall_ms() / 1000 + 2, usegmt=True)
        return http(503, b"", JSON_TYPE, f"Retry-After: {value}")

    async with desk_and_backend(behave, QUICK) as (desk, _):
        desk.box().put()
        await desk.all_done()
        assert times[1] - times[0] >= 0.95


async def test_429_halves_the_requests_in_flight_and_they_recover() -> None:
    now = peak = 0
    all_here = asyncio.Event()

    async def behave(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        nonlocal now, peak
        now += 1
        peak = max(peak, now)
        if now == 8:
            all_here.set()
        try:
            if request.number == 1:
                await asyncio.wait_for(all_here.wait(), 30)
                return http(429)
            await asyncio.sleep(0.01 if all_here.is_set() else 0.05)
            return echo(request)
        finally:
            now -= 1

    route = replace(QUICK, pool=PoolSettings(slots=8, batch_events=1))
    async with desk_and_backend(behave, route) as (desk, _):
        boxes = [desk.box() for _ in range(32)]

        async def round_of_events() -> int:
            nonlocal peak
            peak = 0
            for box in boxes:
                box.put()
            await desk.all_done()
            return peak

        # The first one waits for all eight: however slow the machine is at opening connections, they come together.
        first = await round_of_events()
        later = [await round_of_events() for _ in range(4)]
        delivered(desk)
    assert first == 8
    assert max(later) == 8


async def test_refused_connections_expire_what_waits() -> None:
    backend = Backend()
    await backend.start()
    await backend.stop()
    desk = Desk(backend.release, RouteSettings(timeouts=SHORT))
    try:
        boxes = [desk.box() for _ in range(100)]
        for box in boxes:
            box.put(events=3)
        await desk.all_done()
        for box in boxes:
            assert [outcome for _, outcome in box.outcomes] == [Expired("connection refused", 5)] * 3
    finally:
        desk.close()


async def test_ten_thousand_sessions_wait_quietly_and_all_go_when_the_backend_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    backend = Backend()
    await backend.start()
    await backend.stop()
    desk = Desk(backend.release, RouteSettings())
    try:
        for _ in range(10_000):
            desk.box().put()
        await desk.until(lambda: desk.meters.request_failures["connect"].value >= 20)
        assert desk.meters.requests.value == 0
        await backend.start()
        await desk.all_done()
        delivered(desk)
        assert all(event["attempt"] == 1 for request in backend.requests for event in request.events)
        assert len(backend.requests) < 1_000
    finally:
        desk.close()
        await backend.stop()
    assert sum(" is away: " in line for line in caplog.messages) == 1
    assert sum(" is back after " in line for line in caplog.messages) == 1


async def test_a_backend_that_answers_500_to_everything_is_tried_one_request_at_a_time() -> None:
    broken = True

    async def behave(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        return http(500) if broken else echo(request)

    async with desk_and_backend(behave, QUICK) as (desk, backend):
        for _ in range(5_000):
            desk.box().put()
        await desk.until(lambda: len(backend.requests) >= 22)
        assert desk.meters.in_flight.value <= 1
        broken = False
        await desk.all_done()
        delivered(desk)


async def test_msgpack_is_spoken_to_a_release_that_does_and_json_to_one_that_no_longer_does() -> None:
    packs = True

    async def behave(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        packed = request.headers["content-type"] == MSGPACK_TYPE
        if not packs:
            return http(415) if packed else echo(request)
        if packed:
            return echo(request)
        return http(200, bytes.fromhex("81a7726573756c747390"), MSGPACK_TYPE)

    async with desk_and_backend(behave, QUICK) as (desk, backend):
        box = desk.box()
        box.put()
        await desk.all_done()
        packs = False
        box.put()
        await desk.all_done()
        delivered(desk)
        types = [request.headers["content-type"] for request in backend.requests]
        assert types == [JSON_TYPE, MSGPACK_TYPE, MSGPACK_TYPE, JSON_TYPE]


async def test_following_sessions_are_retried_at_the_release_they_have_now() -> None:
    new = Backend()
    await new.start()
    try:
        async with desk_and_backend(route=QUICK) as (desk, old):
            await old.stop()
            for _ in range(50):
                desk.box().put(events=2)
            await desk.until(lambda: desk.meters.request_failures["connect"].value >= 2)
            desk.release = Release("app", "sha2", new.release.url)
            desk.client.releases_changed()
            await desk.all_done()
            delivered(desk)
            assert {event["release"] for request in new.requests for event in request.events} == {"sha2"}
    finally:
        await new.stop()


async def test_letters_under_way_follow_too() -> None:
    async def broken(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        return http(500)

    new = Backend()
    await new.start()
    try:
        async with desk_and_backend(broken, QUICK) as (desk, old):
            for _ in range(20):
                desk.box().put(events=2)
            await desk.until(lambda: len(old.requests) >= 3)
            desk.release = Release("app", "sha2", new.release.url)
            await desk.all_done()
            delivered(desk)
            assert {event["release"] for request in new.requests for event in request.events} == {"sha2"}
            assert all(event["attempt"] > 1 for request in new.requests for event in request.events)
    finally:
        await new.stop()


async def test_a_server_restarted_20_times_under_load_settles_every_event_once_and_in_order() -> None:
    repeated: list[str] = []

    async def slow(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        # An event may come again after a failure, but never once the edge has its answer, and never out of order.
        for session, ids in groupby(request.ids, lambda id: id.partition(":")[0]):
            numbers = [int(id.partition(":")[2]) for id in ids]
            settled = len(desk.boxes[int(session[1:])].outcomes)
            if numbers != list(range(settled + 1, settled + 1 + len(numbers))):
                repeated.append(f"{session}: {numbers} after {settled}")
        await asyncio.sleep(0.002)
        return echo(request)

    async with desk_and_backend(slow, QUICK) as (desk, backend):
        boxes = [desk.box() for _ in range(200)]
        rounds = 0

        def feed() -> None:
            nonlocal rounds
            if rounds < 60:
                rounds += 1
                for box in boxes:
                    box.put()
                desk.wheel.after(40, feed)

        feed()
        for _ in range(20):
            seen = len(backend.requests)
            await desk.until(lambda seen=seen: len(backend.requests) > seen + 5 or rounds == 60)  # type: ignore[misc]
            await backend.stop()
            await backend.start()
        await desk.until(lambda: rounds == 60)
        await desk.all_done()
        delivered(desk)
        assert not repeated
        seen_ids = Counter(id for request in backend.requests for id in request.ids)
        assert len(seen_ids) == 200 * 60


async def test_gone_sessions_are_reported_once_it_can_be_said() -> None:
    async with desk_and_backend(first_then_good(http(503)), QUICK) as (desk, backend):
        for n in range(2_000):
            desk.client.report_gone("app", f"g{n}")
        desk.client.report_gone("another", "not yours")
        desk.box().put()
        await desk.all_done()
        desk.box().put()
        await desk.all_done()
        expected = [f"g{n}" for n in range(2_000 - 1_024, 2_000)]
        assert [request.content.get("gone") for request in backend.requests] == [expected, expected, None]


async def test_drain_says_what_is_left() -> None:
    async def hang(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        return None if request.ids == ["s1:1"] else await good(request, writer)

    route = replace(QUICK, pool=PoolSettings(batch_events=1), timeouts=replace(QUICK.timeouts, request_s=10))
    async with desk_and_backend(hang, route) as (desk, _):
        for _ in range(3):
            desk.box().put()
        assert await desk.client.drain(0.3) == 1
        assert desk.meters.events_delivered.value == 2
