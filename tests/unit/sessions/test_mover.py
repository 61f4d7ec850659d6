"""Walks over what a process holds: everybody is looked at, whatever happens to one of them or to the table."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edge.clock import ManualClock
from edge.config import RouteSettings
from edge.model.cohort import Subject
from edge.model.release import ReleaseTable, Retirement, StoredTable
from edge.model.release_changes import add, promote, retire
from edge.sessions.mover import AGAIN_MS, LOOKED_AT_PER_TICK, MOVED_PER_TICK, TICK_MS, Mover
from edge.sessions.releases import Releases
from edge.wheel import Wheel

ROUTE = RouteSettings(backend="http://old", release="old", policy="pin")


class FakeLink:
    """As much of a link as the mover sees. `broken`: it cannot be moved."""

    def __init__(self, hall: Hall, id: str) -> None:
        self.id = id
        self.handle = SimpleNamespace(settings=ROUTE)
        self.ledger = SimpleNamespace(base=SimpleNamespace(release="old"), backlog=SimpleNamespace(seq=0))
        self.mailbox = self
        self.broken = False
        self._hall = hall

    def move(self, *, stay: bool) -> bool:
        if self.broken:
            raise RuntimeError("broken")
        row, now = self.ledger.base, self._hall.clock.wall_ms()
        chosen = self._hall.releases.choose(ROUTE, Subject(self.id), None, row.release, now, stay=stay).sha
        moved = chosen != row.release
        row.release = chosen
        return bool(moved)


class Hall:
    """A mover among links, and a clock that stands until it is told to go on."""

    def __init__(self, count: int) -> None:
        self.clock = ManualClock()
        self.wheel = Wheel(self.clock)
        self.releases = Releases()
        self.links = [FakeLink(self, f"x:{number}") for number in range(count)]
        held: Any = self.links
        self.mover = Mover(self.clock, self.wheel, self.releases, lambda: list(held))
        self._version = 0

    def write(self, table: ReleaseTable) -> None:
        self._version += 1
        self.releases.update("default", StoredTable(self._version, table.to_document()))
        self.mover.wake()

    def retire_old(self, how: Any = "now", for_ms: int = 0) -> None:
        table = promote(add(self.releases.table(ROUTE), "new", "http://new", 1), "new")
        self.write(retire(table, "old", Retirement(how, self.clock.wall_ms(), for_ms)))

    def go_on(self, ms: int) -> None:
        for _ in range(0, ms, TICK_MS):
            self.clock.advance(TICK_MS)
            self.wheel.advance()

    @property
    def on_old(self) -> int:
        return sum(link.ledger.base.release == "old" for link in self.links)


def test_everybody_is_moved_a_few_at_a_time_and_then_nothing_is_left_to_do() -> None:
    hall = Hall(3 * MOVED_PER_TICK)
    hall.retire_old()
    hall.go_on(TICK_MS)
    assert hall.on_old == 2 * MOVED_PER_TICK
    hall.go_on(5 * TICK_MS)
    assert hall.on_old == 0
    hall.go_on(2 * AGAIN_MS)
    assert hall.wheel.next_due_ms() is None


def test_those_that_cannot_be_moved_keep_nobody_else_and_are_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    hall = Hall(5)
    for link in hall.links[1:3]:
        link.broken = True
    hall.retire_old()
    hall.go_on(5 * TICK_MS)
    assert hall.on_old == 2
    told = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.exc_info is not None for record in told] == [True, False]  # however many there are
    assert told[1].getMessage().startswith("2 sessions could not be moved")
    for link in hall.links:
        link.broken = False
    hall.go_on(2 * AGAIN_MS)
    assert hall.on_old == 0


def test_changes_of_the_table_do_not_keep_those_at_the_back_waiting() -> None:
    hall = Hall(4 * LOOKED_AT_PER_TICK)
    hall.retire_old("at-most", 10)
    for _ in range(60):
        hall.write(hall.releases.table(ROUTE))
        hall.go_on(TICK_MS)
    assert hall.on_old == 0


def test_an_idle_one_leaves_and_one_that_something_happens_to_stays() -> None:
    hall = Hall(2)
    idle, busy = hall.links
    hall.retire_old("when-idle", 3_000)
    for _ in range(6):
        busy.ledger.backlog.seq += 1
        hall.go_on(AGAIN_MS)
    assert (idle.ledger.base.release, busy.ledger.base.release) == ("new", "old")
    hall.go_on(5 * AGAIN_MS)
    assert busy.ledger.base.release == "new"
