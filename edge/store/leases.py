"""Leases of edges, the estates of those that died, and mail between them."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Mapping, Sequence
from dataclasses import replace

from edge.errors import FenceRefused
from edge.store import rows
from edge.store.base import LeaseState, SessionRow
from edge.store.keys import Keys
from edge.store.router import Router
from edge.store.scripts import BURY, CLAIM, EDGES, INHERIT, LAPSED, MAIL, RELEASE, RENEW
from edge.store.sessions import Sessions, nothing
from edge.store.wire import Reply


class Leases:
    """`LeaseStore` over a router. All leases live in one slot, so that each step on them is atomic; sessions
    lists are
    elsewhere, and every order of writes below leaves an entry too many rather than one too few."""

    def __init__(self, router: Router, keys: Keys, sessions: Sessions) -> None:
        self._router = router
        self._keys = keys
        self._sessions = sessions

    def renew(self, edge: str, lease_ms: int, info: Mapping[str, str]) -> Future[LeaseState]:
        keys = self._keys
        names = (keys.edges, keys.info, keys.claims, keys.buried)
        args = (edge, lease_ms, rows.dump(dict(info)))
        return self._router.call(RENEW, names, args, lambda reply: LeaseState(reply.decode()), repeatable=True)

    def release(self, edge: str) -> Future[None]:
        return asyncio.get_running_loop().create_task(self._release(edge))

    async def _release(self, edge: str) -> None:
        keys = self._keys
        left = await self._count(edge)
        names = (keys.edges, keys.info, keys.claims)
        await self._router.call(RELEASE, names, (edge, int(left > 0)), nothing, repeatable=True)

    async def _count(self, edge: str) -> int:
        """Sessions and links on the edge's lists."""
        owned, links = self._keys.owned(edge), self._keys.links_of(edge)
        sessions: Future[int] = self._router.send(("SCARD", owned), owned, repeatable=True)
        return sum(await asyncio.gather(sessions, self._router.send(("SCARD", links), links, repeatable=True)))

    def edges(self) -> Future[Mapping[str, Mapping[str, str]]]:
        names = (self._keys.edges, self._keys.info)

        def by_name(reply: Reply) -> Mapping[str, Mapping[str, str]]:
            pairs = zip(reply[::2], reply[1::2], strict=True)
            return {edge.decode(): rows.load(info) if info else {} for edge, info in pairs}

        return self._router.call(EDGES, names, (), by_name, repeatable=True)

    def owned(self, edge: str) -> Future[Sequence[str]]:
        key = self._keys.owned(edge)
        return self._router.send(
            ("SMEMBERS", key), key, lambda reply: [member.decode() for member in reply], repeatable=True
        )

    def lapsed(self) -> Future[Sequence[str]]:
        return self._router.call(
            LAPSED,
            (self._keys.edges,),
            (),
            lambda reply: [edge.decode() for edge in reply],
            repeatable=True,
        )

    def claim_estate(self, dead: str, by: str, claim_ms: int) -> Future[bool]:
        names = (self._keys.edges, self._keys.claims)
        return self._router.call(CLAIM, names, (dead, by, claim_ms), bool, repeatable=True)

    def estate(self, dead: str, limit: int) -> Future[Sequence[SessionRow]]:
        return asyncio.get_running_loop().create_task(self._estate(dead, limit))

    async def _estate(self, dead: str, limit: int) -> Sequence[SessionRow]:
        owned = self._keys.owned(dead)
        while True:
            members = await self._router.send(("SRANDMEMBER", owned, limit), owned, repeatable=True)
            found = await asyncio.gather(*(self._sessions.load(member.decode()) for member in members))
            pairs = list(zip(members, found, strict=True))
            stale = [member for member, row in pairs if row is None or row.owner != dead]
            if stale:
                await self._router.send(("SREM", owned, *stale), owned, repeatable=True)
            estate = [row for row in found if row is not None and row.owner == dead]
            if estate or not members:
                return estate

    def inherit(self, row: SessionRow, by: str) -> Future[SessionRow]:
        return asyncio.get_running_loop().create_task(self._inherit(row, by))

    async def _inherit(self, row: SessionRow, by: str) -> SessionRow:
        """List first, row second, the old list last: at every moment the row is on its owner's list."""
        mine, theirs, key = self._keys.owned(by), self._keys.owned(row.owner), self._keys.session(row.id)
        await self._router.send(("SADD", mine, row.id), mine, repeatable=True)
        try:
            found: SessionRow | None = await self._router.call(
                INHERIT,
                (key,),
                (row.fence, row.owner, by),
                lambda reply: rows.from_fields(row.id, reply),
                repeatable=True,
            )
        except FenceRefused:
            now = await self._sessions.load(row.id)
            if now is None or now.owner != by:
                await self._router.send(("SREM", mine, row.id), mine, repeatable=True)
            raise
        await self._router.send(("SREM", theirs, row.id), theirs, repeatable=True)
        return found or replace(row, owner=by, fence=row.fence + 1)

    def bury(self, dead: str) -> Future[None]:
        return asyncio.get_running_loop().create_task(self._bury(dead))

    async def _bury(self, dead: str) -> None:
        keys = self._keys
        if await self._count(dead):
            return  # an entry written late: the estate stays open for the next look
        names = (keys.edges, keys.info, keys.claims, keys.buried)
        await self._router.call(BURY, names, (dead,), nothing, repeatable=True)


class MailBox:
    """`Mail` over a router: pub/sub, so at most once."""

    def __init__(self, router: Router, keys: Keys, edge: str) -> None:
        self._router = router
        self._keys = keys
        self._edge = edge
        self._sharded = int(router.address.kind == "cluster")

    def send(self, edge: str, body: bytes) -> Future[None]:
        letter = rows.dump([self._edge, body])
        return self._router.call(MAIL, (self._keys.mail(edge),), (self._sharded, letter), nothing, repeatable=False)


def open_letter(letter: bytes) -> tuple[str, bytes]:
    """(from edge, body). Raises ValueError or TypeError for anything else."""
    sender, body = rows.load(letter)
    return sender, body
