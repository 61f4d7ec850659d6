"""Checks what a backend sent, field by field, and turns it into actions. Nothing is guessed and nothing is
ignored: an unknown action type, an unknown field or a value out of range is a `FieldError` that names the field
as the sender would look for it (``actions[1].channel``).

The `data` of a send or publish is binary in msgpack and ``{"b64": "…"}`` in JSON; `from_json` says which rule holds.
State values and timer data are JSON values in both, and a map ``{"b64": …}`` in there is just a map. Null stands for
an optional field left out.
"""

from __future__ import annotations

import math
from base64 import b64decode
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from edge.errors import FieldError
from edge.protocol.callbacks.actions import (
    Accept,
    Action,
    CancelTimer,
    CloseSession,
    Identify,
    Pin,
    Publish,
    Reject,
    Result,
    Send,
    SetTimer,
    Subscribe,
    Unsubscribe,
)
from edge.protocol.callbacks.events import Headers

NAME_CHARS = 255
"""Longest channel, timer, user, release, session and key name, in characters."""
REASON_BYTES = 123
"""RFC 6455 section 5.5: a control frame holds 125 bytes, two of which are the close code."""
AFTER_MS_MAX = 10 * 366 * 86_400_000
"""Ten years: far past any use, near enough that wall clock plus delay stays an exact JSON number."""
VALUE_DEPTH = 64
"""Deepest nesting of a state value or timer data."""
CLOSE_CODES = frozenset({1000, 1008, 1011, 1012, 1013})
"""What a backend may close with beside 3000–4999 (RFC 6455 section 7.4)."""

