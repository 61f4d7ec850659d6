"""XMPP links of a test edge: what backends ordered, and what a test lets happen to them.

There is no XMPP server: orders are kept for looking at, and everything that comes from the server's side (the login's
success, messages, answers to questions) comes when the test says so. By itself a link answers `xmpp.get`, and a
`xmpp.connect` that finds it there, with its state, and `xmpp.disconnect` with its end.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, TypeVar
from xml.sax.saxutils import escape, quoteattr

from backend_sdk.testing.records import SessionRecord
from backend_sdk.xmpp_events import RosterItem

R = TypeVar("R")

_STANZAS = ("xmpp.send", "xmpp.presence", "xmpp.iq", "xmpp.iq_reply")
_LAST = ("xmpp.disconnected", "xmpp.auth_failed")
_PHASES = {"xmpp.connected": "live", "xmpp.resumed": "live", "xmpp.reset": "live", "xmpp.detached": "lost"}
_ELEMENT = re.compile(r"""\s*<([^\s/>]+)(?:[^>]*?\sxmlns=["']([^"']*)["'])?""")


class LinkRecord(SessionRecord):
    """A link as the test edge keeps it. All public attributes are for looking at."""

    def __init__(self, id: str, jid: str, release: str) -> None:
        super().__init__(id, release)
        self.jid = jid
        """Full once `connected` has given it a resource."""
        self.phase = "connecting"
        """``connecting``, ``live``, ``lost``, ``suspended`` or ``ended``."""
        self.attached: list[str] = []
        """Client sessions that use it, by id."""
        self.orders: list[dict[str, Any]] = []
        """Every order for this link, whoever gave it, as it stands on the wire."""
        self.asked: list[dict[str, Any]] = []
        """Its `xmpp.iq` orders that have no result yet, oldest first."""
        # Event ids never come again, as on a real edge: an app that outlives this test edge remembers them.
        self._seq = secrets.randbelow(1_000_000_000) * 1_000

    @property
    def live(self) -> bool:
        return self.phase != "ended"

    @property
    def is_component(self) -> bool:
        """It speaks for a whole domain, and has no session at the server that could be resumed."""
        return "@" not in self.jid

    @property
    def seq(self) -> int:
        """That of its newest event."""
        return self._seq

    @property
    def sent(self) -> list[dict[str, Any]]:
        """The orders that send something: `xmpp.send`, `xmpp.presence`, `xmpp.iq`, `xmpp.iq_reply`."""
        return [order for order in self.orders if order["type"] in _STANZAS]

    @property
    def bodies(self) -> list[str]:
        """The texts of the messages that were sent from fields."""
        return [order["body"] for order in self.orders if order["type"] == "xmpp.send" and "body" in order]

    def happened(self, type: str, at: int, **fields: Any) -> None:
        """Queue an event."""
        aside = type == "xmpp.credentials"  # outside the order of the others
        self._seq += 1
        common = {"seq": 0 if aside else self._seq, "jid": self.jid} if type.startswith("xmpp.") else {}
        number = f"credentials:{self._seq}" if aside else str(self._seq)
        self._queue_event(number, type, at, {**common, **fields})
        self.phase = "ended" if type in _LAST else _PHASES.get(type, self.phase)

    def obey(self, order: Mapping[str, Any], actor: str | None, at: int, *, new: bool = False) -> None:
        """Do what an order says. `actor`: the client session whose event was answered, if it is one; `new`: the link
        is there since this order."""
        self.orders.append(dict(order))
        match order["type"]:
            case "xmpp.connect":
                self.attached += [id for id in order.get("attach", [actor]) if id and id not in self.attached]
                if not new:
                    self.tell_state(at)
            case "xmpp.iq":
                self.asked.append(dict(order))
            case "xmpp.attach":
                client = order.get("client", actor)
                if client and client not in self.attached:
                    self.attached.append(client)
            case "xmpp.detach":
                self.attached = [id for id in self.attached if id != order.get("client", actor)]
            case "xmpp.suspend":
                self.phase = "suspended"
            case "xmpp.disconnect":
                self.happened(
                    "xmpp.disconnected", at, reason="requested", text="the backend asked for it", will_retry=False
                )
            case "xmpp.get":
                self.tell_state(at)

    def tell_state(self, at: int) -> None:
        """Queue an `xmpp.state`."""
        self.happened(
            "xmpp.state",
            at,
            phase=self.phase,
            resumable=self.phase in ("live", "lost", "suspended") and not self.is_component,
            attached=list(self.attached),
            waiting=len(self.queue),
            unacked=0,
        )


class LinkDriver(LinkRecord, Generic[R]):
    """A link whose far end the test plays. Each method waits until the backend's answer has taken effect."""

    def __init__(
        self,
        id: str,
        jid: str,
        release: str,
        tell: Callable[[LinkRecord, str, Mapping[str, Any]], Coroutine[Any, Any, None]],
        run: Callable[[Coroutine[Any, Any, None]], R],
        clock: Callable[[], int],
    ) -> None:
        super().__init__(id, jid, release)
        self._tell_event = tell
        self._run = run
        self._clock = clock

    def connected(self, resource: str = "test", *, resumable: bool = True, max_s: int | None = 600) -> R:
        """The login has succeeded; the link's `jid` is full from now on. A component's stays its domain, and it resumes
        nothing, whatever is said here."""
        if self.is_component:
            return self._tell("xmpp.connected", resumable=False, max_s=None, fresh=True)
        self.jid = f"{self.jid.partition('/')[0]}/{resource}"
        return self._tell("xmpp.connected", resumable=resumable, max_s=max_s, fresh=True)

    def resumed(self, gap_ms: int = 1_000, redelivered: int = 0) -> R:
        """The connection is there again."""
        return self._tell("xmpp.resumed", gap_ms=gap_ms, redelivered=redelivered)

    def message(
        self,
        body: str | None = None,
        *,
        sender: str | None = "peer@test/device",
        to: str | None = None,
        type: str = "chat",
        id: str | None = None,
        subject: str | None = None,
        thread: str | None = None,
        stanza_id: str | None = None,
        carbon: str | None = None,
        chat_state: str | None = None,
        receipt: str | None = None,
        receipt_id: str | None = None,
        delay: str | None = None,
        error: str | None = None,
        children: Sequence[tuple[str, str]] = (),
        replay: bool = False,
        xml: str | None = None,
    ) -> R:
        """A message comes. `to` None: to the link's own address. `delay`: its time stamp; `error`: the condition with
        which it came back. Without `xml` a plain stanza is made of addresses, type and texts."""
        texts = {"subject": subject, "body": body, "thread": thread}
        stanza = {
            "name": "message",
            **self._head(sender, to, "error" if error else type, id),
            **texts,
            "stanza_id": stanza_id,
            "carbon": carbon,
            "chat_state": chat_state,
            "receipt": receipt,
            "receipt_id": receipt_id,
            **_common(delay, error, children),
        }
        return self._tell("xmpp.message", stanza=stanza, xml=_xml(stanza, _texts(texts), xml), replay=replay)

    def presence(
        self,
        sender: str = "peer@test/device",
        type: str = "available",
        *,
        to: str | None = None,
        show: str | None = None,
        status: str | None = None,
        priority: int = 0,
        delay: str | None = None,
        error: str | None = None,
        children: Sequence[tuple[str, str]] = (),
        xml: str | None = None,
    ) -> R:
        """Presence comes. `to` None: for the link's own address."""
        stanza = {
            "name": "presence",
            **self._head(sender, to, "error" if error else type, None),
            "show": show,
            "status": status,
            "priority": priority,
            **_common(delay, error, children),
        }
        return self._tell(
            "xmpp.presence", stanza=stanza, xml=_xml(stanza, _texts({"show": show, "status": status}), xml)
        )

    def iq(
        self,
        content: str,
        *,
        sender: str | None = "peer@test/device",
        to: str | None = None,
        type: str = "get",
        id: str = "q1",
        wait_s: int = 20,
    ) -> R:
        """Somebody asks `to` (None: the link's own address). `content`: the element inside the iq."""
        stanza = {"name": "iq", **self._head(sender, to, type, id), "query": _query(content), "error": None}
        until = self._clock() + wait_s * 1_000 if type in ("get", "set") else None
        return self._tell("xmpp.iq", stanza=stanza, xml=_xml(stanza, content, None), reply_by=until)

    def iq_result(
        self, content: str = "", *, action_id: str | None = None, reason: str | None = None, error: str = ""
    ) -> R:
        """What became of a question: the oldest that is open, or that of `action_id`. It was answered with `content`;
        or with an `error` condition; or there was none, for a `reason` (``timeout``, ``session_lost``). Raises
        LookupError when nothing is open."""
        open_ = [order for order in self.asked if action_id in (None, order.get("id"))]
        if not open_:
            raise LookupError(f"{self.id} has asked nothing that is open: {action_id or 'no xmpp.iq'}")
        asked = open_[0]
        self.asked.remove(asked)
        if error:
            reason = "error"
        stanza = None
        if reason in (None, "error"):
            head = self._head(asked.get("to"), asked.get("from"), "error" if error else "result", "e1")
            stanza = {"name": "iq", **head, "query": _query(content), "error": _error(error or None)}
        return self._tell(
            "xmpp.iq_result",
            action_id=asked.get("id", ""),
            ok=reason is None,
            reason=reason,
            stanza=stanza,
            xml=None if stanza is None else _xml(stanza, content, None),
        )

    def roster(self, *items: RosterItem, full: bool = True, ver: str | None = None) -> R:
        """The roster comes, or with `full` False a change of it."""
        shown = [
            {"jid": item.jid, "sub": item.subscription, "name": item.name, "ask": item.ask, "groups": list(item.groups)}
            for item in items
        ]
        return self._tell("xmpp.roster", ver=ver, full=full, items=shown)

    def acknowledged(self, *action_ids: str) -> R:
        """The server has taken what these actions sent."""
        return self._tell("xmpp.sent", action_ids=list(action_ids))

    def send_failed(
        self, reason: str = "invalid", *, action_id: str | None = None, certain: bool = True, text: str = ""
    ) -> R:
        """A stanza was not sent."""
        return self._tell("xmpp.send_failed", action_id=action_id, reason=reason, certain=certain, text=text)

    def reset(
        self,
        reason: str = "item-not-found",
        *,
        server_h: int | None = None,
        resent: int = 0,
        unknown: Sequence[str] = (),
        mam_after: str | None = None,
    ) -> R:
        """The server has given up the session; the next is there."""
        return self._tell(
            "xmpp.reset", reason=reason, server_h=server_h, resent=resent, unknown=list(unknown), mam_after=mam_after
        )

    def caught_up(self, count: int = 0, *, whole: bool = True) -> R:
        """The archive has been read."""
        return self._tell("xmpp.caught_up", count=count, whole=whole)

    def detached(self, reason: str = "lost", text: str = "") -> R:
        """The connection is lost."""
        return self._tell("xmpp.detached", reason=reason, text=text)

    def disconnected(self, reason: str = "conflict", text: str = "") -> R:
        """The link ends."""
        return self._tell("xmpp.disconnected", reason=reason, text=text, will_retry=False)

    def auth_failed(self, condition: str = "not-authorized", text: str = "") -> R:
        """The server refuses the credentials; the link ends."""
        return self._tell("xmpp.auth_failed", condition=condition, text=text, will_retry=False)

    def credentials(self, reason: str = "connect") -> R:
        """Credentials are wanted."""
        return self._tell("xmpp.credentials", reason=reason)

    def _tell(self, type: str, **fields: Any) -> R:
        return self._run(self._tell_event(self, type, fields))

    def _head(self, sender: str | None, to: str | None, type: str, id: str | None) -> dict[str, str | None]:
        return {"from": sender, "to": self.jid if to is None else to, "type": type, "id": id}


def _common(delay: str | None, error: str | None, children: Sequence[tuple[str, str]]) -> dict[str, Any]:
    stamp = None if delay is None else {"stamp": delay, "from": None}
    return {"delay": stamp, "error": _error(error), "children": [list(child) for child in children]}


def _error(condition: str | None) -> dict[str, Any] | None:
    return None if condition is None else {"type": "cancel", "condition": condition, "text": None}


def _query(content: str) -> list[str] | None:
    found = _ELEMENT.match(content)
    return None if found is None else [found[2] or "", found[1]]


def _texts(texts: Mapping[str, str | None]) -> str:
    return "".join(f"<{name}>{escape(text)}</{name}>" for name, text in texts.items() if text is not None)


def _xml(stanza: Mapping[str, Any], inside: str, given: str | None) -> str:
    if given is not None:
        return given
    head = {name: stanza[name] for name in ("from", "to", "type", "id") if stanza[name] is not None}
    if head["type"] == "available":
        del head["type"]
    if stanza["error"] is not None:
        condition = stanza["error"]["condition"]
        inside += f"<error type='cancel'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    written = "".join(f" {name}={quoteattr(value)}" for name, value in head.items())
    return f"<{stanza['name']}{written}>{inside}</{stanza['name']}>"
