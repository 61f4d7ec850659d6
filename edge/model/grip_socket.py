"""The rules of a WebSocket over HTTP: what its backend is told next, what an answer's acceptance takes away, when a
request may be made at all, and when all is said.

Owns: phase, the queue of events, what of them is under way, the goodbye, Meta headers and the polling interval. Leaves
to others: doing things (`edge.sessions.grip.socket`), which failures are tried again (`edge.model.grip_failures`), what
the client is shown. Everything here is synchronous and pure. One request is under way at a time; whatever the client
says meanwhile goes into the next one.
"""

from __future__ import annotations

from edge.model.grip_phases import TRANSITIONS, GripFact, GripPhase
from edge.protocol.callbacks.events import Headers
from edge.protocol.grip.answer_fields import AnswerFields
from edge.protocol.grip.socket_events import SocketEvent, encode_events

POLL_LEAST_S = 20
"""A shorter Keep-Alive-Interval is raised to this, as Pushpin does."""

EVENT_OVERHEAD = 64
"""Bytes that each event behind the first counts for besides its content: empty messages need room too."""

_OPEN, _DISCONNECT = SocketEvent("OPEN"), SocketEvent("DISCONNECT")
_LIVE = GripPhase.LIVE
_OPENING = (GripPhase.OPENING, GripPhase.ABANDONED)


