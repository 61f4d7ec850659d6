"""WebSocket-over-HTTP as backends written for Pushpin know it: each promise is held against Pushpin and against us."""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.scenarios.grip.conftest import StartProxy
from tests.scenarios.grip.events import EVENTS, GRIP, OPEN, Script, event, order, text, told
from tests.scenarios.grip.subscribed import subscribed
from tests.support.client import Ending, RecordingClient, connect
from tests.support.grip_proxy import GripProxy, GripRoute, publish, ws_url
from tests.support.ports import free_port
from tests.support.raw_backend import Answer, RawBackend, raw_backend
from tests.support.raw_websocket import client_frame, raw_websocket
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario


def bodies(backend: RawBackend) -> list[bytes]:
    return [asked.body for asked in backend.asked]


async def in_force(proxy: GripProxy, client: RecordingClient, *channels: str) -> None:
    """Return when the client hears what is published to these."""
    for channel in channels:

        async def say(text: str, channel: str = channel) -> None:
            await publish(proxy, message(channel, text))

        await subscribed(client, say)


async def out_of_force(proxy: GripProxy, client: RecordingClient, channel: str, *, witness: str) -> None:
    """Return when the client hears no more of what is published to `channel`; of `witness` it does. As `in_force`."""

    async def silent() -> bool:
        heard, told = client.messages.count("heard?"), client.messages.count("heard.")
        await publish(proxy, message(channel, "heard?"), message(witness, "heard."))
        await client.expect_that(lambda messages: messages.count("heard.") > told, f"{witness} is heard")
        return client.messages.count("heard?") == heard

    await wait_until(silent, f"nothing is heard of {channel}")
    client.messages[:] = [each for each in client.messages if each not in ("heard?", "heard.")]


def message(channel: str, content: str, **fields: object) -> dict[str, object]:
    return {"channel": channel, "formats": {"ws-message": {"content": content, **fields}}}


async def test_requests_say_who_asks_and_hide_what_is_between_client_and_proxy(
    tmp_path: Path, start_proxy: StartProxy
) -> None:
    opening = told(
        OPEN, headers={"Set-Meta-User": "alice", "X-App": "7", "Set-Cookie": "a=b", "Keep-Alive-Interval": "60"}
    )
    script = Script(
        opening, {text("forget"): told(text("forgot"), headers={"set-meta-user": "", "Set-Meta-Room": "r 1"})}
    )
    async with raw_backend(script) as backend, start_proxy(tmp_path, GripRoute([backend.url])) as proxy:
        said = {
            "Cookie": "c=1", "Authorization": "Basic eDp5", "X-Own": "kept", "Origin": "http://here",
            "Meta-User": "mallory", "Connection-Id": "forged", "Grip-Sig": "forged", "Grip-Hold": "stream",
            "Accept": "text/html", "Accept-Encoding": "gzip", "Content-Type": "text/plain", "Keep-Alive": "5",
        }  # fmt: skip
        async with connect(ws_url(proxy, "/room/a%20b?x=1&y=%2F"), additional_headers=said) as client:
            assert client.response_headers["x-app"] == "7"
            assert client.response_headers["set-cookie"] == "a=b"
            assert not {"set-meta-user", "keep-alive-interval", "content-type", "content-length"} & {
                *client.response_headers
            }
            for content in ("forget", "more"):
                await client.send(content)
            await client.expect(2)
        first, forget, more = backend.asked[:3]
    assert [asked.body for asked in (first, forget, more)] == [OPEN, text("forget"), text("more")]
    for asked in (first, forget, more):
        assert (asked.method, asked.target) == ("POST", "/room/a%20b?x=1&y=%2F")
        assert asked.header("accept") == EVENTS
        assert (asked.header("content-type") or "").endswith(EVENTS)
        assert asked.header("host") == f"127.0.0.1:{proxy.port}"
        assert asked.header("sec-websocket-extensions") == "grip"
        assert asked.header("content-length") == str(len(asked.body))
        assert [asked.header(name) for name in ("cookie", "authorization", "x-own", "origin")] == [
            "c=1", "Basic eDp5", "kept", "http://here",
        ]  # fmt: skip
        assert asked.header("sec-websocket-version") == "13"
        assert asked.header("sec-websocket-key")
        assert "status" in (asked.header("grip-feature") or "")
        assert (asked.header("grip-sig") or "").count(".") == 2
        assert not {"upgrade", "connection", "keep-alive", "grip-hold", "transfer-encoding"} & asked.names()
    assert len({asked.header("connection-id") for asked in (first, forget, more)}) == 1
    assert uuid.UUID(first.header("connection-id"))
    assert [asked.header("meta-user") for asked in (first, forget, more)] == [None, "alice", None]
    assert more.header("meta-room") == "r 1"


