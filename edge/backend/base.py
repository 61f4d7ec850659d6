"""The two ends of the edge → backend path: who has events (`Mailbox`) and who carries them (`Deliverer`).

A `Mailbox` is one session's queue of events. The deliverer takes a parcel of them, owns it until every event in it
has an outcome, and settles each exactly once; until then it takes nothing more from that mailbox. That is the whole
ordering rule: events of one session stand in order and at most one request holds any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from edge.config import RouteSettings
from edge.protocol.callbacks.actions import BadResult, Result
from edge.protocol.callbacks.events import Event, Headers, Parcel


@dataclass(frozen=True, slots=True)
class Release:
    """One deployed backend version."""

    app: str
    sha: str
    url: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The backend's verdict: a 4xx that is not worth repeating. `body` is at most 64 KiB."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Expired:
    """The retry window is over. `last_error` is a short phrase for people: ``connection refused``, ``status 500``."""

    last_error: str
    retry_after_s: int


Outcome = Result | BadResult | Refused | Expired


class Mailbox(Protocol):
    """One session's events on their way to the backend."""

    @property
    def session(self) -> str:
        """Session id."""
        ...

    @property
    def route(self) -> RouteSettings:
        """The session's route as it is now (a reload may change it)."""
        ...

    @property
    def release(self) -> Release:
        """The release the session's next event goes to; may change between parcels (policy `follow`, `pin`)."""
        ...

    @property
    def settling(self) -> bool:
        """Outcomes handed to `settle` are still being applied (the store has not answered): the session's state is
        about to change, so nothing of it may be sent, not even a retry of what was taken with them."""
        ...

    def take(self, max_events: int, max_bytes: int) -> Parcel:
        """The next events, at least one, with attempt 1; they stay in the queue until settled.

        Called only when `Deliverer.ready` was called and everything taken before is settled. An empty
        `Parcel.events` means there is nothing to send after all.
        """
        ...

    def refresh(self, parcel: Parcel) -> Parcel:
        """`parcel` with the session's user, state and version as they are now; its events and attempt as given.

        Called before each retry: other events of the session may have been settled since `take`.
        """
        ...

    def settle(self, outcomes: Sequence[tuple[Event, Outcome]]) -> None:
        """These events of the parcel have an outcome, in order. Events not named are still being retried.

        After the last one, the mailbox calls `Deliverer.ready` again when it has more.
        """
        ...


class Deliverer(Protocol):
    """Carries parcels to backends: at least once, in order per mailbox, until an outcome or the retry window's end."""

    def ready(self, mailbox: Mailbox) -> None:
        """`mailbox` has events and nothing of it is in flight. Never blocks, never raises."""
        ...

    def report_gone(self, app: str, session: str) -> None:
        """An action named a session that has ended: say so (`gone`) in the next request to that app."""
        ...
