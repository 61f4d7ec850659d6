"""Ownership: this edge's lease, and the estates of edges that died.

Owns one task per process. It renews the lease; puts back the rows of its sessions when Redis has lost its data; lets
go of everything when another edge has declared this one dead; and, when an edge's lease has lapsed, takes its sessions
over and tells their backends of the end, once each (a survivor that dies at it leaves them in its own estate).

An edge judges others only after its own lease has held for a whole lease time: when Redis comes back after an outage,
everybody's lease has lapsed, and nobody is dead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from edge.errors import StoreError
from edge.sessions.local_session import LocalSession
from edge.sessions.routes import RouteHandle
from edge.sessions.services import Services
from edge.store.base import SessionRow

_log = logging.getLogger("holdfast.ownership")

ESTATE_PAGE = 200
"""Sessions taken over at a time; the next page waits until the backend has answered for these."""


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
    ) -> None:
        self._services = services
        self._lease_ms = lease_ms
        self._info = info
        self._find_route = find_route
        self._on_lost = on_lost
        self._held_since: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    async def start(self) -> None:
        """Take the lease (waits for Redis, bounded by the store's own wait), then keep it."""
        await self._renew()
        self._services.store.on_health(self._health_changed)
        self._task = asyncio.create_task(self._keep(), name="ownership")

    async def stop(self) -> None:
        """Leave politely. With sessions left the lease just runs out, so that they are taken care of."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._services.metrics.process.lease_held.value = 0
        if not len(self._services.registry):
            try:
                await self._services.store.release(self._services.edge_id)
            except StoreError as error:
                _log.info("the lease was left to run out: %s", error)

    def _health_changed(self, up: bool) -> None:
        if up:
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
                if await self._renew() and self._may_judge():
                    await self._sweep()
            except StoreError as error:
                _log.warning("estates are left for later: %s", error)
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
        if self._held_since is None:
            self._held_since = services.clock.monotonic_ms()
        everything = state.kind == "fresh"
        again = [session for session in services.registry if everything or not session.registered]
        if again:
            _log.info("writing the rows of %d sessions again", len(again))
        for session in again:
            session.register()
        return True

    def _let_go(self) -> None:
        sessions = list(self._services.registry)
        _log.error(
            "this edge (%s) was declared dead by another one, which has reported its %d sessions as ended; "
            "closing them. Was the process stopped, or the machine starved, for longer than lease_s?",
            self._services.edge_id,
            len(sessions),
        )
        self._held_since = None
        self._services.metrics.process.lease_held.value = 0
        for session in sessions:
            session.lose()
        self._on_lost()

    def _may_judge(self) -> bool:
        held = self._held_since
        return held is not None and self._services.clock.monotonic_ms() - held >= self._lease_ms

    async def _sweep(self) -> None:
        services = self._services
        for dead in await services.store.lapsed():
            if dead == services.edge_id or not await services.store.claim_estate(
                dead, services.edge_id, self._lease_ms * 3
            ):
                continue
            _log.warning("edge %s is gone; taking care of its sessions", dead)
            services.metrics.process.estates_taken.value += 1
            taken = await self._clear(dead)
            await services.store.bury(dead)
            _log.warning("edge %s: %d sessions reported as ended", dead, taken)

    async def _clear(self, dead: str) -> int:
        services = self._services
        taken = 0
        while rows := await services.store.estate(dead, ESTATE_PAGE):
            inherited = await asyncio.gather(*(services.store.inherit(row, services.edge_id) for row in rows))
            taken += len(inherited)
            for row in inherited:
                self._report_end(row)
            # Renewing is due now and then while a long estate is worked on, and so is the claim.
            await self._renew()
            if not await services.store.claim_estate(dead, services.edge_id, self._lease_ms * 3):
                return taken
        return taken

    def _report_end(self, row: SessionRow) -> None:
        handle = self._find_route(row.route, row.app)
        if handle is None:
            _log.error(
                "session %s of app %r ended with its edge, but no route here leads there: its backend is not told",
                row.id,
                row.app,
            )
            self._services.store.forget(row.id, self._services.edge_id, row.fence)
            return
        session = LocalSession.inherited(row, self._services, handle)
        self._services.registry.add(session)
        session.report()
