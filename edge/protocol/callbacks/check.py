"""Checks what a backend sent, field by field, and turns it into actions. Nothing is guessed and nothing is
ignored: an unknown action type, an unknown field or a value out of range is a `FieldError` that names the field
as the sender would look for it (``actions[1].channel``).

The `data` of a send or publish is binary in msgpack and ``{"b64": "…"}`` in JSON; `from_json` says which rule holds.
State values and timer data are JSON values in both, and a map ``{"b64": …}`` in there is just a map. Null stands for
an optional field left out.
"""

from __future__ import annotations

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
from edge.protocol.callbacks.check_xmpp import XMPP_PARSERS
from edge.protocol.callbacks.events import Headers
from edge.protocol.callbacks.fields import (
    COMMON,
    Obj,
    check_json,
    checked_name,
    checked_text,
    common,
    name_of,
    name_or_null,
    optional,
    shown,
    unknown_field,
)

OWN_IDS = "~^!"
"""First characters of the names that edges give to actions, also in letters to each other."""
REASON_BYTES = 123
"""RFC 6455 section 5.5: a control frame holds 125 bytes, two of which are the close code."""
AFTER_MS_MAX = 10 * 366 * 86_400_000
"""Ten years: far past any use, near enough that wall clock plus delay stays an exact JSON number."""
CLOSE_CODES = frozenset({1000, 1008, 1011, 1012, 1013})
"""What a backend may close with beside 3000–4999 (RFC 6455 section 7.4)."""

