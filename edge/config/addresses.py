"""Addresses to listen on: ``host:port``, ``[v6]:port`` and ``:port``."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?", re.ASCII)

ANY_V4 = "0.0.0.0"  # noqa: S104  # recognised here, not bound


class Address(NamedTuple):
    """`host` is an IP address or a name; empty: all interfaces. `port` 0: any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Only this machine can reach it. A name other than ``localhost`` is not taken for loopback."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return False

    @property
    def for_url(self) -> str:
        """``host:port`` a client on this machine can use: all interfaces become the loopback address."""
        if self.host == "::":
            return f"[::1]:{self.port}"
        return f"127.0.0.1:{self.port}" if self.host in ("", ANY_V4) else str(self)


def parse_address(text: str) -> Address:
    """Raises `ValueError` for anything that is not one of the three forms."""
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or int(port) > 65_535:
        raise ValueError(text)
    if host.startswith("["):
        if not host.endswith("]"):
            raise ValueError(text)
        return Address(str(ipaddress.IPv6Address(host[1:-1])), int(port))
    if not host:
        return Address("", int(port))
    if re.fullmatch(r"[0-9.]+", host):
        host = str(ipaddress.IPv4Address(host))
    elif not _NAME.fullmatch(host):
        raise ValueError(text)
    return Address(host.lower(), int(port))
