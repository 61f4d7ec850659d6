"""The control API of a real edge with two workers.

The kernel picks the worker that gets a request, anew for each connection. So a test that must reach a session from
the other worker asks several times, each time on a new connection.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend_sdk.publisher import AsyncPublisher
from tests.support.client import Ending, RecordingClient, connect
from tests.support.processes import Backend, Edge
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until
from tests.unit.control.schema import check
from tests.unit.telemetry.test_metrics import Samples, samples_of, total

pytestmark = pytest.mark.scenario

APP = "tests.scenarios.control_app:app"
ASKED = 12
"""New connections per question: that all of them meet the same of two workers happens once in 2,000 runs."""


async def ask(edge: Edge, method: str, path: str, token: str = "", **options: Any) -> httpx.Response:
    """One request on a connection of its own."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(base_url=edge.control_url, headers=headers, timeout=20) as client:
        return await client.request(method, path, **options)


async def metrics_of(edge: Edge) -> Samples:
    return samples_of((await ask(edge, "GET", "/metrics")).content)


@dataclass
class Guest:
    """A client, its session's id, and the worker that holds it."""

    client: RecordingClient
    session: str
    worker: str


@contextlib.asynccontextmanager
async def guests_on_both_workers(edge: Edge, path: str = "/ann?room") -> AsyncIterator[list[Guest]]:
    """Clients, at least one on each of two workers."""
    async with contextlib.AsyncExitStack() as stack:
        guests: list[Guest] = []
        while len({guest.worker for guest in guests}) < 2:
            assert len(guests) < 60, "the kernel gave 60 connections to one worker"
            client = await stack.enter_async_context(connect(edge.url(path)))
            [session] = await client.expect(1)
            assert isinstance(session, str)
            row = (await ask(edge, "GET", f"/v1/sessions/{session}")).json()
            guests.append(Guest(client, session, row["edge"].split(".")[1]))
        yield guests


@contextlib.asynccontextmanager
async def running(
    folder: Path, release_urls: Sequence[str] = (), limits: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[Edge, Backend]]:
    async with Backend(folder, APP) as backend:
        route: dict[str, Any] = {
            "app": "chat",
            "backend": backend.url,
            "release": "first",
            "release_urls": list(release_urls),
        }
        if limits:
            route["limits"] = dict(limits)
        async with Edge(folder, routes=[route], workers=2, **options) as edge:
            yield edge, backend


async def test_a_publication_through_any_worker_reaches_subscribers_on_both(tmp_path: Path) -> None:
    async with (
        running(tmp_path, channels=[{"prefix": "room", "history_count": 100}]) as (edge, _),
        guests_on_both_workers(edge) as guests,
    ):
        for number in range(ASKED):
            body = {"text": f"p{number}", "id": f"id{number}"}
            first = (await ask(edge, "POST", "/v1/channels/room/publications", json=body)).json()
            again = (await ask(edge, "POST", "/v1/channels/room/publications", json=body)).json()
            assert (first["offset"], first["duplicate"]) == (number + 1, False)
            assert again == {**first, "duplicate": True}
        for guest in guests:
            messages = await guest.client.expect(1 + ASKED)
            assert messages[1:] == [f"p{number}" for number in range(ASKED)]
        for _ in range(ASKED):
            described = (await ask(edge, "GET", "/v1/channels/room")).json()
            assert (described["subscribers"], described["offset"]) == (len(guests), ASKED)
        page = (
            await ask(
                edge, "GET", "/v1/channels/room/history", params={"offset": 3, "epoch": described["epoch"], "limit": 2}
            )
        ).json()
        assert page["whole"]
        assert [publication["text"] for publication in page["publications"]] == ["p3", "p4"]


async def test_a_publication_is_not_sent_to_its_sender(tmp_path: Path) -> None:
    async with running(tmp_path) as (edge, _), guests_on_both_workers(edge) as guests:
        sender = guests[0]
        async with AsyncPublisher(edge.control_url) as publisher:
            await publisher.publish("room", b"\x00\xff", sender=sender.session)
            await publisher.publish("room", "to all")
        for guest in guests:
            expected = ["to all"] if guest is sender else [b"\x00\xff", "to all"]
            assert (await guest.client.expect(1 + len(expected)))[1:] == expected


