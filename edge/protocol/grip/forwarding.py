"""Which header fields pass: of a client's request to its backend, and of the backend's answer to the client.

Hop-by-hop fields end here (RFC 9110 §7.6.1), those that ``Connection`` names too. So does whatever a client says in
the name of the edge: ``Grip-*``, ``Meta-*``, ``Connection-Id``, with hyphens or underscores, which frameworks after CGI
take for the same. What a client may claim of itself (X-Forwarded-*) was decided by the transport.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal
from urllib.parse import quote

from edge.protocol.callbacks.events import Headers
from edge.protocol.grip.parameters import RawHeaders
from edge.protocol.grip.socket_events import EVENTS_TYPE

FEATURES = (
    "status, link:next, link:gone, filter:skip-self, filter:skip-users, filter:require-sub, filter:build-id, "
    "filter:var-subst"
)
"""Grip-Feature: what this edge does. Logical sessions (``session``) are not among it."""

_HOP = frozenset(
    ("connection", "proxy-connection", "keep-alive", "te", "transfer-encoding", "upgrade", "http2-settings", "expect")
)
_REWRITTEN = frozenset(
    ("host", "content-length", "accept-encoding", "content-bytes-replayed", "x-forwarded-for", "x-forwarded-proto")
)
"""Set anew, or not asked for: what is appended to a body cannot be compressed with it."""
_NOT_PROXIED = _HOP | _REWRITTEN | {"connection-id"}
_NOT_IN_EVENTS = _NOT_PROXIED | {"accept", "content-type", "content-encoding", "sec-websocket-extensions", "trailer"}
_OURS = ("grip-", "meta-")
_NO_FIELDS = frozenset(("", "close", "keep-alive", "upgrade", "host"))
"""What ``Connection`` usually says beside names of fields; and one that nobody may take away."""
_NOT_SHOWN = frozenset(
    ("content-length", "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade")
)
_NOT_SHOWN_SOCKET = frozenset(
    ("content-type", "content-encoding", "keep-alive-interval", "content-bytes-accepted", "sec-websocket-extensions",
     "sec-websocket-accept")
)  # fmt: skip
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]+")
_NO_TOKEN = re.compile(r"[^!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PLAIN_TARGET = re.compile(r"[!-~]+")
_TARGET_SAFE = "%/:=&?~#+!$,;'@()*[]|^{}`\\\"<>"

AnswerKind = Literal["socket", "proxied", "held"]


def event_headers(headers: Headers) -> Headers:
    """Of a client's handshake: what is said again with every WebSocket-over-HTTP request."""
    return _passing(headers, _NOT_IN_EVENTS)


def proxied_headers(headers: Headers) -> Headers:
    """Of a client's request: what its backend is told of it."""
    return _passing(headers, _NOT_PROXIED)


def _passing(headers: Headers, dropped: frozenset[str]) -> Headers:
    passing = []
    listed: frozenset[str] = frozenset()
    for field in headers:
        name = field[0].lower()
        if "_" in name:
            name = name.replace("_", "-")
        if name in dropped:
            if name == "connection":
                listed |= _listed((field[1],)) - _NO_FIELDS
        elif not name.startswith(_OURS):
            passing.append(field)
    if listed:
        return [field for field in passing if field[0].lower() not in listed]
    return passing


def _listed(values: Iterable[str]) -> frozenset[str]:
    return frozenset(part.strip().lower() for value in values for part in value.split(","))


def shown_headers(headers: RawHeaders, kind: AnswerKind) -> Headers:
    """Of a backend's answer: what its client sees, for the 101 of a socket, a proxied answer, or one that is held.
    Content-Length is left out: who writes the answer knows it. Values are latin-1, as everywhere in the edge.

    Beyond Pushpin a Content-Encoding stays on proxied answers (nobody asks for one, but a backend may insist). On held
    ones it is dropped, as there: what is published is not encoded.
    """
    listed = _listed(value.decode("latin-1") for name, value in headers if name.lower() == b"connection")
    shown = []
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1")
        folded = name.lower()
        if folded in _NOT_SHOWN or folded in listed or folded.startswith("grip-"):
            continue
        if kind == "socket" and (folded in _NOT_SHOWN_SOCKET or folded.startswith("set-meta-")):
            continue
        if kind == "held" and folded == "content-encoding":
            continue
        shown.append((name, raw_value.decode("latin-1")))
    return shown


# -- heads of requests ---------------------------------------------------------------------------------------


