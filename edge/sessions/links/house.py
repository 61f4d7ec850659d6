"""All links that this process owns: how they begin, are taken over, are given away and end.

Links of edges that died or went down are found in the store (`Ownership` says when to look) and shared among the
survivors, who claim them in random order; how fast they then log in is the pacer's business.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from edge.errors import Conflict, FenceRefused, SessionGone, StoreError, StoreUnavailable
from edge.model.cohort import Subject
from edge.model.link_options import LinkOptions
from edge.model.link_phases import LinkPhase
from edge.protocol.callbacks.actions import AskBackend, XmppConnect
from edge.protocol.xmpp.credentials import Credentials
from edge.protocol.xmpp.jid import bare
from edge.sessions.links.arrival import credentials_for
from edge.sessions.links.link import Link
from edge.sessions.links.services import LinkServices
from edge.sessions.routes import RouteHandle
from edge.store.links_base import Action, Freed, HeldLink, LinkRow
from edge.wheel import Alarm

_log = logging.getLogger("holdfast.links")

PAGE = 200
"""Links claimed at a time; others claim as well, and everybody's commands share one Redis."""
CHECK_MS = 15_000
"""How often it is looked whether clients elsewhere, to which links are attached, are still there."""
UNDER_WAY = 64
"""Logins to one server that may be under way at once."""
GIVE_AWAY_AT_ONCE = 100
TELL_MS = 40
"""Between two words to the other edges about links that are to be had."""


