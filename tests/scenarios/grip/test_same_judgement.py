"""What Pushpin takes, the edge takes; what Pushpin refuses, the edge refuses: items and instructions, one by one.

The readers of the edge are asked directly, Pushpin through its ports. Where they differ on purpose, the readers say so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge.errors import WireError
from edge.protocol.grip.instruct import parse_instruct
from edge.protocol.grip.publish import parse_publish
from tests.support.grip_proxy import GripRoute, http_url
from tests.support.pushpin import Pushpin
from tests.support.raw_backend import Answer, Asked, raw_backend

pytestmark = pytest.mark.scenario


def ws(**fields: Any) -> dict[str, Any]:
    return {"channel": "a", "formats": {"ws-message": fields}}


def stream(**fields: Any) -> dict[str, Any]:
    return {"channel": "a", "formats": {"http-stream": fields}}


def response(**fields: Any) -> dict[str, Any]:
    return {"channel": "a", "formats": {"http-response": fields}}


ITEMS = [
    ws(content="x"),
    ws(content="x", type="ping"),
    ws(type="pong"),
    ws(action="close"),
    ws(action="close", code=0),
    ws(action="close", code=70_000, reason="x" * 200),
    ws(action="close", code=-1),
    ws(action="jump"),
    ws(content=1),
    ws(content="x", type="close"),
    ws(),
    ws(**{"content-bin": "AAE"}),
    ws(**{"content": "x", "content-filters": ["a"]}),
    ws(**{"content": "x", "content-filters": "a"}),
    ws(**{"content": "x", "content-filters": [1]}),
    stream(content=""),
    stream(),
    stream(action="hint"),
    stream(action="close"),
    response(body="x", code=404, reason="No", headers={"A": "b"}),
    response(body="x", code="404", headers=[["A", "b"], ["A", "c"]]),
    response(body="x", code=-1),
    response(body="x", code=1_000),
    response(body="x", headers=[["A"]]),
    response(body="x", headers=[["A", 1]]),
    response(body="x", headers="A: b"),
    response(action="hint"),
    response(**{"body-patch": [{"op": "add", "path": "/a", "value": 1}]}),
    response(**{"body-patch": {}}),
    response(),
    {"channel": "a", "http-stream": {"content": "x"}},
    {"channel": "a", "formats": {"other": {}}},
    {"channel": "a", "formats": {}},
    {"channel": "a", "formats": []},
    {"channel": "a"},
    {"http-stream": {"content": "x"}},
    {"channel": 5, "http-stream": {"content": "x"}},
    {"channel": "a", "id": 5, "http-stream": {"content": "x"}},
    {"channel": "a", "id": "", "prev-id": "", "http-stream": {"content": "x"}},
    {"channel": "a", "no-seq": 1, "http-stream": {"content": "x"}},
    {"channel": "a", "size": 7.9, "http-stream": {"content": "x"}},
    {"channel": "a", "size": -1, "http-stream": {"content": "x"}},
    {"channel": "a", "meta": {"x": 1}, "http-stream": {"content": "x"}},
    {"channel": "a", "more": 1, "http-stream": {"content": "x", "more": 1}},
    7,
]

HEADERS = [
    ("Grip-Hold", "forever"),
    ("Grip-Channel", 'a; prev-id="1;2"; filter=x, b'),
    ("Grip-Channel", 'a"b'),
    ("Grip-Timeout", "soon"),
    ("Grip-Timeout", "-1"),
    ("Grip-Timeout", "7"),
    ("Grip-Keep-Alive", "x; timeout=20; mode=interval"),
    ("Grip-Keep-Alive", "\\n\\x0a; format=cstring"),
    ("Grip-Keep-Alive", "\\x0; format=cstring"),
    ("Grip-Keep-Alive", "a\\; format=cstring"),
    ("Grip-Keep-Alive", "AAE=; format=base64"),
    ("Grip-Keep-Alive", "x; format=hex"),
    ("Grip-Keep-Alive", "x; mode=often"),
    ("Grip-Keep-Alive", "x; timeout=-5"),
    ("Grip-Keep-Alive", "; timeout=5"),
    ("Grip-Set-Meta", 'a="b"'),
    ("Grip-Set-Meta", "a"),
    ("Grip-Status", "404 Not here"),
    ("Grip-Status", "x"),
    ("Grip-Status", "99999"),
    ("Grip-Link", "</x>; rel=gone"),
    ("Grip-Link", "</x>; rel=prev"),
    ("Grip-Link", "/x; rel=next"),
    ("Grip-Link", "<>; rel=next"),
    ("Grip-Link", "</x>; rel=next; timeout=never"),
    ("Grip-Unheard-Of", "x"),
]

BODIES: list[Any] = [
    [],
    {"hold": 1},
    {"hold": {}},
    {"hold": {"mode": "x", "channels": []}},
    {"hold": {"channels": [{}]}},
    {"hold": {"channels": [{"name": "a", "filters": [1]}]}},
    {"hold": {"channels": [], "timeout": -1}},
    {"hold": {"channels": [], "keep-alive": {"content": 1}}},
    {"hold": {"channels": [], "meta": {"a": 1}}},
    {"response": {"code": 404, "reason": "No", "headers": [["A", "b"]], "body": "x"}},
    {"response": {"code": 1_000}},
    {"response": {"headers": [["A"]]}},
    {"response": {"body": 1}},
]


async def test_the_same_items_are_taken(tmp_path: Path) -> None:
    async with Pushpin(tmp_path) as proxy, httpx.AsyncClient() as client:
        for item in ITEMS:
            body = json.dumps({"items": [item]}).encode()
            answer = await client.post(f"{proxy.control_url}/publish/", content=body)
            assert (answer.status_code == 200) == _takes_items(body), f"{item}: {answer.text}"


async def test_the_same_instructions_are_taken(tmp_path: Path) -> None:
    current = Answer()

    async def answer(asked: Asked) -> Answer:
        return current

    async with (
        raw_backend(answer) as backend,
        Pushpin(tmp_path, GripRoute([backend.url])) as proxy,
        httpx.AsyncClient(timeout=30) as client,
    ):
        for name, value in HEADERS:
            current = Answer(headers=[(name, value)], body=b"x")
            seen = await client.get(http_url(proxy))
            assert (seen.status_code != 502) == _takes(current), f"{name}: {value}: {seen.text}"
        for form in BODIES:
            current = Answer(headers=[("Content-Type", "application/grip-instruct")], body=json.dumps(form).encode())
            seen = await client.get(http_url(proxy))
            assert (seen.status_code != 502) == _takes(current), f"{form}: {seen.text}"


def _takes_items(body: bytes) -> bool:
    try:
        parse_publish(body)
    except WireError:
        return False
    return True


def _takes(answer: Answer) -> bool:
    try:
        parse_instruct(200, [(name.encode(), value.encode()) for name, value in answer.headers], answer.body)
    except WireError:
        return False
    return True