def event_request_prefix(
    target: str, host: str, headers: Headers, connection_id: str, *, client: str, scheme: str,
    overrides: Sequence[str] = (),
) -> bytes:  # fmt: skip
    """The part of a WebSocket-over-HTTP request's head that stays the same for one connection. What follows is
    `event_request_rest`.

    `target` is path and query as the backend is to see them, `headers` those of the client's handshake, `client` and
    `scheme` those of its `ClientRequest`, `overrides` the route's `request_headers`.
    """
    fields = [
        *with_overrides([*event_headers(headers), *_forwarded(headers, client, scheme)], overrides),
        ("Accept", EVENTS_TYPE),
        ("Content-Type", EVENTS_TYPE),
        ("Connection-Id", connection_id),
        ("Sec-WebSocket-Extensions", "grip"),
        ("Grip-Feature", FEATURES),
    ]
    return _head("POST", target, host, fields)


def event_request_rest(grip_sig: bytes, meta: Headers, replayed: int, body: bytes) -> bytes:
    """The rest of the request, from its signature to its body. `meta`: what Set-Meta-* answers have stored.
    `replayed`: content bytes that were offered before and not accepted."""
    lines = b""
    if meta:
        lines = b"".join([field_line(f"Meta-{name}", value) for name, value in meta])
    if replayed:
        lines += b"Content-Bytes-Replayed: %d\r\n" % replayed
    return b"Grip-Sig: %b\r\n%bContent-Length: %d\r\n\r\n%b" % (grip_sig, lines, len(body), body)


def proxied_head(
    method: str, target: str, host: str, headers: Headers, length: int | None, grip_sig: bytes, *,
    client: str, scheme: str, overrides: Sequence[str] = (), last_ids: Sequence[str] = (),
) -> bytes:  # fmt: skip
    """The whole head of a request that is passed on. `length` None: its body is chunked; 0: it has none. `last_ids`
    are values of Grip-Last."""
    fields = [
        *with_overrides([*proxied_headers(headers), *_forwarded(headers, client, scheme)], overrides),
        ("Grip-Feature", FEATURES),
        *(("Grip-Last", last_id) for last_id in last_ids),
    ]
    if length is None:
        fields.append(("Transfer-Encoding", "chunked"))
    elif length or method not in ("GET", "HEAD", "DELETE", "OPTIONS"):
        fields.append(("Content-Length", str(length)))
    return b"%bGrip-Sig: %b\r\n\r\n" % (_head(method, target, host, fields), grip_sig)


def with_overrides(headers: Headers, overrides: Sequence[str]) -> Headers:
    """`headers` with those of ``Name: value`` in the place of any called so; ``Name:`` only removes them."""
    if not overrides:
        return headers
    pairs = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in overrides)]
    names = {name.lower() for name, _ in pairs}
    kept = [(name, value) for name, value in headers if name.lower() not in names]
    return [*kept, *((name, value) for name, value in pairs if value)]


def _forwarded(headers: Headers, client: str, scheme: str) -> Headers:
    """X-Forwarded-For with the client's address in it, and X-Forwarded-Proto. Requests that the edge makes for many
    clients name none."""
    address = client.rpartition(":")[0].strip("[]")
    chain = [part.strip() for name, value in headers if name.lower() == "x-forwarded-for" for part in value.split(",")]
    if address and address not in chain:  # else proxies have said it already
        chain.append(address)
    proto = {"wss": "https", "ws": "http"}.get(scheme, scheme)
    return [*([("X-Forwarded-For", ", ".join(chain))] if chain else []), ("X-Forwarded-Proto", proto)]


def _head(method: str, target: str, host: str, fields: Headers) -> bytes:
    lines = [b"%b %b HTTP/1.1\r\n" % (_NO_TOKEN.sub("", method).encode(), _target(target)), field_line("Host", host)]
    lines += [field_line(name, value) for name, value in fields]
    return b"".join(lines)


def _target(target: str) -> bytes:
    """As the client wrote it, but for what would end the request line, or is not ASCII."""
    if _PLAIN_TARGET.fullmatch(target):
        return target.encode()
    try:
        raw = target.encode("latin-1")  # bytes as they came
    except UnicodeEncodeError:
        raw = target.encode(errors="replace")
    return quote(raw, safe=_TARGET_SAFE).encode()


def field_line(name: str, value: str) -> bytes:
    """One field. Control characters become a blank (RFC 9110 §5.5): nothing a value says can be a field of its own.
    What has no name is left out."""
    if not value.isprintable():
        value = _CONTROLS.sub(" ", value)
    name = _NO_TOKEN.sub("", name)
    return f"{name}: {value}\r\n".encode("latin-1", "replace") if name else b""
