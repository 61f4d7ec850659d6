"""What the edge asks of its store, and what the store promises. One implementation: Redis (`edge.store.redis`).

Shape of every command: it returns an `asyncio.Future` at once and is written with all other commands of the same
loop tick in one pipeline (one round trip per tick and node, not per command). Commands issued by one process reach
one key in the order they were issued. A future ends with its value, or with

- `StoreUnavailable`: Redis stayed away longer than `store_wait_s`, or more than `store_queue` commands were waiting.
  The command may or may not have run if the connection broke while it was out; commands that are not naturally
  repeatable carry an id or a fence, so that repeating them is safe;
- `FenceRefused`: the session has a newer owner, nothing was changed;
- `StoreRefused`: any other error answer.

Nothing here blocks the loop, and nothing here raises synchronously.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edge.model.release import StoredTable
from edge.store.links_base import LinkStore

PUBLICATION_ID_TTL_MS = 86_400_000
"""How long a publication's id is remembered (spec: 24 h)."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a channel's history: the `offset` of a publication (from 1, no holes) in the life named `epoch`."""

    offset: int
    epoch: str


NO_POSITION = Position(0, "")
"""Position of a publication on a channel without history."""


@dataclass(frozen=True, slots=True)
class Publication:
    """One message on a channel. `sender` is the session to leave out (`except_self`), or None."""

    channel: str
    payload: str | bytes
    position: Position = NO_POSITION
    sender: str | None = None
    at: int = 0
    """Wall ms when the store accepted it."""


@dataclass(frozen=True, slots=True)
class HistoryPolicy:
    """How much a channel remembers: at most `count` publications, none older than `age_ms`. count 0: nothing."""

    count: int = 0
    age_ms: int = 0


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Publications after `since` in order, up to the limit. `whole` is False when some between `since` and the first
    one are gone (trimmed, expired, or another epoch); then `publications` is empty: never a partial recovery.
    `top` is the channel's newest position."""

    publications: Sequence[Publication]
    whole: bool
    top: Position


@dataclass(frozen=True, slots=True)
class Published:
    """`duplicate`: a publication with this id was accepted before; `position` is then the first one's."""

    position: Position
    duplicate: bool


@dataclass(frozen=True, slots=True)
class StoredTimer:
    """A durable timer. `due_ms` is wall time."""

    name: str
    due_ms: int
    data: Any


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as the store knows it."""

    id: str
    app: str
    route: str
    release: str
    owner: str
    """Edge id."""
    fence: int
    transport: str
    client: str
    opened_at: int
    user: str | None = None
    pinned: str | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0
    channels: Sequence[str] = ()
    timers: Sequence[StoredTimer] = ()


@dataclass(frozen=True, slots=True)
class Patch:
    """What one result changes in its session's row: all of it or nothing, under the fence.

    `state_set`/`state_unset` raise the version by one when there are any. `action_ids` are idempotency keys of the
    result's actions: the answer tells which of them are new; they are remembered `ACTION_ID_TTL_S`. Who is refused with
    `StoreUnavailable` has carried out none of the actions and may commit them again: the ids count as unused then.
    """

    session: str
    fence: int
    state_set: Mapping[str, Any] = field(default_factory=dict)
    state_unset: Sequence[str] = ()
    user: tuple[str | None] | None = None
    """None: unchanged; a 1-tuple: the new user, or None to clear."""
    release: str | None = None
    pinned: tuple[str | None] | None = None
    subscribe: Sequence[str] = ()
    unsubscribe: Sequence[str] = ()
    set_timers: Sequence[StoredTimer] = ()
    cancel_timers: Sequence[str] = ()
    action_ids: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Committed:
    """`version` after the patch; `repeated`: those of `action_ids` that had been used before."""

    version: int
    repeated: frozenset[str]


class SessionStore(Protocol):
    """Rows of sessions. A row is written by its owner only; every write carries the owner's fence and a script
    refuses an older one (`FenceRefused`)."""

    def register(self, row: SessionRow) -> Future[None]:
        """Write a new row and put it on its owner's list, list first: a row without an owner's list entry could never
        be found by a survivor. Repeating it is harmless (also used to re-register after Redis lost its data)."""
        ...

    def commit(self, patch: Patch) -> Future[Committed]:
        """Apply `patch` atomically. `FenceRefused` also when the row is gone."""
        ...

    def forget(self, session: str, owner: str, fence: int) -> Future[None]:
        """The session has ended and its backend knows: delete the row, then the list entry. Repeatable."""
        ...

    def load(self, session: str) -> Future[SessionRow | None]: ...

    def sessions_of_user(self, user: str) -> Future[Sequence[SessionRow]]:
        """Rows whose user is `user`, over all edges. The index is repaired on read."""
        ...


class ChannelStore(Protocol):
    """Channels: fan-out over all edges, and optional history."""

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
        """Accept a publication: give it the next offset, keep it as `policy` says, and hand it to the bus, in one
        step: subscribers see publications of one channel in offset order. `id` de-duplicates per channel for
        `id_ttl_ms`, or for longer where the store itself needs that to send it again.

        The store sends it again within its deadline when a connection breaks, with or without an id, and it takes
        effect at most once. After `StoreUnavailable` only a caller with an id may safely repeat it."""
        ...

    def history(self, channel: str, since: Position | None, limit: int) -> Future[HistoryPage]:
        """Publications after `since` (None: the newest `limit`), oldest first."""
        ...

    def position(self, channel: str) -> Future[Position]:
        """The newest position; NO_POSITION when the channel has no history (also: nothing was ever published on it)."""
        ...

    def subscribe(self, channel: str) -> Future[None]:
        """This process wants `channel`: done when Redis has confirmed it, from when on every publication is passed to
        the bus listener. Idempotent. Kept over reconnects without being asked again, also after `StoreUnavailable`
        (not confirmed in time): only `unsubscribe` ends it, and refuses those who still wait."""
        ...

    def unsubscribe(self, channel: str) -> None: ...


@dataclass(frozen=True, slots=True)
class BusListener:
    """Where the bus delivers to. Called on the loop's thread, one publication at a time, in channel order."""

    publication: Callable[[Publication], None]
    mail: Callable[[str, bytes], None]
    """(from edge, body): a message sent to this edge with `Mail.send`."""
    interrupted: Callable[[], None]
    """The bus lost its connection: publications may be missing from now on."""
    restored: Callable[[Sequence[str]], None]
    """Subscribed again to these channels: whoever needs the missing part reads it from history."""


