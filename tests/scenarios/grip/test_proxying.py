"""Requests that ask for nothing special pass through, behind Pushpin and behind Holdfast; and what ours does beyond."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import jwt
import pytest
import pytest_asyncio

from tests.scenarios.grip.conftest import StartProxy
from tests.scenarios.grip.http_stage import HttpStage, held, script, serving, talking
from tests.support.grip_proxy import EdgeOptions, GripEdge, GripRoute, http_url
from tests.support.ports import LOOPBACK, free_port
from tests.support.pushpin import Pushpin
from tests.support.raw_backend import Answer, Asked, raw_backend
from tests.support.waiting import DEADLINE_S, wait_until

pytestmark = pytest.mark.scenario

KEY = "a-key-of-these-tests-of-thirty-two-bytes-or-more"
LARGE = bytes(range(256)) * 8_192
"""2 MiB in which every shift shows."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory, start_proxy: StartProxy) -> AsyncIterator[HttpStage]:
    port, nobody, neither = free_port(), free_port(), free_port()
    url = f"http://{LOOPBACK}:{port}"
    routes = [
        GripRoute([url], sig_key=KEY),
        GripRoute([f"http://{LOOPBACK}:{nobody}", url], "/second"),
        GripRoute([f"http://{LOOPBACK}:{nobody}", f"http://{LOOPBACK}:{neither}"], "/none"),
    ]
    async with start_proxy(tmp_path_factory.mktemp("proxying"), *routes) as proxy:
        yield HttpStage(proxy, port)


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=DEADLINE_S) as client:
        yield client


