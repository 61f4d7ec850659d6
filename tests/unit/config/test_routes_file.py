"""The syntax of routes files, as Pushpin reads them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config.routes_file import LineError, Section, parse_line


@pytest.mark.parametrize(
    ("line", "sections"),
    [
        ("", []),
        ("   ", []),
        ("# all of it", []),
        ("apple", [("apple", [])]),
        ("apple banana", [("apple", []), ("banana", [])]),
        ("  apple   banana  # comment", [("apple", []), ("banana", [])]),
        ("apple\tbanana#comment", [("apple", []), ("banana", [])]),
        (
            'apple,organic,type=gala,from="washington, \\"usa\\""',
            [("apple", [("organic", ""), ("type", "gala"), ("from", 'washington, "usa"')])],
        ),
        (
            "apple,organic banana cherry,type=bing",
            [("apple", [("organic", "")]), ("banana", []), ("cherry", [("type", "bing")])],
        ),
        (",organic", [("", [("organic", "")])]),
        ("type=gala", [("", [("type", "gala")])]),
        ('"header=A: b",debug x', [("", [("header", "A: b"), ("debug", "")]), ("x", [])]),
        ('a,key=pre"fix, #1"post b', [("a", [("key", "prefix, #1post")]), ("b", [])]),
        (r'a,key="\\" b', [("a", [("key", "\\")]), ("b", [])]),
        ("a,key= b", [("a", [("key", "")]), ("b", [])]),
        ("a,key=x=y b", [("a", [("key", "x=y")]), ("b", [])]),
    ],
)
def test_lines(line: str, sections: list[tuple[str, list[tuple[str, str]]]]) -> None:
    assert list(parse_line(line)) == [Section(value, tuple(options)) for value, options in sections]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('apple,type="gala', "a quote is opened and not closed"),
        ('apple,type="ga\\la" x', 'after a backslash in quotes comes " or another backslash'),
        ('apple,type="gala\\', 'after a backslash in quotes comes " or another backslash'),
        ("apple,organic,", "after a comma comes the name of an option"),
        ("apple, x", "after a comma comes the name of an option"),
        ("apple,organic,=gala", "after a comma comes the name of an option"),
    ],
)
def test_lines_that_cannot_be_read(line: str, why: str) -> None:
    with pytest.raises(LineError) as refused:
        parse_line(line)
    assert str(refused.value) == why


WORDS = st.text("abc:/*", min_size=1)
OPTIONS = st.lists(st.tuples(WORDS, st.text('ab ,#=\\"')))


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@given(st.lists(st.tuples(WORDS, OPTIONS)))
def test_what_is_quoted_comes_back(sections: list[tuple[str, list[tuple[str, str]]]]) -> None:
    line = " ".join(
        ",".join([value, *(f"{name}={quoted(text)}" for name, text in options)]) for value, options in sections
    )
    assert list(parse_line(line)) == [Section(value, tuple(options)) for value, options in sections]


@given(st.text('ab ,#=\\"\t'))
def test_no_line_breaks_the_reader(line: str) -> None:
    with contextlib.suppress(LineError):
        parse_line(line)
