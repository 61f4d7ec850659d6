"""Which events of a link wait for its backend: those in memory, those that only the store has, those under way.

Owns their numbers (`seq`: from 1, without holes, over all owners of the link) and what may be replaced by newer news of
the same thing while it waits. Memory holds a window on what is stored, from the oldest on; the rest is read when the
window has emptied. Pure: what is to be stored is returned, what was stored is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from edge.errors import WireError
from edge.protocol.callbacks.events import LinkEvent

WINDOW = 256
"""Events in memory for one link."""
REFILL = 64
"""Fewer than this in the window: read more, if the store has more."""
EVENT_BYTES = 512
"""What an event counts for beside its stanza."""
COALESCE_FROM = 16
"""So many wait before newer news may take the place of older ones: a backend that keeps up is told everything."""


def to_stored(event: LinkEvent) -> bytes:
    packed: bytes = msgpack.packb([event.kind, event.at, event.fields], use_bin_type=True)
    return packed


def from_stored(link: str, seq: int, data: bytes) -> LinkEvent:
    """Raises WireError."""
    try:
        kind, at, fields = msgpack.unpackb(data, raw=False, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"stored event {seq} of link {link} cannot be read: {error}") from None
    return LinkEvent(f"{link}:{seq}", at, kind, fields)


def to_parked(event: LinkEvent, why: str) -> bytes:
    packed: bytes = msgpack.packb([event.id, event.kind, event.at, event.fields, why], use_bin_type=True)
    return packed


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """An event that was laid aside, because no backend took it; `why` is for people."""

    id: str
    kind: str
    at: int
    fields: Mapping[str, Any]
    why: str


def from_parked(data: bytes) -> ParkedEvent:
    """Raises WireError."""
    try:
        return ParkedEvent(*msgpack.unpackb(data, raw=False, strict_map_key=False))
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"an event that was laid aside cannot be read: {error}") from None


class Backlog:
    """Events of one link. `seq` and `done` as the store has them at the beginning."""

    __slots__ = (
        "_handed", "_keys", "_link", "_news", "_replaced", "_replacing", "_shown", "_tail", "_window", "done", "kept",
        "seq",
    )  # fmt: skip

    def __init__(self, link: str, seq: int, done: int) -> None:
        self._link = link
        self.seq = seq
        """The newest that has a number."""
        self.kept = seq
        """The newest that is stored."""
        self.done = done
        """The newest that the backend has accepted."""
        self._tail = done
        """The newest in the window."""
        self._handed = done
        """The newest that was handed out."""
        self._shown = done
        """The newest that ever was: a backend may have seen it, so its content is settled."""
        self._window: list[tuple[int, LinkEvent]] = []
        self._news: list[tuple[int, LinkEvent]] = []
        self._replaced: dict[int, LinkEvent] = {}
        """New contents that are to be stored."""
        self._replacing: Mapping[int, LinkEvent] = {}
        """And those on their way into the store."""
        self._keys: dict[Hashable, int] = {}

    @property
    def waiting(self) -> int:
        """Events that the backend has not accepted, stored or not."""
        return self.seq - self.done

    # -- coming in

    def add(self, kind: str, at: int, fields: Mapping[str, Any], key: Hashable | None = None) -> int:
        """A new event; its seq. `key`: what it is the news of; then it may take the place of older news, and its
        seq."""
        if key is not None and self.waiting >= COALESCE_FROM:
            old = self._keys.get(key, 0)
            if old > self._shown:
                self._replace(old, kind, at, fields)
                return old
        self.seq += 1
        if key is not None:
            self._keys[key] = self.seq
        self._news.append((self.seq, self._event(self.seq, kind, at, fields)))
        return self.seq

    def news(self) -> tuple[Sequence[tuple[int, LinkEvent]], Mapping[int, LinkEvent]]:
        """New events since the last call, to be stored; and new contents for stored ones. Until `stored` or `put_back`
        they are on their way."""
        news, replaced = self._news, self._replaced
        self._news, self._replaced, self._replacing = [], {}, replaced
        return news, replaced

    @property
    def has_news(self) -> bool:
        return bool(self._news or self._replaced)

    def put_back(self, news: Sequence[tuple[int, LinkEvent]], replaced: Mapping[int, LinkEvent]) -> None:
        """There was no room for these: they are news again, or what has taken their place meanwhile is."""
        newer = {**replaced, **self._replaced}
        self._news = [*((seq, newer.pop(seq, event)) for seq, event in news), *self._news]
        self._replaced, self._replacing = newer, {}

    def stored(self, news: Sequence[tuple[int, LinkEvent]]) -> None:
        """These are stored now, and so are the new contents that went along."""
        self._replacing = {}
        for seq, event in news:
            if self._tail == seq - 1 and len(self._window) < WINDOW:
                self._window.append((seq, self._newest(seq, event)))
                self._tail = seq
            self.kept = max(self.kept, seq)

    # -- going out

    @property
    def ready(self) -> bool:
        """There is something to hand out."""
        return bool(self._window) and self._window[-1][0] > self._handed

    @property
    def wants_more(self) -> int | None:
        """Read the stored events behind this seq; None: there is no need."""
        if self._tail < self.kept and len(self._window) < REFILL:
            return self._tail
        return None

    def read(self, events: Sequence[tuple[int, LinkEvent]], upto: int) -> None:
        """What the store had behind `wants_more`, up to `upto`; what is missing in between was lost there."""
        for seq, event in events:
            if seq > self._tail:
                self._window.append((seq, self._newest(seq, event)))
                self._tail = seq
        self._tail = max(self._tail, upto)

    def take(self, most: int, most_bytes: int) -> list[tuple[int, LinkEvent]]:
        """The next events, which are under way now; one, if there is one, whatever it weighs."""
        taken: list[tuple[int, LinkEvent]] = []
        for seq, event in self._window:
            if seq > self._handed:
                most_bytes -= len(event.fields.get("xml") or "") + EVENT_BYTES
                if len(taken) == most or (taken and most_bytes < 0):
                    break
                taken.append((seq, event))
                self._handed = seq
        self._shown = max(self._shown, self._handed)
        return taken

    def hand_back(self, seq: int) -> None:
        """Nobody took the events from `seq` on: they are handed out again."""
        self._handed = min(self._handed, seq - 1)

    def accepted(self, seq: int) -> None:
        """The backend has accepted everything up to `seq`."""
        self.done = max(self.done, seq)
        self._handed = max(self._handed, seq)
        self._shown = max(self._shown, seq)
        self._tail = max(self._tail, self.done)
        window = self._window
        taken = next((place for place, (number, _) in enumerate(window) if number > seq), len(window))
        del window[:taken]
        if len(self._keys) > 2 * WINDOW:
            self._keys = {key: at for key, at in self._keys.items() if at > self._shown}
        elif not self.waiting:
            self._keys.clear()

    def in_memory(self) -> Sequence[tuple[int, LinkEvent]]:
        """The newest stored events, without a hole up to the newest one; empty when memory lacks that."""
        newest: deque[tuple[int, LinkEvent]] = deque()
        for seq, event in reversed(self._window):
            if seq == self.kept - len(newest):
                newest.appendleft((seq, event))
            elif seq < self.kept:
                break
        return tuple(newest)

    def _replace(self, seq: int, kind: str, at: int, fields: Mapping[str, Any]) -> None:
        event = self._event(seq, kind, at, fields)
        for index, (number, _) in enumerate(self._news):
            if number == seq:
                self._news[index] = (seq, event)
                return
        for index, (number, _) in enumerate(self._window):
            if number == seq:
                self._window[index] = (seq, event)
        self._replaced[seq] = event

    def _newest(self, seq: int, event: LinkEvent) -> LinkEvent:
        """What the store has, or will have as soon as everything is there."""
        return self._replaced.get(seq) or self._replacing.get(seq) or event

    def _event(self, seq: int, kind: str, at: int, fields: Mapping[str, Any]) -> LinkEvent:
        return LinkEvent(f"{self._link}:{seq}", at, kind, {"seq": seq, **fields})
