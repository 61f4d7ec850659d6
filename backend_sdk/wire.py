"""Bytes to events and results to bytes, in both encodings of callbacks v1. Pure: no socket, no clock.

Results are packed one by one and joined afterwards: what is remembered of an event's answer is then exactly the bytes
that went out, and a result that cannot be written spoils no other.

Source: edge/protocol/callbacks/SPEC.md, "The request" and "The answer".
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import msgpack

from backend_sdk.errors import BadField, RequestError
from backend_sdk.events import (
    ClientRequest,
    Close,
    Event,
    Gap,
    Message,
    Open,
    Other,
    Parcel,
    Position,
    Refused,
    ReleaseChanged,
    Timer,
)
from backend_sdk.fields import FieldProblem, take
from backend_sdk.xmpp_wire import LINK_EVENTS

MSGPACK_TYPE = "application/vnd.holdfast.v1+msgpack"
JSON_TYPE = "application/vnd.holdfast.v1+json"

Result = dict[str, Any]
"""``{"id", "actions", "state"}``, without what is empty."""

COMMON_FIELDS = frozenset({"id", "session", "type", "attempt", "at", "release", "user", "state", "version"})


@dataclass(frozen=True, slots=True)
class Batch:
    """One request: parcels in the order of their first events. `gone`: sessions that actions named but that had
    ended. `edge`: who sent it."""

    edge: str
    parcels: Sequence[Parcel]
    gone: Sequence[str]


class Encoding(Protocol):
    """One of the two ways to write an answer. `pack` raises TypeError or ValueError for what it cannot write."""

    content_type: str

    def pack(self, result: Result) -> bytes: ...

    def unpack(self, packed: bytes) -> Result: ...

    def join(self, packed: Sequence[bytes]) -> bytes:
        """The whole answer's body from its packed results."""
        ...


class MsgpackEncoding:
    """msgpack; bytes are `bin`. Not for several threads at once."""

    content_type = MSGPACK_TYPE

    def __init__(self) -> None:
        self.pack: Callable[[Result], bytes] = msgpack.Packer().pack
        self._headers = msgpack.Packer()

    def unpack(self, packed: bytes) -> Result:
        result: Result = msgpack.unpackb(packed)
        return result

    def join(self, packed: Sequence[bytes]) -> bytes:
        return b"".join((b"\x81\xa7results", self._headers.pack_array_header(len(packed)), *packed))


class JsonEncoding:
    """JSON; bytes are ``{"b64": …}``."""

    content_type = JSON_TYPE

    def __init__(self) -> None:
        self._encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_b64).encode

    def pack(self, result: Result) -> bytes:
        return self._encode(result).encode()

    def unpack(self, packed: bytes) -> Result:
        return binary_from_json(json.loads(packed))

    def join(self, packed: Sequence[bytes]) -> bytes:
        return b'{"results":[' + b",".join(packed) + b"]}"


def binary_from_json(result: Result) -> Result:
    """`result`, as it came out of JSON, with the data of its sends and publishes as bytes; changed in place."""
    for action in result.get("actions", ()):
        if "data" in action and action["type"] in ("send", "publish"):
            action["data"] = base64.b64decode(action["data"]["b64"])
    return result


