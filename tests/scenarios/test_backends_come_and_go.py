"""The promise the project was made for: whatever happens to backends, clients do not notice."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.support.client import RecordingClient, connect
from tests.support.journal import Journal
from tests.support.processes import Backend, Edge
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario

CLIENTS = 200
KILLS = 50
WINDOW = 4
"""Messages a client has sent and not yet seen answered, at most."""


class Talker:
    """A client that numbers its messages and goes on until it is told to stop."""

    def __init__(self, client: RecordingClient) -> None:
        self.client = client
        self.sent = 0

    async def talk(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.client.expect(self.sent - WINDOW + 1)
            self.sent += 1
            await self.client.send(str(self.sent))
        await self.client.expect(self.sent)

    def check(self) -> None:
        """Every message answered once, in order, and counted once: the count is kept in the session's state."""
        answers = [str(message).split()[:2] for message in self.client.messages]
        assert answers == [[str(n), str(n)] for n in range(1, self.sent + 1)]
        assert self.client.ending is None


async def test_200_clients_do_not_notice_that_their_backend_is_killed_50_times(tmp_path: Path) -> None:
    async with (
        Backend(tmp_path, "tests.scenarios.backends:counting") as backend,
        Edge(tmp_path, backend=backend.url) as edge,
        contextlib.AsyncExitStack() as stack,
    ):
        clients = await asyncio.gather(*(stack.enter_async_context(connect(edge.url())) for _ in range(CLIENTS)))
        talkers = [Talker(client) for client in clients]
        stop = asyncio.Event()
        talking = asyncio.gather(*(talker.talk(stop) for talker in talkers))

        def answered() -> int:
            return sum(len(client.messages) for client in clients)

        for _ in range(KILLS):
            goal = answered() + CLIENTS // 2
            await wait_until(lambda goal=goal: answered() >= goal or talking.done(), "traffic flows")  # type: ignore[arg-type,misc]
            await backend.restart()
        stop.set()
        await talking
        for talker in talkers:
            talker.check()


async def test_two_backends_behind_one_url_are_rolled_one_after_the_other(tmp_path: Path) -> None:
    async with (
        Backend(tmp_path, "tests.scenarios.backends:counting", name="a", environment={"BACKEND_NAME": "a"}) as a,
        Backend(
            tmp_path, "tests.scenarios.backends:counting", name="b", port=a.port, environment={"BACKEND_NAME": "b"}
        ) as b,
        Edge(tmp_path, backend=a.url) as edge,
        contextlib.AsyncExitStack() as stack,
    ):
        clients = await asyncio.gather(*(stack.enter_async_context(connect(edge.url())) for _ in range(40)))
        talkers = [Talker(client) for client in clients]
        stop = asyncio.Event()
        talking = asyncio.gather(*(talker.talk(stop) for talker in talkers))

        def answered_by(name: str) -> int:
            return sum(str(message).endswith(name) for client in clients for message in client.messages)

        for _ in range(3):
            for down, up in ((a, "b"), (b, "a")):
                await down.sigterm()
                goal = answered_by(up) + 200
                await wait_until(lambda up=up, goal=goal: answered_by(up) >= goal, f"{up} answers alone")  # type: ignore[misc]
                await down.start()
        stop.set()
        await talking
        for talker in talkers:
            talker.check()


async def set_mood(backend: Backend, mood: str) -> None:
    async with httpx.AsyncClient() as http:
        (await http.post(f"{backend.url}/mood/{mood}")).raise_for_status()


async def seen(backend: Backend) -> int:
    """Requests the backend has had since its mood changed."""
    async with httpx.AsyncClient() as http:
        return int((await http.get(f"{backend.url}/mood")).json()["seen"])


