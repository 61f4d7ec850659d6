"""Where Redis is: one parsed, checked form for every kind of URL. Passwords never show in it.

    redis://[user:password@]host[:port][/db]        rediss://… the same over TLS
    unix://[user:password@]/path/to/socket[?db=n]
    redis+sentinel://[user:password@]h1[:port],h2[:port]/service[/db]
    redis+cluster://[user:password@]h1[:port],h2[:port]

`rediss+sentinel://` and `rediss+cluster://` speak TLS. Query options: ``ssl_ca_certs``, ``ssl_certfile``,
``ssl_keyfile`` (paths), ``ssl_cert_reqs`` (``required`` or ``none``), ``ssl_check_hostname`` (``true``,
``false``),
``sentinel_username``, ``sentinel_password``.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote

from edge.config.groups import Secret
from edge.errors import ConfigError

Kind = Literal["standalone", "sentinel", "cluster"]

_SCHEMES: Mapping[str, tuple[Kind, bool]] = {
    "redis": ("standalone", False),
    "rediss": ("standalone", True),
    "unix": ("standalone", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"})
_SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})
_ALLOWED = (
    "redis://host:6379/0, rediss://host:6379/0, unix:///path, redis+sentinel://h1:26379,h2:26379/service/0 "
    "or redis+cluster://h1:6379,h2:6379"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server: host and TCP port, or the path of a unix socket."""

    host: str
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Login:
    """How to introduce ourselves to a server."""

    username: str = ""
    password: Secret = field(default_factory=lambda: Secret(""))
    db: int = 0


@dataclass(frozen=True, slots=True)
class Address:
    """A whole Redis installation, as its URL names it."""

    kind: Kind
    endpoints: Sequence[Endpoint]
    login: Login = field(default_factory=Login)
    service: str = ""
    """The master's name at the sentinels."""
    sentinel_login: Login = field(default_factory=Login)
    tls: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    """TLS options by their query names."""

    def __str__(self) -> str:
        where = ",".join(map(str, self.endpoints))
        return f"{self.kind} {where}{' service ' + self.service if self.service else ''}"

    def ssl_context(self) -> ssl.SSLContext | None:
        """A fresh TLS context, or None for plain text. Raises OSError when a certificate file cannot be
        read."""
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.options.get("ssl_ca_certs"))
        if self.options.get("ssl_check_hostname") == "false":
            context.check_hostname = False
        if self.options.get("ssl_cert_reqs") == "none":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate := self.options.get("ssl_certfile"):
            context.load_cert_chain(certificate, self.options.get("ssl_keyfile"))
        return context


def parse_address(url: str, *, source: str = "settings", key: str = "edge.redis") -> Address:
    """The address in `url`. Raises ConfigError that shows the URL without its user and password."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ConfigError(source, key, _without_login(url), _ALLOWED)
    try:
        return _parse(scheme, rest)
    except ValueError as error:
        raise ConfigError(source, key, _without_login(url), f"{error}; {_ALLOWED}") from None


def _without_login(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0]}"


def _parse(scheme: str, rest: str) -> Address:
    kind, tls = _SCHEMES[scheme]
    rest, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    credentials, _, place = rest.rpartition("@")
    if scheme == "unix":
        db = options.pop("db", "0")
        _refuse_unknown(options, frozenset())
        if not place.startswith("/"):
            raise ValueError("a unix socket needs an absolute path")
        return Address(kind, (Endpoint("", 0, unquote(place)),), _login(credentials, db))
    hosts, _, path = place.partition("/")
    _refuse_unknown(options, _TLS_OPTIONS | (_SENTINEL_OPTIONS if kind == "sentinel" else frozenset()))
    endpoints = tuple(_endpoint(host, 26379 if kind == "sentinel" else 6379) for host in hosts.split(","))
    if kind == "standalone" and len(endpoints) > 1:
        raise ValueError("several hosts need redis+sentinel or redis+cluster")
    service = ""
    if kind == "sentinel":
        service, _, path = path.partition("/")
        if not service:
            raise ValueError("the sentinel service's name is missing")
    if kind == "cluster" and path not in ("", "0"):
        raise ValueError("a cluster has only database 0")
    sentinel_login = Login(options.pop("sentinel_username", ""), Secret(options.pop("sentinel_password", "")))
    return Address(kind, endpoints, _login(credentials, path or "0"), unquote(service), sentinel_login, tls, options)


def _refuse_unknown(options: Mapping[str, str], known: frozenset[str]) -> None:
    if unknown := sorted(set(options) - known):
        raise ValueError(f"unknown option {unknown[0]}")


def _login(credentials: str, db: str) -> Login:
    username, _, password = credentials.partition(":")
    if not (db.isascii() and db.isdigit()):
        raise ValueError("the database must be a number")
    return Login(unquote(username), Secret(unquote(password)), int(db))


def _endpoint(text: str, default_port: int) -> Endpoint:
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket:
            raise ValueError("an IPv6 address needs its closing bracket")
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if not host:
        raise ValueError("a host is missing")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise ValueError("a port must be a number from 1 to 65535")
    return Endpoint(unquote(host), int(port) if port else default_port)
