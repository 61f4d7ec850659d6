"""A link's events on their way to its backend: the `Mailbox` of the deliverer.

Owns what is under way, what is handed out besides the stored events (a change of release, a question for credentials),
and the reading of stored events that do not fit into memory. Events wait as long as it takes: a backend may be away for
hours, and the link goes on.
"""

from __future__ import annotations

import logging
from asyncio import Future
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge.backend.base import Outcome, Release
from edge.config import RouteSettings
from edge.errors import WireError
from edge.model.cohort import Subject
from edge.model.link_backlog import WINDOW, from_stored
from edge.model.link_phases import LinkPhase
from edge.protocol.callbacks.events import Event, LinkEvent, Parcel, ReleaseChanged
from edge.protocol.xmpp.jid import bare
from edge.sessions.links.outcomes import Outcomes
from edge.store.links_base import WaitingEvent

if TYPE_CHECKING:
    from edge.sessions.links.link import Link

_log = logging.getLogger("holdfast.links")

READ_MOST = WINDOW // 2
READ_BYTES = 1_048_576
"""Of stored events, read at a time."""


class LinkMailbox:
    """One link's."""

    __slots__ = (
        "_announced", "_asides", "_chosen", "_chosen_at", "_flying", "_link", "_moving", "_reading", "outcomes",
        "quiet",
    )  # fmt: skip

    def __init__(self, link: Link) -> None:
        self._link = link
        self.outcomes = Outcomes(link)
        self.quiet = False
        """The link is being given away: nothing more is handed out."""
        self._asides: list[Event] = []
        """Events that are not stored."""
        self._flying: list[Event] = []
        self._announced = False
        self._reading = False
        self._moving = False
        """It belongs to another release, and nothing but that may be there to hand out."""
        self._chosen: Release | None = None
        self._chosen_at = -1

    # -- Mailbox

    @property
    def session(self) -> str:
        return self._link.id

    @property
    def route(self) -> RouteSettings:
        return self._link.handle.settings

    @property
    def release(self) -> Release:
        releases = self._link.services.shared.releases
        if self._chosen is None or self._chosen_at != releases.version:
            self._chosen_at = releases.version
            self._chosen = self._choose(stay=True)
        return self._chosen

    def _choose(self, *, stay: bool) -> Release:
        releases, row = self._link.services.shared.releases, self._link.ledger.base
        subject = Subject(self._link.id, bare(row.jid))
        now = self._link.now_ms()
        return releases.choose(self.route, subject, row.pinned or None, row.release, now, stay=stay)

    @property
    def settling(self) -> bool:
        return self.outcomes.busy

    def take(self, max_events: int, max_bytes: int) -> Parcel:
        self._announced = False
        link = self._link
        if link.gone or self.quiet:
            return self._parcel((), 1)
        release, held = self.release.sha, link.ledger.base.release
        if release != held:
            now = link.now_ms()
            # With the time: a link that comes back to a release tells it something new.
            self._asides.insert(0, ReleaseChanged(f"{link.id}:release:{release}:{now}", now, held, release))
            link.ledger.save(release=release)
            link.pump()
        self._moving = False
        if self._asides:
            self._flying = [self._asides.pop(0)]
        else:
            self._flying = [event for _, event in link.ledger.backlog.take(max_events, max_bytes)]
        return self._parcel(self._flying, 1)

    def refresh(self, parcel: Parcel) -> Parcel:
        return self._parcel(parcel.events, parcel.attempt)

    def settle(self, outcomes: Sequence[tuple[Event, Outcome]]) -> None:
        if self._link.phase is not LinkPhase.GONE:
            self.outcomes.settle(outcomes)

    def _parcel(self, events: Sequence[Event], attempt: int) -> Parcel:
        row = self._link.ledger.base
        return Parcel(self._link.id, row.release, None, row.state, row.state_version, attempt, events)

    # -- what the link does

    @property
    def empty(self) -> bool:
        """Nothing is under way, or being carried out."""
        return not self._flying and not self.outcomes.busy

    def add_aside(self, event: Event) -> None:
        """Hand out an event that need not outlive this owner of the link."""
        self._asides.append(event)
        self.announce()

    def announce(self) -> None:
        """Tell the deliverer that there are events: once, and not before those under way are settled."""
        if self._announced or self._flying or self.outcomes.busy or self.quiet or self._link.phase is LinkPhase.GONE:
            return
        if self._asides or self._link.ledger.backlog.ready or self._moving:
            self._announced = True
            self._link.services.shared.deliverer.ready(self)

    def settled(self, event: Event, *, handed_back: bool) -> bool:
        """An outcome was carried out, or (`handed_back`) the event comes again. True: it was the last of those under
        way."""
        if handed_back and isinstance(event, LinkEvent) and event.fields["seq"]:
            self._link.ledger.backlog.hand_back(int(event.fields["seq"]))
        self._flying = [other for other in self._flying if other is not event]
        return not self._flying

    def move(self, *, stay: bool) -> bool:
        """As `LocalSession.move`."""
        link = self._link
        if link.gone or self.quiet:
            return False
        self._chosen_at = link.services.shared.releases.version
        self._chosen = self._choose(stay=stay)
        self._moving = self._chosen.sha != link.ledger.base.release
        if self._moving:
            self.announce()
        return self._moving

    def pinned(self) -> None:
        """The link is kept on another release from now on."""
        self._chosen = None

    def refill(self) -> None:
        """Read on what only the store has."""
        link = self._link
        after = link.ledger.backlog.wants_more
        if after is None or self._reading or link.phase is LinkPhase.GONE:
            return
        self._reading = True
        upto = link.ledger.backlog.kept

        def read(answer: Future[Sequence[WaitingEvent]]) -> None:
            self._reading = False
            if link.phase is LinkPhase.GONE:
                return
            if answer.cancelled() or answer.exception() is not None:
                link.after(1_000, self.refill)
                return
            found = answer.result()
            # Fewer than asked for: there are no more, and what is missing between was lost by Redis.
            last = found[-1].seq if len(found) >= READ_MOST or _heavy(found) else upto
            link.ledger.backlog.read(self._read(found), last)
            self.announce()
            self.refill()

        take = link.services.shared.store.links.take
        take(link.ledger.hold, after, READ_MOST, READ_BYTES).add_done_callback(read)

    def _read(self, found: Sequence[WaitingEvent]) -> list[tuple[int, LinkEvent]]:
        events = []
        for each in found:
            try:
                events.append((each.seq, from_stored(self._link.id, each.seq, each.data)))
            except WireError as error:
                _log.error("%s", error)
        return events


def _heavy(found: Sequence[WaitingEvent]) -> bool:
    """The answer may have ended where its bytes did."""
    return bool(found) and sum(len(each.data) for each in found) > READ_BYTES // 2