async def test_a_session_on_the_other_worker_is_acted_on_seen_and_ended(tmp_path: Path) -> None:
    async with running(tmp_path) as (edge, _), guests_on_both_workers(edge) as guests:
        for guest in guests:
            for number in range(ASKED):
                body = {"actions": [{"type": "send", "text": f"a{number}"}], "state": {"set": {"count": number}}}
                response = await ask(edge, "POST", f"/v1/sessions/{guest.session}/actions", json=body)
                assert response.json() == {"outcome": "delivered"}
                row = (await ask(edge, "GET", f"/v1/sessions/{guest.session}")).json()
                assert row["state"] == {"name": "first", "count": number}
                assert (row["user"], row["channels"], row["app"]) == ("ann", ["room"], "chat")
            messages = await guest.client.expect(1 + ASKED)
            assert messages[1:] == [f"a{number}" for number in range(ASKED)]
        for _ in range(ASKED):
            listed = (await ask(edge, "GET", "/v1/sessions", params={"user": "ann"})).json()["sessions"]
            assert {session["session"] for session in listed} == {guest.session for guest in guests}
        for guest in guests:
            ended = await ask(edge, "DELETE", f"/v1/sessions/{guest.session}?code=4001&reason=enough")
            assert ended.json() == {"outcome": "delivered"}
            assert await guest.client.ended() == Ending(4001, "enough")
        for guest in guests:
            await wait_until(functools.partial(_gone, edge, guest.session), "the ended session is gone")
            acted = await ask(edge, "POST", f"/v1/sessions/{guest.session}/actions", json={"actions": []})
            assert acted.status_code == 410
        assert (await ask(edge, "GET", "/v1/sessions/never-was-one")).status_code == 404
        assert (await ask(edge, "GET", "/v1/sessions?user=ann")).json() == {"sessions": [], "complete": True}


async def test_an_order_that_breaks_a_limit_is_refused_and_nothing_of_it_is_done(tmp_path: Path) -> None:
    async with running(tmp_path, limits={"subscriptions": 2}) as (edge, _), guests_on_both_workers(edge) as guests:
        for guest in guests:
            channels = [{"type": "subscribe", "channel": f"more{number}"} for number in range(2)]
            body = {"actions": [{"type": "send", "text": "no"}, *channels], "state": {"set": {"no": 1}}}
            for _ in range(ASKED):
                refused = await ask(edge, "POST", f"/v1/sessions/{guest.session}/actions", json=body)
                assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
                assert "subscriptions" in refused.json()["error"]["message"]
            row = (await ask(edge, "GET", f"/v1/sessions/{guest.session}")).json()
            assert (row["channels"], row["state"]) == (["room"], {"name": "first"})
            await guest.client.send("still here")
            assert (await guest.client.expect(2))[1] == "first: 'still here'"


async def _gone(edge: Edge, session: str) -> bool:
    return (await ask(edge, "GET", f"/v1/sessions/{session}")).status_code == 410


async def test_metrics_add_up_over_the_workers(tmp_path: Path) -> None:
    async with running(tmp_path) as (edge, _), guests_on_both_workers(edge) as guests:
        for guest in guests:
            for number in range(3):
                await guest.client.send(f"m{number}")
            await guest.client.expect(4)

        async def settled() -> bool:
            return total(await metrics_of(edge), "holdfast_events_delivered_total") >= 4 * len(guests)

        await wait_until(settled, "all events have their outcome")
        for _ in range(ASKED):
            samples = await metrics_of(edge)
            route: dict[str, str] = {"route": "*/"}
            assert total(samples, "holdfast_workers") == 2
            assert total(samples, "holdfast_workers_missing") == 0
            assert total(samples, "holdfast_connections", **route) == len(guests)
            assert total(samples, "holdfast_connections_opened_total", **route) == len(guests)
            assert total(samples, "holdfast_sessions", **route, release="first") == len(guests)
            assert total(samples, "holdfast_messages_received_total", **route) == 3 * len(guests)
            assert total(samples, "holdfast_messages_sent_total", **route) == 4 * len(guests)
            assert total(samples, "holdfast_events_delivered_total", **route, release="first") == 4 * len(guests)
            assert total(samples, "holdfast_event_seconds_count", **route) == 4 * len(guests)
            assert total(samples, "holdfast_batch_size_events_sum", **route) == 4 * len(guests)
            assert total(samples, "holdfast_store_up") == 2
            assert total(samples, "holdfast_lease_held") == 2
            trips = total(samples, "holdfast_store_round_trips_total")
            assert 0 < trips <= total(samples, "holdfast_store_commands_total")
            assert total(samples, "holdfast_store_refused_total") == 0
            for worker in ("0", "1"):
                here = [guest for guest in guests if guest.worker == worker]
                assert total(samples, "holdfast_sessions", worker=worker) == len(here)
                assert total(samples, "holdfast_channels", worker=worker) == 1
        await edge.sigkill_worker()

        async def restarted() -> bool:
            samples = await metrics_of(edge)
            return total(samples, "holdfast_workers") == 2 and total(samples, "holdfast_sessions") < len(guests)

        await wait_until(restarted, "the killed worker is back, and counts from 0")


