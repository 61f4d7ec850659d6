"""Actions: orders a backend gives. Imperative, frozen, checked field by field when they are decoded.

Every action may name another session to act on (`session`, None: the event's own) and carry an idempotency key
(`id`, None: none), good for 24 h.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from edge.facts import fact
from edge.protocol.callbacks.events import Headers
from edge.protocol.xmpp.credentials import Credentials
from edge.protocol.xmpp.outgoing import MessageFields, PresenceFields

ACTION_ID_TTL_S = 86_400
"""How long an action's idempotency key is remembered (spec: 24 h)."""


@dataclass(frozen=True, slots=True)
class Accept:
    """Answer of `open`: complete the handshake with this subprotocol and these response headers."""

    subprotocol: str | None = None
    headers: Headers = ()
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """Answer of `open`: refuse the handshake with `status` (400–599)."""

    status: int = 403
    headers: Headers = ()
    text: str = ""
    session: str | None = None
    id: str | None = None


@fact
class Send:
    """Send one message to the client: str as text, bytes as binary."""

    payload: str | bytes
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class CloseSession:
    """Close the client's connection (`close` on the wire), after everything sent before it."""

    code: int = 1000
    reason: str = ""
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Subscribe to a channel; with `since` (offset, epoch): first what was missed, then live, no gap, no repeat."""

    channel: str
    since: tuple[int, str] | None = None
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    channel: str
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish to a channel. `id` de-duplicates per channel. `except_self`: not to the acting session."""

    channel: str
    payload: str | bytes
    except_self: bool = False
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Identify:
    """Say who the session's user is; None takes it back."""

    user: str | None
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class SetTimer:
    """A durable timer (`timer` on the wire): a `timer` event in `after_ms`. Setting a name again replaces it."""

    name: str
    after_ms: int
    data: Any = None
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class CancelTimer:
    name: str
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Pin:
    """Keep the session on a release; None lets it follow its route's policy again."""

    release: str | None
    session: str | None = None
    id: str | None = None


# Orders for an XMPP link. `session` names it (``x:…``); None: the link whose event is answered.


@dataclass(frozen=True, slots=True)
class AskBackend:
    """Credentials are asked for with an `xmpp.credentials` event whenever they are needed, and never stored."""


@dataclass(frozen=True, slots=True)
class OnConnect:
    """What a link does by itself after each login that began a new session at the server."""

    roster: bool = False
    """Fetch the roster: an `xmpp.roster` event."""
    presence: str | None = None
    """A presence stanza to send, as XML, until an `xmpp.presence` action says another."""
    carbons: bool = True


@dataclass(frozen=True, slots=True)
class Routing:
    """Which stanzas become events (``message``, ``presence``, ``iq``), and which of them may be replaced by newer ones
    of their kind while they wait for the backend (``presence``, ``chatstate``)."""

    stanzas: Sequence[str] = ("message", "presence", "iq")
    coalesce: Sequence[str] = ("presence", "chatstate")


@dataclass(frozen=True, slots=True)
class XmppConnect:
    """Begin a link, unless there is one of this id with this JID. The server is the one that the settings name for the
    JID's domain."""

    jid: str
    """Bare; of a component, its domain."""
    auth: Credentials | AskBackend | None = field(default=None, repr=False)
    """None: a component, whose secret is in the settings."""
    resource: str = ""
    on_connect: OnConnect = OnConnect()
    routing: Routing = Routing()
    attach: Sequence[str] | None = None
    """Client sessions; None: the one whose event is answered, if it is a client's."""
    keep_after_detach_s: float = 300.0
    sent: bool = False
    """Report what the server has acknowledged (`xmpp.sent`)."""
    detached: bool = False
    """Report interruptions (`xmpp.detached`)."""
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class XmppSend:
    """Send one stanza: a message from fields, or any stanza as XML."""

    stanza: MessageFields | str
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class XmppPresence:
    """Send presence, from fields or as XML. What has no `to` is remembered, and sent again by each new session."""

    stanza: PresenceFields | str
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class XmppIq:
    """Ask something: one `xmpp.iq_result` follows in any case. `xml`: the one element inside. `sender`: who asks; None:
    the link's own address."""

    xml: str
    to: str | None = None
    stanza_type: Literal["get", "set"] = "get"
    timeout_s: float = 30.0
    sender: str | None = None
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class XmppIqReply:
    """Answer the request of the `xmpp.iq` event with this `seq`: with `xml` (nothing, or one element), or with an error
    `condition` (RFC 6120 §8.3.3)."""

    seq: int
    xml: str = ""
    condition: str = ""
    error_type: str = "cancel"
    text: str | None = None
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class XmppCredentials:
    """The answer to an `xmpp.credentials` event; used once, not stored.

    A username that is empty, and the address of a certificate, are the link's own.
    """

    auth: Credentials = field(repr=False)
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class XmppAttach:
    """Client session `client` uses the link; None: the one whose event is answered."""

    client: str | None = None
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class XmppDetach:
    """Client session `client` does not use the link any more; None: the one whose event is answered."""

    client: str | None = None
    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class XmppSuspend:
    """Close the connection and leave the session at the server, until something is to be sent or a client attaches."""

    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class XmppDisconnect:
    """Log out, and forget the link when its last events are with the backend."""

    session: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class XmppGet:
    """Ask how the link is: an `xmpp.state` event."""

    session: str | None = None
    id: str | None = None


LinkAction = (
    XmppConnect | XmppSend | XmppPresence | XmppIq | XmppIqReply | XmppCredentials | XmppAttach | XmppDetach
    | XmppSuspend | XmppDisconnect | XmppGet
)  # fmt: skip

Action = (
    Accept | Reject | Send | CloseSession | Subscribe | Unsubscribe | Publish | Identify | SetTimer | CancelTimer | Pin
    | LinkAction
)  # fmt: skip

LINK_PREFIX = "x:"
"""What the ids of links begin with, and no other session's does."""


def is_link(session: str) -> bool:
    return session.startswith(LINK_PREFIX)


@fact
class Result:
    """What the backend answered to one event. State and actions take effect together or not at all."""

    actions: Sequence[Action] = ()
    state_set: Mapping[str, Any] = field(default_factory=dict)
    state_unset: Sequence[str] = ()

    @property
    def connects(self) -> bool:
        """It begins a link where there is none."""
        return any(isinstance(action, XmppConnect) for action in self.actions)


NOTHING = Result()
"""No actions, no state: an empty 204, or a result without either."""


@dataclass(frozen=True, slots=True)
class BadResult:
    """A result that does not hold together: `field` names the first bad field. Its event is not retried."""

    field: str
    problem: str
