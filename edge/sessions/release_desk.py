"""The operator's side of releases: read the table of an app in the store, change it, tell everybody.

Which release a session goes to, and the copy of the tables that this is looked up in, is `edge.sessions.releases`'s;
the rules are `edge.model.release`'s.
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

Changed = Callable[[str, Mapping[str, Mapping[str, Any]]], Awaitable[None]]
"""(app, its table in the store): called after each change, to update this edge and tell the others to read again."""


class ReleaseDesk:
    """Implements `ReleaseOperations` over a `ReleaseStore`.

    `routes` gives the routes as they are now (a reload may change them). Routes of one app share its table in the
    store; an operator's question about an app is answered as its first route sees it.
    """

    __slots__ = ("_changed", "_clock", "_routes", "_store")

    def __init__(
        self,
        store: ReleaseStore,
        routes: Callable[[], Sequence[RouteSettings]],
        clock: Clock,
        changed: Changed,
    ) -> None:
        self._store = store
        self._routes = routes
        self._clock = clock
        self._changed = changed

    async def releases(self, app: str) -> ReleaseTable:
        route = self._of(app)[0]
        return ReleaseTable.of(route.release, route.backend, await self._store.releases(app))

    async def put_release(self, app: str, sha: str, url: str) -> ReleaseTable:
        entry = rules.add(await self.releases(app), sha, url, self._clock.wall_ms())
        patterns = [pattern for route in self._of(app) for pattern in route.release_urls]
        if not rules.url_allowed(patterns, sha, url):
            known = f"it has {', '.join(patterns)}" if patterns else "it is empty"
            raise NotAllowed(f"the route setting release_urls of app {app!r} does not allow this URL: {known}")
        return await self._write(app, entry)

    async def promote_release(self, app: str, sha: str) -> ReleaseTable:
        return await self._write(app, rules.promote(await self.releases(app), sha))

    async def retire_release(self, app: str, sha: str) -> ReleaseTable:
        return await self._write(app, rules.retire(await self.releases(app), sha))

    async def delete_release(self, app: str, sha: str) -> ReleaseTable:
        rules.delete(await self.releases(app), sha)
        await self._store.delete_release(app, sha)
        return await self._tell(app)

    async def _write(self, app: str, entry: ReleaseEntry) -> ReleaseTable:
        await self._store.put_release(app, entry.sha, entry.to_stored())
        return await self._tell(app)

    async def _tell(self, app: str) -> ReleaseTable:
        stored = await self._store.releases(app)
        await self._changed(app, stored)
        route = self._of(app)[0]
        return ReleaseTable.of(route.release, route.backend, stored)

    def _of(self, app: str) -> Sequence[RouteSettings]:
        """The app's routes, at least one. `NotFound`."""
        routes = [route for route in self._routes() if route.app == app]
        if not routes:
            raise NotFound(f"no route has the app {app!r}")
        return routes