@pytest.mark.parametrize("mood", ["500", "hang", "garbage", "429"])
async def test_a_backend_in_a_bad_mood_delays_its_clients_and_loses_nothing(tmp_path: Path, mood: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        backend = await stack.enter_async_context(Backend(tmp_path, "tests.scenarios.backends:moody"))
        route = {"backend": backend.url, "timeouts": {"request_s": 0.5}}
        edge = await stack.enter_async_context(Edge(tmp_path, routes=[route]))
        clients = await asyncio.gather(*(stack.enter_async_context(connect(edge.url())) for _ in range(20)))
        await set_mood(backend, mood)
        for number in range(5):
            for client in clients:
                await client.send(str(number))

        async def tried() -> bool:
            return await seen(backend) >= 3

        await wait_until(tried, "the edge has tried a few times")
        assert all(client.messages == [] for client in clients)
        await set_mood(backend, "well")
        for client in clients:
            assert await client.expect(5) == [str(number) for number in range(5)]


async def test_when_the_retry_window_is_over_clients_are_told_to_try_again_later(tmp_path: Path) -> None:
    async with Backend(tmp_path, "tests.scenarios.backends:plain") as backend:
        route = {"backend": backend.url, "timeouts": {"retry_window_s": 1.0}}
        async with Edge(tmp_path, routes=[route]) as edge, connect(edge.url()) as client:
            await backend.sigkill()
            await client.send("anybody there?")
            ending = await client.ended()
            assert (ending.code, ending.reason) == (1013, "backend unavailable")
            with pytest.raises(InvalidStatus) as refused:
                async with connect(edge.url()):
                    pass
            assert refused.value.response.status_code == 503
            assert int(refused.value.response.headers["Retry-After"]) > 0
            await backend.start()
            async with connect(edge.url()) as again:
                await again.send("hello")
                assert await again.expect(1) == ["hello"]


async def test_a_verdict_refuses_the_handshake_and_closes_live_sessions(tmp_path: Path) -> None:
    async with (
        Backend(tmp_path, "tests.scenarios.backends:moody") as backend,
        Edge(tmp_path, backend=backend.url) as edge,
        connect(edge.url()) as client,
    ):
        await set_mood(backend, "403")
        with pytest.raises(InvalidStatus) as refused:
            async with connect(edge.url()):
                pass
        assert refused.value.response.status_code == 403
        assert refused.value.response.body == b"not you"
        await client.send("hello")
        assert (await client.ended()).code == 1011


async def test_a_bad_action_closes_its_session_alone_and_names_the_field(tmp_path: Path) -> None:
    async with (
        Backend(tmp_path, "tests.scenarios.backends:moody") as backend,
        Edge(tmp_path, backend=backend.url) as edge,
        connect(edge.url()) as unlucky,
        connect(edge.url()) as lucky,
    ):
        await set_mood(backend, "bad-action")
        await unlucky.send("hello")
        ending = await unlucky.ended()
        assert ending.code == 1011
        assert "actions[0].text" in ending.reason
        await set_mood(backend, "well")
        await lucky.send("still here")
        assert await lucky.expect(1) == ["still here"]


async def test_every_session_ends_with_one_close_event_that_says_how(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    async with (
        Backend(tmp_path, "tests.scenarios.backends:counting", journal=journal) as backend,
        Edge(tmp_path, backend=backend.url) as edge,
    ):
        async with connect(edge.url()) as polite:
            await polite.send("1")
            await polite.expect(1)
            await polite.close(4001, "done")
        async with connect(edge.url()) as rude:
            await rude.send("1")
            await rude.expect(1)
            rude.abort()

            def closed() -> list[dict[str, object]]:
                return [entry for entry in journal.entries() if entry["type"] == "close"]

            await wait_until(lambda: len(closed()) >= 2, "both ends are told")
        first, second = closed()
        assert (first["code"], first["cause"], first["state"]) == (4001, "client", {"count": 1})
        assert (second["code"], second["cause"]) == (1006, "client")
        assert first["id"] == f"{first['session']}:close"
    journal.close()
