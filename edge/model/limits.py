"""What one client may do: rates, connections per address, origins. Numbers and `now` in, yes or no out."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from edge.config import LimitSettings

BURST_S = 2.0
"""A client may spend this many seconds' worth at once (spec: twice the sustained rate)."""


class TokenBucket:
    """A sustained rate with a burst. Rate and burst come with each call, because a reload may change them."""

    __slots__ = ("_at_ms", "_spent")

    def __init__(self, now_ms: int) -> None:
        self._at_ms = now_ms
        self._spent = 0.0

    def take(self, amount: float, now_ms: int, rate_per_s: float, burst_s: float = BURST_S) -> bool:
        """Spend `amount` if the bucket has it; False, and nothing spent, when it has not.

        The bucket holds ``rate_per_s × burst_s`` and starts full. An amount that is larger than the bucket passes
        when the bucket is full, and is paid off afterwards: otherwise it could never pass.
        """
        self._spent = max(0.0, self._spent - (now_ms - self._at_ms) * rate_per_s / 1000)
        self._at_ms = now_ms
        if self._spent and self._spent + amount > rate_per_s * burst_s:
            return False
        self._spent += amount
        return True


class Rates:
    """One connection's messages/s and bytes/s."""

    __slots__ = ("_bytes", "_messages")

    def __init__(self, now_ms: int) -> None:
        self._messages = TokenBucket(now_ms)
        self._bytes = TokenBucket(now_ms)

    def exceeded(self, size: int, now_ms: int, limits: LimitSettings) -> str:
        """Spend one message of `size` bytes: the name of the limit that it goes over, or nothing."""
        if limits.messages_per_s and not self._messages.take(1, now_ms, limits.messages_per_s):
            return "messages_per_s"
        if limits.bytes_per_s and not self._bytes.take(size, now_ms, limits.bytes_per_s):
            return "bytes_per_s"
        return ""


class AddressCounts:
    """How many connections each client address has. Addresses without any take no memory."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def enter(self, address: str, limit: int) -> bool:
        """Count one more, unless there are `limit` already; 0 is no limit."""
        count = self._counts.get(address, 0)
        if limit and count >= limit:
            return False
        self._counts[address] = count + 1
        return True

    def leave(self, address: str) -> None:
        """One less."""
        count = self._counts.get(address, 0)
        if count > 1:
            self._counts[address] = count - 1
        else:
            self._counts.pop(address, None)

    def __len__(self) -> int:
        return len(self._counts)


def origin_allowed(origin: str | None, allowed: Sequence[str]) -> bool:
    """Whether an Origin header may open a connection.

    An empty list allows any origin and none. Entries are whole origins (``https://chat.example``), with or without a
    port; a host of ``*.chat.example`` takes every name below ``chat.example``, and a bare ``*`` takes every origin
    there is. Browsers always send the header, other clients need not: a list refuses those without
    (RFC 6455 §10.2).
    """
    if not allowed:
        return True
    if origin is None:
        return False
    return any(entry == "*" or _same_origin(entry, origin) for entry in allowed)


def _same_origin(entry: str, origin: str) -> bool:
    wanted, given = _origin_parts(entry), _origin_parts(origin)
    if wanted is None or given is None:
        return False
    if wanted[0] != given[0] or wanted[2] != given[2]:
        return False
    if wanted[1].startswith("*."):
        suffix = wanted[1][1:]
        return given[1].endswith(suffix) and len(given[1]) > len(suffix)
    return wanted[1] == given[1]


def _origin_parts(origin: str) -> tuple[str, str, int] | None:
    """Scheme, host and port, the scheme's default port filled in; None for ``null`` and other oddities."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    if not parts.scheme or not parts.hostname:
        return None
    defaults = {"http": 80, "https": 443}
    return parts.scheme, parts.hostname, port if port is not None else defaults.get(parts.scheme, 0)
