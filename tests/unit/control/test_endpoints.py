"""Every endpoint: what it passes on, what it answers, and that the answer is what OpenAPI says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import msgpack
import pytest

from edge.config import RouteSettings
from edge.control import bodies
from edge.control.endpoints import ENDPOINTS
from edge.errors import (
    Conflict,
    FenceRefused,
    FieldError,
    NotConfirmed,
    SessionGone,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from edge.model.link_backlog import ParkedEvent
from edge.model.release import ReleaseCounts
from edge.protocol.callbacks.actions import Identify, Publish, Send
from edge.store.links_base import LinkRow
from edge.telemetry.metrics import Metrics
from tests.unit.control.memory import ROW, MemoryEdge, api
from tests.unit.control.schema import check

ROUTES = [
    RouteSettings(app="chat", release="abc", backend="http://10.0.0.1:8000", release_urls=["http://{sha}.chat:8000"]),
    RouteSettings(app="closed", path="/closed", release="abc", backend="http://10.0.0.2:8000"),
]


@pytest.fixture
def edge() -> MemoryEdge:
    made = MemoryEdge(ROUTES)
    made.rows["s1"] = ROW
    return made


@pytest.fixture
async def client(edge: MemoryEdge) -> AsyncIterator[httpx.AsyncClient]:
    async with api(edge) as made:
        described = (await made.get("/openapi.json")).json()
        made.event_hooks["response"] = [_conforms(described)]
        yield made


def _conforms(document: Mapping[str, Any]) -> Any:
    """Hold every answer of every test here to the OpenAPI document."""

    async def check_answer(response: httpx.Response) -> None:
        await response.aread()
        path = response.request.url.raw_path.decode().partition("?")[0]
        operation = next(
            operations[response.request.method.lower()]
            for template, operations in document["paths"].items()
            if _matches(template, path.rstrip("/")) and response.request.method.lower() in operations
        )
        described = operation["responses"][str(response.status_code)]
        media = response.headers["content-type"].partition(";")[0]
        content = described["content"][media]
        if media == "application/json":
            check(response.json(), content["schema"], document)

    return check_answer


def _matches(template: str, path: str) -> bool:
    parts, asked = template.split("/"), path.split("/")
    return len(parts) == len(asked) and all(p.startswith("{") or p == a for p, a in zip(parts, asked, strict=True))


def error_of(response: httpx.Response) -> tuple[int, str, str | None]:
    error = response.json()["error"]
    assert error["message"]
    return response.status_code, error["code"], error.get("field")


# -- links


async def test_a_link_is_shown_as_a_session_and_what_only_links_have(
    edge: MemoryEdge, client: httpx.AsyncClient
) -> None:
    edge.rows["x:u1"] = LinkRow(
        "x:u1", "chat", "*/", "4f2c", "u1@chat.example", owner="e-1", sm_id="s", out_base=2**32 - 1, out_n=2, seq=7,
        done=4, phase="live", bound_jid="u1@chat.example/r", attached=("s1",), state={"n": 1}, state_version=3,
    )  # fmt: skip
    answer = await client.get("/v1/sessions/x:u1")
    assert answer.status_code == 200
    shown = answer.json()
    assert (shown["transport"], shown["client"], shown["edge"]) == ("xmpp", "u1@chat.example/r", "e-1")
    assert shown["link"] == {
        "jid": "u1@chat.example/r", "phase": "live", "resumable": True, "attached": ["s1"], "waiting": 3, "unacked": 3,
    }  # fmt: skip


# -- channels


@pytest.mark.parametrize(
    ("body", "payload"), [({"text": "häll○"}, "häll○"), ({"data": {"b64": "AP8="}}, b"\x00\xff"), ({"text": ""}, "")]
)
async def test_publish_takes_text_or_bytes_in_json(
    edge: MemoryEdge, client: httpx.AsyncClient, body: dict[str, Any], payload: str | bytes
) -> None:
    response = await client.post("/v1/channels/room/publications", json={**body, "id": "again", "sender": "s1"})
    assert response.json() == {"offset": 1, "epoch": "e", "duplicate": True}
    [publication] = edge.published
    assert (publication.channel, publication.payload, publication.sender) == ("room", payload, "s1")


async def test_publish_takes_msgpack(edge: MemoryEdge, client: httpx.AsyncClient) -> None:
    for media_type in ("application/msgpack", "application/vnd.holdfast.v1+msgpack"):
        body = msgpack.packb({"data": b"\x01", "id": None})
        response = await client.post("/v1/channels/r/publications", content=body, headers={"Content-Type": media_type})
        assert response.status_code == 200
    assert [publication.payload for publication in edge.published] == [b"\x01", b"\x01"]


@pytest.mark.parametrize("name", ["a/b", "history", "ü ○", "a%2Fb", "..", "%", "a?b#c", "publications"])
async def test_any_channel_name_can_stand_in_a_path_when_it_is_percent_encoded(
    edge: MemoryEdge, client: httpx.AsyncClient, name: str
) -> None:
    encoded = "".join(f"%{byte:02X}" for byte in name.encode())
    assert (await client.post(f"/v1/channels/{encoded}/publications", json={"text": "x"})).status_code == 200
    assert edge.published[0].channel == name
    assert (await client.get(f"/v1/channels/{encoded}")).json()["channel"] == name
    assert len((await client.get(f"/v1/channels/{encoded}/history")).json()["publications"]) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "text"),
        ({"text": 1}, "text"),
        ({"text": "a", "data": {"b64": ""}}, "data"),
        ({"data": "AP8="}, "data"),
        ({"data": {"b64": "!"}}, "data"),
        ({"text": "a", "id": 5}, "id"),
        ({"text": "a", "id": "x" * 256}, "id"),
        ({"text": "a", "sender": 5}, "sender"),
        ({"text": "a", "channel": "other"}, "channel"),
        ({"text": "a", "session": "s1"}, "session"),
        ({"text": "\ud800"}, "text"),
    ],
)
async def test_a_wrong_field_of_a_publication_is_named(
    edge: MemoryEdge, client: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    headers = {"Content-Type": "application/json"}
    response = await client.post("/v1/channels/room/publications", content=json.dumps(body), headers=headers)
    assert error_of(response) == (400, "bad_field", field)
    assert edge.published == []


async def test_a_channel_is_described(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/channels/room")
    assert response.json() == {"channel": "room", "subscribers": 3, "offset": 7, "epoch": "e"}
    assert error_of(await client.get("/v1/channels/" + "x" * 256)) == (400, "bad_field", "channel")
    assert error_of(await client.get("/v1/channels/%FF")) == (400, "bad_field", "channel")


async def test_history_goes_on_behind_a_position_up_to_a_limit(client: httpx.AsyncClient) -> None:
    for body in ({"text": "1"}, {"data": {"b64": "AA=="}}, {"text": "3"}):
        await client.post("/v1/channels/room/publications", json=body)
    page = (await client.get("/v1/channels/room/history", params={"offset": 1, "epoch": "e", "limit": 1})).json()
    assert page == {
        "publications": [{"offset": 2, "data": {"b64": "AA=="}, "at": 1_700_000_000_000}],
        "whole": True,
        "offset": 3,
        "epoch": "e",
    }
    assert len((await client.get("/v1/channels/room/history")).json()["publications"]) == 3


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("offset=1", "epoch"),
        ("epoch=e", "offset"),
        ("offset=-1&epoch=e", "offset"),
        ("offset=9223372036854775808&epoch=e", "offset"),
        ("offset=%D9%A1&epoch=e", "offset"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
    ],
)
async def test_a_wrong_query_of_history_is_named(client: httpx.AsyncClient, query: str, field: str) -> None:
    assert error_of(await client.get(f"/v1/channels/room/history?{query}")) == (400, "bad_field", field)


# -- sessions


async def test_a_session_is_described(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/sessions/s1")).json() == {
        "session": "s1",
        "app": "chat",
        "route": "*/",
        "release": "abc",
        "pinned": None,
        "user": "ann",
        "edge": "edge.0.aa",
        "transport": "websocket",
        "client": "192.0.2.1:5000",
        "opened_at": 1_700_000_000_000,
        "state": {"room": "a"},
        "version": 2,
        "channels": ["a", "b"],
        "timers": [{"name": "t", "due": 1_700_000_001_000, "data": None}],
    }
    assert error_of(await client.get("/v1/sessions/s2")) == (404, "not_found", None)


async def test_sessions_of_a_user_are_listed(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/v1/sessions", params={"user": "ann"})).json()["sessions"]
    assert [session["session"] for session in listed] == ["s1"]
    assert (await client.get("/v1/sessions", params={"user": "bob"})).json() == {"sessions": [], "complete": True}


async def test_sessions_are_listed_by_release_and_app_and_the_list_says_whether_it_is_whole(
    edge: MemoryEdge, client: httpx.AsyncClient
) -> None:
    edge.complete = False
    for query, found in (
        ({}, ["s1"]),
        ({"release": "abc", "app": "chat"}, ["s1"]),
        ({"release": "other"}, []),
        ({"app": "other"}, []),
    ):
        answer = (await client.get("/v1/sessions", params=query)).json()
        assert ([session["session"] for session in answer["sessions"]], answer["complete"]) == (found, False)
    assert error_of(await client.get("/v1/sessions?limit=0")) == (400, "bad_field", "limit")
    assert error_of(await client.get("/v1/sessions?release=")) == (400, "bad_field", "release")


async def test_events_that_were_laid_aside_are_shown(edge: MemoryEdge, client: httpx.AsyncClient) -> None:
    edge.rows["x:u1"] = LinkRow("x:u1", "chat", "chat", "r1", "u1@chat.example")
    assert (await client.get("/v1/sessions/x:u1/parked")).json() == {"session": "x:u1", "parked": []}
    edge.laid_aside.append(ParkedEvent("x:u1:7", "xmpp.message", 12, {"seq": 7}, "status 500, 10 times"))
    shown = {"id": "x:u1:7", "type": "xmpp.message", "at": 12, "why": "status 500, 10 times", "fields": {"seq": 7}}
    assert (await client.get("/v1/sessions/x:u1/parked")).json()["parked"] == [shown]
    assert error_of(await client.get("/v1/sessions/x:nobody/parked")) == (404, "not_found", None)


async def test_the_life_of_a_session_is_told_also_when_it_is_over(edge: MemoryEdge, client: httpx.AsyncClient) -> None:
    fact = {"at": 1, "edge": "e.0.aa", "what": "close", "detail": "client: code 1000, clean"}
    edge.lives["gone"] = [fact]
    answer = await client.get("/v1/sessions/gone/life")
    assert answer.json() == {"session": "gone", "complete": True, "life": [fact]}
    assert error_of(await client.get("/v1/sessions/never/life")) == (404, "not_found", None)


async def test_actions_and_state_are_one_order(edge: MemoryEdge, client: httpx.AsyncClient) -> None:
    actions = [
        {"type": "send", "data": {"b64": "AP8="}},
        {"type": "identify", "user": None},
        {"type": "publish", "channel": "r", "text": "x", "id": "k"},
    ]
    body = {"actions": actions, "state": {"set": {"a": [1]}, "unset": ["b"]}}
    assert (await client.post("/v1/sessions/s1/actions", json=body)).json() == {"outcome": "delivered"}
    [(session, order)] = edge.orders
    assert session == "s1"
    assert order.actions == (Send(b"\x00\xff"), Identify(None), Publish("r", "x", id="k"))
    assert (order.state_set, order.state_unset) == ({"a": [1]}, ("b",))


async def test_a_link_is_begun_for_an_app(edge: MemoryEdge, client: httpx.AsyncClient) -> None:
    connect = {"type": "xmpp.connect", "jid": "u42@chat.example", "auth": {"password": "p"}}
    for body in ({"actions": [connect], "app": "chat"}, {"actions": [connect]}):
        assert (await client.post("/v1/sessions/x:u42/actions", json=body)).json() == {"outcome": "delivered"}
    assert edge.order_apps == ["chat", None]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "actions"),
        ({"actions": {}}, "actions"),
        ({"actions": [{"type": "xmpp.get"}], "app": "chat"}, "app"),
        ({"actions": [], "app": 7}, "app"),
        ({"actions": [], "app": ""}, "app"),
        ({"actions": [{"type": "send", "text": "a"}, {"type": "subscribe"}]}, "actions[1].channel"),
        ({"actions": [{"type": "dance"}]}, "actions[0].type"),
        ({"actions": [{"type": "accept"}]}, "actions[0].type"),
        ({"actions": [{"type": "send", "text": "a"}, {"type": "reject"}]}, "actions[1].type"),
        ({"actions": [], "state": {"sat": 1}}, "state.sat"),
        ({"actions": [], "id": "s1:1"}, "id"),
    ],
)
async def test_a_wrong_field_of_an_order_is_named_and_nothing_is_done(
    edge: MemoryEdge, client: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    assert error_of(await client.post("/v1/sessions/s1/actions", json=body)) == (400, "bad_field", field)
    assert edge.orders == []


async def test_a_session_is_ended_with_code_and_reason(edge: MemoryEdge, client: httpx.AsyncClient) -> None:
    assert (await client.delete("/v1/sessions/s1?code=4001&reason=bye%20now")).json() == {"outcome": "delivered"}
    assert (await client.delete("/v1/sessions/s1")).status_code == 200
    assert edge.ended == [("s1", 4001, "bye now"), ("s1", 1000, "")]


@pytest.mark.parametrize(
    ("query", "field"),
    [("code=999", "code"), ("code=1006", "code"), ("code=x", "code"), ("reason=" + "x" * 124, "reason")],
)
async def test_an_ending_that_no_close_frame_can_carry_is_refused(
    edge: MemoryEdge, client: httpx.AsyncClient, query: str, field: str
) -> None:
    assert error_of(await client.delete(f"/v1/sessions/s1?{query}")) == (400, "bad_field", field)
    assert edge.ended == []


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (SessionGone("s1"), (410, "gone", None)),
        (NotConfirmed("edge.1 did not answer"), (504, "not_confirmed", None)),
        (StoreUnavailable("redis://user:secret@host"), (503, "store_unavailable", None)),
        (FenceRefused("2 < 3"), (503, "moving", None)),
        (FieldError("actions[0].release", "there is no such release"), (400, "bad_field", "actions[0].release")),
        (Conflict("too many subscriptions"), (409, "conflict", None)),
        (StoreError("nothing of it was done"), (503, "not_carried_out", None)),
        (StoreRefused("ERR secret"), (500, "internal", None)),
    ],
)
async def test_what_cannot_be_done_is_said_without_secrets(
    edge: MemoryEdge, client: httpx.AsyncClient, failure: Exception, expected: tuple[int, str, str | None]
) -> None:
    edge.failure = failure
    response = await client.post("/v1/sessions/s1/actions", json={"actions": [{"type": "pin", "release": "x"}]})
    assert error_of(response) == expected
    assert "secret" not in response.text
    assert ("retry-after" in response.headers) == (response.status_code == 503)


# -- releases


async def test_a_release_is_added_promoted_retired_and_forgotten(edge: MemoryEdge, client: httpx.AsyncClient) -> None:
    base = "/v1/apps/chat/releases"
    added = await client.put(
        f"{base}/def", json={"url": "http://def.chat:8000", "health": "/up", "cohorts": ["user:a"]}
    )
    assert added.json() == {
        "sha": "def",
        "url": "http://def.chat:8000",
        "state": "active",
        "current": False,
        "configured": False,
        "weight": 0,
        "share": 0.0,
        "sessions": 0,
        "cohorts": ["user:a"],
        "added_at": 1_700_000_000_000,
        "health": {"path": "/up", "passed": 1, "needed": 1, "error": ""},
        "retirement": None,
        "emptied_at": None,
    }
    assert edge.checked == [("http://def.chat:8000", "/up")]
    assert (await client.post(f"{base}/def/promote")).json()["current"] is True
    assert (await client.get(f"{base}/abc")).json()["share"] == 0
    listed = (await client.get(base)).json()
    assert (listed["app"], listed["current"], [r["sha"] for r in listed["releases"]]) == ("chat", "def", ["abc", "def"])
    assert error_of(await client.post(f"{base}/def/retire")) == (409, "conflict", None)
    assert error_of(await client.delete(f"{base}/def")) == (409, "conflict", None)
    assert (await client.post("/v1/apps/chat/rollback")).json()["current"] == "abc"
    retired = await client.post(f"{base}/def/retire", json={"how": "over", "for_ms": 1_000, "notice": "reload"})
    assert retired.json()["state"] == "draining"
    assert retired.json()["retirement"]["until"] == retired.json()["retirement"]["since"] + 1_000
    assert error_of(await client.post(f"{base}/def/promote")) == (409, "conflict", None)
    edge.counts = ReleaseCounts({"def": 2}, complete=True)
    assert error_of(await client.delete(f"{base}/def")) == (409, "conflict", None)
    edge.counts = ReleaseCounts({}, complete=False)
    assert error_of(await client.delete(f"{base}/def")) == (409, "conflict", None)
    assert (await client.get(f"{base}/def")).json()["sessions"] is None
    edge.counts = ReleaseCounts({}, complete=True)
    assert [r["sha"] for r in (await client.delete(f"{base}/def")).json()["releases"]] == ["abc"]
    assert error_of(await client.get(f"{base}/def")) == (404, "not_found", None)
    assert edge.release_changes == ["chat"] * 5


async def test_weights_canary_and_shadow_are_set_and_ended(client: httpx.AsyncClient) -> None:
    base = "/v1/apps/chat/releases"
    await client.put(f"{base}/def", json={"url": "http://def.chat:8000"})
    weighed = (await client.post("/v1/apps/chat/weights", json={"weights": {"abc": 3, "def": 1}})).json()
    assert [row["share"] for row in weighed["releases"]] == [75, 25]
    plan = {"steps": [1, 50], "every_ms": 600_000, "max_p99_ms": 500}
    assert error_of(await client.post(f"{base}/def/canary", json=plan | {"steps": [2, 1]})) == (
        400,
        "bad_field",
        "steps",
    )
    canary = (await client.post(f"{base}/def/canary", json=plan)).json()["canary"]
    assert (canary["share"], canary["outcome"], canary["max_error_rate"]) == (1, "running", 0.01)
    stopped = (await client.delete("/v1/apps/chat/canary")).json()
    assert [row["share"] for row in stopped["releases"]] == [75, 25]
    assert stopped["canary"]["outcome"] == "stopped"
    assert error_of(await client.delete("/v1/apps/chat/canary")) == (409, "conflict", None)
    shadow = (await client.post(f"{base}/def/shadow", json={"share": 2.5})).json()["shadow"]
    assert (shadow["sha"], shadow["share"]) == ("def", 2.5)
    assert (await client.delete("/v1/apps/chat/shadow")).json()["shadow"] is None
    ruled = await client.post(f"{base}/def/cohorts", json={"rules": ["cookie:beta"]})
    assert ruled.json()["cohorts"] == ["cookie:beta"]


async def test_what_makes_no_sense_is_refused_and_changes_nothing(edge: MemoryEdge, client: httpx.AsyncClient) -> None:
    base = "/v1/apps/chat/releases"
    await client.put(f"{base}/def", json={"url": "http://def.chat:8000"})
    before = (await client.get(base)).json()
    for path, body, refusal in (
        ("../weights", {"weights": {"abc": 0}}, (400, "bad_field", "weights")),
        ("../weights", {"weights": {"abc": "1"}}, (400, "bad_field", "weights")),
        ("../weights", {"weights": {"nope": 1}}, (404, "not_found", None)),
        ("../rollback", {}, (409, "conflict", None)),
        ("nope/promote", {}, (404, "not_found", None)),
        ("nope/retire", {}, (404, "not_found", None)),
        ("abc/retire", {}, (409, "conflict", None)),
        ("abc/retire", {"how": "slowly"}, (400, "bad_field", "how")),
        ("abc/retire", {"how": "over"}, (400, "bad_field", "for_ms")),
        ("abc/retire", {"for_ms": 1}, (400, "bad_field", "for_ms")),
        ("def/promote", {"notice": 1}, (400, "bad_field", "notice")),
        ("def/cohorts", {"rules": ["beta"]}, (400, "bad_field", "rules")),
        ("def/shadow", {"share": 0}, (400, "bad_field", "share")),
        ("def/canary", {"steps": [1]}, (400, "bad_field", "every_ms")),
    ):
        assert error_of(await client.post(f"{base}/{path}".replace("releases/../", ""), json=body)) == refusal, (
            path,
            body,
        )
    edge.unhealthy = "connection refused"
    refused = await client.put(f"{base}/new", json={"url": "http://new.chat:8000"})
    assert error_of(refused) == (422, "unhealthy", None)
    assert "connection refused" in refused.json()["error"]["message"]
    assert (await client.get(base)).json() == before


async def test_a_release_may_only_be_where_the_configuration_allows(
    edge: MemoryEdge, client: httpx.AsyncClient
) -> None:
    for app, url in (("chat", "http://evil:8000"), ("closed", "http://def.chat:8000")):
        response = await client.put(f"/v1/apps/{app}/releases/def", json={"url": url})
        assert error_of(response) == (403, "not_allowed", None)
        assert "release_urls" in response.json()["error"]["message"]
    assert edge.release_store.stored == {}


async def test_a_wrong_release_is_refused(client: httpx.AsyncClient) -> None:
    url = {"url": "http://abc.chat:8000"}
    assert error_of(await client.put("/v1/apps/chat/releases/abc", json=url)) == (409, "conflict", None)
    assert error_of(await client.put("/v1/apps/chat/releases/-x", json=url)) == (400, "bad_field", "sha")
    assert error_of(await client.put("/v1/apps/chat/releases/a%2Fb", json=url)) == (400, "bad_field", "sha")
    assert error_of(await client.put("/v1/apps/nope/releases/def", json=url)) == (404, "not_found", None)
    assert error_of(await client.put("/v1/apps/chat/releases/def", json={})) == (400, "bad_field", "url")
    assert error_of(await client.put("/v1/apps/chat/releases/def", json={**url, "weight": 1})) == (
        400,
        "bad_field",
        "weight",
    )


# -- the process


async def test_readiness_says_why_not(edge: MemoryEdge, client: httpx.AsyncClient) -> None:
    assert (await client.get("/readyz")).json() == {"ready": True, "reasons": []}
    edge.reasons = ["draining", "store away: connection refused"]
    response = await client.get("/readyz")
    assert (response.status_code, response.json()["reasons"]) == (503, edge.reasons)
    assert (await client.get("/livez")).status_code == 200


async def test_drain_begins_and_answers_at_once(edge: MemoryEdge, client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/drain")
    assert (response.status_code, response.json()) == (202, {"draining": True})
    assert edge.drained == 1


async def test_metrics_come_in_the_format_that_is_asked_for(edge: MemoryEdge) -> None:
    metrics = Metrics()
    metrics.route("*/", "abc").events_delivered.value = 5
    async with api(edge, metrics=metrics) as client:
        text = await client.get("/metrics")
        assert 'holdfast_events_delivered_total{release="abc",route="*/",worker="0"} 5.0' in text.text
        openmetrics = await client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
        assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
        assert openmetrics.text.endswith("# EOF\n")


# -- bodies


@pytest.mark.parametrize(
    ("content", "media_type", "expected"),
    [
        (b'{"text": "a"}', "text/plain", (415, "unsupported_media_type", None)),
        (b'{"text": "a"}', "", (415, "unsupported_media_type", None)),
        (b'{"text": ', "application/json", (400, "bad_body", None)),
        (b"\xff", "application/json", (400, "bad_body", None)),
        (b"", "application/json", (400, "bad_body", None)),
        (b"[]", "application/json", (400, "bad_body", None)),
        (b'{"text": NaN}', "application/json", (400, "bad_body", None)),
        (b"[" * 100_000, "application/json", (400, "bad_body", None)),
        (b"\xc1", "application/msgpack", (400, "bad_body", None)),
        (b"\x81\xa4text\xa1a\x00", "application/msgpack", (400, "bad_body", None)),
        (b"\x81\x01\xa1a", "application/msgpack", (400, "bad_body", None)),
        (b" " * (bodies.BODY_BYTES + 1), "application/json", (413, "too_large", None)),
    ],
)
async def test_a_body_that_does_not_parse_is_refused(
    edge: MemoryEdge, client: httpx.AsyncClient, content: bytes, media_type: str, expected: tuple[int, str, None]
) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    response = await client.post("/v1/channels/room/publications", content=content, headers=headers)
    assert error_of(response) == expected
    assert edge.published == []


async def test_a_body_without_length_is_cut_off_at_the_limit(edge: MemoryEdge, client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 65_536

    headers = {"Content-Type": "application/json"}
    response = await client.post("/v1/channels/room/publications", content=endless(), headers=headers)
    assert error_of(response) == (413, "too_large", None)
    assert sent <= bodies.BODY_BYTES // 65_536 + 2


async def test_a_body_that_does_not_come_is_not_waited_for_for_ever(
    edge: MemoryEdge, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.01)

    async def stalled() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    headers = {"Content-Type": "application/json"}
    response = await client.post("/v1/channels/room/publications", content=stalled(), headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (408, "too_slow")


def test_every_endpoint_that_takes_a_body_says_how_bodies_are_refused() -> None:
    for endpoint in ENDPOINTS:
        # Publishers written for Pushpin name any content type: nobody looks at it.
        refused = {400, 408, 413} if endpoint.publishing else {400, 408, 413, 415}
        assert bool(endpoint.body) == (refused <= set(endpoint.errors)), endpoint.path
