"""Elements as they come over a stream, and texts as hypothesis makes them up."""

from __future__ import annotations

from hypothesis import strategies as st

from edge.protocol.xmpp.element import Element
from edge.protocol.xmpp.framing import Framer, StreamLimits

HEADER = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
ACCOUNT = "alice@chat.test"
JID = "alice@chat.test/edge"
COMPONENT_HEADER = HEADER.replace(b"jabber:client", b"jabber:component:accept")
COMPONENT = "component.test"

TEXTS = st.text(
    st.one_of(
        st.sampled_from("<>&'\"\r\n\t ]/=é\u2028\U0001f600\ufffd"),
        st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"),
    ),
    max_size=12,
)
"""All that XML has a place for, above all what has to be escaped."""


def element(xml: str, header: bytes = HEADER) -> Element:
    """The one element in `xml`, which stands in a client's stream, or in one with another header."""
    framer = Framer(StreamLimits())
    framer.feed(header)
    (heard,) = framer.feed(xml.encode())
    assert isinstance(heard, Element)
    return heard
