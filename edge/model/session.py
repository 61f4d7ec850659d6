"""The rules of a session: which events wait for its backend, what an answer may change, when it is over.

Owns: phase, event queue, numbering, backpressure, and the session's own picture of its row (user, state, channels,
timers). Leaves to others: doing things (`edge.sessions`), the socket (`edge.transports`), retries (`edge.backend`).
Everything here is synchronous and pure: facts and `now` (wall ms) in; flags, events and verdicts out.

Facts that only move the queue answer with a few `Flow` bits instead of a list of orders: this is the hot path, one
call per client message.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from edge.config import LimitSettings
from edge.model.phases import TRANSITIONS, Fact, Phase
from edge.model.verdict import Changes, Refusal, Verdict, weigh
from edge.protocol.callbacks.actions import Result
from edge.protocol.callbacks.events import (
    ClientRequest,
    Close,
    Event,
    Gap,
    Message,
    Open,
    ReleaseChanged,
    ResultRefused,
    Timer,
    close_event_id,
)

EVENT_OVERHEAD = 128
"""Bytes an event without payload counts for in the queue's byte bound."""


class Flow:
    """What the caller has to see to after a fact; bits, combined with `|`."""

    NOTHING = 0
    DELIVER = 1
    """There are events to deliver (ask for them when nothing is in flight)."""
    PAUSE = 2
    """Stop reading from the client: its queue is full."""
    RESUME = 4
    FINISH = 8
    """The client said goodbye and nothing is owed to it any more: echo its close frame."""
    LEAVE = 16
    """The session was asked to leave, and nothing is owed to its client any more: close the connection."""


# The hot path's words: a global is a third of the price of an enum's member.
_LIVE, _CLOSING = Phase.LIVE, Phase.CLOSING
_NOTHING, _DELIVER = Flow.NOTHING, Flow.DELIVER


