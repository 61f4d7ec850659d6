"""The server's side of a component's stream, word by word, as Prosody and ejabberd say it."""

from __future__ import annotations

import re

from edge.protocol.xmpp.component import ComponentStream
from edge.protocol.xmpp.negotiation import Phase
from edge.protocol.xmpp.stream_facts import ComponentPlan, Fact

HEADER = (
    b"<?xml version='1.0'?><stream:stream id='3BF96D32' xml:lang='en' xmlns:stream='http://etherx.jabber.org/streams' "
    b"from='component.test' xmlns='jabber:component:accept'>"
)
HANDSHAKE = b"<handshake/>"
UNKNOWN = (
    b"<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams' "
    b"xmlns='jabber:component:accept' id='' version='1.0'>"
)
MESSAGE = b"<message from='bob@chat.test/p' to='bot@component.test' type='chat'><body>hi</body></message>"
PLAN = ComponentPlan("component.test", "s3cret")
END = b"</stream:stream>"
TO_LIVE = (HEADER, HANDSHAKE)
_PING = re.compile(rb"<iq from='component.test' to='[^']*' type='get' id='(hf:ack:[^']*)'>")


def error(condition: str, text: str = "") -> bytes:
    said = f"<text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{text}</text>" if text else ""
    inside = f"<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>{said}"
    return f"<stream:error>{inside}</stream:error></stream:stream>".encode()


def passed_back(id: str) -> bytes:
    """A ping of our own domain, as a server hands it back."""
    return (
        f"<iq to='component.test' type='get' xml:lang='en' from='component.test' id='{id}'>"
        "<ping xmlns='urn:xmpp:ping'/></iq>"
    ).encode()


def answer(id: str, kind: str = "result", sender: str = "component.test") -> bytes:
    return f"<iq from='{sender}' to='component.test' type='{kind}' id='{id}'/>".encode()


class Talk:
    """A stream, and all that it has said and told."""

    def __init__(self, plan: ComponentPlan, *words: bytes) -> None:
        self.stream = ComponentStream(plan, 0.0)
        self.now = 0.0
        self.said = self.stream.take()
        self.facts: list[Fact] = []
        self.hear(*words)

    def hear(self, *words: bytes) -> bytes:
        """What it says to that."""
        said = b""
        for word in words:
            self.facts += self.stream.receive(word, self.now)
            said += self.stream.take()
        self.said += said
        return said

    def send(self, *stanzas: bytes) -> bytes:
        self.stream.send(stanzas)
        said = self.stream.take()
        self.said += said
        return said

    def wake(self, now: float) -> bytes:
        """Nothing has come until then."""
        self.now = now
        self.facts += self.stream.wake(now)
        said = self.stream.take()
        self.said += said
        return said

    @property
    def pings(self) -> list[str]:
        """Ids of all that it has said."""
        return [id.decode() for id in _PING.findall(self.said)]

    @property
    def phase(self) -> Phase:
        return self.stream.phase


def live(plan: ComponentPlan = PLAN, *, answers: bool = True) -> Talk:
    """A stream of which the first ping has been answered, or not yet."""
    talk = Talk(plan, *TO_LIVE)
    assert talk.stream.live
    if answers:
        talk.hear(passed_back(talk.pings[0]))
        assert len(talk.pings) == 1 or plan.unacked
        talk.facts.clear()
        talk.said = b""
    return talk
