"""One HTTP/1.1 connection to a backend: one request at a time, answers parsed by llhttp (httptools), no task and no
timer of its own. Requests come as whole bytes and leave in one write; answers are bounded. What an answer means, and
whether to try again, is `edge.backend.pool`'s; where to connect to is `edge.backend.dialer`'s.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol, cast

import httptools

from edge.clock import Clock
from edge.facts import fact
from edge.wheel import Alarm, Wheel

IDLE_MS = 4_000
"""An idle connection is closed after this long: just before common servers do (uvicorn and node: 5 s), so that a
request does not meet a connection that is being closed."""


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """How much a backend may answer. `body_bytes` is per answer, `header_bytes` for status line and headers."""

    body_bytes: int = 16 * 1_048_576
    header_bytes: int = 65_536


@fact
class Answer:
    """A whole answer. Header names as the backend wrote them."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> str:
        """The first field called `name` (lower case), or an empty string."""
        for key, value in self.headers:
            if key.lower() == name:
                return value.decode("latin-1")
        return ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no usable answer. `kind` is a metrics label, `phrase` is for people.

    `stale`: a kept connection was closed before a byte of an answer, most likely because it had been idle for too long.
    """

    kind: str
    phrase: str
    stale: bool = False


class ConnectionOwner(Protocol):
    """Who uses the connection. Exactly one of `answered` and `failed` follows each `send`."""

    def made(self, connection: HttpConnection) -> None:
        """The connection is there. (Its object may have been made for one that was refused.)"""
        ...

    def answered(self, connection: HttpConnection, answer: Answer) -> None:
        """The whole answer is here. The connection can be used again at once if `connection.usable`."""
        ...

    def failed(self, connection: HttpConnection, failure: Failure) -> None:
        """There will be no answer; the connection is closed."""
        ...

    def lost(self, connection: HttpConnection) -> None:
        """The connection is over. Once for each `made`, after `failed` if a request was under way."""
        ...


class HttpConnection(asyncio.Protocol):
    """A connection that `ConnectionOwner` may `send` on while `usable` and not `busy`."""

    __slots__ = (
        "_alarm",
        "_alarm_ms",
        "_body",
        "_body_size",
        "_clock",
        "_complete",
        "_due_ms",
        "_headers",
        "_headers_done",
        "_idle_since_ms",
        "_keep",
        "_limits",
        "_owner",
        "_parser",
        "_problem",
        "_quiet",
        "_stale",
        "_transport",
        "_wheel",
        "busy",
        "usable",
    )

    def __init__(self, owner: ConnectionOwner, clock: Clock, wheel: Wheel, limits: AnswerLimits) -> None:
        self._owner = owner
        self._clock = clock
        self._wheel = wheel
        self._limits = limits
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._alarm: Alarm | None = None
        self._alarm_ms = 0
        self._due_ms = 0
        self._idle_since_ms: int | None = None
        self._stale = False
        self.busy = False
        self.usable = False
        self._reset()

    def _reset(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._headers_done = False
        self._body: list[bytes] = []
        self._body_size = 0
        self._quiet = 0
        self._complete = False
        self._keep = False
        self._problem: str | None = None

    # -- the owner's side --------------------------------------------------------------------------------------

    def send(self, request: bytes, now_ms: int, deadline_ms: int) -> None:
        """Send a whole request (head and body). Past `deadline_ms` (monotonic) it fails with kind ``timeout``."""
        assert self._transport is not None
        assert not self.busy
        self._stale = self._idle_since_ms is not None and now_ms - self._idle_since_ms >= 1_000
        self.busy = True
        self._due_ms = deadline_ms
        if self._alarm is None or deadline_ms < self._alarm_ms:
            self._arm(now_ms)
        self._transport.write(request)

    def close(self) -> None:
        """Close now. A request under way fails with kind ``closed``."""
        self._fail("closed", "closed by the edge")

    # -- the transport's side ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.usable = True
        now = self._clock.monotonic_ms()
        self._due_ms = now + IDLE_MS
        self._arm(now)
        self._owner.made(self)

    def data_received(self, data: bytes) -> None:
        if not self.busy:
            # Nothing was asked: a server's good-bye (408 on an idle connection), or a second answer.
            self._drop()
            return
        self._stale = False
        self._quiet += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("garbage", "the answer switches protocols")
            return
        except httptools.HttpParserError as error:
            if not self._complete:
                self._fail("garbage", self._problem or f"the answer is not HTTP: {type(error).__name__}")
                return
            self._keep = False
        if self._complete:
            self._finish()
        elif self._problem is not None:
            self._fail("garbage", self._problem)
        elif self._quiet > self._limits.header_bytes:
            self._fail("garbage", "the answer's headers are too large")

    def eof_received(self) -> None:
        if self.busy and self._headers_done and not self._complete and self._ends_with_connection():
            self._keep = False
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.busy:
            self._fail("reset", "connection closed before the answer" if exc is None else "connection reset")
        self._transport = None
        self.usable = False
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._owner.lost(self)

    # -- the parser's side -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._complete or self._headers_done:  # a trailer, or a second answer: of no interest
            return
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        if self._quiet > self._limits.header_bytes:
            # All bytes so far were headers, but for what of the body came in the same read: look closer.
            size = sum([len(name) + len(value) + 4 for name, value in self._headers])
            if size > self._limits.header_bytes:
                self._problem = "the answer's headers are too large"
        self._headers_done = True
        self._quiet = 0

    def on_body(self, body: bytes) -> None:
        if self._complete:
            return
        self._quiet = 0
        self._body_size += len(body)
        if self._body_size > self._limits.body_bytes:
            self._problem = "the answer is too large"
            self._body.clear()
        if self._problem is None:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._complete or self._problem is not None:
            return
        if self._parser.get_status_code() < 200:
            # 100 Continue, 103 Early Hints (RFC 9110 section 15.2): the answer proper follows.
            self._reset()
            return
        self._keep = self._parser.should_keep_alive()
        self._complete = True

    # -- inside ------------------------------------------------------------------------------------------------

    def _ends_with_connection(self) -> bool:
        """RFC 9112 section 6.3: neither length nor coding given, so the close is the end of the body."""
        return not any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self._headers)

    def _finish(self) -> None:
        body = self._body
        answer = Answer(self._parser.get_status_code(), self._headers, body[0] if len(body) == 1 else b"".join(body))
        transport = self._transport
        # An answer that came before the request was out: the rest of the request would be read as another one.
        keep = self._keep and transport is not None and transport.get_write_buffer_size() == 0
        self._reset()
        self.busy = False
        if keep:
            self._idle_since_ms = now = self._clock.monotonic_ms()
            self._due_ms = now + IDLE_MS
        else:
            self._drop()
        self._owner.answered(self, answer)

    def _fail(self, kind: str, phrase: str) -> None:
        was_busy, self.busy = self.busy, False
        self._drop()
        if was_busy:
            self._owner.failed(self, Failure(kind, phrase, self._stale))

    def _drop(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def _arm(self, now_ms: int) -> None:
        # Never further away than an idle deadline: then a connection that falls idle need not set another alarm,
        # nor does one that is used all the time.
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_ms = min(self._due_ms, now_ms + IDLE_MS)
        self._alarm = self._wheel.at(self._alarm_ms, self._rang)

    def _rang(self) -> None:
        self._alarm = None
        now = self._clock.monotonic_ms()
        if now < self._due_ms:
            self._arm(now)
        elif self.busy:
            self._fail("timeout", "no answer in time")
        else:
            self._drop()
