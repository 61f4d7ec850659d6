"""URLs in settings: of backends, of Redis, and the origins browsers may come from."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, urlsplit

from edge.config.groups import Secret
from edge.config.kinds import Environment, Text, Wrong, dereference
from edge.config.redis_address import parse_address
from edge.errors import ConfigError

REDIS_SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?", re.ASCII)
_NO_SPACE = re.compile(r"[\x21-\x7e]+")


def _split(text: str) -> SplitResult:
    """Parse; raises `ValueError` for white space, control characters, non-ASCII or a port that is none."""
    if not _NO_SPACE.fullmatch(text):
        raise ValueError(text)
    parts = urlsplit(text)
    if parts.port == 0:
        raise ValueError(text)
    return parts


def _backend(text: str) -> str:
    try:
        parts = _split(text)
    except ValueError:
        raise Wrong(BACKEND_ALLOWED, shown=without_userinfo(text)) from None
    if parts.username is not None or parts.password is not None:
        raise Wrong("a URL without user name or password (sign requests with `secrets`)", without_userinfo(text))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(text)
    if "?" in text or "#" in text:
        raise ValueError(text)
    return text


def _release_url(text: str) -> str:
    _backend(text.replace("{sha}", "0"))
    if "{" in text.replace("{sha}", "") or "}" in text.replace("{sha}", ""):
        raise ValueError(text)
    return text


def _callback_path(text: str) -> str:
    if text and (not text.startswith("/") or not _NO_SPACE.fullmatch(text) or "?" in text or "#" in text):
        raise ValueError(text)
    return text


def _route_path(text: str) -> str:
    if not text.startswith("/") or not _NO_SPACE.fullmatch(text) or "?" in text or "#" in text:
        raise ValueError(text)
    return text


def _route_host(text: str) -> str:
    host = text.lower()
    if host != "*" and not _HOST.fullmatch(host):
        raise ValueError(text)
    return host


def _origin(text: str) -> str:
    if text in ("*", "null"):
        return text
    origin = text.lower()
    parts = _split(origin)
    host = parts.netloc.rpartition("@")[2].partition(":")[0]
    if parts.scheme == "" or parts.username is not None or not parts.hostname:
        raise ValueError(text)
    if parts.path or "?" in text or "#" in text:
        raise ValueError(text)
    if "*" in host.removeprefix("*."):
        raise ValueError(text)
    return origin


def _webhook(text: str) -> str:
    if not text:
        return text
    parts = _split(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or "#" in text:
        raise ValueError(text)
    return text


BACKEND_ALLOWED = "http://host:port/path or https://…, without user name, query or fragment"
BACKEND = Text(BACKEND_ALLOWED, _backend)
RELEASE_URL = Text("a URL like that of a backend; {sha} in it stands for the release", _release_url)
WEBHOOK = Text("empty, or http://host:port/path or https://…, without user name or fragment", _webhook)
CALLBACK_PATH = Text("empty, or a path that begins with / and has no query", _callback_path)
ROUTE_PATH = Text("a path prefix that begins with / and has no query", _route_path)
ROUTE_HOST = Text("a host name without port, *.suffix, or *", _route_host)
ORIGIN = Text("scheme://host or scheme://*.suffix, with :port where it is not the scheme's own, or *", _origin)


class RedisUrl:
    """The URL of Redis, or ``env:NAME`` or ``file:/path`` of it, as it may hold a password."""

    allowed = (
        "redis://host:port/db, rediss://…, unix:///path, redis+sentinel://h1,h2/service/db, "
        "redis+cluster://h1,h2, env:NAME, file:/path, or empty for an embedded Redis"
    )

    def from_text(self, text: str) -> object:
        return text

    def read(self, raw: object, env: Environment) -> object:
        if not isinstance(raw, str):
            raise Wrong(self.allowed)
        url = dereference(raw, env)
        scheme, separator, rest = url.partition("://")
        hosts = re.split(r"[/?]", rest.rpartition("@")[2], maxsplit=1)[0]
        needs = rest.rpartition("@")[2].startswith("/") if scheme == "unix" else bool(hosts)
        if url and not (separator and scheme in REDIS_SCHEMES and needs and _NO_SPACE.fullmatch(url)):
            raise Wrong(self.allowed, shown=without_userinfo(url))
        if url:
            try:
                parse_address(url)
            except ConfigError as error:
                raise Wrong(error.allowed, shown=without_userinfo(url)) from None
        return url


def without_userinfo(url: str) -> str:
    """`url` fit for logs: user name and password, if any, are masked, and so is a ``password=`` (of Redis or of its
    sentinels) in the query."""
    masked = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://).*@", r"\1•••@", url)
    return re.sub(r"((?:^|[?&])(?:sentinel_)?(?:username|password)=)[^&#]*", r"\1•••", masked)


def secrets_in(url: str) -> tuple[Secret, ...]:
    """The passwords inside a URL, as written and decoded, for the log's mask."""
    found = re.findall(r"^[A-Za-z][A-Za-z0-9+.-]*://[^:/?]*:(.*)@", url)
    found += re.findall(r"[?&](?:sentinel_)?password=([^&#]*)", url)
    return tuple(Secret(text) for raw in found for text in {raw, unquote(raw)} if text)
