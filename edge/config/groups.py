"""Settings: small frozen groups, each field with its unit, its meaning and the reason for its default.

This module owns the shapes and the rules between values. Reading files, the environment and flags into them, and
saying exactly what is wrong, is `edge.config.loader`'s job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Encoding = Literal["auto", "json", "msgpack"]
Policy = Literal["follow", "pin"]


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret value that does not show itself in logs, reprs or errors."""

    value: str

    def __repr__(self) -> str:
        return "Secret(•••)"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What one client may do. 0 turns a limit off where that makes sense."""

    message_bytes: int = 1_048_576
    """Largest whole message, after joining fragments and decompressing. More: close 1009."""
    frame_bytes: int = 1_048_576
    """Largest single frame as sent. More: close 1009."""
    messages_per_s: float = 0
    """Messages a second per connection, sustained; twice that as a burst. More: close 1008 `message rate`."""
    bytes_per_s: float = 0
    """Payload bytes a second per connection, sustained; twice that as a burst. More: close 1008 `byte rate`."""
    outbox_bytes: int = 1_048_576
    """Bytes written but not yet taken by the client. More: close 1008 `slow consumer`."""
    queue_events: int = 64
    """Events waiting for the backend per session; past it the edge stops reading from that client."""
    queue_bytes: int = 1_048_576
    """The same in payload bytes."""
    connections_per_ip: int = 0
    """Connections of one client address on this route, per edge process. More: 429."""
    subscriptions: int = 1_000
    """Channels one session may be subscribed to. More: close 1008 `too many subscriptions`."""
    headers: int = 100
    """Header fields in a handshake. More: 431."""
    header_bytes: int = 16_384
    """All header names and values of a handshake together. More: 431."""


@dataclass(frozen=True, slots=True)
class TimeoutSettings:
    """Deadlines, in seconds."""

    handshake_s: float = 35.0
    """From the handshake's first byte to its answer, the backend's time included. More: 504. Longer than
    retry_window_s, so that the 503 with Retry-After can be given first."""
    idle_s: float = 0.0
    """Close 1000 `idle` after this long without a message either way. 0: never."""
    ping_s: float = 25.0
    """Ping a client this long after its last sign of life: under the 30–60 s of common load balancers and NATs."""
    pong_s: float = 20.0
    """Close a client that has given no sign of life this long after a ping."""
    close_s: float = 5.0
    """Wait for the other half of a closing handshake, and for answers still owed to a client that says goodbye."""
    request_s: float = 10.0
    """From sending a request to a backend to its whole answer."""
    connect_s: float = 3.0
    """TCP (and TLS) connect to a backend."""
    retry_window_s: float = 30.0
    """How long events wait for a backend that does not answer, before the client is told (close 1013; open: 503)."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How requests to one release are spent, per edge process."""

    slots: int = 16
    """Requests in flight at once. While all are busy, events gather into batches."""
    batch_events: int = 64
    """Events in one request at most; 1 turns batching off."""
    batch_bytes: int = 1_048_576
    """Payload bytes in one request, about; a single larger event still goes, alone."""


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """One route: which handshakes it takes, and the backend behind it."""

    app: str = "default"
    host: str = "*"
    """Exact, ``*.suffix`` or ``*``; exact beats suffix beats ``*``, then the longest path prefix wins."""
    path: str = "/"
    backend: str = ""
    """URL of the first release, http:// or https://."""
    callback_path: str = ""
    """Appended to the release's URL."""
    release: str = "default"
    """The SHA (or any name) of the release at `backend`."""
    release_urls: Sequence[str] = ()
    """Where releases added through the control API may be: URL prefixes, or templates with ``{sha}``; empty: none
    can be added."""
    protocol: Literal["callbacks"] = "callbacks"
    policy: Policy = "follow"
    encoding: Encoding = "auto"
    secrets: Sequence[Secret] = ()
    """Signing secrets, newest first; each signs (two while rotating)."""
    origins: Sequence[str] = ()
    """Allowed Origin headers, ``*`` wildcards in the host allowed; empty: any origin, and none."""
    compression: bool = False
    """Offer permessage-deflate, without context takeover."""
    tracing: bool = False
    """Send a W3C `traceparent` with each request: the client's trace for a handshake, else a new one."""
    limits: LimitSettings = field(default_factory=LimitSettings)
    timeouts: TimeoutSettings = field(default_factory=TimeoutSettings)
    pool: PoolSettings = field(default_factory=PoolSettings)

    @property
    def name(self) -> str:
        """What logs and metrics call this route, and how a reload finds it again."""
        return f"{self.host}{self.path}"


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """History for the channels whose name starts with `prefix`; the longest prefix wins."""

    prefix: str
    history_count: int = 0
    """Publications kept; 0: none."""
    history_age_s: float = 3_600.0
    """And no older than this."""


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """The process as a whole."""

    listen: Sequence[str] = ("127.0.0.1:7999",)
    control: str = "127.0.0.1:5561"
    redis: str = ""
    """redis://, rediss://, unix://, redis+sentinel://h1,h2/service/db, redis+cluster://h1,h2; empty: embedded."""
    data_dir: str = ".data"
    workers: int = 1
    control_tokens: Sequence[Secret] = ()
    max_connections: int = 100_000
    """Client connections per process. More: 503."""
    handshakes_per_s: float = 0
    """New handshakes a second per process, with a second's worth as burst; 0: no limit. More: 503 with Retry-After."""
    drain_delay_s: float = 3.0
    """After readiness fails and before the listener closes: time for load balancers to notice."""
    drain_window_s: float = 10.0
    """Closing clients is spread over this long, so that their reconnects are."""
    lease_s: float = 10.0
    """An edge that has not renewed its lease for this long is dead to the others."""
    store_wait_s: float = 5.0
    """How long a command waits for Redis before it is refused."""
    store_queue: int = 10_000
    """Commands that may wait for Redis; past it they are refused at once."""
    trusted_proxies: Sequence[str] = ()
    """Networks whose X-Forwarded-For and X-Forwarded-Proto are believed. What anybody else says in X-Forwarded-*,
    Forwarded or X-Real-IP is not passed on to backends."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    tls_cert: str = ""
    tls_key: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything, checked."""

    edge: EdgeSettings = field(default_factory=EdgeSettings)
    routes: Sequence[RouteSettings] = ()
    channels: Sequence[ChannelSettings] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    """Dotted key → where its value came from, for `holdfast check --show`."""
    warnings: Sequence[str] = ()
    """What was accepted but looks wrong: one sentence each, without secrets."""