_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""RFC 9110 section 5.6.2."""
_VALUE = frozenset("\t") | {chr(c) for c in range(0x20, 0x7F)} | {chr(c) for c in range(0x80, 0x100)}
"""RFC 9110 section 5.5: visible characters, space, tab and obs-text; no CR, LF, NUL."""

_Obj = Mapping[str, Any]


def parse_actions(obj: object, *, from_json: bool) -> tuple[Action, ...]:
    """The actions in `obj`, a list of maps as it came out of msgpack or JSON.

    Raises FieldError, `field` relative to the result: ``actions``, ``actions[1].channel``.
    """
    if type(obj) is not list:
        raise FieldError("actions", "must be a list")
    actions: list[Action] = []
    for index, item in enumerate(obj):
        if type(item) is not dict:
            raise FieldError(f"actions[{index}]", "must be a map")
        kind = item.get("type")
        if kind == "send" and len(item) == 2 and type(text := item.get("text")) is str and text.isascii():
            # Nearly all there are, and nothing left to check.
            actions.append(Send(text))
            continue
        parse = _PARSERS.get(kind) if type(kind) is str else None
        if parse is None:
            problem = "is missing" if kind is None else f"unknown action {_show(kind)}"
            raise FieldError(f"actions[{index}].type", problem)
        try:
            actions.append(parse(item, from_json))
        except FieldError as error:
            raise FieldError(f"actions[{index}].{error.field}", error.problem) from None
    return tuple(actions)


def parse_result(obj: _Obj, *, from_json: bool) -> Result:
    """One entry of `results`: its actions and its change of state. Raises FieldError."""
    if not obj.keys() <= _RESULT_FIELDS:
        raise _unknown(obj, _RESULT_FIELDS)
    actions = obj.get("actions")
    parsed = () if actions is None else parse_actions(actions, from_json=from_json)
    state = obj.get("state")
    return Result(parsed) if state is None else Result(parsed, *_state(state))


def _state(state: object) -> tuple[dict[str, Any], tuple[str, ...]]:
    if type(state) is not dict:
        raise FieldError("state", "must be a map")
    if not state.keys() <= _STATE_FIELDS:
        error = _unknown(state, _STATE_FIELDS)
        raise FieldError(f"state.{error.field}", error.problem)
    values, unset = state.get("set"), state.get("unset")
    if values is None:
        values = {}
    elif type(values) is not dict:
        raise FieldError("state.set", "must be a map")
    for key, value in values.items():
        _checked_name("state.set", key)
        _check_json(f"state.set.{_show(key)}", value)
    if unset is None:
        return values, ()
    if type(unset) is not list:
        raise FieldError("state.unset", "must be a list")
    for index, key in enumerate(unset):
        _checked_name(f"state.unset[{index}]", key)
        if key in values:
            raise FieldError(f"state.unset[{index}]", "is also in set")
    return values, tuple(unset)


# -- one parser per action -----------------------------------------------------------------------------------


def _parse_accept(obj: _Obj, from_json: bool) -> Accept:
    session, key = _common(obj, _ACCEPT_FIELDS)
    subprotocol = obj.get("subprotocol")
    if subprotocol is not None and not _TOKEN.issuperset(_name(obj, "subprotocol")):
        raise FieldError("subprotocol", "must be a token (RFC 6455 section 4.1)")
    return Accept(subprotocol, _headers(obj), session, key)


def _parse_reject(obj: _Obj, from_json: bool) -> Reject:
    session, key = _common(obj, _REJECT_FIELDS)
    status = _optional(obj, "status", 403)
    if type(status) is not int or not 400 <= status <= 599:
        raise FieldError("status", "must be an integer from 400 to 599")
    return Reject(status, _headers(obj), _text("text", _optional(obj, "text", "")), session, key)


def _parse_send(obj: _Obj, from_json: bool) -> Send:
    session, key = _common(obj, _SEND_FIELDS)
    return Send(_payload(obj, from_json), session, key)


def _parse_close(obj: _Obj, from_json: bool) -> CloseSession:
    session, key = _common(obj, _CLOSE_FIELDS)
    code = _optional(obj, "code", 1000)
    if type(code) is not int or not (code in CLOSE_CODES or 3000 <= code <= 4999):
        raise FieldError("code", "must be 1000, 1008, 1011, 1012, 1013 or from 3000 to 4999")
    reason = _text("reason", _optional(obj, "reason", ""))
    if len(reason.encode()) > REASON_BYTES:
        raise FieldError("reason", f"must be at most {REASON_BYTES} bytes of UTF-8 (RFC 6455 section 5.5)")
    return CloseSession(code, reason, session, key)


def _parse_subscribe(obj: _Obj, from_json: bool) -> Subscribe:
    session, key = _common(obj, _SUBSCRIBE_FIELDS)
    since = obj.get("since")
    return Subscribe(_name(obj, "channel"), None if since is None else _position(since), session, key)


def _parse_unsubscribe(obj: _Obj, from_json: bool) -> Unsubscribe:
    session, key = _common(obj, _CHANNEL_FIELDS)
    return Unsubscribe(_name(obj, "channel"), session, key)


def _parse_publish(obj: _Obj, from_json: bool) -> Publish:
    session, key = _common(obj, _PUBLISH_FIELDS)
    except_self = _optional(obj, "except_self", False)
    if type(except_self) is not bool:
        raise FieldError("except_self", "must be true or false")
    return Publish(_name(obj, "channel"), _payload(obj, from_json), except_self, session, key)


def _parse_identify(obj: _Obj, from_json: bool) -> Identify:
    session, key = _common(obj, _IDENTIFY_FIELDS)
    return Identify(_name_or_null(obj, "user"), session, key)


def _parse_timer(obj: _Obj, from_json: bool) -> SetTimer:
    session, key = _common(obj, _TIMER_FIELDS)
    after_ms = obj.get("after_ms")
    if type(after_ms) is not int or not 0 <= after_ms <= AFTER_MS_MAX:
        raise FieldError("after_ms", f"must be an integer from 0 to {AFTER_MS_MAX}")
    data = obj.get("data")
    _check_json("data", data)
    return SetTimer(_name(obj, "name"), after_ms, data, session, key)


def _parse_cancel_timer(obj: _Obj, from_json: bool) -> CancelTimer:
    session, key = _common(obj, _NAME_FIELDS)
    return CancelTimer(_name(obj, "name"), session, key)


def _parse_pin(obj: _Obj, from_json: bool) -> Pin:
    session, key = _common(obj, _PIN_FIELDS)
    return Pin(_name_or_null(obj, "release"), session, key)


_COMMON = frozenset({"type", "session", "id"})
_ACCEPT_FIELDS = _COMMON | {"subprotocol", "headers"}
_REJECT_FIELDS = _COMMON | {"status", "headers", "text"}
_SEND_FIELDS = _COMMON | {"text", "data"}
_CLOSE_FIELDS = _COMMON | {"code", "reason"}
_SUBSCRIBE_FIELDS = _COMMON | {"channel", "since"}
_CHANNEL_FIELDS = _COMMON | {"channel"}
_PUBLISH_FIELDS = _COMMON | {"channel", "text", "data", "except_self"}
_IDENTIFY_FIELDS = _COMMON | {"user"}
_TIMER_FIELDS = _COMMON | {"name", "after_ms", "data"}
_NAME_FIELDS = _COMMON | {"name"}
_PIN_FIELDS = _COMMON | {"release"}
_RESULT_FIELDS = frozenset({"id", "actions", "state"})
_STATE_FIELDS = frozenset({"set", "unset"})

_PARSERS: Mapping[str, Callable[[_Obj, bool], Action]] = MappingProxyType(
    {
        "accept": _parse_accept,
        "reject": _parse_reject,
        "send": _parse_send,
        "close": _parse_close,
        "subscribe": _parse_subscribe,
        "unsubscribe": _parse_unsubscribe,
        "publish": _parse_publish,
        "identify": _parse_identify,
        "timer": _parse_timer,
        "cancel_timer": _parse_cancel_timer,
        "pin": _parse_pin,
    }
)


# -- one check per kind of field -----------------------------------------------------------------------------


def _common(obj: _Obj, known: frozenset[str]) -> tuple[str | None, str | None]:
    """Refuse unknown fields; `session` and `id`, None where absent or null."""
    if not obj.keys() <= known:
        raise _unknown(obj, known)
    session, key = obj.get("session"), obj.get("id")
    if session is not None:
        _checked_name("session", session)
    if key is not None:
        _checked_name("id", key)
    return session, key


def _optional(obj: _Obj, field: str, default: Any) -> Any:
    value = obj.get(field)
    return default if value is None else value


def _payload(obj: _Obj, from_json: bool) -> str | bytes:
    text, data = obj.get("text"), obj.get("data")
    if data is None:
        if text is None:
            raise FieldError("text", "is missing (or data, for binary)")
        return _text("text", text)
    if text is not None:
        raise FieldError("data", "only one of text and data may be given")
    if from_json:
        return _from_b64(data)
    if type(data) is not bytes:
        raise FieldError("data", "must be binary")
    return data


def _headers(obj: _Obj) -> Headers:
    headers = obj.get("headers")
    if headers is None:
        return ()
    if type(headers) is not list:
        raise FieldError("headers", "must be a list of [name, value]")
    pairs = []
    for index, pair in enumerate(headers):
        if type(pair) is not list or len(pair) != 2 or type(pair[0]) is not str or type(pair[1]) is not str:
            raise FieldError(f"headers[{index}]", "must be [name, value], both text")
        name, value = pair
        if not name or not _TOKEN.issuperset(name):
            raise FieldError(f"headers[{index}]", "the name must be a token (RFC 9110 section 5.1)")
        if not _VALUE.issuperset(value):
            raise FieldError(
                f"headers[{index}]", "the value holds a character that no header may (RFC 9110 section 5.5)"
            )
        pairs.append((name, value))
    return tuple(pairs)


def _position(since: object) -> tuple[int, str]:
    if type(since) is not dict:
        raise FieldError("since", "must be {offset, epoch}")
    if not since.keys() <= {"offset", "epoch"}:
        error = _unknown(since, frozenset({"offset", "epoch"}))
        raise FieldError(f"since.{error.field}", error.problem)
    offset = since.get("offset")
    if type(offset) is not int or not 0 <= offset < 2**63:
        raise FieldError("since.offset", "must be an integer from 0 on")
    epoch = since.get("epoch")
    _checked_name("since.epoch", epoch)
    return offset, str(epoch)


def _name(obj: _Obj, field: str) -> str:
    value = obj.get(field)
    _checked_name(field, value)
    return str(value)


def _name_or_null(obj: _Obj, field: str) -> str | None:
    if field not in obj:
        raise FieldError(field, "is missing (null takes it back)")
    return None if obj[field] is None else _name(obj, field)


def _checked_name(field: str, value: object) -> None:
    if type(value) is not str or not value or len(value) > NAME_CHARS:
        missing = "is missing" if value is None else f"must be text of 1 to {NAME_CHARS} characters"
        raise FieldError(field, missing)
    if not value.isascii() or "\0" in value:
        _text(field, value)
        if "\0" in value:
            raise FieldError(field, "must not hold NUL")


def _text(field: str, value: object) -> str:
    if type(value) is not str:
        raise FieldError(field, "must be text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise FieldError(field, "is not valid UTF-8") from None
    return value


def _from_b64(value: object) -> bytes:
    if type(value) is dict and len(value) == 1:
        try:
            return b64decode(value["b64"], validate=True)
        except (KeyError, TypeError, ValueError):
            pass
    raise FieldError("data", 'must be {"b64": "…"} with standard base64')


def _check_json(field: str, value: object, depth: int = 0) -> None:
    """null, bool, 64-bit int, finite float, text, list, map with text keys: what both encodings carry alike."""
    if value is None or type(value) is bool:
        return
    if type(value) is str:
        _text(field, value)
    elif type(value) is int:
        if not -(2**63) <= value < 2**64:
            raise FieldError(field, "holds an integer that does not fit into 64 bits")
    elif type(value) is float:
        if not math.isfinite(value):
            raise FieldError(field, "holds a number that is not finite")
    elif depth == VALUE_DEPTH:
        raise FieldError(field, f"is nested deeper than {VALUE_DEPTH}")
    elif type(value) is list:
        for item in value:
            _check_json(field, item, depth + 1)
    elif type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise FieldError(field, "holds a map whose keys are not text")
            _text(field, key)
            _check_json(field, item, depth + 1)
    else:
        raise FieldError(field, f"holds {type(value).__name__}, which is no JSON value")


def _unknown(obj: _Obj, known: frozenset[str]) -> FieldError:
    first = next(key for key in obj if key not in known)
    return FieldError(_show(first), "unknown field")


def _show(name: object) -> str:
    """A name from outside, short and printable: it ends up in close reasons and logs."""
    text = name if type(name) is str else repr(name)
    if len(text) > 40:
        text = text[:40] + "…"
    return text if text.isprintable() else ascii(text)[1:-1]
