"""The door: tokens, loopback, rebinding, cross-site requests, request ids, and what the log may say."""

from __future__ import annotations

import logging
import re

import httpx
import pytest

from edge.config import PublisherSettings, Secret
from edge.control.app import control_app
from edge.errors import ConfigError
from tests.unit.control.memory import ROW, MemoryEdge, api

TOKENS = [Secret("new-token-0123456789"), Secret("old-token-ü")]
PUBLISHER = PublisherSettings("alice", Secret("a key of thirty-two bytes or more"))
OPEN = ("/", "/livez", "/readyz", "/openapi.json")
CLOSED = ("/v1/sessions?user=ann", "/metrics", "/v1/nothing", "/nothing", "/livez/", "/%6Civez")


async def _nothing() -> dict[str, object]:
    return {"workers": {}, "missing": []}


def bearer(token: str) -> dict[str, str | bytes]:
    return {"Authorization": b"Bearer " + token.encode()}


async def get(client: httpx.AsyncClient, path: str, headers: dict[str, str | bytes]) -> httpx.Response:
    pairs = [(k.encode(), v if isinstance(v, bytes) else v.encode()) for k, v in headers.items()]
    return await client.get(path, headers=pairs)


@pytest.mark.parametrize("token", [token.value for token in TOKENS])
async def test_each_configured_token_opens(token: str) -> None:
    async with api(MemoryEdge(), tokens=TOKENS, bind="0.0.0.0:5561", base_url="http://edge.example") as client:
        assert (await get(client, "/v1/sessions?user=ann", bearer(token))).status_code == 200
        assert (await get(client, "/metrics", bearer(token))).status_code == 200
        scheme = {"Authorization": b"bEARER  " + token.encode()}
        assert (await get(client, "/metrics", scheme)).status_code == 200  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer new-token", "Bearer new-token-0123456789x", "Basic new-token-0123456789"],
)
@pytest.mark.parametrize("path", CLOSED)
async def test_without_a_token_nothing_but_the_open_paths_answers(path: str, authorization: str | None) -> None:
    edge = MemoryEdge()
    async with api(edge, tokens=TOKENS) as client:
        response = await client.get(path, headers={} if authorization is None else {"Authorization": authorization})
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "unauthorized"
        assert response.headers["www-authenticate"].startswith("Bearer")
        for method in ("POST", "PUT", "DELETE"):
            assert (await client.request(method, "/v1/drain")).status_code == 401
    assert edge.drained == 0


@pytest.mark.parametrize("path", OPEN)
async def test_open_paths_need_no_token_and_no_name(path: str) -> None:
    async with api(MemoryEdge(), tokens=TOKENS, base_url="http://10.1.2.3:5561") as client:
        assert (await client.get(path)).status_code == 200
        assert (await client.head(path)).status_code == 200


@pytest.mark.parametrize("bind", ["0.0.0.0:5561", "[::]:5561", ":5561", "192.0.2.1:5561", "edge.example:5561"])
def test_without_a_token_only_loopback_is_served(bind: str) -> None:
    with pytest.raises(ConfigError):
        control_app(MemoryEdge(), _nothing, bind=bind, tokens=lambda: ())
    control_app(MemoryEdge(), _nothing, bind=bind, tokens=lambda: TOKENS)


async def test_with_publishers_and_no_token_other_addresses_serve_publishers_only() -> None:
    async with api(
        MemoryEdge(), bind="0.0.0.0:5561", publishers=[PUBLISHER], base_url="http://10.1.2.3:5561"
    ) as client:
        for path in ("/metrics", "/v1/sessions?user=ann"):
            answer = await client.get(path, auth=("alice", PUBLISHER.key.value))
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
        item = {"items": [{"channel": "room", "ws-message": {"content": "hi"}}]}
        assert (await client.post("/publish/", json=item)).status_code == 401
        assert (await client.post("/publish/", json=item, auth=("alice", PUBLISHER.key.value))).status_code == 200
        assert (await client.get("/livez")).status_code == 200


@pytest.mark.parametrize("bind", ["127.0.0.1:5561", "127.9.9.9:1", "[::1]:5561", "localhost:5561"])
def test_loopback_needs_no_token(bind: str) -> None:
    control_app(MemoryEdge(), _nothing, bind=bind, tokens=lambda: ())


