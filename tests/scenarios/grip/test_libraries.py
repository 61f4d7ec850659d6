"""Applications written with the libraries for Pushpin do the same things behind Holdfast, without a change.

Every test runs with each application (`tests.scenarios.grip.libraries`) behind each proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
import pytest_asyncio

from tests.scenarios.grip.conftest import StartProxy
from tests.scenarios.grip.subscribed import subscribed
from tests.support.client import Ending, RecordingClient, connect
from tests.support.grip_proxy import GripProxy, GripRoute, http_url, ws_url
from tests.support.node import NodeBackend
from tests.support.ports import LOOPBACK, free_port
from tests.support.processes import Backend
from tests.support.waiting import DEADLINE_S, wait_until

pytestmark = pytest.mark.scenario

KEY = "a-key-of-these-tests-of-thirty-two-bytes-or-more"
APPLICATIONS = ("plain", "django", "node")


@dataclass(frozen=True, slots=True)
class Stage:
    """One application behind a running proxy."""

    proxy: GripProxy
    application: str
    backend: Backend | NodeBackend
    client: httpx.AsyncClient

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(http_url(self.proxy, f"/{self.application}{path}"))

    def stream(self, path: str) -> contextlib.AbstractAsyncContextManager[httpx.Response]:
        return self.client.stream("GET", http_url(self.proxy, f"/{self.application}{path}"))

    def socket(self) -> contextlib.AbstractAsyncContextManager[RecordingClient]:
        return connect(ws_url(self.proxy, f"/{self.application}/socket"))

    async def publish(self, channel: str, text: str = "", kind: str = "message") -> None:
        """Have the application publish with its library."""
        query = {"channel": channel, "kind": kind, "text": text}
        answer = await self.client.post(f"{self.backend.url}/publish", params=query)
        assert (answer.status_code, answer.text) == (200, "published"), answer.text


@dataclass(frozen=True, slots=True)
class Theatre:
    proxy: GripProxy
    backends: dict[str, Backend | NodeBackend]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def theatre(tmp_path_factory: pytest.TempPathFactory, start_proxy: StartProxy) -> AsyncIterator[Theatre]:
    """All applications behind one proxy, which they find by GRIP_URL as they would anywhere."""
    folder = tmp_path_factory.mktemp("theatre")
    ports = {name: free_port() for name in APPLICATIONS}
    routes = [GripRoute([f"http://{LOOPBACK}:{ports[name]}"], f"/{name}", strip=True, sig_key=KEY) for name in ports]
    starting = start_proxy(folder, *routes)
    environment = {"GRIP_URL": f"{starting.control_url}?{urlencode({'iss': 'pushpin', 'key': KEY})}"}
    package = "tests.scenarios.grip.libraries"
    backends: dict[str, Backend | NodeBackend] = {
        "plain": Backend(folder, f"{package}.plain:app", port=ports["plain"], name="plain", environment=environment),
        "django": Backend(
            folder, f"{package}.django_site:app", port=ports["django"], name="django", environment=environment
        ),
        "node": NodeBackend(
            folder, Path(__file__).parent / "libraries" / "node", port=ports["node"], environment=environment
        ),
    }
    async with starting as proxy, contextlib.AsyncExitStack() as stack:
        for backend in backends.values():
            await stack.enter_async_context(backend)
        yield Theatre(proxy, backends)


@pytest_asyncio.fixture(params=APPLICATIONS)
async def stage(request: pytest.FixtureRequest, theatre: Theatre) -> AsyncIterator[Stage]:
    async with httpx.AsyncClient(timeout=DEADLINE_S) as client:
        yield Stage(theatre.proxy, request.param, theatre.backends[request.param], client)


@pytest.fixture
def channel() -> str:
    return f"c-{secrets.token_hex(4)}"


async def test_the_library_believes_what_the_proxy_signed_and_nobody_else(stage: Stage) -> None:
    assert (await stage.get("/signed")).text == "signed"
    assert (await stage.client.get(f"{stage.backend.url}/signed")).text == "not signed"
    forged = {"Grip-Sig": "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJwdXNocGluIn0.AAAA"}
    assert (await stage.client.get(f"{stage.backend.url}/signed", headers=forged)).text == "not signed"


async def test_a_long_poll_is_answered_by_a_publication(stage: Stage, channel: str) -> None:
    poll = asyncio.create_task(stage.get(f"/poll?channel={channel}"))

    async def answered() -> bool:
        await stage.publish(channel, "here it is")
        await asyncio.wait([poll], timeout=0.2)
        return poll.done()

    await wait_until(answered, "the poll is answered")
    answer = poll.result()
    assert (answer.status_code, answer.text) == (200, "here it is\n")
    assert not [name for name in answer.headers if name.lower().startswith("grip-")]


async def test_long_polls_that_nobody_answers_end_as_their_applications_said(theatre: Theatre, channel: str) -> None:
    """All at once: five seconds are the least that Pushpin waits."""
    async with httpx.AsyncClient(timeout=DEADLINE_S) as client:
        stages = [Stage(theatre.proxy, name, theatre.backends[name], client) for name in APPLICATIONS]
        answers = await asyncio.gather(
            *(stage.get(f"/poll?channel={channel}&timeout=5") for stage in stages),
            *(stage.get(f"/poll?channel={channel}&timeout=5&status=304") for stage in stages),
        )
    assert [(answer.status_code, answer.text) for answer in answers[:3]] == [(200, "nothing yet\n")] * 3
    assert [answer.status_code for answer in answers[3:]] == [304] * 3


async def test_a_stream_carries_publications_in_order_until_it_is_closed(stage: Stage, channel: str) -> None:
    async with stage.stream(f"/stream?channel={channel}") as response:
        lines = response.aiter_lines()
        assert await anext(lines) == "opened"
        assert response.headers["content-type"].startswith("text/plain")
        for number in range(3):
            await stage.publish(channel, f"news {number}")
        assert [await anext(lines) for _ in range(3)] == ["news 0", "news 1", "news 2"]
        await stage.publish(channel, kind="close")
        assert [line async for line in lines] == []


async def test_a_quiet_stream_is_kept_alive_as_its_application_said(stage: Stage, channel: str) -> None:
    async with stage.stream(f"/stream?channel={channel}&keepalive=1") as response:
        lines = response.aiter_lines()
        assert [await anext(lines) for _ in range(5)] == ["opened", ":", "", ":", ""]


async def test_websocket_messages_are_answered(stage: Stage) -> None:
    async with stage.socket() as socket:
        await socket.send("hello")
        assert await socket.expect(1) == ["hello"]
        await socket.send(b"\x00\xff\x01")
        assert (await socket.expect(2))[1] == b"\x00\xff\x01"
        many = [f"message {number} – ✓" for number in range(50)]
        for message in many:
            await socket.send(message)
        assert (await socket.expect(52))[2:] == many


async def test_websockets_hear_the_channels_they_were_subscribed_to(stage: Stage, channel: str) -> None:
    async with stage.socket() as socket, stage.socket() as other:
        for each in (socket, other):
            await each.send(f"subscribe {channel}")
            await each.expect(1)
            await subscribed(each, partial(stage.publish, channel))
        await other.send(f"unsubscribe {channel}")

        async def alone() -> bool:
            before, count = other.messages.count("for whom?"), socket.messages.count("for whom?")
            answers = other.messages.count("the next thing")
            await stage.publish(channel, "for whom?")
            await socket.expect_that(lambda heard: heard.count("for whom?") > count, "the one hears it")
            await other.send("the next thing")
            await other.expect_that(lambda heard: heard.count("the next thing") > answers, "the other goes on")
            return other.messages.count("for whom?") == before

        await wait_until(alone, "the other is not subscribed any more")
        await stage.publish(channel, "for one")
        await socket.expect_that(lambda heard: "for one" in heard, "the one hears it")
        await other.send("the last thing")
        await other.expect_that(lambda heard: "the last thing" in heard, "the other hears nothing more")
        assert "for one" not in other.messages


async def test_meta_comes_back_with_every_request_of_its_connection(stage: Stage) -> None:
    async with stage.socket() as socket, stage.socket() as other:
        for number in range(1, 4):
            await socket.send("count")
            assert (await socket.expect(number))[-1] == str(number)
        await other.send("count")
        assert await other.expect(1) == ["1"]


async def test_a_detached_websocket_lives_on_without_its_application(stage: Stage, channel: str) -> None:
    async with stage.socket() as socket:
        await socket.send(f"subscribe {channel}")
        await socket.expect(1)
        await subscribed(socket, partial(stage.publish, channel))
        await socket.send("detach")
        assert (await socket.expect(2))[1] == "detached"
        # In Pushpin being detached takes its time, but it comes before what is published later.
        await stage.publish(channel, "still here")
        assert (await socket.expect(3))[2] == "still here"
        await socket.send("nobody hears this")
        await stage.publish(channel, "and here")
        assert (await socket.expect(4))[3] == "and here"
        # Pushpin answers 1000 here whatever the client says, Holdfast with the client's own code.
        assert (await socket.close(4003)).code in (1000, 4003)


async def test_the_application_closes_a_websocket_with_its_code(stage: Stage) -> None:
    async with stage.socket() as socket:
        await socket.send("close 4001")
        assert await socket.ended() == Ending(4001, "")


async def test_the_application_hears_the_code_a_client_closes_with(stage: Stage) -> None:
    """Each of these applications answers with the code it was told."""
    async with stage.socket() as socket:
        await socket.send("hello")
        await socket.expect(1)
        assert await socket.close(4002) == Ending(4002, "")


async def test_a_publication_closes_websockets(stage: Stage, channel: str) -> None:
    async with stage.socket() as socket:
        await socket.send(f"subscribe {channel}")
        await socket.expect(1)
        await subscribed(socket, partial(stage.publish, channel))
        await stage.publish(channel, kind="close")
        # The library for Node has no way to say a reason.
        assert await socket.ended() == Ending(4100, "" if stage.application == "node" else "gone")


# The library for Node answers a ping only when a message comes with it.
@pytest.mark.parametrize("stage", ["plain", "django"], indirect=True)
async def test_the_application_answers_pings(stage: Stage) -> None:
    async with stage.socket() as socket:
        pong = await socket.connection.ping(b"are you there")
        await asyncio.wait_for(pong, DEADLINE_S)
