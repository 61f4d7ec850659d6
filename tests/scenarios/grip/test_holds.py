"""What backends may ask to be held, behind Pushpin and behind Holdfast: long polls, streams, their limits and links."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from tests.scenarios.grip.conftest import StartProxy
from tests.scenarios.grip.http_stage import HttpStage, held, script
from tests.support.grip_proxy import GripRoute
from tests.support.ports import LOOPBACK, free_port
from tests.support.raw_backend import Answer
from tests.support.waiting import DEADLINE_S, wait_until

pytestmark = pytest.mark.scenario

NEXT = ("Grip-Link", "</next?token=t>; rel=next")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory, start_proxy: StartProxy) -> AsyncIterator[HttpStage]:
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    routes = [
        GripRoute([url]),
        GripRoute([url], "/prefixed", prefix="p-"),
        GripRoute([url], "/implicit", subscribe=["everybody"]),
        GripRoute([url], "/debug", debug=True),
    ]
    async with start_proxy(tmp_path_factory.mktemp("holds"), *routes) as proxy:
        yield HttpStage(proxy, port)


@pytest.fixture
def channel() -> str:
    return f"c-{secrets.token_hex(4)}"


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=DEADLINE_S) as client:
        yield client


async def test_a_held_response_is_answered_by_a_publication_that_inherits_its_headers(
    stage: HttpStage, client: httpx.AsyncClient, channel: str
) -> None:
    backend = script(poll=held("response", channel, ("X-Kept", "1"), ("X-Both", "held"), body=b"timeout"))
    async with stage.backend(backend):
        poll = asyncio.create_task(client.get(stage.url("/poll")))
        body = {"code": 201, "reason": "New", "headers": {"X-Both": "pushed", "X-Pushed": "2"}, "body": "news\n"}
        answer = await stage.answered(poll, channel, body)
    assert (answer.status_code, answer.reason_phrase, answer.content) == (201, "New", b"news\n")
    assert answer.headers["content-length"] == "5"
    assert [answer.headers[name] for name in ("x-kept", "x-both", "x-pushed", "content-type")] == [
        "1", "pushed", "2", "text/plain",
    ]  # fmt: skip
    assert not [name for name in answer.headers if name.startswith("grip-")]


async def test_a_held_response_gets_the_backends_own_answer_when_its_time_is_out(
    stage: HttpStage, client: httpx.AsyncClient, channel: str
) -> None:
    fields = [("Grip-Timeout", "1"), ("Grip-Status", "404 Not Yet"), ("Grip-Expose-Headers", "X-Shown")]
    backend = script(poll=held("response", channel, *fields, ("X-Shown", "1"), ("X-Hidden", "1"), body=b"nothing\n"))
    async with stage.backend(backend):
        answer = await client.get(stage.url("/poll"))
    assert (answer.status_code, answer.reason_phrase, answer.content) == (404, "Not Yet", b"nothing\n")
    assert answer.headers["x-shown"] == "1"
    assert "x-hidden" not in answer.headers


async def test_a_patch_changes_the_body_that_is_held(stage: HttpStage, client: httpx.AsyncClient, channel: str) -> None:
    backend = script(poll=held("response", channel, body=b'{"seen": 1, "rest": [true]}\n'))
    async with stage.backend(backend):
        poll = asyncio.create_task(client.get(stage.url("/poll")))
        patch = [{"op": "replace", "path": "/seen", "value": 2}]
        answer = await stage.answered(poll, channel, {"body-patch": patch})
    assert json.loads(answer.content) == {"seen": 2, "rest": [True]}
    assert answer.content.endswith(b"\n")


async def test_a_stream_goes_on_behind_its_first_body_until_it_is_closed(stage: HttpStage, channel: str) -> None:
    first = b"x" * 300_000 + b"\n"
    backend = script(feed=held("stream", channel, ("X-More", "1"), body=first))
    async with stage.backend(backend), stage.stream("/feed") as stream:
        assert stream.response.status_code == 200
        assert stream.response.headers["x-more"] == "1"
        assert "content-length" not in stream.response.headers
        await wait_until(lambda: len(stream.body) >= len(first), "the first body has come")
        await stage.publish_until(stream, channel, http_stream={"content": "ready\n"})
        for word in ("one", "two", "three"):
            await stage.publish(channel, http_stream={"content": f"{word}\n"})
        await stage.publish(channel, http_stream={"action": "close"})
        await stream.until_end()
        assert stream.ended, stream.error
        assert stream.body.startswith(first)
        assert stream.body.endswith(b"ready\none\ntwo\nthree\n")


async def test_a_stream_is_kept_alive_while_nothing_comes(stage: HttpStage, channel: str) -> None:
    keep_alive = ("Grip-Keep-Alive", r"event: x\n\n; format=cstring; timeout=1")
    async with stage.backend(script(feed=held("stream", channel, keep_alive))), stage.stream("/feed") as stream:
        await wait_until(lambda: stream.body.count(b"event: x\n\n") >= 2, "two keep-alives have come")


async def test_any_status_can_be_held(stage: HttpStage, channel: str) -> None:
    async with (
        stage.backend(script(feed=held("stream", channel, status="404 Not Found"))),
        stage.stream("/feed") as stream,
    ):
        assert stream.response.status_code == 404
        await stage.publish_until(stream, channel, http_stream={"content": "here after all"})


async def test_instructions_in_json_hold_responses_and_streams(
    stage: HttpStage, client: httpx.AsyncClient, channel: str
) -> None:
    def instruct(mode: str) -> Answer:
        what = {
            "hold": {"mode": mode, "channels": [{"name": channel}]},
            "response": {"code": 202, "headers": {"X-Json": "yes"}, "body": "first\n"},
        }
        return Answer(headers=[("Content-Type", "application/grip-instruct")], body=json.dumps(what).encode())

    async with stage.backend(script(poll=instruct("response"), feed=instruct("stream"))):
        async with stage.stream("/feed") as stream:
            assert (stream.response.status_code, stream.response.headers["x-json"]) == (202, "yes")
            await stream.until(b"first\n")
            await stage.publish_until(stream, channel, http_stream={"content": "more\n"})
        poll = asyncio.create_task(client.get(stage.url("/poll")))
        answer = await stage.answered(poll, channel, {"body": "now"})
        assert (answer.status_code, answer.text, answer.headers["x-json"]) == (200, "now", "yes")


async def test_channels_have_the_prefix_of_their_route(stage: HttpStage, channel: str) -> None:
    async with (
        stage.backend(lambda asked: script(**{asked.target[1:]: held("stream", channel)})(asked)),
        stage.stream("/prefixed") as stream,
    ):
        await stage.publish_until(stream, f"p-{channel}", http_stream={"content": "with the prefix"})
        await stage.publish(channel, http_stream={"content": "without"})
        await stage.publish(f"p-{channel}", http_stream={"content": "again"})
        await stream.until(b"again")
        assert b"without" not in stream.body


async def test_a_target_subscribes_its_clients_without_being_asked(stage: HttpStage, channel: str) -> None:
    async with stage.backend(script(implicit=held("stream", channel))), stage.stream("/implicit") as stream:
        await stage.publish_until(stream, "everybody", http_stream={"content": "to all"})
        await stage.publish_until(stream, channel, http_stream={"content": "to some"})


async def test_several_channels_are_told_apart(stage: HttpStage, channel: str) -> None:
    async with stage.backend(script(feed=held("stream", f"{channel}-a, {channel}-b"))), stage.stream("/feed") as stream:
        await stage.publish_until(stream, f"{channel}-a", http_stream={"content": "to a"})
        await stage.publish_until(stream, f"{channel}-b", http_stream={"content": "to b"})
        await stage.publish(f"{channel}-c", http_stream={"content": "to c"})
        await stage.publish(f"{channel}-b", http_stream={"content": "the end"})
        await stream.until(b"the end")
        assert b"to c" not in stream.body


# -- links ---------------------------------------------------------------------------------------------------


async def test_a_body_in_parts_is_put_together_by_its_links(stage: HttpStage, client: httpx.AsyncClient) -> None:
    backend = script(
        one=Answer(headers=[("Content-Type", "text/plain"), ("Grip-Link", "</two>; rel=next")], body=b"one "),
        two=Answer(headers=[("Grip-Link", "<three?x=1>; rel=next")], body=b"two "),
        three=Answer(body=b"three"),
    )
    async with stage.backend(backend):
        answer = await client.get(stage.url("/one"), headers={"Cookie": "mine"})
    assert answer.text == "one two three"
    assert answer.headers["content-type"] == "text/plain"
    assert [asked.target for asked in backend.asked] == ["/one", "/two", "/three?x=1"]
    link = backend.asked[1]
    assert (link.method, link.header("cookie"), link.header("host")) == ("GET", None, backend.asked[0].header("host"))
    assert (link.header("grip-sig") or "").count(".") == 2


async def test_a_hint_makes_a_stream_follow_its_link(stage: HttpStage, channel: str) -> None:
    backend = script(
        feed=held("stream", channel, NEXT, body=b"first\n"), next=held("stream", channel, NEXT, body=b"new\n")
    )
    async with stage.backend(backend) as server, stage.stream("/feed") as stream:
        await stage.publish_until(stream, channel, http_stream={"content": "ready\n"})
        count = len(server.asked)
        await stage.publish(channel, http_stream={"action": "hint"})
        await wait_until(lambda: len(server.asked) > count, "the link is followed")
        assert server.asked[-1].target == "/next?token=t"
        await stream.until(b"new\n")


async def test_a_gap_between_ids_is_filled_by_the_link(stage: HttpStage, channel: str) -> None:
    backend = script(
        feed=held("stream", f"{channel}; prev-id=1", NEXT, body=b"1\n"),
        next=[
            held("stream", f"{channel}; prev-id=4", NEXT, body=b"2\n3\n4\n"),
            held("stream", f"{channel}; prev-id=5", NEXT),
        ],
    )
    async with stage.backend(backend), stage.stream("/feed") as stream:
        await stream.until(b"1\n")

        async def followed() -> bool:
            await stage.publish(channel, id="4", prev_id="3", http_stream={"content": "4\n"})
            await asyncio.sleep(0)
            return len(backend.asked) > 1

        await wait_until(followed, "the gap was seen")
        await stream.until(b"4\n")
        assert backend.asked[1].header("grip-last") == f"{channel}; last-id=1"

        async def next_one() -> bool:
            await stage.publish(channel, id="5", prev_id="4", http_stream={"content": "5\n"})
            return b"5\n" in stream.body

        await wait_until(next_one, "the next item has come")
        assert stream.body.startswith(b"1\n2\n3\n4\n5\n")


async def test_ids_without_a_link_end_a_stream_after_its_first_body(
    stage: HttpStage, client: httpx.AsyncClient, channel: str
) -> None:
    async with stage.backend(script(feed=held("stream", f"{channel}; prev-id=1", body=b"first"))):
        answer = await client.get(stage.url("/feed"))
    assert answer.text == "first"


async def test_a_hint_repeats_a_held_request_as_it_was(
    stage: HttpStage, client: httpx.AsyncClient, channel: str
) -> None:
    backend = script(poll=[held("response", f"{channel}; prev-id=1"), Answer(body=b"news")])
    async with stage.backend(backend):
        poll = asyncio.create_task(client.post(stage.url("/poll?a=b"), content=b"tell me", headers={"X-Mine": "1"}))
        await wait_until(lambda: backend.asked, "the backend was asked")

        async def hinted() -> bool:
            await stage.publish(channel, id="2", prev_id="1", http_response={"action": "hint"})
            await asyncio.wait([poll], timeout=0.3)
            return poll.done()

        await wait_until(hinted, "the poll is answered")
    assert poll.result().text == "news"
    first, again = backend.asked
    assert (again.method, again.target, again.body, again.header("x-mine")) == ("POST", "/poll?a=b", b"tell me", "1")
    assert first.header("grip-last") is None
    assert (again.header("grip-last") or "").startswith(f"{channel}; last-id=")


# -- what goes wrong -----------------------------------------------------------------------------------------


async def test_a_malformed_instruction_is_a_bad_gateway(stage: HttpStage, client: httpx.AsyncClient) -> None:
    async with stage.backend(script(bad=held("for-ever", "c"), debug=held("for-ever", "c"))):
        plain, debug = await client.get(stage.url("/bad")), await client.get(stage.url("/debug"))
    assert (plain.status_code, plain.text) == (502, "Error while proxying to origin.\n")
    assert debug.status_code == 502
    assert debug.text.startswith("Failed to parse accept instructions: Grip-Hold must be")


async def test_what_is_held_has_its_limits(stage: HttpStage, client: httpx.AsyncClient, channel: str) -> None:
    large = b"x" * 100_001
    async with stage.backend(script(large=held("response", channel, body=large), small=held("response", channel))):
        assert (await client.get(stage.url("/large"))).status_code == 502
        answer = await client.post(stage.url("/small"), content=large)
        assert (answer.status_code, answer.text) == (400, "Request too large to accept GRIP instruct.\n")
