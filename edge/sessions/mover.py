"""Moves sessions to the release that is chosen for them now, also those that nothing happens to.

A session goes to another release by itself at its next event. Who waits for that waits as long as the quietest client
likes; so after each change of a release table everything this process holds is walked once, in small slices, and what
belongs elsewhere is moved, its backend told by a `release` event. While a release is being emptied, its sessions are
looked at once a second, until none is left. There is nothing to do, and no timer, otherwise.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edge.clock import Clock
from edge.config import RouteSettings
from edge.model.release import ReleaseEntry, Retirement
from edge.sessions.links.link import Link
from edge.sessions.local_session import LocalSession
from edge.sessions.releases import Releases
from edge.wheel import Alarm, Wheel

_log = logging.getLogger("holdfast.releases")

TICK_MS = 20
LOOKED_AT_PER_TICK = 500
"""Looking costs a few microseconds each: a tick holds the loop for a few milliseconds at most."""
MOVED_PER_TICK = 40
"""2,000 a second: each is an event for the new release, and a write of the session's row."""
AGAIN_MS = 1_000
"""Between two looks at sessions that are to leave some time."""

Held = LocalSession | Link
Key = tuple[str, str, int]
"""A retirement: app, SHA, its number."""


@dataclass(slots=True)
class _Stillness:
    """What a session that has to be idle to leave was seen at: the number of its last event, since wall ms."""

    number: int
    since: int


class Mover:
    """See the module's docstring. `wake` after every change of a table; everything else happens by itself."""

    def __init__(self, clock: Clock, wheel: Wheel, releases: Releases, held: Callable[[], Iterable[Held]]) -> None:
        self._clock = clock
        self._wheel = wheel
        self._releases = releases
        self._held = held
        self._queue: deque[Held] = deque()
        self._alarm: Alarm | None = None
        self._changed = False
        """A table has changed since the last walk began."""
        self._everything = False
        """This walk looks at all sessions, not only at those that are to leave."""
        self._more = False
        """Somebody is on a release that is being emptied, or could not be moved yet."""
        self._moved = self._failed = 0
        """In this walk."""
        self._still: dict[str, _Stillness] = {}
        self._noticed: dict[Key, set[str]] = {}
        self._met: set[str] = set()
        """Who was on a release that is being emptied, in this walk."""

    def wake(self) -> None:
        """A table has changed: walk everything, behind the walk that is under way if there is one."""
        self._changed = True
        if not self._queue:
            self._set_alarm(TICK_MS)

    def stop(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _set_alarm(self, delay_ms: int) -> None:
        self.stop()
        self._alarm = self._wheel.after(delay_ms, self._tick)

    def _tick(self) -> None:
        self._alarm = None
        if not self._queue:
            self._begin()
        moved = 0
        for _ in range(min(LOOKED_AT_PER_TICK, len(self._queue))):
            held = self._queue.popleft()
            moved += self._tried(held)
            if moved >= MOVED_PER_TICK:
                break
        self._moved += moved
        if self._queue:
            self._set_alarm(TICK_MS)
        else:
            self._end()

    def _begin(self) -> None:
        self._queue.extend(self._held())
        self._more = False
        self._everything, self._changed = self._changed, False

    def _end(self) -> None:
        if self._moved:
            _log.info("%d sessions were moved to other releases", self._moved)
        if self._failed:
            _log.error("%d sessions could not be moved to other releases; trying again", self._failed)
        self._moved = self._failed = 0
        # Who was not met in this walk has left, or has ended.
        self._still = {id: still for id, still in self._still.items() if id in self._met}
        self._noticed = {key: told & self._met for key, told in self._noticed.items() if told & self._met}
        self._met.clear()
        if self._changed:
            self._set_alarm(TICK_MS)
        elif self._more:
            self._set_alarm(AGAIN_MS)

    def _tried(self, held: Held) -> bool:
        """A mistake in one session must not keep the others where they are."""
        try:
            return self._see_to(held)
        except Exception:
            if not self._failed:  # the first says what is wrong, as a rule with all of them
                _log.exception("a session could not be moved to another release")
            self._failed += 1
            self._more = True
            return False

    def _see_to(self, held: Held) -> bool:
        """True: it was moved."""
        route, before = _route(held), _release(held)
        table = self._releases.table(route)
        entry = table.entries.get(before)
        if entry is not None and entry.state == "draining" and entry.retirement is not None:
            return self._see_off(held, route, entry, entry.retirement)
        if not self._everything or not _move(held, stay=True):
            return False
        if table.notice and isinstance(held, LocalSession):
            held.notify(table.notice)
        return True

    def _see_off(self, held: Held, route: RouteSettings, entry: ReleaseEntry, retirement: Retirement) -> bool:
        """`held` is on a release that is being emptied."""
        id = held.session if isinstance(held, LocalSession) else held.id
        self._met.add(id)
        self._notice(held, id, (route.app, entry.sha, retirement.number), retirement.notice)
        stay = retirement.how != "when-idle" or not self._idle_for(held, id, retirement.for_ms)
        if _move(held, stay=stay):
            self._still.pop(id, None)
            return True
        self._more = True
        return False

    def _idle_for(self, held: Held, id: str, for_ms: int) -> bool:
        number, now = _number(held), self._clock.wall_ms()
        seen = self._still.get(id)
        if seen is None or seen.number != number:
            self._still[id] = _Stillness(number, now)
            return for_ms <= 0
        return now - seen.since >= for_ms

    def _notice(self, held: Held, id: str, key: Key, text: str) -> None:
        """Tell the client, once, that its release is going away."""
        if not text or not isinstance(held, LocalSession):
            return
        told = self._noticed.setdefault(key, set())
        if id not in told:
            told.add(id)
            held.notify(text)


def _route(held: Held) -> RouteSettings:
    return held.route if isinstance(held, LocalSession) else held.handle.settings


def _release(held: Held) -> str:
    return held.model.release if isinstance(held, LocalSession) else held.ledger.base.release


def _number(held: Held) -> int:
    """Rises with each event."""
    return held.model.number if isinstance(held, LocalSession) else held.ledger.backlog.seq


def _move(held: Held, *, stay: bool) -> bool:
    return held.move(stay=stay) if isinstance(held, LocalSession) else held.mailbox.move(stay=stay)
