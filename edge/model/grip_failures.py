"""The failure table of WebSocket-over-HTTP: what becomes of a connection whose backend did not answer, or answered with
something else than events. Pure; the delays are Pushpin's, the close codes ours (Pushpin drops connections).

Before the client has its 101, a failure is answered over HTTP; afterwards with a close frame: 1013 where trying again
later may help, 1011 where the backend is at fault. Reasons name the cause, never an address.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

RETRIES = 5
RETRY_FIRST_MS = 1_000
"""Doubled with each failure: 1, 2, 4, 8, 16 s."""
RETRY_JITTER_MS = 1_000
RETRY_AFTER_MOST_MS = 60_000
"""A backend that asks for a longer pause than this is taken for unavailable."""


@dataclass(frozen=True, slots=True)
class NextTarget:
    """Ask the route's next target; `otherwise` if there is none."""

    otherwise: Reject


@dataclass(frozen=True, slots=True)
class Reject:
    """Refuse the handshake."""

    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Again:
    """Send the same events again, in `after_ms`."""

    after_ms: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Close the connection."""

    code: int
    reason: str


_PHRASES = {
    "connect": "backend cannot be reached",
    "reset": "backend closed its connection without an answer",
    "timeout": "backend did not answer in time",
    "garbage": "backend's answer is not HTTP, or too large",
    "full": "too many requests wait for the backend",
    "closed": "the edge is going down",
}
_NOBODY = frozenset(("connect", "full"))
_BROKE = frozenset(("reset", "closed", "connect", "full"))
_STATUSES = {"timeout": 504, "full": 503, "closed": 503}


def phrase_of(kind: str) -> str:
    """For people, without addresses. `kind` is that of `edge.backend.origin_base.Unanswered`."""
    return _PHRASES.get(kind, "backend gave no answer")


def unanswered_open(kind: str, *, sent: bool) -> NextTarget | Reject:
    """No answer to OPEN. Nobody's connection hangs on it yet: no retries, but other targets, unless this one may have
    acted on it."""
    refusal = Reject(_STATUSES.get(kind, 502), f"Error while proxying to origin: {phrase_of(kind)}.")
    # One that went over a kept connection which turned out to be closed, and then found nobody: nobody acted on it.
    return refusal if sent and kind not in _NOBODY else NextTarget(refusal)


def unanswered(
    kind: str, *, sent: bool, failures: int, retry_unanswered: bool, random: Callable[[], float]
) -> Again | GiveUp:
    """No answer to later events. `failures`: tries of them that failed before this one.

    Requests that did not leave whole are sent again; those that did, only when the connection broke under them, as it
    does when a backend restarts, and only if at-least-once is allowed. One that hangs, or that does not speak HTTP,
    would do so again.
    """
    again = not sent or (retry_unanswered and kind in _BROKE)
    if again and failures < RETRIES:
        return Again(retry_ms(failures, random))
    return GiveUp(1013 if again or kind in _BROKE else 1011, phrase_of(kind))


def refused(status: int, *, failures: int, retry_after_ms: int | None) -> Again | GiveUp:
    """An answer to later events that is not 200. 429 and 503 may say when to come again."""
    if status not in (429, 503):
        return GiveUp(1011, f"backend answered {status}")
    if retry_after_ms is None or retry_after_ms > RETRY_AFTER_MOST_MS or failures >= RETRIES:
        return GiveUp(1013, f"backend answered {status}")
    return Again(retry_after_ms)


def retry_ms(failures: int, random: Callable[[], float]) -> int:
    """The pause after `failures` failed tries and one more. `random` draws from [0, 1)."""
    return (RETRY_FIRST_MS << failures) + int(random() * RETRY_JITTER_MS)
