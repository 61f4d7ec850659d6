"""The XML of an XMPP stream (RFC 6120 §4, §11): bytes in, whole top-level elements out, each with its exact bytes.

`Framer` owns what is known of one direction of one stream: its opening tag and what has come of an element that is not
whole. Between elements it holds no parser: expat's takes 12 KiB and remembers every name it ever saw, which a peer
could use to fill our memory. The parser is left to whichever stream hears something next
(`edge.protocol.xmpp.spares`), so an idle stream costs a few hundred bytes.

What expat is given always ends with ``>``: nothing can become whole without one. So what is found never depends on how
the bytes were cut, and text and tags that come in small pieces are not scanned again for each of them. (expat 2.6 puts
off unfinished tokens to that end; this is switched off, as it would hold back whole elements.)

What is inside an element: `edge.protocol.xmpp.element`. What elements mean to a stream: `edge.protocol.xmpp.stream`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, TypeAlias
from xml.parsers import expat

from edge.errors import WireError
from edge.facts import fact
from edge.protocol.xmpp import names
from edge.protocol.xmpp.element import TAG, Element, Inside, end_of, named
from edge.protocol.xmpp.spares import Spares, scope_of

__all__ = ["Element", "Ended", "Framer", "Heard", "Opened", "StreamLimits", "StreamViolation"]

_SPACE = b" \t\r\n"
_LESS = 0x3C
_RESTARTS = frozenset({f"{names.SASL} success", f"{names.TLS} proceed"})
"""After these the peer begins a new stream (RFC 6120 §4.3.3): their parser must not see what follows."""
_CODES = expat.errors.codes
_CONDITIONS = {
    _CODES[expat.errors.XML_ERROR_UNKNOWN_ENCODING]: "unsupported-encoding",
    _CODES[expat.errors.XML_ERROR_INCORRECT_ENCODING]: "unsupported-encoding",
    _CODES[expat.errors.XML_ERROR_UNDEFINED_ENTITY]: "restricted-xml",
    _CODES[expat.errors.XML_ERROR_UNBOUND_PREFIX]: "bad-namespace-prefix",
}
_HEADER, _BETWEEN, _WITHIN, _RESTART, _OVER = range(5)
_PIECE = 4096
_NODES = 1_000
"""How many elements inside of one are noted while it comes. A note takes 200 bytes and more, an element four: of those
with more inside nothing is noted, and they are parsed again if somebody asks."""
_NOTED_BYTES = 65_536
"""How large what has come of an element may be for the same."""
_Around: TypeAlias = "tuple[dict[str, str], int, Inside, _Around | None]"
_NOTHING: Final[Inside] = []
"""Nothing is ever put into it."""
_PARSERS: Final = Spares()
"""Those of the process: what one stream leaves is good for all."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How much a peer may make us hold and do. Past any of these the stream is ended (RFC 6120 §4.9.3.14)."""

    stanza_bytes: int = 262_144
    """One top-level element, as sent. RFC 6120 §13.12 asks for 10,000 at least; what servers take from their own users
    is 256 KiB (Prosody and ejabberd as packaged)."""
    header_bytes: int = 8_192
    """All up to the end of the stream's opening tag, which stays in memory as long as the stream; not more than
    `stanza_bytes`."""
    depth: int = 64
    """Elements inside each other, the stream itself not counted. A forwarded carbon of a formatted message has ten."""
    attributes: int = 64
    """Of one element, not counting namespace declarations (how many there can be follows from `stanza_bytes`)."""


class StreamViolation(WireError):
    """The peer broke the rules of XML streams; `condition` is the stream error to tell it (RFC 6120 §4.9.3).

    `heard` is what was whole before that, in the same bytes.
    """

    def __init__(self, condition: str, problem: str, heard: Sequence[Heard] = ()) -> None:
        self.condition = condition
        self.problem = problem
        self.heard = heard
        super().__init__(f"{condition}: {problem}")


@fact
class Opened:
    """The stream's opening tag; attributes are named as in `Element`."""

    name: str
    namespace: str
    attributes: Mapping[str, str]
    declared: Mapping[str, str]
    """Namespaces by prefix, the default one's being ``""``. They hold in every element of the stream."""


@fact
class Ended:
    """The stream's closing tag. Nothing is heard after it."""


Heard = Opened | Element | Ended


class _Left(Exception):
    """Leaves a parser that must not read on."""


