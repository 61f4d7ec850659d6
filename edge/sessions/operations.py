"""What the control API can ask for, done over the registry, the store and the post."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from edge.backend.shadow import ShadowFigures
from edge.config import RouteSettings
from edge.errors import FieldError, NotFound, SessionGone
from edge.model.canary import Figures
from edge.model.link_backlog import ParkedEvent, from_parked
from edge.model.release import ReleaseCounts, StoredTable
from edge.protocol.callbacks.actions import CloseSession, Result, XmppDisconnect, is_link
from edge.protocol.grip.items import Item
from edge.sessions.grip.publisher import ItemPublisher, ItemResult
from edge.sessions.inquiries import SessionFilter
from edge.sessions.operations_port import AppState, ChannelState
from edge.sessions.release_desk import Check, ReleaseDesk
from edge.sessions.routes import RouteHandle
from edge.sessions.services import Services
from edge.store.base import HistoryPage, Position, Published, SessionRow
from edge.store.links_base import LinkRow

_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{16}")


class LocalOperations(ReleaseDesk):
    """An `Operations` (see `operations_port`) for this process; releases are the desk's part of it."""

    def __init__(
        self,
        services: Services,
        routes: Callable[[], Iterable[RouteHandle]],
        *,
        items: ItemPublisher,
        check: Check,
        drain: Callable[[], None],
        readiness: Callable[[], Sequence[str]],
    ) -> None:
        super().__init__(services.store, self._settings, services.clock, self._releases_changed, check)
        self._services = services
        self._handles = routes
        self._items = items
        self._drain = drain
        self._readiness = readiness

    # Channels.

    async def publish(
        self, channel: str, payload: str | bytes, *, id: str | None = None, sender: str | None = None
    ) -> Published:
        services = self._services
        services.metrics.process.publications_published.value += 1
        return await services.store.publish(channel, payload, services.policies.of(channel), sender=sender, id=id)

    async def channel(self, channel: str) -> ChannelState:
        subscribers = await self._services.post.count(channel)
        return ChannelState(channel, subscribers, await self._services.store.position(channel))

    async def history(self, channel: str, since: Position | None, limit: int) -> HistoryPage:
        return await self._services.store.history(channel, since, limit)

    async def publish_items(self, items: Sequence[Item], *, count: bool) -> Sequence[ItemResult]:
        return await self._items.publish(items, count=count)

    async def recover(self) -> None:
        await self._items.recover()

    # Sessions.

    async def session(self, session: str) -> SessionRow | LinkRow:
        if is_link(session):
            return await self._link(session)
        local = self._services.registry.get(session)
        if local is not None:
            return local.row()
        row = await self._services.store.load(session)
        if row is None:
            raise _gone_or_never(session)
        return row

    async def _link(self, link: str) -> LinkRow:
        here = self._services.post.house.get(link)
        row = here.ledger.row() if here is not None else await self._services.store.links.load(link)
        if row is None:
            raise NotFound(f"there is no link {link!r}")
        return row

    async def sessions(self, wanted: SessionFilter) -> tuple[Sequence[SessionRow], bool]:
        if wanted.user is None:
            return await self._services.post.inquiries.sessions(wanted)
        rows = await self._services.store.sessions_of_user(wanted.user)
        return [row for row in rows if wanted.passes(row)][: wanted.limit], True

    async def life(self, session: str) -> tuple[Sequence[Mapping[str, Any]], bool]:
        facts, complete = await self._services.post.inquiries.life(session)
        if not facts:
            try:
                await self.session(session)
            except (NotFound, SessionGone):
                silent = "" if complete else ", or an edge that does not answer now remembers it"
                raise NotFound(
                    f"nothing is known of session {session!r}: there was none, or it has ended and newer facts have "
                    f"taken the place of its own (setting edge.life_entries){silent}"
                ) from None
        return facts, complete

    async def parked(self, link: str) -> Sequence[ParkedEvent]:
        found = await self._services.store.links.parked(link) if is_link(link) else []
        if not found:
            await self.session(link)
        return [from_parked(data) for data in found]

    def apps(self) -> Sequence[AppState]:
        routes: dict[str, list[RouteSettings]] = {}
        for route in self._routes():
            routes.setdefault(route.app, []).append(route)
        named = sorted(routes.items())
        return [AppState(app, [route.name for route in found], found[0].policy) for app, found in named]

    async def act(self, session: str, order: Result, app: str | None = None) -> None:
        begins = is_link(session) and order.connects
        handle = self._of_backend(app) if begins else None
        try:
            await self._services.post.act(session, order, handle)
        except SessionGone:
            if begins:
                raise  # the text says how that can be
            raise _gone_or_never(session) from None

    def _of_backend(self, app: str | None) -> RouteHandle:
        """The first route to the backend of `app` that takes callbacks, which links speak."""
        first: dict[str, RouteHandle] = {}
        for handle in self._handles():
            if handle.settings.protocol == "callbacks":
                first.setdefault(handle.settings.app, handle)
        if not first:
            raise FieldError("app", "no route here has the protocol callbacks, in which a link's events are told")
        apps = ", ".join(sorted(first))
        if app is None and len(first) > 1:
            raise FieldError("app", f"is missing: the link's backend may be that of {apps}")
        if app is not None and app not in first:
            raise FieldError("app", f"has no route here with callbacks, in which a link's events are told: {apps}")
        return first[app] if app is not None else next(iter(first.values()))

    def _settings(self) -> Sequence[RouteSettings]:
        return [handle.settings for handle in self._handles()]

    async def end_session(self, session: str, code: int, reason: str) -> None:
        await self.act(session, Result((XmppDisconnect() if is_link(session) else CloseSession(code, reason),)))

    async def release_counts(self, app: str) -> ReleaseCounts:
        return await self._services.post.count_releases(app)

    async def release_figures(self, app: str, sha: str) -> tuple[Mapping[str, Figures], bool]:
        return await self._services.post.release_figures(app, sha)

    async def shadow_figures(self, app: str) -> ShadowFigures:
        return await self._services.post.shadow_figures(app)

    async def _releases_changed(self, app: str, stored: StoredTable) -> None:
        self._services.releases.update(app, stored)
        await self._services.post.tell_releases_changed(app)

    # The process.

    def drain(self) -> None:
        self._drain()

    def readiness(self) -> Sequence[str]:
        return self._readiness()


def _gone_or_never(session: str) -> Exception:
    """Rows go with their sessions: an id that looks like one of ours was one of ours, as far as we can tell."""
    if is_link(session):
        return NotFound(f"there is no link {session!r}")
    if _SESSION_ID.fullmatch(session):
        return SessionGone(f"session {session} has ended")
    return NotFound(f"{session!r} is not a session id")
