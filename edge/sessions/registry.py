"""The registry: every session this process owns, by id; and the door by which transports bring new ones."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Iterator

from edge.errors import FenceRefused
from edge.ids import new_session_id
from edge.protocol.callbacks.events import ClientRequest
from edge.sessions.connection import Connection, ConnectionListener
from edge.sessions.local_session import LocalSession
from edge.sessions.routes import RouteHandle
from edge.sessions.services import Services


class Registry:
    """Owns the set of local sessions."""

    __slots__ = ("_sessions", "on_removed", "untidy")

    def __init__(self) -> None:
        self._sessions: dict[str, LocalSession] = {}
        self.on_removed: Callable[[str], None] = lambda session: None
        """Told the id of each session that is over here."""
        self.untidy = False
        """Rows of sessions that are over may be left in the store: they could not be deleted, or came back with an
        older state of it. `Ownership` sees to them."""

    def get(self, id: str) -> LocalSession | None:
        return self._sessions.get(id)

    def add(self, session: LocalSession) -> None:
        self._sessions[session.session] = session

    def remove(self, session: LocalSession) -> bool:
        """False when it was gone already."""
        if self._sessions.pop(session.session, None) is None:
            return False
        self.on_removed(session.session)
        return True

    def forget(self, services: Services, id: str, fence: int) -> None:
        """Delete the row of a session of ours that is over; what fails is left to be tidied up."""

        def forgotten(answer: Future[None]) -> None:
            # A newer owner's row is not ours to delete.
            if answer.cancelled() or not isinstance(answer.exception(), FenceRefused | None):
                self.untidy = True

        services.store.forget(id, services.edge_id, fence).add_done_callback(forgotten)

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[LocalSession]:
        """A snapshot: sessions may come and go while it is walked."""
        return iter(tuple(self._sessions.values()))


class FrontDoor:
    """The `Door` of this process: a handshake becomes a session."""

    __slots__ = ("_services",)

    def __init__(self, services: Services) -> None:
        self._services = services

    def open(
        self, connection: Connection, route: RouteHandle, request: ClientRequest, transport: str
    ) -> ConnectionListener:
        matched = self._services.releases.match(route.settings, request)
        session = LocalSession(new_session_id(), self._services, route, connection, matched)
        session.transport = transport
        session.client = request.client
        self._services.registry.add(session)
        session.begin(lambda model, now: model.opened(request, transport, now))
        return session
