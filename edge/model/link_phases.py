"""An XMPP link's life as a table: phases, the facts that move it, and where each fact leads."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class LinkPhase(Enum):
    """Where a link is in its life; the values are what the store and backends read."""

    CONNECTING = "connecting"
    """On its way to the server: for the first time, or after a loss."""
    LIVE = "live"
    SUSPENDED = "suspended"
    """Not connected, because nobody wants it now; the server keeps the session for a while."""
    ENDING = "ending"
    """Logged out or refused; its last events are on their way to the backend."""
    GONE = "gone"
    """Deleted, given away or lost to another edge: nothing of it happens here any more."""


class LinkFact(Enum):
    CAME_ALIVE = "came alive"
    CUT = "cut"
    """The connection is gone."""
    PUT_TO_SLEEP = "put to sleep"
    WANTED = "wanted"
    """Somebody attached, or there is something to send."""
    ENDED = "ended"
    TOLD = "told"
    """The backend has accepted the last event."""
    LEFT = "left"
    """Given away, or another edge owns it now."""


_P, _F = LinkPhase, LinkFact
TRANSITIONS: Mapping[tuple[LinkPhase, LinkFact], LinkPhase] = {
    (_P.CONNECTING, _F.CAME_ALIVE): _P.LIVE,
    (_P.CONNECTING, _F.CUT): _P.CONNECTING,
    (_P.CONNECTING, _F.PUT_TO_SLEEP): _P.SUSPENDED,
    (_P.CONNECTING, _F.WANTED): _P.CONNECTING,
    (_P.CONNECTING, _F.ENDED): _P.ENDING,
    (_P.LIVE, _F.CUT): _P.CONNECTING,
    (_P.LIVE, _F.PUT_TO_SLEEP): _P.SUSPENDED,
    (_P.LIVE, _F.WANTED): _P.LIVE,
    (_P.LIVE, _F.ENDED): _P.ENDING,
    (_P.SUSPENDED, _F.PUT_TO_SLEEP): _P.SUSPENDED,
    (_P.SUSPENDED, _F.WANTED): _P.CONNECTING,
    (_P.SUSPENDED, _F.ENDED): _P.ENDING,
    (_P.ENDING, _F.CUT): _P.ENDING,
    (_P.ENDING, _F.ENDED): _P.ENDING,
    (_P.ENDING, _F.PUT_TO_SLEEP): _P.ENDING,
    (_P.ENDING, _F.TOLD): _P.GONE,
    (_P.ENDING, _F.WANTED): _P.CONNECTING,  # a new order to connect, before the old end was told
    **{(phase, _F.LEFT): _P.GONE for phase in _P},
}
"""An absent pair is a bug of the caller and raises KeyError."""
