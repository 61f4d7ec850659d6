"""HTTP/1.1 answers to clients, written (RFC 9112 §4, §6): the head and the end; how the body is framed is decided here.

Header fields come from backends. Those that speak of one connection only (RFC 9110 §7.6.1) are dropped, and so is
every field with a character in its name or value that would end the line: nobody can add a field, or an answer, that
way.
"""

from __future__ import annotations

import enum
import http
import re

from edge.facts import fact
from edge.protocol.callbacks.events import Headers

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "content-length")
)
_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}


class Body(enum.Enum):
    """How an answer's body is framed (RFC 9112 §6.3)."""

    NONE = 1
    """There is none: the answer to HEAD, 204, 304."""
    LENGTH = 2
    CHUNKED = 3
    CLOSE = 4
    """It ends when the connection does: HTTP/1.0."""


@fact
class Asked:
    """What of a request decides about its answer's form. `keep`: the connection is to carry another request."""

    method: str
    version: str
    keep: bool


def body_of(asked: Asked, status: int, length: int | None) -> Body:
    """How a body of `length` bytes (None: not known yet) is framed in an answer with `status`."""
    if asked.method == "HEAD" or status in (204, 304):
        return Body.NONE
    if length is not None:
        return Body.LENGTH
    return Body.CHUNKED if asked.version == "1.1" else Body.CLOSE


def write_head(
    asked: Asked,
    status: int,
    reason: str,
    headers: Headers,
    body: Body,
    length: int | None,
    date: str,
    own: str = "",
) -> bytes:
    """Status line and fields. `date`: for answers that do not bring one of their own (RFC 9110 §6.6.1). `own`: lines
    of the edge itself."""
    if _BAD_VALUE.search(reason):
        reason = ""
    lines = [f"HTTP/1.1 {status} {reason or _PHRASES.get(status, '')}\r\n"]
    dropped = _named_by_connection(headers)
    seen = set()
    said_length = ""
    for name, value in headers:
        folded = name.lower()
        seen.add(folded)
        if folded == "content-length":
            said_length = value
        elif folded not in dropped and _TOKEN.fullmatch(name) and not _BAD_VALUE.search(value):
            lines.append(f"{name}: {value}\r\n")
    if "date" not in seen:
        lines.append(f"Date: {date}\r\n")
    if body is Body.LENGTH:
        lines.append(f"Content-Length: {length}\r\n")
    elif body is Body.CHUNKED:
        lines.append("Transfer-Encoding: chunked\r\n")
    elif body is Body.NONE and status != 204:
        # What GET would have got (RFC 9110 §8.6; never with 204).
        if not said_length and length:
            said_length = str(length)
        if said_length.isdecimal() and said_length.isascii():
            lines.append(f"Content-Length: {said_length}\r\n")
    if not asked.keep or body is Body.CLOSE:
        lines.append("Connection: close\r\n")
    elif asked.version == "1.0":
        lines.append("Connection: keep-alive\r\n")
    lines.append(own + "\r\n")
    return _encode(lines)


def write_fields(headers: Headers) -> bytes:
    """Fields alone: trailers, with the same care."""
    return _encode(
        [
            f"{name}: {value}\r\n"
            for name, value in headers
            if name.lower() not in _HOP_BY_HOP and _TOKEN.fullmatch(name) and not _BAD_VALUE.search(value)
        ]
    )


def _named_by_connection(headers: Headers) -> frozenset[str]:
    """Names to drop: the usual ones, and what the answer's own Connection names."""
    named = [value for name, value in headers if name.lower() == "connection"]
    if not named:
        return _HOP_BY_HOP
    return _HOP_BY_HOP.union(token.strip().lower() for value in named for token in value.split(","))


def _encode(lines: list[str]) -> bytes:
    """Bytes of a header field are latin-1 here. Who brings other characters (JSON can) means UTF-8."""
    try:
        return "".join(lines).encode("latin-1")
    except UnicodeEncodeError:
        return b"".join(_encode_line(line) for line in lines)


def _encode_line(line: str) -> bytes:
    try:
        return line.encode("latin-1")
    except UnicodeEncodeError:
        return line.encode("utf-8", "replace")