async def test_a_request_arrives_as_it_was_sent_and_signed(stage: HttpStage, client: httpx.AsyncClient) -> None:
    answer = Answer("418 Short And Stout", [("X-Answer", "1"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], b"body")
    backend = script(**{"a/b%20c": answer})
    async with stage.backend(backend):
        fields = {"Host": "shop.example", "Cookie": "c=1", "X-Mine": "ä", "Grip-Sig": "forged"}
        headers = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
        got = await client.put(stage.url("/a/b%20c?d=e&d=%2F"), content=b"what I say", headers=headers)
    assert (got.status_code, got.reason_phrase, got.content) == (418, "Short And Stout", b"body")
    assert (got.headers["x-answer"], got.headers.get_list("set-cookie")) == ("1", ["a=1", "b=2"])
    (asked,) = backend.asked
    assert (asked.method, asked.target, asked.body) == ("PUT", "/a/b%20c?d=e&d=%2F", b"what I say")
    assert (asked.header("host"), asked.header("cookie"), asked.header("x-mine")) == ("shop.example", "c=1", "ä")
    claims = jwt.decode(asked.header("grip-sig") or "", KEY, algorithms=["HS256"])
    assert claims["iss"] == "pushpin"
    assert "link:next" in (asked.header("grip-feature") or "")


async def test_large_bodies_pass_whole_in_both_directions(stage: HttpStage, client: httpx.AsyncClient) -> None:
    async def echo(asked: Asked) -> Answer:
        return Answer(headers=[("X-Digest", hashlib.sha256(asked.body).hexdigest())], body=asked.body)

    async def parts() -> AsyncIterator[bytes]:
        for at in range(0, len(LARGE), 65_536):
            yield LARGE[at : at + 65_536]

    async with stage.backend(echo):
        whole = await client.post(stage.url("/echo"), content=LARGE)
        chunked = await client.post(stage.url("/echo"), content=parts())
    digest = hashlib.sha256(LARGE).hexdigest()
    for answer in (whole, chunked):
        assert answer.headers["x-digest"] == digest
        assert hashlib.sha256(answer.content).hexdigest() == digest


async def test_what_a_backend_streams_arrives_while_it_streams(stage: HttpStage) -> None:
    more = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await more.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
        await writer.drain()

    async with serving(stage.port, serve), stage.stream("/slow") as stream:
        await stream.until(b"one")
        assert not stream.ended
        more.set()
        await stream.until_end()
        assert (stream.body, stream.ended) == (b"onetwo", True)


async def test_the_next_target_is_asked_when_one_cannot_be_reached(stage: HttpStage, client: httpx.AsyncClient) -> None:
    backend = script(second=Answer(body=b"here"))
    async with stage.backend(backend):
        answer = await client.post(stage.url("/second"), content=b"x" * 50_000)
    assert answer.text == "here"
    assert backend.asked[0].body == b"x" * 50_000


async def test_without_any_target_the_client_is_told(stage: HttpStage, client: httpx.AsyncClient) -> None:
    answer = await client.get(stage.url("/none"))
    assert (answer.status_code, answer.text) == (502, "Error while proxying to origin.\n")


async def test_clients_do_not_speak_to_backends_in_the_name_of_the_proxy(
    stage: HttpStage, client: httpx.AsyncClient
) -> None:
    backend = script(socket=Answer(body=b"OPEN\r\n"))
    async with stage.backend(backend):
        headers = {"Content-Type": "application/websocket-events"}
        answer = await client.post(stage.url("/socket"), content=b"OPEN\r\n", headers=headers)
    assert (answer.status_code, answer.text) == (403, "Client not allowed to send WebSocket events directly.\n")
    assert not backend.asked


async def test_a_client_that_goes_takes_its_request_back(stage: HttpStage) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        gone.set()

    request = b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"
    # Pushpin cannot take a request back of which its client for backends has not told it yet that it has it.
    tries, patience_s = (6, DEADLINE_S / 6) if isinstance(stage.proxy, Pushpin) else (1, DEADLINE_S)
    async with serving(stage.port, serve), asyncio.timeout(2 * DEADLINE_S):
        while not gone.is_set() and tries:
            tries -= 1
            asked.clear()
            async with talking(stage.proxy.port, request):
                await asked.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(gone.wait(), patience_s)
    assert gone.is_set()


async def test_a_head_request_gets_a_head(stage: HttpStage, client: httpx.AsyncClient) -> None:
    async def respond(asked: Asked) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nX-Method: " + asked.method.encode() + b"\r\n\r\n"

    async with stage.backend(respond):
        answer = await client.head(stage.url("/file"))
    assert (answer.status_code, answer.headers["x-method"], answer.content) == (200, "HEAD", b"")


async def stands_still(count: Callable[[], int], why: str) -> None:
    """Wait until a number that grew grows no more."""
    before = -1

    async def stands() -> bool:
        nonlocal before
        last, before = before, count()
        await asyncio.sleep(0.3)
        return last == count() > 0

    await wait_until(stands, why)


# -- beyond --------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[HttpStage]:
    port = free_port()
    route = GripRoute([f"http://{LOOPBACK}:{port}"])
    options = EdgeOptions(route={"limits": {"outbox_bytes": 200_000}})
    async with GripEdge(tmp_path_factory.mktemp("beyond"), route, options=options) as proxy:
        yield HttpStage(proxy, port)


async def test_an_answer_that_breaks_off_does_not_look_whole(edge: HttpStage, client: httpx.AsyncClient) -> None:
    async def respond(asked: Asked) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it"

    async with edge.backend(respond):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(edge.url("/half"))


async def test_trailers_pass_in_both_directions(edge: HttpStage) -> None:
    seen = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.set_result(await reader.readuntil(b"0\r\nX-Sent: 1\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Got: 2\r\n\r\n")
        await writer.drain()

    async with serving(edge.port, serve), asyncio.timeout(DEADLINE_S):
        request = (
            b"POST /t HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n0\r\nX-Sent: 1\r\n\r\n"
        )
        async with talking(edge.proxy.port, request) as (reader, _):
            answer = await reader.read()
        assert b"hello" in await seen
    assert answer.endswith(b"2\r\nok\r\n0\r\nX-Got: 2\r\n\r\n")


async def test_a_backend_writes_no_faster_than_its_client_reads(edge: HttpStage) -> None:
    written, total = 0, 64 * 1_048_576

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        for _ in range(total // 65_536):
            writer.write(b"x" * 65_536)
            await writer.drain()
            written += 65_536

    async with serving(edge.port, serve):
        request = b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        async with talking(edge.proxy.port, request) as (reader, _):
            await stands_still(lambda: written, "the backend writes no more")
            assert written < total // 2
            size = 0
            async with asyncio.timeout(DEADLINE_S):
                while data := await reader.read(1_048_576):
                    size += len(data)
    assert size > total


async def test_a_client_writes_no_faster_than_its_backend_reads(edge: HttpStage) -> None:
    go_on = asyncio.Event()
    size, total = 0, 96 * 1_048_576

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal size
        await reader.readuntil(b"\r\n\r\n")
        await go_on.wait()
        while size < total:
            size += len(await reader.read(1_048_576))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()

    async with serving(edge.port, serve), asyncio.timeout(DEADLINE_S * 2):
        head = b"PUT /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % total
        async with talking(edge.proxy.port, head) as (reader, writer):
            written = 0

            async def write() -> None:
                nonlocal written
                while written < total:
                    writer.write(b"y" * 65_536)
                    await writer.drain()
                    written += 65_536

            writing = asyncio.create_task(write())
            await stands_still(lambda: written, "the client writes no more")
            assert written < total // 2
            go_on.set()
            await writing
            assert (await reader.read()).endswith(b"ok")
    assert size == total


async def test_a_stream_whose_client_does_not_read_is_cut_and_named(edge: HttpStage) -> None:
    request = b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n"
    backend = script(flood=held("stream", "flood"), calm=held("stream", "calm"))
    async with (
        edge.backend(backend),
        edge.stream("/calm") as calm,
        talking(edge.proxy.port, request) as (reader, _),
    ):
        await reader.readuntil(b"\r\n\r\n")

        async def cut() -> bool:
            await edge.publish("flood", http_stream={"content": "z" * 500_000})
            return "client 127.0.0.1 does not take its answer" in edge.proxy.log()

        await wait_until(cut, "the slow client was cut and the log says so")
        await edge.publish_until(calm, "calm", http_stream={"content": "others go on"})


async def test_a_backend_that_never_answers_is_given_up(tmp_path: Path) -> None:
    async def hang(asked: Asked) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    async with raw_backend(hang) as backend:
        options = EdgeOptions(route={"grip": {"silence_s": 1.0}})
        async with (
            GripEdge(tmp_path, GripRoute([backend.url]), options=options) as proxy,
            httpx.AsyncClient() as client,
        ):
            answer = await client.get(http_url(proxy), timeout=DEADLINE_S)
    assert (answer.status_code, answer.text) == (504, "The origin did not answer in time.\n")
