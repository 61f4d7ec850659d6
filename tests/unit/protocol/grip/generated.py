"""Items as hypothesis makes them up."""

from __future__ import annotations

from hypothesis import strategies as st

from edge.protocol.grip.items import Item, ResponseFormat, SocketFormat, StreamFormat
from edge.protocol.grip.socket_events import sendable_code

TEXTS = st.text(max_size=8)
FILTERS = st.one_of(st.none(), st.lists(TEXTS, max_size=2).map(tuple))
CONTENT = st.binary(max_size=20)
SENT = st.one_of(
    st.builds(SocketFormat, st.just("send"), st.just("text"), TEXTS, filters=FILTERS),
    st.builds(SocketFormat, st.just("send"), st.sampled_from(("binary", "ping", "pong")), CONTENT, filters=FILTERS),
)
CLOSED = st.builds(
    SocketFormat, st.just("close"), code=st.integers(1000, 4999).map(sendable_code), reason=st.text(max_size=20)
)
SOCKETS = st.one_of(SENT, CLOSED, st.just(SocketFormat("refresh")))
STREAMS = st.one_of(
    st.builds(StreamFormat, st.just("send"), CONTENT, FILTERS),
    st.sampled_from([StreamFormat("hint"), StreamFormat("close")]),
)
NAMES = st.text("abcXYZ-", min_size=1, max_size=5)
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=8)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(1 << 53), 1 << 53), st.floats(-1e9, 1e9), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=5,
)
RESPONSES = st.one_of(
    st.builds(
        ResponseFormat,
        st.just("send"),
        st.integers(200, 999),
        VALUES,
        st.lists(st.tuples(NAMES, VALUES), max_size=3).map(tuple),
        CONTENT,
        st.none(),
        FILTERS,
    ),
    st.builds(ResponseFormat, patch=st.lists(st.dictionaries(TEXTS, JSON, max_size=3), max_size=2).map(tuple)),
    st.just(ResponseFormat("hint")),
)
ITEMS = st.builds(
    Item,
    st.text(min_size=1, max_size=8),
    st.one_of(st.none(), TEXTS),
    st.one_of(st.none(), TEXTS),
    st.booleans(),
    st.dictionaries(TEXTS, TEXTS, max_size=3),
    st.one_of(st.none(), st.integers(0, 1_000_000_000)),
    st.one_of(st.none(), SOCKETS),
    st.one_of(st.none(), STREAMS),
    st.one_of(st.none(), RESPONSES),
)