_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""RFC 9110 section 5.6.2."""
_VALUE = frozenset("\t") | {chr(c) for c in range(0x20, 0x7F)} | {chr(c) for c in range(0x80, 0x100)}
"""RFC 9110 section 5.5: visible characters, space, tab and obs-text; no CR, LF, NUL."""


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
            problem = "is missing" if kind is None else f"unknown action {shown(kind)}"
            raise FieldError(f"actions[{index}].type", problem)
        try:
            actions.append(parse(item, from_json))
        except FieldError as error:
            raise FieldError(f"actions[{index}].{error.field}", error.problem) from None
    return tuple(actions)


def parse_result(obj: Obj, *, from_json: bool) -> Result:
    """One entry of `results`: its actions and its change of state. Raises FieldError."""
    if not obj.keys() <= _RESULT_FIELDS:
        raise unknown_field(obj, _RESULT_FIELDS)
    actions = obj.get("actions")
    parsed = () if actions is None else parse_actions(actions, from_json=from_json)
    for index, action in enumerate(parsed):
        if action.id is not None and action.id[0] in OWN_IDS:
            problem = f"must not begin with {', '.join(OWN_IDS)}, as the edge's own do"
            raise FieldError(f"actions[{index}].id", problem)
    state = obj.get("state")
    return Result(parsed) if state is None else Result(parsed, *_state(state))


def _state(state: object) -> tuple[dict[str, Any], tuple[str, ...]]:
    if type(state) is not dict:
        raise FieldError("state", "must be a map")
    if not state.keys() <= _STATE_FIELDS:
        error = unknown_field(state, _STATE_FIELDS)
        raise FieldError(f"state.{error.field}", error.problem)
    values, unset = state.get("set"), state.get("unset")
    if values is None:
        values = {}
    elif type(values) is not dict:
        raise FieldError("state.set", "must be a map")
    for key, value in values.items():
        checked_name("state.set", key)
        check_json(f"state.set.{shown(key)}", value)
    if unset is None:
        return values, ()
    if type(unset) is not list:
        raise FieldError("state.unset", "must be a list")
    for index, key in enumerate(unset):
        checked_name(f"state.unset[{index}]", key)
        if key in values:
            raise FieldError(f"state.unset[{index}]", "is also in set")
    return values, tuple(unset)


# -- one parser per action -----------------------------------------------------------------------------------


def _parse_accept(obj: Obj, from_json: bool) -> Accept:
    session, key = common(obj, _ACCEPT_FIELDS)
    subprotocol = obj.get("subprotocol")
    if subprotocol is not None and not _TOKEN.issuperset(name_of(obj, "subprotocol")):
        raise FieldError("subprotocol", "must be a token (RFC 6455 section 4.1)")
    return Accept(subprotocol, _headers(obj), session, key)


def _parse_reject(obj: Obj, from_json: bool) -> Reject:
    session, key = common(obj, _REJECT_FIELDS)
    status = optional(obj, "status", 403)
    if type(status) is not int or not 400 <= status <= 599:
        raise FieldError("status", "must be an integer from 400 to 599")
    return Reject(status, _headers(obj), checked_text("text", optional(obj, "text", "")), session, key)


def _parse_send(obj: Obj, from_json: bool) -> Send:
    session, key = common(obj, _SEND_FIELDS)
    return Send(_payload(obj, from_json), session, key)


def _parse_close(obj: Obj, from_json: bool) -> CloseSession:
    session, key = common(obj, _CLOSE_FIELDS)
    code = optional(obj, "code", 1000)
    if type(code) is not int or not (code in CLOSE_CODES or 3000 <= code <= 4999):
        raise FieldError("code", "must be 1000, 1008, 1011, 1012, 1013 or from 3000 to 4999")
    reason = checked_text("reason", optional(obj, "reason", ""))
    if len(reason.encode()) > REASON_BYTES:
        raise FieldError("reason", f"must be at most {REASON_BYTES} bytes of UTF-8 (RFC 6455 section 5.5)")
    return CloseSession(code, reason, session, key)


def _parse_subscribe(obj: Obj, from_json: bool) -> Subscribe:
    session, key = common(obj, _SUBSCRIBE_FIELDS)
    since = obj.get("since")
    return Subscribe(name_of(obj, "channel"), None if since is None else _position(since), session, key)


def _parse_unsubscribe(obj: Obj, from_json: bool) -> Unsubscribe:
    session, key = common(obj, _CHANNEL_FIELDS)
    return Unsubscribe(name_of(obj, "channel"), session, key)


def _parse_publish(obj: Obj, from_json: bool) -> Publish:
    session, key = common(obj, _PUBLISH_FIELDS)
    except_self = optional(obj, "except_self", False)
    if type(except_self) is not bool:
        raise FieldError("except_self", "must be true or false")
    return Publish(name_of(obj, "channel"), _payload(obj, from_json), except_self, session, key)


def _parse_identify(obj: Obj, from_json: bool) -> Identify:
    session, key = common(obj, _IDENTIFY_FIELDS)
    return Identify(name_or_null(obj, "user"), session, key)


def _parse_timer(obj: Obj, from_json: bool) -> SetTimer:
    session, key = common(obj, _TIMER_FIELDS)
    after_ms = obj.get("after_ms")
    if type(after_ms) is not int or not 0 <= after_ms <= AFTER_MS_MAX:
        raise FieldError("after_ms", f"must be an integer from 0 to {AFTER_MS_MAX}")
    data = obj.get("data")
    check_json("data", data)
    return SetTimer(name_of(obj, "name"), after_ms, data, session, key)


def _parse_cancel_timer(obj: Obj, from_json: bool) -> CancelTimer:
    session, key = common(obj, _NAME_FIELDS)
    return CancelTimer(name_of(obj, "name"), session, key)


def _parse_pin(obj: Obj, from_json: bool) -> Pin:
    session, key = common(obj, _PIN_FIELDS)
    return Pin(name_or_null(obj, "release"), session, key)


_ACCEPT_FIELDS = COMMON | {"subprotocol", "headers"}
_REJECT_FIELDS = COMMON | {"status", "headers", "text"}
_SEND_FIELDS = COMMON | {"text", "data"}
_CLOSE_FIELDS = COMMON | {"code", "reason"}
_SUBSCRIBE_FIELDS = COMMON | {"channel", "since"}
_CHANNEL_FIELDS = COMMON | {"channel"}
_PUBLISH_FIELDS = COMMON | {"channel", "text", "data", "except_self"}
_IDENTIFY_FIELDS = COMMON | {"user"}
_TIMER_FIELDS = COMMON | {"name", "after_ms", "data"}
_NAME_FIELDS = COMMON | {"name"}
_PIN_FIELDS = COMMON | {"release"}
_RESULT_FIELDS = frozenset({"id", "actions", "state"})
_STATE_FIELDS = frozenset({"set", "unset"})

_PARSERS: Mapping[str, Callable[[Obj, bool], Action]] = MappingProxyType(
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
        **XMPP_PARSERS,
    }
)


# -- one check per kind of field -----------------------------------------------------------------------------


def _payload(obj: Obj, from_json: bool) -> str | bytes:
    text, data = obj.get("text"), obj.get("data")
    if data is None:
        if text is None:
            raise FieldError("text", "is missing (or data, for binary)")
        return checked_text("text", text)
    if text is not None:
        raise FieldError("data", "only one of text and data may be given")
    if from_json:
        return _from_b64(data)
    if type(data) is not bytes:
        raise FieldError("data", "must be binary")
    return data


def _headers(obj: Obj) -> Headers:
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
        error = unknown_field(since, frozenset({"offset", "epoch"}))
        raise FieldError(f"since.{error.field}", error.problem)
    offset = since.get("offset")
    if type(offset) is not int or not 0 <= offset < 2**63:
        raise FieldError("since.offset", "must be an integer from 0 on")
    epoch = since.get("epoch")
    checked_name("since.epoch", epoch)
    return offset, str(epoch)


def _from_b64(value: object) -> bytes:
    if type(value) is dict and len(value) == 1:
        try:
            return b64decode(value["b64"], validate=True)
        except (KeyError, TypeError, ValueError):
            pass
    raise FieldError("data", 'must be {"b64": "…"} with standard base64')
