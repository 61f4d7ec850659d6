"""What a stream is to do, and what it tells: `edge.protocol.xmpp.stream`, `edge.protocol.xmpp.component`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edge.facts import fact
from edge.protocol.xmpp.credentials import Credentials, ScramKeys
from edge.protocol.xmpp.framing import Element, Ended, StreamLimits
from edge.protocol.xmpp.negotiation import Phase, Tls
from edge.protocol.xmpp.sasl import KeysNeeded
from edge.protocol.xmpp.stream_management import SavedStream, StreamManagement


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """All that a stream needs to know before it begins."""

    domain: str
    """The server to log in to; also the name that its certificate must have, whatever host was dialed."""
    credentials: Credentials
    resource: str = ""
    """The one to bind; empty: one of the server's making."""
    tls: Tls = Tls.STARTTLS
    bare_without_tls: bool = False
    """A password or token may be sent without TLS."""
    pinned: str | None = None
    """The SASL mechanism of an earlier login to this server; nothing weaker is used unless it is still on offer."""
    resume: SavedStream | None = None
    resume_max_s: int = 600
    """How long the server is asked to keep a stream without a connection. Servers have their own maximum (Prosody 600,
    ejabberd 300)."""
    carbons: bool = True
    """Copies of what other clients of the account send and receive (XEP-0280)."""
    active: bool = True
    """Somebody is looking (XEP-0352)."""
    negotiation_s: float = 30.0
    """From the first byte to the last answer. A server that restarts with thousands of users takes seconds."""
    silence_s: float = 120.0
    """After so long without a byte from the server it is asked whether it is there. NATs and firewalls forget idle
    connections after five minutes or more, as a rule."""
    answer_s: float = 30.0
    """After so long without an answer to that, the connection is dead."""
    limits: StreamLimits = field(default_factory=StreamLimits)


@dataclass(frozen=True, slots=True)
class ComponentPlan:
    """The same for an external component's stream."""

    domain: str
    """The component's own."""
    secret: str = field(repr=False)
    """What the server's settings say for that domain."""
    unacked: Sequence[bytes] = field(default=(), repr=False)
    """Stanzas that a server is not known to have handled, oldest first: they are sent first of all."""
    base: int = 0
    """How many were, before those, as a count."""
    received: int = 0
    """Stanzas of the server that are durable here, as a count. Both counts go on from stream to stream, or begin anew,
    as the caller likes: nothing on the wire knows them."""
    ack_from: str = ""
    """The domain that is asked whether it has got so far; empty: the component's own, which the server passes back."""
    negotiation_s: float = 30.0
    """As in `StreamPlan`, and so are the others."""
    silence_s: float = 120.0
    answer_s: float = 30.0
    limits: StreamLimits = field(default_factory=StreamLimits)


@fact
class TlsWanted:
    """Nothing is sent or taken before the handshake: do it, for the plan's domain, then call `tls_up`."""


@fact
class Connected:
    """A new session: what was known of an old one (presence, rooms, subscriptions) does not hold in it."""

    jid: str
    """The full address, as the server says it."""
    resumable: bool
    sm_id: str
    """The server's name for the stream; empty when it is not resumable."""
    max_s: int | None
    """How long the server keeps it without a connection, if it said."""
    location: str
    """Where the server wants it to be resumed; empty: anywhere."""

    def __repr__(self) -> str:
        return f"Connected(jid={self.jid!r}, resumable={self.resumable})"


@fact
class Resumed:
    """The old session goes on; the server has `h` of our stanzas. The others have just been sent again."""

    h: int
    redelivered: int


@fact
class ResumeFailed:
    """The old session is gone; a new one is on its way on the same connection.

    `h`: how many of our stanzas the old one had, if the server says. `unacked`: those after it, or all of which we do
    not know. They are the caller's now: the new session knows nothing of them.
    """

    h: int | None
    unacked: tuple[bytes, ...]


@fact
class StanzaReceived:
    """A message, presence or iq. When it is durable, `ack(h)` may be called."""

    element: Element
    h: int
    """The count with it. Where the server keeps no count, 0."""
    ours: bool = False
    """The answer to something that the stream itself had asked: of interest to nobody, but it counts."""


@fact
class Acked:
    """The server has `h` of our stanzas."""

    h: int


@fact
class AckAsked:
    """The server wants to know how many of its stanzas are safe: call `ack`, with the old count if it has not grown."""


@fact
class AuthFailed:
    """The login failed; `condition` as in `edge.protocol.xmpp.sasl.SaslError`. The stream is over."""

    condition: str
    text: str = ""


@fact
class StreamFailed:
    """The stream is over, by an error of either side: `condition` is one of RFC 6120 §4.9.3, or one of ours
    (``tls-not-offered``, ``tls-refused``, ``bind-refused``)."""

    condition: str
    text: str = ""
    by_server: bool = False
    """The server said so; otherwise we did."""


Fact = (
    TlsWanted | KeysNeeded | Connected | Resumed | ResumeFailed | StanzaReceived | Acked | AckAsked | AuthFailed
    | StreamFailed | Ended
)  # fmt: skip


class Stream(Protocol):
    """One stream, whatever kind of link is behind it. Pure: bytes and the time in, facts and bytes out.

    What it promises: facts come in the order of the wire, and each once. Nothing is acknowledged of itself: `ack` does
    it, for what the caller has made durable. What is given to `send` is written in that order, and stays in
    `management` until a fact (`Acked`, `Resumed`) says that the server has it. After `AuthFailed`, `StreamFailed` or
    `Ended`, and after `close`, nothing more is told; `take` may still have a farewell to be sent.
    """

    @property
    def phase(self) -> Phase:
        """What the stream waits for."""

    @property
    def live(self) -> bool:
        """Stanzas may be sent."""

    @property
    def over(self) -> bool:
        """Nothing happens any more."""

    @property
    def mechanism(self) -> str:
        """What was used to log in, where there is a choice; else empty."""

    @property
    def management(self) -> StreamManagement | None:
        """The counts and what is not acknowledged, while live and where count is kept."""

    def take(self) -> bytes:
        """Bytes to write now. After every call of another method there may be some."""

    def receive(self, data: bytes, now: float) -> list[Fact]:
        """Bytes came."""

    def tls_up(self) -> None:
        """The handshake that `TlsWanted` asked for is done."""

    def use_keys(self, keys: ScramKeys) -> None:
        """What `KeysNeeded` asked for."""

    def send(self, stanzas: Sequence[bytes]) -> None:
        """Durable stanzas, in their order. Only while `live`."""

    def ack(self, h: int) -> None:
        """The server's first `h` stanzas are durable. Raises CountError. Only while `live`, and where count is kept."""

    def set_active(self, active: bool) -> None:
        """Somebody looks, or nobody does."""

    def save(self, durable: int) -> SavedStream | None:
        """What another process needs to resume the stream. None: it cannot be resumed."""

    def close(self) -> None:
        """End the stream, and what is behind it at the server."""

    def wake_at(self) -> float | None:
        """When to call `wake` if nothing comes before; it may have passed. To be asked after every call."""

    def wake(self, now: float) -> list[Fact]:
        """Time has passed."""
