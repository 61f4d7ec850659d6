"""What is published: one item for one channel, in up to three formats.

An item that reached us is whole and checked; who published nonsense was told so (`FieldError`). Source: Pushpin's
documentation of the publish endpoint, and the tables of https://pushpin.org/docs/usage/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from edge.protocol.callbacks.events import Headers

FrameKind = Literal["text", "binary", "ping", "pong"]


@dataclass(frozen=True, slots=True)
class SocketFormat:
    """``ws-message``. `content` is text for ``text`` and bytes for every other kind. `code` and `reason` belong to
    ``close``. `filters`: the content filters its publisher assumes; None: none named."""

    action: Literal["send", "close", "refresh"] = "send"
    kind: FrameKind = "text"
    content: str | bytes = ""
    code: int = 1000
    reason: str = ""
    filters: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """``http-stream``."""

    action: Literal["send", "hint", "close"] = "send"
    content: bytes = b""
    filters: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """``http-response``. `patch`: a JSON Patch (RFC 6902) for the held body, then `body` is empty."""

    action: Literal["send", "hint"] = "send"
    code: int = 200
    reason: str = ""
    headers: Headers = ()
    body: bytes = b""
    patch: Sequence[Mapping[str, Any]] | None = None
    filters: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One publication. `size` counts for `message_block_size` only; None: the size of its content."""

    channel: str
    id: str | None = None
    prev_id: str | None = None
    no_seq: bool = False
    meta: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    socket: SocketFormat | None = None
    stream: StreamFormat | None = None
    response: ResponseFormat | None = None
