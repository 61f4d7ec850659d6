"""WebSocket-over-HTTP events (``application/websocket-events``): how one request carries what a client said, and its
answer what the client is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from edge.errors import WireError
from edge.facts import fact

EVENTS_TYPE = "application/websocket-events"
EventKind = Literal["OPEN", "TEXT", "BINARY", "PING", "PONG", "CLOSE", "DISCONNECT"]


@fact
class SocketEvent:
    """`content` None: the event had no length part. Text is kept as the bytes it came as. `kind` is an `EventKind`, or
    a type we do not know."""

    kind: str
    content: bytes | None = None


_TEMPLATES = {kind: b"%b %%x\r\n%%b\r\n" % kind.encode() for kind in ("TEXT", "BINARY", "PING", "PONG", "CLOSE")}
_BARE = {kind: b"%b\r\n" % kind.encode() for kind in ("OPEN", "PING", "PONG", "CLOSE", "DISCONNECT")}
_LENGTH_MAX = 0x7FFF_FFFF
_CLOSE_CODES = frozenset((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014))


def encode_events(events: Sequence[SocketEvent]) -> bytes:
    """A request's body. TEXT and BINARY always have a length part, also when they are empty (``TEXT 0``: the form of
    the specification, which every backend takes; Pushpin 1.36 writes a bare ``TEXT``). The others have one only with
    content."""
    if len(events) == 1:
        return _encode(events[0])
    return b"".join([_encode(event) for event in events])


def _encode(event: SocketEvent) -> bytes:
    kind, content = event.kind, event.content
    if content:
        return _TEMPLATES[kind] % (len(content), content)
    return _BARE.get(kind) or _TEMPLATES[kind] % (0, b"")


def decode_events(body: bytes) -> list[SocketEvent]:
    """The events in an answer's body, of kinds we do not know too. A last event that was cut short is delivered as far
    as it came, as Pushpin does. Raises WireError for anything else that is malformed.

    Stricter than Pushpin: content is followed by CRLF (there two bytes are skipped unseen, so that a length counted in
    characters becomes a broken message and an unknown event), and lengths have no sign.
    """
    events: list[SocketEvent] = []
    size = len(body)
    start = 0
    while start < size:
        end = body.find(b"\r\n", start)
        if end < 0:
            raise WireError(f"byte {start}: no CRLF after the type line of event {len(events) + 1}")
        line = body[start:end]
        kind, length = _LINES.get(line) or _read_line(line, len(events) + 1)
        start = end + 2
        if length < 0:
            events.append(SocketEvent(kind))
            continue
        end = start + length
        events.append(SocketEvent(kind, body[start:end]))
        start = end + 2
        if start <= size and not body.startswith(b"\r\n", end):
            raise WireError(
                f"byte {end}: no CRLF after the content of event {len(events)}; its length is counted in bytes, in hex"
            )
    return events


def _read_line(line: bytes, number: int) -> tuple[str, int]:
    """Kind and length of content; -1: no length part."""
    name, space, digits = line.partition(b" ")
    kind = name.decode("latin-1")
    if not space:
        return kind, -1
    try:
        length = int(digits, 16)
    except ValueError:
        length = -1
    # int() takes signs and underscores too; blanks and 0x are taken by Pushpin as well.
    if not 0 <= length <= _LENGTH_MAX or not digits.strip().isalnum():
        raise WireError(f"length of event {number} must be hex digits, at most 7fffffff: {digits[:20]!r}")
    return kind, length


_LINES = {kind.encode(): (kind, -1) for kind in get_args(EventKind)}
_LINES.update({b"%b %x" % (kind.encode(), n): (kind, n) for kind in ("TEXT", "BINARY") for n in range(512)})
"""The type lines of nearly all events, read once: half the price of an event."""


def sendable_code(code: int) -> int:
    """`code`, or 1000 for one that no close frame may carry (RFC 6455 §7.4): django-grip sends 0 for none, and an
    error of our own would make a failure of a normal end."""
    if 3000 <= code <= 4999 or code in _CLOSE_CODES:
        return code
    return 1000


def close_content(code: int | None, reason: str) -> bytes | None:
    """The content of a CLOSE event. None: the client gave no code."""
    return None if code is None else code.to_bytes(2) + reason.encode()


def read_close(content: bytes | None) -> tuple[int, str]:
    """Code and reason that a backend's CLOSE stands for: 1000 for none, and for what cannot be sent. The reason is cut
    to what a close frame holds."""
    if content is None or len(content) < 2:
        return 1000, ""
    reason = content[2:125].decode(errors="ignore")
    return sendable_code(int.from_bytes(content[:2])), reason
