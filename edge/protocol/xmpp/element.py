"""One XML element that came over a stream: its name and attributes, its exact bytes, and on demand what is inside.

Most stanzas are only counted and passed on, so what is inside is parsed when somebody asks. The bytes are those of the
stream: namespaces that its opening tag declares (as a rule ``jabber:client``, and the prefix ``stream``) hold in them
without being declared again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from edge.protocol.xmpp import names

TAG = re.compile(rb"""[^>"']*(?:"[^"]*"[^>"']*|'[^']*'[^>"']*)*>""")
"""From anywhere before the first quote to the end of a tag that expat has accepted."""
_XML = names.XML + " "


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
    _children: tuple[Element, ...] | None = field(default=None, repr=False, compare=False)
    _text: str = field(default="", repr=False, compare=False)

    def children(self) -> tuple[Element, ...]:
        """The elements right inside, in order."""
        if self._children is None:
            self._read()
        assert self._children is not None
        return self._children

    def text(self) -> str:
        """The characters right inside, without those of the elements inside."""
        if self._children is None:
            self._read()
        return self._text

    def child(self, name: str, namespace: str | None = None) -> Element | None:
        """The first element right inside with this name; `namespace` None: in the same namespace as this one."""
        wanted = self.namespace if namespace is None else namespace
        for child in self.children():
            if child.name == name and child.namespace == wanted:
                return child
        return None

    def _read(self) -> None:
        whole = _Reader(self.context, self.raw).read()
        self._children, self._text = whole._children, whole._text


class _Reader:
    """Makes the tree of one element; the framer has seen before that it is whole, well formed and not too deep."""

    __slots__ = ("_context", "_offset", "_open", "_parser", "_raw", "_top")

    def __init__(self, context: bytes, raw: bytes) -> None:
        self._context = context
        self._raw = raw
        self._offset = len(context)
        self._parser = parser = expat.ParserCreate("UTF-8", " ")
        parser.buffer_text = True
        self._open: list[tuple[str, dict[str, str], int, list[Element], list[str]]] = []
        self._top: Element | None = None

    def read(self) -> Element:
        parser = self._parser
        # No handler sees the context.
        parser.Parse(self._context, False)
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.Parse(self._raw, False)
        parser.StartElementHandler = parser.EndElementHandler = parser.CharacterDataHandler = None
        assert self._top is not None
        return self._top

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        self._open.append((name, attributes, self._parser.CurrentByteIndex - self._offset, [], []))

    def _characters(self, text: str) -> None:
        if self._open:
            self._open[-1][4].append(text)

    def _end(self, _: str) -> None:
        name, attributes, start, children, texts = self._open.pop()
        end = end_of(self._raw, start, self._parser.CurrentByteIndex - self._offset, bool(children))
        namespace, _, local = name.rpartition(" ")
        raw = self._raw[start:end]
        element = Element(local, namespace, named(attributes), raw, self._context, tuple(children), "".join(texts))
        if self._open:
            self._open[-1][3].append(element)
        else:
            self._top = element


def end_of(data: bytes, start: int, place: int, has_children: bool) -> int:
    """Where the element that begins at `start` ends, when expat reports its end at `place`.

    That is the ``<`` of a closing tag, or the byte after ``/>``, which may be the next closing tag's ``<``.
    """
    if not has_children and data[place - 2 : place] == b"/>":
        # An empty tag, or text that looks like the end of one.
        tag = TAG.match(data, start)
        if tag is not None and tag.end() == place:
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
