"""Requests and answers as bytes: msgpack or JSON. Shapes as in SPEC.md beside this file; the fields of actions are
checked in `edge.protocol.callbacks.check`.

An answer is judged in two steps. Bytes that are no map with a list of results say nothing about any event:
`WireError`, and the caller retries. A result that names its event and has a bad field is that event's own fault:
`BadResult`, and nothing of it is applied.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgpack
import orjson

from edge.errors import FieldError, WireError
from edge.protocol.callbacks.actions import NOTHING, BadResult, Result
from edge.protocol.callbacks.check import parse_actions, parse_result
from edge.protocol.callbacks.events import (
    Close,
    Event,
    Gap,
    LinkEvent,
    Message,
    Open,
    Parcel,
    ReleaseChanged,
    ResultRefused,
    Timer,
)

__all__ = [
    "JSON_TYPE",
    "MSGPACK_TYPE",
    "WireEncoding",
    "decode_response",
    "encode_request",
    "encoding_of",
    "nothing_for",
    "parse_actions",
]

WireEncoding = Literal["json", "msgpack"]

JSON_TYPE = "application/vnd.holdfast.v1+json"
MSGPACK_TYPE = "application/vnd.holdfast.v1+msgpack"


_LONG_NUMBER = re.compile(rb"[0-9]{19}")
"""May be past 64 bits, where orjson would quietly make a float of it."""


def encoding_of(content_type: str) -> WireEncoding | None:
    """What a Content-Type says about a body, parameters ignored; None: neither encoding.

    The general types are taken too: a static web server answers with those.
    """
    if content_type == MSGPACK_TYPE:
        return "msgpack"
    if content_type == JSON_TYPE:
        return "json"
    match content_type.partition(";")[0].strip().lower():
        case "application/vnd.holdfast.v1+msgpack" | "application/msgpack" | "application/x-msgpack":
            return "msgpack"
        case "application/vnd.holdfast.v1+json" | "application/json":
            return "json"
        case _:
            return None


def encode_request(edge_id: str, parcels: Sequence[Parcel], gone: Sequence[str], encoding: WireEncoding) -> bytes:
    """The body of one request: all events of all parcels, in order. `gone`: ended sessions to report."""
    events: list[dict[str, Any]] = []
    for parcel in parcels:
        session, release, user, attempt = parcel.session, parcel.release, parcel.user, parcel.attempt
        first = True
        entry: dict[str, Any]
        for event in parcel.events:
            if type(event) is Message:  # nearly all there are; one dict display is twice as fast as two updates
                payload = event.payload
                entry = {
                    "id": event.id,
                    "session": session,
                    "type": "message",
                    "attempt": attempt,
                    "at": event.at,
                    "release": release,
                    "user": user,
                    "text" if type(payload) is str else "data": payload,
                }
            else:
                entry = {"session": session, "attempt": attempt, "release": release, "user": user}
                entry |= _event(event)
            if first:
                entry["state"] = parcel.state
                entry["version"] = parcel.version
                first = False
            events.append(entry)
    body: dict[str, Any] = {"edge": edge_id, "events": events}
    if gone:
        body["gone"] = list(gone)
    if encoding == "msgpack":
        return _pack(body)
    return _pack_json(body)


def decode_response(body: bytes, content_type: str, parcels: Sequence[Parcel]) -> Mapping[str, Result | BadResult]:
    """Event id → what the backend answered to it. Events the backend left out are left out here too.

    A result without `id` belongs to the only event of the request, when it carried exactly one (so that a static
    web server can be a backend). Results for events that were not asked about are passed over. Two results for one
    event are a `BadResult`: nobody can say which of them holds.

    Raises WireError when the body as a whole is not an answer.
    """
    encoding = encoding_of(content_type)
    if encoding is None:
        raise WireError("the answer's content type is neither of ours")
    answer = _unpack(body) if encoding == "msgpack" else _unjson(body)
    if type(answer) is not dict or type(results := answer.get("results")) is not list:
        raise WireError("the answer is no map with a list of results")
    asked = [event.id for parcel in parcels for event in parcel.events]
    only = asked[0] if len(asked) == 1 else None
    wanted = frozenset(asked)
    decoded: dict[str, Result | BadResult] = {}
    for index, item in enumerate(results):
        if type(item) is not dict:
            raise WireError(f"results[{index}] is no map")
        event_id = item.get("id", only)
        if type(event_id) is not str:
            raise WireError(f"results[{index}] does not say which event it is for")
        if event_id not in wanted:
            continue
        if event_id in decoded:
            decoded[event_id] = BadResult(f"results[{index}].id", "this event has two results")
            continue
        try:
            decoded[event_id] = parse_result(item, from_json=encoding == "json")
        except FieldError as error:
            decoded[event_id] = BadResult(error.field, error.problem)
    return decoded


def nothing_for(parcels: Sequence[Parcel]) -> Mapping[str, Result | BadResult]:
    """What an empty 204 means: no actions for any of them."""
    return {event.id: NOTHING for parcel in parcels for event in parcel.events}


def _event(event: Event) -> dict[str, Any]:
    """What only this event has; the parcel's part is added by the caller."""
    match event:
        case Message(id, at, payload):
            kind = "text" if type(payload) is str else "data"
            return {"id": id, "type": "message", "at": at, kind: payload}
        case Open(id, at, request, transport):
            return {
                "id": id,
                "type": "open",
                "at": at,
                "transport": transport,
                "request": {
                    "method": request.method,
                    "path": request.path,
                    "query": request.query,
                    "headers": [[name, value] for name, value in request.headers],
                    "client": request.client,
                    "scheme": request.scheme,
                    "subprotocols": list(request.subprotocols),
                },
            }
        case Close(id, at, code, reason, clean, cause):
            return {
                "id": id,
                "type": "close",
                "at": at,
                "code": code,
                "reason": reason,
                "clean": clean,
                "cause": cause,
            }
        case Timer(id, at, name, data):
            return {"id": id, "type": "timer", "at": at, "name": name, "data": data}
        case ReleaseChanged(id, at, from_release, to_release):
            return {"id": id, "type": "release", "at": at, "from": from_release, "to": to_release}
        case Gap(id, at, channel, since, position):
            return {
                "id": id,
                "type": "gap",
                "at": at,
                "channel": channel,
                "since": _position(since),
                "position": _position(position),
            }
        case ResultRefused(id, at, of, error):
            return {"id": id, "type": "refused", "at": at, "of": of, "error": error}
        case LinkEvent(id, at, kind, fields):
            return {"id": id, "type": kind, "at": at, **fields}


