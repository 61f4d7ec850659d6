"""WebSocket frames (RFC 6455 §5, RFC 7692 without context takeover), the server's side: bytes in, what was heard out.

`FrameReader` owns everything a connection knows of its client's byte stream: a frame cut in two, a message in
fragments, and nothing else while the client is silent. The encoding half is plain functions, because what is sent
needs no memory: no fragments, no context.

The opening handshake (`edge.protocol.websocket_handshake`) is `websockets`' `ServerProtocol`; its masking and its
close frames are used here too. Its parser is not: one generator per connection is 2 KB and several µs a message, it
answers close frames before the application could, and finds invalid UTF-8 only at the end of a message. The tests
hold this one against it as an oracle.
"""

from __future__ import annotations

import codecs
import struct
import zlib
from dataclasses import dataclass

from websockets.exceptions import ProtocolError
from websockets.frames import Close

from edge.config import LimitSettings

try:
    from websockets.speedups import apply_mask
except ImportError:  # a wheel without the C extension
    from websockets.utils import apply_mask

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN, RSV1, RSV = 0x80, 0x40, 0x70
_UNLIMITED = 1 << 63
_NO_STATUS = 1005
_TAIL = b"\x00\x00\xff\xff"
"""What the sender of a compressed message leaves out at its end (RFC 7692 §7.2.1)."""
_DEFLATE_FROM_BYTES = 32
"""Shorter messages hardly ever get shorter by compression."""
_SMALL_TEXT = tuple(bytes((FIN | TEXT, length)) for length in range(126))


@dataclass(frozen=True, slots=True)
class Pinged:
    payload: bytes


@dataclass(frozen=True, slots=True)
class Ponged:
    payload: bytes


