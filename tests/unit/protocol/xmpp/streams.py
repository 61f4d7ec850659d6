"""The server's side of streams, word by word, as Prosody and ejabberd say it."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace

from edge.protocol.xmpp.credentials import Account, Token
from edge.protocol.xmpp.negotiation import Phase, Tls
from edge.protocol.xmpp.sasl import KeysNeeded, derive_keys
from edge.protocol.xmpp.stream import Fact, XmppStream
from edge.protocol.xmpp.stream_facts import StreamPlan
from edge.protocol.xmpp.stream_management import SavedStream

HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' "
    b"id='s1' from='chat.example' version='1.0' xml:lang='en'>"
)
_TLS = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
_BIND = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><required/></bind>"
_SM = "<sm xmlns='urn:xmpp:sm:3'><optional/></sm><csi xmlns='urn:xmpp:csi:0'/>"


def features(inside: str) -> bytes:
    return f"<stream:features>{inside}</stream:features>".encode()


def mechanisms(*names: str) -> str:
    offered = "".join(f"<mechanism>{name}</mechanism>" for name in names)
    return f"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{offered}</mechanisms>"


OFFER_TLS = features(_TLS + mechanisms("PLAIN", "SCRAM-SHA-1"))
REQUIRE_TLS = features("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>")
OFFER_LOGIN = features(mechanisms("PLAIN", "SCRAM-SHA-1"))
OFFER_BIND = features(_BIND)
OFFER_ALL = features(_BIND + _SM)
OFFER_NOTHING = features("")
PROCEED = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
TLS_FAILURE = b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
FAILURE = (
    b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/><text xml:lang='en'>Wrong.</text></failure>"
)


def sasl(name: str, data: bytes = b"") -> bytes:
    return f"<{name} xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{b64encode(data).decode()}</{name}>".encode()


# RFC 5802 §5
SCRAM_NONCE = "fyko+d2lbbFgONRv9qkxdawL"
SCRAM_FIRST = sasl("challenge", b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096")
SCRAM_SUCCESS = sasl("success", b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=")
SUCCESS = sasl("success")

BOUND = (
    b"<iq type='result' id='hf:bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
    b"<jid>user@chat.example/edge</jid></bind></iq>"
)
CARBONS = b"<iq type='result' id='hf:carbons' to='user@chat.example/edge'/>"
BIND_ERROR = (
    b"<iq type='error' id='hf:bind'><error type='cancel'>"
    b"<conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
)
ENABLED = b"<enabled xmlns='urn:xmpp:sm:3' id='sm-1' resume='true' max='300' location='two.example:5222'/>"
SM_FAILED = (
    b"<failed xmlns='urn:xmpp:sm:3' h='%d'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
)
ASK = b"<r xmlns='urn:xmpp:sm:3'/>"
MESSAGE = b"<message from='bob@chat.example/p' type='chat'><body>hi</body></message>"
ERROR = (
    b"<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
    b"<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>Replaced by new connection</text></stream:error>"
)
END = b"</stream:stream>"


def resumed(h: int) -> bytes:
    return b"<resumed xmlns='urn:xmpp:sm:3' h='%d' previd='sm-1'/>" % h


def acked(h: int) -> bytes:
    return b"<a xmlns='urn:xmpp:sm:3' h='%d'/>" % h


SAVED = SavedStream("sm-1", received=5, base=7, unacked=(b"<message id='8'/>", b"<message id='9'/>"), max_s=300)
KEYS = derive_keys("pencil", KeysNeeded("SHA-1", b"A%\xc2G\xe4:\xb1\xe9<m\xffv", 4096))
KEYED = Account("user", None, (KEYS,))
PLAN = StreamPlan("chat.example", Account("user", "pencil"), resource="edge", tls=Tls.DIRECT)
PLAIN = replace(PLAN, credentials=Token("user", "token"))
"""For servers that offer X-OAUTH2 alone, which takes one step."""
RESUMING = replace(PLAN, resume=SAVED)
OFFER_TOKEN = features(mechanisms("X-OAUTH2"))
TO_LOGGED_IN = (HEADER, OFFER_TOKEN, SUCCESS, HEADER)
TO_LIVE = (*TO_LOGGED_IN, OFFER_ALL, BOUND, ENABLED)


class Talk:
    """A stream, and all that it has said and told."""

    def __init__(self, plan: StreamPlan, *words: bytes) -> None:
        self.stream = XmppStream(plan, lambda: SCRAM_NONCE, 0.0)
        self.said = self.stream.take()
        self.facts: list[Fact] = []
        self.hear(*words)

    def hear(self, *words: bytes) -> bytes:
        """What it says to that."""
        said = b""
        for word in words:
            self.facts += self.stream.receive(word, 0.0)
            said += self.stream.take()
        self.said += said
        return said

    @property
    def phase(self) -> Phase:
        return self.stream.phase


def live(plan: StreamPlan = PLAIN, *words: bytes) -> Talk:
    """A stream of which both sides keep count."""
    talk = Talk(plan, *TO_LIVE)
    assert talk.stream.live
    talk.facts.clear()
    talk.said = b""
    talk.hear(*words)
    return talk
