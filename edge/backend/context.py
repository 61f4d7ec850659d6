"""What every pool is given from outside: clocks, meters, randomness, and the way to the other pools."""

from __future__ import annotations

import logging
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edge.backend.base import Mailbox, Outcome, Release
from edge.backend.http11 import AnswerLimits
from edge.backend.letters import Letter
from edge.backend.shadow import Shadows
from edge.clock import Clock
from edge.protocol.callbacks.events import Event
from edge.telemetry.metrics import Metrics
from edge.wheel import Wheel

GONE_MOST = 1_024
"""Ended sessions remembered per app until the next request; the oldest are forgotten first."""

_log = logging.getLogger("holdfast.backend")


@dataclass(slots=True, eq=False)
class Context:
    """`random` draws from [0, 1). `ready`, `adopt` and `fell_quiet` are the client's: they lead to other pools."""

    edge_id: str
    clock: Clock
    wheel: Wheel
    loop: AbstractEventLoop
    metrics: Metrics
    random: Callable[[], float]
    limits: AnswerLimits
    ready: Callable[[Mailbox, int], None]
    """A mailbox that has had events since a monotonic time in ms, for the pool of its release."""
    adopt: Callable[[Letter], None]
    """A letter under way, for the pool of its mailbox's release."""
    fell_quiet: Callable[[], None]
    """A pool has nothing in flight and nothing waiting."""
    shadows: Shadows
    note: Callable[[int, str, str, str], None] = lambda at, session, what, detail: None
    """A rare fact in the life of a session, at wall ms (`edge.sessions.journal`)."""
    gone: dict[str, dict[str, None]] = field(default_factory=dict)

    def keep_gone(self, app: str, sessions: Sequence[str]) -> None:
        """Report these ended sessions with the next request to `app`."""
        if not sessions:
            return
        kept = self.gone.setdefault(app, {})
        kept.update(dict.fromkeys(sessions))
        while len(kept) > GONE_MOST:
            del kept[next(iter(kept))]

    def take_gone(self, app: str) -> Sequence[str]:
        """What to report with a request that leaves now."""
        if not self.gone:
            return ()
        return tuple(self.gone.pop(app, ()))

    @staticmethod
    def belongs_elsewhere(mailbox: Mailbox, release: Release) -> bool:
        """The session's next event goes to another release than `release`."""
        now = mailbox.release
        return now is not release and now != release

    @staticmethod
    def settle(mailbox: Mailbox, outcomes: Sequence[tuple[Event, Outcome]]) -> None:
        """Hand outcomes to a mailbox. A mistake in one session must not stop the others' requests."""
        try:
            mailbox.settle(outcomes)
        except Exception:
            _log.exception("session %s could not take its outcomes", mailbox.session)
