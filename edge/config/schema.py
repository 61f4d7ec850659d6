"""Every setting by key: its kind (what is accepted), its environment variable and its flag.

The groups in `edge.config.groups` own names, defaults and meanings; the tables here own what is accepted. A
test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge.config.grip_kinds import HEADER_LINE, HOST_HEADER, TARGET_URL, ZMQ_ADDRESS, PublisherKey, SigningKey
from edge.config.groups import (
    ChannelSettings,
    EdgeSettings,
    GripRouteSettings,
    GripSettings,
    LimitSettings,
    PoolSettings,
    PublisherSettings,
    RouteSettings,
    TargetSettings,
    TimeoutSettings,
    XmppSettings,
)
from edge.config.kinds import (
    ADDRESS,
    ANY_TEXT,
    FILE,
    FOLDER,
    NETWORK,
    NOT_EMPTY,
    ROUTE_ID,
    Flag,
    Kind,
    ListOf,
    Number,
    OneOf,
    SecretValue,
    name,
)
from edge.config.urls import BACKEND, CALLBACK_PATH, ORIGIN, RELEASE_URL, ROUTE_HOST, ROUTE_PATH, WEBHOOK, RedisUrl
from edge.config.xmpp_kinds import XMPP_DOMAIN, XMPP_HOST, LinkKey

Table = Mapping[str, Kind]

_DAY = 86_400
_GIB = 1_073_741_824
_MANY = 1_000_000_000


def _bytes() -> Number:
    return Number(1, _GIB, "bytes", whole=True)


def _count(low: int = 1, high: int = _MANY, unit: str = "", zero: str = "") -> Number:
    return Number(low, high, unit, whole=True, zero=zero)


def _seconds(zero: str = "", high: float = _DAY) -> Number:
    return Number(0, high, "seconds", zero=zero, above_low=not zero)


EDGE: Table = {
    "listen": ListOf(ADDRESS, least=1),
    "control": ADDRESS,
    "redis": RedisUrl(),
    "data_dir": FOLDER,
    "workers": _count(1, 256, "processes"),
    "control_tokens": ListOf(SecretValue()),
    "link_keys": ListOf(LinkKey()),
    "max_connections": _count(1, unit="connections"),
    "handshakes_per_s": Number(0, _MANY, "handshakes a second", zero="no limit"),
    "drain_delay_s": _seconds("at once"),
    "drain_window_s": _seconds("all at once"),
    "lease_s": Number(1, 3_600, "seconds"),
    "store_wait_s": _seconds(high=3_600),
    "store_queue": _count(unit="commands"),
    "trusted_proxies": ListOf(NETWORK),
    "life_entries": _count(0, unit="facts", zero="none"),
    "release_webhook": WEBHOOK,
    "release_webhook_secret": SecretValue(),
    "log_level": OneOf(("debug", "info", "warning", "error")),
    "log_format": OneOf(("text", "json")),
    "grip_routes": FILE,
    "tls_cert": FILE,
    "tls_key": FILE,
}
LIMITS: Table = {
    "message_bytes": _bytes(),
    "frame_bytes": _bytes(),
    "messages_per_s": Number(0, _MANY, "messages a second", zero="no limit"),
    "bytes_per_s": Number(0, 1_000 * _MANY, "bytes a second", zero="no limit"),
    "outbox_bytes": _bytes(),
    "queue_events": _count(unit="events"),
    "queue_bytes": _bytes(),
    "connections_per_ip": _count(0, unit="connections", zero="no limit"),
    "subscriptions": _count(unit="channels"),
    "headers": _count(high=100_000, unit="header fields"),
    "header_bytes": _bytes(),
}
TIMEOUTS: Table = {
    "handshake_s": _seconds(),
    "idle_s": _seconds("never"),
    "ping_s": _seconds("never"),
    "pong_s": _seconds(),
    "close_s": _seconds(),
    "request_s": _seconds(),
    "connect_s": _seconds(),
    "retry_window_s": _seconds(),
}
POOL: Table = {
    "slots": _count(high=10_000, unit="requests in flight"),
    "batch_events": _count(high=100_000, unit="events"),
    "batch_bytes": _bytes(),
}
ROUTE: Table = {
    "app": name(64),
    "host": ROUTE_HOST,
    "path": ROUTE_PATH,
    "backend": BACKEND,
    "callback_path": CALLBACK_PATH,
    "release": name(128),
    "release_urls": ListOf(RELEASE_URL),
    "protocol": OneOf(("callbacks", "grip")),
    "scheme": OneOf(("", "http", "ws")),
    "tls": OneOf(("", "yes", "no")),
    "whole_segments": Flag(),
    "id": ROUTE_ID,
    "policy": OneOf(("follow", "pin")),
    "encoding": OneOf(("auto", "json", "msgpack")),
    "secrets": ListOf(SecretValue()),
    "origins": ListOf(ORIGIN),
    "compression": Flag(),
    "tracing": Flag(),
}
GRIP_ROUTE: Table = {
    "sig_key": SigningKey(),
    "sig_iss": NOT_EMPTY,
    "prefix": ANY_TEXT,
    "debug": Flag(),
    "auto_pong": Flag(),
    "retry_unanswered": Flag(),
    "path_remove": _count(0, 8_192, "characters"),
    "path_replace": CALLBACK_PATH,
    "host": HOST_HEADER,
    "request_headers": ListOf(HEADER_LINE),
    "buffer_bytes": _bytes(),
    "answer_bytes": _bytes(),
    "hold_bytes": _bytes(),
    "silence_s": _seconds(),
    "backend_connections": _count(unit="connections"),
    "message_rate": Number(0, _MANY, "deliveries a second", zero="no limit"),
    "message_queue": _count(unit="deliveries"),
    "message_block_bytes": _count(0, _GIB, "bytes", zero="a delivery counts once"),
}
TARGET: Table = {
    "url": TARGET_URL,
    "over_http": Flag(),
    "one_event": Flag(),
    "host": HOST_HEADER,
    "insecure": Flag(),
    "trust_connect_host": Flag(),
    "client_cert": FILE,
    "client_key": FILE,
    "subscribe": ListOf(NOT_EMPTY),
}
ROUTE_GROUPS: Mapping[str, Table] = {"limits": LIMITS, "timeouts": TIMEOUTS, "pool": POOL, "grip": GRIP_ROUTE}
CHANNEL: Table = {
    "prefix": ANY_TEXT,
    "history_count": _count(0, 1_000_000, "publications", "none"),
    "history_age_s": Number(0, 366 * _DAY, "seconds", above_low=True),
}
GRIP: Table = {
    "sig_key": SigningKey(),
    "sig_iss": NOT_EMPTY,
    "message_wait_s": _seconds("do not wait", high=3_600),
    "id_cache_s": _seconds("none are kept away"),
    "subscription_linger_s": _seconds("at once"),
    "update_on_first_subscription": Flag(),
    "publish_bytes": _bytes(),
    "zmq_pull": ZMQ_ADDRESS,
    "zmq_sub": ZMQ_ADDRESS,
}
PUBLISHER: Table = {"name": NOT_EMPTY, "key": PublisherKey()}
XMPP: Table = {
    "domain": XMPP_DOMAIN,
    "host": XMPP_HOST,
    "port": _count(0, 65_535, zero="the usual one"),
    "tls": OneOf(("starttls", "direct", "none")),
    "plaintext": Flag(),
    "plain_without_tls": Flag(),
    "ca_file": FILE,
    "client_cert": FILE,
    "client_key": FILE,
    "logins_per_s": Number(0, _MANY, "logins a second", zero="no limit"),
    "component_secret": SecretValue(),
    "resume_s": _count(1, _DAY, "seconds"),
    "negotiation_s": _seconds(high=3_600),
    "silence_s": _seconds(high=3_600),
    "answer_s": _seconds(high=3_600),
    # RFC 6120 §13.12: no peer may be held to less.
    "stanza_bytes": _count(10_000, _GIB, "bytes"),
    "iq_reply_s": _seconds(high=3_600),
    "archive_after_resume": Flag(),
}
GROUPS: Mapping[type, Table] = {
    EdgeSettings: EDGE,
    LimitSettings: LIMITS,
    TimeoutSettings: TIMEOUTS,
    PoolSettings: POOL,
    GripRouteSettings: GRIP_ROUTE,
    TargetSettings: TARGET,
    RouteSettings: ROUTE,
    ChannelSettings: CHANNEL,
    GripSettings: GRIP,
    PublisherSettings: PUBLISHER,
    XmppSettings: XMPP,
}
TABLES: Mapping[str, str] = {
    "edge": "[edge]",
    "route": "[[route]]",
    "route.target": "[[route.target]]",
    "channel": "[[channel]]",
    "grip": "[grip]",
    "publisher": "[[publisher]]",
    "xmpp": "[[xmpp]]",
}
"""Tables of a settings file → how they are written."""

FLAGS: Mapping[str, str] = {
    "edge.listen": "--listen",
    "edge.control": "--control",
    "edge.redis": "--redis",
    "edge.data_dir": "--data",
    "edge.workers": "--workers",
    "edge.control_tokens": "--control-token",
    "edge.max_connections": "--max-connections",
    "edge.handshakes_per_s": "--handshakes-per-s",
    "edge.drain_delay_s": "--drain-delay",
    "edge.drain_window_s": "--drain-window",
    "edge.lease_s": "--lease",
    "edge.trusted_proxies": "--trusted-proxy",
    "edge.grip_routes": "--grip-routes",
    "edge.log_level": "--log-level",
    "edge.log_format": "--log-format",
    "edge.tls_cert": "--tls-cert",
    "edge.tls_key": "--tls-key",
    "backend": "--backend",
    "secrets": "--secret",
    "grip": "--grip",
    "grip.sig_key": "--sig-key",
}
"""Dotted key → flag. `backend` and `secrets`, or `grip` (its backend), belong to the route that takes everything (see
`CATCH_ALL`)."""

CATCH_ALL: Mapping[str, str] = {"host": "*", "path": "/", "scheme": "", "tls": ""}
"""What a route that takes everything says of requests."""

VARIABLES: Mapping[str, str] = {
    **{f"HOLDFAST_{key.upper()}": f"edge.{key}" for key in EDGE},
    "HOLDFAST_DATA": "edge.data_dir",
    "HOLDFAST_BACKEND": "backend",
    "HOLDFAST_SECRETS": "secrets",
    "HOLDFAST_GRIP": "grip",
    "HOLDFAST_SIG_KEY": "grip.sig_key",
}
"""Environment variable → dotted key."""

CONFIG_VARIABLE = "HOLDFAST_CONFIG"


def kind_of(key: str) -> Kind:
    """The kind of a setting that flags or the environment can give."""
    if key.startswith("edge."):
        return EDGE[key.removeprefix("edge.")]
    if key.startswith("grip."):
        return GRIP[key.removeprefix("grip.")]
    return BACKEND if key == "grip" else ROUTE[key]
