"""Control messages."""

from __future__ import annotations

import contextlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import FieldError, WireError
from edge.protocol.grip.control import (
    Control,
    Detach,
    FlushDelayed,
    SendDelayed,
    SetMeta,
    SocketKeepAlive,
    Subscribe,
    Unsubscribe,
    parse_control,
)


@pytest.mark.parametrize(
    ("text", "control"),
    [
        (b'{"type": "subscribe", "channel": "a"}', Subscribe("a")),
        (b'{"type": "subscribe", "channel": "a", "filters": ["f", "g"]}', Subscribe("a", ("f", "g"))),
        (b'{"type": "subscribe", "channel": "a", "filters": null, "more": 1}', Subscribe("a")),
        (b'{"type": "unsubscribe", "channel": "\xc3\xa9"}', Unsubscribe("é")),
        (b'{"type": "detach"}', Detach()),
        (b'{"type": "set-meta", "name": "user", "value": "alice"}', SetMeta("user", "alice")),
        (b'{"type": "set-meta", "name": "user", "value": ""}', SetMeta("user", "")),
        (b'{"type": "set-meta", "name": "user"}', SetMeta("user", None)),
        (b'{"type": "set-meta", "name": "user", "value": null}', SetMeta("user", None)),
        (b'{"type": "keep-alive"}', SocketKeepAlive(None)),
        (b'{"type": "keep-alive", "content": "x"}', SocketKeepAlive("x")),
        (
            b'{"type": "keep-alive", "content": "x", "timeout": 20, "mode": "interval", "message-type": "ping"}',
            SocketKeepAlive(b"x", "ping", 20.0, "interval"),
        ),
        (b'{"type": "keep-alive", "content": "x", "timeout": "20", "mode": "odd"}', SocketKeepAlive("x", "text", 20.0)),
        (
            b'{"type": "keep-alive", "content-bin": "AAE=", "message-type": "binary"}',
            SocketKeepAlive(b"\0\1", "binary"),
        ),
        (b'{"type": "send-delayed", "content": "x"}', SendDelayed("x")),
        (b'{"type": "send-delayed", "content-bin": "aGk=", "timeout": 0}', SendDelayed("hi", "text", 0.0)),
        (b'{"type": "flush-delayed"}', FlushDelayed()),
        (b'{"type": "session", "id": "s"}', None),
        (b'{"type": "conjure"}', None),
    ],
)
def test_orders(text: bytes, control: Control | None) -> None:
    assert parse_control(text) == control
    assert parse_control(b"c:" + text) == control


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (b"[]", "the message"),
        (b"{}", "type"),
        (b'{"type": 1}', "type"),
        (b'{"type": "subscribe"}', "channel"),
        (b'{"type": "subscribe", "channel": ""}', "channel"),
        (b'{"type": "subscribe", "channel": 7}', "channel"),
        (b'{"type": "subscribe", "channel": "a", "filters": "f"}', "filters"),
        (b'{"type": "subscribe", "channel": "a", "filters": ["f", 1]}', "filters[1]"),
        (b'{"type": "set-meta", "value": "x"}', "name"),
        (b'{"type": "set-meta", "name": "x", "value": 1}', "value"),
        (b'{"type": "send-delayed"}', "content"),
        (b'{"type": "send-delayed", "content": 1}', "content"),
        (b'{"type": "send-delayed", "content": "x", "timeout": -1}', "timeout"),
        (b'{"type": "send-delayed", "content": "x", "timeout": "soon"}', "timeout"),
        (b'{"type": "send-delayed", "content": "x", "timeout": true}', "timeout"),
        (b'{"type": "keep-alive", "content": "x", "message-type": "close"}', "message-type"),
        (b'{"type": "keep-alive", "content-bin": "!"}', "content-bin"),
        (b'{"type": "keep-alive", "content-bin": "/w=="}', "content-bin"),
        (b'{"type": "keep-alive", "content": "' + b"x" * 126 + b'", "message-type": "ping"}', "content"),
    ],
)
def test_malformed_orders_are_named(text: bytes, field: str) -> None:
    with pytest.raises(FieldError) as caught:
        parse_control(text)
    assert caught.value.field == field


@pytest.mark.parametrize("text", [b"", b"c:", b"c: ", b"{", b"\xff", b"[" * 100_000, b'{"type": "\\ud800"}'])
def test_what_is_no_json(text: bytes) -> None:
    with pytest.raises(WireError, match="is not JSON"):
        parse_control(text)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-10, 1 << 60), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)
ORDER = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ("subscribe", "unsubscribe", "set-meta", "keep-alive", "send-delayed", "detach", "flush-delayed", "session")
        )
    },
    optional={
        name: st.one_of(JSON, st.text(max_size=3))
        for name in ("channel", "filters", "name", "value", "content", "content-bin", "timeout", "mode", "message-type")
    },
)


@given(st.one_of(ORDER, JSON))
def test_garbage_is_refused_or_read(form: object) -> None:
    with contextlib.suppress(WireError):
        parse_control(orjson.dumps(form))
