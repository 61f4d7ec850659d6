"""Links of GRIP answers: ``next`` links are fetched, once for all holds that follow the same one with the same ids, and
again when it fails; ``gone`` links are told of ends.

A fetch reads the answer's instructions and hands on its body; what a hold does with them is `StreamHold`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from edge.backend.origin_base import AnswerHead, AnswerListener, RawHeaders, Unanswered
from edge.errors import WireError
from edge.model.grip_hold import content_filters
from edge.model.grip_links import (
    PER_SECOND,
    RETRIES,
    LinkKey,
    last_id_field,
    link_key,
    retry_ms,
)
from edge.protocol.grip.filters import apply_to_response
from edge.protocol.grip.instruct import Instruct, is_instruct_body, parse_instruct
from edge.sessions.grip.calls import NO_BODY, Call, Question, link_request
from edge.sessions.grip.gone import Gone
from edge.sessions.routes import RouteHandle
from edge.wheel import Alarm

if TYPE_CHECKING:
    from edge.sessions.grip.services import GripServices

_log = logging.getLogger("holdfast.grip")

PATIENCE_MS = 10_000
"""A client that holds up an answer it shares with others for longer than this is cut."""
GONE_WAITING = 10_000
"""Gone links not yet told, per process; past it they are given up."""


class LinkReader(Protocol):
    """A hold that follows a link: `link_body`*, then one of the others, never from inside `Links.fetch`."""

    def link_body(self, data: bytes) -> None: ...

    def link_ended(self, instruct: Instruct) -> None:
        """The answer was whole; this is what it asks for."""
        ...

    def link_failed(self, phrase: str) -> None:
        """There is no (whole) answer, or none that can be used."""
        ...

    def link_cut(self) -> None:
        """Others wait for this one's client: it has to go."""
        ...


class Links:
    """All link traffic of this process."""

    __slots__ = ("_gone", "_next_ms", "_services", "_waiting")

    def __init__(self, services: GripServices) -> None:
        self._services = services
        self._waiting: dict[LinkKey, Fetch] = {}
        self._next_ms = 0.0
        self._gone = 0

    def fetch(
        self,
        reader: LinkReader,
        route: RouteHandle,
        base: str,
        uri: str,
        last_ids: Sequence[tuple[str, str]],
        *,
        spread: bool,
    ) -> Fetch:
        """Fetch `uri` for `reader`, whose client came to `base`. `spread`: nobody waits for it this moment.

        A fetch that was not sent yet is shared. One that was sent may have been answered before what made this
        reader ask has happened.
        """
        key = link_key(route.name, uri, last_ids)
        fetch = self._waiting.get(key)
        if fetch is None:
            request, elsewhere = link_request("GET", base, uri)
            question = Question(request, [last_id_field(*each) for each in key.last_ids], elsewhere)
            fetch = Fetch(self._services, self, route, key, question)
            self.wait(fetch, self._due_ms() if spread else 0)
        elif not spread:
            fetch.hurry()
        fetch.add(reader)
        return fetch

    def pace(self, callback: Callable[[], None]) -> Alarm:
        """Call back when one more request that nobody waits for may leave."""
        return self._services.wheel.at(self._due_ms(), callback)

    def gone(self, route: RouteHandle, base: str, uri: str) -> None:
        """Tell the backend that who came with this link is gone: POST to it, in the background."""
        if self._gone >= GONE_WAITING:
            _log.warning("route %s: more than %d gone links wait for their backends: one is given up", route.name,
                         GONE_WAITING)  # fmt: skip
            return
        self._gone += 1
        request, elsewhere = link_request("POST", base, uri)
        Gone(self._services, route, Question(request, elsewhere=elsewhere), self._told_gone).begin(self._due_ms())

    # What fetches say.

    def wait(self, fetch: Fetch, due_ms: int) -> None:
        self._waiting.setdefault(fetch.key, fetch)
        fetch.send_at(due_ms)

    def sent(self, fetch: Fetch) -> None:
        if self._waiting.get(fetch.key) is fetch:
            del self._waiting[fetch.key]

    def _told_gone(self) -> None:
        self._gone -= 1

    def _due_ms(self) -> int:
        self._next_ms = max(self._services.clock.monotonic_ms(), self._next_ms + 1_000 / PER_SECOND)
        return int(self._next_ms)


