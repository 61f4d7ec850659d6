"""The syntax of Pushpin's routes files: one rule a line, ``condition[,option…] target[,option…] …``.

Sections are separated by spaces, options by commas. An option is ``name`` or ``name=value``; a section whose first
piece has an ``=`` begins with an option and has no value. ``#`` begins a comment. Parts in double quotes may hold any
of these; a backslash in them stands before a quote or a backslash that is meant. What the words mean is
`edge.config.grip_routes`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_SPACE = " \t"
_END_OF_PIECE = " \t,#"


class LineError(ValueError):
    """A line that cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Section:
    """The condition, or one target."""

    value: str
    options: Sequence[tuple[str, str]]
    """In order, repeated ones included; the value of one without ``=`` is empty."""


def parse_line(text: str) -> Sequence[Section]:
    """The sections of one line without its line end; none for an empty one or a comment. Raises `LineError`."""
    sections = []
    at = 0
    while (at := _skip_space(text, at)) < len(text) and text[at] != "#":
        piece, at = _piece(text, at)
        value, options = ("", [_option(piece)]) if "=" in piece else (piece, [])
        while at < len(text) and text[at] == ",":
            piece, at = _piece(text, at + 1)
            options.append(_option(piece))
        sections.append(Section(value, tuple(options)))
    return tuple(sections)


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _piece(text: str, at: int) -> tuple[str, int]:
    """Text up to the next space, comma or comment outside quotes, without the quotes; and where that is."""
    piece = ""
    while at < len(text) and text[at] not in _END_OF_PIECE:
        if text[at] == '"':
            quoted, at = _quoted(text, at + 1)
            piece += quoted
        else:
            piece += text[at]
            at += 1
    return piece, at


def _quoted(text: str, at: int) -> tuple[str, int]:
    part = ""
    while at < len(text):
        if text[at] == '"':
            return part, at + 1
        if text[at] == "\\":
            at += 1
            if text[at : at + 1] not in ('"', "\\"):
                raise LineError('after a backslash in quotes comes " or another backslash')
        part += text[at]
        at += 1
    raise LineError("a quote is opened and not closed")


def _option(piece: str) -> tuple[str, str]:
    name, _, value = piece.partition("=")
    if not name:
        raise LineError("after a comma comes the name of an option")
    return name, value
