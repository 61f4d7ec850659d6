"""The chunked transfer coding (RFC 9112 §7.1), read strictly and written plainly.

Read here, not by llhttp: the end of a message is then known to the byte, so that a request which comes behind another
one in the same read can wait as bytes until its turn comes. Bare line feeds and spaces around sizes are refused;
extensions are skipped, within bounds.
"""

from __future__ import annotations

import enum
import re

LINE_BYTES = 1_024
"""Longest line with a chunk's size: the digits, and extensions that nobody uses."""
TRAILER_BYTES = 16_384
"""All trailer fields together, as for the fields of a head."""
OVERHEAD_BYTES = 16_384
"""Extensions of all chunks of one message together, or a client could keep us reading what is no body."""
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")


class BadChunk(Exception):
    """What came is no chunked body; `str()` is for people."""


class _State(enum.Enum):
    SIZE = 1
    DATA = 2
    DATA_END = 3
    TRAILERS = 4
    DONE = 5


class ChunkedReader:
    """Takes one message's body apart, in whatever pieces it comes."""

    __slots__ = ("_left", "_line", "_overhead", "_size", "_state", "trailers")

    def __init__(self) -> None:
        self._state = _State.SIZE
        self._line = b""
        """The beginning of a line that has not come whole."""
        self._left = 0
        self._overhead = 0
        self._size = 0
        self.trailers: list[tuple[str, str]] = []

    @property
    def done(self) -> bool:
        return self._state is _State.DONE

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """The content in `data`, and what lies behind the message's end. Raises `BadChunk`."""
        pieces: list[bytes] = []
        if self._line:
            data, self._line = self._line + data, b""
        at, end = 0, len(data)
        while at < end and self._state is not _State.DONE:
            if self._state is _State.DATA:
                stop = min(end, at + self._left)
                pieces.append(data[at:stop])
                self._left -= stop - at
                at = stop
                if not self._left:
                    self._state = _State.DATA_END
                continue
            stop = data.find(b"\n", at)
            if stop < 0:
                self._keep(data[at:])
                at = end
            else:
                self._take_line(data[at : stop + 1])
                at = stop + 1
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), data[at:]

    def _keep(self, line: bytes) -> None:
        longest = {_State.SIZE: LINE_BYTES, _State.DATA_END: 1}.get(self._state, TRAILER_BYTES)
        if len(line) > longest or (self._state is _State.DATA_END and line != b"\r"):
            raise BadChunk("a line of a chunked body does not end")
        self._line = line

    def _take_line(self, line: bytes) -> None:
        if not line.endswith(b"\r\n"):
            raise BadChunk("a line of a chunked body ends without CR")
        line = line[:-2]
        if self._state is _State.DATA_END:
            if line:
                raise BadChunk("a chunk is longer than its size")
            self._state = _State.SIZE
        elif self._state is _State.SIZE:
            match = _SIZE.fullmatch(line)
            if match is None or len(line) > LINE_BYTES:
                raise BadChunk("a chunk's size is no number")
            self._overhead += len(line) - len(match[1])
            if self._overhead > OVERHEAD_BYTES:
                raise BadChunk("the extensions of chunks are too large")
            self._left = int(match[1], 16)
            self._state = _State.DATA if self._left else _State.TRAILERS
        elif not line:
            self._state = _State.DONE
        else:
            self._take_trailer(line)

    def _take_trailer(self, line: bytes) -> None:
        match = _FIELD.fullmatch(line)
        self._size += len(line)
        if match is None or self._size > TRAILER_BYTES:
            raise BadChunk("a trailer is no field, or too large")
        self.trailers.append((match[1].decode("latin-1"), match[2].decode("latin-1").rstrip(" \t")))


def encode_chunk(data: bytes) -> bytes:
    """One chunk; `data` must not be empty, for that would be the end."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def encode_end(trailers: bytes = b"") -> bytes:
    """The end of a chunked body. `trailers`: whole lines."""
    return b"0\r\n%b\r\n" % trailers
