"""What a link answers by itself, so that no backend has to: pings, who it is and what it can (XEP-0199, XEP-0030,
XEP-0092), pushes of the roster (RFC 6121 §2.1.6); and what it asks by itself after a login."""

from __future__ import annotations

from edge.protocol.xmpp import names
from edge.protocol.xmpp.element import Element

DISCO_INFO = "http://jabber.org/protocol/disco#info"
VERSION = "jabber:iq:version"

_FEATURES = (DISCO_INFO, names.PING, VERSION)
_INFO = (
    f"<query xmlns='{DISCO_INFO}'><identity category='client' type='bot' name='Holdfast'/>"
    + "".join(f"<feature var='{feature}'/>" for feature in _FEATURES)
    + "</query>"
)
_SOFTWARE = f"<query xmlns='{VERSION}'><name>Holdfast</name><version>1</version></query>"

ROSTER_QUERY = f"<query xmlns='{names.ROSTER}'/>"


def answer_for(request: Element, account: str) -> str | None:
    """What is inside the result of an iq of type get or set that the link answers itself; None: it does not.
    `account`: its bare JID."""
    inside = request.children()
    if len(inside) != 1:
        return None
    query, kind = inside[0], request.attributes.get("type")
    if kind == "set":
        pushed = query.name == "query" and query.namespace == names.ROSTER
        return "" if pushed and request.attributes.get("from", account) == account else None
    match (query.namespace, query.name):
        case (names.PING, "ping"):
            return ""
        case (namespace, "query") if namespace == VERSION:
            return _SOFTWARE
        case (namespace, "query") if namespace == DISCO_INFO and "node" not in query.attributes:
            return _INFO
    return None
