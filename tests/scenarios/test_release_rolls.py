"""Releases change under live sessions: everybody stays connected, nothing is lost, and each is where it belongs."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.release_control import Control, controlling
from tests.support.client import RecordingClient, connect
from tests.support.processes import Backend, Edge
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario

APP = "tests.scenarios.backends:pinning"


@asynccontextmanager
async def two_releases(folder: Path, policy: str = "follow", **edge: Any) -> AsyncIterator[tuple[Edge, Control]]:
    """Releases r-a, the configured one, and r-b, added and healthy."""
    async with (
        Backend(folder, APP, name="a", environment={"BACKEND_NAME": "a"}) as a,
        Backend(folder, APP, name="b", environment={"BACKEND_NAME": "b"}) as b,
        Edge(
            folder,
            routes=[{"backend": a.url, "release": "r-a", "release_urls": [b.url], "policy": policy}],
            **edge,
        ) as running,
        controlling(running) as control,
    ):
        await control.put("r-b", b.url)
        yield running, control


@asynccontextmanager
async def crowd(url: str, count: int, headers: Sequence[tuple[str, str]] = ()) -> AsyncIterator[list[RecordingClient]]:
    async with AsyncExitStack() as stack:
        clients = []
        for begin in range(0, count, 50):
            some = [stack.enter_async_context(connect(url)) for _ in range(min(50, count - begin))]
            clients += await asyncio.gather(*some)
        yield clients


async def where(client: RecordingClient) -> str:
    """The release that answers."""
    await client.send("who?")
    answer = (await client.expect(len(client.messages) + 1))[-1]
    assert isinstance(answer, str)
    return answer.split()[1]


def token(**claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{body}.c2ln"


async def test_idle_sessions_follow_a_promotion_and_a_rollback_and_clients_get_the_notice(tmp_path: Path) -> None:
    async with two_releases(tmp_path, workers=2) as (edge, control), crowd(edge.url(), 40) as clients:
        await control.until_sessions("r-a", 40)
        await control.post("/releases/r-b/promote", {"notice": "reload, please"})
        await control.until_sessions("r-b", 40)
        for client in clients:
            assert await client.expect(1) == ["reload, please"]
        assert await control.sessions() == {"r-a": 0, "r-b": 40}
        await control.post("/rollback")
        await control.until_sessions("r-a", 40)
        assert [client.ending for client in clients] == [None] * 40


@pytest.mark.parametrize("how", ["now", "over", "at-most"])
async def test_a_retired_release_is_empty_when_it_was_asked_to_be(tmp_path: Path, how: str) -> None:
    async with two_releases(tmp_path, "pin") as (edge, control), crowd(edge.url(), 100) as clients:
        await control.until_sessions("r-a", 100)
        await control.post("/releases/r-b/promote")
        assert await where(clients[0]) == "r-a"  # pinned sessions stay
        for_ms = 0 if how == "now" else 4_000
        began = time.monotonic()
        body = {"how": how} | ({"for_ms": for_ms} if for_ms else {}) | {"notice": "goodbye, a"}
        await control.post("/releases/r-a/retire", body)
        seen: list[tuple[float, int]] = []

        async def empty() -> bool:
            seen.append((time.monotonic() - began, (await control.sessions()).get("r-a", 100)))
            return seen[-1][1] == 0

        await wait_until(empty, "the old release is empty", 20)
        if how == "over":
            assert any(15 < count < 85 for at, count in seen if 1 < at < 3), seen
        elif how == "at-most":
            assert {count for at, count in seen if at < 4} == {100}, seen
        assert await control.sessions() == {"r-a": 0, "r-b": 100}
        for client in clients:
            assert (await client.expect(1))[-1] == "goodbye, a" or client is clients[0]
            assert client.ending is None


async def test_a_busy_session_leaves_a_retired_release_when_it_has_become_idle(tmp_path: Path) -> None:
    async with (
        two_releases(tmp_path, "pin") as (edge, control),
        connect(edge.url()) as busy,
        connect(edge.url()) as idle,
    ):
        assert await where(busy) == "r-a"
        await control.post("/releases/r-b/promote")
        await control.post("/releases/r-a/retire", {"how": "when-idle", "for_ms": 3_000})
        until = time.monotonic() + 6
        while time.monotonic() < until:
            assert await where(busy) == "r-a"
            await asyncio.sleep(0.5)
        await control.until_sessions("r-a", 1)
        assert await where(idle) == "r-b"
        await control.until_sessions("r-a", 0)
        assert await where(busy) == "r-b"


async def test_a_cohort_goes_to_its_release_whatever_the_weights_are(tmp_path: Path) -> None:
    rules = ["header:X-Beta=1", "cookie:beta", "query:beta=yes", "claim:plan=gold"]
    async with two_releases(tmp_path) as (edge, control):
        await control.post("/releases/r-b/cohorts", {"rules": rules})
        cases: list[tuple[str, Mapping[str, str], str]] = [
            ("/", {}, "r-a"),
            ("/", {"X-Beta": "1"}, "r-b"),
            ("/", {"X-Beta": "2"}, "r-a"),
            ("/", {"Cookie": "a=1; beta=x"}, "r-b"),
            ("/?beta=yes", {}, "r-b"),
            (f"/?token={token(plan='gold')}", {}, "r-b"),
            ("/", {"Authorization": f"Bearer {token(plan='gold')}"}, "r-b"),
            ("/", {"Authorization": f"Bearer {token(plan='tin')}"}, "r-a"),
        ]
        for path, headers, release in cases:
            async with connect(edge.url(path), additional_headers=headers) as client:
                assert await where(client) == release, (path, headers)


async def test_users_and_percentages_that_are_connected_move_when_the_cohort_is_said(tmp_path: Path) -> None:
    async with two_releases(tmp_path) as (edge, control), crowd(edge.url(), 40) as clients:
        for number, client in enumerate(clients):
            await client.send(f"identify u{number}")
            await client.expect(1)
        await control.post("/releases/r-b/cohorts", {"rules": ["user:u3, u5"]})
        await control.until_sessions("r-b", 2)
        assert [number for number, client in enumerate(clients) if await where(client) == "r-b"] == [3, 5]
        await control.post("/releases/r-b/cohorts", {"rules": ["percent:100"]})
        await control.until_sessions("r-b", 40)
        await control.post("/releases/r-b/cohorts", {"rules": []})
        await control.until_sessions("r-a", 40)
        assert {await where(client) for client in clients} == {"r-a"}


async def test_a_canary_gets_its_share_of_five_thousand_sessions_within_two_percent(tmp_path: Path) -> None:
    async with two_releases(tmp_path, edge={"max_connections": 10_000}) as (edge, control):
        await control.post("/weights", {"weights": {"r-a": 90, "r-b": 10}})
        found: Counter[str] = Counter()
        for _ in range(50):
            async with crowd(edge.url(), 100) as clients:
                found.update(await asyncio.gather(*(where(client) for client in clients)))
        # 2 % are more than four times the deviation that chance gives 5,000 sessions.
        assert sum(found.values()) == 5_000
        assert abs(found["r-b"] / 5_000 - 0.1) < 0.02, found
