"""The order of one channel's items, as their publisher means it: each says which one it follows (`prev_id`).

An item whose predecessor is not the newest one we know waits for it, for a while; then it goes anyway. Pushpin's
sequencer is the model, but for two things: nothing is ever dropped (of too many that wait the oldest goes), and two
items that follow the same one both go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from edge.protocol.grip.items import Item

WAITING_MAX = 100
"""Items of one channel that wait at once."""


class _Waiting(NamedTuple):
    due_ms: int
    item: Item


class ItemSequence:
    """One channel. Methods return the items that are to be delivered now, in order; `now_ms` is monotonic."""

    __slots__ = ("_waiting", "last")

    def __init__(self, last: str | None = None) -> None:
        self.last = last
        """The id of the newest item that was let go; None: not known."""
        self._waiting: list[_Waiting] = []

    def offer(self, item: Item, now_ms: int, wait_ms: int) -> Sequence[Item]:
        """`item` has come."""
        if item.no_seq or (item.id is not None and item.id == self.last):
            # The newest id may be known, from elsewhere, before its item has come.
            return (item,)
        if item.prev_id is None or self.last is None or self.last == item.prev_id:
            if not self._waiting:
                self.last = item.id
                return (item,)
            return self._let_go(item)
        self._waiting.append(_Waiting(now_ms + wait_ms, item))
        return self._let_go(self._waiting.pop(0).item) if len(self._waiting) > WAITING_MAX else ()

    def wake_at(self) -> int | None:
        """When `expire` has something to do."""
        return min(waiting.due_ms for waiting in self._waiting) if self._waiting else None

    def expire(self, now_ms: int) -> Sequence[Item]:
        """Those that have waited long enough, and what follows them."""
        gone: list[Item] = []
        while (due := next((at for at, waiting in enumerate(self._waiting) if waiting.due_ms <= now_ms), -1)) >= 0:
            gone += self._let_go(self._waiting.pop(due).item)
        return gone

    def release(self) -> Sequence[Item]:
        """Everything that waits, in the order it came: what it waited for will not come. Nothing is known after it."""
        gone = [waiting.item for waiting in self._waiting]
        self._waiting.clear()
        self.last = None
        return gone

    def _let_go(self, item: Item) -> list[Item]:
        """`item`, and then everybody who waited for it."""
        gone = [item]
        self.last = item.id
        while self.last is not None and self._waiting:
            follower = next((at for at, waiting in enumerate(self._waiting) if waiting.item.prev_id == self.last), -1)
            if follower < 0:
                break
            item = self._waiting.pop(follower).item
            self.last = item.id
            gone.append(item)
        return gone
