"""What the edge asks of its store for held XMPP links, and what the store promises.

A link's row is one hash, with its waiting events, its unacknowledged stanzas and its iq table beside it, all in one
cluster slot. Every write is one script: all of it or nothing, and only for the owner: it carries a `Hold`, and another
owner, fence or life of the link is `FenceRefused`. The shape of commands is that of `edge.store.base`: a future at
once, one pipeline per loop tick, order kept per link. Everything may be sent again when a connection breaks, and takes
effect once.

The two rules this exists for: `<a h=n>` leaves after `receive` of stanza n has ended; a stanza is written to the socket
after its `send` has ended, in the order of places.

Besides the store's usual errors a future ends with

- `OutOfStep`: our picture of the row is not the row (a command before this one was refused, perhaps). Nothing was
  changed. `claim` again: the owner gets the full state, with the same fence;
- `QueueFull`: no room for these events, or stanzas. Nothing was changed, h neither: do not ack. Replace events that may
  be coalesced (`Change.replace`), stop reading the socket, and come again when the backend has accepted some. Of events
  that nobody can hold back (`disconnected`) the change says `urgent`, and has room. An empty queue takes anything;
- `CountTooHigh`: the server acknowledged more than was sent (XEP-0198 §4: close with undefined-condition).

After `StoreUnavailable` the command may have run: issue the same once more (same seq, same place, same `Action`), or
`claim` again to see. What was issued behind it has been refused as `OutOfStep`, or had nothing to do with it.

Numbers: `h_in`, `out_base`, `out_n` and places count stanzas of one stream, modulo 2**32 (XEP-0198 §4); `stream` counts
the enabled streams of a link, so that a late command cannot touch the counters of the next one; `seq` counts a link's
events from 1, without holes, over all streams and owners. A seq is given to one event only.
"""

from __future__ import annotations

import secrets
from asyncio import Future
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edge.facts import fact

PARKED = 1_000
"""Events laid aside for one link."""
ROW_VERSION = 1
"""Of what is stored. An edge does not claim a row of a newer one: it would lose what it does not know."""


@dataclass(frozen=True, slots=True)
class LinkBounds:
    """How much may wait in Redis for one link."""

    events: int = 10_000
    event_bytes: int = 8 * 1_048_576
    """Not accepted by the backend yet."""
    stanzas: int = 5_000
    stanza_bytes: int = 8 * 1_048_576
    """Not acknowledged by the server yet. Past it `send` is refused, not the link ended."""


@fact
class Hold:
    """The right to write: whose the link is, and which stream its counters belong to (0: none was enabled yet)."""

    link: str
    owner: str
    fence: int
    stream: int


@dataclass(frozen=True, slots=True)
class Action:
    """A backend's action, to be carried out once within 24 h. Keep the object to repeat a call after
    `StoreUnavailable`: the token tells that from a repeated action."""

    id: str
    token: str = field(default_factory=lambda: secrets.token_urlsafe(9))


@fact
class Stanza:
    """One of ours on its way to the server. `at`: wall ms when it was accepted, for <delay/>. `action_id`: empty for
    the edge's own."""

    raw: bytes
    at: int
    action_id: str = ""


@fact
class IqEntry:
    """A request without an answer: ours (`action_id`), or one that the backend shall answer. `key` is unique in the
    link; `id` and `peer` are the stanza's; `due_ms` is wall time. Deadlines are kept by the owner, who reads the table
    when it claims."""

    key: str
    id: str
    peer: str
    due_ms: int
    action_id: str = ""


@dataclass(frozen=True, slots=True)
class Save:
    """Small state to write. None: unchanged; every field has an empty value that clears it."""

    phase: str | None = None
    bound_jid: str | None = None
    lost_at: int | None = None
    detached_at: int | None = None
    inactive: bool | None = None
    presence: bytes | None = None
    last_mam_id: str | None = None
    credentials: bytes | None = field(default=None, repr=False)
    attached: Sequence[str] | None = None
    release: str | None = None
    pinned: str | None = None
    state_version: int | None = None
    state_set: Mapping[str, Any] = field(default_factory=dict)
    state_unset: Sequence[str] = ()


@fact
class Change:
    """What goes along with a command, in the same script.

    `events` get `first_seq` and the numbers after it. `done`: the backend has accepted the events up to this seq.
    `replace`: seq → new content of an event that waits and was not handed out (coalescing); of one that was accepted
    meanwhile it is passed over. `iq_done`: keys of entries that are answered or timed out."""

    first_seq: int = 0
    events: Sequence[bytes] = ()
    urgent: bool = False
    done: int = 0
    replace: Mapping[int, bytes] | None = None
    save: Save | None = None
    iq_set: Sequence[IqEntry] = ()
    iq_done: Sequence[str] = ()


