"""WebSocket-over-HTTP events (``application/websocket-events``): how one request carries what a client said, and its
answer what the client is told.
"""

from __future__ import annotations

from typing import Literal

from edge.facts import fact

EVENTS_TYPE = "application/websocket-events"
EventKind = Literal["OPEN", "TEXT", "BINARY", "PING", "PONG", "CLOSE", "DISCONNECT"]


@fact
class SocketEvent:
    """`content` None: the event had no length part. Text is kept as the bytes it came as. `kind` is an `EventKind`, or
    a type we do not know."""

    kind: str
    content: bytes | None = None
