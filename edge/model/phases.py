"""A session's life as a table: phases, the facts that move it, and where each fact leads."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto


class Phase(Enum):
    """Where a session is in its life."""

    OPENING = auto()
    """The handshake waits for the backend's answer to `open`."""
    ABANDONED = auto()
    """The client is gone, or was refused by us, while `open` is still being answered."""
    LIVE = auto()
    CLOSING = auto()
    """One side has said goodbye; what is owed still flows."""
    ENDED = auto()
    """No connection any more; `close` is on its way to the backend."""
    DONE = auto()
    """The backend knows, or never knew. Nothing happens any more."""


class Fact(Enum):
    """What moves a session from phase to phase."""

    ACCEPTED = auto()
    REJECTED = auto()
    CLOSE_ORDERED = auto()
    GOODBYE = auto()
    CONNECTION_ENDED = auto()
    CLOSE_SETTLED = auto()
    LOST = auto()
    """Another edge owns the session now."""


TRANSITIONS: Mapping[tuple[Phase, Fact], Phase] = {
    (Phase.OPENING, Fact.ACCEPTED): Phase.LIVE,
    (Phase.OPENING, Fact.REJECTED): Phase.DONE,
    (Phase.OPENING, Fact.CLOSE_ORDERED): Phase.ABANDONED,
    (Phase.OPENING, Fact.CONNECTION_ENDED): Phase.ABANDONED,
    (Phase.ABANDONED, Fact.ACCEPTED): Phase.ENDED,
    (Phase.ABANDONED, Fact.REJECTED): Phase.DONE,
    (Phase.ABANDONED, Fact.CLOSE_ORDERED): Phase.ABANDONED,
    (Phase.ABANDONED, Fact.CONNECTION_ENDED): Phase.ABANDONED,
    (Phase.LIVE, Fact.CLOSE_ORDERED): Phase.CLOSING,
    (Phase.LIVE, Fact.GOODBYE): Phase.CLOSING,
    (Phase.LIVE, Fact.CONNECTION_ENDED): Phase.ENDED,
    (Phase.CLOSING, Fact.CLOSE_ORDERED): Phase.CLOSING,
    (Phase.CLOSING, Fact.GOODBYE): Phase.CLOSING,
    (Phase.CLOSING, Fact.CONNECTION_ENDED): Phase.ENDED,
    (Phase.ENDED, Fact.CLOSE_ORDERED): Phase.ENDED,
    (Phase.ENDED, Fact.CLOSE_SETTLED): Phase.DONE,
    (Phase.DONE, Fact.CLOSE_ORDERED): Phase.DONE,
    # What was under way when the session was done (rejected, or lost to another edge) still comes to its end.
    (Phase.DONE, Fact.CONNECTION_ENDED): Phase.DONE,
    (Phase.DONE, Fact.ACCEPTED): Phase.DONE,
    (Phase.DONE, Fact.REJECTED): Phase.DONE,
    (Phase.DONE, Fact.CLOSE_SETTLED): Phase.DONE,
    **{(phase, Fact.LOST): Phase.DONE for phase in Phase},
}
"""An absent pair is a bug of the caller and raises KeyError; tests/unit/model/test_session.py walks every cell."""
