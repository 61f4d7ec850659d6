"""What a test edge knows of its clients, and what it raises."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend_sdk.errors import HoldfastError


class Rejected(HoldfastError):
    """The backend refused the handshake."""

    def __init__(self, status: int, text: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        self.status = status
        self.text = text
        self.headers = headers
        super().__init__(f"{status} {text}".rstrip())


class BackendFailed(HoldfastError):
    """The backend did not answer an event within the attempts allowed; the handler's exception is the `__cause__`."""


@dataclass(frozen=True, slots=True)
class Closed:
    """How the connection ended."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A timer: due at `due` ms of the test edge's clock. `order`: those of one moment run as they were set."""

    due: int
    order: int
    name: str
    data: Any


class SessionRecord:
    """What the sessions of clients and XMPP links have in common."""

    def __init__(self, id: str, release: str) -> None:
        self.id = id
        """Session id."""
        self.release = release
        self.pinned: str | None = None
        self.user: str | None = None
        self.state: dict[str, Any] = {}
        self.version = 0
        self.actions: list[dict[str, Any]] = []
        """Every action the backend answered to this session's events with, in order, as it stands on the wire."""
        self.last_actions: list[dict[str, Any]] = []
        """Those of the last answer."""
        self.queue: deque[dict[str, Any]] = deque()
        """Events the backend has not answered."""
        self.refusals = 0
        """How many `refused` events in a row had an answer that was refused as well."""

    @property
    def live(self) -> bool:
        """Whether it is connected, or may still become so."""
        raise NotImplementedError

    def happened(self, type: str, at: int, **fields: Any) -> None:
        """Queue an event."""
        raise NotImplementedError

    def _queue_event(self, number: str, type: str, at: int, fields: Mapping[str, Any]) -> None:
        self.queue.append({"id": f"{self.id}:{number}", "type": type, "at": at, "attempt": 1, **fields})


class ClientRecord(SessionRecord):
    """A client and its session, as the test edge keeps them. All public attributes are for looking at."""

    def __init__(self, id: str, release: str) -> None:
        super().__init__(id, release)
        self.accepted = False
        self.subprotocol: str | None = None
        self.headers: list[tuple[str, str]] = []
        """Response headers of the handshake."""
        self.received: list[str | bytes] = []
        """Messages the client got, in order."""
        self.channels: set[str] = set()
        self.timers: dict[str, Waiting] = {}
        self.closed: Closed | None = None
        self.rejected: Rejected | None = None
        self._events = 0

    @property
    def live(self) -> bool:
        """Whether it is connected, or may still become so."""
        return self.closed is None and self.rejected is None

    @property
    def received_json(self) -> list[Any]:
        """`received`, each read as JSON."""
        return [json.loads(message) for message in self.received]

    def happened(self, type: str, at: int, **fields: Any) -> None:
        """Queue an event."""
        self._events += 1
        number = "close" if type == "close" else str(self._events)
        self._queue_event(number, type, at, fields)

    def end(self, closed: Closed, at: int, *, clean: bool, cause: str) -> None:
        """The connection is over: nothing is received any more, the `close` event is the last one. Once."""
        if not self.live:
            return
        self.closed = closed
        self.channels.clear()
        self.timers.clear()
        self.happened("close", at, code=closed.code, reason=closed.reason, clean=clean, cause=cause)
