"""Instructions: what a backend's answer tells the edge to do with it, from ``Grip-*`` headers or an
``application/grip-instruct`` body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from edge.protocol.callbacks.events import Headers

INSTRUCT_TYPE = "application/grip-instruct"


@dataclass(frozen=True, slots=True)
class HeldChannel:
    """A subscription of a hold: the name without the route's prefix, the id it continues from, its filters."""

    name: str
    prev_id: str | None = None
    filters: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """``Grip-Keep-Alive``. `idle`: after this long without anything sent; else at fixed intervals."""

    content: bytes
    timeout_s: float = 55.0
    idle: bool = True


@dataclass(frozen=True, slots=True)
class Link:
    """``Grip-Link``. `uri` as given, perhaps relative. `timeout_s` of a ``next`` link only."""

    uri: str
    timeout_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Shown:
    """The answer the client is to see, where it differs from the backend's own. `headers` and `body` replace those of
    the backend when they are not None (a ``grip-instruct`` body has them)."""

    status: int | None = None
    reason: str | None = None
    headers: Headers | None = None
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Instruct:
    """One answer's instructions. `hold` None: no hold, though there may be links and a status to show."""

    hold: Literal["response", "stream"] | None = None
    channels: Sequence[HeldChannel] = ()
    timeout_s: float = 55.0
    keep_alive: KeepAlive | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    shown: Shown = field(default_factory=Shown)
    exposed: Sequence[str] | None = None
    """``Grip-Expose-Headers``, lower case: only these are shown to the client; None: all."""
    next: Link | None = None
    gone: Link | None = None
