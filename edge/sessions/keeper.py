"""The keeper of the releases: sees that what was ordered comes to its end, whoever gave the order and is gone since.

It asks releases that warm up whether they are well, marks emptied ones as empty, lets a canary go on or takes it back,
and tells an operator's webhook. Of all workers of all edges on a Redis one has the office, for a few seconds at a time;
when it dies another one takes it. Each change is a step of the table under its version: a keeper that has lost its
office without knowing it can do no harm, as what it decided on is not there any more.

A canary's figures are counted from when its keeper first sees a step: a new keeper begins its present step anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from edge.clock import Clock
from edge.errors import HoldfastError
from edge.model import release_changes as rules
from edge.model.canary import Figures, Step, decide
from edge.model.release import Canary, ReleaseCounts, ReleaseEntry, ReleaseTable
from edge.sessions.release_desk import Change, Check
from edge.store.base import ReleaseStore

_log = logging.getLogger("holdfast.releases")

OFFICE = "keeper"
ROUND_S = 1.0
TERM_MS = 4_000
"""For how long the office is held without a sign of life."""
EMPTY_ROUNDS = 2
"""Counts of 0 in a row: a session may be between two edges during one."""
TELL_COUNT_MS = 10_000
"""The falling count of a release is told at most this often."""


class Desk(Protocol):
    """What the keeper needs of the operations."""

    async def releases(self, app: str) -> ReleaseTable: ...

    async def change_releases(self, app: str, change: Change) -> ReleaseTable: ...

    async def release_counts(self, app: str) -> ReleaseCounts: ...

    async def release_figures(self, app: str, sha: str) -> tuple[Mapping[str, Figures], bool]:
        """By edge; and whether all live edges have answered."""
        ...


class Keeper:
    """One worker's candidate for the office. `apps` gives the apps there are now, `tell` takes news."""

    def __init__(
        self,
        edge_id: str,
        store: ReleaseStore,
        desk: Desk,
        check: Check,
        clock: Clock,
        apps: Callable[[], Sequence[str]],
        tell: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._edge_id = edge_id
        self._store = store
        self._desk = desk
        self._check = check
        self._clock = clock
        self._apps = apps
        self._tell = tell
        self._task: asyncio.Task[None] | None = None
        self._in_office = False
        self._seen: dict[str, ReleaseTable] = {}
        self._zeros: dict[tuple[str, str], int] = {}
        self._steps: dict[str, Step] = {}
        self._checks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._counted_at: dict[tuple[str, str], tuple[int, int]] = {}

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        tasks = [task for task in (self._task, *self._checks.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(ROUND_S)
            try:
                await self._round()
            except HoldfastError as error:
                _log.debug("the releases were not looked after: %s", error)
            except Exception:
                _log.exception("the releases were not looked after")

    async def _round(self) -> None:
        if not await self._store.hold_office(OFFICE, self._edge_id, TERM_MS):
            self._leave()
            return
        self._in_office = True
        for app in self._apps():
            await self._look_after(app)

    def _leave(self) -> None:
        """What was seen in office is out of date when it comes back."""
        if self._in_office:
            self._in_office = False
            for memory in (self._seen, self._zeros, self._steps, self._counted_at):
                memory.clear()

    async def _look_after(self, app: str) -> None:
        table = await self._desk.releases(app)
        self._report(app, table)
        for entry in table.entries.values():
            if entry.state == "warming" and (app, entry.sha) not in self._checks:
                task = asyncio.get_running_loop().create_task(self._warm(app, entry))
                self._checks[app, entry.sha] = task
                task.add_done_callback(partial(self._checked, app, entry.sha))
        if any(entry.state == "draining" for entry in table.entries.values()):
            await self._see_empty(app, table)
        if table.canary is not None and table.canary.running:
            await self._guard(app, table.canary)
        else:
            self._steps.pop(app, None)

    # Warming.

    async def _warm(self, app: str, entry: ReleaseEntry) -> None:
        problem = await self._check(entry.url, entry.health_path)
        await self._change(app, partial(rules.checked, sha=entry.sha, error=problem))

    def _checked(self, app: str, sha: str, task: asyncio.Task[None]) -> None:
        self._checks.pop((app, sha), None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("release %s of %s could not be checked: %s", sha, app, error)

    # Draining.

    async def _see_empty(self, app: str, table: ReleaseTable) -> None:
        counts = await self._desk.release_counts(app)
        for entry in table.entries.values():
            if entry.state != "draining":
                continue
            key, count = (app, entry.sha), counts.of(entry.sha)
            self._zeros[key] = self._zeros.get(key, 0) + 1 if count == 0 else 0
            if self._zeros[key] >= EMPTY_ROUNDS:
                self._zeros.pop(key)
                self._counted_at.pop(key, None)
                await self._change(app, partial(rules.emptied, sha=entry.sha, now=self._clock.wall_ms()))
            elif count:
                self._tell_count(app, entry.sha, count)

    def _tell_count(self, app: str, sha: str, count: int) -> None:
        now = self._clock.wall_ms()
        at, before = self._counted_at.get((app, sha), (0, -1))
        if count != before and now - at >= TELL_COUNT_MS:
            self._counted_at[app, sha] = (now, count)
            self._news("release.sessions", app, sha, sessions=count)

    # The canary.

    async def _guard(self, app: str, canary: Canary) -> None:
        figures, complete = await self._desk.release_figures(app, canary.sha)
        step = self._steps.get(app)
        if step is None or not step.is_of(canary):
            self._steps[app] = Step.begin(canary, figures)
            return
        step.add(figures)
        now = self._clock.wall_ms()
        decision = decide(canary, step.figures, now)
        if decision.what == "wait" or (decision.what == "go on" and not complete):
            return
        _log.log(
            logging.WARNING if decision.what == "take back" else logging.INFO,
            "canary %s of %s at %d %%: %s: %s", canary.sha, app, canary.percent, decision.what, decision.reason,
        )  # fmt: skip

        def change(table: ReleaseTable) -> ReleaseTable:
            if table.canary is None or not table.canary.running or not step.is_of(table.canary):
                return table  # somebody else has decided meanwhile
            if decision.what == "take back":
                return rules.end_canary(table, decision.reason, now, breach=True)
            return rules.next_step(table, now)

        await self._change(app, change)

    async def _change(self, app: str, change: Change) -> None:
        self._report(app, await self._desk.change_releases(app, change))

    # News.

    def _report(self, app: str, table: ReleaseTable) -> None:
        """Tell what has changed since the table was seen last; a new keeper begins with what it finds."""
        before, self._seen[app] = self._seen.get(app), table
        if before is None or before.version == table.version:
            return
        changed = [
            entry
            for sha, entry in table.entries.items()
            if sha not in before.entries or before.entries[sha].state != entry.state
        ]
        # Of several changes in one round, in the order they can have come in.
        for entry in changed:
            if entry.state in ("warming", "active"):
                self._news(f"release.{entry.state}", app, entry.sha)
        if before.current.sha != table.current.sha:
            self._news("release.promoted", app, table.current.sha, before=before.current.sha)
        elif before.weights != table.weights:
            self._news("release.weights", app, table.current.sha, weights=dict(table.weights))
        for entry in changed:
            if entry.state in ("draining", "empty"):
                self._news(f"release.{entry.state}", app, entry.sha)
        for sha in before.entries.keys() - table.entries.keys():
            self._news("release.removed", app, sha)
        self._report_canary(app, before.canary, table.canary)

    def _report_canary(self, app: str, before: Canary | None, canary: Canary | None) -> None:
        if canary is None or canary == before:
            return
        kind = "step" if canary.running else canary.outcome
        self._news(f"canary.{kind}", app, canary.sha, share=canary.percent, reason=canary.reason)

    def _news(self, type: str, app: str, sha: str, **more: Any) -> None:
        self._tell({"type": type, "at": self._clock.wall_ms(), "app": app, "sha": sha, **more})
