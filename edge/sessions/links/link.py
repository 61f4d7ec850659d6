"""A held XMPP link: the meeting point of its stream, its row, its backend and the clients that use it.

It is the `ConnectionListener` of its connection, the `Keeper` of its ledger and the `Mailbox` of the deliverer, and
decides little itself: what stanzas mean is `hearing`'s, what backends order `speaking`'s and `outcomes`', how to get to
the server `arrival`'s, what is durable `ledger`'s. Two rules are kept here, and make a link survive the death of its
edge at any moment: nothing is acknowledged to the server before the ledger has kept it, and nothing is written to the
server before the ledger has.

A live link that is idle holds no task. Longer than our other rooms because three ports meet in one object, as in
`edge.sessions.local_session`.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from edge.backend.base import Outcome, Release
from edge.config import RouteSettings, XmppSettings
from edge.errors import Conflict, SessionGone, WireError
from edge.links.connection import LinkConnection
from edge.model.link_backlog import WINDOW, from_stored, to_stored
from edge.model.link_options import LinkOptions
from edge.model.link_phases import TRANSITIONS, LinkFact, LinkPhase
from edge.protocol.callbacks.actions import AskBackend, Result, XmppConnect
from edge.protocol.callbacks.events import Event, LinkEvent, Parcel, ReleaseChanged
from edge.protocol.xmpp.answers import ROSTER_QUERY
from edge.protocol.xmpp.credentials import Credentials, ScramKeys
from edge.protocol.xmpp.element import Element
from edge.protocol.xmpp.framing import Ended, StreamLimits
from edge.protocol.xmpp.jid import bare
from edge.protocol.xmpp.outgoing import iq_stanza, raw_stanza
from edge.protocol.xmpp.stream_facts import (
    AckAsked,
    Acked,
    AuthFailed,
    Connected,
    Fact,
    Resumed,
    ResumeFailed,
    StanzaReceived,
    StreamFailed,
)
from edge.protocol.xmpp.stream_management import MODULUS, ahead
from edge.sessions.links.arrival import Arrival, credentials_for
from edge.sessions.links.hearing import INTERNAL_S, ROSTER, Hearing
from edge.sessions.links.ledger import Draft, Ledger
from edge.sessions.links.outcomes import Outcomes
from edge.sessions.links.reset import sort_out, stamp
from edge.sessions.links.services import LinkServices
from edge.sessions.links.speaking import Told
from edge.sessions.routes import RouteHandle
from edge.store.links_base import HeldLink, IqEntry, NewStream, Outgoing, Stanza, WaitingEvent
from edge.telemetry.metrics import ProcessMeters
from edge.wheel import Alarm

_log = logging.getLogger("holdfast.links")

CATCHING_UP = "catching-up"
"""Of the stored phase: live, and the archive has not been read to its end."""
UNKEPT_BYTES = 512 * 1_024
"""Heard and not durable yet; past it nothing more is read until some of it is."""
FULL_S = 60.0
"""How long a live connection is not read because its backend does not take events. Then it is given up, and the server
keeps what comes, as long as it does."""
LEAVE_S = 30.0
"""For getting back to the server only in order to log out there."""
DETACHED_S = 5.0
"""Interruptions shorter than this are told to nobody."""
GIVE_AWAY_S = 2.0
"""How long the server may take to acknowledge what it has, before the link is given away."""
TEMPORARY = frozenset({"temporary-auth-failure"})


class Link:
    """See the module's docstring. Not thread-safe: everything happens on the loop's thread."""

    __slots__ = (
        "_ack_asked", "_announced", "_arrival", "_asides", "_asked_for_credentials", "_chosen", "_chosen_at",
        "_confirmed", "_connection", "_failure", "_flying", "_full_alarm", "_given", "_keep_alarm",
        "_leave_alarm", "_moving", "_opening", "_outcomes", "_reading", "_resume_failed", "_speaks", "_task",
        "_tell_cut_alarm", "_told_upto", "_unkept", "_unwritten", "_written", "broke_while_resuming", "handle", "hearing", "leaving", "ledger",
        "limits", "meters", "options", "phase", "services",
    )  # fmt: skip

    def __init__(self, held: HeldLink, services: LinkServices, handle: RouteHandle) -> None:
        self.services = services
        self.handle = handle
        shared = services.shared
        self.meters: ProcessMeters = shared.metrics.process
        self.ledger = Ledger(held, shared.store.links, shared.clock, shared.wheel, self)
        self.options = LinkOptions.from_stored(held.row.connect)
        self.phase = _phase_of(held.row.phase)
        self.leaving: tuple[str, str] | None = None
        """Log out as soon as everything is with the server: (reason, text)."""
        server = services.server(self.domain)
        self.limits = StreamLimits(stanza_bytes=server.stanza_bytes) if server is not None else StreamLimits()
        self.broke_while_resuming = False
        self.hearing = Hearing(self)
        self._outcomes = Outcomes(self)
        self._connection: LinkConnection | None = None
        self._speaks = False
        """Stanzas may be written: the session at the server is the one that the ledger counts."""
        self._written = 0
        """How many of the ledger's unacknowledged stanzas the stream was given when it began."""
        self._unwritten = 0
        """How many of the last of them were never written."""
        self._told_upto: int | None = None
        """The count of ours that the backend was told of (`xmpp.sent`)."""
        self._resume_failed: tuple[int | None, str] | None = None
        self._failure: tuple[str, str, bool] | None = None
        self._opening: Future[bool] | None = None
        self._task: asyncio.Task[None] | None = None
        self._arrival: Arrival | None = None
        self._confirmed: list[Future[None]] = []
        self._moving = False
        """Being given away: nothing new is begun."""
        self._ack_asked = False
        self._unkept = 0
        self._given: Future[Credentials] | None = None
        self._asked_for_credentials = 0
        self._asides: deque[Event] = deque()
        """Events that are not stored."""
        self._flying: list[Event] = []
        self._announced = False
        self._reading = False
        self._chosen: Release | None = None
        self._chosen_at = -1
        self._keep_alarm: Alarm | None = None
        self._leave_alarm: Alarm | None = None
        self._full_alarm: Alarm | None = None
        self._tell_cut_alarm: Alarm | None = None

    # -- what others ask

    @property
    def session(self) -> str:
        return self.ledger.hold.link

    @property
    def jid(self) -> str:
        """Full once bound."""
        return self.ledger.base.bound_jid or self.ledger.base.jid

    @property
    def account(self) -> str:
        return bare(self.jid)

    @property
    def domain(self) -> str:
        return bare(self.ledger.base.jid).rpartition("@")[2]

    @property
    def server_settings(self) -> XmppSettings:
        return self.services.server(self.domain) or XmppSettings(domain=self.domain)

    def find_server(self) -> XmppSettings | None:
        return self.services.server(self.domain)

    @property
    def attached(self) -> Sequence[str]:
        return self.ledger.base.attached

    @property
    def live(self) -> bool:
        return self.phase is LinkPhase.LIVE

    def now_ms(self) -> int:
        return self.services.shared.clock.wall_ms()

    def after(self, delay_ms: int, callback: Callable[[], None]) -> Alarm:
        return self.services.shared.wheel.after(delay_ms, callback)

    # -- beginning

    def start(self) -> None:
        """Take up what the row says: go to the server, or tell what is left to tell."""
        if not self.attached:
            self._watch_keeping()
        self.announce()
        self._refill()
        if self.phase is LinkPhase.CONNECTING:
            self._go()
        elif self.phase is LinkPhase.ENDING:
            self._forget_when_told()

    def _go(self) -> None:
        """Get to the server, if nobody is at it already."""
        if self._task is None and self.phase is LinkPhase.CONNECTING and not self._moving:
            self._arrival = Arrival(self)
            self._task = self.services.loop.create_task(self._arrival.run(), name=f"link {self.session}")
            self._task.add_done_callback(self._arrived)

    def _arrived(self, task: asyncio.Task[None]) -> None:
        self._task = self._arrival = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            _log.error("link %s: connecting failed; trying again: %r", self.session, error, exc_info=error)
            self.after(5_000, self._go)
        elif self.phase is LinkPhase.CONNECTING:
            self._go()

    async def confirmed(self) -> None:
        """Everything is durable, the link is still ours, and Redis has it. A server must not be bothered before: the
        connection may have broken because another edge has taken the link over."""
        done: Future[None] = self.services.loop.create_future()
        self._confirmed.append(done)
        if self.ledger.idle or self.ledger.full:
            self.ledger.verify()
        else:
            self.ledger.flush()
        await done

    # -- connecting (for `arrival`)

    def begin(self, connection: LinkConnection, *, resuming: bool) -> Future[bool]:
        """A stream is about to begin; the future says whether it came alive."""
        self._connection = connection
        self._speaks = False
        self._ack_asked = False
        self._unkept = 0
        self._resume_failed = None if resuming or not self.ledger.base.sm_id else (None, "the server broke off")
        self._failure = None
        self.broke_while_resuming = False
        self._written = len(self.ledger.unacked)
        self._told_upto = None
        self._opening = self.services.loop.create_future()
        return self._opening

    def not_there(self, why: str) -> None:
        """The server could not be reached."""
        self._failure = ("unreachable", why, False)

    def pinned_mechanism(self, domain: str) -> str | None:
        return self.services.house.pinned.get(domain)

    def pin_mechanism(self, mechanism: str) -> None:
        self.services.house.pinned[self.domain] = mechanism

    async def ask_credentials(self, wait_s: float) -> Credentials | None:
        """Have the backend give them; None: it did not, in time."""
        self._asked_for_credentials += 1
        self._given = given = self.services.loop.create_future()
        hold = self.ledger.hold
        fields = {"seq": 0, "jid": self.jid, "reason": "resume" if self.ledger.base.sm_id else "connect"}
        id = f"{self.session}:credentials:{hold.fence}.{self._asked_for_credentials}"
        self._asides.append(LinkEvent(id, self.now_ms(), "xmpp.credentials", fields))
        self.announce()
        try:
            async with asyncio.timeout(wait_s):
                return credentials_for(self.ledger.base.jid, await given)
        except TimeoutError:
            return None
        finally:
            self._given = None

    def give_credentials(self, auth: Credentials) -> None:
        if self._given is None or self._given.done():
            raise Conflict("nobody asked for credentials, or not any more")
        self._given.set_result(auth)

    # -- ConnectionListener

    def heard(self, facts: Sequence[Fact]) -> None:
        ledger = self.ledger
        for fact in facts:
            match fact:
                case StanzaReceived(element, h, ours):
                    if not ours:
                        self.hearing.stanza(element)
                    if h:
                        ledger.heard(h)
                    self._unkept += len(element.raw)
                    self.meters.link_stanzas["in"].value += 1
                case AckAsked():
                    self._ack_asked = True
                case Acked(h):
                    self._acknowledged(h)
                case Connected():
                    self._connected(fact)
                case Resumed(h, redelivered):
                    self._resumed(h, redelivered)
                case ResumeFailed(h):
                    self._resume_failed = (h, "item-not-found")
                case AuthFailed(condition, text):
                    self._failure = (condition, text, True)
                    self._refused(condition, text)
                case StreamFailed(condition, text, by_server):
                    self._failure = (condition, text, by_server)
                case Ended():
                    self._failure = ("ended", "the server ended the stream", True)
        self.pump()
        if ledger.idle or ledger.waits_for_store or ledger.full:
            self._acknowledge()
        if self._connection is not None and self._unkept > UNKEPT_BYTES:
            self._connection.pause()

    def keys_made(self, keys: ScramKeys) -> None:
        if self._arrival is not None:
            self._arrival.keys_made(keys)

    def cut(self, reason: str) -> None:
        connection, self._connection = self._connection, None
        spoke, self._speaks = self._speaks, False
        self._cancel_alarm("_full_alarm")
        if connection is None or self.phase is LinkPhase.GONE:
            return
        condition, text, by_server = self._failure or ("", reason, False)
        if self.phase is LinkPhase.LIVE:
            self.meters.links_live.value -= 1
            self._move(LinkFact.CUT)
            self.ledger.save(lost_at=self.now_ms(), phase=self._stored_phase())
            _log.info("link %s: connection lost: %s", self.session, text or reason)
            if self.options.detached:
                self._tell_cut_alarm = self.after(round(DETACHED_S * 1_000), lambda: self._tell_cut(condition, text))
        elif self._opening is not None:
            self.broke_while_resuming = not by_server or condition == "ended"
            _log.warning("link %s: could not log in: %s", self.session, " ".join((condition, text or reason)).strip())
        if self._opening is not None and not self._opening.done():
            self._opening.set_result(False)
        self._opening = None
        if spoke and condition == "conflict" and by_server:
            self._replaced(text)
        elif self.leaving is not None and self.phase is LinkPhase.CONNECTING and not self.ledger.base.sm_id:
            self.end("xmpp.disconnected", *self.leaving)
        self._go()
        self.pump()

    # -- the session at the server

    def _connected(self, fact: Connected) -> None:
        self.ledger.new_stream(lambda: self._begin_session(fact), lambda: self._session_begun(fact))

    def _begin_session(self, fact: Connected) -> NewStream:
        """What is to be stored of it, at once: where it begins, what of the old one goes on in it, what was lost."""
        ledger, row = self.ledger, self.ledger.base
        ledger.save(bound_jid=fact.jid, lost_at=0, phase=LinkPhase.LIVE.value)
        base = (ledger.out_n - len(ledger.unacked)) % MODULUS
        failed = self._resume_failed or (None, "new session")
        written = len(ledger.unacked) - self._unwritten if row.stream else 0
        remains = sort_out(tuple(ledger.unacked), base, failed[0], written, fact.jid)
        self._unwritten = 0
        self.hearing.session_lost()
        common = {"jid": fact.jid}
        if row.stream:
            self.meters.link_logins["reset"].value += 1
            fields = {
                "reason": failed[1], "server_h": failed[0], "resent": remains.resent, "unknown": list(remains.unknown),
                "mam_after": ledger.last_mam_id or None,
            }  # fmt: skip
            self.tell("xmpp.reset", {**fields, **common})
            for id in remains.unknown:
                self._tell_lost(id, certain=False)
            for id in remains.dropped:
                self._tell_lost(id, certain=True)
            ledger.save(phase=CATCHING_UP)
        else:
            self.meters.link_logins["connected"].value += 1
            fields = {"resumable": fact.resumable, "max_s": fact.max_s, "fresh": True}
            self.tell("xmpp.connected", {**fields, **common})
        return NewStream(fact.sm_id, fact.max_s or 0, fact.location, remains.again)

    def _tell_lost(self, action: str, *, certain: bool) -> None:
        text = "the session ended before the server had it" if certain else "the session ended; it may have arrived"
        fields = {"action_id": action, "reason": "session_lost", "certain": certain, "text": text}
        self.tell("xmpp.send_failed", fields)

    def _session_begun(self, fact: Connected) -> None:
        """It is stored; now it may be used."""
        if self._connection is None or not self._connection.stream.live:
            return
        self._came_alive()
        if self.ledger.unacked:
            self._write(tuple(self.ledger.unacked))
        if self.options.roster:
            self._ask_itself(ROSTER, ROSTER_QUERY)
        if self.ledger.base.phase == CATCHING_UP:
            self._catch_up()
        else:
            self._be_present()
        self.pump()

    def _catch_up(self) -> None:
        """Read what was missed from the archive, before presence brings new messages."""
        self.hearing.catch_up(self.ledger.last_mam_id or None, stamp(self.options.begun_at))

    def caught_up(self, count: int, *, whole: bool) -> None:
        """The archive has been read: everything from now on comes live."""
        self.tell("xmpp.caught_up", {"count": count, "whole": whole})
        self.ledger.save(phase=LinkPhase.LIVE.value)
        if self.live:
            self._be_present()
        self.pump()

    def _be_present(self) -> None:
        """Say again what was last said to everybody; without it a server gives no messages to a new session."""
        presence = self.ledger.base.presence.decode() or self.options.presence
        if not presence:
            return
        try:
            self.send(raw_stanza(presence, self.jid, limits=self.limits, allowed=("presence",)).raw)
        except WireError as error:
            self.tell(
                "xmpp.send_failed",
                {"action_id": None, "reason": "invalid", "certain": True, "text": f"on_connect.presence: {error}"},
            )

    def _ask_itself(self, action: str, query: str) -> None:
        id = self.hearing.next_id()
        entry = self.hearing.ask(id, None, action, INTERNAL_S)
        self.send(iq_stanza("get", id, None, query, self.jid).raw, action, entry)

    def _resumed(self, h: int, redelivered: int) -> None:
        ledger = self.ledger
        self.meters.link_logins["resumed"].value += 1
        gap = max(0, self.now_ms() - ledger.base.lost_at) if ledger.base.lost_at else 0
        self._tell_acknowledged(h)
        ledger.acknowledged(h)
        self.tell("xmpp.resumed", {"gap_ms": gap, "redelivered": redelivered})
        catching_up = ledger.base.phase == CATCHING_UP
        ledger.save(lost_at=0, phase=CATCHING_UP if catching_up else LinkPhase.LIVE.value)
        extra = tuple(ledger.unacked)[self._written :]
        self._came_alive()
        if extra:
            self._write(extra)
        self._unwritten = 0
        if catching_up:
            self._catch_up()

    def _came_alive(self) -> None:
        self._speaks = True
        self._cancel_alarm("_tell_cut_alarm")
        self._move(LinkFact.CAME_ALIVE)
        self.meters.links_live.value += 1
        if self._opening is not None and not self._opening.done():
            self._opening.set_result(True)
        self._opening = None
        if self.leaving is not None:
            self.services.loop.call_soon(self._log_out_when_written)

    def _refused(self, condition: str, text: str) -> None:
        """The login failed. Once is enough: servers lock accounts out."""
        if condition in TEMPORARY:
            return
        self.meters.link_logins["refused"].value += 1
        self.end("xmpp.auth_failed", condition, text)

    def _replaced(self, text: str) -> None:
        """Another client has taken our resource, or another edge has: only the first is for the backend to hear, and
        then there is no fighting over it."""

        async def ours() -> None:
            await self.confirmed()
            if self.phase is LinkPhase.CONNECTING and not (
                self._connection is not None and self._connection.stream.live
            ):
                self.end("xmpp.disconnected", "conflict", text)

        if self._task is None:
            self._task = self.services.loop.create_task(ours())
            self._task.add_done_callback(self._arrived)

    # -- writing

    def send(
        self, raw: bytes | Element, action: str = "", entry: IqEntry | None = None, told: Told | None = None
    ) -> None:
        """Make a stanza durable, then write it. `told`: see `Draft`."""
        raw = raw if isinstance(raw, bytes) else raw.raw
        stanza = Stanza(raw, self.now_ms(), "" if action.startswith("!") else action)
        self.ledger.send(Draft(Outgoing(stanza, entry), told))
        if self.phase is LinkPhase.SUSPENDED:
            self.wake_up()

    def send_raw(self, raw: bytes, entry: IqEntry | None = None) -> None:
        self.send(raw, "!", entry)

    def may_send(self, stanzas: Sequence[Stanza]) -> None:
        if self._speaks and self._connection is not None and self._connection.stream.live:
            self._write(stanzas)
        else:
            self._unwritten += len(stanzas)  # the next stream begins with them

    def _write(self, stanzas: Sequence[Stanza]) -> None:
        connection = self._connection
        assert connection is not None
        connection.stream.send([stanza.raw for stanza in stanzas])
        connection.write_soon()
        self.meters.link_stanzas["out"].value += len(stanzas)
        if connection.stream.management is None:
            # Nobody will acknowledge them: written is all there is to know.
            self._acknowledged(self.ledger.out_n)

    def _acknowledged(self, h: int) -> None:
        self._tell_acknowledged(h)
        self.ledger.acknowledged(h)

    def _tell_acknowledged(self, h: int) -> None:
        if not self.options.sent:
            return
        ledger = self.ledger
        base = (ledger.out_n - len(ledger.unacked)) % MODULUS
        count = ahead(h, base)
        told = ahead(self._told_upto, base) if self._told_upto is not None else 0
        first = told if told <= len(ledger.unacked) else 0
        self._told_upto = h
        stanzas = list(ledger.unacked)[first:count] if count <= len(ledger.unacked) else []
        ids = [stanza.action_id for stanza in stanzas if stanza.action_id]
        if ids:
            self.tell("xmpp.sent", {"action_ids": ids})

    def _acknowledge(self) -> None:
        """Tell the server what is durable: when it asks, or there is news."""
        connection = self._connection
        if connection is None or not self._speaks or not connection.stream.live:
            return
        management = connection.stream.management
        if management is None:
            return
        h = self.ledger.h_in
        if self._ack_asked or h != management.confirmed:
            self._ack_asked = False
            connection.stream.ack(h)
            connection.write_soon()

    # -- Keeper

    def kept(self, h: int | None) -> None:
        if h is not None:
            self._unkept = 0
        self._acknowledge()
        self.announce()

    def flushed(self) -> None:
        ledger, connection = self.ledger, self._connection
        if ledger.full:
            self._hold_back()
        elif connection is not None and connection.paused and self._unkept <= UNKEPT_BYTES and not self._moving:
            self._cancel_alarm("_full_alarm")
            connection.go_on()
        ledger.flush()
        self._refill()
        if ledger.idle or ledger.full:
            for done in self._confirmed:
                if not done.done():
                    done.set_result(None)
            self._confirmed.clear()
        if ledger.idle:
            if self.leaving is not None:
                self._log_out_when_written()
            if self.phase is LinkPhase.ENDING:
                self._forget_when_told()

    def dispossessed(self, why: str) -> None:
        _log.info("link %s is let go: %s", self.session, why)
        self.lose()

    # -- Mailbox

    @property
    def route(self) -> RouteSettings:
        return self.handle.settings

    @property
    def release(self) -> Release:
        releases = self.services.shared.releases
        if self._chosen is None or self._chosen_at != releases.version:
            row = self.ledger.base
            self._chosen_at = releases.version
            self._chosen = releases.choose(self.handle.settings, row.pinned or None, row.release)
        return self._chosen

    @property
    def settling(self) -> bool:
        return self._outcomes.busy

    def take(self, max_events: int, max_bytes: int) -> Parcel:
        self._announced = False
        release, row = self.release.sha, self.ledger.base
        if release != row.release:
            id = f"{self.session}:release:{release}"
            self._asides.appendleft(ReleaseChanged(id, self.now_ms(), row.release, release))
            self.ledger.save(release=release)
            self.pump()
        if self._asides:
            self._flying = [self._asides.popleft()]
        else:
            self._flying = [event for _, event in self.ledger.backlog.take(max_events, max_bytes)]
        return self._parcel(self._flying)

    def refresh(self, parcel: Parcel) -> Parcel:
        return self._parcel(parcel.events, parcel.attempt)

    def _parcel(self, events: Sequence[Event], attempt: int = 1) -> Parcel:
        row = self.ledger.base
        return Parcel(self.session, row.release, None, row.state, row.state_version, attempt, events)

    def settle(self, outcomes: Sequence[tuple[Event, Outcome]]) -> None:
        if self.phase is not LinkPhase.GONE:
            self._outcomes.settle(outcomes)

    # -- events

    def tell(
        self, kind: str, fields: Mapping[str, Any], *, key: Hashable | None = None, from_server: bool = False
    ) -> int:
        """A new event; its seq. It is stored with the next flush. `from_server`: it can be held back there, if the
        backend takes no more."""
        if not from_server:
            self.ledger.urgent = True
        return self.ledger.backlog.add(kind, self.now_ms(), {"jid": self.jid, **fields}, key)

    def pump(self) -> None:
        """Have everything that has gathered made durable."""
        if self.phase is not LinkPhase.GONE:
            self.ledger.flush()

    def announce(self) -> None:
        """Tell the deliverer that there are events: once, and not before those under way are settled."""
        if self._announced or self._flying or self._outcomes.busy or self.phase is LinkPhase.GONE or self._moving:
            return
        if self._asides or self.ledger.backlog.ready:
            self._announced = True
            self.services.shared.deliverer.ready(self)

    def settled(self, event: Event, *, handed_back: bool) -> bool:
        """An outcome was carried out. True when it was the last of those under way."""
        if handed_back and isinstance(event, LinkEvent) and event.fields["seq"]:
            self.ledger.backlog.hand_back(int(event.fields["seq"]))
        self._flying = [other for other in self._flying if other is not event]
        return not self._flying

    def _refill(self) -> None:
        """Read on what only the store has."""
        after = self.ledger.backlog.wants_more
        if after is None or self._reading or self.phase is LinkPhase.GONE:
            return
        self._reading = True
        upto = self.ledger.backlog.kept

        def read(answer: Future[Sequence[WaitingEvent]]) -> None:
            self._reading = False
            if answer.cancelled() or answer.exception() is not None:
                self.after(1_000, self._refill)
                return
            events = []
            for each in answer.result():
                try:
                    events.append((each.seq, from_stored(self.session, each.seq, each.data)))
                except WireError as error:
                    _log.error("%s", error)
            newest = events[-1][0] if len(answer.result()) >= WINDOW // 2 and events else upto
            self.ledger.backlog.read(events, newest)
            self.announce()

        take = self.services.shared.store.links.take
        take(self.ledger.hold, after, WINDOW // 2, 64 * 1_048_576).add_done_callback(read)

    def park(self, event: LinkEvent, why: str) -> None:
        """Lay an event aside that no backend takes, so that those behind it are heard."""
        _log.error("link %s: event %s (%s) is laid aside: %s", self.session, event.id, event.kind, why)
        self.meters.link_events_parked.value += 1
        parked = self.services.shared.store.links.park(self.session, to_stored(event))
        parked.add_done_callback(lambda answer: answer.cancelled() or answer.exception())

    def tell_state(self) -> None:
        backlog = self.ledger.backlog
        self.tell(
            "xmpp.state",
            {
                "phase": self.phase.value if self.phase is not LinkPhase.ENDING else "lost",
                "resumable": bool(self.ledger.base.sm_id),
                "attached": list(self.attached),
                "waiting": backlog.waiting,
                "unacked": len(self.ledger.unacked),
            },
        )

    # -- orders

    def order(self, result: Result, reply: Told) -> None:
        """Carry out actions from elsewhere, in turn with the answers of the backend."""
        if self.phase is LinkPhase.GONE or self._moving:
            reply(SessionGone(f"link {self.session} is not here"))
        else:
            self._outcomes.order(result, reply)

    def change_state(self, set: Mapping[str, Any], unset: Sequence[str]) -> None:
        self.ledger.change_state(set, unset)

    def pin(self, release: str | None) -> None:
        self.ledger.save_result(pinned=release or "")
        self._chosen = None

    def connect_again(self, action: XmppConnect) -> None:
        """An order to connect where there is a link already: nothing new, unless that one has ended."""
        if bare(action.jid) != bare(self.ledger.base.jid):
            raise Conflict(f"link {self.session} is {self.ledger.base.jid}'s: disconnect it first, or use another id")
        if action.attach:
            self.attach(action.attach)
        if self.phase is LinkPhase.ENDING:
            self._revive(action)
        elif self.phase is LinkPhase.SUSPENDED:
            self.wake_up()
        self.tell_state()

    def _revive(self, action: XmppConnect) -> None:
        if action.auth is not None and not isinstance(action.auth, AskBackend):
            auth = credentials_for(action.jid, action.auth)
            self.ledger.save(credentials=self.services.vault.seal(self.session, auth))
        self.leaving = None
        self._move(LinkFact.WANTED)
        self.ledger.save(phase=LinkPhase.CONNECTING.value)
        self._go()

    def attach(self, clients: Sequence[str]) -> None:
        attached = tuple(dict.fromkeys([*self.attached, *clients]))
        if attached == tuple(self.attached):
            return
        self._set_attached(attached)

    def detach(self, client: str) -> None:
        if client in self.attached:
            self._set_attached(tuple(other for other in self.attached if other != client))

    def _set_attached(self, attached: tuple[str, ...]) -> None:
        before = tuple(self.attached)
        detached_at = 0 if attached else self.now_ms()
        self.ledger.save(attached=attached, detached_at=detached_at, inactive=not attached)
        self.services.house.attached(self, before, attached)
        self._watch_keeping()
        connection = self._connection
        if connection is not None and bool(before) != bool(attached):
            connection.stream.set_active(bool(attached))
            connection.write_soon()
        if attached and self.phase is LinkPhase.SUSPENDED:
            self.wake_up()
        self.pump()

    def _watch_keeping(self) -> None:
        """Nobody uses the link: it lives on for a while."""
        self._cancel_alarm("_keep_alarm")
        row = self.ledger.base
        if not row.attached and self.phase is not LinkPhase.ENDING:
            left = row.detached_at + self.options.keep_ms - self.now_ms()
            self._keep_alarm = self.after(max(0, left), lambda: self.log_out("detached", "no client uses the link"))

    def wake_up(self) -> None:
        if self.phase is LinkPhase.SUSPENDED:
            self._move(LinkFact.WANTED)
            self.ledger.save(phase=LinkPhase.CONNECTING.value)
            self.pump()
            self._go()

    def suspend(self) -> None:
        """Leave the session at the server alone."""
        if self.phase in (LinkPhase.LIVE, LinkPhase.CONNECTING):
            if self.phase is LinkPhase.LIVE:
                self.meters.links_live.value -= 1
            self._move(LinkFact.PUT_TO_SLEEP)
            self.ledger.save(phase=LinkPhase.SUSPENDED.value, lost_at=self.now_ms())
            self._drop_connection()
            self._stop_arriving()
            self.pump()

    # -- ending

    def log_out(self, reason: str, text: str) -> None:
        """End the session at the server, when it has everything that was to be said before, and then the link."""
        if self.phase in (LinkPhase.ENDING, LinkPhase.GONE) or self.leaving is not None:
            return
        self.leaving = (reason, text)
        if self.phase is LinkPhase.LIVE:
            self._log_out_when_written()
        elif self.ledger.base.sm_id:
            # The server keeps the session, and contacts see it: it is worth a trip.
            self.wake_up()
            self._leave_alarm = self.after(round(LEAVE_S * 1_000), self._leave_anyway)
        else:
            self._leave_anyway()

    def _log_out_when_written(self) -> None:
        if self.leaving is None or self.phase is not LinkPhase.LIVE or not self.ledger.idle:
            return
        connection = self._connection
        if connection is not None:
            connection.stream.close()
        self.end("xmpp.disconnected", *self.leaving)

    def _leave_anyway(self) -> None:
        if self.leaving is not None and self.phase not in (LinkPhase.ENDING, LinkPhase.GONE):
            self.end("xmpp.disconnected", *self.leaving)

    def end(self, kind: str, reason: str, text: str) -> None:
        """The link is over: this is its last event."""
        if self.phase in (LinkPhase.ENDING, LinkPhase.GONE):
            return
        if self.phase is LinkPhase.LIVE:
            self.meters.links_live.value -= 1
        self._move(LinkFact.ENDED)
        self._cancel_alarms()
        _log.info("link %s has ended: %s %s", self.session, reason, text)
        if kind == "xmpp.auth_failed":
            self.tell(kind, {"condition": reason, "text": text, "will_retry": False})
        else:
            self.tell(kind, {"reason": reason, "text": text, "will_retry": False})
        self.ledger.save(phase=LinkPhase.ENDING.value, credentials=b"", lost_at=self.now_ms())
        self._drop_connection()
        self._stop_arriving()
        self.hearing.stop()
        self.pump()

    def _forget_when_told(self) -> None:
        """The backend has accepted the last event: nothing of the link is kept."""
        backlog = self.ledger.backlog
        if backlog.done < backlog.seq or not self.ledger.idle or self._flying or self._outcomes.busy:
            return
        self._move(LinkFact.TOLD)
        self.ledger.close()
        self.services.house.forget(self)

    def lose(self) -> None:
        """Another edge owns the link, or will: not one more byte to the server, nor to Redis."""
        if self.phase is LinkPhase.GONE:
            return
        if self.phase is LinkPhase.LIVE:
            self.meters.links_live.value -= 1
        self._move(LinkFact.LEFT)
        self.ledger.close()
        self._outcomes.drop()
        self._cancel_alarms()
        self.hearing.stop()
        connection, self._connection = self._connection, None
        self._speaks = False
        if connection is not None:
            connection.abort()
        self._stop_arriving()
        self.services.house.lost(self)

    async def give_away(self) -> None:
        """Let another edge go on at once: everything durable and acknowledged, the connection closed, the session left
        at the server. Raises StoreError when that could not be told to Redis; the lease will run out then."""
        self._moving = True
        self._stop_arriving()
        try:
            async with asyncio.timeout(GIVE_AWAY_S):
                await self.confirmed()
                await self._all_acknowledged()
        except TimeoutError:
            _log.info("link %s: given away before the server had acknowledged all", self.session)
        if self.phase is LinkPhase.GONE:
            return
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.pause()
        async with asyncio.timeout(GIVE_AWAY_S):
            await self.confirmed()
        if self.phase is LinkPhase.GONE:
            return
        if connection is not None:
            self._connection = connection
            self._acknowledge()
            self._connection = None
            connection.leave()
        hold = self.ledger.hold
        lost_at = self.ledger.base.lost_at or self.now_ms()
        self.ledger.save(lost_at=lost_at)
        self.ledger.flush()
        self.lose()
        await self.services.shared.store.links.release(hold)

    async def _all_acknowledged(self) -> None:
        """An ejabberd that is resumed while it has stanzas of ours to read takes them twice (23.01)."""
        while self.ledger.unacked and self._speaks and self._connection is not None:
            await asyncio.sleep(0.02)

    # -- inside

    def _hold_back(self) -> None:
        """The backend does not take events, and there is no room for more: TCP makes the server wait, for a while."""
        connection = self._connection
        if connection is None or connection.paused:
            return
        connection.pause()
        _log.warning("link %s: %d events wait; its server is made to wait", self.session, self.ledger.backlog.waiting)

        def give_up() -> None:
            self._full_alarm = None
            if self.ledger.full and self.live:
                _log.error(
                    "link %s: the backend has not taken events for %d s while no more could wait; the connection is "
                    "closed, and the server keeps what comes for as long as it does",
                    self.session,
                    FULL_S,
                )
                self.suspend()

        self._full_alarm = self.after(round(FULL_S * 1_000), give_up)

    def _tell_cut(self, condition: str, text: str) -> None:
        self._tell_cut_alarm = None
        if self.phase is LinkPhase.CONNECTING:
            self.tell("xmpp.detached", {"reason": condition or "connection-lost", "text": text})
            self.pump()

    def _stored_phase(self) -> str:
        return CATCHING_UP if self.ledger.base.phase == CATCHING_UP else self.phase.value

    def _drop_connection(self) -> None:
        """Without another word to us; what the stream still has to say is said."""
        connection, self._connection = self._connection, None
        self._speaks = False
        if connection is not None:
            connection.leave()
        if self._opening is not None and not self._opening.done():
            self._opening.set_result(False)
        self._opening = None

    def _stop_arriving(self) -> None:
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def _move(self, fact: LinkFact) -> None:
        self.phase = TRANSITIONS[self.phase, fact]

    def _cancel_alarms(self) -> None:
        for name in ("_keep_alarm", "_leave_alarm", "_full_alarm", "_tell_cut_alarm"):
            self._cancel_alarm(name)

    def _cancel_alarm(self, name: str) -> None:
        alarm: Alarm | None = getattr(self, name)
        if alarm is not None:
            alarm.cancel()
            setattr(self, name, None)


def _phase_of(stored: str) -> LinkPhase:
    """Where a link is that was just taken over: what was live has to be reached again."""
    if stored in (LinkPhase.SUSPENDED.value, LinkPhase.ENDING.value):
        return LinkPhase(stored)
    return LinkPhase.CONNECTING
