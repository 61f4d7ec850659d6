"""One XML element that came over a stream: its name and attributes, its exact bytes, and on demand what is inside.

The framer has seen what is inside while it looked for the element's end, and notes it as an `Inside`; elements are made
of that when somebody asks, one level at a time. What is very much, and elements that were made otherwise, are parsed
then. The bytes are those of the stream: namespaces that its opening tag declares (as a rule ``jabber:client``, and the
prefix ``stream``) hold in them without being declared again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
from xml.parsers import expat

from edge.protocol.xmpp import names

TAG = re.compile(rb"""[^>"']*(?:"[^"]*"[^>"']*|'[^']*'[^>"']*)*>""")
"""From anywhere before the first quote to the end of a tag that expat has accepted."""
_XML = names.XML + " "

Node: TypeAlias = "tuple[str, dict[str, str], int, int, Inside]"
"""An element inside another: its name and attributes as expat gives them, the places where expat saw it begin and end,
and what is inside."""
Inside: TypeAlias = "list[str | Node]"
"""Characters and elements, in order."""


@dataclass(slots=True)
class Element:
    """An element; nobody assigns to it. Two are equal when their bytes and the namespaces around them are."""

    name: str
    """Without its prefix."""
    namespace: str
    """Empty when it has none."""
    attributes: Mapping[str, str]
    """By name; ``xml:lang`` under that name, others with a prefix as ``{namespace}name``. No namespace declarations."""
    raw: bytes
    """The element as it was sent, byte for byte."""
    context: bytes = field(default=b"<_>", repr=False)
    """A tag around it that makes known the namespaces which `raw` leaves out."""
    _inside: Inside | None = field(default=None, repr=False, compare=False)
    """None: not known. Not used any more when `_children` is set."""
    _place: int = field(default=0, repr=False, compare=False)
    """Of `raw`, as the places in `_inside` are counted."""
    _children: tuple[Element, ...] | None = field(default=None, init=False, repr=False, compare=False)
    _text: str = field(default="", init=False, repr=False, compare=False)

    def children(self) -> tuple[Element, ...]:
        """The elements right inside, in order."""
        if self._children is None:
            self._unfold()
        assert self._children is not None
        return self._children

    def text(self) -> str:
        """The characters right inside, without those of the elements inside."""
        if self._children is None:
            self._unfold()
        return self._text

    def child(self, name: str, namespace: str | None = None) -> Element | None:
        """The first element right inside with this name; `namespace` None: in the same namespace as this one."""
        wanted = self.namespace if namespace is None else namespace
        for child in self.children():
            if child.name == name and child.namespace == wanted:
                return child
        return None

    def _unfold(self) -> None:
        if self._inside is None:
            self._read()
            assert self._inside is not None
        raw, context, first = self.raw, self.context, self._place
        children = []
        texts = []
        for item in self._inside:
            if type(item) is str:
                texts.append(item)
                continue
            assert type(item) is tuple
            name, attributes, start, place, inside = item
            namespace, _, local = name.rpartition(" ")
            end = end_of(raw, place - first, empty=not inside)
            child = Element(local, namespace, named(attributes), raw[start - first : end], context, inside, start)
            children.append(child)
        self._inside = None
        self._children = tuple(children)
        self._text = "".join(texts)

    def _read(self) -> None:
        self._inside = _Reader(self.context, self.raw).read()
        self._place = len(self.context)


class _Reader:
    """Sees what is inside of one element; the framer has seen before that it is whole, well formed and not too deep."""

    __slots__ = ("_context", "_inside", "_open", "_parser", "_raw")

    def __init__(self, context: bytes, raw: bytes) -> None:
        self._context = context
        self._raw = raw
        self._parser = parser = expat.ParserCreate("UTF-8", " ")
        parser.buffer_text = True
        self._open: list[tuple[dict[str, str], int, Inside]] = []
        """Attributes and place of each element that has not ended, and what was inside of the one around it."""
        self._inside: Inside = []

    def read(self) -> Inside:
        parser = self._parser
        # No handler sees the context.
        parser.Parse(self._context, False)
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.Parse(self._raw, False)
        parser.StartElementHandler = parser.EndElementHandler = parser.CharacterDataHandler = None
        (top,) = self._inside
        assert type(top) is tuple
        return top[4]

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        self._open.append((attributes, self._parser.CurrentByteIndex, self._inside))
        self._inside = []

    def _characters(self, text: str) -> None:
        self._inside.append(text)

    def _end(self, name: str) -> None:
        attributes, start, around = self._open.pop()
        around.append((name, attributes, start, self._parser.CurrentByteIndex, self._inside))
        self._inside = around


def end_of(data: bytes, place: int, *, empty: bool) -> int:
    """Where an element ends, when expat reports its end at `place`; `empty`: nothing was inside.

    That is the ``<`` of a closing tag, or the byte after ``/>``, which may be the next closing tag's ``<``.
    """
    if empty and data[place - 2 : place] == b"/>":
        return place
    return data.index(b">", place) + 1


def named(attributes: dict[str, str]) -> dict[str, str]:
    """Attributes as expat names them (``namespace name``), named as `Element` does."""
    for key in attributes:
        if " " in key:
            break
    else:
        return attributes
    found = {}
    for key, value in attributes.items():
        if key.startswith(_XML):
            key = "xml:" + key[len(_XML) :]
        elif " " in key:
            namespace, _, local = key.rpartition(" ")
            key = f"{{{namespace}}}{local}"
        found[key] = value
    return found
