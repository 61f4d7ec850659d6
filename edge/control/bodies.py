"""What comes in: path and query values, and bodies in JSON or msgpack, checked field by field.

The fields of actions are checked by `edge.protocol.callbacks.check`; this module adds what only the API has. Every
complaint is a `FieldError` that names the field, or a `BadRequest` about the request as a whole.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import msgpack
from starlette.requests import Request

from edge.errors import FieldError, HoldfastError
from edge.protocol.callbacks.actions import Accept, CloseSession, Publish, Reject, Result
from edge.protocol.callbacks.check import parse_actions, parse_result
from edge.protocol.callbacks.fields import NAME_CHARS
from edge.protocol.callbacks.wire import encoding_of
from edge.store.base import Position

BODY_BYTES = 4 * 1024 * 1024
"""Largest body. A publication of 1 MiB (the default limit of a message) fits three times, base64 included."""
BODY_S = 30.0
"""From a request's head to its whole body."""
HISTORY_LIMIT = 1_000
"""Publications in one answer at most."""
HISTORY_DEFAULT = 100


class BadRequest(HoldfastError):
    """The request as a whole is not acceptable: `status` 400, 408, 413 or 415, `code` for programs."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Body:
    """A decoded body: a map, and whether bytes stand in it as ``{"b64": …}``."""

    fields: Mapping[str, Any]
    from_json: bool


@dataclass(frozen=True, slots=True)
class Publication:
    """The body of a publication."""

    payload: str | bytes
    id: str | None
    sender: str | None


async def read_body(request: Request, *, optional: bool = False) -> Body:
    """The body as a map; an empty one when it is `optional` and there is none. `BadRequest` when it is too large, too
    slow, of another type, or does not parse."""
    if optional and request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return Body({}, True)
    encoding = encoding_of(request.headers.get("content-type", ""))
    if encoding is None:
        raise BadRequest(415, "unsupported_media_type", "send application/json or application/msgpack")
    raw = await read_raw(request)
    try:
        fields = msgpack.unpackb(raw) if encoding == "msgpack" else json.loads(raw, parse_constant=_no_constant)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BadRequest(400, "bad_body", f"the body is not {encoding}: {_phrase(error)}") from None
    if type(fields) is not dict:
        raise BadRequest(400, "bad_body", "the body must be a map")
    if any(type(key) is not str for key in fields):
        raise BadRequest(400, "bad_body", "the keys of the body must be text")
    return Body(fields, encoding == "json")


async def read_raw(request: Request, limit: int = BODY_BYTES) -> bytes:
    """The body as it was sent. `BadRequest` when it is too large or too slow."""
    too_large = BadRequest(413, "too_large", f"a body may have {limit} bytes at most")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise too_large
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise too_large
                chunks.append(chunk)
    except TimeoutError:
        raise BadRequest(408, "too_slow", f"the body took longer than {BODY_S:.0f} s") from None
    return b"".join(chunks)


def _no_constant(name: str) -> float:
    """json.loads takes NaN and Infinity, which RFC 8259 section 6 does not have."""
    raise ValueError(f"{name} is no JSON number")


def _phrase(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:120]


def publication(channel: str, body: Body) -> Publication:
    """``{"text" | "data", "id"?, "sender"?}``. It is the `publish` action with the channel taken from the path."""
    known = {"text", "data", "id", "sender"}
    only(body, known)
    fields = {key: value for key, value in body.fields.items() if key != "sender"}
    action = {"type": "publish", "channel": channel, "session": body.fields.get("sender"), **fields}
    order = _one_action(action, body.from_json, {"session": "sender"})
    assert isinstance(order, Publish)
    return Publication(order.payload, order.id, order.session)


def order(body: Body) -> tuple[Result, str | None]:
    """``{"actions": […], "state"?: {"set"?, "unset"?}, "app"?}``: what `Operations.act` takes."""
    only(body, {"actions", "state", "app"})
    if "actions" not in body.fields:
        raise FieldError("actions", "is missing")
    fields = {name: value for name, value in body.fields.items() if name != "app"}
    result = parse_result(fields, from_json=body.from_json)
    for index, action in enumerate(result.actions):
        if isinstance(action, Accept | Reject):
            raise FieldError(f"actions[{index}].type", "only answers a handshake, which is over")
    app = body.fields.get("app")
    if app is not None and not (isinstance(app, str) and app):
        raise FieldError("app", "must be the name of an app")
    if app is not None and not result.connects:
        raise FieldError("app", "says whose a link is that is begun: no action here is an xmpp.connect")
    return result, app


def closing(request: Request) -> CloseSession:
    """``?code=&reason=``, as the `close` action has them."""
    action: dict[str, Any] = {"type": "close", "reason": request.query_params.get("reason", "")}
    if "code" in request.query_params:
        action["code"] = _integer(request, "code")
    order = _one_action(action, True, {})
    assert isinstance(order, CloseSession)
    return order


def since(request: Request) -> Position | None:
    """``?offset=&epoch=``: both or neither."""
    offset, epoch = _integer(request, "offset"), request.query_params.get("epoch")
    if offset is None and not epoch:
        return None
    if offset is None:
        raise FieldError("offset", "is missing (offset and epoch go together)")
    if not epoch:
        raise FieldError("epoch", "is missing (offset and epoch go together)")
    if not 0 <= offset < 2**63:
        raise FieldError("offset", "must be an integer from 0 on")
    return Position(offset, _name("epoch", epoch))


def limit(request: Request) -> int:
    """``?limit=``."""
    wanted = _integer(request, "limit")
    if wanted is None:
        return HISTORY_DEFAULT
    if not 1 <= wanted <= HISTORY_LIMIT:
        raise FieldError("limit", f"must be from 1 to {HISTORY_LIMIT}")
    return wanted


def name_in_path(request: Request, field: str) -> str:
    """A name in the path, percent-decoded; a ``/`` in it was sent as ``%2F`` (the guard routes on the raw path)."""
    try:
        return _name(field, unquote(request.path_params[field], errors="strict"))
    except UnicodeDecodeError:
        raise FieldError(field, "is not valid UTF-8") from None


def optional_name(request: Request, field: str) -> str | None:
    """A name in the query, if it is there."""
    value = request.query_params.get(field)
    return None if value is None else _name(field, value)


def _name(field: str, value: str) -> str:
    if not value or len(value) > NAME_CHARS or "\0" in value:
        raise FieldError(field, f"must be text of 1 to {NAME_CHARS} characters without NUL")
    return value


def _integer(request: Request, field: str) -> int | None:
    value = request.query_params.get(field)
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal() and len(value) <= 20):
        raise FieldError(field, "must be a whole number")
    return int(value)


def only(body: Body, known: set[str]) -> None:
    """`FieldError` when there is a field that is not `known`."""
    for key in body.fields:
        if key not in known:
            raise FieldError(ascii(key[:40])[1:-1], f"unknown field; known are {', '.join(sorted(known))}")


def _one_action(action: Mapping[str, Any], from_json: bool, renamed: Mapping[str, str]) -> object:
    """Check one action; fields in complaints are named as the sender knows them."""
    try:
        return parse_actions([dict(action)], from_json=from_json)[0]
    except FieldError as error:
        field = error.field.removeprefix("actions[0].")
        raise FieldError(renamed.get(field, field), error.problem) from None
