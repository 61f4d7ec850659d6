"""The store on Redis: one router for commands, one bus for what is heard, and the tables between them.

`open_store` is the way in. What is promised stands in `edge.store.base`; how it is kept:
`router` and `lane` (pipelines, order, deadlines), `lua/` (one atomic operation per file), `bus` and
`bus_node`
(subscriptions), `sessions`, `channels`, `leases`, `links`, `releases` (keys and their order of writes).
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge.clock import Clock
from edge.config import EdgeSettings
from edge.config.redis_address import parse_address
from edge.errors import StoreUnavailable
from edge.model.release import StoredTable
from edge.store.base import (
    PUBLICATION_ID_TTL_MS,
    BusListener,
    Committed,
    HistoryPage,
    HistoryPolicy,
    LeaseState,
    Patch,
    Position,
    Published,
    SessionRow,
    Store,
    StoreHealth,
)
from edge.store.bus import Bus
from edge.store.channels import Channels
from edge.store.keys import Keys
from edge.store.leases import Leases, MailBox
from edge.store.links import Links
from edge.store.links_base import LinkStore
from edge.store.releases import Releases
from edge.store.router import Router
from edge.store.sessions import Sessions
from edge.telemetry.metrics import ProcessMeters


def open_store(
    settings: EdgeSettings, edge_id: str, clock: Clock, *, prefix: str = "hf:", meters: ProcessMeters | None = None
) -> Store:
    """A store at `settings.redis`, not yet connected (`Store.start`). Keys begin with `prefix`. What it does is
    counted in `meters`.
    Raises ConfigError for a URL that does not parse, OSError for TLS files that cannot be read."""
    router = Router(
        parse_address(settings.redis),
        clock,
        wait_s=settings.store_wait_s,
        queue=settings.store_queue,
        meters=meters or ProcessMeters(),
    )
    return RedisStore(router, edge_id, Keys(prefix))


class RedisStore:
    """`Store`, by delegation: every method is one line to the table that owns it."""

    def __init__(self, router: Router, edge_id: str, keys: Keys) -> None:
        self._router = router
        self._sessions = Sessions(router, keys)
        self._channels = Channels(router, keys)
        self._leases = Leases(router, keys, self._sessions)
        self._mail = MailBox(router, keys, edge_id)
        self._releases = Releases(router, keys)
        self._bus = Bus(router, keys, edge_id)
        self._links = Links(router, keys)

    def __repr__(self) -> str:
        return f"<RedisStore at {self._router.address}>"

    @property
    def round_trips(self) -> int:
        """Pipelines written so far, over all servers."""
        return self._router.meters.store_round_trips.value

    # ------------------------------------------------------------------ Store

    @property
    def links(self) -> LinkStore:
        return self._links

    def start(self, listener: BusListener) -> Future[None]:
        self._router.start()
        return asyncio.get_running_loop().create_task(self._started(self._bus.start(listener)))

    async def _started(self, listening: Future[None]) -> None:
        try:
            await listening
            await self._router.connected()
        except StoreUnavailable:
            raise StoreUnavailable(f"{self._router.address}: {self._router.health().error}") from None

    def health(self) -> StoreHealth:
        return self._router.health()

    def on_health(self, changed: Callable[[bool], None]) -> None:
        self._router.on_health(changed)

    async def close(self) -> None:
        await self._router.close()
        await self._bus.close()

    # ------------------------------------------------------------------ SessionStore

    def register(self, row: SessionRow) -> Future[None]:
        return self._sessions.register(row)

    def commit(self, patch: Patch) -> Future[Committed]:
        return self._sessions.commit(patch)

    def forget(self, session: str, owner: str, fence: int) -> Future[None]:
        return self._sessions.forget(session, owner, fence)

    def load(self, session: str) -> Future[SessionRow | None]:
        return self._sessions.load(session)

    def sessions_of_user(self, user: str) -> Future[Sequence[SessionRow]]:
        return self._sessions.sessions_of_user(user)

    # ------------------------------------------------------------------ ChannelStore

    def publish(
        self,
        channel: str,
        payload: str | bytes,
        policy: HistoryPolicy,
        *,
        sender: str | None = None,
        id: str | None = None,
        id_ttl_ms: int = PUBLICATION_ID_TTL_MS,
    ) -> Future[Published]:
        return self._channels.publish(channel, payload, policy, sender, id, id_ttl_ms)

    def history(self, channel: str, since: Position | None, limit: int) -> Future[HistoryPage]:
        return self._channels.history(channel, since, limit)

    def position(self, channel: str) -> Future[Position]:
        return self._channels.position(channel)

    def subscribe(self, channel: str) -> Future[None]:
        return self._bus.subscribe(channel)

    def unsubscribe(self, channel: str) -> None:
        self._bus.unsubscribe(channel)

    # ------------------------------------------------------------------ Mail

    def send(self, edge: str, body: bytes) -> Future[None]:
        return self._mail.send(edge, body)

    # ------------------------------------------------------------------ LeaseStore

    def renew(self, edge: str, lease_ms: int, info: Mapping[str, str]) -> Future[LeaseState]:
        return self._leases.renew(edge, lease_ms, info)

    def release(self, edge: str) -> Future[None]:
        return self._leases.release(edge)

    def edges(self) -> Future[Mapping[str, Mapping[str, str]]]:
        return self._leases.edges()

    def owned(self, edge: str) -> Future[Sequence[str]]:
        return self._leases.owned(edge)

    def lapsed(self) -> Future[Sequence[str]]:
        return self._leases.lapsed()

    def claim_estate(self, dead: str, by: str, claim_ms: int) -> Future[bool]:
        return self._leases.claim_estate(dead, by, claim_ms)

    def estate(self, dead: str, limit: int) -> Future[Sequence[SessionRow]]:
        return self._leases.estate(dead, limit)

    def inherit(self, row: SessionRow, by: str) -> Future[SessionRow]:
        return self._leases.inherit(row, by)

    def bury(self, dead: str) -> Future[None]:
        return self._leases.bury(dead)

    # ------------------------------------------------------------------ ReleaseStore

    def releases(self, app: str) -> Future[StoredTable]:
        return self._releases.releases(app)

    def write_releases(self, app: str, document: Mapping[str, Any], expected: int) -> Future[bool]:
        return self._releases.write_releases(app, document, expected)

    def hold_office(self, name: str, holder: str, ttl_ms: int) -> Future[bool]:
        return self._releases.hold_office(name, holder, ttl_ms)
