"""The codec, by property: whatever an edge can say is read the same from both encodings, whatever a handler can order
comes back the same from both."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend_sdk.errors import BadField, RequestError
from backend_sdk.events import Position
from backend_sdk.wire import JSON_TYPE, MSGPACK_TYPE, JsonEncoding, MsgpackEncoding, decode_request

characters = st.characters(exclude_categories=["Cs"])
texts = st.text(characters, max_size=12)
names = st.text(characters, min_size=1, max_size=12)
whole = st.integers(0, 2**53)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
positions = st.fixed_dictionaries({"offset": whole, "epoch": texts})
payloads = st.fixed_dictionaries({"text": texts}) | st.fixed_dictionaries({"data": st.binary(max_size=20)})
requests = st.fixed_dictionaries(
    {
        "method": st.just("GET"),
        "path": texts,
        "query": texts,
        "headers": st.lists(st.lists(texts, min_size=2, max_size=2), max_size=3),
        "client": texts,
        "scheme": st.sampled_from(["ws", "wss"]),
        "subprotocols": st.lists(texts, max_size=2),
    }
)
own_fields = st.one_of(
    st.tuples(st.just("message"), payloads),
    st.tuples(st.just("open"), st.fixed_dictionaries({"request": requests, "transport": texts})),
    st.tuples(
        st.just("close"),
        st.fixed_dictionaries({"code": whole, "reason": texts, "clean": st.booleans(), "cause": texts}),
    ),
    st.tuples(st.just("timer"), st.fixed_dictionaries({"name": texts, "data": json_values})),
    st.tuples(st.just("release"), st.fixed_dictionaries({"from": texts, "to": texts})),
    st.tuples(st.just("gap"), st.fixed_dictionaries({"channel": texts, "since": positions, "position": positions})),
    st.tuples(st.just("detach"), st.fixed_dictionaries({"why": json_values})),
)


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    kind, fields = draw(own_fields)
    session = draw(st.sampled_from(["s1", "s2", "s3"]))
    common = {
        "id": f"{session}:{draw(whole)}",
        "session": session,
        "type": kind,
        "attempt": draw(st.integers(1, 9)),
        "at": draw(whole),
        "release": draw(texts),
        "user": draw(st.none() | texts),
        "state": draw(st.dictionaries(names, json_values, max_size=2)),
        "version": draw(whole),
    }
    return {**common, **fields}


def as_json(fields: dict[str, Any]) -> dict[str, Any]:
    if fields["type"] in ("message", "send", "publish") and "data" in fields:
        return {**fields, "data": {"b64": base64.b64encode(fields["data"]).decode()}}
    return fields


@given(sent=st.lists(events(), max_size=6), gone=st.lists(names, max_size=2))
def test_any_request_is_read_alike_from_both_encodings(sent: list[dict[str, Any]], gone: list[str]) -> None:
    packed = decode_request(MSGPACK_TYPE, msgpack.packb({"edge": "e", "events": sent, "gone": gone}))
    text = json.dumps({"edge": "e", "events": [as_json(event) for event in sent], "gone": gone})
    assert packed == decode_request(f"{JSON_TYPE}; charset=utf-8", text.encode())
    assert list(packed.gone) == gone
    for parcel in packed.parcels:
        mine = [event for event in sent if event["session"] == parcel.session]
        assert [event.id for event in parcel.events] == [event["id"] for event in mine]
        assert [event.type for event in parcel.events] == [event["type"] for event in mine]
        assert (parcel.state, parcel.version, parcel.user) == (mine[0]["state"], mine[0]["version"], mine[0]["user"])
        for event, source in zip(parcel.events, mine, strict=True):
            if source["type"] == "message":
                assert getattr(event, "payload", None) == source.get("text", source.get("data"))
            if source["type"] == "gap":
                assert getattr(event, "since", None) == Position(**source["since"])
    assert sum(len(parcel.events) for parcel in packed.parcels) == len(sent)


def refusal(content_type: str, body: bytes) -> int | None:
    """The status a body is refused with, None when it is read."""
    try:
        decode_request(content_type, body)
    except RequestError as error:
        return error.status
    return None


@given(body=st.binary(max_size=60), content_type=st.sampled_from([MSGPACK_TYPE, JSON_TYPE]))
def test_no_body_does_worse_than_400(body: bytes, content_type: str) -> None:
    assert refusal(content_type, body) in (None, 400)


@given(event=events(), field=st.data(), value=json_values)
def test_a_spoilt_field_is_read_or_refused_with_its_name(
    event: dict[str, Any], field: st.DataObject, value: Any
) -> None:
    name = field.draw(st.sampled_from(sorted(event)))
    spoilt = {**as_json(event), name: value}
    body = json.dumps({"edge": "e", "events": [spoilt]}).encode()
    if refusal(JSON_TYPE, body) is None:
        assert len(decode_request(JSON_TYPE, body).parcels) == 1
    else:
        with pytest.raises(BadField, match=r"events\[0\]\."):
            decode_request(JSON_TYPE, body)


actions = st.one_of(
    st.tuples(st.sampled_from(["send", "publish"]), payloads).map(lambda pair: {"type": pair[0], **pair[1]}),
    st.fixed_dictionaries({"type": st.just("timer"), "name": names, "after_ms": whole, "data": json_values}),
    st.fixed_dictionaries({"type": st.just("subscribe"), "channel": names, "since": positions}),
)
answers = st.fixed_dictionaries(
    {
        "id": names,
        "actions": st.lists(actions, max_size=4),
        "state": st.fixed_dictionaries(
            {"set": st.dictionaries(names, json_values, max_size=3), "unset": st.lists(names, max_size=2)}
        ),
    }
)


@given(results=st.lists(answers, max_size=20))
def test_any_answer_comes_back_from_both_encodings(results: list[dict[str, Any]]) -> None:
    for encoding in (JsonEncoding(), MsgpackEncoding()):
        packed = [encoding.pack(result) for result in results]
        assert [encoding.unpack(each) for each in packed] == results
        body = encoding.join(packed)
        if isinstance(encoding, MsgpackEncoding):
            assert msgpack.unpackb(body) == {"results": results}
        else:
            wanted = [{**result, "actions": [as_json(action) for action in result["actions"]]} for result in results]
            assert json.loads(body) == {"results": wanted}