def _position(position: tuple[int, str]) -> dict[str, Any]:
    return {"offset": position[0], "epoch": position[1]}


def _to_json(value: object) -> object:
    """What JSON has no word for: binary, and the mappings that are no dict."""
    if isinstance(value, bytes | bytearray | memoryview):
        return {"b64": b64encode(value).decode("ascii")}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be sent to a backend")


def _to_msgpack(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be sent to a backend")


def _pack(body: dict[str, Any]) -> bytes:
    packed: bytes
    try:
        packed = msgpack.packb(body, default=_to_msgpack)
    except UnicodeEncodeError:
        # A lone surrogate in a client's header or path: show it as "?", as the JSON side does.
        packed = msgpack.packb(body, default=_to_msgpack, unicode_errors="replace")
    return packed


def _unpack(body: bytes) -> Any:
    # surrogateescape: text that is no UTF-8 is one field's fault, found when that field is checked, and not
    # the whole answer's.
    try:
        return msgpack.unpackb(body, unicode_errors="surrogateescape")
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise WireError(f"the answer is not msgpack: {error}") from error


def _pack_json(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body, default=_to_json)
    except orjson.JSONEncodeError:
        # What orjson is too strict for: lone surrogates in a client's header or path, integers past 64 bits.
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), default=_to_json)
        return text.encode("utf-8", "replace")


def _unjson(body: bytes) -> Any:
    try:
        if _LONG_NUMBER.search(body) is None:
            return orjson.loads(body)
    except orjson.JSONDecodeError:
        # Text that is no UTF-8 is one field's fault, found when that field is checked, and not the whole answer's.
        pass
    try:
        return json.loads(body.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise WireError(f"the answer is not JSON: {error}") from error
