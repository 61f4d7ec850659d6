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
COMPONENT: Final = "jabber:component:accept"
STANZA_NAMESPACES: Final = frozenset({CLIENT, COMPONENT})
ROSTER: Final = "jabber:iq:roster"
DELAY: Final = "urn:xmpp:delay"
FORWARD: Final = "urn:xmpp:forward:0"
STANZA_ID: Final = "urn:xmpp:sid:0"
RECEIPTS: Final = "urn:xmpp:receipts"
CHAT_STATES: Final = "http://jabber.org/protocol/chatstates"
HINTS: Final = "urn:xmpp:hints"
ROOMS: Final = "http://jabber.org/protocol/muc"
ARCHIVE: Final = "urn:xmpp:mam:2"
RESULT_SETS: Final = "http://jabber.org/protocol/rsm"
FORMS: Final = "jabber:x:data"
