"""Items as publishers write them: in JSON, in tnetstrings, alone and in lists."""

from __future__ import annotations

import contextlib
from base64 import b64encode
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import FieldError, WireError
from edge.protocol.grip import tnetstring
from edge.protocol.grip.items import Item, ResponseFormat, SocketFormat, StreamFormat, parse_item
from edge.protocol.grip.publish import parse_publish
from edge.protocol.grip.zmq import parse_payload
from tests.unit.protocol.grip.generated import ITEMS, JSON


def ws(**fields: Any) -> dict[str, Any]:
    return {"channel": "a", "formats": {"ws-message": fields}}


def stream(**fields: Any) -> dict[str, Any]:
    return {"channel": "a", "formats": {"http-stream": fields}}


def response(**fields: Any) -> dict[str, Any]:
    return {"channel": "a", "formats": {"http-response": {name.replace("_", "-"): fields[name] for name in fields}}}


def test_an_item_with_everything() -> None:
    item = parse_item(
        {
            "channel": "a",
            "id": "2",
            "prev-id": "1",
            "no-seq": True,
            "meta": {"sender": "alice"},
            "size": 7,
            "formats": {
                "ws-message": {"content": "é", "content-filters": ["build-id"]},
                "http-stream": {"content": "é\n"},
                "http-response": {
                    "code": 201,
                    "reason": "Made",
                    "headers": {"A": "é"},
                    "body": "é",
                    "content-filters": [],
                },
                "mqtt": 7,
            },
            "more": [],
        }
    )
    assert item == Item(
        "a",
        "2",
        "1",
        True,
        {"sender": "alice"},
        7,
        SocketFormat(content="é", filters=("build-id",)),
        StreamFormat(content="é\n".encode()),
        ResponseFormat(code=201, reason="Made", headers=(("A", "Ã©"),), body="é".encode(), filters=()),
    )


def test_formats_may_stand_in_the_item_itself() -> None:
    item = parse_item({"channel": "a", "http-stream": {"content": "x"}, "formats": None})
    assert item == Item("a", stream=StreamFormat(content=b"x"))
    assert parse_item({"channel": "a", "formats": {"mqtt": {}}}) == Item("a")


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        (ws(content="x"), SocketFormat(content="x")),
        (ws(**{"content-bin": "AAE="}), SocketFormat(kind="binary", content=b"\0\1")),
        (ws(**{"content-bin": "aGk=", "type": "text"}), SocketFormat(content="hi")),
        (ws(content="x", type="binary"), SocketFormat(kind="binary", content=b"x")),
        (ws(type="ping"), SocketFormat(kind="ping", content=b"")),
        (ws(type="pong", content="x"), SocketFormat(kind="pong", content=b"x")),
        (ws(action="close"), SocketFormat("close")),
        (ws(action="close", code=4000, reason="é"), SocketFormat("close", code=4000, reason="é")),
        (ws(action="close", code=0), SocketFormat("close", code=1000)),
        (ws(action="close", code=70_000), SocketFormat("close", code=1000)),
        (ws(action="close", code=1001.5, reason="é" * 62), SocketFormat("close", code=1001, reason="é" * 61)),
        (ws(action="refresh", content=5), SocketFormat("refresh")),
        (ws(action="hint"), None),
    ],
)
def test_socket_formats(fields: dict[str, Any], form: SocketFormat | None) -> None:
    assert parse_item(fields).socket == form


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        (stream(content="x"), StreamFormat(content=b"x")),
        (stream(content=""), StreamFormat(content=b"")),
        (stream(action="send", **{"content-bin": "AA\nE"}), StreamFormat(content=b"\0\1")),
        (stream(action="close"), StreamFormat("close")),
        (stream(action="hint", content=1), StreamFormat("hint")),
        (stream(action="refresh"), None),
    ],
)
def test_stream_formats(fields: dict[str, Any], form: StreamFormat | None) -> None:
    assert parse_item(fields).stream == form


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        (response(body="x"), ResponseFormat(body=b"x")),
        (response(body_bin="AAE="), ResponseFormat(body=b"\0\1")),
        (
            response(body="x", headers=[["A", "b"], ["A", "c"]]),
            ResponseFormat(headers=(("A", "b"), ("A", "c")), body=b"x"),
        ),
        (response(body="x", code="404"), ResponseFormat(code=404, body=b"x")),
        (response(body_patch=[{"op": "test"}]), ResponseFormat(patch=({"op": "test"},))),
        (response(body="x", body_patch=[{"op": "test"}]), ResponseFormat(body=b"x")),
        (response(action="hint"), ResponseFormat("hint")),
        (response(action="close"), None),
    ],
)
def test_response_formats(fields: dict[str, Any], form: ResponseFormat | None) -> None:
    assert parse_item(fields).response == form


