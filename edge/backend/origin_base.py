"""The two ways to ask a backend one thing over HTTP: whole (`Origin.ask`), or as a stream (`Origin.stream`).

An origin is one address of a backend with its kept connections; it neither retries nor knows what an answer means.
Callers write requests as bytes themselves: who sends many of the same kind keeps their heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from edge.backend.http11 import Answer
from edge.config import RouteSettings, TargetSettings

RawHeaders = Sequence[tuple[bytes, bytes]]


def chunk(data: bytes, trailers: RawHeaders = ()) -> bytes:
    """`data` as one chunk of a request whose head says ``Transfer-Encoding: chunked``; without data the last one, with
    its trailers (RFC 9112 section 7.1)."""
    if data:
        return b"%x\r\n%b\r\n" % (len(data), data)
    return b"0\r\n%b\r\n" % b"".join([b"%b: %b\r\n" % trailer for trailer in trailers])


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Why there is no (whole) answer. `kind` is a metrics label (``connect``, ``reset``, ``timeout``, ``garbage``,
    ``full``, ``closed``), `phrase` is for people.

    `sent`: the request had left whole, so that the backend may have acted on it. A kept connection that the backend
    had closed before a byte of an answer came is tried again on a new one without troubling the caller; when that one
    cannot be had, and the request had left, it is told as ``reset``.
    """

    kind: str
    phrase: str
    sent: bool


class Asker(Protocol):
    """Who asked. Exactly one of the two calls follows each `ask`, never from inside it. One asker has one request
    under way at an origin at a time."""

    def answered(self, answer: Answer) -> None: ...

    def unanswered(self, failure: Unanswered) -> None: ...


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """The head of an answer. Names as the backend wrote them; 1xx answers are skipped. `length`: bytes of the body, in
    an answer to HEAD and a 304 those that the body would have; None: not said."""

    status: int
    reason: str
    headers: RawHeaders
    length: int | None


class AnswerListener(Protocol):
    """Who reads a streamed answer: `began`, `body`*, `ended`; or `failed`, at any time, which ends it too. Nothing of
    this from inside `stream`. An answer may end before the request is complete: what is sent then is dropped."""

    def began(self, head: AnswerHead) -> None: ...

    def body(self, data: bytes) -> None: ...

    def ended(self, trailers: RawHeaders) -> None: ...

    def failed(self, failure: Unanswered) -> None: ...

    def sending_paused(self, yes: bool) -> None:
        """The backend does not take the request's body as fast as it is sent (or there is no connection yet); or,
        False, has taken it. Also from inside `send` and `complete`."""
        ...


class Upstream(Protocol):
    """One streamed request under way. Calls after its end do nothing."""

    def send(self, data: bytes) -> None:
        """Part of the request's body, already in the transfer coding the head announced (see `chunk`). It leaves at
        the end of the loop's turn, with the head if that has not left yet."""
        ...

    def complete(self) -> None:
        """Nothing more of the request follows: also when it has no body. Everything leaves at once."""
        ...

    def pause(self) -> None:
        """Backpressure: read no more of the answer."""
        ...

    def resume(self) -> None: ...

    def cancel(self) -> None:
        """The answer is of no interest any more: nothing is told from now on."""
        ...


class Origin(Protocol):
    """One backend. Never blocks, never raises. At most `backend_connections` requests are under way at a time; the
    others wait their turn, and fail with kind ``full`` when they have waited `connect_s`."""

    def ask(self, request: bytes, asker: Asker, timeout_s: float) -> None:
        """Send a whole request (not HEAD: its answer looks unfinished); the whole answer is told to `asker` within
        `timeout_s`, counted from its sending. Past `grip.answer_bytes` of body it fails with ``garbage``."""
        ...

    def forget(self, asker: Asker) -> None:
        """`asker` is no longer interested: nothing is told to it. Its request may still take effect."""
        ...

    def stream(self, head: bytes, listener: AnswerListener, silence_s: float) -> Upstream:
        """Send the head of a request; its body is sent with the handle. Fails with ``timeout`` when neither side's
        bytes moved for `silence_s`, while the answer is not paused."""
        ...


class Origins(Protocol):
    """All backends of this process."""

    def of(self, route: RouteSettings, target: TargetSettings) -> Origin:
        """The origin at `target.url`, made when it is new; those that nobody uses are closed after a while."""
        ...

    def close(self) -> None: ...