@dataclass(frozen=True, slots=True)
class Goodbye:
    """A close frame; `code` is 1005 when it had none. Nothing is heard after it."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Violation:
    """The client broke the protocol or a size limit; close with `code`. Nothing is heard after it.

    `limit` names the setting for 1009: ``message_bytes`` or ``frame_bytes``.
    """

    code: int
    reason: str
    limit: str = ""


_ENDS = (Goodbye, Violation)
Heard = str | bytes | Pinged | Ponged | Goodbye | Violation
"""A whole message (str for text, bytes for binary), or one of the above."""


class _Broken(Exception):
    def __init__(self, code: int, reason: str, limit: str = "") -> None:
        self.violation = Violation(code, reason, limit)


class _OpenFrame:
    """A frame whose payload has not come whole."""

    __slots__ = ("collected", "final", "mask", "missing", "opcode")

    def __init__(self, opcode: int, final: bool, mask: bytes, missing: int) -> None:
        self.opcode = opcode
        self.final = final
        self.mask = mask
        self.missing = missing
        self.collected = b""
        """A control frame's payload so far (125 bytes at most); a data frame's goes into the message."""


class _OpenMessage:
    """A message that has not come whole, or is compressed."""

    __slots__ = ("_data", "_inflater", "_text")

    def __init__(self, opcode: int, compressed: bool) -> None:
        self._data = bytearray()
        self._text = codecs.getincrementaldecoder("utf-8")() if opcode == TEXT else None
        # Any window up to 32 KiB can be read with the largest, so what was agreed does not matter here.
        self._inflater = zlib.decompressobj(wbits=-15) if compressed else None

    def room(self, limits: LimitSettings) -> int:
        """Bytes it may still grow by, as sent; what a compressed message grows by shows when it is inflated."""
        return _UNLIMITED if self._inflater else (limits.message_bytes or _UNLIMITED) - len(self._data)

    def add(self, chunk: bytes, limits: LimitSettings) -> None:
        """More payload, unmasked. Bad UTF-8 and bombs show at the first byte that is too much."""
        if self._inflater is not None:
            limit = limits.message_bytes
            try:
                # One byte more than allowed is enough to know.
                chunk = self._inflater.decompress(chunk, limit - len(self._data) + 1 if limit else 0)
            except zlib.error:
                raise _Broken(1007, "decompression failed") from None
            if limit and len(self._data) + len(chunk) > limit:
                raise _Broken(1009, "message too big", "message_bytes")
        if self._text is not None:
            try:
                self._text.decode(chunk)
            except UnicodeDecodeError:
                raise _Broken(1007, "invalid UTF-8") from None
        self._data += chunk

    def finish(self, limits: LimitSettings) -> str | bytes:
        """The whole message."""
        if self._inflater is not None:
            self.add(_TAIL, limits)
        if self._text is None:
            return bytes(self._data)
        try:
            return self._data.decode()
        except UnicodeDecodeError:
            raise _Broken(1007, "invalid UTF-8") from None


class FrameReader:
    """Parses one client's bytes, in whatever pieces they come; equal bytes give equal results however they are cut.

    Limits come with each call, because a reload may change them.
    """

    __slots__ = ("_compression", "_frame", "_message", "_rest", "ended")

    def __init__(self, compression: bool = False) -> None:
        """`compression`: permessage-deflate was agreed on."""
        self._compression = compression
        self._rest = b""
        self._frame: _OpenFrame | None = None
        self._message: _OpenMessage | None = None
        self.ended = False
        """A `Goodbye` or `Violation` was heard; what follows it is ignored (RFC 6455 §1.4)."""

    def feed(self, data: bytes, limits: LimitSettings) -> list[Heard]:
        """Everything that is whole now, in order."""
        heard: list[Heard] = []
        if self.ended:
            return heard
        try:
            self._feed(data, limits, heard)
        except _Broken as broken:
            heard.append(broken.violation)
        if heard and type(heard[-1]) in _ENDS:
            self.ended = True
            self._rest, self._frame, self._message = b"", None, None
        return heard

    def _feed(self, data: bytes, limits: LimitSettings, heard: list[Heard]) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, end = 0, len(data)
        if self._frame is not None:
            at = self._payload(self._frame, data, 0, limits, heard)
        whole, largest_frame = limits.message_bytes or _UNLIMITED, limits.frame_bytes
        if 0 < largest_frame < whole:
            whole = largest_frame
        while end - at >= 2:
            # The common case: a whole message in one frame under 64 KiB. First bytes 0x81 and 0x82 are text and
            # binary with FIN and without reserved bits; 0x80 in the second is the mask bit, which a client must set.
            head, length, start = data[at], data[at + 1] ^ 0x80, at + 6
            if length == 126 and end - at >= 8:
                length, start = data[at + 2] << 8 | data[at + 3], at + 8
            elif length > 125:
                start = end
            if start + length <= end and length <= whole and (head == 0x81 or head == 0x82) and self._message is None:
                payload = apply_mask(data[start : start + length], data[start - 4 : start])
                heard.append(_text(payload) if head == 0x81 else payload)
                at = start + length
                continue
            start = self._head(data, at, end, limits)
            if start == 0 or self._frame is None:
                break
            at = self._payload(self._frame, data, start, limits, heard)
            if heard and type(heard[-1]) is Goodbye:
                return
        if at < end:
            self._rest = data[at:]

    def _head(self, data: bytes, at: int, end: int, limits: LimitSettings) -> int:
        """Check a frame's first bytes as early as they are there. Where its payload starts; 0: not all came yet."""
        head, second = data[at], data[at + 1]
        opcode, length = head & 0x0F, second & 0x7F
        final = bool(head & FIN)
        self._check_head(head, opcode, final, length)
        if not second & 0x80:
            raise _Broken(1002, "frame not masked")
        start = at + (6 if length < 126 else 8 if length == 126 else 14)
        if end < start:
            return 0
        if length == 126:
            length = int.from_bytes(data[at + 2 : at + 4], "big")
        elif length == 127:
            length = int.from_bytes(data[at + 2 : at + 10], "big")
            if length >= _UNLIMITED:
                raise _Broken(1002, "frame length out of range")
        if opcode < CLOSE:
            if limits.frame_bytes and length > limits.frame_bytes:
                raise _Broken(1009, "frame too big", "frame_bytes")
            if opcode != CONTINUATION:
                self._message = _OpenMessage(opcode, compressed=bool(head & RSV1))
            assert self._message is not None
            if length > self._message.room(limits):
                raise _Broken(1009, "message too big", "message_bytes")
        self._frame = _OpenFrame(opcode, final, data[start - 4 : start], length)
        return start

    def _check_head(self, head: int, opcode: int, final: bool, length: int) -> None:
        """RFC 6455 §5.2, §5.4, §5.5; RFC 7692 §6."""
        reserved = head & RSV
        if reserved and not (reserved == RSV1 and self._compression and opcode in (TEXT, BINARY)):
            raise _Broken(1002, "reserved bits set")
        if opcode >= CLOSE:
            if opcode > PONG:
                raise _Broken(1002, "unknown opcode")
            if not final:
                raise _Broken(1002, "fragmented control frame")
            if length > 125:
                raise _Broken(1002, "control frame too long")
        elif opcode > BINARY:
            raise _Broken(1002, "unknown opcode")
        elif opcode == CONTINUATION:
            if self._message is None:
                raise _Broken(1002, "continuation of nothing")
        elif self._message is not None:
            raise _Broken(1002, "message within a message")

    def _payload(self, frame: _OpenFrame, data: bytes, at: int, limits: LimitSettings, heard: list[Heard]) -> int:
        """Take what `data` has of the frame's payload from `at` on; where it stopped."""
        stop = min(at + frame.missing, len(data))
        taken = stop - at
        chunk = apply_mask(data[at:stop], frame.mask)
        frame.missing -= taken
        if frame.missing and taken % 4:  # the rest begins in the middle of the mask
            frame.mask = frame.mask[taken % 4 :] + frame.mask[: taken % 4]
        if frame.opcode >= CLOSE:
            frame.collected += chunk
            if not frame.missing:
                self._frame = None
                heard.append(_control(frame.opcode, frame.collected))
            return stop
        message = self._message
        assert message is not None
        message.add(chunk, limits)
        if frame.missing:
            return stop
        self._frame = None
        if frame.final:
            self._message = None
            heard.append(message.finish(limits))
        return stop


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise _Broken(1007, "invalid UTF-8") from None


