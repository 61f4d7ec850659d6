"""Control messages: text events that begin with ``c:`` from a backend that answered ``Sec-WebSocket-Extensions: grip``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edge.protocol.grip.items import FrameKind


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
