"""Publishing to real edges: what is published anywhere reaches clients everywhere, who may not publish does not, and
nonsense harms nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis.asyncio
import zmq

from edge.sessions.grip.channels import GRIP_PREFIX
from edge.store.keys import Keys
from tests.support.client import RecordingClient, connect
from tests.support.grip_proxy import EdgeOptions, GripEdge, GripRoute, http_url, post_publish, publish, ws_url
from tests.support.ports import LOOPBACK, free_port
from tests.support.processes import Backend
from tests.support.redis import RedisServer, redis_server
from tests.support.waiting import wait_until

__all__ = ["redis_server"]

pytestmark = pytest.mark.scenario

KEY = "a-key-of-these-tests-of-thirty-two-bytes-or-more"
PUBLISHER = {"name": "ann", "key": KEY}


def message(text: str, channel: str = "room", **more: Any) -> dict[str, Any]:
    return {"channel": channel, "formats": {"ws-message": {"content": text}}, **more}


@contextlib.asynccontextmanager
async def application(folder: Path) -> AsyncIterator[Backend]:
    """The one of the compatibility tests; here it only holds clients."""
    environment = {"GRIP_URL": "http://127.0.0.1:1?iss=nobody&key=needed"}
    async with Backend(folder, "tests.scenarios.grip.libraries.plain:app", environment=environment) as backend:
        yield backend


def an_edge(
    folder: Path, backend: Backend, name: str = "holdfast", *, workers: int = 1, redis: str = "", **tables: Any
) -> GripEdge:
    options = EdgeOptions(settings=tables, edge={"store_wait_s": 1.0})
    return GripEdge(folder, GripRoute([backend.url]), options=options, redis=redis, workers=workers, name=name)


@contextlib.asynccontextmanager
async def guests(edges: Sequence[GripEdge], count: int = 1) -> AsyncIterator[list[RecordingClient]]:
    """`count` WebSockets on each edge, subscribed to ``room``; what they have read so far is forgotten."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connect(ws_url(edge, "/socket"))) for edge in edges for _ in range(count)
        ]
        for client in clients:
            await client.send("subscribe room")
        await heard_by(edges[0], clients)
        yield clients


async def heard_by(edge: GripEdge, clients: Sequence[RecordingClient]) -> None:
    """Publish until every client hears it: from then on they hear everything."""

    async def heard() -> bool:
        await publish(edge, message("are you there?"))
        return all("are you there?" in client.messages for client in clients)

    await wait_until(heard, "everybody is subscribed")
    await publish(edge, message("now"))
    for client in clients:
        await client.expect_that(lambda messages: messages[-1] == "now", "the last of them has come")
        client.messages.clear()


async def answer_in_json(edge: GripEdge, *items: Any) -> Any:
    body = json.dumps({"items": items}).encode()
    status, text = await post_publish(edge, body, {"Accept": "application/json"})
    assert status == 200, text
    return json.loads(text)