@fact
class Outgoing:
    """A stanza to keep and then send; an iq request with its table entry."""

    stanza: Stanza
    iq: IqEntry | None = None


@fact
class Standing:
    """Of a link's events: the newest, the last one that the backend accepted, and the bytes of those between."""

    seq: int
    done: int
    bytes: int

    @property
    def waiting(self) -> int:
        return self.seq - self.done


@fact
class Sent:
    """Answer of `send`: the place of each stanza in the stream, None for an action that was carried out before: that
    one must not be written to the socket."""

    places: Sequence[int | None]
    standing: Standing


@fact
class WaitingEvent:
    seq: int
    data: bytes


@fact
class LinkRow:
    """A link as the store knows it. `owner` is an edge's id, or empty: released, free for anybody."""

    id: str
    app: str
    route: str
    release: str
    jid: str
    owner: str = ""
    fence: int = 0
    connect: Mapping[str, Any] = field(default_factory=dict)
    """The order to connect, without secrets: host, stanzas wanted, what to do when connected, ..."""
    stream: int = 0
    sm_id: str = ""
    """Empty: the stream cannot be resumed."""
    sm_max_s: int = 0
    location: str = ""
    h_in: int = 0
    out_base: int = 0
    out_n: int = 0
    seq: int = 0
    done: int = 0
    event_bytes: int = 0
    stanza_bytes: int = 0
    phase: str = ""
    """The model's word; nothing to the store."""
    bound_jid: str = ""
    lost_at: int = 0
    """Wall ms since when there is no stream; 0: there is one."""
    detached_at: int = 0
    """Wall ms since when no client is attached; 0: one is."""
    inactive: bool = False
    """Client state indication (XEP-0352), to be sent again after a resume."""
    presence: bytes = b""
    """The last one broadcast, raw."""
    last_mam_id: str = ""
    credentials: bytes = field(default=b"", repr=False)
    """Sealed; the store never sees inside."""
    attached: Sequence[str] = ()
    """Client sessions."""
    pinned: str = ""
    """The release that the link is kept on."""
    state_version: int = 0
    state: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hold(self) -> Hold:
        """For whoever the owner is."""
        return Hold(self.id, self.owner, self.fence, self.stream)


@dataclass(frozen=True, slots=True)
class HeldLink:
    """Everything but the waiting events, read at one moment: `unacked[i]` has place ``out_base + 1 + i``."""

    row: LinkRow
    unacked: Sequence[Stanza]
    iqs: Sequence[IqEntry]


@dataclass(frozen=True, slots=True)
class Begun:
    """Answer of `connect`: the link, and whether this call began it. `row` is None for a repeated action whose link
    has ended since: nothing is to be done."""

    row: LinkRow | None
    new: bool


@dataclass(frozen=True, slots=True)
class NewStream:
    """What <enabled/> said, and the stanzas to send (again) on the new stream, in order."""

    sm_id: str
    max_s: int = 0
    location: str = ""
    resend: Sequence[Stanza] = ()


@dataclass(frozen=True, slots=True)
class Restored:
    """Answer of `restore`. `written` is False when Redis had lost nothing. `lost`: events that neither Redis nor the
    caller has any more."""

    written: bool
    lost: int


@fact
class Freed:
    """An entry of the free list: a link that was released, and its fence then."""

    link: str
    fence: int


