"""Releases that were added at run time: one hash per app."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Mapping
from typing import Any

from edge.errors import StoreRefused
from edge.store import rows
from edge.store.keys import Keys
from edge.store.router import Router
from edge.store.sessions import nothing
from edge.store.wire import Reply


class Releases:
    """`ReleaseStore` over a router."""

    def __init__(self, router: Router, keys: Keys) -> None:
        self._router = router
        self._keys = keys

    def releases(self, app: str) -> Future[Mapping[str, Mapping[str, Any]]]:
        key = self._keys.releases(app)

        def by_sha(reply: Reply) -> Mapping[str, Mapping[str, Any]]:
            pairs = zip(reply[::2], reply[1::2], strict=True)
            return {sha.decode(): rows.load(fields) for sha, fields in pairs}

        return self._router.send(("HGETALL", key), key, by_sha, repeatable=True)

    def put_release(self, app: str, sha: str, fields: Mapping[str, Any]) -> Future[None]:
        key = self._keys.releases(app)
        try:
            value = rows.dump(dict(fields))
        except (TypeError, ValueError) as error:
            return self._router.refused(StoreRefused(f"release {sha}: {error}"))
        return self._router.send(("HSET", key, sha, value), key, nothing, repeatable=True)

    def delete_release(self, app: str, sha: str) -> Future[None]:
        key = self._keys.releases(app)
        return self._router.send(("HDEL", key, sha), key, nothing, repeatable=True)
