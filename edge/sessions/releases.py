"""Which release a session's next event goes to: the configured one of its route, and what the store adds to it.

Tables are read from the store when the edge starts, when a neighbour says that one has changed, and now and then
besides; between that, choosing is a dictionary look-up. Without Redis the last table known stands.
"""

from __future__ import annotations

from collections.abc import Callable

from edge.backend.base import Release
from edge.config import RouteSettings
from edge.model.cohort import Subject, match_handshake
from edge.model.release import NOTHING_STORED, ReleaseTable, StoredTable, choose_release
from edge.protocol.callbacks.events import ClientRequest

MATCHES_MOST = 1_024
"""Sets of rules that are shared; past them, shared ones are remembered anew."""


class Releases:
    """Release tables per app, and the choice for one session."""

    __slots__ = ("_changed", "_chosen", "_matches", "_stored", "_tables", "version")

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        """`changed` is called after each change of a table, so that what waits for a release can be handed on."""
        self._changed = changed
        self.version = 0
        """Rises whenever a choice may come out differently than before: what was chosen may be kept until then."""
        self._stored: dict[str, StoredTable] = {}
        self._tables: dict[tuple[str, str, str], ReleaseTable] = {}
        self._chosen: dict[tuple[str, str, str], Release] = {}
        self._matches: dict[frozenset[str], frozenset[str]] = {}

    def table(self, route: RouteSettings) -> ReleaseTable:
        """All releases of the route's app as this edge knows them now."""
        key = (route.app, route.release, route.backend)
        table = self._tables.get(key)
        if table is None:
            table = ReleaseTable.of(route.release, route.backend, self._stored.get(route.app, NOTHING_STORED))
            self._tables[key] = table
        return table

    def choose(
        self,
        route: RouteSettings,
        subject: Subject,
        pinned: str | None,
        held: str | None,
        now: int,
        *,
        stay: bool = True,
    ) -> Release:
        """The release for a session of `route`; see `choose_release`. The same object while nothing changes."""
        table = self.table(route)
        sha = choose_release(route.policy, pinned, table, subject, held, now, stay=stay)
        url = table.entries[sha].url
        key = (route.app, sha, url)
        release = self._chosen.get(key)
        if release is None:
            release = self._chosen[key] = Release(route.app, sha, url)
        return release

    def match(self, route: RouteSettings, request: ClientRequest) -> frozenset[str]:
        """The texts of the cohort rules that a handshake meets. Sessions that meet the same ones share the set."""
        matched = match_handshake(self.table(route).rules, request.headers, request.query)
        if len(self._matches) >= MATCHES_MOST:
            self._matches.clear()
        return self._matches.setdefault(matched, matched) if matched else matched

    def update(self, app: str, stored: StoredTable) -> None:
        """The store's table of `app`, as read just now."""
        if self._stored.get(app, NOTHING_STORED).version != stored.version:
            self._stored[app] = stored
            self.forget_tables()

    def forget_tables(self) -> None:
        """Routes were replaced by a reload, or a table changed: put them together anew when asked."""
        self.version += 1
        self._tables.clear()
        self._chosen.clear()
        self._changed()
