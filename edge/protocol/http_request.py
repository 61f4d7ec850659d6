"""What a client's HTTP/1.1 request asks for, once its head was parsed: how its body is framed, who it is for.

llhttp has checked the grammar by then (RFC 9112 §2–5, bare LF and folded lines refused). Here is what it lets pass and
what two parsers in a row could understand differently: that is how requests are smuggled (§11.2), so whatever is not
plainly one thing is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edge.protocol.callbacks.events import Headers

_HOST = re.compile(r"[A-Za-z0-9._~%!$&'()*+;=\[\]:-]*")
"""uri-host [":" port] (RFC 9110 §7.2), without the comma, with which two Host fields would be joined."""
_ABSOLUTE = re.compile(r"https?://([^/?]*)", re.IGNORECASE)
_LENGTH_DIGITS = 18
_NOT_IN_TRAILERS = frozenset(
    {"authorization", "connection", "content-encoding", "content-length", "content-range", "content-type", "cookie"}
    | {"expect", "host", "keep-alive", "max-forwards", "proxy-authorization", "te", "trailer", "transfer-encoding"}
    | {"upgrade"}
)


class BadRequest(Exception):
    """The request cannot be carried out; `text` is for people."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class Framing:
    """`length` of the body in bytes; 0: none; None: chunked. `keep`: the connection may carry another request.
    `expects`: the client waits for ``100 Continue`` before it sends the body. `upgrade`: to what, lower case, if the
    client asks for it."""

    length: int | None
    keep: bool
    expects: bool
    upgrade: str


def read_framing(method: str, version: str, headers: Headers) -> Framing:
    """Raises `BadRequest`."""
    if version not in ("1.1", "1.0"):
        raise BadRequest(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.\n")
    if method == "CONNECT":
        raise BadRequest(405, "There are no tunnels here.\n")
    length: int | None = None
    codings: list[str] = []
    connection: set[str] = set()
    upgrade = expect = ""
    for name, value in headers:
        folded = name.lower()
        if folded == "content-length":
            if length is not None or not value.isdecimal() or not value.isascii() or len(value) > _LENGTH_DIGITS:
                raise BadRequest(400, "The Content-Length is no single number.\n")
            length = int(value)
        elif folded == "transfer-encoding":
            codings.append(value.lower())
        elif folded == "connection":
            connection.update(token.strip() for token in value.lower().split(","))
        elif folded == "upgrade":
            upgrade = value.lower()
        elif folded == "expect":
            expect = value.lower()
    _check_host(version, headers)
    if expect not in ("", "100-continue"):
        raise BadRequest(417, "Only 100-continue can be expected.\n")
    if codings:
        _check_codings(codings, version, length)
    keep = "close" not in connection and (version == "1.1" or "keep-alive" in connection)
    return Framing(
        length=None if codings else length or 0,
        keep=keep,
        expects=bool(expect) and version == "1.1",
        upgrade=upgrade if "upgrade" in connection else "",
    )


def _check_codings(codings: Sequence[str], version: str, length: int | None) -> None:
    if length is not None:
        raise BadRequest(400, "A request has either a Content-Length or a Transfer-Encoding.\n")
    if version != "1.1":
        raise BadRequest(400, "There is no Transfer-Encoding in HTTP/1.0.\n")
    if len(codings) > 1 or codings[0] != "chunked":
        if codings[-1].rpartition(",")[2].strip() == "chunked":
            raise BadRequest(501, "Of transfer codings only chunked is understood.\n")
        raise BadRequest(400, "The Transfer-Encoding is not chunked.\n")


def _check_host(version: str, headers: Headers) -> None:
    """RFC 9112 §3.2."""
    hosts = [value for name, value in headers if len(name) == 4 and name.lower() == "host"]
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise BadRequest(400, "A request has exactly one Host.\n")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise BadRequest(400, "The Host is no host.\n")


def split_target(target: str, headers: Headers) -> tuple[str, str, Headers]:
    """Path and query as the client wrote them, and the headers: with the Host of an absolute target, which is the one
    that counts (RFC 9112 §3.2.2). Raises `BadRequest`."""
    if "#" in target:
        raise BadRequest(400, "A request target has no fragment.\n")
    if not target.startswith(("/", "*")):
        match = _ABSOLUTE.match(target)
        if match is None or not match[1] or not _HOST.fullmatch(match[1]):
            raise BadRequest(400, "The request target is neither a path nor a URL.\n")
        rest = target[match.end() :]
        target = rest if rest.startswith("/") else "/" + rest
        headers = [item for item in headers if item[0].lower() != "host"]
        headers.insert(0, ("Host", match[1]))
    path, _, query = target.partition("?")
    return path, query, headers


def allowed_trailers(trailers: Headers) -> Headers:
    """`trailers` without the fields that decide about framing, routing or rights (RFC 9110 §6.5.1)."""
    return [item for item in trailers if item[0].lower() not in _NOT_IN_TRAILERS]
