"""The handshake of a WebSocket over HTTP: which target takes the client, and what it is let in with, or refused with.
Lives until the client has its answer.
"""

from __future__ import annotations

from asyncio import Future
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from edge.backend.http11 import Answer
from edge.backend.origin_base import Unanswered
from edge.errors import WireError
from edge.model.grip_failures import NextTarget, Reject, phrase_of, unanswered_open
from edge.model.grip_phases import GripFact, GripPhase
from edge.model.grip_socket import Dialogue
from edge.protocol.callbacks.events import ClientRequest
from edge.protocol.grip.control import PREFIX, Subscribe, parse_control
from edge.protocol.grip.forwarding import event_request_prefix, shown_headers
from edge.protocol.grip.parameters import grip_prefix
from edge.protocol.grip.socket_events import SocketEvent
from edge.sessions.grip.services import GripServices
from edge.sessions.grip.standing import FILTERS_MOST
from edge.sessions.grip.targets import backend_host, backend_path
from edge.sessions.grip.ways import Way
from edge.sessions.routes import RouteHandle

if TYPE_CHECKING:
    from edge.sessions.grip.socket import GripSocket

REJECT_BODY_BYTES = 100_000
"""As much of a refusing backend's answer as a client gets."""
_NO_TARGET = Reject(502, "Error while proxying to origin: none of its targets takes WebSockets over HTTP.")


class Opening:
    """One handshake."""

    __slots__ = ("_answer", "_handle", "_next", "_request", "_services", "_socket")

    def __init__(self, services: GripServices, handle: RouteHandle, request: ClientRequest, socket: GripSocket) -> None:
        self._services = services
        self._handle = handle
        self._request = request
        self._socket = socket
        self._next = 0
        """Number of the target that is tried next."""
        self._answer: Answer | None = None
        """The one with OPEN, while its subscriptions are waited for."""

    def try_next(self, otherwise: Reject = _NO_TARGET) -> None:
        """Ask the route's next target whether it takes the client; without one, refuse it."""
        socket = self._socket
        try:
            way = self._services.ways.of(self._handle, self._next, socket.subject)
        except WireError as error:
            self.reject(Reject(500, "The edge cannot sign requests to its origin."), error)
            return
        if way is None:
            self.reject(otherwise)
            return
        socket.way, socket.number, self._next = way, self._next, self._next + 1
        if not way.target.over_http:
            socket.complain("its WebSockets are not over_http, and the edge speaks nothing else to backends", "skipped")
            self.try_next(otherwise)
            return
        socket.dialogue = Dialogue(one_event=way.target.one_event)
        socket.prefix = self._request_prefix(way)
        socket.ask()

    def _request_prefix(self, way: Way) -> bytes:
        request, settings = self._request, self._handle.settings
        client_host = next((value for name, value in request.headers if name.lower() == "host"), "")
        path = backend_path(settings, way.target, request.path)
        return event_request_prefix(
            f"{path}?{request.query}" if request.query else path,
            backend_host(settings, way.target, client_host),
            request.headers,
            str(uuid4()),
            client=request.client,
            scheme=request.scheme,
            overrides=settings.grip.request_headers,
        )

    # What became of a request.

    def unanswered(self, failure: Unanswered) -> None:
        socket = self._socket
        socket.complain(phrase_of(failure.kind), failure.phrase)
        verdict = unanswered_open(failure.kind, sent=failure.sent)
        if socket.dialogue.phase is GripPhase.ABANDONED:
            socket.fail()
        elif isinstance(verdict, NextTarget):
            self.try_next(verdict.otherwise)
        else:
            self.reject(verdict, failure.phrase)

    def refused(self, answer: Answer) -> None:
        """The backend does not want the client, or does not know events: the client sees its own answer."""
        socket = self._socket
        socket.fail()
        headers = shown_headers(answer.headers, "proxied")
        socket.connection.reject(answer.status, headers, answer.body[:REJECT_BODY_BYTES])

    def answered(self, answer: Answer, events: list[SocketEvent]) -> None:
        """Events, or nothing yet."""
        socket, dialogue = self._socket, self._socket.dialogue
        if not events and dialogue.interval_s:
            if dialogue.phase is GripPhase.ABANDONED:
                dialogue.move(GripFact.OPENED)
                socket.opening = None
            socket.settle()
        elif not events or events[0].kind != "OPEN":
            socket.break_off("backend's answer does not begin with OPEN", "handshake")
        else:
            self._answer = answer
            socket.marker = self._find_marker(answer)
            joins = self._join_first(events) if dialogue.phase is GripPhase.OPENING else []
            if joins:
                socket.stand_still(joins, events)
            elif self.let_in(events):
                socket.settle()

    def _find_marker(self, answer: Answer) -> bytes | None:
        try:
            marker = grip_prefix(answer.headers)
        except WireError as error:
            self._socket.count_bad("Sec-WebSocket-Extensions that cannot be read", error)
            return None
        return None if marker is None else marker.encode()

    def _join_first(self, events: list[SocketEvent]) -> list[Future[None]]:
        """Subscribe before the client is let in: then nothing that is published once it is in passes it by. (The
        orders come once more in their turn; to subscribe again changes nothing.)"""
        socket = self._socket
        joins: list[Future[None]] = []
        implicit = socket.way.target.subscribe
        if implicit:
            joins += socket.orders().subscribe_implicitly(frozenset(implicit))
        for event in events if socket.marker is not None else ():
            content = event.content
            if event.kind == "TEXT" and content is not None and content.startswith(PREFIX):
                with suppress(WireError):
                    order = parse_control(content)
                    if type(order) is Subscribe and len(order.filters) <= FILTERS_MOST:
                        join = socket.orders().obey(order)
                        joins += [join] if join is not None else []
        return joins

    def let_in(self, events: list[SocketEvent]) -> bool:
        """Complete the handshake and carry out what came with it. True: the answer is settled."""
        socket, answer = self._socket, self._answer
        assert answer is not None
        socket.opening = None
        if socket.dialogue.move(GripFact.OPENED) is not GripPhase.LIVE:
            return True
        protocol = answer.header(b"sec-websocket-protocol") or None
        control_frames = not self._handle.settings.grip.auto_pong
        socket.connection.accept(protocol, shown_headers(answer.headers, "socket"), control_frames=control_frames)
        return socket.carry_out(events[1:])

    def reject(self, verdict: Reject, detail: object = None) -> None:
        """Refuse the client in our own name."""
        self._socket.fail()
        shown = f"{verdict.text} ({detail})" if detail and self._handle.settings.grip.debug else verdict.text
        headers = (("Retry-After", "1"),) if verdict.status == 503 else ()
        self._socket.connection.reject(verdict.status, headers, f"{shown}\n".encode())
