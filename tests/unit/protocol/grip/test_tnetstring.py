"""Tagged netstrings."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import WireError
from edge.protocol.grip.tnetstring import DEPTH, decode, encode

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(1 << 62), 1 << 62), st.floats(-1e9, 1e9), st.binary(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        (b"0:,", b""),
        (b"5:hello,", b"hello"),
        (b"2:42#", 42),
        (b"3:-42#", -42),
        (b"3:1.5^", 1.5),
        (b"4:true!", True),
        (b"5:false!", False),
        (b"0:~", None),
        (b"0:]", []),
        (b"0:}", {}),
        (b"8:1:a,1:1#}", {"a": 1}),
        (b"16:3:one,7:0:~1:2#]]", [b"one", [None, 2]]),
    ],
)
def test_forms(wire: bytes, value: object) -> None:
    assert decode(wire) == value


def test_what_follows_is_ignored() -> None:
    assert decode(b"1:a,garbage") == b"a"


@given(VALUES)
def test_what_was_written_is_read(value: Any) -> None:
    assert decode(encode(value)) == value


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"a",
        b"1",
        b":",
        b"1:",
        b"1:a",
        b"2:a,",
        b"-1:a,",
        b"+1:a,",
        b"1_0:a,",
        b" 1:a,",
        b"9999999999:a,",
        b"1:a?",
        b"1:x#",
        b"3:1e5#",
        b"21:123456789012345678901#",
        b"1:x!",
        b"1:x~",
        b"1:a]",
        b"3:1:a]",
        b"4:1:a,}",
        b"8:1:1#1:a,}",
        b"8:1:\xff,1:a,}",
        # an element that reaches over the end of its list
        b"3:5:a]bc,",
    ],
)
def test_malformed_ones(wire: bytes) -> None:
    with pytest.raises(WireError):
        decode(wire)


def test_depth_is_bounded() -> None:
    wire = b"0:]"
    for _ in range(DEPTH - 1):
        wire = b"%d:%b]" % (len(wire), wire)
    decode(wire)
    with pytest.raises(WireError, match="levels"):
        decode(b"%d:%b]" % (len(wire), wire))


def test_values_without_a_form() -> None:
    with pytest.raises(TypeError, match="no tnetstring for object"):
        encode(object())


@given(st.one_of(st.binary(max_size=40), st.text("0123:,#^!~]}a", max_size=30).map(str.encode)))
def test_garbage_is_refused_or_read(wire: bytes) -> None:
    with contextlib.suppress(WireError):
        decode(wire)
