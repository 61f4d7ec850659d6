"""Events of XMPP links: facts about what happened between the edge and an XMPP server. Typed, frozen;
`backend_sdk.xmpp_wire` makes them. Handlers get them with the `Link` they happened to.

Every event has, beside `id`, `at` and `attempt`, the link's address `jid` (full once the server has given one) and
`seq`, which counts the link's events. `xml` is the stanza itself, byte for byte; it stood in a stream whose default
namespace is ``jabber:client`` (of a component, ``jabber:component:accept``), which a parser has to be told. `stanza`
shows its usual fields.

Source: edge/protocol/callbacks/SPEC.md, "Events of links".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

NAME_MARK = "#"
"""Between the name of a question and the rest of its action id."""


class Child(NamedTuple):
    """An element inside a stanza."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Delay:
    """When a stanza was first sent, says `sender` (XEP-0203)."""

    stamp: str
    sender: str | None


@dataclass(frozen=True, slots=True)
class StanzaError:
    """RFC 6120 §8.3: `condition` is ``item-not-found`` and the like, `type` ``cancel``, ``wait`` …"""

    type: str
    condition: str
    text: str | None


@dataclass(frozen=True, slots=True)
class MessageStanza:
    """A message's usual fields; those of the message inside, of a carbon copy. `stanza_id`: its id in the account's
    archive. `receipt`: one is asked for (``request``), or this is the one for message `receipt_id` (``received``)."""

    sender: str | None
    to: str | None
    type: str
    id: str | None
    body: str | None
    subject: str | None
    thread: str | None
    stanza_id: str | None
    carbon: str | None
    chat_state: str | None
    receipt: str | None
    receipt_id: str | None
    delay: Delay | None
    error: StanzaError | None
    children: Sequence[Child]


@dataclass(frozen=True, slots=True)
class PresenceStanza:
    """A presence's usual fields; `type` is ``available`` where the stanza has none."""

    sender: str | None
    to: str | None
    type: str
    id: str | None
    show: str | None
    status: str | None
    priority: int
    delay: Delay | None
    error: StanzaError | None
    children: Sequence[Child]


@dataclass(frozen=True, slots=True)
class IqStanza:
    """An iq's usual fields; `query`: what is inside besides an error."""

    sender: str | None
    to: str | None
    type: str
    id: str | None
    query: Child | None
    error: StanzaError | None


@dataclass(frozen=True, slots=True)
class RosterItem:
    """A contact. `subscription`: ``none``, ``to``, ``from``, ``both``, or ``remove`` for one that is gone (`sub` on the
    wire); `ask`: we have asked for one."""

    jid: str
    subscription: str
    name: str | None
    ask: bool
    groups: Sequence[str]


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """What all events of links have."""

    type: ClassVar[str]
    id: str
    at: int
    attempt: int
    seq: int
    jid: str


@dataclass(frozen=True, slots=True)
class XmppConnected(LinkEvent):
    """There is a new session at the server: presence, rooms and roster begin anew. `max_s`: how long the server keeps
    it when the connection is lost."""

    type: ClassVar[str] = "xmpp.connected"
    resumable: bool
    max_s: int | None
    fresh: bool


@dataclass(frozen=True, slots=True)
class XmppResumed(LinkEvent):
    """The same session goes on after an interruption; nothing is lost and nothing has to be done."""

    type: ClassVar[str] = "xmpp.resumed"
    gap_ms: int
    redelivered: int


@dataclass(frozen=True, slots=True)
class XmppMessage(LinkEvent):
    """A message came. `replay`: it was read from the archive, because it did not come when it was sent."""

    type: ClassVar[str] = "xmpp.message"
    stanza: MessageStanza
    xml: str
    replay: bool

    @property
    def sender(self) -> str | None:
        """Who wrote it."""
        return self.stanza.sender

    @property
    def body(self) -> str | None:
        """Its text; None: it has none (a chat state, a receipt, …)."""
        return self.stanza.body


@dataclass(frozen=True, slots=True)
class XmppPresence(LinkEvent):
    """Presence came."""

    type: ClassVar[str] = "xmpp.presence"
    stanza: PresenceStanza
    xml: str

    @property
    def sender(self) -> str | None:
        """Whose it is."""
        return self.stanza.sender