def holdfast_publish(edge: GripEdge, *arguments: str, query: str = "") -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("holdfast")), "publish", *arguments]
    environment = {**os.environ, "GRIP_URL": f"{edge.control_url}{query}"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


async def test_what_is_published_on_one_edge_reaches_clients_of_every_worker_of_every_edge(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with application(tmp_path) as backend:
        one = an_edge(tmp_path, backend, "one", workers=2, redis=redis_server.url)
        two = an_edge(tmp_path, backend, "two", redis=redis_server.url)
        async with one, two, guests([one, two], 3) as clients, httpx.AsyncClient(timeout=60) as http:
            polling = asyncio.create_task(http.get(http_url(two, "/poll?channel=room&timeout=50")))
            text = {"ws-message": {"content": "all"}, "http-response": {"body": "all\n"}}

            async def polls() -> bool:
                # An item for subscriptions with a filter that this one lacks shows who is there, and leaves it there.
                form = {"body": "x", "content-filters": ["build-id"]}
                probe = {"channel": "room", "formats": {"http-response": form}}
                return bool((await answer_in_json(one, probe))["items"][0]["receivers"] == 1)

            await wait_until(polls, "the poll is held")
            answer = await answer_in_json(one, {"channel": "room", "id": "1", "formats": text}, message("", "empty"))
            assert answer == {
                "message": "Published",
                "items": [
                    {"channel": "room", "receivers": 7, "duplicate": False},
                    {"channel": "empty", "receivers": 0, "duplicate": False},
                ],
            }
            assert (await polling).text == "all\n"
            # The same id again, on another edge: once for all of them.
            again = await answer_in_json(two, {"channel": "room", "id": "1", "formats": text})
            assert again["items"] == [{"channel": "room", "receivers": 0, "duplicate": True}]
            await publish(two, message("the end"))
            for client in clients:
                assert await client.expect(2) == ["all", "the end"]


async def test_the_command_line_publishes_closes_and_says_what_went_wrong(tmp_path: Path) -> None:
    async with application(tmp_path) as backend, an_edge(tmp_path, backend) as edge, guests([edge], 2) as clients:
        told = await asyncio.to_thread(holdfast_publish, edge, "room", "from a shell", "--json")
        assert (told.returncode, told.stderr) == (0, "")
        assert json.loads(told.stdout)["items"][0]["receivers"] == 2
        wrong = await asyncio.to_thread(holdfast_publish, edge, "", "no channel")
        assert (wrong.returncode, wrong.stdout) == (1, "")
        assert "answered 400: items[0].channel" in wrong.stderr
        assert (await asyncio.to_thread(holdfast_publish, edge, "room", "--close")).stdout == "Published\n"
        for client in clients:
            assert (await client.ended()).code == 1000
            assert client.messages == ["from a shell"]


async def test_publishers_need_their_key_once_there_are_any_and_it_opens_nothing_else(tmp_path: Path) -> None:
    async with application(tmp_path) as backend, an_edge(tmp_path, backend) as edge:
        body = json.dumps({"items": [message("x")]}).encode()
        assert (await post_publish(edge, body))[0] == 200
        edge.settings["publisher"] = [PUBLISHER]
        edge.write_config()
        edge.reload()

        async def closed() -> bool:
            return (await post_publish(edge, body))[0] == 401

        await wait_until(closed, "the reload has taken effect")
        query = f"?iss=ann&key={KEY}"
        assert (await asyncio.to_thread(holdfast_publish, edge, "room", "x", query=query)).stdout == "Published\n"
        assert (await asyncio.to_thread(holdfast_publish, edge, "room", "x", "-u", f"ann:{KEY}")).returncode == 0
        wrong = await asyncio.to_thread(holdfast_publish, edge, "room", "x", query="?iss=ann&key=guessed")
        assert wrong.returncode == 1
        assert "answered 401" in wrong.stderr
        credentials = {"Authorization": "Basic " + b64encode(f"ann:{KEY}".encode()).decode()}
        assert (await post_publish(edge, b"", credentials, "/recover"))[0] == 200
        # Without tokens the rest of the API is this machine's own, as before; with them no publisher opens it.
        edge.settings["edge"]["control_tokens"] = ["the-operators-token"]
        edge.write_config()
        edge.reload()

        async def guarded() -> bool:
            return (await edge.get("/metrics"))[0] == 401

        await wait_until(guarded, "the reload has taken effect")
        assert (await post_publish(edge, b"", credentials, "/v1/drain"))[0] == 401
        assert (await post_publish(edge, body, credentials))[0] == 200
        assert (await post_publish(edge, body, {"Authorization": "Bearer the-operators-token"}))[0] == 200


async def test_a_broken_item_never_hurts_the_others(tmp_path: Path, redis_server: RedisServer) -> None:
    pull = f"tcp://{LOOPBACK}:{free_port()}"
    async with application(tmp_path) as backend:
        edge = an_edge(tmp_path, backend, workers=2, redis=redis_server.url, grip={"zmq_pull": pull})
        async with edge, guests([edge], 2) as clients:
            broken = {"channel": "room", "formats": {"ws-message": {"type": "smoke"}}}
            status, text = await post_publish(edge, json.dumps({"items": [message("a"), broken]}).encode())
            assert (status, text.partition(":")[0]) == (400, "items[1].formats.ws-message.type")
            # Rubbish on the bus itself, as from an edge of another version.
            async with redis.asyncio.Redis.from_url(redis_server.url) as bus:
                await bus.publish(Keys().bus(GRIP_PREFIX + "room"), b"rubbish")
                await bus.publish(Keys().bus(GRIP_PREFIX + "room"), b"0  1 b \xc1")
            with zmq.Context() as context, context.socket(zmq.PUSH) as push:
                push.connect(pull)
                await asyncio.to_thread(push.send, b"Jrubbish")
                await asyncio.to_thread(push.send, b"J" + json.dumps(message("b")).encode())
                for client in clients:
                    assert await client.expect(1) == ["b"]
            await publish(edge, message("c"))
            for client in clients:
                assert await client.expect(2) == ["b", "c"]
            assert "a message on grip.zmq_pull is no item and was left out" in edge.log()
            metrics = (await edge.get("/metrics"))[1].decode()
            assert 'holdfast_items_dropped_total{reason="malformed",worker="0"} 1.0' in metrics


async def test_without_redis_publishers_are_told_to_try_again_and_clients_stay(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with application(tmp_path) as backend:
        edge = an_edge(tmp_path, backend, redis=redis_server.url)
        async with edge, guests([edge]) as (client,):
            redis_server.kill()
            status, text = await post_publish(edge, json.dumps({"items": [message("lost")]}).encode())
            assert (status, text.partition(":")[0]) == (503, "Redis is away; try again")
            await client.send("still here")
            await client.expect_that(lambda messages: "still here" in messages, "the echo has come")
            redis_server.restart(keep_data=True)
            client.messages.clear()

            async def heard() -> bool:
                await post_publish(edge, json.dumps({"items": [message("back")]}).encode())
                return "back" in client.messages

            await wait_until(heard, "publications arrive again")


async def test_an_input_that_cannot_be_had_is_a_start_error(tmp_path: Path) -> None:
    with zmq.Context() as context, context.socket(zmq.PULL) as taken:
        port = taken.bind_to_random_port(f"tcp://{LOOPBACK}")
        async with application(tmp_path) as backend:
            edge = an_edge(tmp_path, backend, grip={"zmq_sub": f"tcp://{LOOPBACK}:{port}"})
            edge.write_config()
            try:
                command = [str(Path(sys.executable).with_name("holdfast")), "serve", "--config", str(edge.config_path)]
                edge.spawn(command)
                # It is tried a few times: what is in the way may go away.
                assert await edge.exit_code(deadline_s=120) == 1
                assert f"grip.zmq_sub = 'tcp://{LOOPBACK}:{port}' cannot be listened on" in edge.log()
            finally:
                await edge.kill_tree()
