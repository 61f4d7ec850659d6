"""Which route a request belongs to: by host, by what kind of request it is, by path; and what its path becomes.

Hosts are compared without port, case-insensitively. An exact host beats ``*.suffix`` (the longer suffix first) beats
``*``; among routes with the same claim on the host one that asks for WebSockets, or for plain requests, beats one that
takes both; then the longest path prefix wins; then one that asks for TLS, or for none. Prefixes end on segment borders:
``/chat`` takes ``/chat`` and ``/chat/room``, not ``/chatty``; or, where `Claim.whole_segments` says so, anywhere. A
route that does not match makes way for one with a lesser claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Claim(NamedTuple):
    """What a route asks of requests. Empty `scheme` (else ``http`` or ``ws``) and `tls` (``yes``, ``no``): any."""

    host: str = "*"
    path: str = "/"
    scheme: str = ""
    tls: str = ""
    whole_segments: bool = True

    def takes(self, host: str, path: str, scheme: str, tls: str) -> bool:
        """Whether the route takes a request: its bare host, its path without query, ``http`` or ``ws``, TLS or not."""
        return (
            self.scheme in ("", scheme)
            and self.tls in ("", tls)
            and (path_matches(self.path, path) if self.whole_segments else path.startswith(self.path))
            and host_matches(self.host, host)
        )

    @property
    def strength(self) -> tuple[int, int, bool, int, bool]:
        """How strong the claim is, for sorting; the largest wins."""
        path = self.path.rstrip("/") if self.whole_segments else self.path
        if self.host == "*":
            rank, suffix = 0, 0
        elif self.host.startswith("*."):
            rank, suffix = 1, len(self.host)
        else:
            rank, suffix = 2, 0
        return rank, suffix, bool(self.scheme), len(path), bool(self.tls)


def bare_host(host: str) -> str:
    """A Host header's name alone: lower case, without port and without the root's trailing dot.

    IPv6 literals keep their brackets (RFC 3986 §3.2.2).
    """
    host = host.strip().lower()
    if host.startswith("["):
        return host[: host.find("]") + 1]
    return host.partition(":")[0].rstrip(".")


def path_matches(prefix: str, path: str) -> bool:
    """Whether `path` is `prefix` or lies below it, on a segment border."""
    prefix = prefix.rstrip("/")
    return path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == "/")


def host_matches(pattern: str, host: str) -> bool:
    """Whether a bare `host` falls under `pattern` (exact, ``*.suffix``, ``*``). ``*.a.b`` does not take ``a.b``."""
    pattern = pattern.lower()
    if pattern == "*":
        return True
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return host == bare_host(pattern)


def rewritten(path: str, claim: Claim, *, remove: int = 0, replace: str = "") -> str:
    """The path that the backend of the route that took `path` gets to see.

    `remove`: characters cut from its front; or `replace`, put in the place of the claimed prefix. Whatever is cut, a
    path begins with a slash.
    """
    if replace:
        prefix = claim.path.rstrip("/") if claim.whole_segments else claim.path
        path = replace + path[len(prefix) :]
    else:
        path = path[remove:]
    return path if path.startswith("/") else f"/{path}"


class RouteTable:
    """Claims sorted once, strongest first, so that the first match is the answer."""

    __slots__ = ("_claims",)

    def __init__(self, claims: Sequence[Claim]) -> None:
        """Of two equal claims the first wins."""
        ranked = sorted(range(len(claims)), key=lambda n: claims[n].strength, reverse=True)
        # `sorted(reverse=True)` keeps equal elements in order.
        self._claims = [(claims[number], number) for number in ranked]

    def find(self, host: str, path: str, *, websocket: bool = True, tls: bool = False) -> int | None:
        """The number of the claim that takes a request with this Host header and path, or None."""
        host, scheme, secure = bare_host(host), "ws" if websocket else "http", "yes" if tls else "no"
        for claim, number in self._claims:
            if claim.takes(host, path, scheme, secure):
                return number
        return None
