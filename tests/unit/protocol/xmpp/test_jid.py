"""Addresses are taken apart and stay as they are."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import WireError
from edge.protocol.xmpp.jid import Jid, bare, parse_jid


@pytest.mark.parametrize(
    ("text", "jid"),
    [
        ("chat.example", Jid("", "chat.example", "")),
        ("U1@Chat.example", Jid("U1", "Chat.example", "")),
        ("u@chat.example/a/b@c d", Jid("u", "chat.example", "a/b@c d")),
        ("chat.example/u@x", Jid("", "chat.example", "u@x")),
        ("jürgen@münchen.example/ß", Jid("jürgen", "münchen.example", "ß")),
        ("u@[::1]", Jid("u", "[::1]", "")),
        ("d\\27artagnan@x", Jid("d\\27artagnan", "x", "")),
    ],
)
def test_parts(text: str, jid: Jid) -> None:
    assert parse_jid(text) == jid
    assert str(jid) == text
    assert bare(text) == jid.bare


@pytest.mark.parametrize(
    "text",
    ["", "@x", "x/", "u@", "u@/r", "/r", "a b@x", "a@b@x", "a<@x", "a'b@x", "a&b@x", "u@a b", "u@x/a\n", "u@x/\x00",
     "u\ud800@x", "u" * 1024 + "@x", "u@x/" + "ü" * 512],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(WireError):
        parse_jid(text)


@given(st.text(max_size=40))
def test_anything_is_an_address_or_refused(text: str) -> None:
    with suppress(WireError):
        assert str(parse_jid(text)) == text