async def test_what_a_client_says_while_a_request_is_out_goes_together_and_in_order(
    tmp_path: Path, start_proxy: StartProxy
) -> None:
    script = Script()
    async with (
        raw_backend(script) as backend,
        start_proxy(tmp_path, GripRoute([backend.url])) as proxy,
        connect(ws_url(proxy)) as client,
    ):
        script.gate.clear()
        await client.send("one")
        await backend.request(1)
        await client.send("two")
        await client.send(b"\x00\xff")
        await client.send("größer")
        # A frame that is there with the others, so that all of them are.
        async with connect(ws_url(proxy)) as other:
            await other.send("elsewhere")
            await wait_until(lambda: text("elsewhere") in bodies(backend), "the other connection is on its own")
            script.gate.set()
            assert await client.expect(4) == ["one", "two", b"\x00\xff", "größer"]
            assert await other.expect(1) == ["elsewhere"]
    together = [body for body in bodies(backend) if body.startswith(text("two"))]
    assert together[0].startswith(text("two") + event("BINARY", b"\x00\xff"))


async def test_one_event_goes_in_each_request_where_that_is_asked_for(tmp_path: Path, start_proxy: StartProxy) -> None:
    script = Script()
    async with raw_backend(script) as backend:
        async with (
            start_proxy(tmp_path, GripRoute([backend.url], one_event=True)) as proxy,
            connect(ws_url(proxy)) as client,
        ):
            script.gate.clear()
            for content in ("one", "two", "three"):
                await client.send(content)
            await backend.request(1)
            script.gate.set()
            assert await client.expect(3) == ["one", "two", "three"]
        assert bodies(backend)[1:4] == [text("one"), text("two"), text("three")]


async def test_a_client_is_told_what_the_backend_meant_for_it(tmp_path: Path, start_proxy: StartProxy) -> None:
    with_orders = told(
        OPEN, order(type="subscribe", channel="news"), text("!hello"), text("m:not the prefix"), headers={
            "Sec-WebSocket-Extensions": 'grip; message-prefix="!"'
        },
    )  # fmt: skip
    answers = {
        text("mixed"): told(text("c:not json"), text('c:{"type": "no such"}'), text("c:[]"), event("BINARY", b"!\x01"),
                            event("BINARY", b"?\x01"), event("SOMETHING", "new"), event("TEXT", "!"), text("!last")),
    }  # fmt: skip
    async with (
        raw_backend(Script(with_orders, answers)) as backend,
        start_proxy(tmp_path, GripRoute([backend.url])) as proxy,
        connect(ws_url(proxy)) as client,
    ):
        assert await client.expect(1) == ["hello"]
        await client.send("mixed")
        assert await client.expect(4) == ["hello", b"\x01", "", "last"]
        await publish(proxy, message("news", "m:!c: as it is"))
        assert (await client.expect(5))[4] == "m:!c: as it is"


async def test_without_the_extension_nothing_is_an_order(tmp_path: Path, start_proxy: StartProxy) -> None:
    opening = told(OPEN, order(type="detach"), text("plain"))
    async with (
        raw_backend(Script(opening)) as backend,
        start_proxy(tmp_path, GripRoute([backend.url])) as proxy,
        connect(ws_url(proxy)) as client,
    ):
        assert await client.expect(2) == ['c:{"type": "detach"}', "plain"]
        await client.send("echo")
        assert (await client.expect(3))[2] == "echo"


