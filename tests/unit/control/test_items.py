"""/publish and /recover: what publishers written for Pushpin send, and what they are told. Who may: test_publishers."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from edge.errors import StoreUnavailable
from edge.protocol.grip.items import Item, SocketFormat, StreamFormat
from tests.unit.control.memory import MemoryEdge, api

ITEM: dict[str, Any] = {"channel": "room", "formats": {"ws-message": {"content": "hi"}}}


@pytest.mark.parametrize("path", ["/publish", "/publish/"])
@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", None])
async def test_items_are_published_whatever_the_content_type_says(path: str, content_type: str | None) -> None:
    edge = MemoryEdge()
    headers = {} if content_type is None else {"Content-Type": content_type}
    second = {"channel": "hall", "id": "7", "http-stream": {"content": "x\n"}}
    async with api(edge) as client:
        response = await client.post(path, content=json.dumps({"items": [ITEM, second]}), headers=headers)
    assert (response.status_code, response.text) == (200, "Published\n")
    assert response.headers["content-type"].startswith("text/plain")
    assert edge.items == [
        Item("room", socket=SocketFormat(content="hi")),
        Item("hall", "7", stream=StreamFormat(content=b"x\n")),
    ]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "text/plain"),
        ("*", "text/plain"),
        ("", "text/plain"),
        ("text/*", "text/plain"),
        ("text/plain, application/json", "text/plain"),
        ("application/json, text/plain, */*", "text/plain"),
        ("application/json", "application/json"),
        ("application/*", "application/json"),
        ("Application/JSON; charset=utf-8", "application/json"),
        ("application/json, */*;q=0.8", "application/json"),
        ("text/plain;q=0.5, application/json;q=0.9", "application/json"),
        ("text/plain;q=0, */*", "application/json"),
        ("text/html", None),
        ("application/json;q=0, text/html", None),
    ],
)
async def test_the_answer_is_in_the_form_that_accept_prefers(accept: str, kind: str | None) -> None:
    edge = MemoryEdge()
    async with api(edge) as client:
        for path in ("/publish/", "/recover"):
            response = await client.post(path, json={"items": [ITEM]}, headers={"Accept": accept})
            if kind is None:
                assert response.status_code == 406
                assert "application/json" in response.text
            else:
                assert response.headers["content-type"].startswith(kind)
    assert (len(edge.items), edge.recovered) == ((0, 0) if kind is None else (1, 1))


async def test_the_answer_in_json_says_what_became_of_each_item() -> None:
    async with api(MemoryEdge()) as client:
        headers = {"Accept": "application/json"}
        response = await client.post("/publish/", json={"items": [ITEM, {**ITEM, "id": "again"}]}, headers=headers)
        assert response.json() == {
            "message": "Published",
            "items": [
                {"channel": "room", "receivers": 2, "duplicate": False},
                {"channel": "room", "receivers": 2, "duplicate": True},
            ],
        }
        assert (await client.post("/recover", headers=headers)).json() == {"message": "Updated"}
        assert (await client.post("/recover/")).text == "Updated\n"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff", "JSON"),
        (b"[]", "object"),
        (b"{}", "items"),
        (b'{"items": {}}', "items"),
        (json.dumps({"items": [ITEM, {"formats": {"ws-message": {"content": "x"}}}]}).encode(), "items[1].channel"),
        (json.dumps({"items": [ITEM, ITEM, {"channel": "x"}]}).encode(), "items[2].formats"),
        (json.dumps({"items": [{**ITEM, "id": 5}]}).encode(), "items[0].id"),
        (json.dumps({"items": [ITEM, {"channel": "x", "ws-message": {"type": "smoke"}}]}).encode(), "items[1]"),
    ],
)
async def test_one_wrong_item_refuses_the_whole_batch_and_is_named(body: bytes, named: str) -> None:
    edge = MemoryEdge()
    async with api(edge) as client:
        response = await client.post("/publish/", content=body)
        assert response.status_code == 400
        assert response.headers["content-type"].startswith("text/plain")
        assert named in response.text
        in_json = await client.post("/publish/", content=body, headers={"Accept": "application/json"})
        assert in_json.status_code == 400
        assert named in in_json.json()["error"]["message"]
    assert edge.items == []


@pytest.mark.parametrize("path", ["/publish", "/publish/", "/recover", "/recover/"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_other_methods_are_told_which_one_there_is(path: str, method: str) -> None:
    async with api(MemoryEdge()) as client:
        response = await client.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


async def test_a_body_over_the_limit_is_refused() -> None:
    edge = MemoryEdge()
    body = json.dumps({"items": [ITEM]}).encode()
    async with api(edge, publish_bytes=len(body)) as client:
        assert (await client.post("/publish/", content=body)).status_code == 200
        response = await client.post("/publish/", content=body + b" ")
        assert response.status_code == 413
        assert f"{len(body)} bytes at most" in response.text
    assert len(edge.items) == 1


async def test_while_redis_is_away_the_publisher_is_told_to_try_again() -> None:
    edge = MemoryEdge()
    edge.failure = StoreUnavailable("1 of 1 items were not published: waited 5 s")
    async with api(edge) as client:
        for path in ("/publish/", "/recover"):
            response: httpx.Response = await client.post(path, json={"items": [ITEM]})
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")
            assert response.text.startswith("Redis is away; try again: 1 of 1 items")
