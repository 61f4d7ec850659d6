"""What is published: one item for one channel, in up to three formats.

An item that reached us is whole and checked; who published nonsense was told so (`FieldError`). Source: Pushpin's
documentation of the publish endpoint, and the tables of https://pushpin.org/docs/usage/.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from edge.protocol.callbacks.events import Headers
from edge.protocol.grip.fields import Fields, as_text, is_field_value
from edge.protocol.grip.socket_events import sendable_code

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


SIZE_MAX = 1_000_000_000
PATCH_DEPTH = 64
"""Deepest nesting of a `body-patch`."""
CONTROL_BYTES = 125
"""RFC 6455 §5.5: all a control frame holds; a close frame has two less for its reason."""


def parse_item(fields: object, channel: str | None = None, *, binary: bool = False) -> Item:
    """An item as it came out of JSON, or, `binary`, out of a tnetstring. `channel`: what it was published to, where
    the transport says so; else the item must. Its formats are in `formats`, or in the item itself.

    Raises FieldError. Formats and fields nobody knows are ignored, and so is an action that a format does not have but
    another one does, as in Pushpin. Null stands for a field left out, which Pushpin refuses. Refused beyond Pushpin,
    which then sends something else or nothing: an empty channel, status codes below 200, header names and values that
    are none, text that is not UTF-8, pings and pongs that are too long, base64 with other letters, a `body-patch` of
    more than `PATCH_DEPTH` levels. Close codes that nobody may send become 1000, and long close reasons are cut.
    """
    item = Fields(fields, binary=binary)
    formats = item.inner("formats")
    if formats is None:
        formats = item
        if not any(map(item.has, ("ws-message", "http-stream", "http-response"))):
            raise item.wrong("formats", "is missing: ws-message, http-stream or http-response")
    elif not formats:
        raise item.wrong("formats", "must not be empty: ws-message, http-stream or http-response")
    socket, stream, response = map(formats.inner, ("ws-message", "http-stream", "http-response"))
    return Item(
        channel or item.needed("channel"),
        item.text("id"),
        item.text("prev-id"),
        item.flag("no-seq"),
        item.texts("meta"),
        item.integer("size", 0, SIZE_MAX),
        None if socket is None else _socket_format(socket),
        None if stream is None else _stream_format(stream),
        None if response is None else _response_format(response),
    )


_ACTIONS = ("send", "close", "hint", "refresh")


def _socket_format(fields: Fields) -> SocketFormat | None:
    match fields.one_of("action", _ACTIONS):
        case "close":
            code, reason = fields.integer("code", 0, SIZE_MAX), fields.text("reason") or ""
            reason = reason.encode()[: CONTROL_BYTES - 2].decode(errors="ignore")
            return SocketFormat("close", code=1000 if code is None else sendable_code(code), reason=reason)
        case "refresh":
            return SocketFormat("refresh")
        case "hint":
            return None
    said = fields.one_of("type", ("text", "binary", "ping", "pong"))
    packed = fields.has("content-bin")
    content = fields.content("content")
    kind: FrameKind = said or ("binary" if packed else "text")  # type: ignore[assignment]
    if content is None:
        if kind in ("text", "binary"):
            raise fields.wrong("content", "is missing (or content-bin)")
        content = b""
    content_name = "content-bin" if packed else "content"
    checked = frame_content(fields, content_name, content, kind)
    return SocketFormat("send", kind, checked, filters=fields.names("content-filters"))


def frame_content(fields: Fields, name: str, content: str | bytes, kind: FrameKind) -> str | bytes:
    """`content` as a frame of `kind` has it: text for text, else bytes. Raises FieldError when it cannot be."""
    if kind == "text":
        if isinstance(content, str):
            return content
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise fields.wrong(name, "must be UTF-8, or have another type than text") from None
    packed = content.encode() if isinstance(content, str) else content
    if kind != "binary" and len(packed) > CONTROL_BYTES:
        raise fields.wrong(name, f"must be at most {CONTROL_BYTES} bytes for a {kind} (RFC 6455 section 5.5)")
    return packed


def _stream_format(fields: Fields) -> StreamFormat | None:
    action = fields.one_of("action", _ACTIONS)
    if action == "refresh":
        return None
    if action in ("hint", "close"):
        return StreamFormat("hint" if action == "hint" else "close")
    content = fields.content("content")
    if content is None:
        raise fields.wrong("content", "is missing (or content-bin)")
    return StreamFormat("send", _packed(content), fields.names("content-filters"))


def _response_format(fields: Fields) -> ResponseFormat | None:
    action = fields.one_of("action", _ACTIONS)
    if action == "hint":
        return ResponseFormat("hint")
    if action in ("close", "refresh"):
        return None
    code, reason, body = fields.integer("code", 200, 999), fields.text("reason") or "", fields.content("body")
    if not is_field_value(reason):
        raise fields.wrong("reason", "must be text without line breaks")
    patch = None
    if body is None:
        patch = _patch(fields)
    return ResponseFormat(
        "send",
        200 if code is None else code,
        reason,
        fields.headers("headers"),
        b"" if body is None else _packed(body),
        patch,
        fields.names("content-filters"),
    )


def _patch(fields: Fields) -> Sequence[Mapping[str, Any]]:
    patch = fields.elements("body-patch")
    if patch is None:
        raise fields.wrong("body", "is missing (or body-bin, or body-patch)")
    return tuple(_operation(fields, f"body-patch[{index}]", operation) for index, operation in enumerate(patch))


def _operation(fields: Fields, where: str, operation: object) -> Mapping[str, Any]:
    if not isinstance(operation, Mapping):
        raise fields.wrong(where, "must be an object (RFC 6902)")
    try:
        plain: Mapping[str, Any] = _plain(operation, PATCH_DEPTH)
    except ValueError:
        raise fields.wrong(where, f"must be JSON, at most {PATCH_DEPTH} levels deep") from None
    return plain


def _plain(value: object, levels: int) -> Any:
    """A copy as JSON has it, with text in the place of a tnetstring's bytes. ValueError: it cannot be."""
    if value is None or type(value) is bool:
        return value
    if (type(value) is int and -(1 << 63) <= value < 1 << 64) or (type(value) is float and math.isfinite(value)):
        return value
    if (text := as_text(value)) is not None:
        return text
    if levels and type(value) is list:
        return [_plain(element, levels - 1) for element in value]
    if levels and isinstance(value, Mapping) and all(type(key) in (str, bytes) for key in value):
        return {_plain(key, 0): _plain(element, levels - 1) for key, element in value.items()}
    raise ValueError


def _packed(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