class House:
    """See the module's docstring. `services` is set by the wiring, which builds the house first."""

    def __init__(self) -> None:
        self.services: LinkServices
        self._links: dict[str, Link] = {}
        self._clients: dict[str, set[str]] = {}
        """Client session → the links here that it is attached to."""
        self._claiming: set[str] = set()
        self._telling: Alarm | None = None
        self.pinned: dict[str, str] = {}
        """Domain → the SASL mechanism of the last login to it."""
        self._under_way: dict[str, asyncio.Semaphore] = {}
        self.closed = False
        """This edge goes down: it takes no more links."""

    def under_way(self, domain: str) -> asyncio.Semaphore:
        """To be held while a link logs in there. A server that is slower than `logins_per_s` would else be asked by all
        at once, and answer none within `negotiation_s`."""
        turns = self._under_way.get(domain)
        if turns is None:
            turns = self._under_way[domain] = asyncio.Semaphore(UNDER_WAY)
        return turns

    def get(self, id: str) -> Link | None:
        return self._links.get(id)

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[Link]:
        """A snapshot."""
        return iter(tuple(self._links.values()))

    # -- beginning

    async def connect(self, id: str, action: XmppConnect, handle: RouteHandle) -> tuple[Link | LinkRow, bool]:
        """Begin link `id` for the backend of `handle`, unless there is one: the link, if it is here, else its row; and
        whether it was begun. Raises Conflict when it cannot be begun, SessionGone for a repeated order whose link has
        ended, StoreError."""
        services, shared = self.services, self.services.shared
        self._check(action)
        now = shared.clock.wall_ms()
        route = handle.settings
        attached = tuple(action.attach or ())
        auth = action.auth
        sealed = b""
        if auth is not None and not isinstance(auth, AskBackend):
            sealed = services.vault.seal(id, self._named(action.jid, auth))
        row = LinkRow(
            id=id,
            app=route.app,
            route=handle.name,
            release=shared.releases.choose(route, Subject(id, bare(action.jid)), None, None, now).sha,
            jid=action.jid,
            connect=LinkOptions.of(action, now).to_stored(),
            phase=LinkPhase.CONNECTING.value,
            detached_at=0 if attached else now,
            credentials=sealed,
            attached=attached,
        )
        begun = await shared.store.links.connect(row, shared.edge_id, Action(action.id) if action.id else None)
        if begun.row is None:
            raise SessionGone(f"link {id} has ended since this order was carried out first")
        if begun.new and begun.row.owner == shared.edge_id and id not in self._links:
            _log.info("link %s: begun, for %s", id, action.jid)
            return self._take_in(HeldLink(begun.row, (), ()), handle), True
        return self._links.get(id) or begun.row, False

    def _check(self, action: XmppConnect) -> None:
        domain = bare(action.jid).rpartition("@")[2]
        server = self.services.server(domain)
        if server is None:
            raise Conflict(f"no [[xmpp]] of the edge's settings is for {domain}: links go nowhere else")
        if server.is_component != (action.auth is None):
            needed = "needs no auth: its secret is in the settings" if server.is_component else "needs auth"
            raise Conflict(
                f"{domain} is {'a component' if server.is_component else 'a server for clients'}: it {needed}"
            )
        if self.closed:
            raise SessionGone("this edge is going down")

    @staticmethod
    def _named(jid: str, auth: Credentials) -> Credentials:
        return credentials_for(jid, auth)

    def _take_in(self, held: HeldLink, handle: RouteHandle) -> Link:
        link = Link(held, self.services, handle)
        self._links[link.id] = link
        self.attached(link, (), tuple(link.ledger.base.attached))
        link.start()
        return link

    # -- taking over

    async def claim(self, id: str, *, dead: str = "", freed: Freed | None = None) -> Link | None:
        """Become a link's owner, if it is to be had."""
        services, shared = self.services, self.services.shared
        if self.closed or id in self._links or id in self._claiming:
            return self._links.get(id)
        self._claiming.add(id)
        try:
            held = await shared.store.links.claim(id, shared.edge_id, dead=dead, freed=freed)
        except FenceRefused:
            return None  # somebody was faster, or it has ended
        finally:
            self._claiming.discard(id)
        handle = services.find_route(held.row.route, held.row.app)
        if handle is None:
            _log.error("link %s of app %r is left alone: no route here leads there", id, held.row.app)
            await shared.store.links.release(held.row.hold)
            return None
        shared.metrics.process.links_claimed.value += 1
        return self._take_in(held, handle)

    async def claim_estate(self, dead: str, between: Callable[[], Awaitable[bool]]) -> int:
        """Take over links of an edge that is dead, with the others. How many. Raises StoreUnavailable. `between` is
        awaited now and then, and says whether to go on."""
        links = self.services.shared.store.links
        taken = 0
        while not self.closed and (found := await links.links_of(dead, PAGE)):
            outcomes = await asyncio.gather(*(self.claim(id, dead=dead) for id in found), return_exceptions=True)
            _raise_if_away(outcomes)
            now = sum(isinstance(outcome, Link) for outcome in outcomes)
            taken += now
            for id, outcome in zip(found, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    _log.error("link %s of dead edge %s cannot be taken over: %s", id, dead, outcome)
            if not now:
                break  # others are at it, or nobody can have what is left; the next sweep looks again
            if not await between():
                break
        return taken

    async def claim_freed(self, between: Callable[[], Awaitable[bool]]) -> int:
        """Take over links that others have given away. How many. Raises StoreUnavailable."""
        links = self.services.shared.store.links
        taken = 0
        while not self.closed and (found := await links.freed(PAGE)):
            outcomes = await asyncio.gather(
                *(self.claim(each.link, freed=each) for each in found), return_exceptions=True
            )
            _raise_if_away(outcomes)
            now = sum(isinstance(outcome, Link) for outcome in outcomes)
            taken += now
            if not now or not await between():
                break
        return taken

    # -- clients

    def attached(self, link: Link, before: Sequence[str], now: Sequence[str]) -> None:
        """Keep book of who uses which link."""
        for client in set(before).difference(now):
            links = self._clients.get(client)
            if links is not None:
                links.discard(link.id)
                if not links:
                    del self._clients[client]
        for client in set(now).difference(before):
            self._clients.setdefault(client, set()).add(link.id)

    def client_ended(self, client: str) -> None:
        """A client session of this edge has ended."""
        for id in tuple(self._clients.get(client, ())):
            link = self._links.get(id)
            if link is not None:
                link.detach(client)

    async def check_clients(self) -> None:
        """Clients on other edges may have ended without a word to us. Raises StoreError."""
        shared = self.services.shared
        elsewhere = [client for client in tuple(self._clients) if shared.registry.get(client) is None]
        for start in range(0, len(elsewhere), PAGE):
            page = elsewhere[start : start + PAGE]
            rows = await asyncio.gather(*(shared.store.load(client) for client in page))
            for client, row in zip(page, rows, strict=True):
                if row is None and shared.registry.get(client) is None:
                    self.client_ended(client)

    # -- ending

    def forget(self, link: Link) -> None:
        """Its backend knows that it is over: delete it."""
        self._remove(link)
        hold = link.ledger.hold
        store = self.services.shared.store.links

        def deleted(answer: Future[None]) -> None:
            error = None if answer.cancelled() else answer.exception()
            if isinstance(error, StoreUnavailable):
                self.services.shared.wheel.after(1_000, again)
            elif error is not None and not isinstance(error, FenceRefused):
                _log.error("link %s could not be deleted: %s", hold.link, error)

        def again() -> None:
            store.disconnect(hold).add_done_callback(deleted)

        again()

    def lost(self, link: Link) -> None:
        """Another edge's, from now on."""
        self._remove(link)

    def _remove(self, link: Link) -> None:
        if self._links.get(link.id) is link:
            del self._links[link.id]
            self.attached(link, tuple(link.ledger.base.attached), ())

    def lose_all(self) -> None:
        """This edge was declared dead: others have its links by now."""
        self.closed = True
        for link in self:
            link.lose()

    async def give_away_all(self) -> int:
        """Going down: every link is for whoever takes it first. How many could not be given away."""
        self.closed = True
        turns = asyncio.Semaphore(GIVE_AWAY_AT_ONCE)

        async def give_away(link: Link) -> None:
            async with turns:
                if not link.gone:
                    await link.give_away()
                    self._tell_soon()

        outcomes: list[Any] = await asyncio.gather(*map(give_away, self), return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failures:
            _log.warning("%d links could not be given away: %s", len(failures), failures[0])
        await self.services.shared.post.tell_links_freed()
        return len(failures)

    def _tell_soon(self) -> None:
        """Others are told of many links at once, and of none late."""
        if self._telling is None:
            self._telling = self.services.shared.wheel.after(TELL_MS, self._tell)

    def _tell(self) -> None:
        self._telling = None
        told = self.services.loop.create_task(self.services.shared.post.tell_links_freed(), name="links freed")
        told.add_done_callback(lambda answer: answer.cancelled() or answer.exception())  # they look by themselves, too

    def verify_all(self) -> None:
        """Redis was away, or has lost data."""
        for link in self:
            link.ledger.verify()


def _raise_if_away(outcomes: Sequence[object]) -> None:
    for outcome in outcomes:
        if isinstance(outcome, StoreUnavailable):
            raise outcome
        if isinstance(outcome, BaseException) and not isinstance(outcome, StoreError):
            raise outcome
