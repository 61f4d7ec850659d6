"""Actions: orders for the edge, made in the form that goes on the wire, and checked while they are made.

Each function returns one action as a typed dict, or raises `ActionError` naming the argument: the edge would refuse
the whole result, close the session and could only say so in its log. `session` aims an action at another session
(None: the event's own), `id` is an idempotency key, remembered by the edge for 24 h.

Orders for XMPP links (``xmpp_…``) are made in `backend_sdk.xmpp_actions` and stand here as well.

Bytes stay bytes here; `backend_sdk.wire` writes them as ``{"b64": …}`` where the encoding is JSON.

Source: edge/protocol/callbacks/SPEC.md, "The answer".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Required, TypedDict

from backend_sdk.arguments import Common, checked_name, checked_text, set_common
from backend_sdk.errors import ActionError, Headers, StateError
from backend_sdk.values import check_value, is_text
from backend_sdk.xmpp_actions import LinkAction
from backend_sdk.xmpp_actions import xmpp_attach as xmpp_attach
from backend_sdk.xmpp_actions import xmpp_connect as xmpp_connect
from backend_sdk.xmpp_actions import xmpp_credentials as xmpp_credentials
from backend_sdk.xmpp_actions import xmpp_detach as xmpp_detach
from backend_sdk.xmpp_actions import xmpp_disconnect as xmpp_disconnect
from backend_sdk.xmpp_actions import xmpp_get as xmpp_get
from backend_sdk.xmpp_actions import xmpp_iq as xmpp_iq
from backend_sdk.xmpp_actions import xmpp_iq_reply as xmpp_iq_reply
from backend_sdk.xmpp_actions import xmpp_presence as xmpp_presence
from backend_sdk.xmpp_actions import xmpp_send as xmpp_send
from backend_sdk.xmpp_actions import xmpp_send_xml as xmpp_send_xml
from backend_sdk.xmpp_actions import xmpp_suspend as xmpp_suspend

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 §5.6.2
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 §5.5, obs-text included
_CLOSE_CODES = frozenset({1000, 1008, 1011, 1012, 1013})
_REASON_BYTES = 123  # RFC 6455 §5.5: a control frame holds 125 bytes, two of them the code
_LONGEST_TIMER_MS = 10 * 366 * 86_400_000


class Accept(Common, total=False):
    type: Required[Literal["accept"]]
    subprotocol: str
    headers: list[list[str]]


class Reject(Common, total=False):
    type: Required[Literal["reject"]]
    status: int
    text: str
    headers: list[list[str]]


class Send(Common, total=False):
    type: Required[Literal["send"]]
    text: str
    data: bytes


class CloseSession(Common, total=False):
    type: Required[Literal["close"]]
    code: int
    reason: str


class Since(TypedDict):
    offset: int
    epoch: str


class Subscribe(Common, total=False):
    type: Required[Literal["subscribe"]]
    channel: Required[str]
    since: Since


class Unsubscribe(Common, total=False):
    type: Required[Literal["unsubscribe"]]
    channel: Required[str]


class Publish(Common, total=False):
    type: Required[Literal["publish"]]
    channel: Required[str]
    text: str
    data: bytes
    except_self: bool


class Identify(Common, total=False):
    type: Required[Literal["identify"]]
    user: Required[str | None]


class SetTimer(Common, total=False):
    type: Required[Literal["timer"]]
    name: Required[str]
    after_ms: Required[int]
    data: Any


class CancelTimer(Common, total=False):
    type: Required[Literal["cancel_timer"]]
    name: Required[str]


class Pin(Common, total=False):
    type: Required[Literal["pin"]]
    release: Required[str | None]


Action = (
    Accept | Reject | Send | CloseSession | Subscribe | Unsubscribe | Publish | Identify | SetTimer | CancelTimer | Pin
    | LinkAction
)  # fmt: skip


def accept(
    subprotocol: str | None = None, headers: Headers = (), *, session: str | None = None, id: str | None = None
) -> Accept:
    """Complete the handshake. `subprotocol` must be one the client offered; `headers` go into the answer."""
    action: Accept = {"type": "accept"}
    if subprotocol is not None:
        if not isinstance(subprotocol, str) or not _TOKEN.fullmatch(subprotocol):
            raise ActionError("subprotocol", f"must be a token (RFC 9110 §5.6.2), not {subprotocol!r}")
        action["subprotocol"] = subprotocol
    if headers:
        action["headers"] = _headers(headers)
    set_common(action, session, id)
    return action


def reject(
    status: int = 403,
    text: str = "",
    headers: Headers = (),
    *,
    session: str | None = None,
    id: str | None = None,
) -> Reject:
    """Refuse the handshake with an HTTP answer: `status` 400–599, `text` as its body."""
    if type(status) is not int or not 400 <= status <= 599:
        raise ActionError("status", f"must be 400–599, not {status!r}")
    action: Reject = {"type": "reject", "status": status}
    if text != "":
        action["text"] = checked_text("text", text)
    if headers:
        action["headers"] = _headers(headers)
    set_common(action, session, id)
    return action


def send(payload: str | bytes, *, session: str | None = None, id: str | None = None) -> Send:
    """Send one message to the client: str as text, bytes as binary."""
    action: Send
    if type(payload) is str and (payload.isascii() or is_text(payload)):
        action = {"type": "send", "text": payload}
    elif type(payload) is bytes:
        action = {"type": "send", "data": payload}
    else:
        action = {"type": "send", **_payload(payload)}  # type: ignore[typeddict-item]
    if session is not None or id is not None:
        set_common(action, session, id)
    return action


def close(code: int = 1000, reason: str = "", *, session: str | None = None, id: str | None = None) -> CloseSession:
    """Close the client's connection behind everything sent before. `code`: 1000, 1008, 1011–1013, 3000–4999;
    `reason`: at most 123 bytes of UTF-8."""
    if type(code) is not int or not (code in _CLOSE_CODES or 3000 <= code <= 4999):
        raise ActionError("code", f"must be 1000, 1008, 1011–1013 or 3000–4999, not {code!r}")
    action: CloseSession = {"type": "close", "code": code}
    if reason != "":
        if len(checked_text("reason", reason).encode()) > _REASON_BYTES:
            raise ActionError("reason", f"must be at most {_REASON_BYTES} bytes of UTF-8")
        action["reason"] = reason
    set_common(action, session, id)
    return action


def subscribe(
    channel: str,
    since: tuple[int, str] | None = None,
    *,
    session: str | None = None,
    id: str | None = None,
) -> Subscribe:
    """Subscribe to a channel. `since` (offset, epoch), say a `Position`: first what was missed, then live, with no
    gap and no repeat; where that is impossible a `gap` event follows."""
    action: Subscribe = {"type": "subscribe", "channel": checked_name("channel", channel)}
    if since is not None:
        action["since"] = _since(since)
    set_common(action, session, id)
    return action


def unsubscribe(channel: str, *, session: str | None = None, id: str | None = None) -> Unsubscribe:
    """Leave a channel; harmless when not subscribed."""
    action: Unsubscribe = {"type": "unsubscribe", "channel": checked_name("channel", channel)}
    set_common(action, session, id)
    return action


def publish(
    channel: str,
    payload: str | bytes,
    *,
    id: str | None = None,
    except_self: bool = False,
    session: str | None = None,
) -> Publish:
    """Publish to a channel's subscribers, on every edge. `id` de-duplicates per channel; with `except_self` the acting
    session does not get it."""
    action: Publish = {"type": "publish", "channel": checked_name("channel", channel), **_payload(payload)}  # type: ignore[typeddict-item]
    if type(except_self) is not bool:
        raise ActionError("except_self", f"must be True or False, not {except_self!r}")
    if except_self:
        action["except_self"] = True
    set_common(action, session, id)
    return action


def identify(user: str | None, *, session: str | None = None, id: str | None = None) -> Identify:
    """Say who the session's user is; None takes it back."""
    action: Identify = {"type": "identify", "user": None if user is None else checked_name("user", user)}
    set_common(action, session, id)
    return action


