"""The operator's side of releases: read the table of an app in the store, change it, tell everybody.

Which release a session goes to, and the copy of the tables that this is looked up in, is `edge.sessions.releases`'s;
the rules are `edge.model.release`'s and `edge.model.release_changes`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from edge.clock import Clock
from edge.config import RouteSettings
from edge.errors import Conflict, NotAllowed, NotFound, Unhealthy
from edge.model import release_changes as rules
from edge.model.release import ReleaseTable, StoredTable
from edge.model.release_url import url_allowed
from edge.store.base import ReleaseStore

Change = Callable[[ReleaseTable], ReleaseTable]
"""A step from one table to the next; the same table: there is nothing to change. May be called more than once."""

Changed = Callable[[str, StoredTable], Awaitable[None]]
"""(app, its table in the store): called after each change, to update this edge and tell the others to read again."""

Check = Callable[[str, str], Awaitable[str]]
"""(URL, health path or ``""``) → what is wrong with the release there, for people; ``""``: it is well."""

WRITES_MOST = 8
"""How often a change is tried again because somebody else was quicker."""


@dataclass(frozen=True, slots=True)
class NewRelease:
    """What an operator says of a release. `cohorts` None: as they are."""

    sha: str
    url: str
    health_path: str = ""
    checks: int = 1
    cohorts: Sequence[str] | None = None


class ReleaseDesk:
    """Implements `ReleaseOperations` over a `ReleaseStore`, but for the counts, which are the sessions'.

    `routes` gives the routes as they are now (a reload may change them). Routes of one app share its table in the
    store; an operator's question about an app is answered as its first route sees it.
    """

    __slots__ = ("_changed", "_check", "_clock", "_routes", "_store")

    def __init__(
        self,
        store: ReleaseStore,
        routes: Callable[[], Sequence[RouteSettings]],
        clock: Clock,
        changed: Changed,
        check: Check,
    ) -> None:
        self._store = store
        self._routes = routes
        self._clock = clock
        self._changed = changed
        self._check = check

    async def releases(self, app: str) -> ReleaseTable:
        return self._table(app, await self._store.releases(app))

    async def change_releases(self, app: str, change: Change) -> ReleaseTable:
        for _ in range(WRITES_MOST):
            table = await self.releases(app)
            changed = change(table)
            if changed is table:
                return table
            if await self._store.write_releases(app, changed.to_document(), table.version):
                stored = await self._store.releases(app)
                await self._changed(app, stored)
                return self._table(app, stored)
        raise Conflict(f"others are changing the releases of app {app!r} all the time; try again")

    async def put_release(self, app: str, new: NewRelease) -> ReleaseTable:
        table = await self.releases(app)
        now = self._clock.wall_ms()

        def change(table: ReleaseTable) -> ReleaseTable:
            return rules.add(
                table, new.sha, new.url, now, health_path=new.health_path, checks=new.checks, cohorts=new.cohorts
            )

        change(table)  # What is wrong with the request is said before anything is dialled.
        patterns = [pattern for route in self._of(app) for pattern in route.release_urls]
        if not url_allowed(patterns, new.sha, new.url):
            known = f"it has {', '.join(patterns)}" if patterns else "it is empty"
            raise NotAllowed(f"the route setting release_urls of app {app!r} does not allow this URL: {known}")
        problem = await self._check(new.url, new.health_path)
        if problem:
            raise Unhealthy(f"release {new.sha!r} does not pass its health check: {problem}; nothing was changed")
        return await self.change_releases(app, change)

    def _table(self, app: str, stored: StoredTable) -> ReleaseTable:
        route = self._of(app)[0]
        return ReleaseTable.of(route.release, route.backend, stored)

    def _of(self, app: str) -> Sequence[RouteSettings]:
        """The app's routes, at least one. `NotFound`."""
        routes = [route for route in self._routes() if route.app == app]
        if not routes:
            apps = ", ".join(sorted({route.app for route in self._routes()})) or "none"
            raise NotFound(f"no route has the app {app!r}; there are: {apps}")
        return routes
