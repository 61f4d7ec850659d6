"""Properties of the codec that examples cannot show; the examples are in tests/contract/vectors."""

from __future__ import annotations

import base64
import json
from types import MappingProxyType
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import FieldError, WireError
from edge.protocol.callbacks.actions import BadResult, Publish, Result, Send
from edge.protocol.callbacks.events import ClientRequest, Close, LinkEvent, Message, Open, Parcel
from edge.protocol.callbacks.wire import (
    JSON_TYPE,
    MSGPACK_TYPE,
    WireEncoding,
    decode_response,
    encode_request,
    encoding_of,
    parse_actions,
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=255)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=10,
)
payloads = text | st.binary(max_size=20)
encodings = st.sampled_from(["json", "msgpack"])
PARCELS = [Parcel(s, "r", None, {}, 0, 1, [Message(f"{s}:1", 0, "x")]) for s in ("s1", "s2")]


def payload_fields(payload: str | bytes, encoding: str) -> dict[str, Any]:
    if isinstance(payload, str):
        return {"text": payload}
    return {"data": {"b64": base64.b64encode(payload).decode()} if encoding == "json" else payload}


def written(answer: Any, encoding: str) -> tuple[bytes, str]:
    if encoding == "json":
        return json.dumps(answer).encode(), JSON_TYPE
    return bytes(msgpack.packb(answer)), MSGPACK_TYPE


@given(
    st.lists(
        st.tuples(
            names,
            st.none() | names,
            st.dictionaries(names, json_values, max_size=3),
            st.lists(payloads, min_size=1, max_size=3),
        ),
        max_size=4,
    ),
    st.lists(names, max_size=3),
    encodings,
)
def test_what_is_encoded_can_be_read_by_anybody(
    sessions: list[tuple[str, str | None, dict[str, Any], list[str | bytes]]], gone: list[str], encoding: WireEncoding
) -> None:
    parcels = [
        Parcel(session, "r", user, state, 3, 2, [Message(f"{session}:{n}", n, p) for n, p in enumerate(many)])
        for session, user, state, many in sessions
    ]
    body = encode_request("e", parcels, gone, encoding)
    read = json.loads(body) if encoding == "json" else msgpack.unpackb(body)
    assert read.get("gone", []) == gone
    entries = iter(read["events"])
    for session, user, state, many in sessions:
        for n, payload in enumerate(many):
            common = {"id": f"{session}:{n}", "session": session, "type": "message", "attempt": 2, "at": n}
            first = {"state": state, "version": 3} if n == 0 else {}
            shared = {"release": "r", "user": user}
            assert next(entries) == common | shared | first | payload_fields(payload, encoding)
    assert next(entries, None) is None


@given(names, payloads, st.dictionaries(names, json_values, max_size=3), encodings)
def test_answers_mean_the_same_in_both_encodings(
    channel: str, payload: str | bytes, state: dict[str, Any], encoding: str
) -> None:
    fields = payload_fields(payload, encoding)
    actions = [{"type": "send"} | fields, {"type": "publish", "channel": channel} | fields]
    body, kind = written({"results": [{"id": "s1:1", "actions": actions, "state": {"set": state}}]}, encoding)
    assert decode_response(body, kind, PARCELS) == {"s1:1": Result((Send(payload), Publish(channel, payload)), state)}


@given(st.data(), encodings)
def test_mutated_answers_give_wire_errors_and_bad_results_and_nothing_else(data: st.DataObject, encoding: str) -> None:
    actions = [
        {"type": "send", "text": "größer"},
        {"type": "publish", "channel": "c"} | payload_fields(b"\0\xff", encoding),
        {"type": "accept", "headers": [["a", "b"]], "subprotocol": "x"},
        {"type": "subscribe", "channel": "c", "since": {"offset": 1, "epoch": "e"}},
        {"type": "timer", "name": "t", "after_ms": 5, "data": {"deep": [1.5, None, {"x": True}]}},
    ]
    state = {"set": {"a": [1, {"b": None}]}, "unset": ["c"]}
    results = [{"id": "s1:1", "actions": actions, "state": state}, {"id": "s2:1"}]
    body, kind = written({"results": results}, encoding)
    broken = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(broken) - 1))
        match data.draw(st.sampled_from(["set", "cut", "insert", "end"])):
            case "set":
                broken[at] = data.draw(st.integers(0, 255))
            case "cut" if len(broken) > 1:
                del broken[at]
            case "insert":
                broken[at:at] = data.draw(st.binary(min_size=1, max_size=3))
            case _:
                broken = broken[: at + 1]
    check(bytes(broken), kind)