class Fetch(AnswerListener):
    """One request for a link, for one or more readers."""

    __slots__ = (
        "_alarm",
        "_attempts",
        "_call",
        "_collected",
        "_head",
        "_instruct",
        "_links",
        "_patience",
        "_question",
        "_readers",
        "_route",
        "_services",
        "_slow",
        "_told",
        "key",
        "sent",
    )

    def __init__(
        self, services: GripServices, links: Links, route: RouteHandle, key: LinkKey, question: Question
    ) -> None:
        self.key = key
        self.sent = False
        """It has left, so that what happens from now on may not be in its answer."""
        self._services = services
        self._links = links
        self._route = route
        self._question = question
        self._readers: dict[LinkReader, None] = {}
        self._slow: set[LinkReader] = set()
        self._patience: Alarm | None = None
        self._alarm: Alarm | None = None
        self._call: Call | None = None
        self._attempts = 0
        self._told = False
        self._head: AnswerHead | None = None
        self._instruct = Instruct()
        self._collected: bytearray | None = None
        """The body, where it has to be whole before it is of use."""

    # Readers.

    def add(self, reader: LinkReader) -> None:
        self._readers[reader] = None

    def leave(self, reader: LinkReader) -> None:
        """Nothing more is told to `reader`; without readers the request is cancelled."""
        self._readers.pop(reader, None)
        self.congested(reader, False)
        if not self._readers:
            self._stop()

    def congested(self, reader: LinkReader, yes: bool) -> None:
        """All read as fast as the slowest, for a while."""
        was = bool(self._slow)
        (self._slow.add if yes else self._slow.discard)(reader)
        if self._call is not None and was != bool(self._slow):
            if self._slow:
                self._call.pause()
                self._patience = self._services.wheel.after(PATIENCE_MS, self._cut_slow)
            else:
                self._call.resume()
                self._cancel_patience()

    def hurry(self) -> None:
        """Somebody waits for it now; pauses before retries stay."""
        if self._attempts == 0:
            self.send_at(0)

    def send_at(self, due_ms: int) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._services.wheel.at(due_ms, self._send)

    # AnswerListener.

    def began(self, head: AnswerHead) -> None:
        if not 200 <= head.status < 300:
            self._fail(f"status {head.status}")
            return
        self._head, self._collected = head, None
        if is_instruct_body(head.headers) or (self._instructed(b"") and "build-id" in content_filters(self._instruct)):
            self._collected = bytearray()

    def body(self, data: bytes) -> None:
        if self._collected is None:
            self._tell(data)
            return
        self._collected += data
        if len(self._collected) > self._route.settings.grip.hold_bytes:
            self._refuse("its body is larger than hold_bytes")

    def ended(self, trailers: RawHeaders) -> None:
        if self._collected is not None and not self._tell_collected(bytes(self._collected)):
            return
        self._cancel_patience()
        for reader in self._take_readers():
            reader.link_ended(self._instruct)

    def failed(self, failure: Unanswered) -> None:
        self._fail(failure.phrase)

    def sending_paused(self, yes: bool) -> None:
        """There is no body to send."""

    # Inside.

    def _send(self) -> None:
        self._alarm = None
        self._links.sent(self)
        self.sent = True
        self._call = Call(self._services, self._route, self._question, NO_BODY, self)
        self._call.begin()

    def _instructed(self, body: bytes) -> bool:
        """Read the instructions of this answer. False: they cannot be used, and everybody was told."""
        assert self._head is not None
        try:
            self._instruct = parse_instruct(self._head.status, self._head.headers, body) or Instruct()
        except WireError as error:
            self._refuse(str(error))
            return False
        if self._instruct.hold == "response":
            self._refuse("the answer to a next link must not hold a response")
            return False
        return True

    def _tell_collected(self, body: bytes) -> bool:
        assert self._head is not None
        if is_instruct_body(self._head.headers):
            if not self._instructed(body):
                return False
            body = self._instruct.shown.body or b""
        try:
            self._tell(apply_to_response(content_filters(self._instruct), body, self._instruct.meta))
        except WireError as error:
            self._refuse(str(error))
            return False
        return True

    def _tell(self, data: bytes) -> None:
        if data:
            self._told = True
            for reader in tuple(self._readers):
                reader.link_body(data)

    def _fail(self, phrase: str) -> None:
        """No answer, or not the right one: try again while no reader has seen any of it."""
        self._stop()
        if self._told or self._attempts >= RETRIES:
            _log.warning("route %s: the next link %s failed: %s", self._route.name, self._path, phrase)
            self._give_up("Failed to retrieve next link.")
            return
        pause_ms = retry_ms(self._attempts, self._services.random())
        self._attempts += 1
        self.sent = False
        self._links.wait(self, self._services.clock.monotonic_ms() + pause_ms)

    def _refuse(self, phrase: str) -> None:
        """The answer came, and cannot be used: another one would be no better."""
        self._stop()
        self._route.meters.bad_results.value += 1
        _log.warning("route %s: the answer to the next link %s is refused: %s", self._route.name, self._path, phrase)
        self._give_up(phrase)

    @property
    def _path(self) -> str:
        """Without the query, which may hold what nobody should read in a log."""
        return self._question.request.path

    def _give_up(self, phrase: str) -> None:
        for reader in self._take_readers():
            reader.link_failed(phrase)

    def _take_readers(self) -> Sequence[LinkReader]:
        readers, self._readers = tuple(self._readers), {}
        return readers

    def _stop(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
            self._links.sent(self)
        self._collected = None
        self._cancel_patience()

    def _cancel_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _cut_slow(self) -> None:
        self._patience = None
        if len(self._readers) > len(self._slow):
            for reader in tuple(self._slow):
                reader.link_cut()
