"""Opens connections to a backend: URL, name look-up, TCP, TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote, urlsplit

from edge.backend.http11 import HttpConnection
from edge.backend.tls import Tls, verified
from edge.clock import Clock
from edge.errors import BackendError, ConfigError
from edge.hosts import Addresses

ConnectionT = TypeVar("ConnectionT", bound=HttpConnection)


@dataclass(frozen=True, slots=True)
class Target:
    """A release's URL, taken apart. `authority` is the Host header, `path` the request target."""

    tls: bool
    host: str
    port: int
    authority: str
    path: str

    @classmethod
    def parse(cls, url: str, callback_path: str = "") -> Target:
        """Raises ConfigError when `url` is not one a backend can have."""

        def wrong(allowed: str) -> ConfigError:
            return ConfigError("release", "url", url, allowed)

        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise wrong(str(error)) from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise wrong("http://host[:port][/path] or https://…")
        if parts.username is not None or parts.query or parts.fragment:
            raise wrong("a URL without user, query and fragment")
        try:
            host = parts.hostname.encode("idna").decode() if ":" not in parts.hostname else parts.hostname
        except UnicodeError:
            raise wrong("a host name that DNS can carry") from None
        tls = parts.scheme == "https"
        usual = 443 if tls else 80
        shown = f"[{host}]" if ":" in host else host
        path = quote(parts.path.rstrip("/") + callback_path if callback_path else parts.path, safe="/%:@!$&'()*+,;=~?")
        return cls(
            tls=tls,
            host=host,
            port=port or usual,
            authority=shown if port in (None, usual) else f"{shown}:{port}",
            path=path if path.startswith("/") else f"/{path}",
        )


class Dialer:
    """Opens connections to one target, to each of its addresses in turn. `tls`: how, when the target is https and the
    usual (verified against its host) will not do."""

    __slots__ = ("_addresses", "_tls", "target")

    def __init__(self, target: Target, clock: Clock, tls: Tls | None = None) -> None:
        self.target = target
        self._addresses = Addresses(target.host, target.port, clock)
        self._tls = (tls or Tls(verified(), target.host)) if target.tls else None

    async def dial(self, make: Callable[[], ConnectionT], connect_s: float) -> ConnectionT:
        """A new connection, made by `make`, to the first address that takes it; `connect_s` for each.

        Raises BackendError with a short phrase for people: ``connection refused``, ``name not found`` …
        """
        try:
            addresses = await self._addresses.candidates()
        except OSError as error:
            raise BackendError("name not found") from error
        phrase = "connection refused"
        for address in addresses:
            try:
                return await self._connect(make, address, connect_s)
            except TimeoutError:
                phrase = "no connection in time"
            except ssl.SSLError as error:
                phrase = f"TLS: {error.reason or 'handshake failed'}"
            except ConnectionRefusedError:
                phrase = "connection refused"
            except OSError as error:
                phrase = (error.strerror or type(error).__name__).lower()
            self._addresses.refused(address)
        raise BackendError(phrase)

    async def _connect(self, make: Callable[[], ConnectionT], address: str, connect_s: float) -> ConnectionT:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(connect_s):
            _, connection = await loop.create_connection(
                make,
                address,
                self.target.port,
                ssl=self._tls.context if self._tls is not None else None,
                server_hostname=self._tls.server_name if self._tls is not None else None,
            )
        return connection
