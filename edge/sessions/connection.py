"""The border between sessions and transports: what a session asks of its client's connection, and what it is told.

A transport implements `Connection` and calls a `ConnectionListener`. All calls are synchronous and happen on the
loop's thread; none of them blocks or raises on a connection that is already gone.
"""

from __future__ import annotations

from typing import Protocol

from edge.protocol.callbacks.events import Headers


class Frame:
    """One message for any number of clients, encoded at most once per wire form.

    `text` or bytes in; a transport keeps what it made of it in `wire` (plain) and `deflated`, so that a publication
    to 5,000 subscribers is encoded once and compressed once.
    """

    __slots__ = ("deflated", "payload", "wire")

    def __init__(self, payload: str | bytes) -> None:
        self.payload = payload
        self.wire: bytes | None = None
        self.deflated: bytes | None = None


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
        """Put a message into the outbox; written at the end of the loop tick. Over `outbox_bytes`: the transport
        closes with 1008 `slow consumer` and tells the listener `ended(cause="slow")`."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Send a close frame behind everything sent so far. After the client's half, or `close_s`, the socket goes."""
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

    def closing(self, code: int, reason: str) -> None:
        """The client sent a close frame (1005: without a code). The echo waits for `Connection.finish`, so that
        answers to messages sent just before the goodbye still arrive, but for `close_s` at most. Once; `ended` follows
        when the socket is gone."""
        ...

    def ended(self, code: int, reason: str, *, clean: bool, cause: str) -> None:
        """The connection is over, for whatever reason, exactly once, also after `closing`; nothing can be sent any
        more. `cause`: client, backend, idle, slow, limit, drain."""
        ...
