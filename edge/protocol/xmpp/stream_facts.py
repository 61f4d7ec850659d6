"""What a stream is to do, and what it tells: `edge.protocol.xmpp.stream`."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge.facts import fact
from edge.protocol.xmpp.credentials import Credentials
from edge.protocol.xmpp.framing import Element, Ended, StreamLimits
from edge.protocol.xmpp.negotiation import Tls
from edge.protocol.xmpp.sasl import KeysNeeded
from edge.protocol.xmpp.stream_management import SavedStream


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