class Session:
    """One session's state. See the module's docstring for what it leaves to whom."""

    __slots__ = (
        "channels",
        "flying",
        "goodbye_said",
        "id",
        "leaving",
        "number",
        "paused",
        "phase",
        "pinned",
        "queue",
        "queue_bytes",
        "release",
        "state",
        "timers",
        "user",
        "version",
    )

    def __init__(self, id: str, release: str) -> None:
        self.id = id
        self.release = release
        self.phase = Phase.OPENING
        self.number = 0
        # Most sessions are idle most of the time: what they do not use, they do not carry.
        self.queue: deque[Event] | None = None
        self.flying: list[Event] | None = None
        self.queue_bytes = 0
        self.paused = False
        self.goodbye_said = False
        self.leaving = False
        self.user: str | None = None
        self.pinned: str | None = None
        self.state: dict[str, Any] | None = None
        self.version = 0
        self.channels: set[str] | None = None
        self.timers: dict[str, tuple[int, Any]] | None = None

    # Facts about the client.

    def opened(self, request: ClientRequest, transport: str, now: int) -> int:
        """The handshake came."""
        return self._enqueue(Open(self._next_id(), now, request, transport))

    def received(self, payload: str | bytes, now: int, limits: LimitSettings) -> int:
        """A whole message came. Ignored once the session is over; counted towards the queue's bounds."""
        phase = self.phase
        if phase is not _LIVE and phase is not _CLOSING:
            return _NOTHING
        # `_next_id` and `_enqueue`, written out: the calls cost more than what they do.
        self.number = number = self.number + 1
        queue = self.queue
        if queue is None:
            queue = self.queue = deque()
        queue.append(Message(f"{self.id}:{number}", now, payload))
        self.queue_bytes += EVENT_OVERHEAD + len(payload)
        if not self.paused and self._full(limits):
            self.paused = True
            return _DELIVER | Flow.PAUSE
        return _DELIVER

    def said_goodbye(self) -> int:
        """The client sent a close frame."""
        if self.phase in (Phase.OPENING, Phase.ABANDONED, Phase.ENDED, Phase.DONE):
            return Flow.NOTHING
        self._move(Fact.GOODBYE)
        self.goodbye_said = True
        return Flow.FINISH if self.unsettled == 0 else Flow.NOTHING

    def ended(self, code: int, reason: str, *, clean: bool, cause: str, now: int) -> int:
        """The connection is gone. The backend hears of it last, unless it never accepted the session."""
        if self.phase is Phase.ENDED:
            return Flow.NOTHING
        after = self._move(Fact.CONNECTION_ENDED)
        self.paused = False
        if after is not Phase.ENDED:
            return Flow.NOTHING
        return self._enqueue(Close(close_event_id(self.id), now, code, reason, clean, cause))

    # Facts from elsewhere.

    def inherited(self, now: int) -> None:
        """The edge that held this plain session died, and its client with it: only the end is left to tell."""
        self.phase = Phase.ENDED
        reason = "the edge that held the connection is gone"
        self._enqueue(Close(close_event_id(self.id), now, 1006, reason, False, "edge-lost"))

    def timer_due(self, name: str, now: int) -> int:
        """A timer rang. It stays in the row until its event is settled, so that it survives the edge."""
        timer = self.timers.get(name) if self.timers else None
        if timer is None or self.phase in (Phase.ENDED, Phase.DONE):
            return Flow.NOTHING
        return self._enqueue(Timer(self._next_id(), now, name, timer[1]))

    def gap_found(self, channel: str, since: tuple[int, str], position: tuple[int, str], now: int) -> int:
        """History could not give everything after `since`."""
        if self.phase in (Phase.ENDED, Phase.DONE):
            return Flow.NOTHING
        return self._enqueue(Gap(self._next_id(), now, channel, since, position))

    def result_refused(self, of: str, error: str, now: int) -> int:
        """The backend's answer to event `of` could not be carried out."""
        if self.phase in (Phase.ABANDONED, Phase.ENDED, Phase.DONE):
            return Flow.NOTHING
        return self._enqueue(ResultRefused(self._next_id(), now, of, error))

    def lost(self) -> None:
        """Another edge owns the session and has told its backend of the end: nothing more of it happens here."""
        self._move(Fact.LOST)
        self.queue = None

    def moved(self, release: str, now: int) -> None:
        """The next events go to another release: tell it so first (not when it has not been told of the session)."""
        old, self.release = self.release, release
        if old == release or self.phase in (Phase.OPENING, Phase.ABANDONED, Phase.ENDED, Phase.DONE):
            return
        if self.queue is None:
            self.queue = deque()
        untold = self.queue[0] if self.queue else None
        if type(untold) is ReleaseChanged:
            # It moves on before anybody was told: one step, or none when it is back where it was.
            self.queue.popleft()
            self.queue_bytes -= EVENT_OVERHEAD
            old = untold.from_release
            if old == release:
                self.queue = self.queue or None
                return
        self.queue.appendleft(ReleaseChanged(self._next_id(), now, old, release))
        self.queue_bytes += EVENT_OVERHEAD

    # The queue's far end.

    @property
    def unsettled(self) -> int:
        """Events without an outcome, waiting or in flight."""
        return (len(self.queue) if self.queue else 0) + (len(self.flying) if self.flying else 0)

    def take(self, max_events: int, max_bytes: int) -> list[Event]:
        """The next events in order, at most `max_events` and, past the first, `max_bytes`; they are in flight now."""
        queue = self.queue
        if not queue:
            return []
        if len(queue) == 1 and self.flying is None:
            self.flying = [queue.popleft()]
            return self.flying
        taken: list[Event] = []
        size = 0
        while queue and len(taken) < max_events:
            size += _weight(queue[0])
            if taken and size > max_bytes:
                break
            taken.append(queue.popleft())
        # Replaced, never changed: whoever holds what was taken keeps it.
        self.flying = taken if self.flying is None else [*self.flying, *taken]
        return taken

    def settled(self, event: Event, limits: LimitSettings) -> int:
        """`event` has its outcome and it has been applied."""
        flying = self.flying
        if flying is None:
            return Flow.NOTHING
        # By identity: two events are never equal, but comparing payloads would cost.
        if len(flying) == 1:
            self.flying = None
        else:
            self.flying = [other for other in flying if other is not event]
        self.queue_bytes -= _weight(event)
        if self.queue is not None and not self.queue:
            self.queue = None
        if type(event) is Close:
            self._move(Fact.CLOSE_SETTLED)
        flow = _NOTHING
        if self.paused and not self.leaving and self._half_empty(limits):
            self.paused = False
            flow |= Flow.RESUME
        if self.phase is _CLOSING and self.unsettled == 0:
            flow |= Flow.FINISH if self.goodbye_said else Flow.LEAVE if self.leaving else Flow.NOTHING
        if self.queue:
            flow |= _DELIVER
        return flow

    def drop_waiting(self) -> int:
        """Forget messages that wait: the session is being closed for a reason that leaves nobody to tell. How many."""
        if not self.queue:
            return 0
        kept: deque[Event] = deque(event for event in self.queue if type(event) is Close)
        dropped = len(self.queue) - len(kept)
        self.queue = kept or None
        self.queue_bytes = sum(_weight(event) for event in (*kept, *(self.flying or ())))
        return dropped

    # Answers.

    def judge(self, event: Event | None, result: Result, now: int, limits: LimitSettings) -> Verdict | Refusal:
        """What a result means for this session, or why it may not be applied. Changes nothing.

        `event` is what it answers; None for actions from elsewhere (control API, another session).
        """
        actions = result.actions
        changes = Changes(result.state_set, result.state_unset, None, None, [], [], {}, [], [])
        if type(event) is Timer and not self._set_since(event):
            changes.cancel_timers.append(event.name)
        for index, action in enumerate(actions):
            if action.session is not None and action.session != self.id:
                continue
            refusal = weigh(index, action, event, changes, self.channels or (), now)
            if refusal is not None:
                return refusal
        count = len(self.channels or ()) + len(changes.subscribe) - len(changes.unsubscribe)
        if count > limits.subscriptions and changes.subscribe:
            return Refusal(1008, "too many subscriptions", "subscriptions")
        return Verdict(changes if changes.any() else None, actions)

    def applied(self, changes: Changes, version: int) -> None:
        """The store has accepted `changes`; `version` is the row's new one."""
        if changes.state_set or changes.state_unset:
            state = dict(self.state or {})
            state.update(changes.state_set)
            for key in changes.state_unset:
                state.pop(key, None)
            self.state = state or None
        self.version = version
        if changes.user is not None:
            self.user = changes.user[0]
        if changes.pinned is not None:
            self.pinned = changes.pinned[0]
        channels = set(self.channels or ()).union(changes.subscribe).difference(changes.unsubscribe)
        self.channels = channels or None
        timers = dict(self.timers or {})
        for name in changes.cancel_timers:
            timers.pop(name, None)
        if changes.cancel_timers or changes.set_timers:
            self._unring({*changes.cancel_timers, *changes.set_timers})
        timers.update(changes.set_timers)
        self.timers = timers or None

    def accepted(self) -> None:
        """The backend took the session."""
        self._move(Fact.ACCEPTED)

    def rejected(self) -> None:
        """The backend, or the edge in its place, refused the session: it never was."""
        self._move(Fact.REJECTED)

    def ordered_to_close(self) -> bool:
        """Somebody orders the connection closed. False when there is none to close any more."""
        before, leaving, self.leaving = self.phase, self.leaving, False
        self._move(Fact.CLOSE_ORDERED)
        return before in (Phase.OPENING, Phase.LIVE) or (before is Phase.CLOSING and (self.goodbye_said or leaving))

    def asked_to_leave(self) -> bool:
        """The connection has to go soon: whether now. False: when the last event has its outcome (`Flow.LEAVE`)."""
        if self.phase is not Phase.LIVE or self.unsettled == 0:
            return True
        self._move(Fact.CLOSE_ORDERED)
        self.leaving = True
        return False

    def ended_while_opening(self, code: int, reason: str, *, clean: bool, cause: str, now: int) -> int:
        """`open` was accepted, but the client had gone: its `close` follows at once."""
        self._move(Fact.ACCEPTED)
        return self._enqueue(Close(close_event_id(self.id), now, code, reason, clean, cause))

    # Inside.

    def _set_since(self, event: Timer) -> bool:
        """The timer was set again after it had rung: the new one is not this event's to end."""
        timer = self.timers.get(event.name) if self.timers else None
        return timer is not None and timer[0] > event.at

    def _unring(self, names: set[str]) -> None:
        """Timers that rang, but were cancelled or set again before their events left, have not rung."""
        if not self.queue:
            return
        kept = deque(event for event in self.queue if type(event) is not Timer or event.name not in names)
        self.queue_bytes -= EVENT_OVERHEAD * (len(self.queue) - len(kept))
        self.queue = kept or None

    def _next_id(self) -> str:
        self.number += 1
        return f"{self.id}:{self.number}"

    def _enqueue(self, event: Event) -> int:
        if self.queue is None:
            self.queue = deque()
        self.queue.append(event)
        self.queue_bytes += _weight(event)
        return Flow.DELIVER

    def _full(self, limits: LimitSettings) -> bool:
        return self.queue_bytes >= limits.queue_bytes or self.unsettled >= limits.queue_events

    def _half_empty(self, limits: LimitSettings) -> bool:
        return self.unsettled * 2 <= limits.queue_events and self.queue_bytes * 2 <= limits.queue_bytes

    def _move(self, fact: Fact) -> Phase:
        self.phase = TRANSITIONS[self.phase, fact]
        return self.phase


def _weight(event: Event) -> int:
    if type(event) is Message:
        return EVENT_OVERHEAD + len(event.payload)
    return EVENT_OVERHEAD
