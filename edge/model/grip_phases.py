"""The life of a WebSocket over HTTP as its backend sees it, as a table: phases, the facts that move it, and where each
fact leads. What the client's own connection does meanwhile is its transport's.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto


class GripPhase(Enum):
    """What the backend has been told, and has to be told yet."""

    OPENING = auto()
    """OPEN is not answered with OPEN yet; the handshake waits."""
    ABANDONED = auto()
    """The client went while OPEN is being answered."""
    LIVE = auto()
    CLOSED = auto()
    """The backend sent CLOSE; its client's half is waited for, which the backend is told of."""
    PARTING = auto()
    """A goodbye (the client's, a publication's, or a detach): CLOSE goes behind the last messages."""
    VANISHED = auto()
    """The client is gone without a goodbye: DISCONNECT goes behind the last messages."""
    OVER = auto()
    """The backend knows, or gave up on the connection, or never had it: it is not asked again."""


class GripFact(Enum):
    """What moves a connection from phase to phase."""

    OPENED = auto()
    GOODBYE = auto()
    VANISHED = auto()
    BACKEND_CLOSED = auto()
    LAST_WORD = auto()
    """CLOSE or DISCONNECT has been answered."""
    FAILED = auto()
    """The backend refused, dropped or broke it, or could not be reached for too long."""


_P, _F = GripPhase, GripFact

TRANSITIONS: Mapping[tuple[GripPhase, GripFact], GripPhase] = {
    (_P.OPENING, _F.OPENED): _P.LIVE,
    (_P.OPENING, _F.VANISHED): _P.ABANDONED,
    (_P.OPENING, _F.FAILED): _P.OVER,
    (_P.ABANDONED, _F.OPENED): _P.VANISHED,
    (_P.ABANDONED, _F.VANISHED): _P.ABANDONED,
    (_P.ABANDONED, _F.FAILED): _P.OVER,
    (_P.LIVE, _F.GOODBYE): _P.PARTING,
    (_P.LIVE, _F.VANISHED): _P.VANISHED,
    (_P.LIVE, _F.BACKEND_CLOSED): _P.CLOSED,
    (_P.LIVE, _F.FAILED): _P.OVER,
    (_P.CLOSED, _F.GOODBYE): _P.PARTING,
    (_P.CLOSED, _F.VANISHED): _P.VANISHED,
    (_P.PARTING, _F.GOODBYE): _P.PARTING,
    (_P.PARTING, _F.VANISHED): _P.PARTING,
    (_P.PARTING, _F.BACKEND_CLOSED): _P.PARTING,
    (_P.PARTING, _F.LAST_WORD): _P.OVER,
    (_P.PARTING, _F.FAILED): _P.OVER,
    (_P.VANISHED, _F.GOODBYE): _P.VANISHED,
    (_P.VANISHED, _F.VANISHED): _P.VANISHED,
    (_P.VANISHED, _F.BACKEND_CLOSED): _P.VANISHED,
    (_P.VANISHED, _F.LAST_WORD): _P.OVER,
    (_P.VANISHED, _F.FAILED): _P.OVER,
    **{(_P.OVER, fact): _P.OVER for fact in (_F.GOODBYE, _F.VANISHED, _F.FAILED)},
}
"""An absent pair is a bug of the caller and raises KeyError; tests/unit/model/test_grip_socket.py walks every cell."""