@dataclass(frozen=True, slots=True)
class XmppIq(LinkEvent):
    """A request came: `Link.reply` or `Link.reply_error`, or the edge refuses it at `reply_by` (ms since the epoch;
    None: no answer is wanted)."""

    type: ClassVar[str] = "xmpp.iq"
    stanza: IqStanza
    xml: str
    reply_by: int | None

    @property
    def sender(self) -> str | None:
        """Who asks; None: the account's server."""
        return self.stanza.sender


@dataclass(frozen=True, slots=True)
class XmppRoster(LinkEvent):
    """The roster; with `full` False what has changed of it."""

    type: ClassVar[str] = "xmpp.roster"
    ver: str | None
    full: bool
    items: Sequence[RosterItem]


@dataclass(frozen=True, slots=True)
class XmppIqResult(LinkEvent):
    """What became of a `Link.iq`: one for each. `ok`: the answer is in `stanza` and `xml`; else `reason` says
    ``error`` (`stanza.error` and `xml` say which), ``timeout`` or ``session_lost``."""

    type: ClassVar[str] = "xmpp.iq_result"
    action_id: str
    ok: bool
    reason: str | None
    stanza: IqStanza | None
    xml: str | None

    @property
    def name(self) -> str | None:
        """What the question was called: `Link.iq(…, name="vcard")`."""
        name, mark, _ = self.action_id.partition(NAME_MARK)
        return name if mark else None


@dataclass(frozen=True, slots=True)
class XmppSent(LinkEvent):
    """The server has taken what these actions sent. Only for links connected with `sent`."""

    type: ClassVar[str] = "xmpp.sent"
    action_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class XmppSendFailed(LinkEvent):
    """A stanza was not sent: `reason` is ``invalid``, ``session_lost``, ``queue_full``, … `certain` False: it may have
    been. `text` is for people."""

    type: ClassVar[str] = "xmpp.send_failed"
    action_id: str | None
    reason: str
    certain: bool
    text: str


@dataclass(frozen=True, slots=True)
class XmppReset(LinkEvent):
    """The server has given up the old session, and a new one takes its place: rooms, presence and roster begin anew. It
    comes in the place of `XmppConnected`; what the archive has follows as messages, then `XmppCaughtUp`.
    `unknown`: ids of actions that may or may not have arrived; `mam_after`: the newest archive id known."""

    type: ClassVar[str] = "xmpp.reset"
    reason: str
    server_h: int | None
    resent: int
    unknown: Sequence[str]
    mam_after: str | None


@dataclass(frozen=True, slots=True)
class XmppCaughtUp(LinkEvent):
    """The archive has been read: after an `XmppReset`, or, where the edge's settings want that, after an `XmppResumed`.
    `whole` False: there may be a gap."""

    type: ClassVar[str] = "xmpp.caught_up"
    count: int
    whole: bool


@dataclass(frozen=True, slots=True)
class XmppDetached(LinkEvent):
    """The connection is lost and being made again. Only for links connected with `detached`, and for gaps over 5 s."""

    type: ClassVar[str] = "xmpp.detached"
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class XmppDisconnected(LinkEvent):
    """The link is over; its last event."""

    type: ClassVar[str] = "xmpp.disconnected"
    reason: str
    text: str
    will_retry: bool


@dataclass(frozen=True, slots=True)
class XmppAuthFailed(LinkEvent):
    """The server refuses the credentials: the link is over; its last event."""

    type: ClassVar[str] = "xmpp.auth_failed"
    condition: str
    text: str
    will_retry: bool


@dataclass(frozen=True, slots=True)
class XmppCredentials(LinkEvent):
    """Credentials are wanted, to ``connect`` or to ``resume``: `Link.give_credentials`. It stands outside the order of
    the other events, and its `seq` is 0."""

    type: ClassVar[str] = "xmpp.credentials"
    reason: str


@dataclass(frozen=True, slots=True)
class XmppState(LinkEvent):
    """How the link is: the answer to `Link.get`, and to a `connect` that found it there. `phase`: ``connecting``,
    ``live``, ``lost``, ``suspended``; `attached`: client sessions; `waiting`: events; `unacked`: stanzas."""

    type: ClassVar[str] = "xmpp.state"
    phase: str
    resumable: bool
    attached: Sequence[str]
    waiting: int
    unacked: int
