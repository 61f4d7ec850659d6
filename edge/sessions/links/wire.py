"""A link's stream, while there is one: what it hears goes on to the link, what is durable is written and acknowledged.

It is the `ConnectionListener` of its connection. Two rules are kept here, and make a link survive the death of its edge
at any moment: nothing is acknowledged to the server before the ledger has kept it, and nothing is written to the server
before the ledger has.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge.links.connection import LinkConnection
from edge.protocol.xmpp.credentials import ScramKeys
from edge.protocol.xmpp.framing import Ended
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
from edge.store.links_base import Stanza
from edge.wheel import Alarm

if TYPE_CHECKING:
    from edge.sessions.links.link import Link

_log = logging.getLogger("holdfast.links")

UNKEPT_BYTES = 512 * 1_024
"""Heard and not durable yet; past it nothing more is read until some of it is."""
FULL_S = 60.0
"""How long a live connection is not read because its backend does not take events. Then it is given up, and the server
keeps what comes, for as long as it does."""


class Wire:
    """One link's."""

    __slots__ = (
        "_ack_asked", "_connection", "_failure", "_full_alarm", "_given", "_link", "_opening", "_told_upto", "_unkept",
        "_unwritten", "keys", "lost_session", "speaks",
    )  # fmt: skip

    def __init__(self, link: Link) -> None:
        self._link = link
        self._connection: LinkConnection | None = None
        self.speaks = False
        """Stanzas may be written: the session at the server is the one that the ledger counts."""
        self.lost_session: tuple[int | None, str] = (None, "")
        """Of the session before: what it had of ours, if the server said, and why it is over."""
        self.keys: ScramKeys | None = None
        """Made during this login."""
        self._given = 0
        """How many of the ledger's unacknowledged stanzas the stream was given when it began."""
        self._unwritten = 0
        """How many of the last of them were never written."""
        self._told_upto: int | None = None
        """The count of ours that the backend was told of (`xmpp.sent`)."""
        self._failure = StreamFailed("", "")
        self._opening: Future[bool] | None = None
        self._ack_asked = False
        self._unkept = 0
        self._full_alarm: Alarm | None = None

    # -- the connection's life

    @property
    def up(self) -> bool:
        return self.speaks and self._connection is not None and self._connection.stream.live

    @property
    def mechanism(self) -> str:
        return self._connection.stream.mechanism if self._connection is not None else ""

    @property
    def failure(self) -> StreamFailed:
        """Why the last stream is over."""
        return self._failure

    @property
    def all_acknowledged(self) -> bool:
        return not self._link.ledger.unacked or not self.up

    def begin(self, connection: LinkConnection, *, resuming: bool) -> Future[bool]:
        """A stream is about to begin; the future says whether it came alive."""
        self._connection = connection
        self.speaks = self._ack_asked = False
        self._unkept = 0
        self.lost_session = (None, "new session" if resuming else "not resumed")
        self._failure = StreamFailed("", "")
        self.keys = None
        self._given = len(self._link.ledger.unacked)
        self._told_upto = None
        self._opening = asyncio.get_running_loop().create_future()
        return self._opening

    def came_alive(self) -> bool:
        """The session may be used, if it is still there."""
        if self._connection is None or not self._connection.stream.live:
            return False
        self.speaks = True
        self._opened(live=True)
        return True

    def leave(self) -> None:
        """Close the connection behind what was written. The session stays, if its stream was not closed."""
        connection = self._drop()
        if connection is not None:
            connection.leave()

    def abort(self) -> None:
        """Not one more byte."""
        connection = self._drop()
        if connection is not None:
            connection.abort()

    def close_stream(self) -> None:
        """Log out."""
        if self._connection is not None:
            self._connection.stream.close()

    async def hear_out(self, most_s: float) -> None:
        """A component leaves of its own will: what the server was about to say, nobody would be told again."""
        if self._connection is None or not self._connection.finish():
            return
        for _ in range(round(most_s * 50)):
            if self._connection is None:
                return
            await asyncio.sleep(0.02)

    def stop_reading(self) -> None:
        if self._connection is not None:
            self._connection.pause()

    def _drop(self) -> LinkConnection | None:
        connection, self._connection = self._connection, None
        self.speaks = False
        self._watch_full(on=False)
        self._opened(live=False)
        return connection

    def _opened(self, *, live: bool) -> None:
        opening, self._opening = self._opening, None
        if opening is not None and not opening.done():
            opening.set_result(live)

    # -- ConnectionListener

    def heard(self, facts: Sequence[Fact]) -> None:
        link, ledger = self._link, self._link.ledger
        for fact in facts:
            match fact:
                case StanzaReceived(element, h, ours):
                    if not ours:
                        link.hearing.stanza(element)
                    if h:
                        ledger.heard(h)
                    self._unkept += len(element.raw)
                    link.meters.link_stanzas["in"].value += 1
                case AckAsked():
                    self._ack_asked = True
                case Acked(h):
                    self.acknowledged(h)
                case Connected():
                    link.far.connected(fact)
                case Resumed(h, redelivered):
                    link.far.resumed(h, redelivered)
                case ResumeFailed(h):
                    self.lost_session = (h, "item-not-found")
                case AuthFailed(condition, text):
                    self._failure = StreamFailed(condition, text, by_server=True)
                    link.login_refused(condition, text)
                case StreamFailed():
                    self._failure = fact
                case Ended():
                    self._failure = StreamFailed("ended", "the server ended the stream", by_server=True)
        link.pump()
        if ledger.idle or ledger.waits_for_store or ledger.full:
            self.acknowledge()
        if self._connection is not None and self._unkept > UNKEPT_BYTES:
            self._connection.pause()

    def keys_made(self, keys: ScramKeys) -> None:
        self.keys = keys

    def cut(self, reason: str) -> None:
        if self._connection is None:
            return
        if not self._failure.condition:
            self._failure = StreamFailed("", reason)
        self._drop()
        self._link.cut()

    # -- writing

    def write(self, stanzas: Sequence[Stanza]) -> None:
        """Durable stanzas: at once, or when there is a session again."""
        connection = self._connection
        if connection is None or not self.up:
            self._unwritten += len(stanzas)
            return
        connection.stream.send([stanza.raw for stanza in stanzas])
        connection.write_soon()
        self._link.meters.link_stanzas["out"].value += len(stanzas)
        if connection.stream.management is None:
            # Nobody will acknowledge them: written is all there is to know.
            self.acknowledged(self._link.ledger.out_n)

    def write_rest(self) -> None:
        """What was kept after this stream had been given what there was to send again."""
        rest = tuple(self._link.ledger.unacked)[self._given :]
        self._unwritten = 0
        if rest:
            self.write(rest)

    def write_all(self) -> None:
        """In a new session everything that the ledger has is to be written."""
        self._unwritten = 0
        if self._link.ledger.unacked:
            self.write(tuple(self._link.ledger.unacked))

    @property
    def written(self) -> int:
        """How many of the ledger's unacknowledged stanzas may have been written to the session before, or to a
        component's stream."""
        link, ledger = self._link, self._link.ledger
        before = ledger.base.bound_jid if link.is_component else ledger.base.stream
        return len(ledger.unacked) - self._unwritten if before else 0

    # -- acknowledging

    def acknowledged(self, h: int) -> None:
        """The server has ours up to `h`."""
        link, ledger = self._link, self._link.ledger
        if link.options.sent:
            unacked = list(ledger.unacked)
            base = (ledger.out_n - len(unacked)) % MODULUS
            told = ahead(self._told_upto, base) if self._told_upto is not None else 0
            first, count = told if told <= len(unacked) else 0, ahead(h, base)
            self._told_upto = h
            stanzas = unacked[first:count] if count <= len(unacked) else []
            if ids := [stanza.action_id for stanza in stanzas if stanza.action_id]:
                link.tell("xmpp.sent", {"action_ids": ids})
        ledger.acknowledged(h)

    def acknowledge(self) -> None:
        """Tell the server what is durable: when it asks, or there is news."""
        connection = self._connection
        if connection is None or not self.up or self._link.is_component:
            return
        management = connection.stream.management
        if management is None:
            return
        h = self._link.ledger.h_in
        if self._ack_asked or h != management.confirmed:
            self._ack_asked = False
            connection.stream.ack(h)
            connection.write_soon()

    def kept(self, h: int | None) -> None:
        """The ledger has everything up to `h`, or does not get on at the moment."""
        if h is not None:
            self._unkept = 0
        self.acknowledge()

    def breathe(self, *, full: bool) -> None:
        """Read on, or not: `full` when no more events may wait for the backend."""
        connection = self._connection
        if connection is None:
            return
        if self._link.ledger.idle:
            self._unkept = 0  # a server that keeps no count has none that could be kept
        if full and not connection.paused:
            connection.pause()
            self._watch_full(on=True)
            waiting = self._link.ledger.backlog.waiting
            _log.warning("link %s: %d events wait; its server is made to wait", self._link.id, waiting)
        elif not full and connection.paused and self._unkept <= UNKEPT_BYTES:
            self._watch_full(on=False)
            connection.go_on()

    def _watch_full(self, *, on: bool) -> None:
        if self._full_alarm is not None:
            self._full_alarm.cancel()
            self._full_alarm = None
        if on:
            self._full_alarm = self._link.after(round(FULL_S * 1_000), self._give_up)

    def _give_up(self) -> None:
        self._full_alarm = None
        _log.error(
            "link %s: its backend has not taken events for %g s while no more could wait; the connection is closed "
            "until it does, and the server keeps what comes for as long as it does",
            self._link.id,
            FULL_S,
        )
        self._link.suspend(until_room=True)
