"""Write a Holdfast backend: a plain HTTP handler that answers events with actions.

`App` is the handler, `Publisher` and `AsyncPublisher` speak to the edge from elsewhere, `backend_sdk.testing` drives
an app in memory.
"""

from backend_sdk.app import App
from backend_sdk.errors import ActionError, HoldfastError, Reject, StateError
from backend_sdk.events import (
    ClientRequest,
    Close,
    Event,
    Gap,
    Message,
    Open,
    Other,
    Position,
    Refused,
    ReleaseChanged,
    Timer,
)
from backend_sdk.publisher import AsyncPublisher, Publisher
from backend_sdk.session import OtherSession, Session

__all__ = [
    "ActionError",
    "App",
    "AsyncPublisher",
    "ClientRequest",
    "Close",
    "Event",
    "Gap",
    "HoldfastError",
    "Message",
    "Open",
    "Other",
    "OtherSession",
    "Position",
    "Publisher",
    "Refused",
    "Reject",
    "ReleaseChanged",
    "Session",
    "StateError",
    "Timer",
]
