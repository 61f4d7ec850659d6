"""Channels of a test edge: offsets, epochs, history, and the rule for what can be replayed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from backend_sdk.events import Position


@dataclass(frozen=True, slots=True)
class Kept:
    """A publication in a channel's history."""

    offset: int
    payload: str | bytes


class Channel:
    """One channel. `history`: publications kept, 0: none, and then it has no positions either."""

    def __init__(self, epoch: str, history: int) -> None:
        self.epoch = epoch
        self.offset = 0
        self.kept: deque[Kept] = deque(maxlen=history)
        self._ids: dict[str, int] = {}

    @property
    def position(self) -> Position:
        """The newest position."""
        return Position(self.offset, self.epoch) if self.kept.maxlen else Position(0, "")

    def accept(self, payload: str | bytes, id: str | None) -> bool:
        """Take a publication; False when one with this id was there before."""
        if id is not None and id in self._ids:
            return False
        self.offset += 1
        self.kept.append(Kept(self.offset, payload))
        if id is not None:
            self._ids[id] = self.offset
        return True

    def after(self, since: Position) -> list[str | bytes] | None:
        """Payloads of all publications after `since`; None when some of them are no longer known."""
        if not self.kept.maxlen or since.epoch != self.epoch or since.offset > self.offset:
            return None
        if since.offset < self.offset - len(self.kept):
            return None
        return [kept.payload for kept in self.kept if kept.offset > since.offset]
