"""Release tables, one per app, and offices."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Mapping
from secrets import token_hex
from typing import Any

from edge.errors import StoreRefused
from edge.model.release import StoredTable
from edge.store import rows
from edge.store.keys import Keys
from edge.store.router import Router
from edge.store.scripts import OFFICE, RELEASE_TABLE
from edge.store.wire import Reply


class Releases:
    """`ReleaseStore` over a router."""

    def __init__(self, router: Router, keys: Keys) -> None:
        self._router = router
        self._keys = keys

    def releases(self, app: str) -> Future[StoredTable]:
        key = self._keys.releases(app)

        def table(reply: Reply) -> StoredTable:
            version, document = reply
            return StoredTable(int(version), rows.load(document)) if version else StoredTable()

        return self._router.send(("HMGET", key, "version", "table"), key, table, repeatable=True)

    def write_releases(self, app: str, document: Mapping[str, Any], expected: int) -> Future[bool]:
        try:
            value = rows.dump(dict(document))
        except (TypeError, ValueError) as error:
            return self._router.refused(StoreRefused(f"releases of {app}: {error}"))
        args = (expected, token_hex(8), value)
        return self._router.call(RELEASE_TABLE, (self._keys.releases(app),), args, _yes, repeatable=True)

    def hold_office(self, name: str, holder: str, ttl_ms: int) -> Future[bool]:
        return self._router.call(OFFICE, (self._keys.office(name),), (holder, ttl_ms), _yes, repeatable=True)


def _yes(reply: Reply) -> bool:
    return bool(reply)
