"""The border between sessions and transports: what a session asks of its client's connection, and what it is told.

A transport implements `Connection` and calls a `ConnectionListener`. All calls are synchronous and happen on the
loop's thread; none of them blocks or raises on a connection that is already gone.
"""

from __future__ import annotations

from typing import Protocol

from edge.protocol.callbacks.events import ClientRequest, Headers
from edge.sessions.routes import RouteHandle


class Frame:
    """One message for any number of clients, encoded at most once per wire form.

    `text` or bytes in; a transport keeps what it made of it in `wire` (plain) and `deflated`, so that a publication
    to 5,000 subscribers is encoded once and compressed once.
    """

    __slots__ = ("deflated", "payload", "size", "wire")

    def __init__(self, payload: str | bytes) -> None:
        self.payload = payload
        self.wire: bytes | None = None
        self.deflated: bytes | None = None
        self.size = 0
        """Payload bytes, once it is encoded."""


class Connection(Protocol):
    """One client socket, as its session sees it. Everything the edge knows of the connection stays behind this."""

    def accept(self, subprotocol: str | None, headers: Headers) -> None:
        """Complete the handshake. Once, before any send. Forbidden header names are dropped (Connection, Upgrade,
        Sec-WebSocket-*, Content-Length, Transfer-Encoding)."""
        ...

    def reject(self, status: int, headers: Headers, body: bytes) -> None:
        """Refuse the handshake with a plain HTTP answer and close."""
        ...

    def send(self, frame: Frame) -> None:
        """Put a message into the outbox; written at the end of the loop tick. Over `outbox_bytes`, and congested: the
        transport closes with 1008 `slow consumer` and tells the listener `ended(cause="slow")`."""
        ...

    def flush(self) -> None:
        """Write what was sent so far at once, not at the end of the tick: then it shows if the client is behind."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Send a close frame behind everything sent so far. After the client's half, or `close_s`, the socket goes.
        Before `accept`: refuse the handshake with 503."""
        ...

    def finish(self) -> None:
        """The client said goodbye and has its last answers: echo its close frame and let go (see `closing`)."""
        ...

    def pause_reading(self) -> None:
        """Backpressure: read nothing more from the socket. What was read already is still delivered."""
        ...

    def resume_reading(self) -> None: ...


class ConnectionListener(Protocol):
    """The session's side: what its transport tells it."""

    def received(self, payload: str | bytes) -> None:
        """The client sent a whole message."""
        ...

    def congested(self, yes: bool) -> None:
        """The client does not take what is written to it as fast as it is written; or, False, has taken it all."""
        ...

    def closing(self, code: int, reason: str) -> None:
        """Nothing more will be received: the client sent a close frame (1005: without a code), or broke the protocol
        or a limit (1002, 1007, 1008, 1009). The close frame back waits for `Connection.finish`, so that answers to
        messages sent just before still arrive, but for `close_s` at most. Once; `ended` follows."""
        ...

    def ended(self, code: int, reason: str, *, clean: bool, cause: str) -> None:
        """The connection is over, for whatever reason, exactly once, also after `closing` and `reject`; nothing can
        be sent any more. `cause`: client, backend (also: our own `close` or `reject`), idle, slow, limit."""
        ...


class Door(Protocol):
    """Where transports bring new connections: the sessions' one way in."""

    def open(
        self, connection: Connection, route: RouteHandle, request: ClientRequest, transport: str
    ) -> ConnectionListener:
        """A handshake that passed the transport's limits waits for `accept` or `reject`, at once or later.

        `transport` is ``websocket``, later ``sse`` and others. Called once per connection; must not raise.
        """
        ...
