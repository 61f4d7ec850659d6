"""Stream management (XEP-0198): the two counters of a stream, and what was sent and not yet acknowledged.

Counters are numbers modulo 2^32 (§4), so nothing here compares them: all that counts is how far one is ahead of
another. Servers are less careful (Prosody 0.12's queue has no wrap at all), but a stream lives through 2^32 stanzas in
theory only.

`SavedStream` is what must be durable for another process to go on with the stream. Who makes it so, and when:
`edge.protocol.xmpp.stream` says what must be durable before what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edge.errors import WireError

MODULUS = 1 << 32


class CountError(WireError):
    """A count that cannot be: more than was sent, or less than was confirmed before."""


def ahead(count: int, base: int) -> int:
    """How many stanzas `count` is past `base`."""
    return (count - base) % MODULUS


def read_count(text: str) -> int:
    """The ``h`` of an element (an xs:unsignedInt). Raises CountError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10) or (count := int(text)) >= MODULUS:
        raise CountError("h is not a count of stanzas")
    return count


@dataclass(frozen=True, slots=True)
class SavedStream:
    """A stream that can be resumed (§5)."""

    id: str = field(repr=False)
    """The server's name for it; a secret of a kind, good for the same user only."""
    received: int
    """Stanzas of the server that are durable here, as a count. What came after it, the server sends again."""
    base: int
    """Stanzas of ours that the server has confirmed, as a count."""
    unacked: Sequence[bytes] = field(repr=False)
    """Those after it, oldest first."""
    max_s: int | None = None
    """How long the server keeps the stream without a connection, if it said."""
    location: str = ""
    """``host:port`` where the server wants it to be resumed; empty: where it was."""


class StreamManagement:
    """The counts of one stream of which both sides keep count."""

    __slots__ = ("_base", "_confirmed", "_received", "_unacked", "id", "location", "max_s")

    def __init__(self, saved: SavedStream) -> None:
        self.id = saved.id
        """Empty: the server counts, but keeps nothing for resuming."""
        self.max_s = saved.max_s
        self.location = saved.location
        self._received = self._confirmed = saved.received
        self._base = saved.base
        self._unacked = list(saved.unacked)  # an empty deque would take ten times as much as an empty list

    @property
    def received(self) -> int:
        """Stanzas heard, durable or not."""
        return self._received

    @property
    def confirmed(self) -> int:
        """The count that the server was told last."""
        return self._confirmed

    @property
    def base(self) -> int:
        """Stanzas that the server has confirmed."""
        return self._base

    @property
    def sent(self) -> int:
        """Stanzas of ours in all."""
        return (self._base + len(self._unacked)) % MODULUS

    @property
    def unacked(self) -> tuple[bytes, ...]:
        """Stanzas that it has not, oldest first."""
        return tuple(self._unacked)

    @property
    def waiting(self) -> int:
        """How many those are."""
        return len(self._unacked)

    def hear(self) -> int:
        """A stanza came; the count with it."""
        self._received = (self._received + 1) % MODULUS
        return self._received

    def confirm(self, count: int) -> None:
        """The server is told `count`. Raises CountError for one that was not heard, or is behind what it was told:
        servers take neither (Prosody then destroys the stream)."""
        if ahead(count, self._confirmed) > ahead(self._received, self._confirmed):
            raise CountError(f"{count} is not between {self._confirmed}, told before, and {self._received}, heard")
        self._confirmed = count

    def send(self, stanza: bytes) -> None:
        """A stanza goes to the server."""
        self._unacked.append(stanza)

    def acknowledge(self, count: int) -> int:
        """The server has `count` of ours. How many of them it had not confirmed before. Raises CountError for more
        than were sent."""
        news = ahead(count, self._base)
        if news > len(self._unacked):
            raise CountError(f"the server counts {news} stanzas where {len(self._unacked)} wait to be counted")
        del self._unacked[:news]
        self._base = count
        return news

    def save(self, durable: int) -> SavedStream:
        """All of it, for another process; `durable`: the count of what was heard and is safe."""
        return SavedStream(self.id, durable, self._base, self.unacked, self.max_s, self.location)
