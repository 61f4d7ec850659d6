"""Letters between edges say the same thing at both ends, and anything else is refused by name."""

from __future__ import annotations

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import WireError
from edge.protocol.callbacks.actions import Result, Send
from edge.protocol.mail import (
    Count,
    CountAsked,
    Letter,
    Order,
    Receipt,
    Receivers,
    ReceiversAsked,
    Recover,
    ReleasesChanged,
    decode_letter,
    encode_letter,
)

LETTERS: list[Letter] = [
    Order(1, "s1", Result((Send("hi"),), {"a": 1}, ("b",))),
    Receipt(2, "refused", "too many subscriptions"),
    CountAsked(3, "room ○"),
    Count(3, 17),
    ReleasesChanged("chat"),
    ReceiversAsked(4, [("room", ("socket", "stream")), ("", ())]),
    Receivers(4, [3, 0]),
    Recover(),
]


@pytest.mark.parametrize("letter", LETTERS, ids=lambda letter: type(letter).__name__)
def test_a_letter_is_read_as_it_was_written(letter: Letter) -> None:
    assert decode_letter(encode_letter(letter)) == letter


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"t": "unknown"},
        {"t": "receivers?", "n": 1},
        {"t": "receivers?", "n": 1, "items": [["room"]]},
        {"t": "receivers?", "n": 1, "items": [1]},
        {"t": "receivers", "n": 1, "counts": ["many"]},
        {"t": "receivers", "n": "1", "counts": []},
        [],
    ],
)
def test_what_is_no_letter_is_refused(form: object) -> None:
    with pytest.raises(WireError, match="not a letter"):
        decode_letter(msgpack.packb(form))


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    with contextlib.suppress(WireError):
        decode_letter(body)
