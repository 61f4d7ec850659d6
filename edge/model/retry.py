"""The rules of retrying: what an answer's status means, how long to wait, how to split, how much at once.

Pure: randomness and time are handed in. The table these rules come from is in edge/protocol/callbacks/SPEC.md,
"When the backend is away". Who retries what, and when a release counts as away, is `edge.backend.pool`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from enum import Enum

BACKOFF_FIRST_MS = 50
BACKOFF_MOST_MS = 5_000
EXPIRED_RETRY_AFTER_S = 5
"""What a client is told when nobody said anything better: the longest pause between two tries."""

RETRY_STATUSES = frozenset({408, 425, 500, 502, 503, 504})


class Verdict(Enum):
    """What a status means for the events of the request."""

    ANSWER = "answer"
    """200 or 204: look at the body."""
    RETRY = "retry"
    THROTTLED = "throttled"
    """429: retry, with fewer requests at once."""
    REFUSED = "refused"
    """A 4xx: the events were judged."""
    REDIRECT = "redirect"
    """A 3xx: never followed. The backend is misconfigured, and no retry will change that."""


def judge(status: int) -> Verdict:
    """What `status`, a final one (≥ 200), means. Statuses nobody planned for are retried like a body that does
    not parse: 2xx other than 200 and 204, 5xx other than the usual."""
    if status in (200, 204):
        return Verdict.ANSWER
    if status == 429:
        return Verdict.THROTTLED
    if status in RETRY_STATUSES:
        return Verdict.RETRY
    if 300 <= status < 400:
        return Verdict.REDIRECT
    if 400 <= status < 500:
        return Verdict.REFUSED
    return Verdict.RETRY


def backoff_ms(failures: int, random: Callable[[], float]) -> int:
    """How long to wait after the `failures`-th failure in a row (from 1): full jitter, a draw from 0 up to
    50 ms doubled each time, at most 5 s.

    `random` draws from [0, 1). Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    # 2^7 × 50 ms is past the cap already: the shift is bounded for the sake of long outages.
    most = min(BACKOFF_MOST_MS, BACKOFF_FIRST_MS << min(failures - 1, 7))
    return int(random() * most) + 1


def retry_after_ms(value: str, now_wall_ms: int) -> int | None:
    """A `Retry-After` header (RFC 9110 section 10.2.3, seconds or a date) as a delay from now; None: not readable.

    The caller bounds it by what is left of the retry window.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(int(value[:9]), 10**8) * 1000
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    try:
        return max(0, round(date.timestamp() * 1000) - now_wall_ms)
    except (ValueError, OverflowError):
        return None


def pieces(events: int, left_ms: int, try_ms: int) -> int:
    """Into how many requests a failed one of `events` events is split.

    Halves find one bad event among n in log2(n) tries. When those do not fit into what is left of the window (a bad
    event that makes the backend hang costs `try_ms` each time), every event goes alone at once: otherwise the good
    ones would expire together with it.
    """
    if events <= 1:
        return 1
    tries = (events - 1).bit_length()
    return 2 if tries * try_ms <= left_ms else events


class Throttle:
    """How many requests may be in flight: halved by a 429, then one more for each full round of good answers.

    (Additive increase, multiplicative decrease: Chiu & Jain 1989, as TCP does it.) Requests are numbered; only a
    429 to a request that left after the last halving halves again, so that one overload counts once.
    """

    __slots__ = ("_good", "_halved_at", "_limit", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self._limit = most
        self._good = 0
        self._halved_at = -1

    @property
    def limit(self) -> int:
        """Requests that may be in flight now, at least 1."""
        return min(self._limit, self.most)

    def throttled(self, number: int, newest: int) -> None:
        """Request `number` got a 429; `newest` is the last one that has left."""
        if number <= self._halved_at:
            return
        self._halved_at = newest
        self._limit = max(1, self.limit // 2)
        self._good = 0

    def answered(self) -> None:
        """A request got a good answer."""
        if self._limit >= self.most:
            return
        self._good += 1
        if self._good >= self._limit:
            self._good = 0
            self._limit += 1