DEEP: Any = 1
for _ in range(70):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        (7, "the message"),
        ({}, "formats"),
        ({"http-stream": {"content": "x"}}, "channel"),
        ({"channel": "", "http-stream": {"content": "x"}}, "channel"),
        ({"channel": 5, "http-stream": {"content": "x"}}, "channel"),
        ({"channel": "\ud800", "http-stream": {"content": "x"}}, "channel"),
        ({"channel": "a", "formats": {}}, "formats"),
        ({"channel": "a", "formats": []}, "formats"),
        ({"channel": "a", "id": 1, "http-stream": {"content": "x"}}, "id"),
        ({"channel": "a", "no-seq": 1, "http-stream": {"content": "x"}}, "no-seq"),
        ({"channel": "a", "size": -1, "http-stream": {"content": "x"}}, "size"),
        ({"channel": "a", "size": "x", "http-stream": {"content": "x"}}, "size"),
        ({"channel": "a", "size": 10**400, "http-stream": {"content": "x"}}, "size"),
        ({"channel": "a", "meta": {"x": 1}, "http-stream": {"content": "x"}}, "meta.x"),
        ({"channel": "a", "http-stream": 1}, "http-stream"),
        (ws(), "formats.ws-message.content"),
        (ws(content=1), "formats.ws-message.content"),
        (ws(action="jump"), "formats.ws-message.action"),
        (ws(type="close", content="x"), "formats.ws-message.type"),
        (ws(**{"content-bin": "/w==", "type": "text"}), "formats.ws-message.content-bin"),
        (ws(**{"content-bin": "not base64!"}), "formats.ws-message.content-bin"),
        (ws(type="ping", content="x" * 126), "formats.ws-message.content"),
        (ws(action="close", code=-1), "formats.ws-message.code"),
        (ws(action="close", reason=1), "formats.ws-message.reason"),
        (ws(content="x", **{"content-filters": "f"}), "formats.ws-message.content-filters"),
        (ws(content="x", **{"content-filters": [1]}), "formats.ws-message.content-filters[0]"),
        (stream(), "formats.http-stream.content"),
        (stream(action=7), "formats.http-stream.action"),
        (response(), "formats.http-response.body"),
        (response(body="x", code=100), "formats.http-response.code"),
        (response(body="x", reason="a\nb"), "formats.http-response.reason"),
        (response(body="x", headers={"A": "a\r\nB: c"}), "formats.http-response.headers.A"),
        (response(body="x", headers=[["A", 1]]), "formats.http-response.headers[0]"),
        (response(body="x", headers="A: b"), "formats.http-response.headers"),
        (response(body_patch={}), "formats.http-response.body-patch"),
        (response(body_patch=[1]), "formats.http-response.body-patch[0]"),
        (response(body_patch=[{}, {"value": DEEP}]), "formats.http-response.body-patch[1]"),
        (response(body_patch=[{"value": 1 << 64}]), "formats.http-response.body-patch[0]"),
    ],
)
def test_malformed_items_are_named(fields: object, field: str) -> None:
    with pytest.raises(FieldError) as caught:
        parse_item(fields)
    assert caught.value.field == field