class Framer:
    """Finds the top-level elements in one direction of a stream, however its bytes are cut."""

    __slots__ = (
        "_around", "_base", "_closes", "_context", "_depth", "_given", "_heard", "_held", "_inside", "_kept", "_limits",
        "_nodes", "_parser", "_phase", "_scope", "_start", "_top", "violation",
    )  # fmt: skip

    def __init__(self, limits: StreamLimits) -> None:
        self._limits = limits
        self.violation: StreamViolation | None = None
        """Why this stream is not read on."""
        self._held: bytes | bytearray = b""
        """What came behind the last ``>``; in a stream that is to restart, all that came."""
        self._given = b""
        """What the parser is reading; its first byte's place is `_base + len(_kept)`."""
        self._heard: list[Heard] = []
        self._begin_stream()

    def _begin_stream(self) -> None:
        self._phase = _HEADER
        self._context = b""
        """The stream's opening tag."""
        self._scope = ""
        """What matters of it to a parser: what each reads first."""
        self._top: dict[str, str] = {}
        """Namespaces that the opening tag declares; then, attributes of the element that is not whole."""
        self._depth = 0
        self._nodes = 0
        """How many more elements inside of it are noted; 0, too, between elements."""
        self._inside = _NOTHING
        """What is inside of the innermost element that is not whole."""
        self._around: _Around | None = None
        """Its attributes and place, what is inside of the one around it, and the same of that one."""
        self._drop_parser()

    def _drop_parser(self) -> None:
        self._parser: expat.XMLParserType | None = None
        self._kept = b""
        """Bytes that the parser has had, from the beginning of what is not whole."""
        self._base = 0
        """Place of the first of them, as the parser counts."""
        self._start = self._closes = 0
        """Where the last top-level element began, and where it ended."""

    @property
    def unread(self) -> int:
        """Bytes that came and have not been reported; 0 between elements."""
        return len(self._kept) + len(self._held)

    def feed(self, data: bytes) -> list[Heard]:
        """What is whole now, in order. It stops behind ``<success/>`` and ``<proceed/>``: there, call `restart`.

        Raises StreamViolation, again at each later call.
        """
        if self.violation is not None:
            raise StreamViolation(self.violation.condition, self.violation.problem)
        heard = self._heard = []
        try:
            self._feed(data)
        except StreamViolation as violation:
            self._begin_stream()
            self._held = b""
            violation.heard = heard
            self.violation = StreamViolation(violation.condition, violation.problem)
            raise
        finally:
            self._heard = []
        return heard

    def restart(self) -> None:
        """A new stream begins here (RFC 6120 §4.3.3). What has come of it already is heard at the next `feed`."""
        if self._phase != _RESTART:
            self._held = b""
        self._begin_stream()

    # -- bytes

    def _feed(self, data: bytes) -> None:
        if self._held:
            if type(self._held) is bytes and len(self._held) > _PIECE:
                self._held = bytearray(self._held)  # small pieces of a large text shall not add up to a square
            self._held += data
            if self._phase != _HEADER and b">" not in data and len(self._held) <= self._room():
                return
            data, self._held = bytes(self._held), b""
        while data:
            if self._phase >= _RESTART:
                self._set_aside(data)
                return
            if self._parser is None:
                data = data.lstrip(_SPACE)
                if not data:
                    return
                if data[0] != _LESS:
                    raise StreamViolation("not-well-formed", "text between elements")
            room = self._room()
            end = data.rfind(b">", 0, room) + 1
            if not end:
                if len(data) > room:
                    raise StreamViolation("policy-violation", "an element or the stream's header is too large")
                self._held = data
                return
            data = self._give(data[:end]) + data[end:]

    def _room(self) -> int:
        """How many more bytes may come before what is not whole is too large."""
        limit = self._limits.stanza_bytes
        if self._phase == _HEADER:
            limit = min(limit, self._limits.header_bytes)
        return limit - len(self._kept)

    def _set_aside(self, data: bytes) -> None:
        if self._phase == _OVER:
            return
        if len(data) > self._limits.stanza_bytes:
            raise StreamViolation("policy-violation", "too much came before the stream was begun again")
        self._held = data

    def _give(self, given: bytes) -> bytes:
        """Let a parser read `given`; what it must not read of it."""
        parser = self._parser or self._take_parser()
        self._given = given
        try:
            parser.Parse(given, False)
        except _Left:
            rest = given[self._closes - self._base - len(self._kept) :]
            self._drop_parser()
            return rest
        except expat.ExpatError as error:
            self._check_gap(None)
            raise StreamViolation(
                _CONDITIONS.get(error.code, "not-well-formed"), expat.ErrorString(error.code)
            ) from None
        finally:
            self._given = b""
        self._keep(given)
        return b""

    def _keep(self, given: bytes) -> None:
        """Hold on to what is not whole; without any of that, do without a parser."""
        kept = self._kept + given if self._kept else given
        if self._phase == _WITHIN:
            whole = self._start - self._base
            if len(kept) - whole > _NOTED_BYTES:
                self._nodes = 0
        elif self._phase == _BETWEEN:
            whole = self._closes - self._base
            rest = kept[whole:].lstrip(_SPACE)
            if not rest:
                assert self._parser is not None
                _PARSERS.leave(self._scope, self._parser, self._base + len(kept))
                self._drop_parser()
                return
            if rest[0] != _LESS:
                raise StreamViolation("not-well-formed", "text between elements")
            whole = len(kept) - len(rest)
        else:
            whole = 0
        self._kept = kept[whole:]
        self._base += whole

    # -- the parser

    def _take_parser(self) -> expat.XMLParserType:
        if self._phase == _HEADER:
            parser = _new_parser()
            parser.StartElementHandler = self._open
            parser.XmlDeclHandler = self._declaration
            parser.StartNamespaceDeclHandler = self._declare
            parser.StartDoctypeDeclHandler = self._restricted  # nowhere else well formed
        else:
            spare = _PARSERS.take(self._scope)
            if spare is None:
                parser, scope = _new_parser(), self._scope.encode()
                parser.Parse(scope, False)
                spare = parser, len(scope)
            parser, self._base = spare
            self._closes = self._base
            parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        # RFC 6120 §11.1. Entities can only be declared in a document type.
        parser.CommentHandler = self._restricted
        parser.ProcessingInstructionHandler = self._restricted
        self._parser = parser
        return parser

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.upper() != "UTF-8":
            raise StreamViolation("unsupported-encoding", f"the stream is in {encoding!r}, not in UTF-8")

    def _declare(self, prefix: str | None, namespace: str | None) -> None:
        self._top[prefix or ""] = namespace or ""

    def _open(self, name: str, attributes: dict[str, str]) -> None:
        parser = self._parser
        assert parser is not None
        self._count(attributes)
        place = parser.CurrentByteIndex
        data = self._kept + self._given
        tag = TAG.match(data, place)
        assert tag is not None
        self._context = data[place : tag.end()]
        self._scope = scope_of(self._context.decode())
        namespace, _, local = name.rpartition(" ")
        self._heard.append(Opened(local, namespace, named(attributes), self._top))
        self._top = {}
        self._phase = _BETWEEN
        self._closes = tag.end()
        parser.StartElementHandler = self._begin
        parser.XmlDeclHandler = parser.StartNamespaceDeclHandler = parser.StartDoctypeDeclHandler = None

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        assert self._parser is not None
        place = self._parser.CurrentByteIndex
        depth = self._depth
        if depth == 0:
            self._start = place
            self._check_gap(place)
            self._top = attributes
            self._nodes = _NODES
            self._phase = _WITHIN
        else:
            if depth >= self._limits.depth:
                raise StreamViolation("policy-violation", f"more than {depth} elements inside each other")
            if self._nodes:
                self._nodes -= 1
            self._around = attributes, place, self._inside, self._around
        if len(attributes) > self._limits.attributes:
            self._count(attributes)
        self._inside = []
        self._depth = depth + 1

    def _characters(self, text: str) -> None:
        if self._nodes:
            self._inside.append(text)

    def _end(self, name: str) -> None:
        assert self._parser is not None
        place = self._parser.CurrentByteIndex
        depth = self._depth = self._depth - 1
        if depth > 0:
            assert self._around is not None
            attributes, start, inside, self._around = self._around
            if self._nodes:
                inside.append((name, attributes, start, place, self._inside))
            self._inside = inside
        elif depth == 0:
            self._end_top(name, place)
        else:
            self._finish(place)

    def _end_top(self, name: str, place: int) -> None:
        base = self._base + len(self._kept)
        start, data = self._start, self._given
        if start < base:
            base, data = self._base, self._kept + data
        inside, nodes, attributes = self._inside, self._nodes, self._top
        self._inside, self._nodes, self._top = _NOTHING, 0, {}
        end = end_of(data, place - base, empty=nodes == _NODES and not inside)
        raw = data[start - base : end]
        self._closes = base + end
        self._phase = _BETWEEN
        namespace, _, local = name.rpartition(" ")
        noted = inside if nodes else None
        self._heard.append(Element(local, namespace, named(attributes), raw, self._context, noted, start))
        if name in _RESTARTS:
            self._phase = _RESTART
            raise _Left

    def _finish(self, place: int) -> NoReturn:
        """The closing tag of the stream is read."""
        if self._closes != place:  # equal, too, for a stream that is closed by its opening tag
            self._check_gap(place)
        self._heard.append(Ended())
        self._phase = _OVER
        raise _Left

    def _check_gap(self, until: int | None) -> None:
        """Between elements there is white space only; `until` None: or something that looks like a tag."""
        if self._phase != _BETWEEN:
            return
        came = self._kept + self._given
        gap = came[max(self._closes - self._base, 0) : None if until is None else until - self._base].lstrip(_SPACE)
        if gap and (until is not None or gap[0] != _LESS):
            raise StreamViolation("not-well-formed", "text between elements")

    def _count(self, attributes: Mapping[str, str]) -> None:
        if len(attributes) > self._limits.attributes:
            raise StreamViolation("policy-violation", f"more than {self._limits.attributes} attributes")

    def _restricted(self, *_: object) -> None:
        self._check_gap(None)
        raise StreamViolation("restricted-xml", "comments, processing instructions and document types are not allowed")


def _new_parser() -> expat.XMLParserType:
    parser = expat.ParserCreate("UTF-8", " ")
    parser.buffer_text = True
    if hasattr(parser, "SetReparseDeferralEnabled"):
        parser.SetReparseDeferralEnabled(False)
    return parser
