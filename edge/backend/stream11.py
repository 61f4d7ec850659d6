"""One streamed request and its streamed answer, on an HTTP/1.1 connection borrowed from an origin.

Implements `edge.backend.origin_base.Upstream`. The answer is told as it comes; flow control goes both ways. The
connection goes back to be used again only when request and answer are both complete. What is sent within one turn of
the loop leaves in one write. Silence is watched by one alarm, which looks at when bytes moved last when it rings.

llhttp has to be told that the answer to HEAD has no body, and httptools has no way to: such an answer is over with its
head, and its parser is thrown away. (Every exchange has a parser of its own.)

Longer than our other rooms because the parser's, the transport's and the caller's side of one exchange share its state.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Protocol

import httptools

from edge.backend.http11 import CLOSED, SWITCHES, Borrower, ends_with_connection
from edge.backend.origin_base import AnswerHead, AnswerListener, Unanswered
from edge.clock import Clock
from edge.wheel import Alarm, Wheel

if TYPE_CHECKING:
    from edge.backend.origin import AskConnection

_log = logging.getLogger("holdfast.backend")

HEADER_BYTES = 65_536
"""Status line and headers of an answer; also its trailers, and what chunks carry between two parts of the body."""
LEFT_BYTES = 262_144
"""Read at once from a connection that was reset."""
PENDING_BYTES = 65_536
"""Of the request's body that may wait for a connection before the sender is told to pause."""


class Lender(Protocol):
    """Whose connections are borrowed."""

    def began(self) -> None:
        """A request leaves."""
        ...

    def over(self, connection: AskConnection, kind: str) -> None:
        """And is over; `kind` of failure, if it is one. The connection is back: to be used again if it is `usable`."""
        ...

    def refused(self, kind: str) -> None:
        """It failed before it had a connection."""
        ...

    def again(self, exchange: StreamExchange) -> None:
        """The kept connection was closed already: start it on a new one."""
        ...

    def withdrawn(self, exchange: StreamExchange) -> None:
        """It waits no longer."""
        ...


