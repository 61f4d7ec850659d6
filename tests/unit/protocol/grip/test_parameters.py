"""Header fields with parameters."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import WireError
from edge.protocol.grip.parameters import Parametrized, elements, grip_prefix, parse_parameters, split_quoted


@pytest.mark.parametrize(
    ("text", "value", "parameters"),
    [
        ("room", "room", ()),
        (" room ; prev-id = 5 ", "room", (("prev-id", "5"),)),
        ("room; Prev-ID=5", "room", (("prev-id", "5"),)),
        ('room; prev-id="a;b, \\"c\\" \\\\"', "room", (("prev-id", 'a;b, "c" \\'),)),
        ('room; prev-id="a"junk; filter=f', "room", (("prev-id", "a"), ("filter", "f"))),
        ("room; filter=f1; filter=f2", "room", (("filter", "f1"), ("filter", "f2"))),
        ("room; flag; x=", "room", (("flag", ""), ("x", ""))),
        ("room;;", "room", ()),
        ("room; a=b=c", "room", (("a", "b=c"),)),
        ("room; a=two words", "room", (("a", "two words"),)),
        ('ro"om; a=b', 'ro"om', (("a", "b"),)),
        ("", "", ()),
        ("; a=b", "", (("a", "b"),)),
    ],
)
def test_one_element(text: str, value: str, parameters: tuple[tuple[str, str], ...]) -> None:
    assert parse_parameters(text, "X") == Parametrized(value, parameters)


def test_a_quote_without_end_is_refused_by_name() -> None:
    with pytest.raises(WireError, match="Grip-Channel: a quote is not closed"):
        parse_parameters('room; prev-id="a', "Grip-Channel")
    with pytest.raises(WireError, match="a quote is not closed"):
        parse_parameters('room; prev-id="a\\"', "Grip-Channel")


def test_lists_and_repeated_fields_are_one_list() -> None:
    headers = [
        (b"Grip-Channel", b'a; prev-id="1,2", b'),
        (b"Other", b"x"),
        (b"grip-channel", b"c,, d"),
    ]
    assert [element.value for element in elements(headers, b"grip-channel")] == ["a", "b", "c", "d"]
    assert elements(headers, b"grip-channel")[0].get("prev-id") == "1,2"
    assert elements(headers, b"grip-channel")[1].get("prev-id") is None


def test_names_in_unicode_are_utf_8() -> None:
    assert elements([(b"Grip-Channel", "größe".encode())], b"grip-channel")[0].value == "größe"
    with pytest.raises(WireError, match="Grip-Channel must be UTF-8"):
        elements([(b"grip-channel", b"gr\xf6\xdfe")], b"grip-channel")


@pytest.mark.parametrize(
    ("value", "prefix"),
    [
        (b"grip", "m:"),
        (b'grip; message-prefix=""', ""),
        (b'grip; message-prefix="x:"', "x:"),
        (b"permessage-deflate, grip; message-prefix=x", "x"),
        (b"permessage-deflate", None),
        (b"gripe", None),
    ],
)
def test_the_extension_of_the_answer_to_open(value: bytes, prefix: str | None) -> None:
    assert grip_prefix([(b"Sec-WebSocket-Extensions", value)]) == prefix


def test_no_extension() -> None:
    assert grip_prefix([(b"Content-Type", b"grip")]) is None


@given(st.text(max_size=40), st.sampled_from(";,"))
def test_splitting_loses_nothing_but_blanks(text: str, separator: str) -> None:
    parts = split_quoted(text, separator)
    assert "".join(separator.join(parts).split()) == "".join(text.split())


@given(st.text(st.sampled_from(';,="\\a b'), max_size=30))
def test_garbage_is_refused_or_read(text: str) -> None:
    with contextlib.suppress(WireError):
        parse_parameters(text, "X")


@given(st.text(max_size=20))
def test_anything_can_be_quoted(text: str) -> None:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_parameters(f'a; b="{quoted}"; c=d', "X").parameters == (("b", text), ("c", "d"))
