"""Bytes on the wire for the load generator: handshakes, frames and requests, built once before a measurement."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

TEXT = 0x81
"""First byte of an unfragmented text frame: FIN and opcode 1 (RFC 6455, section 5.2)."""
_MASK = b"\x37\xfa\x21\x3d"
"""A fixed, non-zero mask: the receiver must unmask in earnest, the sender need not do it again."""
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""The nonce of RFC 6455, section 1.3; the generator does not check what is derived from it."""


def handshake(path: str, host: str) -> bytes:
    """A WebSocket opening request (RFC 6455, section 4.1), with the headers a browser would bring."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n"
        f"Origin: http://{host}\r\nUser-Agent: Mozilla/5.0 (holdfast benchmark)\r\n\r\n"
    ).encode()


def _head(length: int, masked: bool) -> bytes:
    bit = 0x80 if masked else 0
    if length < 126:
        return bytes((TEXT, bit | length))
    if length < 65_536:
        return struct.pack("!BBH", TEXT, bit | 126, length)
    return struct.pack("!BBQ", TEXT, bit | 127, length)


def client_frame(text: str) -> bytes:
    """A masked text frame, as a client must send it (RFC 6455, section 5.3)."""
    payload = text.encode()
    masked = bytes(byte ^ _MASK[i % 4] for i, byte in enumerate(payload))
    return _head(len(payload), masked=True) + _MASK + masked


def server_frame(text: str) -> bytes:
    """The same message as a server sends it, unmasked."""
    payload = text.encode()
    return _head(len(payload), masked=False) + payload


def post(
    path: str, host: str, content_type: str, body: bytes, headers: Mapping[str, str] | None = None, accept: str = "*/*"
) -> bytes:
    """A keep-alive POST."""
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\n{more}"
        f"Accept: {accept}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


@dataclass(frozen=True, slots=True)
class Dialect:
    """How clients of one server talk: what opens a connection, what one event is, and what answers it."""

    hello: bytes
    """Sent after connecting; empty: the connection is ready at once."""
    greeting: int
    """Bytes the server sends after its 101 before any event."""
    request: bytes
    """One event."""
    answer_tail: bytes
    """The answer ends so. Its length is learned from the first one and must not change."""
    in_flight: int = 1_000_000
    """Events that may be under way at a time, over all connections. With fewer than there are connections, these take
    turns."""


class LoadError(Exception):
    """The server did not do what a measurement needs: closed, refused, or answered with something else."""
