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

    def accept(self, subprotocol: str | None, headers: Headers, *, control_frames: bool = False) -> None:
        """Complete the handshake. Once, before any send. Forbidden header names are dropped (Connection, Upgrade,
        Sec-WebSocket-*, Content-Length, Transfer-Encoding). With `control_frames` the client's pings and pongs go to
        the listener and pings are not answered here; pongs to pings of the edge's own are never passed on."""
        ...

    def reject(self, status: int, headers: Headers, body: bytes) -> None:
        """Refuse the handshake with a plain HTTP answer and close."""
        ...

    def send(self, frame: Frame, *, owed: bool = False) -> None:
        """Put a message into the outbox; written at the end of the loop tick. Over `outbox_bytes`, and congested: the
        transport closes with 1008 `slow consumer` and tells the listener `ended(cause="slow")`. Not for what is `owed`:
        an answer that was asked for before the client was behind. No more of them are asked for until it no longer is,
        so they cannot pile up."""
        ...

    def ping(self, payload: bytes) -> None:
        """Send a ping of the backend's (at most 125 bytes), in order with what was sent."""
        ...

    def pong(self, payload: bytes) -> None:
        """Send a pong of the backend's (at most 125 bytes), in order with what was sent."""
        ...

    def drop(self) -> None:
        """Cut the connection without a close frame, behind what was sent so far; `ended` follows (cause: backend)."""
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

    def pinged(self, payload: bytes) -> None:
        """The client sent a ping (only after `accept` with `control_frames`)."""
        ...

    def ponged(self, payload: bytes) -> None:
        """The client sent a pong that is no answer to the edge's own ping (only with `control_frames`)."""
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


class ClientExchange(Protocol):
    """One HTTP request of a client and the answer it is owed, as the sessions see it: how an answer is given.

    Either `answer`, or `begin` followed by `write`s and `end`; or `abort`. Calls after the end, or after the client
    has gone, do nothing.
    """

    def answer(self, status: int, reason: str, headers: Headers, body: bytes) -> None:
        """The whole answer. Content-Length is set here; hop-by-hop fields of `headers` are dropped; an empty `reason`
        stands for the usual one. HEAD, 204 and 304 (RFC 9112 §6.3) get no body, but keep a Content-Length given."""
        ...

    def begin(self, status: int, reason: str, headers: Headers, length: int | None) -> None:
        """The head of an answer whose body follows: of `length` bytes, or chunked (to HTTP/1.0: until the close). It
        leaves at once."""
        ...

    def write(self, data: bytes) -> None:
        """Part of the body, in order; written at the end of the loop tick, as one chunk per call. `size` of what the
        client has not taken may grow over `outbox_bytes`: then the exchange is cut, and `gone(cause="slow")` told."""
        ...

    def end(self, trailers: Headers = ()) -> None:
        """The body is complete; the connection may carry the next request."""
        ...

    def abort(self) -> None:
        """The answer cannot be completed: cut the connection, so that the client cannot take it for whole."""
        ...

    def pause_reading(self) -> None:
        """Backpressure: read no more of the request's body. What was read already is still delivered."""
        ...

    def resume_reading(self) -> None: ...


class ExchangeListener(Protocol):
    """The sessions' side of one HTTP request. Nothing is told after `gone`, or after the answer has ended."""

    def body(self, data: bytes) -> None:
        """Part of the request's body (transfer codings taken off)."""
        ...

    def body_ended(self, trailers: Headers) -> None:
        """The request is complete. Once, also when it has no body."""
        ...

    def congested(self, yes: bool) -> None:
        """The client does not take what is written to it as fast as it is written; or, False, has taken it all."""
        ...

    def gone(self, cause: str) -> None:
        """The client went before the answer was complete. `cause`: client, slow, limit."""
        ...


class HttpDoor(Protocol):
    """Where transports bring HTTP requests of routes that proxy HTTP."""

    def exchange(
        self, client: ClientExchange, route: RouteHandle, request: ClientRequest, length: int | None
    ) -> ExchangeListener:
        """A request that passed the transport's limits. `length` of its body in bytes: 0 has none, None is chunked.
        Called once per request, before anything of its body is told; must not raise."""
        ...
