"""The session at the server: how one begins, or goes on, and what has to be said and asked then.

A new session in the place of a lost one is told to the backend as a reset. What was missed is read from the archive
(XEP-0313) before presence is sent, so that old messages come before new ones; and once more behind it: what the server
took between its last page and our presence goes to nobody live, and Prosody gives no offline messages to whoever has
read the archive. A server handles our presence and our question in order, so then there is no moment left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.errors import WireError
from edge.model.link_phases import LinkPhase
from edge.protocol.xmpp.answers import ROSTER_QUERY
from edge.protocol.xmpp.outgoing import raw_stanza
from edge.protocol.xmpp.stream_facts import Connected
from edge.protocol.xmpp.stream_management import MODULUS
from edge.sessions.links.hearing import INTERNAL_S, ROSTER
from edge.sessions.links.reset import sort_out, stamp
from edge.store.links_base import NewStream

if TYPE_CHECKING:
    from edge.sessions.links.link import Link

CATCHING_UP = "catching-up"
"""Of the stored phase: live, and the archive has not been read to its end."""


class FarSession:
    """One link's."""

    __slots__ = ("_link", "_replayed")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._replayed: int | None = None
        """Messages that the first reading of the archive gave; None: it is not over."""

    def connected(self, fact: Connected) -> None:
        """The server has begun a session."""
        link = self._link
        if link.is_component:
            self._component_connected()
        else:
            link.ledger.new_stream(lambda: self._begin(fact), self._begun)

    def resumed(self, h: int, redelivered: int) -> None:
        """It goes on with the one that the ledger knows."""
        link, ledger = self._link, self._link.ledger
        link.meters.link_logins["resumed"].value += 1
        known = ledger.last_mam_id
        gap = max(0, link.now_ms() - ledger.base.lost_at) if ledger.base.lost_at else 0
        link.wire.acknowledged(h)
        link.tell("xmpp.resumed", {"gap_ms": gap, "redelivered": redelivered})
        catching_up = ledger.base.phase == CATCHING_UP
        ledger.save(lost_at=0, phase=CATCHING_UP if catching_up else LinkPhase.LIVE.value)
        if link.came_alive():
            link.wire.write_rest()
        if link.live and catching_up:
            self._catch_up()
        elif link.live and known and link.server is not None and link.server.archive_after_resume:
            # Now: what the server sends again comes behind, and is told apart from what it does not.
            link.hearing.catch_up(known, None, missed_only=True)

    def caught_up(self, count: int, *, whole: bool, missed_only: bool) -> None:
        """The archive has been read to its end, or cannot be. `missed_only`: as in `Hearing.catch_up`."""
        link, before = self._link, self._replayed
        if before is None and link.live and not missed_only:
            self._be_present()
            if whole:
                self._replayed = count
                self._read_archive()
                return
        self._replayed = None
        link.tell("xmpp.caught_up", {"count": count + (before or 0), "whole": whole})
        if not missed_only:
            link.ledger.save(phase=LinkPhase.LIVE.value)
        link.pump()

    def _begin(self, fact: Connected) -> NewStream:
        """What is stored of it, at once: where it begins, what of the old one goes on in it, what was lost."""
        link, ledger, wire = self._link, self._link.ledger, self._link.wire
        row = ledger.base
        ledger.save(bound_jid=fact.jid, lost_at=0, phase=LinkPhase.LIVE.value)
        link.bound(fact.jid)
        unsaid = [*tuple(ledger.unacked)[wire.written :], *ledger.drafted]
        link.hearing.session_lost({stanza.action_id for stanza in unsaid if stanza.action_id})
        base = (ledger.out_n - len(ledger.unacked)) % MODULUS
        h, reason = wire.lost_session
        remains = sort_out(tuple(ledger.unacked), base, h, wire.written, fact.jid)
        if not row.stream:
            link.meters.link_logins["connected"].value += 1
            link.tell("xmpp.connected", {"resumable": fact.resumable, "max_s": fact.max_s, "fresh": True})
        else:
            link.meters.link_logins["reset"].value += 1
            after, unknown = ledger.last_mam_id or None, list(remains.unknown)
            fields = {"server_h": h, "resent": remains.resent, "unknown": unknown, "mam_after": after}
            link.tell("xmpp.reset", {"reason": reason, **fields})
            for id in remains.unknown:
                self._tell_lost(id, "the session ended, and the server does not say whether it had it", certain=False)
            for id in remains.dropped:
                self._tell_lost(id, "the session ended before the server had it", certain=True)
            ledger.save(phase=CATCHING_UP)
        return NewStream(fact.sm_id, fact.max_s or 0, fact.location, remains.again)

    def _begun(self) -> None:
        """It is stored; now it may be used."""
        link = self._link
        if not link.came_alive():
            return
        link.wire.write_all()
        if link.options.roster:
            id = link.hearing.next_id()
            entry = link.hearing.ask(id, None, ROSTER, INTERNAL_S)
            link.send(f"<iq type='get' id='{id}'>{ROSTER_QUERY}</iq>".encode(), ROSTER, entry)
        if link.ledger.base.phase == CATCHING_UP:
            self._catch_up()
        else:
            self._be_present()
        link.pump()

    def _component_connected(self) -> None:
        """A component has no session: its counts go on from stream to stream, and so does all it has to say."""
        link = self._link
        link.meters.link_logins["connected"].value += 1
        link.ledger.save(bound_jid=link.ledger.base.jid, lost_at=0, phase=LinkPhase.LIVE.value)
        link.tell("xmpp.connected", {"resumable": False, "max_s": None, "fresh": True})
        if link.came_alive():
            link.wire.write_rest()

    def _catch_up(self) -> None:
        self._replayed = None
        self._read_archive()

    def _read_archive(self) -> None:
        link = self._link
        link.hearing.catch_up(link.ledger.last_mam_id or None, stamp(link.options.begun_at))

    def _be_present(self) -> None:
        """Say again what was last said to everybody; without it a server gives no messages to a new session."""
        link = self._link
        if link.ledger.base.presence:
            link.send(link.ledger.base.presence)
            return
        if not link.options.presence:
            return
        try:
            stanza = raw_stanza(link.options.presence, link.sender, limits=link.limits, allowed=("presence",))
        except WireError as error:
            text = f"on_connect.presence: {error}"
            link.tell("xmpp.send_failed", {"action_id": None, "reason": "invalid", "certain": True, "text": text})
        else:
            link.send(stanza.raw)

    def _tell_lost(self, action: str, text: str, *, certain: bool) -> None:
        fields = {"action_id": action, "reason": "session_lost", "certain": certain, "text": text}
        self._link.tell("xmpp.send_failed", fields)
