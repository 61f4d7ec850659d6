"""The opening handshake (RFC 6455 §4.2, RFC 7692 §7), decided and written; nobody is answered here.

The checks and the negotiation are `websockets`' `ServerProtocol`, which lives no longer than `negotiate`. What has to
be kept until a backend has made up its mind is a `Negotiated` of a few hundred bytes.
"""

from __future__ import annotations

import http
import re
from collections.abc import Sequence
from dataclasses import dataclass

from websockets.datastructures import Headers as WireHeaders
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.headers import parse_subprotocol
from websockets.http11 import Request
from websockets.server import ServerProtocol

from edge.protocol.callbacks.events import Headers

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OURS = frozenset({"connection", "upgrade", "content-length", "transfer-encoding", "keep-alive"})


@dataclass(frozen=True, slots=True)
class Negotiated:
    """A handshake that can be accepted. `window_bits`: permessage-deflate's window for what we send; 0: none."""

    accept_key: str
    extensions: str
    window_bits: int
    subprotocols: Sequence[str]


@dataclass(frozen=True, slots=True)
class Unacceptable:
    """A handshake that is wrong in itself, with the answer it gets."""

    status: int
    headers: Headers
    body: bytes


def negotiate(target: str, headers: Headers, *, compression: bool) -> Negotiated | Unacceptable:
    """Check a GET over HTTP/1.1 whose head was parsed already. `compression`: offer permessage-deflate."""
    offered = None
    if compression:
        offered = [ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)]
    protocol = ServerProtocol(extensions=offered)
    wire_headers = WireHeaders(headers)
    response = protocol.accept(Request(target, wire_headers))
    if response.status_code != 101:
        kept = [(name, value) for name, value in response.headers.raw_items() if name.lower() not in _OURS]
        if "Sec-WebSocket-Version" in wire_headers and wire_headers.get_all("Sec-WebSocket-Version") != ["13"]:
            kept.append(("Sec-WebSocket-Version", "13"))
        return Unacceptable(response.status_code, kept, bytes(response.body or b""))
    deflate = next((extension for extension in protocol.extensions if isinstance(extension, PerMessageDeflate)), None)
    offers = [name for value in wire_headers.get_all("Sec-WebSocket-Protocol") for name in parse_subprotocol(value)]
    return Negotiated(
        accept_key=response.headers["Sec-WebSocket-Accept"],
        extensions=response.headers.get("Sec-WebSocket-Extensions") or "",
        window_bits=deflate.local_max_window_bits if deflate else 0,
        subprotocols=tuple(offers),
    )


def write_acceptance(negotiated: Negotiated, subprotocol: str | None, headers: Headers) -> bytes:
    """The 101 answer. A subprotocol that the client did not offer is left out (§4.2.2: it would have to fail)."""
    lines = [
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {negotiated.accept_key}\r\n"
    ]
    if negotiated.extensions:
        lines.append(f"Sec-WebSocket-Extensions: {negotiated.extensions}\r\n")
    if subprotocol and subprotocol in negotiated.subprotocols:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}\r\n")
    lines += _header_lines(headers)
    lines.append("\r\n")
    return "".join(lines).encode("latin-1", "replace")


def write_refusal(status: int, headers: Headers, body: bytes) -> bytes:
    """A whole plain HTTP answer that closes the connection."""
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = "Refused"
    lines = [f"HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"]
    lines += _header_lines(headers)
    if body and not any(name.lower() == "content-type" for name, _ in headers):
        lines.append("Content-Type: text/plain; charset=utf-8\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1", "replace") + body


def _header_lines(headers: Headers) -> list[str]:
    """Only what is ours to pass on: no framing, no line breaks smuggled into a name or value."""
    return [
        f"{name}: {value}\r\n"
        for name, value in headers
        if _TOKEN.fullmatch(name) and not _BAD_VALUE.search(value) and not _is_ours(name.lower())
    ]


def _is_ours(name: str) -> bool:
    return name in _OURS or (name.startswith("sec-websocket-") and name != "sec-websocket-version")