async def test_tokens_taken_away_by_a_reload_leave_nothing_open() -> None:
    tokens = list(TOKENS)
    async with api(MemoryEdge(), tokens=tokens, bind="0.0.0.0:5561", base_url="http://localhost:5561") as client:
        assert (await get(client, "/metrics", bearer(TOKENS[0].value))).status_code == 200
        tokens[:] = [Secret("third")]
        assert (await get(client, "/metrics", bearer(TOKENS[0].value))).status_code == 401
        assert (await get(client, "/metrics", bearer("third"))).status_code == 200
        tokens.clear()
        assert (await client.get("/metrics")).status_code == 403


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:5561", "LOCALHOST", "127.0.0.1:80", "[::1]:5561", "localhost."]
)
async def test_without_a_token_a_loopback_name_is_served(host: str) -> None:
    async with api(MemoryEdge()) as client:
        assert (await client.get("/metrics", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "localhost@evil.example", "[::1", "a:b:c"],
)
async def test_without_a_token_a_rebound_name_is_refused(host: str) -> None:
    edge = MemoryEdge()
    async with api(edge) as client:
        for method, path in (("GET", "/metrics"), ("POST", "/v1/drain")):
            response = await client.request(method, path, headers={"Host": host})
            assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")
    assert edge.drained == 0


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", 403),
        ("null", 403),
        ("http://localhost.evil.example:5561", 403),
        ("http://localhost:5561", 202),
        ("http://127.0.0.1:8000", 202),
    ],
)
async def test_without_a_token_other_sites_pages_cannot_send_simple_requests(origin: str, status: int) -> None:
    async with api(MemoryEdge()) as client:
        assert (await client.post("/v1/drain", headers={"Origin": origin})).status_code == status


async def test_an_answer_carries_the_requests_id_or_a_new_one() -> None:
    async with api(MemoryEdge()) as client:
        kept = await client.get("/livez", headers={"X-Request-Id": "abc-1"})
        assert kept.headers["x-request-id"] == "abc-1"
        for wrong in ("a b", "x" * 65, "a\\n", ""):
            made = (await client.get("/livez", headers={"X-Request-Id": wrong})).headers["x-request-id"]
            assert re.fullmatch(r"[0-9a-f]{16}", made)


async def test_unknown_paths_and_methods_are_answered_in_json() -> None:
    async with api(MemoryEdge()) as client:
        for path in ("/v1", "/v1/sessions/a/b", "/v1/sessions/s1/", "/v1/channels//history"):
            response = await client.get(path)
            assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")
        wrong = await client.patch("/v1/sessions/s1")
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
        assert {"GET", "DELETE"} <= set(wrong.headers["allow"].split(", "))


async def test_a_fault_of_ours_shows_nothing_but_where_to_look(caplog: pytest.LogCaptureFixture) -> None:
    edge = MemoryEdge()
    edge.failure = RuntimeError("password=hunter2")
    transport = httpx.ASGITransport(control_app(edge, _nothing, bind="127.0.0.1:1", tokens=lambda: ()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.get("/v1/channels/a", headers={"X-Request-Id": "look-here"})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal")
    assert "hunter2" not in response.text
    assert "Traceback" not in response.text
    assert response.headers["x-request-id"] == "look-here"
    [failed] = [record for record in caplog.records if record.exc_info]
    assert "look-here" in failed.getMessage()


async def test_the_log_has_a_line_for_each_request_and_no_secrets(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "holdfast.control")
    edge = MemoryEdge()
    edge.rows["s1"] = ROW
    async with api(edge, tokens=TOKENS) as client:
        headers = {**bearer(TOKENS[0].value), "X-Request-Id": "id-1"}
        await get(client, "/v1/sessions?user=ann&token=hush", headers)
        await client.get("/v1/sessions/a%0Ab", headers={"Authorization": "Bearer guess"})
    lines = [record.getMessage() for record in caplog.records if record.name == "holdfast.control"]
    assert len(lines) == 2
    assert re.fullmatch(r"GET /v1/sessions: 200 in \d+\.\d ms, request id-1", lines[0])
    assert re.fullmatch(r"GET /v1/sessions/a%0Ab: 401 in \d+\.\d ms, request [0-9a-f]{16}", lines[1])
    for word in (TOKENS[0].value, "hush", "guess", "ann"):
        assert word not in caplog.text


async def test_answers_are_not_kept_or_guessed_at() -> None:
    async with api(MemoryEdge()) as client:
        for path in ("/", "/metrics", "/v1/sessions?user=a", "/nope"):
            headers = (await client.get(path)).headers
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