def timer(name: str, after_ms: int, data: Any = None, *, session: str | None = None, id: str | None = None) -> SetTimer:
    """A durable timer: a `timer` event in `after_ms` milliseconds. Setting a name again replaces it. `data` is a JSON
    value that comes back with the event."""
    if type(after_ms) is not int or not 0 <= after_ms <= _LONGEST_TIMER_MS:
        raise ActionError("after_ms", f"must be a whole number of milliseconds, 0 to ten years, not {after_ms!r}")
    action: SetTimer = {"type": "timer", "name": checked_name("name", name), "after_ms": after_ms}
    if data is not None:
        try:
            check_value(data, "data")
        except StateError as error:
            raise ActionError(error.path, error.problem) from None
        action["data"] = data
    set_common(action, session, id)
    return action


def cancel_timer(name: str, *, session: str | None = None, id: str | None = None) -> CancelTimer:
    """Forget a timer; harmless when there is none."""
    action: CancelTimer = {"type": "cancel_timer", "name": checked_name("name", name)}
    set_common(action, session, id)
    return action


def pin(release: str | None, *, session: str | None = None, id: str | None = None) -> Pin:
    """Keep the session on a release (a SHA); None lets it follow its route's policy again."""
    action: Pin = {"type": "pin", "release": None if release is None else checked_name("release", release)}
    set_common(action, session, id)
    return action


def _payload(payload: str | bytes) -> dict[str, str | bytes]:
    if isinstance(payload, str):
        return {"text": str(checked_text("payload", payload))}
    if isinstance(payload, bytes | bytearray | memoryview):
        return {"data": bytes(payload)}
    raise ActionError("payload", f"must be str or bytes, not {type(payload).__name__} (see send_json)")


def _since(since: tuple[int, str]) -> Since:
    if not isinstance(since, tuple) or len(since) != 2:
        raise ActionError("since", f"must be (offset, epoch), not {since!r}")
    offset, epoch = since
    if type(offset) is not int or not 0 <= offset < 2**63:
        raise ActionError("since.offset", f"must be a whole number from 0, not {offset!r}")
    return {"offset": offset, "epoch": checked_name("since.epoch", epoch)}


def _headers(headers: Headers) -> list[list[str]]:
    pairs: Iterable[Sequence[str]] = headers.items() if isinstance(headers, Mapping) else headers
    checked = []
    for index, pair in enumerate(pairs):
        if isinstance(pair, str) or len(pair) != 2:
            raise ActionError(f"headers[{index}]", f"must be (name, value), not {pair!r}")
        name, value = pair
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise ActionError(f"headers[{index}]", f"{name!r} is no header name")
        if not isinstance(value, str) or not _FIELD_VALUE.fullmatch(value):
            raise ActionError(f"headers[{index}]", f"the value of {name} must be text on one line (Latin-1)")
        checked.append([name, value])
    return checked
