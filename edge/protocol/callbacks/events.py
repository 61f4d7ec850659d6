"""Events: facts the edge tells a backend. Past tense, frozen, in the order they happened.

An event knows what happened and when; who it happened to (session, user, state, release, attempt) is the same for
all events of one session in one request and stands once, in its `Parcel`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge.facts import fact

Headers = Sequence[tuple[str, str]]
"""Header fields in the order they came, names as the client wrote them."""

CLOSE_CAUSES = ("client", "backend", "idle", "slow", "limit", "edge-lost", "expired", "drain")


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """The client's handshake, as `open` shows it to the backend. `client` is ``ip:port``."""

    method: str
    path: str
    query: str
    headers: Headers
    client: str
    scheme: str
    subprotocols: Sequence[str]


@dataclass(frozen=True, slots=True)
class Open:
    """A client asks for a session. `transport` is ``websocket``, later ``sse`` and others."""

    id: str
    at: int
    request: ClientRequest
    transport: str


@fact
class Message:
    """The client sent a whole message: str for text, bytes for binary."""

    id: str
    at: int
    payload: str | bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The session has ended; its last event. `clean`: a close frame came. `cause`: one of CLOSE_CAUSES."""

    id: str
    at: int
    code: int
    reason: str
    clean: bool
    cause: str


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer set by the backend is due. `data` is what the backend stored with it."""

    id: str
    at: int
    name: str
    data: Any


@dataclass(frozen=True, slots=True)
class ReleaseChanged:
    """The session now belongs to another release (`release` on the wire)."""

    id: str
    at: int
    from_release: str
    to_release: str


@dataclass(frozen=True, slots=True)
class Gap:
    """`subscribe since` could not be honoured whole: history no longer reaches back to `since`.

    The subscription is live from `position` on; the backend decides what to send in place of the missing part.
    `since` and `position` are ``(offset, epoch)``.
    """

    id: str
    at: int
    channel: str
    since: tuple[int, str]
    position: tuple[int, str]


@dataclass(frozen=True, slots=True)
class ResultRefused:
    """What the backend answered to event `of` could not be carried out whole (`refused` on the wire).

    Most often Redis was away for longer than the edge waits. `error` says what was and was not done, for people. The
    session goes on: whether to send an apology, or to do it again, is the backend's choice.
    """

    id: str
    at: int
    of: str
    error: str


@fact
class LinkEvent:
    """Something happened to an XMPP link. `kind` is its type on the wire (``xmpp.message``, …), `fields` what only that
    type has, in the form it has on the wire: such an event is stored as it will be sent."""

    id: str
    at: int
    kind: str
    fields: Mapping[str, Any]


Event = Open | Message | Close | Timer | ReleaseChanged | Gap | ResultRefused | LinkEvent


@fact
class Parcel:
    """The events of one session in one request, in order, with what they share.

    `attempt` counts from 1. `state` and `version` are the session's at the time of its first event.
    """

    session: str
    release: str
    user: str | None
    state: Mapping[str, Any]
    version: int
    attempt: int
    events: Sequence[Event]


def close_event_id(session: str) -> str:
    """The id of a session's `close` event.

    Ids of other events are ``<session>:<n>``, counted by the edge that holds the session. The last one has a fixed
    name instead of a number: an edge that was killed took its counters with it, and the survivor that reports the
    end must use the id the dead one may already have used, or the backend could not tell a repeat.
    """
    return f"{session}:close"
