"""The door of the control API: who may come in, and what everybody gets back.

For every request: an id, the token (or, without any configured, proof that it comes from this machine and not from a
web page), routing on the path as it was sent, errors as JSON without tracebacks, and one line in the log. Query strings
and headers are never logged: they may hold what should not be there.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.config import PublisherSettings, Secret
from edge.config.addresses import Address, parse_address
from edge.control.answers import internal_problem, problem
from edge.control.publishers import is_publisher
from edge.errors import ConfigError

_log = logging.getLogger("holdfast.control")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def check_bind(bind: str, credentials: Sequence[object]) -> None:
    """Raise ConfigError when the API would be open to others: without any token or publisher's key, `bind` must be a
    loopback address."""
    if not credentials and not parse_address(bind).is_loopback:
        allowed = "a loopback address, as long as there is neither edge.control_tokens nor a [[publisher]]"
        raise ConfigError("control", "edge.control", bind, allowed)


def _says_loopback(authority: str) -> bool:
    """Does a Host header (or an origin's authority) name this machine and nobody else?"""
    return Address((_host_of(authority) or "").rstrip("."), 0).is_loopback


def _host_of(authority: str) -> str | None:
    """The host of ``host``, ``host:port`` or ``[v6]:port``; None when it is none of these."""
    try:
        parts = urlsplit(f"//{authority}")
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname if parts.netloc == authority and "@" not in authority else None


class Guard:
    """ASGI middleware around the API.

    `tokens` gives the tokens that are valid now (a reload may change them); `open_paths` need none. On
    `publishing_paths`, and nowhere else, the credentials of `publishers` are as good as a token.
    """

    def __init__(
        self,
        app: ASGIApp,
        bind: str,
        tokens: Callable[[], Sequence[Secret]],
        open_paths: frozenset[str],
        publishers: Callable[[], Sequence[PublisherSettings]],
        publishing_paths: frozenset[str],
    ) -> None:
        check_bind(bind, [*tokens(), *publishers()])
        self._app = app
        self._local = parse_address(bind).is_loopback
        self._tokens = tokens
        self._open = open_paths
        self._publishers = publishers
        self._publishing = publishing_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        try:
            refusal = self._refusal(exchange.path, Headers(scope=scope))
            if refusal is not None:
                await refusal(scope, receive, exchange.send)
            else:
                inside = {**scope, "path": exchange.path, "root_path": "", "request_id": exchange.id}
                await self._app(inside, receive, exchange.send)
        except ClientDisconnect:
            exchange.status = 499
        except Exception:
            # Errors with an answer were answered inside; this one is ours, and the caller saw only a 500.
            _log.exception("request %s failed", exchange.id)
            if exchange.status == 0:
                await internal_problem()(scope, receive, exchange.send)
        finally:
            exchange.log()

    def _refusal(self, path: str, headers: Headers) -> Response | None:
        """Why this request does not come in; None: it does."""
        if path in self._open:
            return None
        tokens, authorization = self._tokens(), headers.get("authorization", "")
        publishers = self._publishers() if path in self._publishing else ()
        if publishers and is_publisher(authorization, publishers, int(time.time())):
            return None
        if tokens or publishers:
            return None if _bearer_matches(authorization, tokens) else _unauthorized(publishers)
        if not self._local:
            return problem(
                403, "forbidden", "no token is configured for this (edge.control_tokens), and this port is not loopback"
            )
        # DNS rebinding: a web page whose own name was made to point at 127.0.0.1 sends its own name as Host.
        if not _says_loopback(headers.get("host", "")):
            return problem(403, "forbidden", "without a configured token, Host must be localhost or a loopback address")
        # Cross-site requests: a page may send simple requests anywhere, and says where it is from.
        origin = headers.get("origin")
        if origin is not None and not _says_loopback(origin.partition("://")[2]):
            return problem(403, "forbidden", "without a configured token, other sites' pages are not served")
        return None


def _unauthorized(publishers: Sequence[PublisherSettings]) -> Response:
    if publishers:
        needed = "a publisher's JWT, its name and key, or a bearer token is needed; a JWT may also be expired"
        challenge = 'Bearer realm="holdfast", Basic realm="holdfast"'
    else:
        needed, challenge = "a bearer token is needed", 'Bearer realm="holdfast"'
    return problem(401, "unauthorized", needed, headers={"WWW-Authenticate": challenge})


def _bearer_matches(authorization: str, tokens: Sequence[Secret]) -> bool:
    """RFC 6750 section 2.1. Every token is compared, in constant time; hashes hide the lengths too."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return False
    digest = sha256(given.strip().encode("latin-1")).digest()
    matches = [hmac.compare_digest(digest, sha256(token.value.encode()).digest()) for token in tokens]
    return any(matches)


class _Exchange:
    """One request and its answer: adds the headers every answer has, and remembers what the log line needs."""

    __slots__ = ("_method", "_send", "_started", "id", "path", "status")

    def __init__(self, scope: Scope, send: Send) -> None:
        given = Headers(scope=scope).get("x-request-id", "")
        self.id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        raw = scope.get("raw_path")
        # As it was sent, so that a %2F in a channel's name is no separator; handlers decode what they take out.
        self.path: str = raw.partition(b"?")[0].decode("latin-1") if raw else scope["path"]
        self.status = 0
        self._method: str = scope["method"]
        self._send = send
        self._started = time.monotonic()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.id
            headers["X-Content-Type-Options"] = "nosniff"
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)

    def log(self) -> None:
        took_ms = (time.monotonic() - self._started) * 1_000
        level = logging.DEBUG if self.path in ("/livez", "/readyz", "/metrics") else logging.INFO
        path = ascii(self.path[:200])[1:-1]
        _log.log(level, "%s %s: %d in %.1f ms, request %s", self._method, path, self.status, took_ms, self.id)
