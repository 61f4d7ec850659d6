"""Where Holdfast goes further than Pushpin with WebSockets over HTTP: what ends there stays here, or ends politely."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.grip.events import EVENTS, GRIP, OPEN, Script, event, order, text, told
from tests.support.client import Ending, RecordingClient, connect
from tests.support.grip_proxy import EdgeOptions, GripEdge, GripRoute, publish, ws_url
from tests.support.journal import Journal
from tests.support.ports import free_port
from tests.support.processes import Backend
from tests.support.raw_backend import Answer, Asked, raw_backend
from tests.support.raw_websocket import client_frame, raw_websocket
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario

ECHO = "tests.scenarios.grip.echo_backend:app"
RESTARTS = 20


def edge_with(tmp_path: Path, url: str, **route: Mapping[str, Any]) -> GripEdge:
    return GripEdge(tmp_path, GripRoute([url]), options=EdgeOptions(route=route))


async def converse(client: RecordingClient, name: str, stop: asyncio.Event) -> int:
    """Say one thing after another, each when the one before is answered; how many were said."""
    said = 0
    while not stop.is_set():
        await client.send(f"{name} {said}")
        said += 1
        await client.expect(said)
    return said


async def test_connections_outlive_twenty_restarts_of_their_backend_under_traffic(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        journal = Journal(tmp_path / "journal")
        backend = await stack.enter_async_context(Backend(tmp_path, ECHO, journal=journal))
        edge = await stack.enter_async_context(edge_with(tmp_path, backend.url))
        idle = await stack.enter_async_context(connect(ws_url(edge)))
        talking = [await stack.enter_async_context(connect(ws_url(edge))) for _ in range(3)]
        stop = asyncio.Event()
        talks = [asyncio.create_task(converse(client, f"c{n}", stop)) for n, client in enumerate(talking)]
        for number in range(RESTARTS):
            before = [len(client.messages) for client in talking]
            await (backend.restart() if number % 2 else restart_politely(backend))
            for client, count in zip(talking, before, strict=True):
                await client.expect(count + 2)
        stop.set()
        counts = await asyncio.gather(*talks)
        for n, (client, count) in enumerate(zip(talking, counts, strict=True)):
            said = [str(message).partition(" from ")[0] for message in client.messages]
            assert said == [f"c{n} {number}" for number in range(count)], "each is answered once, and in order"
            assert client.ending is None
        assert len({str(message).partition(" from ")[2] for message in talking[0].messages}) > RESTARTS // 2
        await idle.send("still here")
        await idle.expect(1)
        assert [entry["type"] for entry in journal.entries()] == ["OPEN"] * 4, "no backend ever heard of an end"


async def restart_politely(backend: Backend) -> None:
    await backend.sigterm()
    await backend.start()


async def test_what_one_backend_does_wrong_disturbs_no_other_connection(tmp_path: Path) -> None:
    async def bad(asked: Asked) -> Answer | bytes:
        match asked.body:
            case b"OPEN\r\n":
                return told(OPEN, text("c:{not json"), order(type="subscribe"), text("m:in"), headers=GRIP)
            case body if body == text("500"):
                return Answer("500 Oops", [], b"no")
            case body if body == text("garbage"):
                return b"\x16\x03\x01 this is not HTTP\r\n\r\n"
            case body if body == text("events"):
                return Answer("200 OK", [("Content-Type", EVENTS)], b"TEXT zz\r\n")
            case body if body == text("type"):
                return Answer("200 OK", [("Content-Type", "text/html")], b"<p>")
            case body if body == text("silence"):
                await asyncio.Event().wait()
        return told(text("m:ok"))

    reasons = {
        "500": "backend answered 500",
        "garbage": "backend's answer is not HTTP, or too large",
        "events": "backend's events are malformed",
        "type": "backend's answer is not application/websocket-events",
        "silence": "backend did not answer in time",
    }
    async with AsyncExitStack() as stack:
        worse, good = [await stack.enter_async_context(raw_backend(respond)) for respond in (bad, Script())]
        routes = GripRoute([worse.url], path="/bad"), GripRoute([good.url], path="/good")
        options = EdgeOptions(route={"timeouts": {"request_s": 2.0}})
        edge = await stack.enter_async_context(GripEdge(tmp_path, *routes, options=options))
        sane = await stack.enter_async_context(connect(ws_url(edge, "/good")))
        beside = await stack.enter_async_context(connect(ws_url(edge, "/bad")))
        for said, reason in reasons.items():
            async with connect(ws_url(edge, "/bad")) as client:
                assert await client.expect(1) == ["in"]
                await client.send(said)
                assert await client.ended() == Ending(1011, reason)
        await sane.send("hello")
        assert await sane.expect(1) == ["hello"]
        await beside.send("hello")
        assert await beside.expect(2) == ["in", "ok"]
        assert "malformed control message" in edge.log()


async def test_a_busy_backend_is_asked_again_when_it_says(tmp_path: Path) -> None:
    refusals = [Answer("503 Busy", [("Retry-After", "1")]), Answer("429 Slow Down", [("Retry-After", "0")])]

    async def respond(asked: Asked) -> Answer | bytes:
        if asked.body == text("x") and refusals:
            return refusals.pop(0)
        return await Script()(asked)

    async with raw_backend(respond) as backend, edge_with(tmp_path, backend.url) as edge:
        async with connect(ws_url(edge)) as client:
            await client.send("x")
            await backend.request(1)
            await client.send("y")
            assert await client.expect(2) == ["x", "y"]
        assert [asked.body for asked in backend.asked[1:5]] == [text("x")] * 3 + [text("y")]


async def test_large_messages_pass_both_ways(tmp_path: Path) -> None:
    large = "ä" * 400_000
    script = Script(None, {text("large"): told(text(large))})
    limits = {"message_bytes": 1_000_000, "frame_bytes": 1_000_000}
    async with (
        raw_backend(script) as backend,
        edge_with(tmp_path, backend.url, limits=limits) as edge,
        connect(ws_url(edge)) as client,
    ):
        await client.send("large")
        assert await client.expect(1) == [large]
        await client.send(large)
        assert await client.expect(2) == [large, large]


async def test_a_close_code_that_cannot_be_sent_is_a_normal_end(tmp_path: Path) -> None:
    script = Script(None, {text("end"): told(event("CLOSE", b"\x00\x00"))})
    async with (
        raw_backend(script) as backend,
        edge_with(tmp_path, backend.url) as edge,
        connect(ws_url(edge)) as client,
    ):
        await client.send("end")
        assert await client.ended() == Ending(1000, "")


async def test_the_edge_answers_pings_where_it_is_told_to(tmp_path: Path) -> None:
    async with raw_backend(Script()) as backend, edge_with(tmp_path, backend.url, grip={"auto_pong": True}) as edge:
        async with raw_websocket(edge.port) as client:
            client.write(client_frame(9, b"there?") + client_frame(1, b"x"))
            assert await client.frame() == (0x8A, b"there?")
            assert await client.frame() == (0x81, b"x")
        assert [asked.body for asked in backend.asked[:2]] == [OPEN, text("x")]


async def test_a_client_that_does_not_read_is_not_asked_about_and_misses_nothing(tmp_path: Path) -> None:
    answer = "x" * 100_000
    script = Script(None, {})

    async def respond(asked: Asked) -> Answer | bytes:
        if asked.body == OPEN:
            return await script(asked)
        return told(*(text(answer) for _ in range(asked.body.count(b"TEXT"))))

    async with (
        raw_backend(respond) as backend,
        edge_with(tmp_path, backend.url) as edge,
        raw_websocket(edge.port, receive_bytes=4096) as client,
    ):
        asked = -1
        messages = 0
        while asked != len(backend.asked):  # until what is said makes no more requests
            asked = len(backend.asked)
            client.write(client_frame(1, b"more"))
            messages += 1
            await settled(partial(more_than, backend.asked, asked))
        for _ in range(messages):
            assert await client.frame() == (0x81, answer.encode())


def more_than(things: Sequence[object], count: int) -> bool:
    return len(things) > count


async def settled(more: Callable[[], bool]) -> None:
    """Wait for `more`, or for long enough to believe that it does not come."""
    try:
        await wait_until(more, "there is more", deadline_s=2)
    except AssertionError:
        return


async def test_an_edge_that_goes_down_says_so_to_both_sides(tmp_path: Path) -> None:
    async with raw_backend(Script(told(OPEN, order(type="subscribe", channel="a"), headers=GRIP))) as backend:
        async with edge_with(tmp_path, backend.url) as edge, connect(ws_url(edge)) as client:
            await publish(edge, {"channel": "a", "formats": {"ws-message": {"content": "hello"}}})
            await client.expect(1)
            edge.sigterm()
            assert await client.ended() == Ending(1012, "service restart")
            assert await edge.exit_code() == 0
        assert [asked.body for asked in backend.asked] == [OPEN, event("DISCONNECT")]


async def test_a_backend_that_was_away_hears_of_clients_that_went_meanwhile(tmp_path: Path) -> None:
    port = free_port()
    async with edge_with(tmp_path, f"http://127.0.0.1:{port}") as edge, AsyncExitStack() as stack:
        async with raw_backend(Script(), port):
            client = await stack.enter_async_context(connect(ws_url(edge)))
        client.abort()
        async with raw_backend(Script(), port) as backend:
            assert (await backend.request(0)).body == event("DISCONNECT")


async def test_a_slow_client_is_named(tmp_path: Path) -> None:
    opening = told(OPEN, order(type="subscribe", channel="a"), headers=GRIP)
    limits = {"outbox_bytes": 200_000}
    async with (
        raw_backend(Script(opening)) as backend,
        edge_with(tmp_path, backend.url, limits=limits) as edge,
        raw_websocket(edge.port, receive_bytes=4096) as slow,
        connect(ws_url(edge)) as quick,
    ):
        address = "{}:{}".format(*slow.writer.get_extra_info("sockname"))
        published = 0
        while f"client {address}: closed" not in edge.log():
            assert published < 5_000
            await publish(edge, {"channel": "a", "formats": {"ws-message": {"content": "x" * 100_000}}})
            published += 1
            await quick.expect(published)
