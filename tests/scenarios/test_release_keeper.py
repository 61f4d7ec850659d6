"""What an operator ordered comes to its end by itself, whichever edge dies meanwhile; and it is told."""

from __future__ import annotations

import asyncio
import hmac
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.release_control import controlling
from tests.support.client import connect
from tests.support.ports import LOOPBACK
from tests.support.processes import Backend, Edge
from tests.support.redis import redis_server, redis_url
from tests.support.waiting import wait_until

__all__ = ["redis_server", "redis_url"]

pytestmark = pytest.mark.scenario

APP = "tests.scenarios.release_app:app"
SECRET = "a secret of the operator's"


class Receiver:
    """Takes webhooks; what is not signed rightly fails the test. Refuses the first one, as a receiver that restarts."""

    def __init__(self) -> None:
        self.news: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.url = ""

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        raw = await reader.readexactly(int(fields["content-length"]))
        self.ids.append(fields["webhook-id"])
        status = "503 Away" if len(self.ids) == 1 else "204 No Content"
        if len(self.ids) > 1:
            content = f"{self.ids[-1]}.{fields['webhook-timestamp']}.".encode() + raw
            expected = b64encode(hmac.digest(SECRET.encode(), content, sha256)).decode()
            assert fields["webhook-signature"] == f"v1,{expected}".lower()
            self.news.append(json.loads(raw))
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    def types(self) -> list[str]:
        return [f"{news['type']} {news['sha']}" for news in self.news]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.take, LOOPBACK, 0)
    receiver.url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/hook"
    async with server:
        yield receiver


async def test_a_release_warms_up_is_promoted_and_the_old_one_ends_empty_and_the_webhook_is_told(
    tmp_path: Path,
) -> None:
    slow_to_start = {"BACKEND_NAME": "new", "BACKEND_HEALTHY_AFTER": "1"}
    async with (
        receiving() as receiver,
        Backend(tmp_path, APP, name="old", environment={"BACKEND_NAME": "old"}) as old,
        Backend(tmp_path, APP, name="new", environment=slow_to_start) as new,
        Edge(
            tmp_path,
            routes=[{"backend": old.url, "release": "old", "release_urls": [new.url], "policy": "pin"}],
            edge={"release_webhook": receiver.url, "release_webhook_secret": SECRET},
            workers=2,
        ) as edge,
        controlling(edge) as control,
        connect(edge.url()) as client,
    ):
        url = f"{edge.control_url}/v1/apps/default/releases/new"
        refused = await control.client.put(url, json={"url": new.url, "health": "/healthz"})
        assert refused.status_code == 422, refused.text
        assert "503" in refused.json()["error"]["message"]
        assert [row["sha"] for row in (await control.table())["releases"]] == ["old"]
        added = await control.put("new", new.url, health="/healthz", checks=3)
        assert (added["state"], added["health"]["passed"]) == ("warming", 1)
        assert (await control.client.post(f"{url}/promote")).status_code == 409
        await control.until_state("new", "active")
        await control.post("/releases/new/promote")
        await control.until_sessions("old", 1)
        await control.post("/releases/old/retire", {"how": "over", "for_ms": 3_000})
        await control.until_state("old", "empty")
        assert await control.sessions() == {"old": 0, "new": 1}
        assert client.ending is None
        expected = ["release.active new", "release.promoted new", "release.draining old", "release.empty old"]
        await wait_until(lambda: receiver.types()[-1:] == expected[-1:], "the webhook was told of the end")
        assert [type for type in receiver.types() if "sessions" not in type][-4:] == expected
        assert receiver.ids[0] == receiver.ids[1]


async def test_when_the_keeper_is_killed_another_edge_goes_on_with_what_was_ordered(
    tmp_path: Path, redis_url: str
) -> None:
    async with (
        Backend(tmp_path, APP, name="old", environment={"BACKEND_NAME": "old"}) as old,
        Backend(tmp_path, APP, name="new", environment={"BACKEND_NAME": "new"}) as new,
    ):
        routes = [{"backend": old.url, "release": "old", "release_urls": [new.url], "policy": "pin"}]
        async with (
            Edge(tmp_path, routes=routes, redis=redis_url, name="first") as first,
            Edge(tmp_path, routes=routes, redis=redis_url, name="second") as second,
            controlling(second) as control,
            connect(second.url()) as client,
        ):
            await control.put("new", new.url)
            await control.post("/releases/new/promote")
            await control.post("/releases/old/retire", {"how": "at-most", "for_ms": 4_000})
            await first.kill_tree()  # it came first and has the office, most likely; else nothing is harder
            await control.until_state("old", "empty", 30)
            await client.send("hello")
            assert await client.expect(1) == ["hello new"]
