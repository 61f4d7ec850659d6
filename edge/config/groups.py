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
Protocol = Literal["callbacks", "grip"]

TEST_BACKEND = "test"
"""The URL of a target that the edge answers for itself, to try clients and proxies out."""


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
    """Close 1000 `idle` after this long without a message either way; cut HTTP requests on which nothing moves. 0:
    never."""
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
class TargetSettings:
    """One backend of a GRIP route. The targets of a route are tried in order, the next when one cannot be reached."""

    url: str
    """http:// or https://; a path in it is put before that of the request. ``test``: the edge answers for itself."""
    over_http: bool = True
    """WebSockets become HTTP requests. Without it WebSocket handshakes are refused: the edge does not speak WebSocket
    to backends."""
    one_event: bool = False
    """At most one event in each WebSocket-over-HTTP request."""
    host: str = ""
    """Host header to send; empty: the client's, as Pushpin does."""
    insecure: bool = False
    """Do not verify the backend's certificate."""
    trust_connect_host: bool = False
    """Verify the certificate against the host of the URL, not the Host header that is sent."""
    client_cert: str = ""
    """Certificate (PEM file) to show to the backend, and its key."""
    client_key: str = ""
    subscribe: Sequence[str] = ()
    """Channels that every WebSocket and stream hold of this target is subscribed to without being told."""


@dataclass(frozen=True, slots=True)
class GripRouteSettings:
    """What only routes with ``protocol = "grip"`` have. Defaults are Pushpin's."""

    sig_key: Secret = Secret("changeme")
    """Signs Grip-Sig: text (HS256), ``base64:…`` of bytes, or a PEM private key (ES256, RS256). Not given: that of
    [grip]."""
    sig_iss: str = "pushpin"
    """The issuer that Grip-Sig names. Not given: that of [grip]."""
    prefix: str = ""
    """Put before every channel name that backends of this route give."""
    debug: bool = False
    """Tell clients why an instruction of the backend was not carried out."""
    auto_pong: bool = False
    """The edge answers pings. Else they are the backend's to answer, as behind Pushpin."""
    retry_unanswered: bool = True
    """Send events again when the connection broke before any answer: at least once. False: the client is closed."""
    path_remove: int = 0
    """Characters cut from the front of the request's path."""
    path_replace: str = ""
    """Put in the place of the route's path at the front of the request's."""
    host: str = ""
    """Host header to send to every target; a target's own comes first."""
    request_headers: Sequence[str] = ()
    """``Name: value`` to set on requests to the backend; ``Name:`` removes it."""
    buffer_bytes: int = 200_000
    """Bytes of a client's messages that wait for its backend; past it the edge stops reading from the client. Also
    bytes not yet taken by the client past which its backend is not asked for more."""
    answer_bytes: int = 1_000_000
    """Largest WebSocket-over-HTTP answer."""
    hold_bytes: int = 100_000
    """Largest body of an answer that is held, or that instructs; and of the request that led to it."""
    silence_s: float = 600.0
    """A proxied request whose backend says nothing for this long is given up: 504, or a body cut off. Long, because
    backends may hold and stream answers themselves."""
    backend_connections: int = 1_000
    """Connections to one target, per edge process; requests past it wait."""
    message_rate: float = 0
    """Deliveries a second on this route, per edge process; 0: no limit. (Pushpin: 2,500 in all.)"""
    message_queue: int = 25_000
    """Deliveries that may wait for `message_rate`; past it they are dropped and logged."""
    message_block_bytes: int = 0
    """A delivery counts once for each begun block of this size; 0: once."""


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
    protocol: Protocol = "callbacks"
    """``callbacks``: Holdfast's own; ``grip``: Pushpin's, for backends written for it."""
    scheme: Literal["", "http", "ws"] = ""
    """Take only WebSocket handshakes (``ws``), or only other requests (``http``); empty: both."""
    tls: Literal["", "yes", "no"] = ""
    """Take only requests that came over TLS, or only those that did not."""
    whole_segments: bool = True
    """`path` ends on a segment's border: /chat takes /chat/room, not /chatty. Pushpin's path_beg does not."""
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
    grip: GripRouteSettings = field(default_factory=GripRouteSettings)
    targets: Sequence[TargetSettings] = ()
    """Of a GRIP route, when one backend URL does not say enough. Empty: `backend` alone."""
    id: str = ""
    """What logs and metrics call this route; empty: its host, path and what else it asks of requests."""

    @property
    def name(self) -> str:
        """What logs and metrics call this route."""
        if self.id:
            return self.id
        asked = [self.scheme, {"yes": "tls", "no": "no-tls", "": ""}[self.tls]]
        return " ".join([f"{self.host}{self.path}", *filter(None, asked)])

    @property
    def claim(self) -> tuple[str, str, str, str]:
        """Which requests this route takes: no two routes may claim the same, and a reload finds it again by this."""
        return self.host, self.path, self.scheme, self.tls