async def test_publications_reach_subscribers_in_every_form(tmp_path: Path, start_proxy: StartProxy) -> None:
    opening = told(OPEN, order(type="subscribe", channel="a"), text("m:in"), headers=GRIP)
    answers = {
        text("leave"): told(
            order(type="unsubscribe", channel="a"), order(type="unsubscribe", channel="all"), text("m:left")
        )
    }
    async with raw_backend(Script(opening, answers)) as backend:
        route = GripRoute([backend.url], subscribe=["all"], prefix="p-")
        async with start_proxy(tmp_path, route) as proxy, connect(ws_url(proxy)) as client:
            await client.expect(1)
            await in_force(proxy, client, "p-a", "all")
            await publish(proxy, message("p-a", "text"))
            binary = {"channel": "p-a", "formats": {"ws-message": {"content-bin": "AAE="}}}
            await publish(proxy, binary, message("all", "to all"), message("a", "nobody"))
            await client.expect(4)
            assert sorted(map(repr, client.messages)) == sorted(map(repr, ["in", "text", b"\x00\x01", "to all"]))
            await client.send("leave")
            await client.expect(5)
            await out_of_force(proxy, client, "p-a", witness="all")
            await publish(proxy, message("p-a", "gone"), message("all", "still here"))
            assert (await client.expect(6))[5] == "still here"


async def test_pings_and_pongs_pass_both_ways(tmp_path: Path, start_proxy: StartProxy) -> None:
    script = Script(
        None, {event("PING", "are you there"): told(event("PONG", "I am")), text("ping"): told(event("PING"))}
    )
    async with (
        raw_backend(script) as backend,
        start_proxy(tmp_path, GripRoute([backend.url])) as proxy,
        raw_websocket(proxy.port) as client,
    ):
        client.write(client_frame(9, b"are you there"))
        assert await client.frame() == (0x8A, b"I am")
        client.write(client_frame(1, b"ping"))
        assert await client.frame() == (0x89, b"")
        client.write(client_frame(10, b""))
        await wait_until(lambda: event("PONG") in bodies(backend), "the pong has come through")


@pytest.mark.parametrize(
    ("answer", "ending"),
    [
        (event("CLOSE", b"\x0f\xa0why not"), Ending(4000, "why not")),
        (event("CLOSE"), Ending(1000, "")),
        (text("first") + event("DISCONNECT"), Ending(1006, "")),
    ],
)
async def test_a_backend_ends_the_connection(
    tmp_path: Path, start_proxy: StartProxy, answer: bytes, ending: Ending
) -> None:
    async with (
        raw_backend(Script(None, {text("end"): told(answer)})) as backend,
        start_proxy(tmp_path, GripRoute([backend.url])) as proxy,
        connect(ws_url(proxy)) as client,
    ):
        await client.send("end")
        assert await client.ended() == ending
        if ending.code != 1006:
            # The client's half of it.
            back = event("CLOSE", ending.code.to_bytes(2) + ending.reason.encode())
            assert (await backend.request(2)).body == back


async def test_a_client_may_be_let_in_only_to_be_told_something(tmp_path: Path, start_proxy: StartProxy) -> None:
    opening = told(
        OPEN, text("too late"), event("CLOSE", b"\x0f\xa0"), headers={"Sec-WebSocket-Protocol": "chat.v2"}
    )  # fmt: skip
    async with (
        raw_backend(Script(opening)) as backend,
        start_proxy(tmp_path, GripRoute([backend.url])) as proxy,
        connect(ws_url(proxy), subprotocols=["chat.v1", "chat.v2"]) as client,
    ):
        assert await client.ended() == Ending(4000, "")
        assert (client.messages, client.subprotocol) == (["too late"], "chat.v2")


async def test_an_answer_that_was_cut_short_is_shown_as_far_as_it_came(tmp_path: Path, start_proxy: StartProxy) -> None:
    cut = Answer(headers=[("Content-Type", EVENTS)], body=text("whole") + b"TEXT 10\r\npart")
    async with (
        raw_backend(Script(None, {text("x"): cut})) as backend,
        start_proxy(tmp_path, GripRoute([backend.url])) as proxy,
        connect(ws_url(proxy)) as client,
    ):
        await client.send("x")
        assert await client.expect(2) == ["whole", "part"]