async def test_readiness_says_that_the_store_is_away_and_metrics_go_on(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as redis:
        async with running(tmp_path, redis=redis.url, edge={"store_wait_s": 0.5}) as (edge, _):
            assert (await ask(edge, "GET", "/readyz")).json() == {"ready": True, "reasons": []}
            redis.kill()
            for reason in await wait_until(
                lambda: _why_nobody_is_ready(edge), "both workers say why they are not ready"
            ):
                assert reason.startswith("store away")
            assert (await ask(edge, "GET", "/livez")).status_code == 200
            refused = await ask(edge, "POST", "/v1/channels/room/publications", json={"text": "x"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
            samples = await metrics_of(edge)
            assert total(samples, "holdfast_store_up") == 0
            assert total(samples, "holdfast_store_refused_total", reason="waited") > 0
            redis.start()
            await wait_until(lambda: _everybody_is_ready(edge), "both workers are ready again")
            again = await ask(edge, "POST", "/v1/channels/room/publications", json={"text": "x"})
            assert again.status_code == 200


async def _why_nobody_is_ready(edge: Edge) -> list[str]:
    """All reasons that were given; none when somebody said to be ready."""
    answers = [await ask(edge, "GET", "/readyz") for _ in range(ASKED)]
    if any(answer.status_code != 503 for answer in answers):
        return []
    return [reason for answer in answers for reason in answer.json()["reasons"]]


async def _everybody_is_ready(edge: Edge) -> bool:
    return all([(await ask(edge, "GET", "/readyz")).status_code == 200 for _ in range(ASKED)])


async def test_with_a_token_only_probes_and_the_description_are_open(tmp_path: Path) -> None:
    token = "a-token-that-is-long-enough"
    async with running(
        tmp_path, edge={"control_tokens": ["env:CONTROL_TOKEN"]}, environment={"CONTROL_TOKEN": token}
    ) as (
        edge,
        _,
    ):
        for path in ("/livez", "/readyz", "/openapi.json", "/"):
            assert (await ask(edge, "GET", path)).status_code == 200
        for path in ("/metrics", "/v1/sessions?user=ann", "/v1/channels/a"):
            assert (await ask(edge, "GET", path)).status_code == 401
            assert (await ask(edge, "GET", path, token="wrong")).status_code == 401
            assert (await ask(edge, "GET", path, token=token)).status_code == 200
        assert token not in edge.log()


async def test_a_promoted_release_gets_the_next_event_of_sessions_on_both_workers(tmp_path: Path) -> None:
    async with (
        Backend(tmp_path, APP, name="second", environment={"BACKEND_NAME": "second"}) as second,
        running(tmp_path, release_urls=[second.url]) as (edge, _),
        guests_on_both_workers(edge) as guests,
    ):
        base = "/v1/apps/chat/releases"
        elsewhere = await ask(edge, "PUT", f"{base}/second", json={"url": "http://10.0.0.1"})
        assert (elsewhere.status_code, elsewhere.json()["error"]["code"]) == (403, "not_allowed")
        assert (await ask(edge, "PUT", f"{base}/second", json={"url": second.url})).json()["state"] == "active"
        for guest in guests:
            await guest.client.send("before")
            assert (await guest.client.expect(2))[1] == "first: 'before'"
        assert (await ask(edge, "POST", f"{base}/second/promote")).json()["current"] is True
        for guest in guests:
            await wait_until(functools.partial(_second_answers, guest.client), "the new release answers")
            await wait_until(functools.partial(_is_on, edge, guest.session, "second"), "every worker says so")
            assert guest.client.ending is None
        listed = (await ask(edge, "GET", base)).json()
        assert (listed["current"], len(listed["releases"])) == ("second", 2)


async def _is_on(edge: Edge, session: str, release: str) -> bool:
    rows = [(await ask(edge, "GET", f"/v1/sessions/{session}")).json() for _ in range(ASKED)]
    return all(row["release"] == release for row in rows)


async def _second_answers(client: RecordingClient) -> bool:
    heard = len(client.messages)
    await client.send("after")
    return (await client.expect(heard + 1))[-1] == "second: 'after'"


async def test_drain_by_the_api_ends_the_edge_as_sigterm_does(tmp_path: Path) -> None:
    async with running(tmp_path, edge={"drain_window_s": 0.2}) as (edge, _), guests_on_both_workers(edge) as guests:
        assert (await ask(edge, "POST", "/v1/drain")).status_code == 202
        for guest in guests:
            assert (await guest.client.ended()).code == 1012
        assert await edge.exit_code() == 0


async def test_a_real_edge_answers_as_its_description_says(tmp_path: Path) -> None:
    async with running(tmp_path) as (edge, _), guests_on_both_workers(edge) as guests:
        document = (await ask(edge, "GET", "/openapi.json")).json()
        asked = {
            "/v1/sessions/{session}": f"/v1/sessions/{guests[0].session}",
            "/v1/sessions": "/v1/sessions?user=ann",
            "/v1/channels/{channel}": "/v1/channels/room",
            "/v1/channels/{channel}/history": "/v1/channels/room/history",
            "/v1/apps/{app}/releases": "/v1/apps/chat/releases",
            "/v1/apps/{app}/releases/{sha}": "/v1/apps/chat/releases/first",
            "/readyz": "/readyz",
        }
        for template, path in asked.items():
            response = await ask(edge, "GET", path)
            assert response.status_code == 200, path
            described = document["paths"][template]["get"]["responses"]["200"]
            check(response.json(), described["content"]["application/json"]["schema"], document)
        wrong = await ask(
            edge, "POST", f"/v1/sessions/{guests[0].session}/actions", json={"actions": [{"type": "send"}]}
        )
        assert wrong.status_code == 400
        assert wrong.json()["error"]["field"] == "actions[0].text"
