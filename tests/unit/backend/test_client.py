"""The deliverer against a real HTTP server that does as it is told."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import socket

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as WebRequest
from starlette.responses import JSONResponse
from starlette.routing import Route

from edge.backend.base import Release
from edge.backend.client import UNUSED_MS, BackendClient
from edge.clock import ManualClock
from edge.config import PoolSettings, RouteSettings, Secret
from edge.protocol.callbacks.actions import Result, Send
from edge.telemetry.metrics import Metrics
from edge.wheel import Wheel
from tests.unit.backend.scripted import Backend, Box, Desk, Request, desk_and_backend, echo, http


async def test_an_event_is_delivered_and_its_answer_settled() -> None:
    async with desk_and_backend() as (desk, backend):
        box = desk.box()
        box.put()
        await desk.all_done()
        assert box.outcomes == [("s0:1", Result((Send("s0:1"),)))]
        request = backend.requests[0]
        assert request.line == "POST / HTTP/1.1"
        assert request.headers["holdfast-edge"] == "edge-1"
        assert request.headers["holdfast-release"] == "sha1"
        assert await desk.client.drain(1) == 0


async def test_many_mailboxes_share_requests_and_keep_their_order() -> None:
    async with desk_and_backend() as (desk, backend):
        boxes = [desk.box() for _ in range(200)]
        for _ in range(20):
            for box in boxes:
                box.put()
        await desk.all_done()
        for box in boxes:
            assert [id for id, _ in box.outcomes] == [f"{box.session}:{n}" for n in range(1, 21)]
        assert desk.meters.events_delivered.value == 4000
        assert len(backend.requests) < 4000 / 4
        assert backend.connections <= desk.route.pool.slots


async def test_a_session_takes_several_events_along_up_to_the_batch_size() -> None:
    route = RouteSettings(pool=PoolSettings(slots=1, batch_events=4))
    async with desk_and_backend(route=route) as (desk, backend):
        for _ in range(3):
            desk.box().put(events=5)
        await desk.all_done()
        assert max(len(request.events) for request in backend.requests) == 4
        for request in backend.requests:
            # State and version stand with each session's first event only.
            events = request.events
            first = {event["session"]: event for event in reversed(events)}
            assert all(("version" in event) == (first[event["session"]] is event) for event in events)


async def test_large_events_do_not_fill_one_request() -> None:
    route = RouteSettings(pool=PoolSettings(slots=1, batch_bytes=10_000))
    async with desk_and_backend(route=route) as (desk, backend):
        for _ in range(6):
            desk.box().put("x" * 6_000)
        desk.box().put("x" * 60_000)
        await desk.all_done()
        assert max(len(request.events) for request in backend.requests) <= 2


async def test_one_slow_request_holds_up_neither_other_sessions_nor_single_events() -> None:
    release = asyncio.Event()

    async def behave(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        if "s0:1" in request.ids:
            await release.wait()
        return echo(request)

    async with desk_and_backend(behave) as (desk, backend):
        desk.box().put()
        await desk.until(lambda: len(backend.requests) == 1)
        others = [desk.box() for _ in range(50)]
        for box in others:
            box.put(events=3)
        await desk.until(lambda: all(box.done for box in others))
        assert not desk.boxes[0].done
        release.set()
        await desk.all_done()


async def test_requests_are_signed_with_every_secret() -> None:
    route = RouteSettings(secrets=[Secret("new"), Secret("old")], callback_path="/cb")
    async with desk_and_backend(route=route) as (desk, backend):
        desk.box().put()
        await desk.all_done()
        [request] = backend.requests
        assert request.line == "POST /cb HTTP/1.1"
        stamp, *found = request.headers["holdfast-signature"].split(",")
        message = stamp.removeprefix("t=").encode() + b"." + request.body
        assert found == [f"v1={hmac.digest(secret, message, 'sha256').hex()}" for secret in (b"new", b"old")]


async def test_against_uvicorn_and_starlette() -> None:
    async def view(request: WebRequest) -> JSONResponse:
        events = json.loads(await request.body())["events"]
        return JSONResponse(
            {"results": [{"id": e["id"], "actions": [{"type": "send", "text": e["id"]}]} for e in events]},
            media_type="application/json",
        )

    listener = socket.create_server(("127.0.0.1", 0))
    app = Starlette(routes=[Route("/", view, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    desk = Desk(Release("app", "sha1", f"http://127.0.0.1:{listener.getsockname()[1]}"), RouteSettings())
    try:
        boxes = [desk.box() for _ in range(100)]
        for box in boxes:
            box.put(events=5)
        await desk.all_done()
        for box in boxes:
            expected = [f"{box.session}:{n}" for n in range(1, 6)]
            assert box.outcomes == [(id, Result((Send(id),))) for id in expected]
    finally:
        desk.close()
        server.should_exit = True
        await serving
        listener.close()


async def test_a_release_nobody_uses_any_more_keeps_no_connection() -> None:
    backend = Backend()
    await backend.start()
    desk = Desk(backend.release, RouteSettings())
    clock = ManualClock()
    wheel = Wheel(clock)
    desk.client.close()
    desk.client = BackendClient("e", clock, wheel, Metrics(), asyncio.get_running_loop())
    try:
        Box(desk, "a").put()
        await desk.until(lambda: len(backend.requests) == 1 and desk.client.open_events == 0)
        assert desk.client.pools == 1
        for _ in range(4):
            clock.advance(UNUSED_MS // 2)
            wheel.advance()
        assert desk.client.pools == 0
        Box(desk, "b").put()
        await desk.until(lambda: len(backend.requests) == 2 and desk.client.open_events == 0)
    finally:
        desk.close()
        await backend.stop()


@pytest.mark.parametrize("url", ["nonsense", "http://u:p@x/"])
async def test_a_url_that_no_backend_can_have_raises_nothing(url: str, caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(Release("app", "sha1", url), RouteSettings())
    try:
        desk.box().put()
        await desk.until(lambda: desk.meters.request_failures["connect"].value > 0)
        assert not desk.boxes[0].done
        assert "is away: name not found" in caplog.text
    finally:
        desk.close()


async def test_a_retry_waits_until_the_answers_before_it_are_applied() -> None:
    """The state a retry is sent with must be the one that the answers to earlier events have led to."""

    async def whole_batches_fail(request: Request, writer: asyncio.StreamWriter) -> bytes:
        if len(request.ids) > 1:
            return http(500)
        box.settling = request.ids == ["s0:1"]
        return echo(request)

    async with desk_and_backend(whole_batches_fail) as (desk, backend):
        box = desk.box()
        box.put(events=2)
        await desk.until(lambda: len(box.outcomes) == 1)
        alarm = asyncio.Event()
        desk.wheel.after(200, alarm.set)
        await alarm.wait()
        assert [request.ids for request in backend.requests] == [["s0:1", "s0:2"], ["s0:1"]]
        assert desk.client.open_events == 1
        box.settling = False
        await desk.all_done()
        assert backend.requests[-1].events[0]["version"] == 1


async def test_requests_carry_a_traceparent_when_the_route_asks_for_it() -> None:
    async with desk_and_backend(route=RouteSettings(tracing=True, secrets=(Secret("x" * 16),))) as (desk, backend):
        desk.box().put()
        await desk.all_done()
        headers = backend.requests[0].headers
        assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", headers["traceparent"])
        assert "holdfast-signature" in headers