def test_a_batch_is_taken_whole_or_not_at_all() -> None:
    good = {"channel": "a", "http-stream": {"content": "x"}}
    assert len(parse_publish(orjson.dumps({"items": [good, good]}))) == 2
    assert parse_publish(b'{"items": []}') == []
    with pytest.raises(FieldError) as caught:
        parse_publish(orjson.dumps({"items": [good, good, good, ws(content=5)]}))
    assert caught.value.field == "items[3].formats.ws-message.content"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "is not JSON"),
        (b"[]", "must be an object"),
        (b"{}", "items: is missing"),
        (b'{"items": {}}', "items: must be a list"),
        (b'{"items": [1]}', r"items\[0\].the message: must be an object"),
    ],
)
def test_what_is_no_batch(body: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        parse_publish(body)


# -- ZeroMQ --------------------------------------------------------------------------------------------------


def test_payloads_in_json_and_in_tnetstrings() -> None:
    item = Item("a", stream=StreamFormat(content=b"x"))
    form = {"channel": "a", "formats": {"http-stream": {"content": "x"}}}
    assert parse_payload(b"J" + orjson.dumps(form)) == [item]
    assert parse_payload(b"T" + tnetstring.encode(form)) == [item]
    assert parse_payload(tnetstring.encode(form)) == [item]
    assert parse_payload(b"J" + orjson.dumps({"items": [form, form]})) == [item, item]


def test_the_topic_of_a_sub_socket_is_the_channel() -> None:
    form = {"channel": "a", "http-stream": {"content": "x"}}
    assert parse_payload(b"J" + orjson.dumps(form), "b")[0].channel == "b"
    del form["channel"]
    assert parse_payload(b"T" + tnetstring.encode(form), "b")[0].channel == "b"


def test_tnetstrings_carry_binary_as_it_is() -> None:
    form = {
        "channel": "é",
        "no-seq": True,
        "size": 5,
        "formats": {
            "ws-message": {"content-bin": b"\xff"},
            "http-stream": {"content": b"\xff"},
            "http-response": {"body": b"\xff", "headers": [["A", "b"]], "code": 404},
        },
    }
    assert parse_payload(tnetstring.encode(form)) == [
        Item(
            "é",
            no_seq=True,
            size=5,
            socket=SocketFormat(kind="binary", content=b"\xff"),
            stream=StreamFormat(content=b"\xff"),
            response=ResponseFormat(code=404, headers=(("A", "b"),), body=b"\xff"),
        )
    ]
    form = {"channel": "a", "ws-message": {"type": "binary", "content": b"\xff"}}
    assert parse_payload(tnetstring.encode(form))[0].socket == SocketFormat(kind="binary", content=b"\xff")
    form = {"channel": "a", "http-response": {"body-patch": [{"op": "add", "path": "/a", "value": ["b", 1, None]}]}}
    assert parse_payload(tnetstring.encode(form))[0].response == ResponseFormat(
        patch=({"op": "add", "path": "/a", "value": ["b", 1, None]},)
    )


def test_text_in_a_tnetstring_must_be_utf_8() -> None:
    with pytest.raises(FieldError) as caught:
        parse_payload(tnetstring.encode({"channel": "a", "ws-message": {"content": b"\xff"}}))
    assert caught.value.field == "ws-message.content"


# -- round trips and garbage -----------------------------------------------------------------------------------


def written(item: Item) -> dict[str, Any]:
    """The item as a publisher would have written it in JSON."""
    form: dict[str, Any] = {"channel": item.channel, "no-seq": item.no_seq, "meta": item.meta, "formats": {"other": 1}}
    form.update({"id": item.id, "prev-id": item.prev_id, "size": item.size})
    socket, stream, response = item.socket, item.stream, item.response
    if socket is not None:
        sent: dict[str, Any] = {
            "action": socket.action,
            "type": socket.kind,
            "code": socket.code,
            "reason": socket.reason,
        }
        form["formats"]["ws-message"] = {
            **sent,
            **content("content", socket.content),
            "content-filters": socket.filters,
        }
    if stream is not None:
        sent = {"action": stream.action, "content-filters": stream.filters}
        form["formats"]["http-stream"] = {**sent, **content("content", stream.content)}
    if response is not None:
        form["formats"]["http-response"] = {
            "action": response.action,
            "code": response.code,
            "reason": response.reason,
            "headers": response.headers,
            "content-filters": response.filters,
            **(content("body", response.body) if response.patch is None else {"body-patch": response.patch}),
        }
    return form


def content(name: str, value: str | bytes) -> dict[str, str]:
    return {name: value} if isinstance(value, str) else {f"{name}-bin": b64encode(value).decode()}


@given(ITEMS)
def test_what_was_written_is_read(item: Item) -> None:
    assert parse_publish(orjson.dumps({"items": [written(item)]})) == [item]


FORMAT = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(JSON, st.sampled_from(("send", "close", "text", "ping", "AAE=")))
        for name in ("action", "type", "content", "content-bin", "code", "reason", "headers", "body", "body-patch")
    },
)
GARBAGE = st.fixed_dictionaries(
    {"channel": st.one_of(st.just("a"), JSON)},
    optional={
        name: st.one_of(JSON, FORMAT) for name in ("id", "meta", "size", "ws-message", "http-stream", "http-response")
    },
)


@given(st.one_of(GARBAGE, JSON))
def test_garbage_is_refused_or_read(form: Any) -> None:
    for payload in (b"J" + orjson.dumps(form), b"T" + tnetstring.encode(form)):
        with contextlib.suppress(WireError):
            parse_payload(payload)


@given(st.binary(max_size=60))
def test_noise_is_refused(payload: bytes) -> None:
    with contextlib.suppress(WireError):
        parse_payload(payload)
    with contextlib.suppress(WireError):
        parse_publish(payload)
