"""The app as an HTTP handler: negotiation, order, repeats, threads, refusals."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import httpx
import msgpack
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from backend_sdk import App, Message, Other, Session
from backend_sdk.signature import HEADER, sign
from backend_sdk.wire import JSON_TYPE, MSGPACK_TYPE
from tests.unit.sdk.serving import served


def event(id: str, **fields: Any) -> dict[str, Any]:
    """A message event, unless `fields` say otherwise."""
    common = {"id": id, "session": id.split(":")[0], "type": "message", "attempt": 1, "at": 1, "release": "r"}
    return {**common, "user": None, "text": "hi", **fields}


def body(*events: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"edge": "e", "events": events, **more}).encode()


def client(app: App, **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://backend",
        headers={"content-type": JSON_TYPE, "accept": JSON_TYPE, **headers},
    )


async def results(app: App, *events: dict[str, Any], **more: Any) -> dict[str, dict[str, Any]]:
    async with client(app) as backend:
        answer = await backend.post("/", content=body(*events, **more))
    assert answer.status_code == 200
    return {result["id"]: result for result in answer.json()["results"]}


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        (f"{MSGPACK_TYPE}, {JSON_TYPE}", MSGPACK_TYPE),
        (f"{JSON_TYPE}, {MSGPACK_TYPE}", MSGPACK_TYPE),
        (JSON_TYPE, JSON_TYPE),
        ("*/*", JSON_TYPE),
    ],
)
async def test_answers_msgpack_to_whoever_takes_it(accept: str, answered: str) -> None:
    app = App()

    @app.on_message
    async def echo(session: Session, event: Message) -> None:
        session.send(b"\x00")

    async with client(app, accept=accept) as backend:
        for _ in range(2):  # the second time from memory
            answer = await backend.post("/", content=body(event("s1:1")))
            assert answer.headers["content-type"] == answered
            if answered == MSGPACK_TYPE:
                assert msgpack.unpackb(answer.content)["results"][0]["actions"] == [{"type": "send", "data": b"\x00"}]
            else:
                assert answer.json()["results"][0]["actions"] == [{"type": "send", "data": {"b64": "AA=="}}]


async def test_a_repeat_is_answered_in_the_encoding_asked_for() -> None:
    app = App()

    @app.on_message
    async def echo(session: Session, event: Message) -> None:
        session.send(b"\x00")

    async with client(app) as backend:
        await backend.post("/", content=body(event("s1:1")), headers={"accept": MSGPACK_TYPE})
        answer = await backend.post("/", content=body(event("s1:1")))
        assert answer.json() == {"results": [{"id": "s1:1", "actions": [{"type": "send", "data": {"b64": "AA=="}}]}]}
        answer = await backend.post("/", content=body(event("s1:1")), headers={"accept": MSGPACK_TYPE})
        assert msgpack.unpackb(answer.content)["results"][0]["actions"][0]["data"] == b"\x00"


async def test_events_without_a_handler_and_of_unknown_types() -> None:
    app = App()
    seen: list[Other] = []

    @app.on("detach")
    async def detach(session: Session, event: Other) -> None:
        seen.append(event)

    answered = await results(app, event("s1:1"), event("s1:2", type="detach", why="x"), event("s1:3", type="resume"))
    assert answered == {id: {"id": id} for id in ("s1:1", "s1:2", "s1:3")}
    assert seen[0].fields == {"text": "hi", "why": "x"}
    assert seen[0].type == "detach"


async def test_state_and_user_carry_over_also_from_remembered_answers() -> None:
    app = App()
    seen: list[tuple[str, str | None, dict[str, Any], int]] = []

    @app.on_message
    async def count(session: Session, event: Message) -> None:
        seen.append((event.id, session.user, dict(session.state), session.version))
        session.state["n"] = session.state.get("n", 0) + 1
        session.state.pop("old", None)
        session.identify(f"user-{session.state['n']}")

    first = event("s1:1", state={"old": 1}, version=4)
    await results(app, first)
    await results(app, first, event("s1:2"))
    assert seen == [("s1:1", None, {"old": 1}, 4), ("s1:2", "user-1", {"n": 1}, 5)]


async def test_an_event_that_is_running_is_waited_for() -> None:
    app = App()
    go, runs = asyncio.Event(), 0
    started = asyncio.Event()

    @app.on_message
    async def slow(session: Session, event: Message) -> None:
        nonlocal runs
        runs += 1
        started.set()
        await go.wait()
        session.send(f"run {runs}")

    first = asyncio.create_task(results(app, event("s1:1")))
    await started.wait()
    repeats = [asyncio.create_task(results(app, event("s1:1", attempt=2))) for _ in range(3)]
    async with asyncio.timeout(20):
        while app.repeats.waiting("s1:1") < 3:
            await asyncio.sleep(0)
    go.set()
    answers = await asyncio.gather(first, *repeats)
    assert runs == 1
    assert all(answer["s1:1"]["actions"] == [{"type": "send", "text": "run 1"}] for answer in answers)


async def test_when_the_running_one_fails_the_waiting_one_runs() -> None:
    app = App()
    go, started, attempts = asyncio.Event(), asyncio.Event(), list[int]()

    @app.on_message
    async def flaky(session: Session, event: Message) -> None:
        attempts.append(event.attempt)
        started.set()
        await go.wait()
        if event.attempt == 1:
            raise RuntimeError("no")

    async with client(app) as backend:
        first = asyncio.create_task(backend.post("/", content=body(event("s1:1"))))
        await started.wait()
        second = asyncio.create_task(backend.post("/", content=body(event("s1:1", attempt=2))))
        async with asyncio.timeout(20):
            while app.repeats.waiting("s1:1") == 0:
                await asyncio.sleep(0)
        go.set()
        assert (await first).status_code == 500
        assert (await second).status_code == 200
    assert attempts == [1, 2]


async def test_a_cancelled_request_lets_its_event_go() -> None:
    app = App()
    started, hang = asyncio.Event(), True

    @app.on_message
    async def slow(session: Session, event: Message) -> None:
        started.set()
        if hang:
            await asyncio.Event().wait()

    first = asyncio.create_task(results(app, event("s1:1"), event("s2:1")))
    await started.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    hang = False
    async with asyncio.timeout(20):
        assert set(await results(app, event("s1:1"), event("s2:1"))) == {"s1:1", "s2:1"}


async def test_partial_failure_leaves_out_the_session_from_there_on() -> None:
    app = App()

    @app.on_message
    async def handle(session: Session, event: Message) -> None:
        if event.text == "bad":
            session.send("never seen")
            raise ValueError(event.text)

    answered = await results(
        app, event("s1:1"), event("s1:2", text="bad"), event("s1:3"), event("s2:1"), event("s3:1", text="bad")
    )
    assert set(answered) == {"s1:1", "s2:1"}
    async with client(app) as backend:
        answer = await backend.post("/", content=body(event("s4:1", text="bad")))
    assert answer.status_code == 500
    assert "ValueError" not in answer.text


async def test_plain_handlers_run_in_threads_unless_told_otherwise() -> None:
    here = threading.get_ident()
    threads: dict[str, int] = {}

    def record(session: Session, event: Message) -> None:
        threads[session.id] = threading.get_ident()
        session.send("x")

    for name, app in {"default": App(), "inline": App(threads=0)}.items():
        app.on_message(record)
        assert (await results(app, event(f"{name}:1")))[f"{name}:1"]["actions"]
        app.handlers.close()
    app = App()
    app.on_message(inline=True)(record)
    await results(app, event("one:1"))
    assert threads["default"] != here
    assert threads["inline"] == threads["one"] == here


async def test_blocking_handlers_of_several_sessions_run_at_the_same_time() -> None:
    app = App(threads=4)
    together = threading.Barrier(4)

    @app.on_message
    def block(session: Session, event: Message) -> None:
        together.wait(20)

    assert len(await results(app, *(event(f"s{number}:1") for number in range(4)))) == 4
    app.handlers.close()


async def test_a_late_order_is_refused() -> None:
    app = App()
    kept: list[Session] = []

    @app.on_message
    async def handle(session: Session, event: Message) -> None:
        kept.append(session)
        session.state["n"] = 1

    await results(app, event("s1:1"))
    with pytest.raises(ValueError, match="the handler has returned"):
        kept[0].send("late")
    with pytest.raises(ValueError, match="the handler has returned"):
        kept[0].to("s2").send("late")
    with pytest.raises(ValueError, match="the handler has returned"):
        kept[0].state["n"] = 2


async def test_gone_handlers_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    told: list[str] = []

    @app.on_gone
    def gone(session: str) -> None:
        told.append(session)
        raise RuntimeError("no")

    assert set(await results(app, event("s1:1"), gone=["s7", "s8"])) == {"s1:1"}
    assert told == ["s7", "s8"]
    assert caplog.text.count("on_gone handler failed") == 2
    app.handlers.close()


async def test_too_large_a_body_is_refused_announced_or_not() -> None:
    app = App(max_body_bytes=100)

    async def chunks() -> Any:
        for _ in range(11):
            yield b"x" * 10

    async with client(app) as backend:
        announced = await backend.post("/", content=b"x" * 101)
        streamed = await backend.post("/", content=chunks())
    assert (announced.status_code, streamed.status_code) == (413, 413)
    assert "100 bytes" in announced.text


async def test_get_explains_and_other_paths_are_taken() -> None:
    async with client(App()) as backend:
        answer = await backend.get("/")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert "Holdfast backend" in answer.text
        assert (await backend.post("/any/path", content=body())).json() == {"results": []}


async def test_an_app_alone_passes_health_checks() -> None:
    app = Starlette(routes=[Mount("/edge", App(secrets=["s" * 32]))])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://backend") as backend:
        for method in ("GET", "HEAD"):
            assert (await backend.request(method, "/edge/healthz")).status_code == 200
        assert (await backend.post("/edge/healthz", content=body())).status_code == 401


def test_wrong_registration_and_settings_are_refused() -> None:
    app = App()
    app.on_message(lambda session, event: None)
    with pytest.raises(ValueError, match="a handler for message"):
        app.on_message(lambda session, event: None)
    app.on_timer("a")(lambda session, event: None)
    with pytest.raises(ValueError, match="a handler for timer a"):
        app.on_timer("a")(lambda session, event: None)
    with pytest.raises(TypeError, match="must be a function"):
        app.on_gone(5)  # type: ignore[type-var]
    with pytest.raises(ValueError, match="empty secret"):
        App([""])
    with pytest.raises(ValueError, match="positive"):
        App(replay_window_s=0)
    assert App("one").secrets == (b"one",)


def test_on_a_real_server_signed_and_mounted() -> None:
    app = App(["new", "old"])

    @app.on_message
    async def echo(session: Session, event: Message) -> None:
        session.send(event.text.upper())

    content = body(event("s1:1", text="größer"))
    with served(Starlette(routes=[Mount("/edge", app)])) as url, httpx.Client(base_url=url) as backend:
        headers = {"content-type": JSON_TYPE, "accept": MSGPACK_TYPE}
        assert backend.post("/edge/", content=content, headers=headers).status_code == 401
        headers[HEADER] = sign([b"older", b"old"], int(time.time()), content)
        answer = backend.post("/edge/", content=content, headers=headers)
        assert msgpack.unpackb(answer.content)["results"][0]["actions"] == [{"type": "send", "text": "GRÖSSER"}]
        assert backend.get("/edge/").status_code == 405
    with served(app) as url, httpx.Client(base_url=url) as backend:
        assert backend.post("/", content=content, headers=headers).status_code == 200


async def test_a_shadow_knows_that_it_is_one_and_does_not_pass_for_the_real_thing() -> None:
    app = App()
    handled: list[tuple[str, bool]] = []

    @app.on_message
    async def note(session: Session, event: Message) -> None:
        handled.append((event.id, session.shadow))
        session.send("shadow" if session.shadow else "real")

    said = []
    async with client(app) as backend:
        for headers in ({"holdfast-shadow": "1"}, {}, {}, {"holdfast-shadow": "1"}):
            answer = await backend.post("/", content=body(event("s1:1")), headers=headers)
            said.append(answer.json()["results"][0]["actions"][0]["text"])
    assert said == ["shadow", "real", "real", "shadow"]
    assert handled == [("s1:1", True), ("s1:1", False), ("s1:1", True)]  # the repeat is answered from memory
