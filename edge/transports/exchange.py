"""One HTTP request and its answer, between its client's connection and the sessions.

`HttpExchange` is a `ClientExchange`. It owns how far the answer has come and what may still be said; bytes, reading
and time are its connection's (`edge.transports.http`), which carries one exchange after the other. Calls that come
after the end do nothing, so that they cannot touch the next one.

::

    ASKED ─begin→ ANSWERING ─end→ OVER
      ├──answer────────────────────┤
      ├──abort, or the client goes─┤
      └──slow→ CUT ─socket closed──┘

CUT: the client is too slow; its end is told when the socket is gone, not from within the `write` that was too much.
"""

from __future__ import annotations

import enum
import logging
from typing import Protocol

from edge.protocol.callbacks.events import Headers
from edge.protocol.chunked import encode_chunk, encode_end
from edge.protocol.http_answer import Asked, Body, body_of, write_fields, write_head
from edge.sessions.connection import ExchangeListener
from edge.sessions.routes import RouteHandle
from edge.transports.outbox import Outbox

_log = logging.getLogger("holdfast.http")


class Stage(enum.Enum):
    ASKED = 1
    ANSWERING = 2
    CUT = 3
    OVER = 4


_ASKED, _ANSWERING, _CUT, _OVER = Stage
_NONE, _LENGTH, _CHUNKED, _CLOSE = Body


class Carrier(Protocol):
    """What an exchange asks of its connection."""

    outbox: Outbox

    def keeps(self, wished: bool) -> bool:
        """Whether the connection can carry another request after this answer."""
        ...

    def date(self) -> str: ...

    def now(self) -> int:
        """Whole seconds, as `Care` notes them."""
        ...

    def answered(self, exchange: HttpExchange) -> None:
        """The answer is complete."""
        ...

    def cut(self, *, reset: bool) -> None:
        """End the connection without an end of the answer; `reset`: so that an end cannot be taken for one."""
        ...

    def want_body(self, exchange: HttpExchange, yes: bool) -> None: ...


class HttpExchange:
    """See the module. `listener` is set once the door has returned it."""

    __slots__ = ("_asked", "_body", "_carrier", "_left", "_stage", "address", "listener", "route", "spoke")

    def __init__(self, carrier: Carrier, route: RouteHandle, address: str, asked: Asked) -> None:
        self._carrier = carrier
        self._asked = asked
        self._stage = _ASKED
        self._body = _NONE
        self._left = 0
        self.spoke = 0
        """When something of the answer's body was last written."""
        self.route = route
        self.address = address
        self.listener: ExchangeListener | None = None

    @property
    def over(self) -> bool:
        return self._stage is _OVER

    @property
    def _open(self) -> bool:
        return self._stage is _ASKED or self._stage is _ANSWERING

    @property
    def begun(self) -> bool:
        return self._stage is not _ASKED

    @property
    def keep(self) -> bool:
        """Whether the client was told that the connection stays."""
        return self._asked.keep and self._body is not _CLOSE

    # What sessions call.

    def answer(self, status: int, reason: str, headers: Headers, body: bytes) -> None:
        if self._stage is not _ASKED:
            return
        head = self._head(status, reason, headers, len(body))
        self._carrier.outbox.put(head if self._body is _NONE else head + body)
        self._finish()

    def begin(self, status: int, reason: str, headers: Headers, length: int | None) -> None:
        if self._stage is not _ASKED:
            return
        outbox = self._carrier.outbox
        self._stage = _ANSWERING
        outbox.put(self._head(status, reason, headers, length))
        self._left = length or 0
        outbox.flush()

    def write(self, data: bytes) -> None:
        if self._stage is not _ANSWERING or not data or self._body is _NONE:
            return
        self.spoke = self._carrier.now()
        outbox = self._carrier.outbox
        if self._body is _CHUNKED:
            outbox.put(encode_chunk(data))
        elif self._body is _LENGTH:
            # More than was announced would be read as the next answer.
            data = data[: self._left]
            self._left -= len(data)
            outbox.put(data)
        else:
            outbox.put(data)
        if outbox.congested and outbox.size() > self.route.settings.limits.outbox_bytes > 0:
            self.slow()

    def end(self, trailers: Headers = ()) -> None:
        if self._stage is not _ANSWERING:
            return
        if self._body is _LENGTH and self._left:
            self.abort()  # less than was announced
            return
        if self._body is _CHUNKED:
            self._carrier.outbox.put(encode_end(write_fields(trailers)))
        self._finish()

    def abort(self) -> None:
        if self._open:
            reset = self._stage is _ANSWERING and self._body is _CLOSE
            self._stage = _OVER
            self._carrier.cut(reset=reset)

    def pause_reading(self) -> None:
        if self._open:
            self._carrier.want_body(self, False)

    def resume_reading(self) -> None:
        if self._open:
            self._carrier.want_body(self, True)

    # What its connection calls.

    def heard(self, data: bytes) -> None:
        """Part of the request's body."""
        if self.listener is not None and self._open:
            self.listener.body(data)

    def heard_all(self, trailers: Headers) -> None:
        """The request is complete."""
        if self.listener is not None and self._open:
            self.listener.body_ended(trailers)

    def congested(self, yes: bool) -> None:
        if self.listener is not None and self._open:
            self.listener.congested(yes)

    def slow(self) -> None:
        """The client does not take its answer: cut it off. `gone` follows."""
        if not self._open:
            return
        self._stage = _CUT
        self.route.meters.limits_hit["outbox_bytes"].value += 1
        _log.warning("route %s: client %s does not take its answer; cut off", self.route.name, self.address)
        self._carrier.cut(reset=True)

    def gone(self, cause: str) -> None:
        """The client will not get the rest of the answer."""
        if self._stage is not _OVER:
            if self._stage is _CUT:
                cause = "slow"
            self._stage = _OVER
            if self.listener is not None:
                self.listener.gone(cause)

    # Inside.

    def _head(self, status: int, reason: str, headers: Headers, length: int | None) -> bytes:
        if not 200 <= status <= 999:  # 1xx would be no answer at all; less or more is no status
            status, reason = 502, ""
        asked = self._asked
        keep = self._carrier.keeps(asked.keep)
        if keep is not asked.keep:
            asked = self._asked = Asked(asked.method, asked.version, keep)
        self._body = body_of(asked, status, length)
        return write_head(asked, status, reason, headers, self._body, length, self._carrier.date())

    def _finish(self) -> None:
        self._stage = _OVER
        self._carrier.answered(self)
