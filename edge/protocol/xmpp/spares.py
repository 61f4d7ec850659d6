"""Parsers between two elements, for any stream to go on with.

A parser costs 12 KiB, so a stream that is silent has none; a new one that knows the stream's namespaces costs as much
as reading a presence. Of a stream's opening tag nothing matters to the elements in it but the namespaces that it
declares and, at the end, its name; streams with servers of one kind have these in common. So a few parsers do for all
streams of a process: what they are in the middle of is a stream's opening tag, and nothing else. They are given up
before the names that they remember, of every element ever seen, become many.
"""

from __future__ import annotations

import re
import sys
from xml.parsers import expat

_ATTRIBUTE = re.compile(r"""([^\s=]+)\s*=\s*("[^"]*"|'[^']*')""")
_NAME = re.compile(r"<[^\s/>]+")
_SPARES = 8
_READ_BYTES = 16_384


def scope_of(tag: str) -> str:
    """What elements inside need to know of the opening tag `tag`, as a tag. Equal ones are one string."""
    name = _NAME.match(tag)
    assert name is not None
    attributes = _ATTRIBUTE.finditer(tag, name.end())
    declared = [f" {key}={value}" for key, value in (found.groups() for found in attributes) if key.startswith("xmlns")]
    return sys.intern(f"{name[0]}{''.join(declared)}>")


class Spares:
    """One parser for each scope, of those that were used last."""

    __slots__ = ("_parsers",)

    def __init__(self) -> None:
        self._parsers: dict[str, tuple[expat.XMLParserType, int]] = {}

    def take(self, scope: str) -> tuple[expat.XMLParserType, int] | None:
        """A parser that is inside of `scope`, and how many bytes it has read. Its handlers are another's."""
        return self._parsers.pop(scope, None)

    def leave(self, scope: str, parser: expat.XMLParserType, read: int) -> None:
        """`parser` has read `read` bytes; the last of them ended an element right inside of `scope`, or opened it."""
        if read <= _READ_BYTES:
            self._parsers[scope] = parser, read
            if len(self._parsers) > _SPARES:
                del self._parsers[next(iter(self._parsers))]
