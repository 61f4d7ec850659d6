"""The lives of sessions: rare facts, kept in a ring of fixed size, for `holdfast why` and whoever else asks.

Only what happens seldom is noted: a handshake's verdict, a change of release, a retry, a refusal, an end. A plain
message never comes here, a session costs nothing beyond its facts, and the oldest facts make room for the newest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

LIFE_ENTRIES = 20_000
"""About 5 MB when it is full."""
DETAIL_CHARS = 300


@dataclass(frozen=True, slots=True)
class Fact:
    """`at`: wall ms. `what`: a word for programs; `detail`: a phrase for people."""

    at: int
    session: str
    what: str
    detail: str


class Journal:
    """The facts of one process. `entries` 0: none are kept."""

    __slots__ = ("_facts",)

    def __init__(self, entries: int = LIFE_ENTRIES) -> None:
        self._facts: deque[Fact] = deque(maxlen=entries)

    def resize(self, entries: int) -> None:
        """Keep `entries` from now on; the newest stay."""
        if entries != self._facts.maxlen:
            self._facts = deque(self._facts, maxlen=entries)

    def note(self, at: int, session: str, what: str, detail: str) -> None:
        if self._facts.maxlen:
            self._facts.append(Fact(at, session, what, detail[:DETAIL_CHARS]))

    def life(self, session: str) -> Sequence[Fact]:
        """Oldest first. Walks the ring: people ask, not programs at work."""
        return [fact for fact in self._facts if fact.session == session]

    def __len__(self) -> int:
        return len(self._facts)
