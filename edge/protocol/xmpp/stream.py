"""One XMPP stream, the client's side: bytes and the time in, facts and bytes out.

`XmppStream` owns a stream from its first byte to its last: it opens it (`edge.protocol.xmpp.opening`), and from then on
keeps the two counts of XEP-0198. Connections, name look-up and the TLS handshake are its caller's, and so is memory
that outlives the process. Two rules make a session survive the loss of a process at any moment, and the caller keeps
them:

- A stanza that came is acknowledged when it is durable, not before: nothing here acknowledges of itself. `ack(h)`.
- A stanza to send is durable, in the order of sending, before it is given to `send`.

What is durable is a `SavedStream`; a plan with one resumes. After that the server sends again what was not durable
here, and this stream sends again what the server had not acknowledged.

After `AuthFailed`, `StreamFailed` or `Ended` nothing more happens; what `take` still has is to be sent before the
connection is closed. A connection that is closed without `close()` leaves the session at the server for resuming.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge.protocol.xmpp import names, phrases
from edge.protocol.xmpp.credentials import ScramKeys
from edge.protocol.xmpp.element import Element
from edge.protocol.xmpp.framing import Ended, Framer, Heard, Opened, StreamViolation
from edge.protocol.xmpp.negotiation import SIGNALS, TABLE, Phase, Signal
from edge.protocol.xmpp.opening import Opening, OpeningFailed, condition_of
from edge.protocol.xmpp.sasl import KeysNeeded, SaslError
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
    StreamPlan,
    TlsWanted,
)
from edge.protocol.xmpp.stream_management import CountError, SavedStream, StreamManagement, read_count

__all__ = [
    "AckAsked",
    "Acked",
    "AuthFailed",
    "Connected",
    "Ended",
    "Fact",
    "KeysNeeded",
    "ResumeFailed",
    "Resumed",
    "StanzaReceived",
    "StreamFailed",
    "StreamPlan",
    "TlsWanted",
    "XmppStream",
]

_OWN_CONDITIONS = frozenset({"tls-not-offered", "tls-refused", "bind-refused"})


class XmppStream:
    """A stream from its first byte to its last."""

    __slots__ = (
        "_active", "_answer_s", "_asked", "_deadline", "_facts", "_framer", "_heard_at", "_knows_activity",
        "_management", "_opening", "_out", "_phase", "_probed", "_silence_s", "_unasked", "mechanism",
    )  # fmt: skip

    def __init__(self, plan: StreamPlan, nonce: Callable[[], str], now: float) -> None:
        """`nonce` makes random printable ASCII without commas. With direct TLS the handshake has been done."""
        self._framer = Framer(plan.limits)
        self._opening: Opening | None = Opening(plan, nonce, self._framer)
        self._phase = Phase.HEADER
        self._out = b""
        self._facts: list[Fact] = []
        self._management: StreamManagement | None = None
        self.mechanism = ""
        """What was used to log in. After `Connected` or `Resumed` it is worth remembering (`StreamPlan.pinned`)."""
        self._active = plan.active
        self._knows_activity = False
        """The server has XEP-0352."""
        self._asked = False
        """The server owes us an ``<a/>``."""
        self._unasked = False
        """Stanzas have been sent since it was asked."""
        self._silence_s, self._answer_s = plan.silence_s, plan.answer_s
        self._deadline = now + plan.negotiation_s
        self._heard_at = now
        self._probed = False
        """The server was asked whether it is there, and nothing has come since."""
        self._take_over(self._opening)

    # -- what the caller sees and does

    @property
    def phase(self) -> Phase:
        """What the stream waits for."""
        return self._phase

    @property
    def live(self) -> bool:
        """Stanzas may be sent."""
        return self._phase is Phase.LIVE

    @property
    def over(self) -> bool:
        """Nothing happens any more."""
        return self._phase is Phase.OVER

    @property
    def management(self) -> StreamManagement | None:
        """The counts and what is not acknowledged, while live and where both sides keep count."""
        return self._management

    def take(self) -> bytes:
        """Bytes to write now."""
        out, self._out = self._out, b""
        return out

    def receive(self, data: bytes, now: float) -> list[Fact]:
        """Bytes came."""
        facts: list[Fact] = []
        if self.over:
            return facts
        self._facts = facts
        self._heard_at, self._probed = now, False
        if self._phase is Phase.TLS:
            self._fail("policy-violation", "bytes in the clear after <proceed/>", silent=True)
        else:
            self._read(data)
        self._facts = []
        return facts

    def tls_up(self) -> None:
        """The handshake is done, and the server's certificate is right. Only after `TlsWanted`."""
        if self._phase is Phase.TLS:
            assert self._opening is not None
            self._phase = self._opening.tls_up()
            self._take_over(self._opening)

    def use_keys(self, keys: ScramKeys) -> None:
        """What `KeysNeeded` asked for. Nothing happens if the stream has ended meanwhile."""
        if self._phase is Phase.KEYS:
            assert self._opening is not None
            self._phase = self._opening.use_keys(keys)
            self._take_over(self._opening)

    def send(self, stanzas: Sequence[bytes]) -> None:
        """Stanzas that are durable, in their order; each is one element, checked before. The server is asked to
        acknowledge them. Only while `live`."""
        assert self.live
        self._out += b"".join(stanzas)
        management = self._management
        if management is None:
            return
        for stanza in stanzas:
            management.send(stanza)
        if self._asked:
            self._unasked = True
        else:
            self._ask()

    def ack(self, h: int) -> None:
        """The server's first `h` stanzas are durable. Raises CountError for a count that cannot be. Only while `live`,
        and only where the server keeps count."""
        assert self.live
        assert self._management is not None
        self._management.confirm(h)
        self._out += phrases.ack(h)

    def set_active(self, active: bool) -> None:
        """Somebody looks, or nobody does: then the server may send less (XEP-0352). For a stream that is not live it is
        said when it is."""
        if active != self._active and self.live and self._knows_activity:
            self._out += phrases.ACTIVE if active else phrases.INACTIVE
        self._active = active

    def save(self, durable: int) -> SavedStream | None:
        """What another process needs to go on; `durable`: the count that is. None: there is nothing to resume."""
        if self._management is None or not self._management.id:
            return None
        return self._management.save(durable)

    def close(self) -> None:
        """End the stream, and with it the session at the server."""
        if not self.over:
            if self._phase is not Phase.TLS:
                self._out += phrases.CLOSE
            self._end()

    def wake_at(self) -> float | None:
        """When to call `wake` if nothing comes before."""
        if self.over:
            return None
        if not self.live:
            return self._deadline
        return self._heard_at + self._silence_s + (self._answer_s if self._probed else 0)

    def wake(self, now: float) -> list[Fact]:
        """Time has passed."""
        at = self.wake_at()
        if at is None or now < at:
            return []
        if self.live and not self._probed:
            # Asked with <r/>: the answer is as good as a ping's, and nothing of it counts as a stanza.
            self._probed = True
            if self._management is None:
                self._out += phrases.PING
            else:
                self._ask()
            return []
        waited = "the server did not say whether it is there" if self.live else f"waited for {self._phase.value}"
        # Nothing is said: if the server is alive after all, the session can be resumed.
        self._out = b""
        self._end()
        return [StreamFailed("connection-timeout", waited)]

    # -- hearing

    def _read(self, data: bytes) -> None:
        try:
            heard = self._framer.feed(data)
            while self._hear_all(heard):
                heard = self._framer.feed(b"")
        except StreamViolation as violation:
            self._hear_all(violation.heard)
            if not self.over:
                self._fail(violation.condition, violation.problem)

    def _hear_all(self, heard: Sequence[Heard]) -> bool:
        """Whether a new stream begins, of which something may have come already."""
        restarts = False
        for item in heard:
            restarts = False
            if type(item) is Element:
                signal = SIGNALS.get((item.namespace, item.name))
                if signal is Signal.STANZA and self._phase is Phase.LIVE:
                    self._live(signal, item)  # most of what is ever heard
                    continue
                restarts = signal is Signal.SUCCESS
            elif type(item) is Opened:
                signal = Signal.OPENED
            else:
                signal = Signal.ENDED
            if signal is None:
                self._fail("unsupported-stanza-type", f"the server sent an element of no meaning: {_shown(item)}")
            else:
                self._move(signal, item)
            if self.over:
                return False
        return restarts

    def _move(self, signal: Signal, item: Heard) -> None:
        phase = self._phase
        allowed = TABLE.get((phase, signal))
        if allowed is None:
            self._fail("policy-violation", f"the server sent {_shown(item)} when we waited for {phase.value}")
            return
        try:
            following = self._follow(signal, item)
        except SaslError as error:
            self._refuse(error, abort=signal is Signal.CHALLENGE)
        except OpeningFailed as error:
            self._fail(error.condition, error.text, by_server=error.by_server, silent=error.silent)
        except CountError as error:
            self._fail("undefined-condition", str(error), self._count_too_high(item))
        else:
            assert following in allowed, (phase, signal, following)
            self._phase = following

    def _follow(self, signal: Signal, item: Heard) -> Phase:
        """Do what was heard asks for. The phase after it."""
        if type(item) is not Element or signal is Signal.ERROR:
            return self._opened_or_ended(item)
        if self._opening is None:
            return self._live(signal, item)
        try:
            following = self._opening.follow(signal, item, self._phase)
        finally:
            self._take_over(self._opening)
        if following is Phase.LIVE:
            self._come_alive(self._opening)
        return following

    def _opened_or_ended(self, item: Heard) -> Phase:
        if type(item) is Opened:
            assert self._opening is not None
            return self._opening.opened(item)
        if type(item) is Element:
            condition, text = condition_of(item, names.STREAM_ERRORS)
            self._facts.append(StreamFailed(condition or "undefined-condition", text, by_server=True))
        else:
            self._facts.append(Ended())
        return self._end()

    def _take_over(self, opening: Opening) -> None:
        """What an opening says, here is said."""
        self._out += opening.out
        self._facts += opening.facts
        opening.out, opening.facts = b"", []
        self.mechanism = opening.mechanism

    def _come_alive(self, opening: Opening) -> None:
        self._management = opening.management
        self._knows_activity = opening.features.client_state
        self._opening = None
        if self._management is not None and self._management.waiting:
            self._ask()
        # A session is active again after resuming, whatever it was before (XEP-0352 §5).
        if not self._active and self._knows_activity:
            self._out += phrases.INACTIVE

    # -- living

    def _live(self, signal: Signal, element: Element) -> Phase:
        management = self._management
        if signal is Signal.STANZA:
            ours = phrases.answers_us(element)
            if management is not None:
                self._facts.append(StanzaReceived(element, management.hear(), ours))
            elif not ours:
                self._facts.append(StanzaReceived(element, 0))
        elif management is None:
            raise OpeningFailed("policy-violation", "the server counts stanzas, which was not agreed on")
        elif signal is Signal.ACK:
            self._acked(management, element)
        elif AckAsked() not in self._facts:
            self._facts.append(AckAsked())
        return Phase.LIVE

    def _acked(self, management: StreamManagement, element: Element) -> None:
        h = read_count(element.attributes.get("h", ""))
        management.acknowledge(h)
        self._facts.append(Acked(h))
        self._asked = False
        if self._unasked and management.waiting:
            self._ask()

    def _ask(self) -> None:
        self._out += phrases.ASK
        self._asked, self._unasked = True, False

    # -- ending

    def _refuse(self, error: SaslError, *, abort: bool) -> None:
        """The login has failed."""
        self._out += (phrases.ABORT if abort else b"") + phrases.CLOSE
        self._facts.append(AuthFailed(error.condition, error.problem))
        self._end()

    def _fail(
        self, condition: str, text: str, more: str = "", *, by_server: bool = False, silent: bool = False
    ) -> None:
        """The stream cannot go on. A server that has said so needs no telling."""
        if silent:
            self._out = b""
        elif not by_server:
            self._out += phrases.error("undefined-condition" if condition in _OWN_CONDITIONS else condition, more)
        self._facts.append(StreamFailed(condition, text, by_server))
        self._end()

    def _count_too_high(self, item: Heard) -> str:
        management = self._management or (self._opening and self._opening.management)
        if not management or type(item) is not Element:
            return ""
        try:
            count = read_count(item.attributes.get("h", ""))
        except CountError:
            return ""
        return phrases.count_too_high(count, management.sent)

    def _end(self) -> Phase:
        self._phase = Phase.OVER
        self._opening = None
        return Phase.OVER


def _shown(item: Heard) -> str:
    if type(item) is Element:
        return f"<{item.name[:64]} xmlns={item.namespace[:128]!r}>"
    return "its opening tag"
