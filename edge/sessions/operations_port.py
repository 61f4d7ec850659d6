"""What the control API asks of the edge below it: the promises, and the shapes of the answers.

`edge.control` calls an `Operations`; `edge.sessions.operations` is one, over the registry and the store. It stands
here, below both of them, so that imports go down only.

Every method may raise `StoreUnavailable` (503) when it needs Redis and Redis is away; the others it raises are named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edge.backend.shadow import ShadowFigures
from edge.model.link_backlog import ParkedEvent
from edge.model.release import ReleaseCounts, ReleaseTable
from edge.protocol.callbacks.actions import Result
from edge.protocol.grip.items import Item
from edge.sessions.grip.publisher import ItemResult
from edge.sessions.inquiries import SessionFilter
from edge.sessions.release_desk import Change, NewRelease
from edge.store.base import HistoryPage, Position, Published, SessionRow
from edge.store.links_base import LinkRow


@dataclass(frozen=True, slots=True)
class ChannelState:
    """A channel now. `subscribers` counts sessions over all live edges. `position` is the newest publication's."""

    channel: str
    subscribers: int
    position: Position


@dataclass(frozen=True, slots=True)
class AppState:
    """An app that routes name. `policy`: of its first route."""

    app: str
    routes: Sequence[str]
    policy: str


class ReleaseOperations(Protocol):
    """The release table of an app. All raise `NotFound` when no route names the app.

    A change is in the store when the call returns, and every live edge has been told to read the table again. One that
    is refused has changed nothing.
    """

    async def releases(self, app: str) -> ReleaseTable: ...

    async def put_release(self, app: str, new: NewRelease) -> ReleaseTable:
        """`NotAllowed` when no `release_urls` of the app's routes allows the URL; `Unhealthy` when the release does not
        answer there; and as `release_changes.add`."""
        ...

    async def change_releases(self, app: str, change: Change) -> ReleaseTable:
        """Take one step (`edge.model.release_changes`), whole and at once; raises what the step does, and `Conflict`
        when others kept changing the table meanwhile."""
        ...

    async def release_counts(self, app: str) -> ReleaseCounts:
        """Sessions per release over all live edges."""
        ...

    async def shadow_figures(self, app: str) -> ShadowFigures:
        """How the answers of the shadow compare, over all live edges."""
        ...


class Operations(ReleaseOperations, Protocol):
    """Everything an operator, or a backend outside of an event, can ask for. Any edge answers for all of them."""

    async def publish(
        self, channel: str, payload: str | bytes, *, id: str | None = None, sender: str | None = None
    ) -> Published:
        """Publish under the channel's configured history policy. `id` de-duplicates per channel for 24 h. `sender` is
        the session the publication is not delivered to."""
        ...

    async def channel(self, channel: str) -> ChannelState:
        """A channel nobody uses is an empty one, not an error."""
        ...

    async def history(self, channel: str, since: Position | None, limit: int) -> HistoryPage:
        """As `ChannelStore.history`."""
        ...

    async def publish_items(self, items: Sequence[Item], *, count: bool) -> Sequence[ItemResult]:
        """Publish to channels of GRIP routes, in order. With `count` each result says how many receivers there were.
        `StoreUnavailable` says how many were not accepted."""
        ...

    async def recover(self) -> None:
        """Every edge forgets the newest ids of GRIP channels, and asks backends what their clients may have missed."""
        ...

    async def session(self, session: str) -> SessionRow | LinkRow:
        """`NotFound` when the id was never a session's, as far as the edge can tell; `SessionGone` when it ended."""
        ...

    async def sessions(self, wanted: SessionFilter) -> tuple[Sequence[SessionRow], bool]:
        """Sessions over all live edges, and whether all of these answered."""
        ...

    async def life(self, session: str) -> tuple[Sequence[Mapping[str, Any]], bool]:
        """What the live edges remember of a session (`at`, `edge`, `what`, `detail`), oldest first, and whether all of
        them answered. It may have ended. `NotFound` when it is not there and nothing is remembered."""
        ...

    async def parked(self, link: str) -> Sequence[ParkedEvent]:
        """Events of a link that no backend took, oldest first; kept for a week, also when the link has ended.
        `NotFound` when there are none and no such link."""
        ...

    def apps(self) -> Sequence[AppState]:
        """By name."""
        ...

    async def act(self, session: str, order: Result, app: str | None = None) -> None:
        """Carry out `order` on the session, wherever it lives: its state changes and actions together, under its
        fence, or not at all. Returns when its owner confirmed. Never holds `Accept` or `Reject`. An order to connect
        begins a link for the backend of `app`; None: of the only one that there is (`FieldError` otherwise).

        `NotFound`, `SessionGone`; `NotConfirmed` when the owner did not answer in time; `Conflict` when a limit of the
        session forbids it; `StoreError` when its owner could not do it, and the text says what was done."""
        ...

    async def end_session(self, session: str, code: int, reason: str) -> None:
        """Close the client's connection with `code` and `reason`; its backend gets a `close` event with the cause
        ``backend``. Raises as `act`."""
        ...

    def drain(self) -> None:
        """Start what SIGTERM starts, on this edge process and its sibling workers. Returns at once; repeatable."""
        ...

    def readiness(self) -> Sequence[str]:
        """Why this edge should get no new connections, in short phrases for people (``draining``, ``starting``,
        ``store away: connection refused``); empty: it is ready. Never waits."""
        ...