@pytest.mark.parametrize(
    ("code", "reason", "told_backend", "answer", "ending"),
    [
        (4001, "tired", event("CLOSE", b"\x0f\xa1tired"), None, Ending(4001, "tired")),
        (1000, "", event("CLOSE", b"\x03\xe8"), event("CLOSE", b"\x0f\xa2bye"), Ending(4002, "bye")),
        (1000, "", event("CLOSE", b"\x03\xe8"), event("CLOSE"), Ending(1000, "")),
    ],
)
async def test_a_client_says_goodbye(
    tmp_path: Path,
    start_proxy: StartProxy,
    code: int,
    reason: str,
    told_backend: bytes,
    answer: bytes | None,
    ending: Ending,
) -> None:
    script = Script(None, {} if answer is None else {told_backend: told(answer)})
    async with raw_backend(script) as backend, start_proxy(tmp_path, GripRoute([backend.url])) as proxy:
        async with connect(ws_url(proxy)) as client:
            assert await client.close(code, reason) == ending
        assert (await backend.request(1)).body == told_backend


async def test_a_client_that_vanishes_is_reported_alone(tmp_path: Path, start_proxy: StartProxy) -> None:
    async with raw_backend(Script()) as backend, start_proxy(tmp_path, GripRoute([backend.url])) as proxy:
        async with connect(ws_url(proxy)) as client:
            await client.send("hello")
            await client.expect(1)
            client.abort()
            last = await backend.request(2)
        assert last.body == event("DISCONNECT")
        assert last.header("connection-id") == backend.asked[0].header("connection-id")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Answer("403 Forbidden", [("X-Why", "tuesday"), ("Content-Type", "text/x")], b"not you"), 403),
        (Answer("200 OK", [("Content-Type", f"{EVENTS}; charset=utf-8")], OPEN), 200),
        (told(text("no OPEN")), 502),
        (told(), 502),
        (Answer("200 OK", [("Content-Type", EVENTS)], b"OPEN"), 502),
    ],
)
async def test_a_handshake_is_refused(tmp_path: Path, start_proxy: StartProxy, answer: Answer, status: int) -> None:
    async with raw_backend(Script(answer)) as backend, start_proxy(tmp_path, GripRoute([backend.url])) as proxy:
        with pytest.raises(InvalidStatus) as refusal:
            async with connect(ws_url(proxy)):
                pass
        response = refusal.value.response
        assert response.status_code == status
        if status != 502:
            assert response.body == answer.body
        if status == 403:
            assert (response.headers["X-Why"], response.headers["Content-Type"]) == ("tuesday", "text/x")
        assert bodies(backend) == [OPEN], "and nothing more is said of it"


