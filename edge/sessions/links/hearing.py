"""What a link makes of the stanzas that come: events for its backend, answers to its own questions, answers it owes.

Owns the matching of answers to requests (RFC 6120 §8.1.3), their deadlines, and the reading of the archive after a
session was lost (XEP-0313). What it wants sent it gives to the link, which makes it durable first.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING

from edge.config import XmppSettings
from edge.errors import FieldError
from edge.protocol.xmpp.answers import answer_for
from edge.protocol.xmpp.archive import Archived, Catchup, CatchupEnd, queried
from edge.protocol.xmpp.element import Element
from edge.protocol.xmpp.iq_table import IqTable, OpenIq
from edge.protocol.xmpp.outgoing import iq_error, iq_result
from edge.protocol.xmpp.stanza import (
    Message,
    Presence,
    read_iq,
    read_message,
    read_presence,
    read_roster,
    replaces,
    roster_form,
    stanza_form,
)
from edge.store.links_base import IqEntry
from edge.wheel import Alarm

if TYPE_CHECKING:
    from edge.sessions.links.link import Link

ASKED = "in:"
"""Keys of requests that the backend shall answer begin with it; behind it is the seq of the event."""
ROSTER = "!roster"
CATCHUP = "!archive"
"""What the link itself asked for; the rest are names of backends' actions."""
INTERNAL_S = 30.0
"""For answers to the link's own questions."""
DEFAULTS = XmppSettings(domain="")
_OWN_QUERY = re.compile(r"e\d+-\d+-\d+")
"""Names of our queries: `Hearing.next_id`, and the page."""
SEEN = 2_000
"""Archive ids remembered after a reset, while offline messages may repeat what the archive gave."""