@given(st.binary(max_size=200), encodings)
def test_random_bytes_give_wire_errors_and_bad_results_and_nothing_else(body: bytes, encoding: str) -> None:
    check(body, JSON_TYPE if encoding == "json" else MSGPACK_TYPE)


@given(
    st.recursive(
        json_values | st.binary(max_size=5) | st.just(float("nan")),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["results", "id", "actions", "state", "set", "unset", "type", "text", "data", "session"]
                )
                | text,
                inner | st.sampled_from(["s1:1", "s2:1", "send", "publish", "close", "timer", "accept"]),
                max_size=5,
            )
        ),
        max_leaves=30,
    )
)
def test_well_formed_nonsense_gives_wire_errors_and_bad_results_and_nothing_else(value: Any) -> None:
    check(bytes(msgpack.packb({"results": value})), MSGPACK_TYPE)
    check(bytes(msgpack.packb({"results": [{"id": "s1:1", "actions": value}]})), MSGPACK_TYPE)
    check(bytes(msgpack.packb({"results": [{"id": "s1:1", "actions": [value], "state": value}]})), MSGPACK_TYPE)


def check(body: bytes, kind: str) -> None:
    try:
        decoded = decode_response(body, kind, PARCELS)
    except WireError:
        return
    assert set(decoded) <= {"s1:1", "s2:1"}
    for outcome in decoded.values():
        if isinstance(outcome, BadResult):
            assert outcome.field.isprintable()
            (outcome.field + outcome.problem).encode()
        else:
            # Whatever is let through can be passed on: to a client, into Redis, into the next request.
            json.dumps(outcome.state_set, ensure_ascii=False, allow_nan=False).encode()
            msgpack.packb(outcome.state_set)
            for action in outcome.actions:
                if isinstance(action, Send) and isinstance(action.payload, str):
                    action.payload.encode()


@pytest.mark.parametrize("depth", [70, 100_000])
@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_deep_nesting_is_refused(depth: int, encoding: str) -> None:
    if encoding == "json":
        deep = b"[" * depth + b"]" * depth
        body, kind = b'{"results": [{"id": "s1:1", "state": {"set": {"a": ' + deep + b"}}}]}", JSON_TYPE
    else:
        head = msgpack.packb({"results": [{"id": "s1:1", "state": {"set": {"a": 0}}}]})[:-1]
        body, kind = head + b"\x91" * depth + b"\xc0", MSGPACK_TYPE
    try:
        outcome = decode_response(body, kind, PARCELS)["s1:1"]
    except WireError:
        return
    assert isinstance(outcome, BadResult)
    assert outcome.field == "state.set.a"


@pytest.mark.parametrize(
    ("octets", "field"),
    [
        (b'{"type": "send", "text": "\\ud800"}', "actions[0].text"),
        (b'{"type": "subscribe", "channel": "a\\u0000b"}', "actions[0].channel"),
        (b'{"type": "subscribe", "channel": "' + b"c" * 256 + b'"}', "actions[0].channel"),
        (b'{"type": "timer", "name": "t", "after_ms": 1, "data": NaN}', "actions[0].data"),
        (b'{"type": "timer", "name": "t", "after_ms": 1, "data": 18446744073709551616}', "actions[0].data"),
        (b'{"type": "accept", "subprotocol": "a b"}', "actions[0].subprotocol"),
        (b'{"type": "reject", "headers": [["a", "\\u0000"]]}', "actions[0].headers[0]"),
        (b'{"type": "send", "text": "x", "\\u0000\\ud800": 1}', "actions[0].\\x00\\ud800"),
    ],
)
def test_values_that_nobody_could_pass_on(octets: bytes, field: str) -> None:
    body = b'{"results": [{"id": "s1:1", "actions": [' + octets + b"]}]}"
    outcome = decode_response(body, JSON_TYPE, PARCELS)["s1:1"]
    assert isinstance(outcome, BadResult)
    assert outcome.field == field


