"""XML namespaces of the parts of XMPP that are spoken here."""

from __future__ import annotations

from typing import Final

STREAMS: Final = "http://etherx.jabber.org/streams"
CLIENT: Final = "jabber:client"
XML: Final = "http://www.w3.org/XML/1998/namespace"
TLS: Final = "urn:ietf:params:xml:ns:xmpp-tls"
SASL: Final = "urn:ietf:params:xml:ns:xmpp-sasl"
BIND: Final = "urn:ietf:params:xml:ns:xmpp-bind"
SESSION: Final = "urn:ietf:params:xml:ns:xmpp-session"
STREAM_ERRORS: Final = "urn:ietf:params:xml:ns:xmpp-streams"
STANZA_ERRORS: Final = "urn:ietf:params:xml:ns:xmpp-stanzas"
MANAGEMENT: Final = "urn:xmpp:sm:3"
CLIENT_STATE: Final = "urn:xmpp:csi:0"
CARBONS: Final = "urn:xmpp:carbons:2"
PING: Final = "urn:xmpp:ping"
