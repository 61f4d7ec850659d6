"""What waits at one pool, in three places: mailboxes that became ready (in that order, not asked for their events
yet), groups that failed and may be tried now, and groups that failed and have to wait (a heap by due time).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence

from edge.backend.base import Mailbox, Release
from edge.backend.context import Context
from edge.backend.letters import Group, Letter
from edge.backend.outcomes import Outcomes
from edge.config import RouteSettings
from edge.model.retry import backoff_ms
from edge.protocol.callbacks.events import Message

SMALL_EVENT_BYTES = 256
"""What an event without a payload counts for in a batch."""
SETTLING_MS = 20
"""Until the next look at a session whose answers were still being applied: about a round trip to a busy Redis."""
EVERYTHING = 1 << 40


class Backlog:
    """Changed by the pool only, and without side effects but for settling what expires."""

    __slots__ = ("_context", "_due", "_later", "_outcomes", "_pushes", "_release", "_waiting", "route")

    def __init__(self, context: Context, route: RouteSettings, release: Release, outcomes: Outcomes) -> None:
        self.route = route
        self._context = context
        self._release = release
        self._outcomes = outcomes
        self._waiting: deque[tuple[Mailbox, int]] = deque()
        self._due: deque[Group] = deque()
        self._later: list[tuple[int, int, Group]] = []
        self._pushes = 0

    # -- coming in ---------------------------------------------------------------------------------------------

    def ready(self, mailbox: Mailbox, since_ms: int) -> None:
        """`mailbox` has events, since `since_ms`."""
        self._waiting.append((mailbox, since_ms))

    def now(self, groups: Sequence[Group]) -> None:
        """Try these as soon as there is room."""
        self._due.extend(groups)

    def later(self, groups: Sequence[Group], phrase: str, now: int, after_ms: int | None = None) -> None:
        """Try these again after `after_ms`, or after their backoff: at the latest, and for the last time, when their
        window ends. Those whose window is over already end with `phrase`."""
        for group in groups:
            for letter in group.remove_expired(now):
                self._outcomes.expired(letter, phrase, after_ms)
            if not group.letters:
                continue
            group.told = after_ms is not None
            wait = after_ms if after_ms is not None else backoff_ms(group.failures, self._context.random)
            self._pushes += 1
            due = min(now + wait, group.expires_ms)
            heapq.heappush(self._later, (due, self._pushes, group))

    # -- going out ---------------------------------------------------------------------------------------------

    @property
    def groups_due(self) -> int:
        return len(self._due)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def pending(self) -> bool:
        """Something could leave now."""
        return bool(self._waiting or self._due)

    @property
    def empty(self) -> bool:
        return not (self._waiting or self._due or self._later)

    def groups(self) -> Iterator[Group]:
        """All groups, due or not."""
        yield from self._due
        yield from (group for _, _, group in self._later)

    def wake(self, now: int) -> None:
        """What has waited for long enough is due."""
        while self._later and self._later[0][0] <= now:
            self._due.append(heapq.heappop(self._later)[2])

    def wake_all(self) -> None:
        """The release is back: everything is due, but for what it asked to come later itself."""
        self._due.extend(entry[2] for entry in sorted(self._later) if not entry[2].told)
        self._later = [entry for entry in self._later if entry[2].told]
        heapq.heapify(self._later)

    def next_group(self, share: int, *, fresh_first: bool) -> Group | None:
        """The next request's letters: a failed group, else up to `share` mailboxes that wait."""
        while self._due and not (fresh_first and self._waiting):
            group = self._due.popleft()
            group.letters = self._settled(self._staying(group.letters), group)
            if group.letters:
                for letter in group.letters:
                    letter.next_parcel(group.most, self._release.sha)
                return group
        letters = self._take(share)
        return Group(letters) if letters else None

    def _take(self, share: int) -> list[Letter]:
        pool, release = self.route.pool, self._release
        window_ms = self._window_ms
        waiting = self._waiting
        letters: list[Letter] = []
        events, size = pool.batch_events, pool.batch_bytes
        while waiting and events > 0 and size > 0 and len(letters) < share:
            mailbox, since = waiting.popleft()
            if self._context.belongs_elsewhere(mailbox, release):
                self._context.ready(mailbox, since)
                continue
            parcel = mailbox.take(events, size)
            for event in parcel.events:
                size -= len(event.payload) if type(event) is Message else SMALL_EVENT_BYTES
            if parcel.events:
                letters.append(Letter(mailbox, parcel, since + window_ms))
                events -= len(parcel.events)
        return letters

    # -- going elsewhere ---------------------------------------------------------------------------------------

    def reroute(self) -> None:
        """Hand on everything that waits here but belongs to another release now."""
        for _ in range(len(self._waiting)):
            mailbox, since = self._waiting.popleft()
            if self._context.belongs_elsewhere(mailbox, self._release):
                self._context.ready(mailbox, since)
            else:
                self._waiting.append((mailbox, since))
        for group in self.groups():
            group.letters = self._staying(group.letters)
        self._due = deque(group for group in self._due if group.letters)
        self._later = [entry for entry in self._later if entry[2].letters]
        heapq.heapify(self._later)

    def _staying(self, letters: list[Letter]) -> list[Letter]:
        """Those that still belong here; the others are handed on."""
        staying = []
        for letter in letters:
            if self._context.belongs_elsewhere(letter.mailbox, self._release):
                self._context.adopt(letter)
            else:
                staying.append(letter)
        return staying

    def _settled(self, letters: list[Letter], group: Group) -> list[Letter]:
        """Those whose sessions have taken in all answers so far. The state that the others' next events would be sent
        with is not known yet: they are left for a little later."""
        settled = [letter for letter in letters if not letter.mailbox.settling]
        if len(settled) < len(letters):
            due = self._context.clock.monotonic_ms() + SETTLING_MS
            for letter in letters:
                if letter.mailbox.settling:
                    self._pushes += 1
                    alone = Group([letter], group.failures, told=group.told, most=group.most)
                    heapq.heappush(self._later, (due, self._pushes, alone))
        return settled

    def expire(self, now: int, last_error: str) -> None:
        """Give up on what could have left, had the release been there, and has waited for a whole window."""
        window_ms = self._window_ms
        while self._waiting and self._waiting[0][1] + window_ms <= now:
            mailbox, since = self._waiting.popleft()
            parcel = mailbox.take(EVERYTHING, EVERYTHING)
            if parcel.events:
                self._outcomes.expired(Letter(mailbox, parcel, since + window_ms), last_error)
        for group in [group for group in self._due if group.expires_ms <= now]:
            for letter in group.remove_expired(now):
                self._outcomes.expired(letter, last_error)
        self._due = deque(group for group in self._due if group.letters)

    def wake_at(self, *, failing: bool) -> int | None:
        """When `wake` has something to do; while the release is failing, also when `expire` has."""
        dues = [self._later[0][0]] if self._later else []
        if failing:
            if self._waiting:
                dues.append(self._waiting[0][1] + self._window_ms)
            dues.extend([group.expires_ms for group in self._due])
        return min(dues) if dues else None

    def clear(self) -> None:
        self._waiting.clear()
        self._due.clear()
        self._later.clear()

    @property
    def _window_ms(self) -> int:
        return round(self.route.timeouts.retry_window_s * 1000)
