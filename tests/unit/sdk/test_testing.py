"""The test edge, and through it what apps do: every order takes effect as the specification says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from backend_sdk import (
    App,
    Close,
    Gap,
    Message,
    Open,
    Position,
    Refused,
    Reject,
    ReleaseChanged,
    Session,
    Timer,
    actions,
)
from backend_sdk.errors import Unavailable
from backend_sdk.testing import BackendFailed, Closed, Rejected, SyncTestEdge, TestEdge


def room() -> App:
    """A chat room that uses most orders."""
    app = App(secrets=["new", "old"])

    @app.on_open
    async def opened(session: Session, event: Open) -> None:
        name = event.request.header("x-name")
        if name is None:
            raise Reject(401, "say your name", {"WWW-Authenticate": "Name"})
        session.accept("chat.v1", [("X-Room", "a")])
        session.identify(name)
        session.state["seen"] = []
        session.subscribe("room")

    @app.on_message
    async def message(session: Session, event: Message) -> None:
        session.state["seen"].append(event.payload if isinstance(event.payload, str) else len(event.payload))
        session.publish("room", event.payload, except_self=True)
        session.send_json({"n": len(session.state["seen"]), "user": session.user})

    @app.on_close
    async def closed(session: Session, event: Close) -> None:
        session.publish("room", f"{session.user} left: {event.cause} {event.code}")

    return app


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_a_room_from_handshake_to_goodbye(encoding: Literal["json", "msgpack"]) -> None:
    async with TestEdge(room(), encoding=encoding) as edge:
        ada = await edge.connect(headers={"X-Name": "ada"}, subprotocols=["chat.v1"])
        bob = await edge.connect(headers=[("X-Name", "bob")])
        assert (ada.subprotocol, ada.headers, ada.user) == ("chat.v1", [("X-Room", "a")], "ada")
        assert ada.channels == {"room"}
        await ada.send("hi")
        await ada.send(b"\x00\xff")
        assert bob.received == ["hi", b"\x00\xff"]
        assert ada.received_json == [{"n": 1, "user": "ada"}, {"n": 2, "user": "ada"}]
        assert ada.state == {"seen": ["hi", 2]}
        assert ada.version == 3
        assert ada.last_actions[0] == actions.publish("room", b"\x00\xff", except_self=True)
        await ada.close(1001, "bye")
        assert ada.closed == Closed(1001, "bye")
        assert bob.received[-1] == "ada left: client 1001"
        assert edge.position("room") == Position(3, "epoch-1")
        assert edge.history("room") == ["hi", b"\x00\xff", "ada left: client 1001"]
        with pytest.raises(ConnectionError):
            await ada.send("too late")


async def test_reject_by_exception_and_by_order() -> None:
    app = room()
    async with TestEdge(app) as edge:
        with pytest.raises(Rejected) as refusal:
            await edge.connect()
        assert (refusal.value.status, refusal.value.text) == (401, "say your name")
        assert refusal.value.headers == (("WWW-Authenticate", "Name"),)

    plain = App()

    @plain.on_open
    async def opened(session: Session, event: Open) -> None:
        session.reject(404, "no such room")

    async with TestEdge(plain) as edge:
        with pytest.raises(Rejected, match="404 no such room"):
            await edge.connect("/nowhere")


def test_sync_twin() -> None:
    with SyncTestEdge(room()) as edge:
        ada = edge.connect(headers={"X-Name": "ada"})
        bob = edge.connect(headers={"X-Name": "bob"})
        with edge.batch():
            ada.send("one")
            bob.send("two")
            assert ada.received == bob.received == []
        assert ada.received == ['{"n":1,"user":"ada"}', "two"]
        bob.vanish("edge-lost")
        assert ada.received[-1] == "bob left: edge-lost 1006"


async def test_wrong_secret_is_a_verdict() -> None:
    async with TestEdge(room(), secrets=["forged"]) as edge:
        with pytest.raises(Rejected, match=r"401 .*no v1 signature matches"):
            await edge.connect(headers={"X-Name": "mallory"})


async def test_timers_run_at_their_time_in_order() -> None:
    app = App()

    @app.on_message
    async def message(session: Session, event: Message) -> None:
        if event.text == "cancel":
            session.cancel_timer("late")
            return
        session.timer("late", 2_000, {"n": [1]})
        session.timer("tick", 500)

    @app.on_timer("tick")
    async def tick(session: Session, event: Timer) -> None:
        session.send(f"tick {event.at}")
        session.timer("tick", 1_000)

    @app.on_timer
    async def other(session: Session, event: Timer) -> None:
        session.send_json([event.name, event.data])

    async with TestEdge(app) as edge:
        client = await edge.connect()
        start = edge.now_ms
        await client.send("set")
        await edge.advance(499)
        assert client.received == []
        await edge.advance(1_501)
        assert client.received == [f"tick {start + 500}", f"tick {start + 1_500}", '["late",{"n":[1]}]']
        await client.send("set")
        await client.send("cancel")
        assert set(client.timers) == {"tick"}


async def test_lost_answers_are_given_again_without_running_the_handler_again() -> None:
    app = App()
    runs: list[tuple[str, int]] = []

    @app.on_message
    async def message(session: Session, event: Message) -> None:
        runs.append((event.id, event.attempt))
        session.state["n"] = session.state.get("n", 0) + 1
        session.send(f"n={session.state['n']}")

    async with TestEdge(app) as edge:
        client = await edge.connect()
        edge.lose_answers(2)
        async with edge.batch():
            await client.send("a")
            await client.send("b")
        assert client.received == ["n=1", "n=2"]
        assert client.state == {"n": 2}
        assert runs == [(f"{client.id}:2", 1), (f"{client.id}:3", 1)]


async def test_without_memory_the_handler_runs_again() -> None:
    app = App(dedupe_size=0)
    attempts: list[int] = []

    @app.on_message
    async def message(session: Session, event: Message) -> None:
        attempts.append(event.attempt)

    async with TestEdge(app) as edge:
        client = await edge.connect()
        edge.lose_answers()
        await client.send("a")
    assert attempts == [1, 2]


async def test_a_failing_handler_is_tried_again_and_holds_back_later_events(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    seen: list[str] = []

    @app.on_message
    async def message(session: Session, event: Message) -> None:
        seen.append(f"{session.id[:2]} {event.text} {event.attempt}")
        session.state["last"] = event.text
        if event.text == "bad" and event.attempt < 3:
            raise RuntimeError("the database is away")
        session.send(event.text)

    async with TestEdge(app, attempts=3) as edge:
        one, two = await edge.connect(), await edge.connect()
        async with edge.batch():
            await one.send("bad")
            await one.send("after")
            await two.send("fine")
        assert one.received == ["bad", "after"]
        assert two.received == ["fine"]
        assert seen == ["s1 bad 1", "s2 fine 1", "s1 bad 2", "s1 bad 3", "s1 after 3"]
    assert caplog.text.count("RuntimeError: the database is away") == 2
    caplog.clear()

    async with TestEdge(app) as edge:
        client = await edge.connect()
        with pytest.raises(BackendFailed, match=":2: status 500") as failure:
            await client.send("bad")
        assert isinstance(failure.value.__cause__, RuntimeError)


async def test_subscribe_since_replays_or_tells_the_gap() -> None:
    app = App()
    gaps: list[Gap] = []

    @app.on_message
    async def message(session: Session, event: Message) -> None:
        offset, epoch = event.json()
        session.subscribe("news", Position(offset, epoch))

    @app.on_gap
    async def gap(session: Session, event: Gap) -> None:
        gaps.append(event)

    async with TestEdge(app, history=3) as edge:
        client = await edge.connect()
        for number in range(5):
            edge.publish("news", f"n{number + 1}")
        await client.send_json([3, edge.position("news").epoch])
        assert client.received == ["n4", "n5"]
        assert not edge.publish("news", "x", id="k") or not edge.publish("news", "x", id="k")
        assert client.received == ["n4", "n5", "x"]
        await client.send_json([1, edge.position("news").epoch])
        await client.send_json([6, "another life"])
        assert [(gap.channel, gap.since.offset, gap.position.offset) for gap in gaps] == [
            ("news", 1, 6),
            ("news", 6, 6),
        ]


async def test_orders_for_another_session_and_for_one_that_is_gone() -> None:
    app = App()
    gone: list[str] = []

    @app.on_message
    async def message(session: Session, event: Message) -> None:
        other = session.to(event.text)
        assert other.id == event.text
        other.send("psst", id="once")
        other.send("psst", id="once")

    @app.on_gone
    async def on_gone(session: str) -> None:
        gone.append(session)

    async with TestEdge(app) as edge:
        one, two = await edge.connect(), await edge.connect()
        await one.send(two.id)
        assert two.received == ["psst"]
        await two.close()
        await one.send(two.id)
        assert gone == []
        await one.send(one.id)
        assert gone == [two.id, two.id]


async def test_releases_and_pins() -> None:
    app = App()

    @app.on_message
    async def message(session: Session, event: Message) -> None:
        session.pin(event.text or None)

    @app.on_release
    async def moved(session: Session, event: ReleaseChanged) -> None:
        session.send(f"{event.from_release} -> {event.to_release}, now {session.release}")

    async with TestEdge(app, release="a") as edge:
        free, pinned = await edge.connect(), await edge.connect()
        await pinned.send("a")
        await edge.promote("b")
        assert free.received == ["a -> b, now b"]
        assert pinned.received == []
        await pinned.send("")
        assert pinned.received == ["a -> b, now b"]


async def test_backend_closes() -> None:
    app = App()
    causes: list[str] = []

    @app.on_message
    async def message(session: Session, event: Message) -> None:
        session.send("last words")
        session.close(4000, "bye")

    @app.on_close
    async def closed(session: Session, event: Close) -> None:
        causes.append(f"{event.id.partition(':')[2]} {event.cause} {event.code} {event.clean}")

    async with TestEdge(app) as edge:
        client = await edge.connect()
        await client.send("x")
        assert client.received == ["last words"]
        assert client.closed == Closed(4000, "bye")
    assert causes == ["close backend 4000 True"]


async def test_mounted_app_and_lifespan() -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def life(_: object) -> AsyncIterator[None]:
        steps.append("up")
        yield
        steps.append("down")

    app = App("secret", lifespan=life)

    @app.on_message
    def echo(session: Session, event: Message) -> None:
        session.send(event.payload)

    async with TestEdge(app) as edge:
        assert steps == ["up"]
        await (await edge.connect()).send("x")
    assert steps == ["up", "down"]

    outer = Starlette(routes=[Mount("/edge", app), Mount("/", App())])
    async with TestEdge(outer, path="/edge/", secrets=["secret"]) as edge:
        client = await edge.connect()
        await client.send("mounted")
        assert client.received == ["mounted"]


async def test_a_start_that_fails_is_told() -> None:
    @asynccontextmanager
    async def life(_: object) -> AsyncIterator[None]:
        raise RuntimeError("no database")
        yield

    with pytest.raises(RuntimeError, match="no database"):
        await TestEdge(App(lifespan=life)).__aenter__()


async def test_parallel_sessions_wait_together(caplog: pytest.LogCaptureFixture) -> None:
    """Each handler waits for all the others: only running at the same time gets them through."""
    caplog.set_level(logging.WARNING)
    app = App()
    barrier = asyncio.Barrier(5)

    @app.on_message
    async def message(session: Session, event: Message) -> None:
        async with asyncio.timeout(20):
            await barrier.wait()
        session.send("through")

    async with TestEdge(app) as edge:
        clients = [await edge.connect() for _ in range(5)]
        async with edge.batch():
            for client in clients:
                await client.send("go")
        assert [client.received for client in clients] == [["through"]] * 5
    assert caplog.text == ""


def fragile(refusals: list[Refused]) -> App:
    """Orders of every kind, by name, and what it is told of them."""
    app = App()

    @app.on_open
    async def opened(session: Session, event: Open) -> None:
        if event.request.path == "/stateful":
            session.state["here"] = True

    @app.on_message
    async def message(session: Session, event: Message) -> None:
        session.send("got " + event.text)
        match event.text:
            case "state":
                session.state["n"] = 1
            case "subscribe":
                session.subscribe("room")
            case "publish":
                session.publish("room", "news")
            case "id":
                session.send("once", id="k1")
            case "timer":
                session.timer("later", 10)
            case "leave":
                session.publish("room", "gone")
                session.close()

    @app.on_refused
    async def refused(session: Session, event: Refused) -> None:
        refusals.append(event)
        session.send("sorry")

    return app


async def test_a_store_that_is_away_refuses_what_needs_it() -> None:
    refusals: list[Refused] = []
    async with TestEdge(fragile(refusals)) as edge:
        ada = await edge.connect()
        edge.store_away = True
        await ada.send("plain")
        assert ada.received == ["got plain"]
        assert refusals == []
        for text in ("state", "subscribe", "id", "timer"):
            ada.received.clear()
            await ada.send(text)
            assert ada.received == ["sorry"], text
            assert refusals[-1].error == "nothing of it was done: Redis stayed away"
        assert (ada.state, ada.version, ada.channels, ada.timers) == ({}, 0, set(), {})
        assert [event.of for event in refusals] == [f"{ada.id}:{n}" for n in (3, 5, 7, 9)]
        ada.received.clear()
        await ada.send("publish")
        assert ada.received == ["got publish", "sorry"]
        assert refusals[-1].error == "publish to 'room': Redis stayed away"
        with pytest.raises(Rejected, match="503 session store unavailable"):
            await edge.connect("/stateful")
        await ada.send("leave")
        assert ada.closed == Closed(1000, "")
        assert len(refusals) == 5, "a session that is over is told nothing any more"
        with pytest.raises(Unavailable):
            edge.publish("room", "from outside")

        edge.store_away = False
        bob = await edge.connect("/stateful")
        for text in ("state", "subscribe", "id", "publish"):
            await bob.send(text)
        assert bob.received == ["got state", "got subscribe", "got id", "once", "got publish", "news"]
        assert bob.state == {"here": True, "n": 1}
        assert len(refusals) == 5


async def test_without_a_handler_a_refused_answer_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.on_message
    async def message(session: Session, event: Message) -> None:
        session.publish("room", event.text)

    async with TestEdge(app) as edge:
        client = await edge.connect()
        edge.store_away = True
        await client.send("x")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    for part in (client.id, f"event {client.id}:2", "publish to 'room': Redis stayed away"):
        assert part in record.getMessage()


async def test_insisting_while_the_store_is_away_ends_the_test() -> None:
    app = App()

    @app.on_message
    async def message(session: Session, event: Message) -> None:
        session.state["n"] = 1

    @app.on_refused
    async def refused(session: Session, event: Refused) -> None:
        session.state["n"] = 1

    async with TestEdge(app) as edge:
        client = await edge.connect()
        edge.store_away = True
        with pytest.raises(BackendFailed, match="refused again 10 times"):
            await client.send("x")
