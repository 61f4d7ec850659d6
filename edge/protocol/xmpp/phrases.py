"""What a client or a component says on a stream besides stanzas, as bytes."""

from __future__ import annotations

from base64 import b64encode
from typing import Final

from edge.protocol.xmpp import names
from edge.protocol.xmpp.element import Element
from edge.protocol.xmpp.escape import attribute, text

BIND_ID: Final = "hf:bind"
CARBONS_ID: Final = "hf:carbons"
PING_ID: Final = "hf:ping"
ACK_ID: Final = "hf:ack:"
"""So begin the ids of a component's pings."""
CLOSE: Final = b"</stream:stream>"
"""It ends the session behind the stream, too."""
START_TLS: Final = f"<starttls xmlns='{names.TLS}'/>".encode()
ABORT: Final = f"<abort xmlns='{names.SASL}'/>".encode()
ASK: Final = f"<r xmlns='{names.MANAGEMENT}'/>".encode()
ACTIVE: Final = f"<active xmlns='{names.CLIENT_STATE}'/>".encode()
INACTIVE: Final = f"<inactive xmlns='{names.CLIENT_STATE}'/>".encode()
CARBONS: Final = f"<iq type='set' id='{CARBONS_ID}'><enable xmlns='{names.CARBONS}'/></iq>".encode()
PING: Final = f"<iq type='get' id='{PING_ID}'><ping xmlns='{names.PING}'/></iq>".encode()

_OURS = frozenset({CARBONS_ID, PING_ID})


def answers_us(element: Element) -> bool:
    """Whether a stanza answers one of the above. It may be forged; nothing depends on it."""
    given = element.attributes
    return element.name == "iq" and given.get("id") in _OURS and given.get("type") in ("result", "error")


def header(domain: str) -> bytes:
    """The opening tag (RFC 6120 §4.7)."""
    return (
        f"<?xml version='1.0'?><stream:stream to='{attribute(domain)}' version='1.0' xml:lang='en' "
        f"xmlns='{names.CLIENT}' xmlns:stream='{names.STREAMS}'>"
    ).encode()


def component_header(domain: str) -> bytes:
    """The opening tag of a component's stream (XEP-0114 §3), which has no version."""
    return (
        f"<?xml version='1.0'?><stream:stream to='{attribute(domain)}' xmlns='{names.COMPONENT}' "
        f"xmlns:stream='{names.STREAMS}'>"
    ).encode()


def handshake(digest: str) -> bytes:
    """XEP-0114 §3."""
    return f"<handshake>{digest}</handshake>".encode()


def component_ping(id: str, domain: str, to: str) -> bytes:
    """XEP-0199 §4.3, from a component."""
    return (
        f"<iq from='{attribute(domain)}' to='{attribute(to)}' type='get' id='{id}'><ping xmlns='{names.PING}'/></iq>"
    ).encode()


def auth(mechanism: str, initial: bytes) -> bytes:
    """RFC 6120 §6.4.2: ``=`` stands for an empty initial response."""
    return f"<auth xmlns='{names.SASL}' mechanism='{mechanism}'>{_base64(initial) or '='}</auth>".encode()


def response(data: bytes) -> bytes:
    """The answer to a challenge."""
    return f"<response xmlns='{names.SASL}'>{_base64(data)}</response>".encode()


def bind(resource: str) -> bytes:
    """`resource` empty: the server makes one."""
    wanted = f"<resource>{text(resource)}</resource>" if resource else ""
    return f"<iq type='set' id='{BIND_ID}'><bind xmlns='{names.BIND}'>{wanted}</bind></iq>".encode()


def enable(max_s: int) -> bytes:
    """XEP-0198 §3."""
    return f"<enable xmlns='{names.MANAGEMENT}' resume='true' max='{max_s}'/>".encode()


def resume(previous: str, count: int) -> bytes:
    """XEP-0198 §5."""
    return f"<resume xmlns='{names.MANAGEMENT}' h='{count}' previd='{attribute(previous)}'/>".encode()


def ack(count: int) -> bytes:
    """So many stanzas of the server are safe here."""
    return b"<a xmlns='urn:xmpp:sm:3' h='%d'/>" % count


def error(condition: str, more: str = "") -> bytes:
    """A stream error, and the end of the stream (RFC 6120 §4.9)."""
    return f"<stream:error><{condition} xmlns='{names.STREAM_ERRORS}'/>{more}</stream:error>".encode() + CLOSE


def count_too_high(count: int, sent: int) -> str:
    """XEP-0198 §4, inside an undefined-condition."""
    return f"<handled-count-too-high xmlns='{names.MANAGEMENT}' h='{count}' send-count='{sent}'/>"


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