class LinkStore(Protocol):
    """Rows of links. A link is at every moment on the list of its owner, or of the owner it had last (`links_of`): a
    survivor finds it there. Released ones are on the free list besides (`freed`)."""

    def connect(self, row: LinkRow, by: str, action: Action | None = None) -> Future[Begun]:
        """Begin a link with `by` as its owner, unless there is one of this id; then that is returned, whatever its
        JID and owner are (the caller compares). The fence is above every earlier life's, and so are the seqs of its
        events (for 24 h). Of `row` everything counts but owner, fence and seq; its counters are those of a link that
        never had a stream."""
        ...

    def load(self, link: str) -> Future[LinkRow | None]:
        """The row, for anybody."""
        ...

    def claim(self, link: str, by: str, *, dead: str = "", freed: Freed | None = None) -> Future[HeldLink]:
        """Become the owner, under a higher fence, and read the state that is frozen by that: allowed when nobody owns
        the link, or `dead` does (which `condemn` has confirmed: then it stays true), or `by` itself (the fence stays).
        Otherwise `FenceRefused`. `dead` and `freed` say on whose list it was found; entries that are out of date are
        removed. After `StoreUnavailable` the link may be ours: claim it again. `StoreRefused` when the row was written
        by a newer release of the edge."""
        ...

    def receive(self, hold: Hold, h: int | None, change: Change) -> Future[Standing]:
        """Keep what came from the server: its events, and h, the count of all stanzas handled by now (None: no stanza,
        the edge's own events). Ack when it has ended. Events that were kept before are skipped, an h that was passed
        before is left alone, so a caller may repeat any part together with what is new."""
        ...

    def take(self, hold: Hold, after: int, limit: int, most_bytes: int) -> Future[Sequence[WaitingEvent]]:
        """Up to `limit` events after the seq `after`, in order, that the backend has not accepted; at least one if
        there is one, whatever it weighs. They stay until `accepted`. Empty: there are no more."""
        ...

    def accepted(self, hold: Hold, upto: int, change: Change | None = None) -> Future[Standing]:
        """The backend has accepted all events up to this seq (or they are parked): drop them."""
        ...

    def send(self, hold: Hold, before: int, outgoing: Sequence[Outgoing], change: Change | None = None) -> Future[Sent]:
        """Keep stanzas that are about to be sent. `before` is the place of the last one kept on this stream. An action
        id that was used within 24 h is a repeat: no stanza is kept for it. The change is carried out unless all of
        them are repeats and it has no news of `done`; so send an action alone that changes something. Ids that begin
        with ``~`` are not remembered (what they name is done with the event it answers, in one write), those with
        ``^`` for ten minutes (the edge's own, for actions that may be passed on twice)."""
        ...

    def acked(self, hold: Hold, h: int, change: Change | None = None) -> Future[int]:
        """The server has handled our stanzas up to h: drop them. How many that were. An h behind is not an error."""
        ...

    def resumed(self, hold: Hold, h: int, change: Change | None = None) -> Future[int]:
        """<resumed h/>: the stream goes on, its counters with it. The same as `acked`; what is left is sent again."""
        ...

    def enabled(self, hold: Hold, out_n: int, new: NewStream, change: Change | None = None) -> Future[Standing]:
        """<enabled/> on a stream that was not resumed: the counters begin at 0, and `new.resend` takes the place of the
        unacknowledged stanzas, all in one write. `hold` names the stream before and `out_n` its last place; from then
        on ``replace(hold, stream=hold.stream + 1)`` is the hold. Nothing is sent between <enable/> and this."""
        ...

    def save(self, hold: Hold, change: Change, action: Action | None = None) -> Future[bool]:
        """Write a change alone. False when `action` was carried out before: then nothing is changed."""
        ...

    def release(self, hold: Hold, change: Change | None = None) -> Future[None]:
        """Give the link to whoever claims it first (a graceful roll): everything before is written, the socket will be
        closed without an end tag. Ends well also when another edge owns the link already. Repeatable."""
        ...

    def disconnect(self, hold: Hold, *, drop: bool = False) -> Future[None]:
        """Delete the link, for good. `OutOfStep` while events wait, unless they are to be dropped. Its action ids are
        remembered on. Repeatable."""
        ...

    def park(self, link: str, event: bytes) -> Future[None]:
        """Lay an event aside that no backend takes, for people to look at. The newest `PARKED` are kept for a week. At
        least once: repeat it, then have the event `accepted`."""
        ...

    def parked(self, link: str) -> Future[Sequence[bytes]]:
        """What was laid aside, oldest first."""
        ...

    def restore(self, held: HeldLink, events: Sequence[WaitingEvent]) -> Future[Restored]:
        """Redis may have lost data: write the row again as its owner knows it, with the newest events it has in memory
        (all up to ``row.seq``, without a hole). Older ones are kept as far as Redis has them."""
        ...

    def links_of(self, edge: str, limit: int) -> Future[Sequence[str]]:
        """Some links on the edge's list, at random (so that survivors do not all begin with the same)."""
        ...

    def freed(self, limit: int) -> Future[Sequence[Freed]]:
        """Some released links, at random."""
        ...

    def condemn(self, edge: str, by: str, grace_ms: int) -> Future[bool]:
        """Whether the edge is dead for good: its lease is over, and from now on its `renew` answers `lost`. Any number
        of survivors may ask and then share its links, while one of them clears its sessions (`claim_estate`). An edge
        without any lease gets `grace_ms` to renew it. Ask only while our own lease has held for its whole time."""
        ...
