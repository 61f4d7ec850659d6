"""Control messages: text events that begin with ``c:``, from a backend that answered OPEN with
``Sec-WebSocket-Extensions: grip``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edge.protocol.grip.fields import Fields, parse_json
from edge.protocol.grip.items import FrameKind, frame_content


@dataclass(frozen=True, slots=True)
class Subscribe:
    channel: str
    filters: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    channel: str


@dataclass(frozen=True, slots=True)
class Detach:
    """The backend wants to hear no more of this connection; publications go on."""


@dataclass(frozen=True, slots=True)
class SetMeta:
    """`value` None: forget it."""

    name: str
    value: str | None


@dataclass(frozen=True, slots=True)
class SocketKeepAlive:
    """Send this when the connection is idle (or at intervals). `content` None: no longer."""

    content: str | bytes | None
    kind: FrameKind = "text"
    timeout_s: float = 55.0
    mode: Literal["idle", "interval"] = "idle"


@dataclass(frozen=True, slots=True)
class SendDelayed:
    """Send this after `timeout_s`, or when flushed."""

    content: str | bytes
    kind: FrameKind = "text"
    timeout_s: float = 1.0


@dataclass(frozen=True, slots=True)
class FlushDelayed:
    """Send now what was to be sent later."""


Control = Subscribe | Unsubscribe | Detach | SetMeta | SocketKeepAlive | SendDelayed | FlushDelayed

PREFIX = b"c:"


def parse_control(text: bytes) -> Control | None:
    """The order in `text`, the content of a TEXT event that began with ``c:`` (which may have been taken off). None: a
    type we do not know, or ``session``, which needs a service that was never part of Pushpin.

    Raises WireError; Pushpin ignores what is malformed without a word, so callers report it and go on. Null stands for
    a field left out. An unknown `mode` of a keep-alive is idle, as in Pushpin.
    """
    fields = Fields(parse_json(text.removeprefix(PREFIX)))
    match fields.needed("type"):
        case "subscribe":
            return Subscribe(fields.needed("channel"), fields.names("filters") or ())
        case "unsubscribe":
            return Unsubscribe(fields.needed("channel"))
        case "detach":
            return Detach()
        case "set-meta":
            return SetMeta(fields.needed("name"), fields.text("value"))
        case "keep-alive":
            content, kind, timeout_s = _message(fields, 55.0)
            mode: Literal["idle", "interval"] = "interval" if fields.text("mode") == "interval" else "idle"
            return SocketKeepAlive(content, kind, timeout_s, mode)
        case "send-delayed":
            content, kind, timeout_s = _message(fields, 1.0)
            if content is None:
                raise fields.wrong("content", "is missing (or content-bin)")
            return SendDelayed(content, kind, timeout_s)
        case "flush-delayed":
            return FlushDelayed()
    return None


def _message(fields: Fields, timeout_s: float) -> tuple[str | bytes | None, FrameKind, float]:
    """A frame to send later: text unless `message-type` says otherwise, also when it is given as base64."""
    kind: FrameKind = fields.one_of("message-type", ("text", "binary", "ping", "pong")) or "text"  # type: ignore[assignment]
    content = fields.content("content")
    if content is not None:
        name = "content-bin" if fields.has("content-bin") else "content"
        content = frame_content(fields, name, content, kind)
        timeout_s = timeout_s if (said := fields.number("timeout")) is None else said
    return content, kind, timeout_s
