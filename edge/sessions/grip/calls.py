"""One request to the backend of a GRIP route, with an answer that streams: the route's targets in their order until one
can be reached, and what of the request's body is kept, because it may have to be sent again.

What an answer means is the caller's business; so is asking again once a backend has been reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edge.backend.origin_base import AnswerHead, AnswerListener, RawHeaders, Unanswered, Upstream
from edge.config import TargetSettings
from edge.model.grip_links import same_service
from edge.protocol.callbacks.events import ClientRequest, Headers
from edge.protocol.chunked import encode_chunk, encode_end
from edge.protocol.grip.forwarding import proxied_head
from edge.protocol.grip.signature import GripSigner
from edge.protocol.http_answer import write_fields
from edge.sessions.grip.targets import backend_host, backend_path, subject_of
from edge.sessions.grip.ways import Way
from edge.sessions.routes import RouteHandle

if TYPE_CHECKING:
    from edge.sessions.grip.services import GripServices


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `request`: the client's, or one made in its place. `elsewhere`: not the route's targets, but this
    one alone."""

    request: ClientRequest
    last_ids: Sequence[str] = ()
    """Values of Grip-Last."""
    elsewhere: TargetSettings | None = None


class Body:
    """A request's body, as far as it has come. It is kept whole up to `most` bytes; `kept` is None past that."""

    __slots__ = ("ended", "kept", "length", "most", "size", "trailers")

    def __init__(self, length: int | None, most: int) -> None:
        self.length = length
        """In bytes, as the client announced it; None: chunked."""
        self.most = most
        self.size = 0
        self.kept: bytearray | None = bytearray()
        self.ended = length == 0
        self.trailers: Headers = ()

    def add(self, data: bytes) -> None:
        self.size += len(data)
        if self.kept is not None:
            if self.size > self.most:
                self.kept = None
            else:
                self.kept += data

    def end(self, trailers: Headers) -> None:
        self.ended = True
        self.trailers = trailers

    def whole(self) -> Body:
        """The same for another request: it is known now how long it is."""
        assert self.kept is not None
        body = Body(len(self.kept), self.most)
        body.add(bytes(self.kept))
        body.ended = True
        return body


NO_BODY = Body(0, 0)
"""Of requests the edge makes itself. Nothing is ever added to it."""


class Call(AnswerListener):
    """A request under way. Its listener is told what the first target says that can be reached; or `failed`, once."""

    __slots__ = (
        "_began",
        "_body",
        "_listener",
        "_number",
        "_over",
        "_question",
        "_route",
        "_services",
        "_subject",
        "_tried",
        "_upstream",
        "way",
    )

    def __init__(
        self, services: GripServices, route: RouteHandle, question: Question, body: Body, listener: AnswerListener
    ) -> None:
        self._services = services
        self._route = route
        self._question = question
        self._subject = subject_of(route.settings, services.releases, question.request)
        self._body = body
        self._listener = listener
        self._upstream: Upstream | None = None
        self._began = False
        self._over = False
        self._tried: list[str] = []
        self._number = 0
        self.way: Way | None = None
        """To the target that is asked now, or was last."""

    @property
    def tried(self) -> str:
        """The targets asked so far, for people."""
        return ", ".join(self._tried)

    def begin(self) -> None:
        """Send the request, and what has come of its body."""
        self._ask_next()

    # What comes of the request's body later.

    def send(self, data: bytes) -> None:
        if self._upstream is not None:
            self._upstream.send(data if self._body.length is not None else encode_chunk(data))

    def complete(self) -> None:
        upstream = self._upstream
        if upstream is not None:
            if self._body.length is None:
                upstream.send(encode_end(write_fields(self._body.trailers)))
            upstream.complete()

    def pause(self) -> None:
        if self._upstream is not None:
            self._upstream.pause()

    def resume(self) -> None:
        if self._upstream is not None:
            self._upstream.resume()

    def cancel(self) -> None:
        """Nothing is told from now on."""
        self._over = True
        if self._upstream is not None:
            self._upstream.cancel()

    # AnswerListener.

    def began(self, head: AnswerHead) -> None:
        if not self._over:
            self._began = True
            self._listener.began(head)

    def body(self, data: bytes) -> None:
        if not self._over:
            self._listener.body(data)

    def ended(self, trailers: RawHeaders) -> None:
        if not self._over:
            self._over = True
            self._listener.ended(trailers)

    def failed(self, failure: Unanswered) -> None:
        if self._over or (self._can_move_on(failure) and self._ask_next()):
            return
        self._over = True
        self._listener.failed(failure)

    def sending_paused(self, yes: bool) -> None:
        if not self._over:
            self._listener.sending_paused(yes)

    # Inside.

    def _can_move_on(self, failure: Unanswered) -> bool:
        """To the next target: nobody got this request, and it can be sent again from its beginning."""
        return not (failure.sent or self._began or self._question.elsewhere) and self._body.kept is not None

    def _ask_next(self) -> bool:
        """Ask the next target. False: there is none."""
        way = self._services.ways.of(self._route, self._number, self._subject)
        if way is None:
            return False
        self._number += 1
        self.way = way
        origin, target = way.origin, way.target
        if self._question.elsewhere is not None:
            target = self._question.elsewhere
            origin = self._services.origins.of(self._route.settings, target)
        self._tried.append(urlsplit(target.url).netloc.rpartition("@")[2])
        self._upstream = None
        head = self._head(target, way.signer)
        self._upstream = origin.stream(head, self, self._route.settings.grip.silence_s)
        body = self._body
        if body.kept:
            self.send(bytes(body.kept))
        if body.ended:
            self.complete()
        return True

    def _head(self, target: TargetSettings, signer: GripSigner) -> bytes:
        question, settings = self._question, self._route.settings
        request = question.request
        # Elsewhere may be the same backend under another name, which wants the signature as behind Pushpin; the route's
        # own headers, perhaps secrets, were meant for its targets.
        overrides = () if question.elsewhere else settings.grip.request_headers
        client_host = next((value for name, value in request.headers if name.lower() == "host"), "")
        path = request.path if question.elsewhere else backend_path(settings, target, request.path)
        return proxied_head(
            request.method,
            f"{path}?{request.query}" if request.query else path,
            client_host if question.elsewhere else backend_host(settings, target, client_host),
            request.headers,
            self._body.length,
            signer.token(self._services.clock.wall_ms() // 1_000),
            client=request.client,
            scheme=request.scheme,
            overrides=overrides,
            last_ids=question.last_ids,
        )


def link_request(method: str, base: str, uri: str) -> tuple[ClientRequest, TargetSettings | None]:
    """The request for `uri` of who came to `base`; and, if that leads elsewhere, where to. Nothing of the client's own
    request is in it: its answer may be for many."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    elsewhere = None if same_service(uri, base) else TargetSettings(f"{parts.scheme}://{host}", host=host)
    if elsewhere is None:
        host = urlsplit(base).netloc
    return ClientRequest(method, parts.path or "/", parts.query, [("Host", host)], "", parts.scheme, ()), elsewhere
