"""One answer of a backend on its way to the client: passed on as it comes, or read for what it wants to be held."""

from __future__ import annotations

from typing import Protocol

from edge.backend.origin_base import AnswerHead, AnswerListener, RawHeaders, Unanswered
from edge.errors import WireError
from edge.model.grip_hold import Plan, content_filters, exposed_headers, plan_of
from edge.protocol.callbacks.events import Headers
from edge.protocol.grip.filters import apply_to_response
from edge.protocol.grip.forwarding import shown_headers
from edge.protocol.grip.instruct import Instruct, is_instruct_body, is_instructed, parse_instruct
from edge.sessions.connection import ClientExchange
from edge.sessions.grip.response_hold import KeptAnswer


class ReplyReader(Protocol):
    """Who has to know what becomes of an answer."""

    def takes(self, status: int) -> bool:
        """Whether an answer with this status is wanted. If not, nothing more is told."""
        ...

    def showing(self) -> None:
        """The client is about to be shown this answer, from its head on."""
        ...

    def shown(self) -> None:
        """It has been shown whole."""
        ...

    def to_hold(self, instruct: Instruct, kept: KeptAnswer) -> None:
        """It is to be held."""
        ...

    def to_continue(self, instruct: Instruct) -> None:
        """What came of its body has been shown; the rest is for others to say."""
        ...

    def unusable(self, phrase: str) -> None:
        """The answer, or what it asks for, makes no sense. Nothing of it was shown."""
        ...

    def unanswered(self, failure: Unanswered) -> None:
        """It did not come, or not whole."""
        ...

    def sending_paused(self, yes: bool) -> None:
        """The backend does not take the request's body as fast as it comes; or, False, has taken it."""
        ...


class Reply(AnswerListener):
    """Reads one answer. What is to be read whole is bounded by `hold_bytes`."""

    __slots__ = ("_client", "_collected", "_head", "_hold_bytes", "_instruct", "_reader", "showing")

    def __init__(self, client: ClientExchange, reader: ReplyReader, hold_bytes: int) -> None:
        self._client = client
        self._reader = reader
        self._hold_bytes = hold_bytes
        self._head: AnswerHead | None = None
        self._instruct: Instruct | None = None
        self._collected: bytearray | None = None
        """The body, where it has to be whole before it is of use."""
        self.showing = False
        """The client has seen its head."""

    # AnswerListener.

    def began(self, head: AnswerHead) -> None:
        self._head = head
        if not self._reader.takes(head.status):
            return
        if not is_instructed(head.headers):
            self._show(head.status, head.reason, shown_headers(head.headers, "proxied"), head.length)
        elif is_instruct_body(head.headers):
            self._collected = bytearray()
        elif self._read_instruct(b""):
            assert self._instruct is not None
            if plan_of(self._instruct) is Plan.RESPONSE or self._filtered:
                self._collected = bytearray()
            else:
                self._show_instructed(self._instruct, self._length(head))

    def body(self, data: bytes) -> None:
        if self._collected is None:
            self._client.write(data)
        elif len(self._collected) + len(data) > self._hold_bytes:
            self._reader.unusable(f"its body is larger than hold_bytes ({self._hold_bytes})")
        else:
            self._collected += data

    def ended(self, trailers: RawHeaders) -> None:
        if self._collected is not None:
            self._ended_whole(bytes(self._collected))
        elif self._instruct is not None and plan_of(self._instruct) is not Plan.GIVE:
            self._reader.to_continue(self._instruct)
        else:
            self._client.end([(name.decode("latin-1"), value.decode("latin-1")) for name, value in trailers])
            self._reader.shown()

    def failed(self, failure: Unanswered) -> None:
        self._reader.unanswered(failure)

    def sending_paused(self, yes: bool) -> None:
        self._reader.sending_paused(yes)

    # Inside.

    @property
    def _filtered(self) -> bool:
        """Its own body has to pass a filter."""
        return self._instruct is not None and "build-id" in content_filters(self._instruct)

    def _read_instruct(self, body: bytes) -> bool:
        assert self._head is not None
        try:
            self._instruct = parse_instruct(self._head.status, self._head.headers, body)
        except WireError as error:
            self._reader.unusable(f"Failed to parse accept instructions: {error}")
            return False
        return True

    def _ended_whole(self, body: bytes) -> None:
        assert self._head is not None
        if is_instruct_body(self._head.headers) and not self._read_instruct(body):
            return
        instruct = self._instruct
        assert instruct is not None
        if instruct.shown.body is not None:
            body = instruct.shown.body
        plan = plan_of(instruct)
        if plan is not Plan.RESPONSE:
            try:
                body = apply_to_response(content_filters(instruct), body, instruct.meta)
            except WireError as error:
                self._reader.unusable(f"filter error: {error}")
                return
        status, reason, headers = self._shown_head(instruct)
        match plan:
            case Plan.RESPONSE:
                self._reader.to_hold(instruct, KeptAnswer(status, reason, headers, body))
            case Plan.GIVE:
                self._reader.showing()
                self._client.answer(status, reason, headers, body)
                self._reader.shown()
            case _:
                self._show(status, reason, headers, None)
                self._client.write(body)
                self._reader.to_continue(instruct)

    def _length(self, head: AnswerHead) -> int | None:
        assert self._instruct is not None
        return head.length if plan_of(self._instruct) is Plan.GIVE else None

    def _show_instructed(self, instruct: Instruct, length: int | None) -> None:
        status, reason, headers = self._shown_head(instruct)
        self._show(status, reason, headers, length)

    def _shown_head(self, instruct: Instruct) -> tuple[int, str, Headers]:
        assert self._head is not None
        shown = instruct.shown
        status, reason = self._head.status, self._head.reason
        if shown.status is not None:
            status, reason = shown.status, ""
        headers = shown.headers
        if headers is None:
            headers = shown_headers(self._head.headers, "held")
        return status, shown.reason or reason, exposed_headers(headers, instruct.exposed)

    def _show(self, status: int, reason: str, headers: Headers, length: int | None) -> None:
        self.showing = True
        self._reader.showing()
        self._client.begin(status, reason, headers, length)