def _b64(value: object) -> dict[str, str]:
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def decode_request(content_type: str, body: bytes) -> Batch:
    """A request's body. Raises `RequestError` 415 for a content type that is neither, 400 for a body that does not
    parse, and `BadField` (400) naming the field."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == MSGPACK_TYPE or kind == "application/msgpack":
        return _batch(_unpack(body), binary=True)
    if kind == JSON_TYPE or kind == "application/json":
        return _batch(_parse(body), binary=False)
    raise RequestError(415, f"Content-Type must be {MSGPACK_TYPE} or {JSON_TYPE}, not {kind or 'absent'}")


def _unpack(body: bytes) -> Any:
    try:
        return msgpack.unpackb(body)
    except (ValueError, msgpack.UnpackException) as error:
        raise RequestError(400, f"the body is no msgpack: {error}") from None


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is no JSON: {error}") from None


def _batch(body: Any, *, binary: bool) -> Batch:
    if type(body) is not dict:
        raise RequestError(400, "the body must be a map with events")
    edge, events, gone = body.get("edge", ""), body.get("events"), body.get("gone", [])
    if type(edge) is not str:
        raise BadField("edge", "must be a string")
    if type(events) is not list:
        raise BadField("events", "must be a list")
    if type(gone) is not list or not all(type(session) is str for session in gone):
        raise BadField("gone", "must be a list of session ids")
    parcels: dict[str, Parcel] = {}
    index = 0
    try:
        for index, raw in enumerate(events):  # noqa: B007 (the handler below tells it)
            event = _event(raw, binary)
            parcel = parcels.get(raw["session"])
            if parcel is None:
                parcel = parcels[raw["session"]] = _parcel(raw)
            parcel.events.append(event)
    except FieldProblem as error:
        place = f"events[{index}]"
        raise BadField(f"{place}.{error.field}" if error.field else place, error.problem) from None
    return Batch(edge, list(parcels.values()), gone)


def _parcel(raw: dict[str, Any]) -> Parcel:
    """A parcel without events, from the first event of its session, whose common fields are checked."""
    state, version = raw.get("state"), raw.get("version", 0)
    if state is None:
        state = {}
    elif type(state) is not dict:
        raise FieldProblem("state", "must be a map")
    if type(version) is not int:
        raise FieldProblem("version", "must be an integer")
    return Parcel(raw["session"], raw["release"], raw["user"], state, version, [])


def _event(raw: Any, binary: bool) -> Event:
    if type(raw) is not dict:
        raise FieldProblem("", "must be a map")
    try:
        id, at, kind, attempt, user = raw["id"], raw["at"], raw["type"], raw["attempt"], raw["user"]
        if not (
            type(id) is str
            and type(at) is int
            and type(kind) is str
            and type(attempt) is int
            and (user is None or type(user) is str)
            and type(raw["session"]) is str
            and type(raw["release"]) is str
        ):
            _complain(raw)
    except KeyError:
        _complain(raw)
    if kind == "message":
        return Message(id, at, attempt, _payload(raw, binary))
    decode = _DECODERS.get(kind)
    if decode is not None:
        return decode(raw)
    fields = {name: value for name, value in raw.items() if name not in COMMON_FIELDS}
    return Other(kind, id, at, attempt, fields)


def _complain(raw: dict[str, Any]) -> NoReturn:
    """Find out which common field is wrong."""
    wanted = {"id": str, "session": str, "type": str, "at": int, "attempt": int, "release": str}
    for field, kind in wanted.items():
        take(raw, field, kind)
    raise FieldProblem("user", "must be a string or null")


def payload_from_json(fields: dict[str, Any]) -> str | bytes:
    """`text` or `data` of a map that came as JSON. Raises ValueError when there is neither."""
    try:
        return _payload(fields, binary=False)
    except FieldProblem as error:
        raise ValueError(f"{error.field} {error.problem}") from None


def _payload(raw: dict[str, Any], binary: bool) -> str | bytes:
    text = raw.get("text")
    if type(text) is str:
        return text
    data = raw.get("data")
    if text is not None or data is None:
        raise FieldProblem("text", "must be a string (or data must be there)")
    if binary:
        if type(data) is bytes:
            return data
        raise FieldProblem("data", "must be bin")
    try:
        return base64.b64decode(data["b64"], validate=True)
    except (TypeError, KeyError, binascii.Error, ValueError):
        raise FieldProblem("data", 'must be {"b64": "<base64>"}') from None


def _open(raw: dict[str, Any]) -> Open:
    request = take(raw, "request", dict)
    texts = [take(request, field, str, "request.") for field in ("method", "path", "query", "client", "scheme")]
    method, path, query, client, scheme = texts
    headers = take(request, "headers", list, "request.")
    subprotocols = take(request, "subprotocols", list, "request.")
    for pair in headers:
        if type(pair) is not list or len(pair) != 2 or not all(type(part) is str for part in pair):
            raise FieldProblem("request.headers", "must be a list of [name, value]")
    if not all(type(name) is str for name in subprotocols):
        raise FieldProblem("request.subprotocols", "must be a list of strings")
    handshake = ClientRequest(
        method, path, query, tuple((name, value) for name, value in headers), client, scheme, tuple(subprotocols)
    )
    return Open(raw["id"], raw["at"], raw["attempt"], handshake, take(raw, "transport", str))


def _close(raw: dict[str, Any]) -> Close:
    return Close(
        raw["id"],
        raw["at"],
        raw["attempt"],
        take(raw, "code", int),
        take(raw, "reason", str),
        take(raw, "clean", bool),
        take(raw, "cause", str),
    )


def _timer(raw: dict[str, Any]) -> Timer:
    return Timer(raw["id"], raw["at"], raw["attempt"], take(raw, "name", str), raw.get("data"))


def _release(raw: dict[str, Any]) -> ReleaseChanged:
    return ReleaseChanged(raw["id"], raw["at"], raw["attempt"], take(raw, "from", str), take(raw, "to", str))


def _gap(raw: dict[str, Any]) -> Gap:
    channel = take(raw, "channel", str)
    return Gap(raw["id"], raw["at"], raw["attempt"], channel, _position(raw, "since"), _position(raw, "position"))


def _refused(raw: dict[str, Any]) -> Refused:
    return Refused(raw["id"], raw["at"], raw["attempt"], take(raw, "of", str), take(raw, "error", str))


def _position(raw: dict[str, Any], field: str) -> Position:
    place = take(raw, field, dict)
    return Position(take(place, "offset", int, f"{field}."), take(place, "epoch", str, f"{field}."))


_DECODERS: dict[str, Callable[[dict[str, Any]], Event]] = {
    "open": _open,
    "close": _close,
    "timer": _timer,
    "release": _release,
    "gap": _gap,
    "refused": _refused,
    **LINK_EVENTS,
}
