"""What is under way for one mailbox (`Letter`), and what travels and fails together (`Group`).

Bookkeeping only: which of a parcel's events go into the next request, which answers have to wait for an earlier event
of the same session, when the retry window is over. Nothing here knows sockets or requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edge.backend.base import Expired, Mailbox, Outcome, Refused
from edge.protocol.callbacks.actions import BadResult, Result
from edge.protocol.callbacks.events import Event, Parcel


class Letter:
    """The events taken from one mailbox, until each of them is settled.

    `parcel` is what the next (or current) request carries of them. Outcomes are settled in the order of the events: an
    answer to a later event waits for the earlier ones.
    """

    __slots__ = ("_held", "_unsettled", "done", "expires_ms", "mailbox", "parcel")

    def __init__(self, mailbox: Mailbox, parcel: Parcel, expires_ms: int) -> None:
        self.mailbox = mailbox
        self.parcel = parcel
        self.expires_ms = expires_ms
        self.done = False
        """Every event has an outcome."""
        # Made for the few letters that are not answered whole at once.
        self._unsettled: deque[Event] | None = None
        self._held: dict[str, Outcome] | None = None

    @property
    def open_events(self) -> int:
        """Events without an outcome."""
        if self.done:
            return 0
        if self._unsettled is None or self._held is None:
            return len(self.parcel.events)
        return len(self._unsettled) - len(self._held)

    def answered(self, results: Mapping[str, Result | BadResult]) -> Sequence[tuple[Event, Outcome]]:
        """The request came back with `results`: what can be settled now, in order."""
        events = self.parcel.events
        if self._unsettled is None and len(events) == 1:
            outcome = results.get(events[0].id)
            if outcome is not None:
                self.done = True
                return [(events[0], outcome)]
        for event in events:
            found = results.get(event.id)
            if found is not None:
                self._hold(event, found)
        return self._settled()

    def ended(self, outcome: Refused) -> Sequence[tuple[Event, Outcome]]:
        """Every event of the current request ends with `outcome`: what can be settled now, in order."""
        for event in self.parcel.events:
            self._hold(event, outcome)
        return self._settled()

    def given_up(self, outcome: Expired) -> Sequence[tuple[Event, Outcome]]:
        """The window is over: every event without an answer ends with `outcome`."""
        unsettled, held = self._books()
        for event in unsettled:
            held.setdefault(event.id, outcome)
        return self._settled()

    def next_parcel(self, most: int, release: str) -> None:
        """Get ready for another try, with the first `most` events that have no outcome, for `release`."""
        unsettled, held = self._books()
        events = [event for event in unsettled if event.id not in held][:most]
        now = self.mailbox.refresh(self.parcel)
        self.parcel = replace(now, release=release, attempt=self.parcel.attempt + 1, events=events)

    def _books(self) -> tuple[deque[Event], dict[str, Outcome]]:
        if self._unsettled is None or self._held is None:
            self._unsettled, self._held = deque(self.parcel.events), {}
        return self._unsettled, self._held

    def _hold(self, event: Event, outcome: Outcome) -> None:
        self._books()[1][event.id] = outcome

    def _settled(self) -> Sequence[tuple[Event, Outcome]]:
        unsettled, held = self._books()
        settled = []
        while unsettled and (outcome := held.pop(unsettled[0].id, None)) is not None:
            settled.append((unsettled.popleft(), outcome))
        self.done = not unsettled
        return settled


@dataclass(slots=True, eq=False)
class Group:
    """Letters that go into one request. `failures` counts tries in a row that this group has seen fail.

    `most`: events of each letter in the next request (one that is split sends its first events first).
    `told`: the backend itself said when to come back, so do not come earlier.
    """

    letters: list[Letter]
    failures: int = 0
    told: bool = False
    most: int = 1_000_000

    @property
    def events(self) -> int:
        """Events in the request that failed or is next."""
        return sum([len(letter.parcel.events) for letter in self.letters])

    @property
    def expires_ms(self) -> int:
        """When the first window of its letters is over."""
        return min([letter.expires_ms for letter in self.letters])

    def remove_expired(self, now_ms: int) -> list[Letter]:
        """Take out the letters whose window is over."""
        late = [letter for letter in self.letters if letter.expires_ms <= now_ms]
        if late:
            self.letters = [letter for letter in self.letters if letter.expires_ms > now_ms]
        return late

    def split(self, pieces: int) -> list[Group]:
        """This group in `pieces` smaller ones; fewer where one letter holds most of the events.

        What could be split starts its backoff anew: the pieces have not failed on their own yet.
        """
        if pieces <= 1:
            return [self]
        self.failures = 1
        if len(self.letters) == 1:
            # Events of one session may not overtake each other: the first ones go now, the rest behind them.
            self.most = max(1, len(self.letters[0].parcel.events) // pieces)
            return [self]
        if pieces >= len(self.letters):
            most = 1 if pieces >= self.events else self.most
            return [Group([letter], self.failures, most=most) for letter in self.letters]
        size = -(-len(self.letters) // pieces)
        return [Group(self.letters[start : start + size], self.failures) for start in range(0, len(self.letters), size)]