def test_text_that_is_no_utf8_in_msgpack_is_that_results_fault() -> None:
    good = {"id": "s2:1", "actions": [{"type": "send", "text": "ok"}]}
    body = msgpack.packb({"results": [{"id": "s1:1", "actions": [{"type": "send", "text": "NOT"}]}, good]})
    decoded = decode_response(body.replace(b"NOT", b"\xff\xfe\xfd"), MSGPACK_TYPE, PARCELS)
    assert decoded == {"s1:1": BadResult("actions[0].text", "is not valid UTF-8"), "s2:1": Result((Send("ok"),))}


def test_two_results_for_one_event_hold_neither() -> None:
    body = json.dumps({"results": [{"id": "s1:1"}, {"id": "s1:1"}]}).encode()
    assert decode_response(body, JSON_TYPE, PARCELS)["s1:1"] == BadResult("results[1].id", "this event has two results")


def test_state_may_not_be_set_and_unset_at_once() -> None:
    body = json.dumps({"results": [{"id": "s1:1", "state": {"set": {"a": 1}, "unset": ["a"]}}]}).encode()
    assert decode_response(body, JSON_TYPE, PARCELS)["s1:1"] == BadResult("state.unset[0]", "is also in set")


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_a_handshake_that_is_no_unicode_is_shown_and_does_not_stop_the_request(encoding: WireEncoding) -> None:
    request = ClientRequest("GET", "/\udcff", "", [("x", "y")], "127.0.0.1:1", "ws", [])
    body = encode_request("e", [Parcel("s", "r", None, {}, 0, 1, [Open("s:1", 1, request, "websocket")])], (), encoding)
    read = json.loads(body) if encoding == "json" else msgpack.unpackb(body)
    assert read["events"][0]["request"]["path"] == "/?"


def test_events_other_than_messages_carry_what_all_events_carry() -> None:
    parcel = Parcel("s", "r", "ada", {"a": 1}, 2, 3, [Close("s:close", 5, 1000, "", True, "client")])
    [entry] = json.loads(encode_request("e", [parcel], (), "json"))["events"]
    assert entry["session"] == "s"
    assert entry["version"] == 2
    assert entry["attempt"] == 3


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("Application/JSON; charset=utf-8", "json"),
        ("application/x-msgpack", "msgpack"),
        (MSGPACK_TYPE, "msgpack"),
        ("text/plain", None),
        ("", None),
    ],
)
def test_content_types(content_type: str, encoding: str | None) -> None:
    assert encoding_of(content_type) == encoding


def test_the_control_api_uses_the_same_checker() -> None:
    assert parse_actions([{"type": "send", "data": {"b64": "AQI="}}], from_json=True) == (Send(b"\1\2"),)
    with pytest.raises(FieldError, match=r"actions\[0\]\.data"):
        parse_actions([{"type": "send", "data": {"b64": "AQI="}}], from_json=False)


@given(st.dictionaries(names.map(lambda name: f"f-{name}"), json_values, max_size=4), encodings)
def test_what_happens_to_a_link_is_written_as_it_is_stored(fields: dict[str, Any], encoding: WireEncoding) -> None:
    event = LinkEvent("x:u42:7", 5, "xmpp.message", fields)
    stored = LinkEvent("x:u42:8", 6, "xmpp.message", MappingProxyType(fields))
    body = encode_request("e", [Parcel("x:u42", "r", None, {"n": 1}, 3, 2, [event, stored])], [], encoding)
    first, second = (json.loads(body) if encoding == "json" else msgpack.unpackb(body))["events"]
    common = {"session": "x:u42", "attempt": 2, "release": "r", "user": None, "type": "xmpp.message"}
    assert first == {**common, "id": "x:u42:7", "at": 5, **fields, "state": {"n": 1}, "version": 3}
    assert second == {**common, "id": "x:u42:8", "at": 6, **fields}
