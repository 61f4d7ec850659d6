"""One HTTP request of a client of a GRIP route: it goes to a backend, and the answer goes to the client as it comes, or
is held, as the backend says.

This module owns the way of the request; the answer is read by a `Reply`. What is held is a `Hold`'s, which comes back
here when the request has to be repeated. Bodies stream both ways and are read as fast as the other side takes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge.backend.origin_base import Unanswered
from edge.protocol.callbacks.events import ClientRequest, Headers
from edge.protocol.grip.instruct import Instruct
from edge.protocol.grip.socket_events import EVENTS_TYPE
from edge.sessions.connection import ClientExchange, ExchangeListener
from edge.sessions.grip.calls import Body, Call, Question
from edge.sessions.grip.hold import Guest
from edge.sessions.grip.refusals import BAD_GATEWAY, FORGED_EVENTS, GATEWAY_TIMEOUT, TOO_LARGE_TO_HOLD, Refusal, refuse
from edge.sessions.grip.reply import Reply, ReplyReader
from edge.sessions.grip.response_hold import KeptAnswer, ResponseHold
from edge.sessions.grip.stream_hold import StreamHold
from edge.sessions.grip.targets import subject_of, targets_of
from edge.sessions.routes import RouteHandle

if TYPE_CHECKING:
    from edge.sessions.grip.services import GripServices

_AWAY = (502, 503, 504)
"""Statuses by which what stands before a backend says that it is away for a moment."""


class Exchange(ExchangeListener, ReplyReader):
    """Also a `Held`: a drain sees it here, from the request's first byte to the answer's last."""

    __slots__ = (
        "_body",
        "_call",
        "_client",
        "_hold",
        "_leaving",
        "_over",
        "_reply",
        "_request",
        "_route",
        "_services",
    )

    def __init__(
        self,
        services: GripServices,
        route: RouteHandle,
        client: ClientExchange,
        request: ClientRequest,
        length: int | None,
    ) -> None:
        """`length` of the request's body: 0 has none, None is chunked."""
        self._services = services
        self._route = route
        self._client = client
        self._request = request
        self._body = Body(length, route.settings.grip.hold_bytes)
        self._call: Call | None = None
        self._reply: Reply | None = None
        self._hold: ResponseHold | StreamHold | None = None
        self._leaving = False
        self._over = False

    def begin(self) -> None:
        """Ask the backend."""
        self._services.held.add(self)
        if self._forges_events():
            self._refuse(FORGED_EVENTS)
        else:
            self._ask(self._body, ())

    # ExchangeListener.

    def body(self, data: bytes) -> None:
        if not self._over:
            self._body.add(data)
            if self._call is not None:
                self._call.send(data)

    def body_ended(self, trailers: Headers) -> None:
        if not self._over and not self._body.ended:
            self._body.end(trailers)
            if self._call is not None:
                self._call.complete()

    def congested(self, yes: bool) -> None:
        if isinstance(self._hold, StreamHold):
            self._hold.congested(yes)
        elif self._call is not None:
            (self._call.pause if yes else self._call.resume)()

    def gone(self, cause: str) -> None:
        if self._hold is not None:
            self._hold.client_gone()
        self._end()

    # Held.

    @property
    def closable(self) -> bool:
        return not self._leaving and not self._over

    def leave(self, code: int, reason: str, cause: str) -> None:
        """A held response gets its timeout answer, the body of a stream ends; an answer under way is finished."""
        self._leaving = True
        match self._hold:
            case ResponseHold() as hold:
                hold.time_out()
            case StreamHold() as hold:
                hold.leave()

    def leave_now(self) -> None:
        self.leave(1012, "service restart", "drain")
        if not self._over:
            self._client.abort()
            self._end()

    # ReplyReader.

    def takes(self, status: int) -> bool:
        hold = self._hold
        if not isinstance(hold, ResponseHold) or status not in _AWAY:
            return True
        self._drop_call()
        hold.unanswered(f"status {status}")
        return False

    def showing(self) -> None:
        hold, self._hold = self._hold, None
        if isinstance(hold, ResponseHold):
            hold.replaced()

    def shown(self) -> None:
        self._end()

    def to_hold(self, instruct: Instruct, kept: KeptAnswer) -> None:
        guest = self._guest()
        self._call = self._reply = None
        if isinstance(self._hold, ResponseHold):
            self._hold.renew(instruct, kept)
        elif self._body.kept is None:
            self._refuse(TOO_LARGE_TO_HOLD)
            return
        else:
            self._hold = ResponseHold(guest, self._repeat, instruct, kept)
            # The backend did not wait for the rest of the request; it belongs to what may have to be repeated.
            self._client.resume_reading()
        if self._leaving and not self._over:
            self._hold.time_out()

    def to_continue(self, instruct: Instruct) -> None:
        guest = self._guest()
        self._call = self._reply = None
        if self._leaving or self._request.method == "HEAD":
            self._client.end()
            self._end()
        else:
            self._hold = StreamHold(guest, instruct)

    def unusable(self, phrase: str) -> None:
        what = f"{self._request.method} {self._request.path}: {phrase}"
        self._guest().blame("its answer cannot be carried out", what)
        self._drop_call()
        self._refuse(BAD_GATEWAY, phrase)

    def unanswered(self, failure: Unanswered) -> None:
        assert self._call is not None
        assert self._reply is not None
        if self._reply.showing:
            # What came of it cannot be called whole: cut the connection (RFC 9112 §8).
            self._client.abort()
            self._end()
        elif isinstance(self._hold, ResponseHold):
            self._call = None
            self._hold.unanswered(failure.phrase)
        else:
            refusal = GATEWAY_TIMEOUT if failure.kind == "timeout" else BAD_GATEWAY
            self._refuse(refusal, f"{failure.phrase}. Tried: {self._call.tried}")

    def sending_paused(self, yes: bool) -> None:
        if not yes:
            self._client.resume_reading()
        elif not self._body.ended:
            self._client.pause_reading()

    # Inside.

    def _forges_events(self) -> bool:
        """A client must not speak to a backend of WebSocket-over-HTTP in the edge's name."""
        kind = next((value for name, value in self._request.headers if name.lower() == "content-type"), "")
        if kind.split(";")[0].strip().lower() != EVENTS_TYPE:
            return False
        route, releases = self._route.settings, self._services.releases
        targets = targets_of(route, releases, subject_of(route, releases, self._request))
        return any(target.over_http for target in targets)

    def _ask(self, body: Body, last_ids: Sequence[str]) -> None:
        self._reply = Reply(self._client, self, self._route.settings.grip.hold_bytes)
        self._call = Call(self._services, self._route, Question(self._request, last_ids), body, self._reply)
        self._call.begin()

    def _repeat(self, last_ids: Sequence[str]) -> None:
        """Ask once more, for the response hold."""
        if self._body.ended and self._body.kept is not None:
            self._ask(self._body.whole(), last_ids)
        elif isinstance(self._hold, ResponseHold):
            self._hold.unanswered("the client has not sent its request whole, or more of it than hold_bytes")

    def _guest(self) -> Guest:
        assert self._call is not None
        assert self._call.way is not None
        request = self._request
        host = next((value for name, value in request.headers if name.lower() == "host"), "localhost")
        query = f"?{request.query}" if request.query else ""
        uri = f"{request.scheme}://{host}{request.path}{query}"
        return Guest(self._services, self._route, self._client, request, uri, self._call.way, self._end)

    def _refuse(self, refusal: Refusal, debug: str = "") -> None:
        refuse(self._client, refusal, debug if self._route.settings.grip.debug else "")
        self.showing()
        self._end()

    def _drop_call(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _end(self) -> None:
        """Nothing more happens. Repeatable."""
        if not self._over:
            self._over = True
            self._drop_call()
            self._services.held.remove(self)
