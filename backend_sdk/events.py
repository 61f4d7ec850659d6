"""Events: facts an edge tells a backend. Typed, frozen; `backend_sdk.wire` makes them from a request's body.

Every event has `id` (the same on every retry: the idempotency key), `at` (ms since the epoch, when it happened) and
`attempt` (1, then 2, 3 … on a retry). Who it happened to stands in the `Session` that handlers get with it.

Events of XMPP links are in `backend_sdk.xmpp_events`.

Source: edge/protocol/callbacks/SPEC.md, "The request".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from backend_sdk.xmpp_events import LinkEvent


class Position(NamedTuple):
    """A place in a channel's history: the `offset` of a publication in the life of the channel named `epoch`."""

    offset: int
    epoch: str


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """The client's handshake. `headers` in the order they came, names as the client wrote them; `client` is
    ``ip:port``; `path` starts with a slash; `query` comes without its question mark."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    client: str
    scheme: str
    subprotocols: Sequence[str]

    def header(self, name: str, default: str | None = None) -> str | None:
        """The first header of that name, in any case."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), default)


@dataclass(frozen=True, slots=True)
class Open:
    """A client asks for a session. Accepted unless the handler rejects it. `transport`: ``websocket``, …"""

    type: ClassVar[str] = "open"
    id: str
    at: int
    attempt: int
    request: ClientRequest
    transport: str


@dataclass(frozen=True, slots=True)
class Message:
    """The client sent a whole message: `payload` is str for text, bytes for binary."""

    type: ClassVar[str] = "message"
    id: str
    at: int
    attempt: int
    payload: str | bytes

    @property
    def text(self) -> str:
        """The payload of a text message. Raises TypeError for a binary one."""
        if isinstance(self.payload, str):
            return self.payload
        raise TypeError("a binary message has no text; see Message.payload")

    @property
    def data(self) -> bytes:
        """The payload of a binary message. Raises TypeError for a text one."""
        if isinstance(self.payload, bytes):
            return self.payload
        raise TypeError("a text message has no data; see Message.payload")

    def json(self) -> Any:
        """The payload read as JSON. Raises ValueError when it is none."""
        return json.loads(self.payload)


@dataclass(frozen=True, slots=True)
class Close:
    """The session has ended; its last event. `clean`: a close frame came. `cause`: client, backend, idle, slow, limit,
    edge-lost, expired, drain. Nothing can be sent to the session any more; publishing works."""

    type: ClassVar[str] = "close"
    id: str
    at: int
    attempt: int
    code: int
    reason: str
    clean: bool
    cause: str


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer set with `Session.timer` is due; `data` is what was stored with it."""

    type: ClassVar[str] = "timer"
    id: str
    at: int
    attempt: int
    name: str
    data: Any


@dataclass(frozen=True, slots=True)
class ReleaseChanged:
    """The session now belongs to another release: the hook to upgrade its state (`release` on the wire)."""

    type: ClassVar[str] = "release"
    id: str
    at: int
    attempt: int
    from_release: str
    to_release: str


@dataclass(frozen=True, slots=True)
class Gap:
    """`subscribe(channel, since)` could not be honoured whole: history no longer reaches back to `since`.

    The subscription is live from `position` on; the handler decides what to send in place of the missing part.
    """

    type: ClassVar[str] = "gap"
    id: str
    at: int
    attempt: int
    channel: str
    since: Position
    position: Position


@dataclass(frozen=True, slots=True)
class Refused:
    """What was answered to event `of` could not be carried out whole, most often because Redis was away for longer than
    the edge waits. `error` says what was and was not done, for people.

    The session goes on: apologise, do it again, or leave it. Whatever needs Redis (state, subscriptions, timers,
    publishing) may be refused again; `Session.send` is not.
    """

    type: ClassVar[str] = "refused"
    id: str
    at: int
    attempt: int
    of: str
    error: str


@dataclass(frozen=True, slots=True)
class Other:
    """An event of a type this version of the SDK has no class for. `fields` are those beyond the common ones."""

    type: str
    id: str
    at: int
    attempt: int
    fields: Mapping[str, Any]


Event = Open | Message | Close | Timer | ReleaseChanged | Gap | Refused | Other | LinkEvent


@dataclass(slots=True)
class Parcel:
    """The events of one session in one request, in order, and what the edge knew of it at the first of them."""

    session: str
    release: str
    user: str | None
    state: dict[str, Any]
    version: int
    events: list[Event]