class Hearing:
    """One link's. Made with the link, and filled from its stored iq table."""

    __slots__ = ("_alarm", "_catchup", "_count", "_link", "_missed_only", "_replayed", "_seen", "_table")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._table: IqTable | None = None
        self._catchup: Catchup | None = None
        self._missed_only = False
        """It looks for what should have come over the stream, and did not."""
        self._replayed = 0
        self._seen: deque[str] | None = None
        self._alarm: Alarm | None = None
        self._count = 0
        now = link.now_ms()
        for entry in link.ledger.iqs.values():
            if not entry.key.startswith(ASKED) and entry.id:
                self._iqs().ask(entry.id, entry.peer or None, entry.action_id, max(entry.due_ms, now))
        self._watch()

    # -- what came

    def stanza(self, element: Element) -> None:
        """A stanza of the server's, that answers nothing the stream itself had asked."""
        match element.name:
            case "message":
                self._message(element)
            case "presence":
                self._presence(element)
            case _:
                self._iq(element)

    def _message(self, element: Element) -> None:
        link = self._link
        query = queried(element, link.account)
        if query is not None and _OWN_QUERY.fullmatch(query):
            if self._catchup is not None and self._catchup.belongs(element):
                self._archived(self._catchup, element)
            return  # else the answer to one who was here before: what it is about is asked again
        message = read_message(element, link.account)
        if link.is_component:
            # It has no archive, and its server does not take away what says so (XEP-0359 §6).
            message = replace(message, stanza_id=None)
        if message.stanza_id is not None:
            if self._seen is not None and message.stanza_id in self._seen:
                return
            link.ledger.archived(message.stanza_id)
            if self._catchup is not None:
                self._catchup.arrived(message.stanza_id)
        self._tell_message(message, element, replay=False)

    def _archived(self, catchup: Catchup, element: Element) -> None:
        given = catchup.give(element)
        if catchup.newest is not None:
            self._link.ledger.archived(catchup.newest)
        if given is None or (self._missed_only and not self._is_for_us(given)):
            return
        if self._seen is None:
            self._seen = deque(maxlen=SEEN)
        self._seen.append(given.id)
        if given.ours:
            return
        self._replayed += 1
        message = read_message(given.message, self._link.account)
        fields = stanza_form(message) | {"stanza_id": given.id}
        if given.delay is not None:
            fields["delay"] = {"stamp": given.delay.stamp, "from": given.delay.sender}
        if "message" in self._link.options.stanzas:
            self._link.tell("xmpp.message", {"stanza": fields, "xml": _text(given.message), "replay": True})

    def _is_for_us(self, archived: Archived) -> bool:
        """Of other devices' messages there are copies in the archive that nobody owes us."""
        link, attributes = self._link, archived.message.attributes
        sender = attributes.get("from", link.account).partition("/")[0]
        return sender != link.account and attributes.get("to", link.account) in (link.account, link.jid)

    def _tell_message(self, message: Message, element: Element, *, replay: bool) -> None:
        link = self._link
        if "message" not in link.options.stanzas:
            return
        key = self._replaces(message) if "chatstate" in link.options.coalesce else None
        fields = {"stanza": stanza_form(message), "xml": _text(element), "replay": replay}
        link.tell("xmpp.message", fields, key=key, from_server=True)

    def _presence(self, element: Element) -> None:
        link = self._link
        if "presence" not in link.options.stanzas:
            return
        presence = read_presence(element, link.account)
        key = self._replaces(presence) if "presence" in link.options.coalesce else None
        link.tell("xmpp.presence", {"stanza": stanza_form(presence), "xml": _text(element)}, key=key, from_server=True)

    def _replaces(self, stanza: Message | Presence) -> Hashable | None:
        """As `replaces`; at a component's domain there is more than one who may be told."""
        key = replaces(stanza)
        return (key, stanza.to) if key is not None and self._link.is_component else key

    def _iq(self, element: Element) -> None:
        kind = element.attributes.get("type")
        if kind in ("result", "error"):
            asked = self._table.answered(element) if self._table is not None else None
            if asked is not None:
                self._answered(asked, element)
            return  # what nobody asked for is nobody's: whoever sent it guesses ids
        if kind in ("get", "set"):
            self._request(element)

    def _request(self, element: Element) -> None:
        link = self._link
        account, sender = link.account, element.attributes.get("from")
        id, asked = element.attributes.get("id", ""), element.attributes.get("to")
        inside = answer_for(element, account)
        if inside is not None:
            roster = read_roster(element, account)
            if roster is not None:
                link.tell("xmpp.roster", roster_form(roster), from_server=True)
            self._reply(id, sender, inside, asked)
            return
        if "iq" not in link.options.stanzas:
            self._reply(id, sender, None, asked)
            return
        due = link.now_ms() + round((link.server or DEFAULTS).iq_reply_s * 1_000)
        fields = {"stanza": stanza_form(read_iq(element)), "xml": _text(element), "reply_by": due}
        seq = link.tell("xmpp.iq", fields, from_server=True)
        link.ledger.ask(IqEntry(f"{ASKED}{seq}", id, sender or "", due, asked or ""))
        self._watch()

    def _reply(self, id: str, to: str | None, inside: str | None, asked: str | None) -> None:
        """`asked`: the address that the request was for."""
        ours = asked if self._link.is_component else None
        try:
            if inside is None:
                answer = iq_error(id, to, "service-unavailable", self._link.sender, from_=ours)
            else:
                answer = iq_result(id, to, inside, self._link.sender, from_=ours)
        except FieldError:
            return  # nobody could be answered at such an address
        self._link.send(answer.raw)

    def _answered(self, asked: OpenIq, element: Element) -> None:
        link = self._link
        link.ledger.answered(asked.id)
        if asked.action == ROSTER:
            roster = read_roster(element, link.account)
            if roster is not None:
                link.tell("xmpp.roster", roster_form(roster))
        elif asked.action == CATCHUP:
            if self._catchup is not None and self._catchup.id == asked.id:  # and not one of before
                self._catchup.finish(element)
                self._read_on()
        else:
            ok = element.attributes.get("type") == "result"
            stanza = stanza_form(read_iq(element))
            self._tell_result(asked.action, ok, None if ok else "error", stanza, _text(element))
        self._watch()

    def _tell_result(
        self, action: str, ok: bool, reason: str | None, stanza: object = None, xml: str | None = None
    ) -> None:
        fields = {"action_id": action, "ok": ok, "reason": reason, "stanza": stanza, "xml": xml}
        self._link.tell("xmpp.iq_result", fields)

    # -- questions

    def next_id(self) -> str:
        """An id for a stanza of this owner's; no other owner makes it."""
        self._count += 1
        return f"e{self._link.ledger.hold.fence}-{self._count}"

    def ask(self, id: str, to: str | None, action: str, timeout_s: float) -> IqEntry | None:
        """A request is about to be sent. None: it is the one that this action has asked already, and is being ordered
        again. Raises WireError: its id is taken, or too many are open."""
        due = self._link.now_ms() + round(timeout_s * 1_000)
        table = self._iqs()
        asked = table.get(id)
        if asked is not None and asked.action == action:
            return None
        table.ask(id, to, action, due)
        self._watch()
        return IqEntry(id, id, to or "", due, action)

    def unask(self, id: str) -> None:
        """The request was not sent after all."""
        if self._table is not None:
            self._table.forget(id)

    def asked(self, seq: int) -> IqEntry | None:
        """The open request of the event `seq`."""
        return self._link.ledger.iqs.get(f"{ASKED}{seq}")

    def catch_up(self, after: str | None, start: str | None, *, missed_only: bool = False) -> bool:
        """Read what the archive has behind `after`; `missed_only`: the stream goes on, and brings all that the server
        did not lose. False: there is nothing to begin from."""
        self._replayed = 0
        self._missed_only = missed_only
        self._catchup = Catchup(self._link.jid, self.next_id(), after, start)
        return self._read_on()

    def session_lost(self, unsaid: Collection[str]) -> None:
        """A new session: nothing that was asked in the old one will be answered, nor does anybody wait for us. Requests
        of the actions `unsaid` are yet to be sent, and go on."""
        for entry in tuple(self._link.ledger.iqs.values()):
            ours = not entry.key.startswith(ASKED)
            if ours and entry.action_id in unsaid:
                continue
            self._link.ledger.answered(entry.key)
            if ours and not entry.action_id.startswith("!"):
                self._tell_result(entry.action_id, ok=False, reason="session_lost")
        for asked in self._table.forget_all() if self._table is not None else ():
            if asked.action in unsaid:
                self._iqs().ask(asked.id, asked.to, asked.action, asked.deadline_ms)
        self._catchup = None
        self._watch()

    def stop(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _read_on(self) -> bool:
        """Ask for the next page, or say that it was the last."""
        catchup = self._catchup
        assert catchup is not None
        query = catchup.ask()
        if query is not None:
            entry = self.ask(catchup.id, None, CATCHUP, INTERNAL_S)
            self._link.send(query, CATCHUP, entry)
            return True
        self._catchup = None
        whole = catchup.end is CatchupEnd.WHOLE
        self._link.far.caught_up(self._replayed, whole=whole, missed_only=self._missed_only)
        return False

    # -- deadlines

    def _watch(self) -> None:
        dues = [entry.due_ms for entry in self._link.ledger.iqs.values()]
        if self._table is not None and (due := self._table.wake_at()) is not None:
            dues.append(due)
        self.stop()
        if dues:
            self._alarm = self._link.after(max(0, min(dues) - self._link.now_ms()), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        now, link = self._link.now_ms(), self._link
        for asked in self._table.expire(now) if self._table is not None else ():
            link.ledger.answered(asked.id)
            if asked.action == CATCHUP:
                if self._catchup is not None and self._catchup.id == asked.id:
                    self._catchup.fail()
                    self._read_on()
            elif not asked.action.startswith("!"):
                self._tell_result(asked.action, ok=False, reason="timeout")
        for entry in tuple(link.ledger.iqs.values()):
            if entry.key.startswith(ASKED) and entry.due_ms <= now:
                link.ledger.answered(entry.key)
                self._reply(entry.id, entry.peer or None, None, entry.action_id or None)
        self._watch()
        link.pump()

    def _iqs(self) -> IqTable:
        if self._table is None:
            self._table = IqTable(self._link.jid)
        self._table.account = self._link.jid
        return self._table


def _text(element: Element) -> str:
    return element.raw.decode()
