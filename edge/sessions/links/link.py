"""A held XMPP link: where its stream, its row, its backend and the clients that use it meet.

It decides where the link is in its life, and little else: the stream is `wire`'s, the session at the server
`far_session`'s, what stanzas mean `hearing`'s; what is durable `ledger`'s (whose `Keeper` this is), what the backend
hears `mailbox`'s, what it orders `speaking`'s, and the way to the server `arrival`'s. A live link that is idle holds no
task. Longer than our other rooms because all of these ask it: each method is short, and moves the phase or passes on.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from edge.config import XmppSettings
from edge.errors import Conflict, SessionGone, StoreError
from edge.model.link_backlog import to_parked
from edge.model.link_options import LinkOptions
from edge.model.link_phases import TRANSITIONS, LinkFact, LinkPhase
from edge.protocol.callbacks.actions import AskBackend, Result, XmppConnect
from edge.protocol.callbacks.events import LinkEvent
from edge.protocol.xmpp.credentials import Credentials
from edge.protocol.xmpp.framing import StreamLimits
from edge.protocol.xmpp.jid import bare
from edge.protocol.xmpp.senders import ComponentSender, Sender
from edge.sessions.links.arrival import Arrival, credentials_for
from edge.sessions.links.far_session import CATCHING_UP, FarSession
from edge.sessions.links.hearing import Hearing
from edge.sessions.links.ledger import Draft, Ledger
from edge.sessions.links.mailbox import LinkMailbox
from edge.sessions.links.services import LinkServices
from edge.sessions.links.speaking import Told
from edge.sessions.links.wire import Wire
from edge.sessions.routes import RouteHandle
from edge.store.links_base import HeldLink, IqEntry, Outgoing, Stanza
from edge.telemetry.metrics import ProcessMeters
from edge.wheel import Alarm

_log = logging.getLogger("holdfast.links")

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
        "_alarms", "_arrival", "_arriving", "_asked", "_confirmations", "_credentials", "_until_room", "account",
        "domain", "far", "handle", "hearing", "id", "jid", "just_read", "leaving", "ledger", "limits", "mailbox",
        "meters", "moving", "options", "phase", "services", "wire",
    )  # fmt: skip

    def __init__(self, held: HeldLink, services: LinkServices, handle: RouteHandle) -> None:
        self.id = held.row.id
        self.services = services
        self.handle = handle
        shared = services.shared
        self.meters: ProcessMeters = shared.metrics.process
        self.ledger = Ledger(held, shared.store.links, shared.clock, shared.wheel, self)
        self.options = LinkOptions.from_stored(held.row.connect)
        self.phase = _phase_of(held.row.phase)
        self.domain = bare(held.row.jid).rpartition("@")[2]
        self.jid = self.account = ""
        self.bound(held.row.bound_jid or held.row.jid)
        self.just_read = True
        """Nobody can have changed the row since it was read."""
        self.leaving: tuple[str, str] | None = None
        """Log out as soon as everything is with the server: (reason, text)."""
        self.moving = False
        """Being given away: nothing new is begun."""
        server = self.server
        self.limits = StreamLimits(stanza_bytes=server.stanza_bytes) if server is not None else StreamLimits()
        self.wire = Wire(self)
        self.far = FarSession(self)
        self.hearing = Hearing(self)
        self.mailbox = LinkMailbox(self)
        self._arriving: asyncio.Task[None] | None = None
        self._arrival: Arrival | None = None
        self._confirmations: list[tuple[Future[None], bool]] = []
        self._credentials: Future[Credentials] | None = None
        self._asked = 0
        self._until_room = False
        """Suspended until more events may wait."""
        self._alarms: dict[str, Alarm] = {}

    # -- what others ask

    def bound(self, jid: str) -> None:
        """The address of the link, full once the server has given one; `account`: without its resource."""
        self.jid, self.account = jid, bare(jid)

    @property
    def server(self) -> XmppSettings | None:
        """As the settings have it now."""
        return self.services.server(self.domain)

    @property
    def is_component(self) -> bool:
        server = self.server
        return server is not None and server.is_component

    @property
    def sender(self) -> Sender:
        """In whose name the link speaks."""
        return ComponentSender(self.domain) if self.is_component else self.jid

    @property
    def live(self) -> bool:
        return self.phase is LinkPhase.LIVE

    @property
    def gone(self) -> bool:
        return self.phase is LinkPhase.GONE

    def now_ms(self) -> int:
        return self.services.shared.clock.wall_ms()

    def after(self, delay_ms: int, callback: Callable[[], None]) -> Alarm:
        return self.services.shared.wheel.after(delay_ms, callback)

    # -- on the way to the server

    def start(self) -> None:
        """Take up what the row says: go to the server, or tell what is left to tell."""
        self._watch_keeping()
        self.mailbox.refill()
        if self.phase is LinkPhase.CONNECTING:
            self._go()
        elif self.phase is LinkPhase.ENDING:
            self._forget_when_told()

    def _go(self) -> None:
        """Get to the server, if nobody is at it already."""
        if self._arriving is None and self.phase is LinkPhase.CONNECTING and not self.moving:
            self._arrival = Arrival(self)
            self._arriving = self.services.loop.create_task(self._arrival.run(), name=f"link {self.id}")
            self._arriving.add_done_callback(self._arrived)

    def _arrived(self, task: asyncio.Task[None]) -> None:
        if self._arriving is task:
            self._arriving = self._arrival = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("link %s: connecting failed; trying again: %r", self.id, error, exc_info=error)
            self.after(5_000, self._go)
        else:
            self._go()

    def _stop_arriving(self) -> None:
        task, self._arriving, self._arrival = self._arriving, None, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def confirmed(self, *, leaving: bool = False) -> None:
        """Everything is durable, the link is still ours, and Redis has it. A server must not be bothered before: the
        connection may have broken because another edge has taken the link over; and what was heard and found no room
        must find it first, or it would be heard again. `leaving`: that may wait, for the next owner hears it."""
        if self.just_read:
            self.just_read = False
            return
        done: Future[None] = self.services.loop.create_future()
        self._confirmations.append((done, leaving))
        if self.ledger.idle or self.ledger.full:
            self.ledger.verify()
        else:
            self.ledger.flush()
        await done

    def came_alive(self) -> bool:
        """The session at the server may be used; False when the connection has gone meanwhile."""
        if self.phase is not LinkPhase.CONNECTING or not self.wire.came_alive():
            return False
        self._cancel("cut")
        self._move(LinkFact.CAME_ALIVE)
        if self._arrival is not None:
            self._arrival.remember()
        self.meters.links_live.value += 1
        if self.leaving is not None:
            self.services.loop.call_soon(self._log_out_when_written)
        return True

    def cut(self) -> None:
        """The connection is gone."""
        failure = self.wire.failure
        if self.phase is LinkPhase.LIVE:
            self.meters.links_live.value -= 1
            self._move(LinkFact.CUT)
            catching_up = self.ledger.base.phase == CATCHING_UP
            self.ledger.save(lost_at=self.now_ms(), phase=CATCHING_UP if catching_up else self.phase.value)
            _log.info("link %s: connection lost: %s %s", self.id, failure.condition, failure.text)
            if self.options.detached:
                self._set("cut", round(DETACHED_S * 1_000), self._tell_cut)
            if failure.condition == "conflict" and failure.by_server and not self.is_component:
                self._replaced(failure.text)
        elif self.phase is LinkPhase.CONNECTING:
            _log.warning("link %s: could not log in: %s %s", self.id, failure.condition, failure.text)
            if self.leaving is not None and not self.ledger.base.sm_id:
                self._leave_anyway()
        self._go()
        self.pump()

    def _replaced(self, text: str) -> None:
        """Another client has taken our resource, or another edge has the link: only the first is for the backend to
        hear, and there is no fighting over it."""

        async def end_if_ours() -> None:
            await self.confirmed()
            self.end("xmpp.disconnected", "conflict", text)

        if self._arriving is None:
            self._arriving = self.services.loop.create_task(end_if_ours(), name=f"link {self.id}")
            self._arriving.add_done_callback(self._arrived)

    def _tell_cut(self) -> None:
        if self.phase is LinkPhase.CONNECTING:
            failure = self.wire.failure
            self.tell("xmpp.detached", {"reason": failure.condition or "connection-lost", "text": failure.text})
            self.pump()

    def login_refused(self, condition: str, text: str) -> None:
        """Once is enough: servers lock accounts out."""
        if condition not in TEMPORARY:
            self.meters.link_logins["refused"].value += 1
            self.end("xmpp.auth_failed", condition, text)

    # -- credentials

    async def ask_credentials(self, wait_s: float) -> Credentials | None:
        """Have the backend give them; None: it did not, in time."""
        self._asked += 1
        self._credentials = given = self.services.loop.create_future()
        fields = {"seq": 0, "jid": self.jid, "reason": "resume" if self.ledger.base.sm_id else "connect"}
        id = f"{self.id}:credentials:{self.ledger.hold.fence}.{self._asked}"
        self.mailbox.add_aside(LinkEvent(id, self.now_ms(), "xmpp.credentials", fields))
        try:
            async with asyncio.timeout(wait_s):
                return credentials_for(self.ledger.base.jid, await given)
        except TimeoutError:
            return None
        finally:
            self._credentials = None

    def give_credentials(self, auth: Credentials) -> None:
        if self._credentials is None or self._credentials.done():
            raise Conflict("nobody asked for credentials, or not any more")
        self._credentials.set_result(auth)

    # -- what is said to the server, and to the backend

    def send(self, raw: bytes, action: str = "", entry: IqEntry | None = None, told: Told | None = None) -> None:
        """Make a stanza durable, then write it. `told`: see `Draft`."""
        stanza = Stanza(raw, self.now_ms(), "" if action.startswith("!") else action)
        self.ledger.send(Draft(Outgoing(stanza, entry), told))
        self.wake_up()

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
        if not self.gone:
            self.ledger.flush()

    def park(self, event: LinkEvent, why: str) -> None:
        """Lay an event aside that no backend takes, so that those behind it are heard."""
        _log.error("link %s: event %s (%s) is laid aside: %s", self.id, event.id, event.kind, why)
        self.meters.link_events_parked.value += 1
        parked = self.services.shared.store.links.park(self.id, to_parked(event, why))
        parked.add_done_callback(lambda answer: answer.cancelled() or answer.exception())

    def tell_state(self) -> None:
        phase = self.phase
        fields = {
            "phase": "lost" if phase is LinkPhase.CONNECTING and self.ledger.base.bound_jid else phase.value,
            "resumable": bool(self.ledger.base.sm_id),
            "attached": list(self.ledger.base.attached),
            "waiting": self.ledger.backlog.waiting,
            "unacked": len(self.ledger.unacked),
        }
        self.tell("xmpp.state", fields)

    # -- Keeper

    def kept(self, h: int | None) -> None:
        self.wire.kept(h)
        self.mailbox.announce()

    def may_send(self, stanzas: Sequence[Stanza]) -> None:
        self.wire.write(stanzas)

    def unasked(self, id: str) -> None:
        self.hearing.unask(id)

    def flushed(self) -> None:
        ledger = self.ledger
        if not self.moving:
            self.wire.breathe(full=ledger.full)
        if self._until_room and not ledger.full:
            self._until_room = False
            self.wake_up()
        ledger.flush()
        self.mailbox.refill()
        self.mailbox.announce()
        if ledger.idle or ledger.full:
            confirmations, self._confirmations = self._confirmations, []
            for done, leaving in confirmations:
                if not ledger.idle and not leaving:
                    self._confirmations.append((done, leaving))
                elif not done.done():
                    done.set_result(None)
        if ledger.idle:
            self._log_out_when_written()
            self._forget_when_told()

    def dispossessed(self, why: str) -> None:
        _log.info("link %s is let go: %s", self.id, why)
        self.lose()

    # -- orders

    def order(self, result: Result, reply: Told) -> None:
        """Carry out actions from elsewhere, in turn with the answers of the backend."""
        if self.gone or self.moving:
            reply(SessionGone(f"link {self.id} is not here"))
        else:
            self.mailbox.outcomes.order(result, reply)

    def pin(self, release: str | None) -> None:
        self.ledger.save_result(pinned=release or "")
        self.mailbox.pinned()

    def connect_again(self, action: XmppConnect) -> None:
        """An order to connect where there is a link already: nothing new, unless that one has ended."""
        if bare(action.jid) != bare(self.ledger.base.jid):
            raise Conflict(f"link {self.id} is {self.ledger.base.jid}'s: disconnect it first, or use another id")
        if self.phase is LinkPhase.ENDING:
            if action.auth is not None and not isinstance(action.auth, AskBackend):
                auth = credentials_for(action.jid, action.auth)
                self.ledger.save(credentials=self.services.vault.seal(self.id, auth))
            self.leaving = None
            self._move(LinkFact.WANTED)
            self.ledger.save(phase=LinkPhase.CONNECTING.value)
            self._watch_keeping()
            self._go()
        self.attach(action.attach or ())
        self.wake_up()
        self.tell_state()

    def attach(self, clients: Sequence[str]) -> None:
        """These client sessions use the link."""
        self._set_attached(tuple(dict.fromkeys([*self.ledger.base.attached, *clients])))

    def detach(self, client: str) -> None:
        self._set_attached(tuple(other for other in self.ledger.base.attached if other != client))

    def _set_attached(self, attached: tuple[str, ...]) -> None:
        before = tuple(self.ledger.base.attached)
        if attached == before:
            return
        self.ledger.save(attached=attached, detached_at=0 if attached else self.now_ms())
        self.services.house.attached(self, before, attached)
        self._watch_keeping()
        if attached:
            self.wake_up()
        self.pump()

    def _watch_keeping(self) -> None:
        """While nobody uses the link, it lives on for a while; a component's, which is everybody's at its domain, until
        it is told to disconnect."""
        self._cancel("keep")
        row = self.ledger.base
        if not row.attached and not self.is_component and self.phase not in (LinkPhase.ENDING, LinkPhase.GONE):
            left = max(0, row.detached_at + self.options.keep_ms - self.now_ms())
            self._set("keep", left, lambda: self.log_out("detached", "no client uses the link"))

    def wake_up(self) -> None:
        """Somebody wants the link."""
        if self.phase is LinkPhase.SUSPENDED and not self._until_room:
            self._move(LinkFact.WANTED)
            self.ledger.save(phase=LinkPhase.CONNECTING.value)
            self.pump()
            self._go()

    def suspend(self, *, until_room: bool = False) -> None:
        """Close the connection, and leave the session at the server alone."""
        if self.phase not in (LinkPhase.LIVE, LinkPhase.CONNECTING):
            return
        self._until_room = until_room
        if self.phase is LinkPhase.LIVE:
            self.meters.links_live.value -= 1
        self._move(LinkFact.PUT_TO_SLEEP)
        self.ledger.save(phase=LinkPhase.SUSPENDED.value, lost_at=self.now_ms())
        self.wire.leave()
        self._stop_arriving()
        self.pump()

    # -- ending

    def log_out(self, reason: str, text: str) -> None:
        """End the session at the server, when it has everything that was to be said before, and then the link."""
        if self.phase in (LinkPhase.ENDING, LinkPhase.GONE) or self.leaving is not None:
            return
        self.leaving = (reason, text)
        if self.phase is LinkPhase.LIVE:
            self.services.loop.call_soon(self._log_out_when_written)
        elif self.ledger.base.sm_id:
            # The server keeps the session, and contacts see it: it is worth a trip.
            self._until_room = False
            self.wake_up()
            self._set("leave", round(LEAVE_S * 1_000), self._leave_anyway)
        else:
            self._leave_anyway()

    def _log_out_when_written(self) -> None:
        if self.leaving is not None and self.phase is LinkPhase.LIVE and (self.ledger.idle or self.ledger.full):
            self.wire.close_stream()
            self.end("xmpp.disconnected", *self.leaving)

    def _leave_anyway(self) -> None:
        if self.leaving is not None:
            self.end("xmpp.disconnected", *self.leaving)

    def end(self, kind: str, reason: str, text: str) -> None:
        """The link is over: this is its last event."""
        if self.phase in (LinkPhase.ENDING, LinkPhase.GONE):
            return
        if self.phase is LinkPhase.LIVE:
            self.meters.links_live.value -= 1
        self._move(LinkFact.ENDED)
        self._cancel_all()
        _log.info("link %s has ended: %s %s", self.id, reason, text)
        named = "condition" if kind == "xmpp.auth_failed" else "reason"
        self.tell(kind, {named: reason, "text": text, "will_retry": False})
        self.ledger.save(phase=LinkPhase.ENDING.value, credentials=b"", lost_at=self.now_ms())
        self.wire.leave()
        self._stop_arriving()
        self.hearing.stop()
        self.pump()

    def _forget_when_told(self) -> None:
        """The backend has accepted the last event: nothing of the link is kept."""
        backlog = self.ledger.backlog
        if self.phase is LinkPhase.ENDING and backlog.done >= backlog.seq and self.ledger.idle and self.mailbox.empty:
            self._move(LinkFact.TOLD)
            self.ledger.close()
            self.services.house.forget(self)

    def lose(self) -> None:
        """Another edge owns the link, or will: not one more byte to the server, nor to Redis."""
        if self.gone:
            return
        if self.phase is LinkPhase.LIVE:
            self.meters.links_live.value -= 1
        self._move(LinkFact.LEFT)
        self.ledger.close()
        self.mailbox.outcomes.drop()
        self._cancel_all()
        self.hearing.stop()
        self.wire.abort()
        self._stop_arriving()
        for done, _ in self._confirmations:
            done.cancel()
        self.services.house.lost(self)

    async def give_away(self) -> None:
        """Let another edge go on at once: everything durable and acknowledged, the connection closed, the session left
        at the server. Raises StoreError when Redis could not be told; the lease will run out then."""
        self.moving = self.mailbox.quiet = True
        self._stop_arriving()
        try:
            async with asyncio.timeout(GIVE_AWAY_S):
                await self.confirmed(leaving=True)
                await self._all_acknowledged()
        except TimeoutError:
            _log.info("link %s: given away before everything was acknowledged", self.id)
        await self.wire.hear_out(GIVE_AWAY_S)
        self.wire.stop_reading()
        try:
            async with asyncio.timeout(GIVE_AWAY_S):
                await self.confirmed(leaving=True)
        except TimeoutError:
            raise StoreError(f"link {self.id}: Redis does not take what it has heard") from None
        if self.gone:
            return
        self.wire.acknowledge()
        self.wire.leave()
        self.ledger.save(lost_at=self.ledger.base.lost_at or self.now_ms())
        self.ledger.flush()
        hold = self.ledger.hold
        self.lose()
        await self.services.shared.store.links.release(hold)

    async def _all_acknowledged(self) -> None:
        """An ejabberd that is resumed while it has stanzas of ours to read takes them twice (23.01)."""
        for _ in range(round(GIVE_AWAY_S * 50)):
            if self.wire.all_acknowledged:
                return
            await asyncio.sleep(0.02)

    # -- inside

    def _move(self, fact: LinkFact) -> None:
        before, self.phase = self.phase, TRANSITIONS[self.phase, fact]
        shared = self.services.shared
        shared.journal.note(self.now_ms(), self.id, "link", f"{fact.value}: {before.value} → {self.phase.value}")

    def _set(self, name: str, delay_ms: int, callback: Callable[[], None]) -> None:
        self._cancel(name)
        self._alarms[name] = self.after(delay_ms, callback)

    def _cancel(self, name: str) -> None:
        alarm = self._alarms.pop(name, None)
        if alarm is not None:
            alarm.cancel()

    def _cancel_all(self) -> None:
        for name in tuple(self._alarms):
            self._cancel(name)


def _phase_of(stored: str) -> LinkPhase:
    """Where a link is that was just taken over: what was live has to be reached again."""
    if stored in (LinkPhase.SUSPENDED.value, LinkPhase.ENDING.value):
        return LinkPhase(stored)
    return LinkPhase.CONNECTING