class Mail(Protocol):
    """Small messages between edges (an action for a session that lives elsewhere, a question and its answer)."""

    def send(self, edge: str, body: bytes) -> Future[None]:
        """At most once; `SessionGone`-like outcomes are the receiver's to answer. Await a reply with a deadline."""
        ...


@dataclass(frozen=True, slots=True)
class LeaseState:
    """Answer of `renew`. `held`: ours, as before. `fresh`: there was none (first time, or Redis lost its data):
    register all sessions again. `lost`: another edge has declared us dead and taken our sessions: let go of them."""

    kind: str


class LeaseStore(Protocol):
    """One lease per edge process, and the estate of those that died. Time is Redis's, never ours."""

    def renew(self, edge: str, lease_ms: int, info: Mapping[str, str]) -> Future[LeaseState]: ...

    def release(self, edge: str) -> Future[None]:
        """Leave politely, with no sessions and links left; those on the edge's lists are an estate at once."""
        ...

    def edges(self) -> Future[Mapping[str, Mapping[str, str]]]:
        """Edges with a live lease → their `info`."""
        ...

    def owned(self, edge: str) -> Future[Sequence[str]]:
        """Ids of all sessions on the edge's list; some may have no row (any more), or another owner."""
        ...

    def lapsed(self) -> Future[Sequence[str]]:
        """Edges whose lease is over and whose estate is not cleared."""
        ...

    def claim_estate(self, dead: str, by: str, claim_ms: int) -> Future[bool]:
        """Only one survivor works on an estate at a time; the claim lapses with its claimant. From the first claim on
        the dead edge's `renew` answers `lost`."""
        ...

    def estate(self, dead: str, limit: int) -> Future[Sequence[SessionRow]]:
        """Up to `limit` of the dead edge's sessions; empty when it is cleared."""
        ...

    def inherit(self, row: SessionRow, by: str) -> Future[SessionRow]:
        """Make `by` the owner of one session under a higher fence; the row moves to `by`'s list."""
        ...

    def bury(self, dead: str) -> Future[None]:
        """The estate is cleared. As long as sessions or links are on the dead edge's lists nothing happens, and
        `lapsed` goes on naming it."""
        ...


class ReleaseStore(Protocol):
    """The release table of each app, replaced whole under a version; and offices that one edge has at a time."""

    def releases(self, app: str) -> Future[StoredTable]:
        """Version 0 when there is none."""
        ...

    def write_releases(self, app: str, document: Mapping[str, Any], expected: int) -> Future[bool]:
        """Replace the table of version `expected`. False: it is another one by now, and nothing was changed."""
        ...

    def hold_office(self, name: str, holder: str, ttl_ms: int) -> Future[bool]:
        """Take the office, or keep it, for `ttl_ms` more. False: another holder has it."""
        ...


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """`up`: the last command was answered. `since_ms`: monotonic time of the last change. `waiting`: queued commands.
    `error`: the last failure, for people, without secrets."""

    up: bool
    since_ms: int
    waiting: int
    error: str


class Store(SessionStore, ChannelStore, Mail, LeaseStore, ReleaseStore, Protocol):
    """All of it, on one set of connections."""

    @property
    def links(self) -> LinkStore:
        """Rows of held XMPP links."""
        ...

    def start(self, listener: BusListener) -> Future[None]:
        """Connect, load scripts, listen. Ends when Redis answered once, or with `StoreUnavailable` after
        `store_wait_s` (it goes on trying)."""
        ...

    def health(self) -> StoreHealth: ...

    def on_health(self, changed: Callable[[bool], None]) -> None:
        """Call `changed(up)` whenever Redis goes away or comes back."""
        ...

    async def close(self) -> None:
        """Write what is queued (bounded by `store_wait_s`), then disconnect."""
        ...