def _control(opcode: int, payload: bytes) -> Heard:
    if opcode == PING:
        return Pinged(payload)
    if opcode == PONG:
        return Ponged(payload)
    try:
        close = Close.parse(payload)
    except ProtocolError:
        raise _Broken(1002, "bad close frame") from None
    except UnicodeDecodeError:
        raise _Broken(1007, "invalid UTF-8 in a close reason") from None
    return Goodbye(int(close.code), close.reason)


def encode_message(payload: str | bytes) -> bytes:
    """One unfragmented, unmasked frame: text for str, binary for bytes."""
    if isinstance(payload, str):
        data = payload.encode()
        if len(data) < 126:
            return _SMALL_TEXT[len(data)] + data
        return _frame(FIN | TEXT, data)
    return _frame(FIN | BINARY, payload)


def deflate_message(payload: str | bytes, window_bits: int = 15) -> bytes:
    """The same, compressed on its own (RFC 7692 §7.2.1) where that makes it shorter; any client can read it that
    agreed on a window of `window_bits` or more."""
    data = payload.encode() if isinstance(payload, str) else payload
    if len(data) < _DEFLATE_FROM_BYTES:
        return encode_message(payload)
    deflater = zlib.compressobj(wbits=-window_bits)
    packed = deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)
    if len(packed) - len(_TAIL) >= len(data):
        return encode_message(payload)
    opcode = TEXT if isinstance(payload, str) else BINARY
    return _frame(FIN | RSV1 | opcode, packed[: -len(_TAIL)])


def encode_ping(payload: bytes = b"") -> bytes:
    """At most 125 bytes of payload."""
    return _frame(FIN | PING, payload)


def encode_pong(payload: bytes) -> bytes:
    """At most 125 bytes of payload."""
    return _frame(FIN | PONG, payload)


def encode_close(code: int, reason: str = "") -> bytes:
    """A close frame; 1005 makes one without a code. A reason over 123 bytes is cut between characters (§5.5.1)."""
    if code == _NO_STATUS:
        return _frame(FIN | CLOSE, b"")
    data = reason.encode()[:123].decode(errors="ignore").encode()
    return _frame(FIN | CLOSE, struct.pack("!H", code) + data)


def payload_bytes(wire: bytes) -> int:
    """Payload bytes of a frame this module encoded."""
    length = wire[1]
    return len(wire) - (2 if length < 126 else 4 if length == 126 else 10)


def _frame(head: int, data: bytes) -> bytes:
    length = len(data)
    if length < 126:
        return bytes((head, length)) + data
    if length < 65536:
        return struct.pack("!BBH", head, 126, length) + data
    return struct.pack("!BBQ", head, 127, length) + data
