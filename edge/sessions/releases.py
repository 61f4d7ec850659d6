"""The release tables of all apps, as this edge knows them, and the operator's changes to them.

Owns the cache that `choose` reads on the hot path. The store has the truth; `refresh` copies it. Whoever hears that
another edge changed a table, or that the store is back, calls `refresh`; `changed` is called after a change of ours,
to tell the others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from edge.clock import Clock
from edge.config import RouteSettings
from edge.errors import NotAllowed, NotFound
from edge.model import release as rules
from edge.model.release import ReleaseEntry, ReleaseTable
from edge.store.base import ReleaseStore


class Releases:
    """Implements `ReleaseOperations` over a `ReleaseStore`.

    `routes` gives the routes as they are now (a reload may change them). Routes of one app share its table; an
    operator's question about an app is answered for its first route.
    """

    __slots__ = ("_changed", "_clock", "_routes", "_store", "_stored")

    def __init__(
        self,
        store: ReleaseStore,
        routes: Callable[[], Sequence[RouteSettings]],
        clock: Clock,
        changed: Callable[[str], Awaitable[None]],
    ) -> None:
        self._store = store
        self._routes = routes
        self._clock = clock
        self._changed = changed
        self._stored: dict[str, Mapping[str, Mapping[str, Any]]] = {}

    def table(self, route: RouteSettings) -> ReleaseTable:
        """The table of `route`'s app as last refreshed; never waits."""
        return ReleaseTable.of(route.release, route.backend, self._stored.get(route.app, {}))

    def choose(self, route: RouteSettings, pinned: str | None, held: str | None = None) -> ReleaseEntry:
        """Where the next event of a session on `route` goes; see `edge.model.release.choose_release`."""
        table = self.table(route)
        return table.entries[rules.choose_release(route.policy, pinned, table, held)]

    async def refresh(self, app: str | None = None) -> None:
        """Read the table of `app` (None: of all apps) from the store. `StoreUnavailable`: the old ones stay."""
        for name in {route.app for route in self._routes()} if app is None else {app}:
            self._stored[name] = await self._store.releases(name)

    async def releases(self, app: str) -> ReleaseTable:
        route = self._route(app)
        await self.refresh(app)
        return self.table(route)

    async def put_release(self, app: str, sha: str, url: str) -> ReleaseTable:
        table = await self.releases(app)
        entry = rules.add(table, sha, url, self._clock.wall_ms())
        patterns = [pattern for route in self._of(app) for pattern in route.release_urls]
        if not rules.url_allowed(patterns, sha, url):
            known = f"allowed are {', '.join(patterns)}" if patterns else "it is empty"
            raise NotAllowed(f"the route setting release_urls of app {app!r} does not allow this URL: {known}")
        return await self._write(app, entry)

    async def promote_release(self, app: str, sha: str) -> ReleaseTable:
        return await self._write(app, rules.promote(await self.releases(app), sha))

    async def retire_release(self, app: str, sha: str) -> ReleaseTable:
        return await self._write(app, rules.retire(await self.releases(app), sha))

    async def delete_release(self, app: str, sha: str) -> ReleaseTable:
        rules.delete(await self.releases(app), sha)
        await self._store.delete_release(app, sha)
        return await self._told(app)

    async def _write(self, app: str, entry: ReleaseEntry) -> ReleaseTable:
        await self._store.put_release(app, entry.sha, entry.to_stored())
        return await self._told(app)

    async def _told(self, app: str) -> ReleaseTable:
        table = await self.releases(app)
        await self._changed(app)
        return table

    def _of(self, app: str) -> Sequence[RouteSettings]:
        return [route for route in self._routes() if route.app == app]

    def _route(self, app: str) -> RouteSettings:
        routes = self._of(app)
        if not routes:
            raise NotFound(f"no route has the app {app!r}")
        return routes[0]