class Dialogue:
    """What a client and its backend say to each other over HTTP. See the module's docstring."""

    __slots__ = (
        "_close",
        "_last",
        "_offered",
        "busy",
        "congested",
        "failures",
        "fresh",
        "goodbye",
        "interval_s",
        "meta",
        "one_event",
        "phase",
        "queue",
        "queue_bytes",
        "replayed",
        "sent",
        "wanted",
    )

    def __init__(self, *, one_event: bool = False) -> None:
        self.phase = GripPhase.OPENING
        self.one_event = one_event
        # Most connections are idle most of the time: what they do not use, they do not carry.
        self.queue: list[SocketEvent] | None = None
        self.queue_bytes = 0
        self.fresh = False
        """There is something in the queue that was never sent: only then is a request worth making."""
        self.busy = False
        """A request is under way, waits for its next try, or its answer is being carried out."""
        self.congested = False
        """The client is behind with taking what it is sent: its backend is not asked for more."""
        self.wanted = True
        """A request is to be made though there is nothing to say: OPEN, a poll, a refresh."""
        self.goodbye: bytes | None = None
        """Content of the CLOSE that is to be sent; None: it has none, or there is no goodbye."""
        self.replayed = 0
        """Content bytes that were offered before, and not accepted."""
        self.interval_s = 0
        self.meta: dict[str, tuple[str, str]] | None = None
        """Meta headers by name in lower case."""
        self.failures = 0
        """Failed tries of the request under way."""
        self.sent = 0
        """Events of the queue's front that are in the request under way, or were in the last one."""
        self._offered = 0
        self._close = 0
        self._last = False

    # What happens.

    def move(self, fact: GripFact) -> GripPhase:
        self.phase = phase = TRANSITIONS[self.phase, fact]
        if phase is GripPhase.OVER:
            self.queue = None
            self.queue_bytes = 0
        return phase

    def heard(self, event: SocketEvent) -> bool:
        """The client said something. Whether a request should be made for it now."""
        if self.phase is not _LIVE:
            return False
        if self.queue is None:
            self.queue = [event]
        else:
            self.queue.append(event)
        self.fresh = True
        if event.content is not None:
            self.queue_bytes += len(event.content)
        return not self.busy and not self.congested

    def said_goodbye(self, content: bytes | None) -> None:
        """The client sent a close frame, or the connection ends in good order for another reason (None)."""
        if self.phase in (GripPhase.LIVE, GripPhase.CLOSED):
            self.goodbye = content
        self.move(GripFact.GOODBYE)

    def refresh(self) -> bool:
        """Somebody wants the backend to be asked, though there may be nothing to say. Whether to do it now."""
        if self.phase is not _LIVE:
            return False
        self.wanted = True
        return not self.busy

    # Requests.

    @property
    def ready(self) -> bool:
        """A request should be made now."""
        if self.busy:
            return False
        match self.phase:
            case GripPhase.LIVE:
                return self.wanted or (self.fresh and not self.congested)
            case GripPhase.OPENING | GripPhase.ABANDONED:
                return self.wanted
            case GripPhase.PARTING:
                return not self._last
            case GripPhase.VANISHED:
                return True
        return False

    @property
    def disconnecting(self) -> bool:
        """DISCONNECT is under way: no answer to it matters."""
        return self._last and self.phase is GripPhase.VANISHED

    @property
    def idle(self) -> bool:
        """Everything the client said has been answered."""
        return not self.busy and not self.fresh

    def take(self) -> bytes:
        """The body of the next request. Everything in it counts as under way until `answered`, or `gave_up`."""
        self.busy = True
        self.wanted = self.fresh = False
        if self.phase in _OPENING:
            self.sent = self._offered = self._close = 0
            return encode_events((_OPEN,))
        queue = self.queue
        if self.phase is GripPhase.VANISHED and not self._unheard(queue):
            self._last = True
            self.sent = self._offered = self._close = 0
            return encode_events((_DISCONNECT,))
        if queue is None:
            self.sent = self._offered = 0
        elif self.one_event and len(queue) > 1:
            self.sent, self._offered, self.fresh = 1, len(queue[0].content or b""), True
        else:
            self.sent, self._offered = len(queue), self.queue_bytes
        self._close = 0
        if self.phase is GripPhase.PARTING and not (self.one_event and queue):
            self._last = True
            self._close = len(self.goodbye or b"")
        return self.again()

    def takes_alone(self, event: SocketEvent) -> bool:
        """`heard` and `take` in one, for the usual case: nothing waits, and nothing is under way. True: `event` (which
        has content) is the whole body of the next request."""
        if self.busy or self.queue is not None or self.wanted or self.congested or self.phase is not _LIVE:
            return False
        self.busy = True
        self.queue = [event]
        self.sent = 1
        self._offered = self.queue_bytes = len(event.content)  # type: ignore[arg-type]
        self._close = 0
        return True

    def again(self) -> bytes:
        """The body of the request under way, once more."""
        if self.phase in _OPENING:
            return encode_events((_OPEN,))
        queue = self.queue
        if not self._last:
            return encode_events(queue[: self.sent] if len(queue) > self.sent else queue) if queue else b""
        if self.phase is GripPhase.VANISHED:
            return encode_events((_DISCONNECT,))
        return encode_events((*(queue or ())[: self.sent], SocketEvent("CLOSE", self.goodbye)))

    def _unheard(self, queue: list[SocketEvent] | None) -> bool:
        """There are messages of a vanished client that its backend has never been sent. What it was sent and did not
        accept waits for more to come, and nothing more will."""
        if queue and self.replayed:
            del queue[: self.sent]
            self.queue_bytes -= self.replayed
        self.replayed = 0
        return bool(queue)

    # Answers.

    def answered(self, fields: AnswerFields, most_bytes: int) -> str | None:
        """The backend has taken the request, at least in part. None, or what is wrong with its answer."""
        self.failures = 0
        if fields.interval_s is not None:
            self.interval_s = max(fields.interval_s, POLL_LEAST_S) if fields.interval_s > 0 else 0
        if fields.meta:
            self._set_meta(fields.meta)
        if fields.accepted is None:
            self.accept_all()
            return None
        return self._accept(fields.accepted, most_bytes)

    def accept_all(self) -> None:
        """What is under way has been taken whole, and nothing else was said of it."""
        self.failures = 0
        queue = self.queue
        if queue is None:
            return
        if len(queue) == self.sent:
            self.queue = None
            self.queue_bytes = 0
        else:
            del queue[: self.sent]
            self.queue_bytes -= self._offered
        self.replayed = 0

    def _accept(self, accepted: int, most_bytes: int) -> str | None:
        """Content-Bytes-Accepted: the rest stays, and goes again together with what is new."""
        offered = self._offered
        if accepted > offered + self._close:
            return "backend accepted more than it was offered"
        if accepted >= offered:
            if self._last and accepted < offered + self._close:
                return "backend accepted all but the close"
            self.accept_all()
            return None
        before = self.sent
        self._remove(accepted)
        self.replayed = offered - accepted
        # What it did not accept comes again, and the close with it.
        self._last = False
        if accepted or self.sent < before:
            # Who is not read from, or has gone, says nothing new that would make the rest go again.
            self.wanted = self.wanted or self.full(most_bytes)
        elif self.phase is GripPhase.PARTING or (self.one_event and self.fresh) or self.full(most_bytes):
            return "backend accepts nothing of what it is offered"
        return None

    def _remove(self, accepted: int) -> None:
        """Take the first `accepted` content bytes of the request away: whole events, and the front of the next. (All of
        them are never accepted here: something is left.)"""
        queue = self.queue
        assert queue is not None
        left, whole = accepted, 0
        for event in queue[: self.sent]:
            content = event.content or b""
            if len(content) > left:
                queue[whole] = SocketEvent(event.kind, content[left:])
                break
            left -= len(content)
            whole += 1
        del queue[:whole]
        self.sent -= whole
        self.queue_bytes -= accepted

    def _set_meta(self, fields: Headers) -> None:
        meta = self.meta or {}
        for name, value in fields:
            if value:
                meta[name.lower()] = (name, value)
            else:
                meta.pop(name.lower(), None)
        self.meta = meta or None

    def full(self, most_bytes: int) -> bool:
        """So much waits for the backend that nothing more should be read from the client."""
        queue = self.queue
        return queue is not None and self.queue_bytes + EVENT_OVERHEAD * (len(queue) - 1) >= most_bytes

    def settled(self) -> bool:
        """The answer has been carried out. Whether the next request should be made now."""
        self.busy = False
        if self._last and self.phase in (GripPhase.PARTING, GripPhase.VANISHED):
            self.move(GripFact.LAST_WORD)
            return False
        return self.ready

    def rests(self) -> bool:
        """`settled`, for the usual case: the answer has been carried out, and nothing was said or wished meanwhile.
        False: it is not so, and nothing has changed."""
        if self.queue is not None or self.wanted or self.interval_s or self.phase is not _LIVE:
            return False
        self.busy = False
        return True

    def poll(self) -> bool:
        """The polling interval is over: whether to ask."""
        if self.busy or self.interval_s == 0 or self.phase in (GripPhase.CLOSED, GripPhase.OVER):
            return False
        self.wanted = True
        return True
