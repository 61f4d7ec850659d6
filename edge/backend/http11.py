"""One HTTP/1.1 connection to a backend: one request at a time, answers parsed by llhttp (httptools), no task and no
timer of its own. Requests come as whole bytes and leave in one write; answers are bounded. What an answer means, and
whether to try again, is its owner's (`edge.backend.pool`, `edge.backend.origin`); where to connect to is
`edge.backend.dialer`'s. A request or an answer that is streamed borrows the connection (`edge.backend.stream11`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import httptools

from edge.backend.heads import KnownHeads
from edge.clock import Clock
from edge.facts import fact
from edge.wheel import Alarm, Wheel

IDLE_MS = 4_000
"""An idle connection is closed after this long: just before common servers do (uvicorn and node: 5 s), so that a
request does not meet a connection that is being closed."""
STALE_MS = 1_000
"""Idle for less than this, a connection is closed because of what it carried, not because nobody used it."""


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """How much a backend may answer. `body_bytes` is per answer, `header_bytes` for status line and headers."""

    body_bytes: int = 16 * 1_048_576
    header_bytes: int = 65_536


@fact
class Answer:
    """A whole answer. Header names as the backend wrote them. Answers with equal heads may share their `headers`
    object: never change it; what was learned from it may be kept for the next answer that has it."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
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

    `kept`: the connection had carried answers before and was closed without a byte of this one. `stale`: and it had
    been idle for a while, which most likely is why. `sent`: the kernel had taken the whole request. (Over TLS bytes
    may still have been on their way there.)
    """

    kind: str
    phrase: str
    stale: bool = False
    kept: bool = False
    sent: bool = True


CLOSED = "connection closed before the answer"
SWITCHES = "the answer switches protocols"


def ends_with_connection(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """RFC 9112 section 6.3: neither length nor chunks say where the body ends, so the close does."""
    for name, value in headers:
        lower = name.lower()
        if lower == b"content-length" or (lower == b"transfer-encoding" and b"chunked" in value.lower()):
            return False
    return True


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


class Borrower(asyncio.Protocol):
    """Carries an exchange over a connection that is lent to it."""

    def shut(self) -> None:
        """The edge closes the connection: give it back."""
        raise NotImplementedError


class HttpConnection(asyncio.Protocol):
    """A connection that `ConnectionOwner` may `send` on while `usable` and not `busy`."""

    __slots__ = (
        "_alarm",
        "_alarm_ms",
        "_body",
        "_body_size",
        "_borrower",
        "_complete",
        "_headers",
        "_headers_done",
        "_heads",
        "_heard",
        "_keep",
        "_now_ms",
        "_owner",
        "_parser",
        "_problem",
        "_quiet",
        "_transport",
        "_unsent",
        "_wheel",
        "asked_ms",
        "busy",
        "due_ms",
        "ended_ms",
        "limits",
        "usable",
        "used",
    )

    def __init__(
        self,
        owner: ConnectionOwner,
        clock: Clock,
        wheel: Wheel,
        limits: AnswerLimits,
        heads: KnownHeads | None = None,
    ) -> None:
        self._owner = owner
        self._now_ms = clock.monotonic_ms
        self._wheel = wheel
        self._heads = KnownHeads() if heads is None else heads
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._alarm: Alarm | None = None
        self._alarm_ms = 0
        self._borrower: Borrower | None = None
        self._heard = False
        self._unsent = False
        self.limits = limits
        self.asked_ms = 0
        """When the last request was sent."""
        self.due_ms = 0
        """When its answer must be whole; of an idle connection, when it closes."""
        self.ended_ms = 0
        """When the last answer ended, if the connection is `used`."""
        self.used = False
        """It has carried an answer."""
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
        self.busy = True
        self._heard = False
        self.asked_ms = now_ms
        self.due_ms = deadline_ms
        if self._alarm is None or deadline_ms < self._alarm_ms:
            self._arm(now_ms)
        self._transport.write(request)

    def lend(self, borrower: Borrower, now_ms: int) -> asyncio.Transport:
        """The transport, for one exchange that is not this class's to carry. It reports to `borrower` until
        `take_back`; a loss is handed on with `lost_while_lent`."""
        transport = self._transport
        assert transport is not None
        assert not self.busy
        self.busy = True
        self.asked_ms = now_ms
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._borrower = borrower
        transport.set_protocol(borrower)
        return transport

    def take_back(self, *, keep: bool) -> None:
        """The exchange is over. `keep`: both sides of it are complete, so that another can follow."""
        assert self._transport is not None
        self.busy = False
        self._borrower = None
        self._transport.set_protocol(self)
        self.used = True
        self.ended_ms = now = self._now_ms()
        if keep:
            self.due_ms = now + IDLE_MS
            self._arm(now)
        else:
            self._drop()

    def lost_while_lent(self) -> None:
        """The borrower was told that the connection is lost."""
        self.busy = False
        self._borrower = None
        self.connection_lost(None)

    def close(self) -> None:
        """Close now. A request under way fails with kind ``closed``."""
        if self._borrower is not None:
            self._borrower.shut()
        else:
            self._fail("closed", "closed by the edge")

    # -- the transport's side ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # `pause_writing` says that not all of a request is out. TLS transports call it from the limit on, others above.
        self._transport.set_write_buffer_limits(0 if transport.get_extra_info("ssl_object") is None else 1)
        self.usable = True
        now = self._now_ms()
        self.due_ms = now + IDLE_MS
        self._arm(now)
        self._owner.made(self)

    def pause_writing(self) -> None:
        self._unsent = True

    def resume_writing(self) -> None:
        self._unsent = False

    def data_received(self, data: bytes) -> None:
        if not self.busy:
            # Nothing was asked: a server's good-bye (408 on an idle connection), or a second answer.
            self._drop()
            return
        first = not self._heard
        if first:
            self._heard = True
            end = data.find(b"\r\n\r\n") + 4
            known = self._heads.get(data[:end])
            if known is not None and len(data) - end == known.length:
                self._done(Answer(known.status, known.headers, data[end:]), keep=True)
                return
        self._feed(data)
        if self._complete:
            self._finish(data if first else b"")
        elif self._problem is not None:
            self._fail("garbage", self._problem)
        elif self._quiet > self.limits.header_bytes:
            self._fail("garbage", "the answer's headers are too large")

    def eof_received(self) -> None:
        if self.busy and self._headers_done and not self._complete and ends_with_connection(self._headers):
            self._keep = False
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.busy:
            if isinstance(exc, BrokenPipeError):
                self._unsent = True  # only a write can have said so
            self._fail("reset", CLOSED if exc is None else "connection reset")
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
        if self._quiet > self.limits.header_bytes:
            # All bytes so far were headers, but for what of the body came in the same read: look closer.
            size = sum([len(name) + len(value) + 4 for name, value in self._headers])
            if size > self.limits.header_bytes:
                self._problem = "the answer's headers are too large"
        self._headers_done = True
        self._quiet = 0

    def on_body(self, body: bytes) -> None:
        if self._complete:
            return
        self._quiet = 0
        self._body_size += len(body)
        if self._body_size > self.limits.body_bytes:
            self._problem = "the answer is too large"
            self._body.clear()
        if self._problem is None:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._complete or self._problem is not None:
            return
        status = self._parser.get_status_code()
        if status == 101:
            self._problem = SWITCHES
            return
        if status < 200:
            # 100 Continue, 103 Early Hints (RFC 9110 section 15.2): the answer proper follows.
            self._reset()
            return
        self._keep = self._parser.should_keep_alive()
        self._complete = True

    # -- inside ------------------------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        """Have the callbacks above called for what is in `data`."""
        self._quiet += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._complete = False
            self._problem = SWITCHES
        except httptools.HttpParserError as error:
            self._keep = False
            if not self._complete and self._problem is None:
                self._problem = f"the answer is not HTTP: {type(error).__name__}"

    def _finish(self, data: bytes = b"") -> None:
        """The answer is whole; `data` if it came in one read."""
        body, keep = self._body, self._keep
        answer = Answer(self._parser.get_status_code(), self._headers, body[0] if len(body) == 1 else b"".join(body))
        if keep and data:
            self._heads.learn(data, answer.status, answer.headers, answer.body)
        self._reset()
        self._done(answer, keep)

    def _done(self, answer: Answer, keep: bool) -> None:
        self.busy = False
        self.used = True
        self.ended_ms = now = self._now_ms()
        # An answer that came before the request was out: the rest of the request would be read as another one.
        if keep and not self._unsent:
            self.due_ms = now + IDLE_MS
        else:
            self._drop()
        self._owner.answered(self, answer)

    def _fail(self, kind: str, phrase: str) -> None:
        was_busy, self.busy = self.busy, False
        self._drop()
        if was_busy:
            kept = self.used and not self._heard
            stale = kept and self.asked_ms - self.ended_ms >= STALE_MS
            self._owner.failed(self, Failure(kind, phrase, stale, kept, not self._unsent))

    def _drop(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def _arm(self, now_ms: int) -> None:
        # Never further away than an idle deadline: then a connection that falls idle need not set another alarm,
        # nor does one that is used all the time.
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_ms = min(self.due_ms, now_ms + IDLE_MS)
        self._alarm = self._wheel.at(self._alarm_ms, self._rang)

    def _rang(self) -> None:
        self._alarm = None
        now = self._now_ms()
        if now < self.due_ms:
            self._arm(now)
        elif self.busy:
            self._fail("timeout", "no answer in time")
        else:
            self._drop()
