"""Reads one request: its head up to the empty line, which llhttp (httptools) parses, and its body up to its end.

One head reader lives from a request's first byte to the end of its head, so that connections which wait, for their next
request or for an answer, hold no parser. It is fed up to the empty line and not a byte further: what is behind it, a
body, frames, or another request, is somebody else's.
"""

from __future__ import annotations

from typing import Any

import httptools

from edge.protocol.callbacks.events import Headers
from edge.protocol.chunked import BadChunk, ChunkedReader
from edge.protocol.http_request import BadRequest, allowed_trailers
from edge.sessions.routes import HeadBounds

TARGET_BYTES = 8_192
"""Longest request target (RFC 9112 §3 recommends at least 8,000 octets)."""
_END = b"\r\n\r\n"


class HeadTooLarge(BadRequest):
    """`limit` names what was passed: ``target``, ``headers`` or ``header_bytes``."""

    def __init__(self, limit: str) -> None:
        if limit == "target":
            super().__init__(414, "The request target is too long.\n")
        else:
            super().__init__(431, "The header fields are too many or too large.\n")
        self.limit = limit


class HeadReader:
    """`complete`: the empty line came, and `method`, `target`, `version` and `fields` are whole."""

    __slots__ = (
        "_bounds",
        "_parser",
        "_size",
        "_tail",
        "_target",
        "_too_large",
        "began_ms",
        "complete",
        "fields",
        "method",
        "version",
    )

    def __init__(self, bounds: HeadBounds, began_ms: int) -> None:
        self._bounds = bounds
        self.began_ms = began_ms
        self._parser: Any = httptools.HttpRequestParser(self)
        self._tail = b""
        self._size = 0
        self._target = b""
        self._too_large = ""
        self.complete = False
        self.method = self.version = ""
        self.fields: list[tuple[str, str]] = []

    @property
    def target(self) -> str:
        """As the client wrote it."""
        return self._target.decode("latin-1")

    def feed(self, data: bytes) -> int:
        """Take what belongs to the head; how much that was. Raises `BadRequest`; the reader is of no use then."""
        probe = self._tail + data
        at = probe.find(_END)
        used = len(data) if at < 0 else at + len(_END) - len(self._tail)
        self._tail = probe[-3:]
        self._size += used
        try:
            self._parser.feed_data(data[:used])
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError:
            self._parser = None  # it holds this object
            if self._too_large:
                raise HeadTooLarge(self._too_large) from None
            raise BadRequest(400, "This is no HTTP request.\n") from None
        bound = self._bounds.header_bytes
        if bound and self._size > bound + TARGET_BYTES:
            self._parser = None
            raise HeadTooLarge("header_bytes")
        if at >= 0:
            if not self.complete:
                raise BadRequest(400, "This is no HTTP request.\n")
            self._parser = None
        return used

    # httptools calls these while it parses; an exception stops it.

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > TARGET_BYTES:
            self._too_large = "target"
            raise HeadTooLarge("target")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.decode("latin-1"), value.decode("latin-1").rstrip(" \t")))
        if len(self.fields) > self._bounds.headers > 0:
            self._too_large = "headers"
            raise HeadTooLarge("headers")

    def on_headers_complete(self) -> None:
        self.method = self._parser.get_method().decode("ascii")
        self.version = self._parser.get_http_version()
        self.complete = True


class BodyReader:
    """The body of one request, of `length` bytes or chunked (None), in whatever pieces it comes."""

    __slots__ = ("_chunked", "_left", "done", "trailers")

    def __init__(self, length: int | None) -> None:
        self._chunked = ChunkedReader() if length is None else None
        self._left = length or 0
        self.done = False
        self.trailers: Headers = ()

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Content, and what lies behind the end. Raises `BadRequest`."""
        if self._chunked is None:
            content, data = data[: self._left], data[self._left :]
            self._left -= len(content)
            self.done = not self._left
            return content, data
        try:
            content, data = self._chunked.feed(data)
        except BadChunk as bad:
            raise BadRequest(400, f"The request's body is not understood: {bad}.\n") from None
        if self._chunked.done:
            self.done = True
            self.trailers = allowed_trailers(self._chunked.trailers)
        return content, data
