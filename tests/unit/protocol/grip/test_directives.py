"""Texts with directives."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import WireError
from edge.protocol.grip.directives import Template, expand

NAMES = {"a": "1", "é": "é", "b)": "", "c\\": "x"}


@pytest.mark.parametrize(
    ("form", "filled"),
    [
        ("", ""),
        ("plain é", "plain é"),
        ("100%%", "100%"),
        ("%(a)s%(a)s-%(é)s", "11-é"),
        ("<%(b\\))s%(c\\\\)s%(\\a)s>", "<x1>"),
        ("%%(a)s", "%(a)s"),
        ("%%%(a)s%%", "%1%"),
    ],
)
def test_templates(form: str, filled: str) -> None:
    assert Template(form.encode()).fill(NAMES.get).decode() == filled


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ("%", "no directive after '%' at position 0"),
        ("ab%(a", "no directive after '%' at position 2"),
        ("%(a)", "no directive after '%' at position 0"),
        ("%(a\\", "no directive after '%' at position 0"),
        ("%5", "no directive after '%' at position 0"),
        ("%s", "directive 's' requires argument"),
        ("%()s", "directive 's' requires argument"),
        ("%I", "unknown directive 'I'"),
        ("%(a)5", "unknown directive '5'"),
        ("%(z)s", "no such variable 'z'"),
    ],
)
def test_malformed_templates(form: str, problem: str) -> None:
    with pytest.raises(WireError) as caught:
        Template(form.encode()).fill(NAMES.get)
    assert str(caught.value) == problem


@given(st.one_of(st.binary(max_size=20), st.text("%()sIax\\5", max_size=14).map(str.encode)))
def test_both_readers_agree(form: bytes) -> None:
    def directive(letter: bytes, argument: bytes | None) -> bytes:
        if letter != b"s" or argument is None:
            raise WireError("refused")
        return b"<" + argument.decode(errors="replace").encode() + b">"

    expanded = filled = None
    with contextlib.suppress(WireError):
        expanded = expand(form, directive)
    with contextlib.suppress(WireError):
        filled = Template(form).fill(lambda name: f"<{name}>")
    assert expanded == filled
