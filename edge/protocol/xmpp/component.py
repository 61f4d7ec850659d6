"""An external component's stream (XEP-0114): one connection for a whole domain, bytes and the time in, facts out.

`ComponentStream` has the face of `edge.protocol.xmpp.stream.XmppStream` (`edge.protocol.xmpp.stream_facts.Stream`), and
its two rules hold here too. What differs is what the wire lacks. There is no TLS and no choice of logins: `tls_up` and
`use_keys` do nothing. There is no session at the server that outlives the stream, so nothing is resumed: what was not
acknowledged is in the next stream's plan, and is sent again (`ComponentPlan.unacked`). And there is no XEP-0198:

- What comes is counted for the caller's sake alone; `ack` is not told to anybody. What was on the way when a connection
  broke, the server has lost. Who leaves of its own will calls `finish`, and hears it.
- What is sent is acknowledged by pings (XEP-0199), sent behind it, one at a time. A server handles the stanzas of a
  stream in order, so once a ping has come to its end, all before it is handled. Any end will do: a result, an error, or
  the ping itself. The component pings its own domain, and Prosody and ejabberd both pass that back to where it came
  from, whatever their modules and hosts are. Nobody else can say so: servers vouch for `from`, and the ids are a
  stream's own.
- A server that does not answer the first ping, which is sent as soon as the stream is live, within `answer_s`, is taken
  for one that answers none: a stanza counts as handled when `take` has given it out, and `wake` says so. Then a stanza
  may be lost that was written to a connection which was dead already. It is pinged every `silence_s` all the same, and
  an answer ends that.
- To a server that has answered before, an unanswered ping is sent again after `answer_s`: where a domain has several
  connections, as ejabberd allows, the end of it may have come to another one.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from edge.protocol.xmpp import names, phrases
from edge.protocol.xmpp.credentials import ScramKeys
from edge.protocol.xmpp.element import Element
from edge.protocol.xmpp.framing import Ended, Framer, Heard, Opened, StreamViolation
from edge.protocol.xmpp.iq_table import same_jid
from edge.protocol.xmpp.negotiation import Phase, Signal
from edge.protocol.xmpp.opening import condition_of
from edge.protocol.xmpp.stream_facts import (
    Acked,
    AuthFailed,
    ComponentPlan,
    Connected,
    Fact,
    StanzaReceived,
    StreamFailed,
)
from edge.protocol.xmpp.stream_management import SavedStream, StreamManagement, ahead

SIGNALS: Final[Mapping[tuple[str, str], Signal]] = {
    (names.COMPONENT, "handshake"): Signal.SUCCESS,
    (names.STREAMS, "error"): Signal.ERROR,
    (names.COMPONENT, "message"): Signal.STANZA,
    (names.COMPONENT, "presence"): Signal.STANZA,
    (names.COMPONENT, "iq"): Signal.STANZA,
}
"""Elements by namespace and name. Any other is an error of the server's (RFC 6120 §4.9.3.24)."""

TABLE: Final[Mapping[tuple[Phase, Signal], tuple[Phase, ...]]] = {
    (Phase.HEADER, Signal.OPENED): (Phase.SASL, Phase.OVER),
    (Phase.SASL, Signal.SUCCESS): (Phase.LIVE,),
    (Phase.LIVE, Signal.STANZA): (Phase.LIVE,),
    **{
        (phase, end): (Phase.OVER,)
        for phase in (Phase.HEADER, Phase.SASL, Phase.LIVE)
        for end in (Signal.ERROR, Signal.ENDED)
    },
}
"""Where a signal leads from a phase. A pair that is not here breaks the protocol."""


class Acks(enum.Enum):
    """How it is known that stanzas are handled."""

    UNKNOWN = "the first ping is on its way"
    PINGS = "pings are answered"
    WRITING = "no ping was answered: what is written counts"


