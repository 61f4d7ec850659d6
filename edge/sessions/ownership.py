"""Ownership: this edge's lease, and the estates of edges that died.

Owns one task per process. It renews the lease; puts back the rows of its sessions when Redis has lost its data; lets
go of everything when another edge has declared this one dead; and, when an edge's lease has lapsed, takes its sessions
over and tells their backends of the end, once each (a survivor that dies at it leaves them in its own estate).

An edge judges others only after its own lease has held for a whole lease time: when Redis comes back after an outage,
everybody's lease has lapsed, and nobody is dead.

After an outage nobody knows what Redis still has: all of it, none, or the state of some minutes ago. So every row is
written again, and rows in our name whose sessions are over are deleted: left behind, they would be reported as ended
once more when this edge ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from edge.errors import FenceRefused, StoreError, StoreUnavailable
from edge.sessions.links.house import CHECK_MS, House
from edge.sessions.local_session import LocalSession
from edge.sessions.routes import RouteHandle
from edge.sessions.services import Services
from edge.store.base import SessionRow

_log = logging.getLogger("holdfast.ownership")

ESTATE_PAGE = 200
"""Sessions taken over at a time; between two pages lease and claim are renewed."""
ROWS_PAGE = 500
"""Rows written or looked at in one go: well below what may wait for Redis, and others get their turn in between."""


class Ownership:
    """See the module's docstring. `on_lost` is called once, when this edge has been declared dead."""

    def __init__(
        self,
        services: Services,
        *,
        lease_ms: int,
        info: Mapping[str, str],
        find_route: Callable[[str, str], RouteHandle | None],
        on_lost: Callable[[], None],
        house: House,
    ) -> None:
        self._services = services
        self._lease_ms = lease_ms
        self._info = info
        self._find_route = find_route
        self._on_lost = on_lost
        self._house = house
        self._clients_checked_ms = 0
        self._held_since: int | None = None
        self._renewed_ms = 0
        """When the last renewal was answered; means something while `_held_since` does."""
        self._rewrite = False
        """The store may have lost any row."""
        self._inheriting: dict[str, SessionRow] = {}
        """Rows of dead edges that may be ours: we asked, and did not hear the answer."""
        self._dead = False
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    async def start(self) -> None:
        """Take the lease (waits for Redis, bounded by the store's own wait), then keep it."""
        await self._renew()
        self._services.store.on_health(self._health_changed)
        self._wake.set()  # links may wait for an owner
        self._task = asyncio.create_task(self._keep(), name="ownership")

    async def stop(self) -> None:
        """Leave politely. With sessions left the lease just runs out, so that they are taken care of."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._services.metrics.process.lease_held.value = 0
        if not len(self._services.registry) and not len(self._house):
            try:
                await self._tidy()
                await self._services.store.release(self._services.edge_id)
            except StoreError as error:
                _log.info("the lease was left to run out: %s", error)

    def _health_changed(self, up: bool) -> None:
        if not up:
            self._held_since = None
        else:
            self._rewrite = True
            self._services.registry.untidy = True
            self._house.verify_all()
            self._wake.set()

    def links_freed(self) -> None:
        """Another edge goes down, and says that its links are to be had."""
        self._wake.set()

    async def _keep(self) -> None:
        period_s = self._lease_ms / 3_000
        while True:
            try:
                async with asyncio.timeout(period_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                if await self._renew():
                    await self._put_back()
                    await self._tidy()
                    await self._house.claim_freed(self._renew_in_time)
                    await self._sweep()
                    await self._check_clients()
            except StoreError as error:
                _log.warning("the rest of the housekeeping is left for later: %s", error)
            except Exception:
                _log.exception("keeping the lease failed; trying again")

    async def _renew(self) -> bool:
        """One renewal. False when the lease is not ours now."""
        services = self._services
        meters = services.metrics.process
        try:
            state = await services.store.renew(services.edge_id, self._lease_ms, self._info)
        except StoreError as error:
            if self._held_since is not None:
                _log.warning("the lease could not be renewed: %s", error)
            self._held_since = None
            meters.lease_held.value = 0
            return False
        if state.kind == "lost":
            self._let_go()
            return False
        meters.lease_held.value = 1
        now = services.clock.monotonic_ms()
        # Late by a renewal: what held us up may have held up everybody, as a Redis that is busy for a moment does.
        if self._held_since is None or now - self._renewed_ms >= self._lease_ms * 2 // 3:
            self._held_since = now
        self._renewed_ms = now
        if state.kind == "fresh":
            self._rewrite = True
            self._house.verify_all()
        return True

    async def _check_clients(self) -> None:
        now = self._services.clock.monotonic_ms()
        if now - self._clients_checked_ms >= CHECK_MS:
            self._clients_checked_ms = now
            await self._house.check_clients()

    async def _renew_in_time(self) -> bool:
        """Renew between two pages of something long, when it is due."""
        if self._services.clock.monotonic_ms() - self._renewed_ms < self._lease_ms // 3:
            return True
        return await self._renew()

    # Our own rows.

    async def _put_back(self) -> None:
        """Write the rows that the store does not have, or may not have any more."""
        registry = self._services.registry
        everything, self._rewrite = self._rewrite, False
        again = [session for session in registry if everything or not session.registered]
        if again:
            _log.info("writing the rows of %d sessions again", len(again))
        for start in range(0, len(again), ROWS_PAGE):
            page = [session for session in again[start : start + ROWS_PAGE] if registry.get(session.session) is session]
            written = [future for session in page if (future := session.put_back()) is not None]
            outcomes = await asyncio.gather(*written, return_exceptions=True)
            if any(isinstance(outcome, StoreUnavailable) for outcome in outcomes) or not await self._renew_in_time():
                self._rewrite = self._rewrite or everything
                return

    async def _tidy(self) -> None:
        """Delete rows in our name whose sessions are over."""
        services, registry = self._services, self._services.registry
        if not registry.untidy:
            return
        registry.untidy = False
        try:
            listed = await services.store.owned(services.edge_id)
            left = [id for id in listed if registry.get(id) is None and id not in self._inheriting]
            for start in range(0, len(left), ROWS_PAGE):
                rows = await asyncio.gather(*(services.store.load(id) for id in left[start : start + ROWS_PAGE]))
                for row in rows:
                    if row is not None and row.owner == services.edge_id and registry.get(row.id) is None:
                        registry.forget(services, row.id, row.fence)
                await self._renew_in_time()
        except StoreError:
            registry.untidy = True
            raise

    def _let_go(self) -> None:
        """Another edge has declared us dead. Repeatable: until the process ends, no session may be left."""
        sessions = list(self._services.registry)
        self._held_since = None
        self._services.metrics.process.lease_held.value = 0
        for session in sessions:
            session.lose()
        self._house.lose_all()
        if self._dead:
            return
        self._dead = True
        _log.error(
            "this edge (%s) was declared dead by another one, which has reported its %d sessions as ended; "
            "they are closed. Was the process stopped, or the machine starved, for longer than lease_s?",
            self._services.edge_id,
            len(sessions),
        )
        self._on_lost()

    # The sessions of others that died.

    async def _sweep(self) -> None:
        services = self._services
        held = self._held_since
        if held is None or services.clock.monotonic_ms() - held < self._lease_ms:
            return
        if self._inheriting:
            await self._take_over(list(self._inheriting.values()))
        for dead in await services.store.lapsed():
            if dead == services.edge_id:
                continue
            # Links are shared among all survivors; sessions, which only have to be reported, are one's work.
            if await services.store.links.condemn(dead, services.edge_id, self._lease_ms):
                claimed = await self._house.claim_estate(dead, self._renew_in_time)
                if claimed:
                    _log.warning("edge %s is gone; %d of its XMPP links go on here", dead, claimed)
            if not await services.store.claim_estate(dead, services.edge_id, self._lease_ms * 3):
                continue
            _log.warning("edge %s is gone; taking care of its sessions", dead)
            services.metrics.process.estates_taken.value += 1
            taken = await self._clear(dead)
            await services.store.bury(dead)
            _log.warning("edge %s: %d sessions reported as ended", dead, taken)

    async def _clear(self, dead: str) -> int:
        store, us = self._services.store, self._services.edge_id
        taken = 0
        while rows := await store.estate(dead, ESTATE_PAGE):
            now_taken = await self._take_over(rows)
            taken += now_taken
            # A long estate takes its time, and so both have to be renewed meanwhile.
            if not (now_taken and await self._renew() and await store.claim_estate(dead, us, self._lease_ms * 3)):
                break
        return taken

    async def _take_over(self, rows: Sequence[SessionRow]) -> int:
        """Make these sessions ours, and report their ends. Raises `StoreUnavailable` when it is not known of all of
        them whether they are: those are asked for again."""
        services = self._services
        self._inheriting.update((row.id, row) for row in rows)
        inherits = (services.store.inherit(row, services.edge_id) for row in rows)
        unknown: StoreUnavailable | None = None
        taken = 0
        for row, outcome in zip(rows, await asyncio.gather(*inherits, return_exceptions=True), strict=True):
            if isinstance(outcome, StoreUnavailable):
                unknown = outcome
                continue
            del self._inheriting[row.id]
            if isinstance(outcome, SessionRow):
                taken += 1
                self._report_end(outcome)
            elif not isinstance(outcome, FenceRefused):
                _log.error("session %s of a dead edge cannot be taken over: %r", row.id, outcome)
        if unknown is not None:
            raise unknown
        return taken

    def _report_end(self, row: SessionRow) -> None:
        registry = self._services.registry
        handle = self._find_route(row.route, row.app)
        if handle is None:
            _log.error(
                "session %s of app %r ended with its edge, but no route here leads there: its backend is not told",
                row.id,
                row.app,
            )
            registry.forget(self._services, row.id, row.fence)
            return
        session = LocalSession.inherited(row, self._services, handle)
        registry.add(session)
        session.report()
