"""Items on their way between edges through Redis: msgpack arrays, the version first.

A newer edge may only append to the arrays, or count the version up: then older edges refuse the item, and say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgpack
import orjson

from edge.errors import WireError
from edge.protocol.grip.fields import parse_json
from edge.protocol.grip.items import Item, ResponseFormat, SocketFormat, StreamFormat

T = TypeVar("T")
VERSION = 1
_SOCKET_ACTIONS = ("send", "close", "refresh")
_STREAM_ACTIONS = ("send", "hint", "close")
_RESPONSE_ACTIONS = ("send", "hint")
_KINDS = ("text", "binary", "ping", "pong")


def pack_item(item: Item) -> bytes:
    socket, stream, response = item.socket, item.stream, item.response
    form = (
        VERSION,
        item.channel,
        item.id,
        item.prev_id,
        item.no_seq,
        item.meta or None,
        item.size,
        socket and (socket.action, socket.kind, socket.content, socket.code, socket.reason, socket.filters),
        stream and (stream.action, stream.content, stream.filters),
        response
        and (
            response.action,
            response.code,
            response.reason,
            response.headers,
            response.body,
            None if response.patch is None else orjson.dumps(response.patch),
            response.filters,
        ),
    )
    packed: bytes = msgpack.packb(form, use_bin_type=True)
    return packed


def unpack_item(packed: bytes) -> Item:
    """Raises WireError: it is not an item, or one of a newer version."""
    try:
        form = msgpack.unpackb(packed, raw=False, use_list=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"not an item: {error}") from None
    match form:
        case (1, str(channel), id_, prev_id, bool(no_seq), meta, size, socket, stream, response, *_):
            return Item(
                channel,
                _optional(id_, str),
                _optional(prev_id, str),
                no_seq,
                _meta(meta),
                _optional(size, int),
                None if socket is None else _socket(socket),
                None if stream is None else _stream(stream),
                None if response is None else _response(response),
            )
        case (int(version), *_) if version > VERSION:
            raise WireError(f"an item of version {version}; this edge knows version {VERSION}: update it")
    raise _wrong("item")


def _socket(form: object) -> SocketFormat:
    match form:
        case (str(action), str(kind), str() | bytes() as content, int(code), str(reason), filters, *_) if (
            action in _SOCKET_ACTIONS and kind in _KINDS and isinstance(content, str) == (kind == "text")
        ):
            return SocketFormat(action, kind, content, code, reason, _filters(filters))  # type: ignore[arg-type]
    raise _wrong("ws-message")


def _stream(form: object) -> StreamFormat:
    match form:
        case (str(action), bytes(content), filters, *_) if action in _STREAM_ACTIONS:
            return StreamFormat(action, content, _filters(filters))  # type: ignore[arg-type]
    raise _wrong("http-stream")


def _response(form: object) -> ResponseFormat:
    match form:
        case (str(action), int(code), str(reason), tuple(headers), bytes(body), patch, filters, *_) if (
            action in _RESPONSE_ACTIONS
        ):
            return ResponseFormat(
                action,  # type: ignore[arg-type]
                code,
                reason,
                tuple(_pair(pair) for pair in headers),
                body,
                None if patch is None else _patch(patch),
                _filters(filters),
            )
    raise _wrong("http-response")


def _patch(packed: object) -> tuple[Mapping[str, Any], ...]:
    if isinstance(packed, bytes):
        patch = parse_json(packed)
        if isinstance(patch, list) and all(isinstance(operation, dict) for operation in patch):
            return tuple(patch)
    raise _wrong("body-patch")


def _pair(pair: object) -> tuple[str, str]:
    match pair:
        case (str(name), str(value)):
            return name, value
    raise _wrong("headers")


def _filters(names: object) -> tuple[str, ...] | None:
    if names is None:
        return None
    if isinstance(names, tuple) and all(isinstance(name, str) for name in names):
        return names
    raise _wrong("content-filters")


def _meta(meta: object) -> dict[str, str]:
    if meta is None:
        return {}
    if isinstance(meta, dict) and all(isinstance(key, str) and isinstance(meta[key], str) for key in meta):
        return meta
    raise _wrong("meta")


def _optional(value: object, kind: type[T]) -> T | None:
    if value is None or isinstance(value, kind):
        return value
    raise _wrong("item")


def _wrong(part: str) -> WireError:
    return WireError(f"not an item: {part} lacks a field, or has one of the wrong type")