GRIP_DEFAULTS: Mapping[str, Mapping[str, float]] = {
    "limits": {"message_bytes": 200_000, "frame_bytes": 200_000, "subscriptions": 20},
    "timeouts": {"idle_s": 1_800, "ping_s": 0, "request_s": 600},
}
"""What is different where a route of protocol ``grip`` says nothing: Pushpin's limits. Pings are its backends' to
send."""


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """History for the channels whose name starts with `prefix`; the longest prefix wins."""

    prefix: str
    history_count: int = 0
    """Publications kept; 0: none."""
    history_age_s: float = 3_600.0
    """And no older than this."""


@dataclass(frozen=True, slots=True)
class GripSettings:
    """What all GRIP routes have in common. Defaults are Pushpin's."""

    sig_key: Secret = Secret("changeme")
    """Of routes that have no `sig_key` of their own."""
    sig_iss: str = "pushpin"
    """Of routes that have no `sig_iss` of their own."""
    message_wait_s: float = 5.0
    """How long an item whose prev-id is not the newest id waits for the one between."""
    id_cache_s: float = 60.0
    """How long an item's id keeps repeats of it away."""
    subscription_linger_s: float = 60.0
    """How long a channel stays subscribed after its last held response, so that its newest id stays known."""
    update_on_first_subscription: bool = True
    """Ask the backend again a second after the first subscription of this process to a channel, in case an item was
    published between the backend's answer and the subscription. Holds with a prev-id never need it."""
    publish_bytes: int = 1_000_000
    """Largest body of a request to /publish on the control port."""
    zmq_pull: str = ""
    """ZeroMQ PULL socket for items (tcp://127.0.0.1:5560 is Pushpin's); empty: none."""
    zmq_sub: str = ""
    """ZeroMQ SUB socket for items (tcp://127.0.0.1:5562 is Pushpin's); empty: none."""


@dataclass(frozen=True, slots=True)
class PublisherSettings:
    """Who may publish on the control port: a JWT signed with `key` whose issuer is `name`, or Basic credentials."""

    name: str
    """The issuer of the JWT, or the user of Basic credentials."""
    key: Secret
    """What the JWT is signed with: text or ``base64:…`` (HS256), or the PEM public key (ES256, RS256); or the
    password."""