class StreamExchange(Borrower):
    """Waits until `start`ed (or `refuse`d), then carries one exchange."""

    __slots__ = (
        "_alarm",
        "_began",
        "_body_left",
        "_clock",
        "_complete",
        "_connection",
        "_extra",
        "_head",
        "_headers",
        "_heard",
        "_keep",
        "_lender",
        "_listener",
        "_lost",
        "_moved_ms",
        "_no_body",
        "_parser",
        "_paused",
        "_pending",
        "_pending_bytes",
        "_problem",
        "_quiet",
        "_reason",
        "_scheduled",
        "_sender_paused",
        "_sent_before",
        "_silence_ms",
        "_trailers",
        "_transport",
        "_unsent",
        "_wheel",
        "_whole",
        "since_ms",
    )

    def __init__(
        self, lender: Lender, clock: Clock, wheel: Wheel, head: bytes, listener: AnswerListener, silence_s: float
    ) -> None:
        self._lender = lender
        self._clock = clock
        self._wheel = wheel
        self._head = head
        self._listener: AnswerListener | None = listener  # None: over
        self._silence_ms = round(silence_s * 1000)
        self._no_body = head.startswith(b"HEAD ")
        self._connection: AskConnection | None = None
        self._transport: asyncio.Transport | None = None
        self._lost = False
        self._alarm: Alarm | None = None
        self._moved_ms = 0
        self.since_ms = 0
        # The request
        self._pending: list[bytes] = [head]
        self._pending_bytes = 0
        self._scheduled = False
        self._complete = False
        self._body_left = False
        self._unsent = False
        self._sender_paused = False
        self._sent_before = False
        # The answer
        self._paused = False
        self._heard = False
        self._reset()

    def _reset(self) -> None:
        """The next answer that comes is the first, or follows a 1xx one."""
        self._reason = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._trailers: list[tuple[bytes, bytes]] = []
        self._quiet = 0
        self._began = False
        self._whole = False
        self._keep = False
        self._extra = False
        self._problem = ""

    # -- the caller's side (Upstream) --------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        if self._listener is None or self._complete or not data:
            return
        self._pending.append(data)
        if self._transport is not None:
            self._flush_soon()
            return
        self._pending_bytes += len(data)
        if self._pending_bytes > PENDING_BYTES:
            self._pause_sender(True)

    def complete(self) -> None:
        self._complete = True
        if self._listener is not None and self._transport is not None and self._pending:
            self._flush()

    def pause(self) -> None:
        if self._paused or self._listener is None:
            return
        self._paused = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self._paused or self._listener is None:
            return
        self._paused = False
        self._moved_ms = self._clock.monotonic_ms()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def cancel(self) -> None:
        if self._listener is None:
            return
        self._listener = None
        if self._connection is None:
            self._lender.withdrawn(self)
        else:
            self._give_back("", keep=False)

    # -- the origin's side -------------------------------------------------------------------------------------

    def start(self, connection: AskConnection) -> None:
        """Here is a connection. The head leaves with what follows it in this turn of the loop."""
        self._moved_ms = now = self._clock.monotonic_ms()
        self._connection = connection
        self._transport = connection.lend(self, now)
        self._parser = httptools.HttpResponseParser(self)
        self._lender.began()
        self._alarm = self._wheel.at(now + self._silence_ms, self._rang)
        if self._paused:
            self._transport.pause_reading()
        if self._complete:
            self._flush()
        else:
            self._flush_soon()

    def refuse(self, failure: Unanswered) -> None:
        """There is no connection to be had."""
        if self._sent_before:
            failure = Unanswered("reset", CLOSED, sent=True)  # the backend may have acted on it
        self._lender.refused(failure.kind)
        listener, self._listener = self._listener, None
        if listener is not None:
            self._tell_failed(listener, failure)

    def shut(self) -> None:
        if self._connection is not None:
            self._fail("closed", "closed by the edge")

    # -- the transport's side ----------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        self._unsent = True
        self._pause_sender(True)

    def resume_writing(self) -> None:
        self._unsent = False
        self._moved_ms = self._clock.monotonic_ms()
        self._pause_sender(False)

    def data_received(self, data: bytes) -> None:
        if self._listener is None:
            return
        self._heard = True
        self._moved_ms = self._clock.monotonic_ms()
        self._quiet += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._whole = False
            self._problem = SWITCHES
        except httptools.HttpParserError as error:
            self._extra = True
            self._problem = self._problem or f"the answer is not HTTP: {type(error).__name__}"
        if self._connection is None:
            return  # the listener has cancelled
        if self._whole:
            self._ended()
        elif self._problem:
            self._fail("garbage", self._problem)
        elif self._quiet > HEADER_BYTES:
            self._fail("garbage", "the answer's headers are too large")

    def eof_received(self) -> None:
        if self._listener is not None and self._began and ends_with_connection(self._headers):
            self._ended()

    def connection_lost(self, exc: Exception | None) -> None:
        connection = self._connection
        if connection is None:
            return
        self._lost = True
        if isinstance(exc, ConnectionError):
            if isinstance(exc, BrokenPipeError):
                self._unsent = True  # only a write can have said so
            self._read_what_is_left()
            if self._connection is None:
                return
        kept = connection.used
        if kept and not self._heard and not self._body_left and self._listener is not None:
            self._start_again()
        else:
            self._fail("reset", CLOSED if exc is None else "connection reset")

    def _read_what_is_left(self) -> None:
        """A backend that refuses a request while it is being sent answers and closes, which resets the connection. A
        write that meets the reset keeps the loop from reading the answer; the kernel still has it."""
        transport = self._transport
        if transport is None or transport.get_extra_info("ssl_object") is not None:
            return
        sock = transport.get_extra_info("socket")
        try:
            while self._connection is not None and (data := os.read(sock.fileno(), LEFT_BYTES)):
                self.data_received(data)
        except OSError:
            return

    # -- the parser's side -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._whole:
            self._extra = True

    def on_status(self, reason: bytes) -> None:
        if not self._whole:
            self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._whole:
            (self._trailers if self._began else self._headers).append((name, value))

    def on_headers_complete(self) -> None:
        if self._whole:
            return
        status = self._parser.get_status_code()
        if status == 101:
            self._problem = SWITCHES
        if status < 200:
            return
        if self._quiet > HEADER_BYTES and sum([len(n) + len(v) + 4 for n, v in self._headers]) > HEADER_BYTES:
            self._problem = "the answer's headers are too large"
        if self._problem:
            return
        self._began = True
        self._quiet = 0
        if self._no_body:
            self._whole = True
            self._keep = self._stays_open()
        listener = self._listener
        if listener is not None:
            head = AnswerHead(status, self._reason.decode("latin-1"), tuple(self._headers), self._length(status))
            try:
                listener.began(head)
            except Exception:
                self._blame(listener)

    def on_body(self, body: bytes) -> None:
        if self._whole:
            self._extra = True
            return
        self._quiet = 0
        listener = self._listener
        if listener is not None and not self._problem:
            try:
                listener.body(body)
            except Exception:
                self._blame(listener)

    def on_message_complete(self) -> None:
        if self._whole or self._problem:
            return
        if self._began:
            self._whole = True
            self._keep = self._parser.should_keep_alive()
        else:
            # 100 Continue, 103 Early Hints (RFC 9110 section 15.2): the answer proper follows. Nobody here waits for
            # a 100 before sending a body, so it is of no interest either.
            self._reset()

    # -- inside ------------------------------------------------------------------------------------------------

    def _length(self, status: int) -> int | None:
        if status == 204:
            return 0
        for name, value in self._headers:
            if name.lower() == b"content-length" and value.isdigit():
                return int(value)
        return None

    def _stays_open(self) -> bool:
        """Of an answer to HEAD, which llhttp would read on after."""
        said = [value.lower() for name, value in self._headers if name.lower() == b"connection"]
        return str(self._parser.get_http_version()) == "1.1" and not any(b"close" in value for value in said)

    def _flush_soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        transport, pending = self._transport, self._pending
        if transport is None or not pending:
            return
        if not self._body_left:
            self._body_left = len(pending) > 1 or pending[0] is not self._head
        self._pending = []
        self._pending_bytes = 0
        self._moved_ms = self._clock.monotonic_ms()
        transport.write(pending[0] if len(pending) == 1 else b"".join(pending))
        if not self._unsent:
            self._pause_sender(False)

    def _pause_sender(self, yes: bool) -> None:
        listener = self._listener
        if self._sender_paused is not yes and listener is not None:
            self._sender_paused = yes
            try:
                listener.sending_paused(yes)
            except Exception:
                self._blame(listener)

    def _ended(self) -> None:
        """The answer is whole. One that came before the request was cannot be followed by another request."""
        listener, self._listener = self._listener, None
        sent = self._complete and not self._pending and not self._unsent
        self._give_back("", keep=self._keep and sent and not self._extra)
        if listener is not None:
            try:
                listener.ended(tuple(self._trailers))
            except Exception:
                self._blame(listener)

    def _fail(self, kind: str, phrase: str) -> None:
        listener, self._listener = self._listener, None
        sent = self._sent_before or (self._complete and not self._pending and not self._unsent)
        self._give_back(kind if listener is not None else "", keep=False)
        if listener is not None:
            self._tell_failed(listener, Unanswered(kind, phrase, sent))

    @staticmethod
    def _tell_failed(listener: AnswerListener, failure: Unanswered) -> None:
        try:
            listener.failed(failure)
        except Exception:
            _log.exception("a failed request could not be told")

    def _blame(self, listener: AnswerListener) -> None:
        """A listener's mistake ends its own exchange only."""
        _log.exception("an answer could not be taken in")
        if self._listener is not None:
            self._fail("closed", "an answer could not be taken in")

    def _start_again(self) -> None:
        """The backend had closed the kept connection: nothing of this exchange has been told to anybody."""
        self._sent_before = self._sent_before or (self._complete and not self._pending and not self._unsent)
        if not self._pending or self._pending[0] is not self._head:
            self._pending.insert(0, self._head)
        self._unsent = False
        self._give_back("", keep=False)
        self._lender.again(self)

    def _give_back(self, kind: str, *, keep: bool) -> None:
        """The connection goes back, to be used again or closed."""
        connection, transport = self._connection, self._transport
        assert connection is not None
        assert transport is not None
        self._connection = self._transport = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._paused and keep:
            transport.resume_reading()
        if self._lost:
            self._lost = False
            connection.lost_while_lent()
        else:
            connection.take_back(keep=keep)
        self._lender.over(connection, kind)

    def _rang(self) -> None:
        self._alarm = None
        now = self._clock.monotonic_ms()
        due = now + self._silence_ms if self._paused else self._moved_ms + self._silence_ms
        if now < due:
            self._alarm = self._wheel.at(due, self._rang)
        else:
            self._fail("timeout", "no answer in time")
