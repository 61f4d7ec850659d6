"""Parsers that go from stream to stream."""

from __future__ import annotations

from xml.parsers import expat

import pytest

from edge.protocol.xmpp.spares import Spares, scope_of


@pytest.mark.parametrize(
    ("tag", "scope"),
    [
        ("<s>", "<s>"),
        ("<s/>", "<s>"),
        ("<p:s\n xmlns:p = 'a>b' id='1'\t>", "<p:s xmlns:p='a>b'>"),
        ("""<s a=' xmlns="no"' xmlns="&lt;'" version='1.0'>""", """<s xmlns="&lt;'">"""),
    ],
)
def test_the_scope_of_a_tag(tag: str, scope: str) -> None:
    assert scope_of(tag) == scope
    assert scope_of(tag) is scope_of(tag)


def test_a_parser_is_taken_once() -> None:
    spares, parser = Spares(), expat.ParserCreate()
    spares.leave("<s>", parser, 3)
    assert spares.take("<t>") is None
    assert spares.take("<s>") == (parser, 3)
    assert spares.take("<s>") is None


def test_one_that_has_read_much_is_given_up() -> None:
    spares = Spares()
    spares.leave("<s>", expat.ParserCreate(), 16_385)
    assert spares.take("<s>") is None


def test_those_used_last_are_kept() -> None:
    spares = Spares()
    for number in range(9):
        spares.leave(f"<s{number}>", expat.ParserCreate(), 4)
    assert spares.take("<s0>") is None
    assert spares.take("<s1>") is not None
    assert spares.take("<s8>") is not None