@dataclass(frozen=True, slots=True)
class XmppSettings:
    """One XMPP server: where links to addresses of its domain go, and how they are kept."""

    domain: str
    """Of the addresses; also what the server's certificate must be for, whatever `host` is."""
    host: str = ""
    """Name or IP address. Empty: as DNS says (SRV records of xmpp-client or xmpps-client), else the domain itself; for
    a component the domain itself."""
    port: int = 0
    """0: that of the SRV record, or the usual: 5222, with direct TLS 5223, of components 5347. Any other: SRV records
    are not asked for."""
    tls: Literal["starttls", "direct", "none"] = "starttls"
    """``direct``: from the first byte (XEP-0368). ``none`` is for a server on this machine, and what components have
    when nothing is said: they know no STARTTLS."""
    plaintext: bool = False
    """``tls = "none"`` may cross a network, which must be trusted."""
    plain_without_tls: bool = False
    """Passwords and tokens may be sent as they are without TLS. False: only what proves a password (SCRAM)."""
    ca_file: str = ""
    """PEM file of the authorities to trust; empty: those of the system."""
    client_cert: str = ""
    """Certificate (PEM file) to log in with by SASL EXTERNAL, and its key."""
    client_key: str = ""
    logins_per_s: float = 200.0
    """Logins and resumptions a second, per edge process; 0: no limit. A login costs servers 2 to 3 ms of CPU: 200 keeps
    half of one core free for those who are there."""
    component_secret: Secret | None = None
    """Makes it the connection of a component (XEP-0114), one for all addresses of the domain."""
    resume_s: int = 600
    """How long the server is asked to keep a stream whose connection is lost. Servers have their own maximum (Prosody
    600, ejabberd 300)."""
    negotiation_s: float = 30.0
    """From connecting to the end of the login. A server that restarts with thousands of users takes seconds."""
    silence_s: float = 120.0
    """After this long without a byte the server is asked whether it is there: under the five minutes after which NATs
    forget connections."""
    answer_s: float = 30.0
    """And after this long without an answer the connection is lost."""
    stanza_bytes: int = 262_144
    """Largest stanza from the server, as packaged servers take it from users. More ends the stream."""
    iq_reply_s: float = 20.0
    """How long a request to a link waits for the backend's answer. Then the edge answers: service-unavailable."""
    archive_after_resume: bool = False
    """Look into the archive (XEP-0313) after each resumption, too, for what the server lost while it handed the session
    over, as ejabberd does now and then. Costs the server a query each."""

    @property
    def is_component(self) -> bool:
        return self.component_secret is not None

    @property
    def usual_port(self) -> int:
        """Where it listens when neither `port` nor DNS says."""
        if self.is_component:
            return 5347
        return 5223 if self.tls == "direct" else 5222


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
    link_keys: Sequence[Secret] = ()
    """Seal the credentials of XMPP links at rest, newest first: base64 of 32 bytes, or a passphrase. Empty, with the
    embedded Redis: a file ``link.key`` made in data_dir."""
    max_connections: int = 100_000
    """Client connections per process. More: 503."""
    handshakes_per_s: float = 0
    """New handshakes a second per process, with a second's worth as burst; 0: no limit. More: 503 with Retry-After."""
    drain_delay_s: float = 3.0
    """After readiness fails and before the listener closes: time for load balancers to notice."""
    drain_window_s: float = 10.0
    """Closing clients is spread over this long, so that their reconnects are."""
    lease_s: float = 5.0
    """An edge that has not renewed its lease for this long is dead to the others."""
    store_wait_s: float = 5.0
    """How long a command waits for Redis before it is refused."""
    store_queue: int = 10_000
    """Commands that may wait for Redis; past it they are refused at once."""
    trusted_proxies: Sequence[str] = ()
    """Networks whose X-Forwarded-For and X-Forwarded-Proto are believed. What anybody else says in X-Forwarded-*,
    Forwarded or X-Real-IP is not passed on to backends."""
    life_entries: int = 20_000
    """Rare facts of sessions' lives kept per process, for `holdfast why`, the oldest giving way; about 5 MB when full.
    0: none."""
    grip_routes: str = ""
    """A routes file of Pushpin's. Its routes come after those of [[route]]; it is read again when it changes."""
    release_webhook: str = ""
    """URL that is told of releases: added, promoted, draining and how many sessions are left, empty, canaries."""
    release_webhook_secret: Secret | None = None
    """Signs these messages as Standard Webhooks say: ``whsec_`` and base64, or any text."""
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
    grip: GripSettings = field(default_factory=GripSettings)
    publishers: Sequence[PublisherSettings] = ()
    xmpp: Sequence[XmppSettings] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    """Dotted key → where its value came from, for `holdfast check --show`."""
    warnings: Sequence[str] = ()
    """What was accepted but looks wrong: one sentence each, without secrets."""
