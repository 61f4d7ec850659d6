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
from backend_sdk.link import Link
from backend_sdk.link_orders import OtherLink
from backend_sdk.publisher import AsyncPublisher, Publisher
from backend_sdk.session import OtherSession, Session
from backend_sdk.xmpp_auth import ScramKeys
from backend_sdk.xmpp_events import (
    IqStanza,
    LinkEvent,
    MessageStanza,
    PresenceStanza,
    RosterItem,
    StanzaError,
    XmppAuthFailed,
    XmppCaughtUp,
    XmppConnected,
    XmppCredentials,
    XmppDetached,
    XmppDisconnected,
    XmppIq,
    XmppIqResult,
    XmppMessage,
    XmppPresence,
    XmppReset,
    XmppResumed,
    XmppRoster,
    XmppSendFailed,
    XmppSent,
    XmppState,
)

__all__ = [
    "ActionError",
    "App",
    "AsyncPublisher",
    "ClientRequest",
    "Close",
    "Event",
    "Gap",
    "HoldfastError",
    "IqStanza",
    "Link",
    "LinkEvent",
    "Message",
    "MessageStanza",
    "Open",
    "Other",
    "OtherLink",
    "OtherSession",
    "Position",
    "PresenceStanza",
    "Publisher",
    "Refused",
    "Reject",
    "ReleaseChanged",
    "RosterItem",
    "ScramKeys",
    "Session",
    "StanzaError",
    "StateError",
    "Timer",
    "XmppAuthFailed",
    "XmppCaughtUp",
    "XmppConnected",
    "XmppCredentials",
    "XmppDetached",
    "XmppDisconnected",
    "XmppIq",
    "XmppIqResult",
    "XmppMessage",
    "XmppPresence",
    "XmppReset",
    "XmppResumed",
    "XmppRoster",
    "XmppSendFailed",
    "XmppSent",
    "XmppState",
]