async def test_the_next_target_takes_clients_when_the_first_cannot_be_reached(
    tmp_path: Path, start_proxy: StartProxy
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with raw_backend(Script()) as backend:
        routes = GripRoute([nowhere, backend.url]), GripRoute([nowhere], path="/lost")
        async with start_proxy(tmp_path, *routes) as proxy:
            async with connect(ws_url(proxy)) as client:
                await client.send("found")
                assert await client.expect(1) == ["found"]
            with pytest.raises(InvalidStatus) as refusal:
                async with connect(ws_url(proxy, "/lost")):
                    pass
            assert refusal.value.response.status_code == 502


async def test_a_detached_connection_is_only_published_to(tmp_path: Path, start_proxy: StartProxy) -> None:
    opening = told(OPEN, order(type="subscribe", channel="a"), headers=GRIP)
    answers = {text("detach"): told(order(type="detach"), text("m:detached"))}
    async with raw_backend(Script(opening, answers)) as backend:
        async with start_proxy(tmp_path, GripRoute([backend.url])) as proxy, connect(ws_url(proxy)) as client:
            await in_force(proxy, client, "a")
            await client.send("detach")
            await client.expect(1)
            assert (await backend.request(2)).body == event("CLOSE")
            await client.send("into the void")
            await publish(proxy, message("a", "still there"))
            assert (await client.expect(2))[1] == "still there"
            await client.close(4005)
        assert bodies(backend) == [OPEN, text("detach"), event("CLOSE")]


async def test_a_publication_closes_connections_with_its_code(tmp_path: Path, start_proxy: StartProxy) -> None:
    opening = told(OPEN, order(type="subscribe", channel="a"), text("m:in"), headers=GRIP)
    async with (
        raw_backend(Script(opening)) as backend,
        start_proxy(tmp_path, GripRoute([backend.url])) as proxy,
        connect(ws_url(proxy)) as client,
    ):
        await client.expect(1)
        await in_force(proxy, client, "a")
        close = {"action": "close", "code": 4003, "reason": "over"}
        await publish(proxy, {"channel": "a", "formats": {"ws-message": close}})
        assert await client.ended() == Ending(4003, "over")
        assert (await backend.request(1)).body == event("CLOSE")


async def test_orders_about_later_messages_are_carried_out(tmp_path: Path, start_proxy: StartProxy) -> None:
    answers = {
        text("later"): told(
            order(type="send-delayed", content="one"), order(type="send-delayed", content="two", timeout=30),
            text("m:now"),
        ),
        text("flush"): told(order(type="flush-delayed"), text("m:flushed")),
        text("keep"): told(order(type="keep-alive", content="alive", timeout=1)),
        text("stop"): told(order(type="keep-alive"), text("m:stopped")),
        text("ping"): told(order(**{"type": "send-delayed", "content-bin": "AAE=", "message-type": "binary"})),
    }  # fmt: skip
    async with (
        raw_backend(Script(told(OPEN, headers=GRIP), answers)) as backend,
        start_proxy(tmp_path, GripRoute([backend.url])) as proxy,
        connect(ws_url(proxy)) as client,
    ):
        await client.send("later")
        await client.expect(2)
        assert sorted(map(str, client.messages)) == ["now", "one"], "the second order sends the first message"
        await client.send("flush")
        await client.expect(4)
        assert sorted(map(str, client.messages)) == ["flushed", "now", "one", "two"]
        await client.send("ping")
        await client.expect_that(lambda messages: b"\x00\x01" in messages, "the delayed bytes have come")
        await client.send("keep")
        await client.expect_that(lambda messages: list(messages).count("alive") >= 2, "it is kept alive")
        await client.send("stop")
        await client.expect_that(lambda messages: "stopped" in messages, "it stops")


async def test_only_so_many_subscriptions_are_taken_and_no_error_is_made_of_it(
    tmp_path: Path, start_proxy: StartProxy
) -> None:
    orders = [order(type="subscribe", channel=f"c{number}") for number in range(25)]
    async with (
        raw_backend(Script(told(OPEN, *orders, text("m:in"), headers=GRIP))) as backend,
        start_proxy(tmp_path, GripRoute([backend.url])) as proxy,
        connect(ws_url(proxy)) as client,
    ):
        await client.expect(1)
        await in_force(proxy, client, "c19")
        await publish(proxy, *(message(f"c{number}", str(number)) for number in reversed(range(25))))
        await client.expect(21)
        await client.send("m:echo")
        await client.expect(22)
        assert sorted(map(str, client.messages[1:21]), key=int) == [str(number) for number in range(20)]


async def test_messages_wait_for_a_backend_that_is_away(tmp_path: Path, start_proxy: StartProxy) -> None:
    port = free_port()
    async with start_proxy(tmp_path, GripRoute([f"http://127.0.0.1:{port}"])) as proxy, AsyncExitStack() as stack:
        async with raw_backend(Script(), port):
            client = await stack.enter_async_context(connect(ws_url(proxy)))
            await client.send("before")
            await client.expect(1)
        await client.send("while it is away")
        await client.send("and more")
        async with raw_backend(Script(), port):
            assert await client.expect(3) == ["before", "while it is away", "and more"]