class ComponentStream:
    """A component's stream from its first byte to its last."""

    __slots__ = (
        "_acks", "_asked_at", "_deadline", "_facts", "_finishing", "_framer", "_heard_at", "_management", "_mark",
        "_out", "_phase", "_ping", "_pings", "_plan", "_probed", "_target", "_token", "_written",
    )  # fmt: skip

    def __init__(self, plan: ComponentPlan, now: float) -> None:
        self._plan = plan
        self._target = plan.ack_from or plan.domain
        self._framer = Framer(plan.limits)
        self._phase = Phase.HEADER
        self._finishing = False
        """We have ended our side, and the server not yet its own."""
        self._out = phrases.component_header(plan.domain)
        self._facts: list[Fact] = []
        self._management: StreamManagement | None = None
        self._acks = Acks.UNKNOWN
        self._token = ""
        """Of this stream alone: pings of an older one may end here."""
        self._pings = 0
        self._ping = ""
        """Id of the newest."""
        self._mark: int | None = None
        """The count that its end acknowledges; None: it has come to it."""
        self._asked_at: float | None = None
        """When that ping was sent; None, too, until `wake` or `receive` says what time it is: `send` does not know."""
        self._written = plan.base
        """The count of stanzas that were given out."""
        self._deadline = now + plan.negotiation_s
        self._heard_at = now
        self._probed = False
        """The server was asked whether it is there, and nothing has come since."""

    # -- what the caller sees and does

    @property
    def phase(self) -> Phase:
        """What the stream waits for."""
        return self._phase

    @property
    def live(self) -> bool:
        """Stanzas may be sent."""
        return self._phase is Phase.LIVE and not self._finishing

    @property
    def over(self) -> bool:
        """Nothing happens any more."""
        return self._phase is Phase.OVER

    @property
    def acks(self) -> Acks:
        """How it is known that stanzas are handled."""
        return self._acks

    @property
    def mechanism(self) -> str:
        """Empty: there is one only."""
        return ""

    @property
    def management(self) -> StreamManagement | None:
        """The counts and what is not acknowledged, once live."""
        return self._management

    def take(self) -> bytes:
        """Bytes to write now."""
        out, self._out = self._out, b""
        if self._management is not None:
            self._written = self._management.sent
        return out

    def receive(self, data: bytes, now: float) -> list[Fact]:
        """Bytes came."""
        if self.over:
            return []
        self._facts = facts = self._count_written()
        self._heard_at, self._probed = now, False
        self._read(data)
        self._facts = []
        if self._unstamped:
            self._asked_at = now
        return facts

    def tls_up(self) -> None:
        """TLS is the caller's, before the first byte, or nobody's."""

    def use_keys(self, keys: ScramKeys) -> None:
        """Nothing asks for any."""

    def send(self, stanzas: Sequence[bytes]) -> None:
        """Stanzas that are durable, in their order; each is one element with `from` and `to`, checked before. Only
        while `live`."""
        assert self.live
        assert self._management is not None
        self._out += b"".join(stanzas)
        for stanza in stanzas:
            self._management.send(stanza)
        self._ask_for_rest()

    def ack(self, h: int) -> None:
        """The server's first `h` stanzas are durable. Raises CountError for a count that cannot be. Only while
        `live`."""
        assert self.live
        assert self._management is not None
        self._management.confirm(h)

    def set_active(self, active: bool) -> None:
        """Servers do not ask it of components."""

    def save(self, durable: int) -> SavedStream | None:
        """There is nothing to resume."""
        return None

    def finish(self, now: float) -> None:
        """End the stream as `close` does, and hear what the server had to say before it knew: it ends the stream in its
        turn (RFC 6120 §4.4), or has `answer_s` for it. Only while `live`."""
        assert self.live
        self._out += phrases.CLOSE
        self._finishing = True
        self._deadline = now + self._plan.answer_s

    def close(self) -> None:
        """End the stream: the server takes the domain for unavailable."""
        if not self.over:
            self._out += b"" if self._finishing else phrases.CLOSE
            self._end()

    def wake_at(self) -> float | None:
        """When to call `wake` if nothing comes before; in the past: at once."""
        if self.over:
            return None
        if not self.live:
            return self._deadline
        if self._unstamped:
            return self._heard_at
        plan, silent_at = self._plan, self._heard_at + self._plan.silence_s
        match self._acks:
            case Acks.UNKNOWN:
                assert self._asked_at is not None
                return self._asked_at + plan.answer_s
            case Acks.WRITING:
                assert self._asked_at is not None
                return self._heard_at if self._uncounted else self._asked_at + plan.silence_s
            case Acks.PINGS:
                if self._probed:
                    return silent_at + plan.answer_s
                return silent_at if self._asked_at is None else min(silent_at, self._asked_at + plan.answer_s)

    def wake(self, now: float) -> list[Fact]:
        """Time has passed."""
        at = self.wake_at()
        if at is None or now < at:
            return []
        if not self.live:
            return self._time_out(f"waited for {'its end' if self._finishing else self._phase.value}")
        if self._unstamped:
            self._asked_at = now
            return []
        if self._acks is Acks.PINGS:
            if self._probed:
                return self._time_out("the server did not say whether it is there")
            self._probed = now >= self._heard_at + self._plan.silence_s
            self._ask(now)
            return []
        self._acks = Acks.WRITING
        assert self._asked_at is not None
        if now >= self._asked_at + self._plan.silence_s:
            # If nobody answers, the kernel still finds out whether anybody is there.
            self._ask(now)
        return self._count_written()

    # -- hearing

    def _read(self, data: bytes) -> None:
        try:
            self._hear_all(self._framer.feed(data))
        except StreamViolation as violation:
            self._hear_all(violation.heard)
            if not self.over:
                self._fail(violation.condition, violation.problem)

    def _hear_all(self, heard: Sequence[Heard]) -> None:
        for item in heard:
            if type(item) is Element:
                signal = SIGNALS.get((item.namespace, item.name))
            else:
                signal = Signal.OPENED if type(item) is Opened else Signal.ENDED
            if signal is None:
                self._fail("unsupported-stanza-type", f"the server sent an element of no meaning: {_shown(item)}")
            else:
                self._move(signal, item)
            if self.over:
                return

    def _move(self, signal: Signal, item: Heard) -> None:
        allowed = TABLE.get((self._phase, signal))
        if allowed is None:
            self._fail("policy-violation", f"the server sent {_shown(item)} when we waited for {self._phase.value}")
            return
        if type(item) is Opened:
            self._opened(item)
        elif type(item) is Ended:
            self._facts.append(item)
            self._end()
        else:
            assert type(item) is Element
            match signal:
                case Signal.STANZA:
                    self._stanza(item)
                case Signal.SUCCESS:
                    self._come_alive()
                case _:
                    self._error(item)
        assert self._phase in allowed, (signal, self._phase, allowed)

    def _opened(self, opened: Opened) -> None:
        """The server's opening tag: its id makes the secret fit for the wire (XEP-0114 §3)."""
        if (opened.name, opened.namespace) != ("stream", names.STREAMS) or opened.declared.get("") != names.COMPONENT:
            self._fail("invalid-namespace", "the server does not speak to components here")
            return
        self._phase = Phase.SASL
        id = opened.attributes.get("id", "")
        if id:  # else an error is to follow (Prosody, of domains it does not know)
            self._token = _digest(id)[:12]
            self._out += phrases.handshake(_digest(id + self._plan.secret))

    def _come_alive(self) -> None:
        plan = self._plan
        self._management = StreamManagement(SavedStream("", plan.received, plan.base, plan.unacked))
        self._out += b"".join(plan.unacked)
        self._phase = Phase.LIVE
        self._facts.append(Connected(plan.domain, resumable=False, sm_id="", max_s=None, location=""))
        self._ask_anew()

    def _stanza(self, element: Element) -> None:
        assert self._management is not None
        if not self._ends_ping(element):
            self._facts.append(StanzaReceived(element, self._management.hear()))

    def _error(self, element: Element) -> None:
        condition, text = condition_of(element, names.STREAM_ERRORS)
        if self._phase is Phase.SASL and condition == "not-authorized":
            self._facts.append(AuthFailed(condition, text))
        else:
            self._facts.append(StreamFailed(condition or "undefined-condition", text, by_server=True))
        self._end()

    # -- acknowledgement

    def _ends_ping(self, element: Element) -> bool:
        """Whether a stanza is the end of a ping, of interest to nobody else; if it is the newest one's, what was sent
        before is handled."""
        given = element.attributes
        id = given.get("id", "")
        if element.name != "iq" or not id.startswith(phrases.ACK_ID):
            return False
        if not same_jid(given.get("from", ""), self._target):
            return False
        # Others may ping us as we do; what comes from ourselves is a ping of ours.
        if given.get("type") not in ("result", "error") and self._target != self._plan.domain:
            return False
        if self._mark is not None and id == self._ping:
            self._pinged(self._mark)
        return True

    def _pinged(self, mark: int) -> None:
        management = self._management
        assert management is not None
        self._mark = self._asked_at = None
        # What was written may have been counted while the answer took its time.
        if self._acks is not Acks.WRITING and management.acknowledge(mark):
            self._facts.append(Acked(mark))
        self._acks = Acks.PINGS
        self._ask_for_rest()

    def _ask_for_rest(self) -> None:
        assert self._management is not None
        if not self._finishing and self._mark is None and self._management.waiting:
            self._ask_anew()

    def _ask_anew(self) -> None:
        assert self._management is not None
        self._pings += 1
        self._ping = f"{phrases.ACK_ID}{self._pings}:{self._token}"
        self._mark = self._management.sent
        self._say_ping()

    def _ask(self, now: float) -> None:
        """Now; once more, if there is no answer yet."""
        if self._mark is None:
            self._ask_anew()
        else:
            self._say_ping()
        self._asked_at = now

    @property
    def _unstamped(self) -> bool:
        """A ping was sent at a time that is not known."""
        return self._mark is not None and self._asked_at is None

    def _say_ping(self) -> None:
        self._out += phrases.component_ping(self._ping, self._plan.domain, self._target)

    @property
    def _uncounted(self) -> int:
        """Stanzas that were written and are to be counted as handled, modulo 2^32."""
        if self._acks is not Acks.WRITING or self._management is None:
            return 0
        return ahead(self._written, self._management.base)

    def _count_written(self) -> list[Fact]:
        if not self._uncounted or self._management is None:
            return []
        self._management.acknowledge(self._written)
        return [Acked(self._written)]

    # -- ending

    def _time_out(self, waited: str) -> list[Fact]:
        """Nothing is said: nobody would hear it."""
        self._out = b""
        self._end()
        return [StreamFailed("connection-timeout", waited)]

    def _fail(self, condition: str, text: str) -> None:
        """The stream cannot go on, and the server is told why."""
        self._out += phrases.error(condition)
        self._facts.append(StreamFailed(condition, text))
        self._end()

    def _end(self) -> None:
        self._phase = Phase.OVER


def _digest(text: str) -> str:
    """What XEP-0114 has for a proof; flagged as what it is today."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _shown(item: Heard) -> str:
    if type(item) is Element:
        return f"<{item.name[:64]} xmlns={item.namespace[:128]!r}>"
    return "its opening tag"
