"""Which route a handshake belongs to: by host, then by path.

Hosts are compared without port, case-insensitively. An exact host beats ``*.suffix`` (the longer suffix first) beats
``*``; among routes with the same claim on the host the longest path prefix wins. Prefixes end on segment borders:
``/chat`` takes ``/chat`` and ``/chat/room``, not ``/chatty``. A route whose path does not match makes way for one with
a lesser claim on the host.
"""

from __future__ import annotations

from collections.abc import Sequence


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


def precedence(host: str, path: str) -> tuple[int, int, int]:
    """How strong a route's claim is, for sorting; the largest wins."""
    path_length = len(path.rstrip("/"))
    if host == "*":
        return (0, 0, path_length)
    if host.startswith("*."):
        return (1, len(host), path_length)
    return (2, 0, path_length)


class RouteTable:
    """Patterns sorted once, strongest claim first, so that the first match is the answer."""

    __slots__ = ("_claims",)

    def __init__(self, patterns: Sequence[tuple[str, str]]) -> None:
        """`patterns`: (host, path) of each route. Of two equal ones the first wins."""
        ranked = sorted(range(len(patterns)), key=lambda n: precedence(*patterns[n]), reverse=True)
        # `sorted(reverse=True)` keeps equal elements in order.
        self._claims = [(*patterns[number], number) for number in ranked]

    def find(self, host: str, path: str) -> int | None:
        """The number of the pattern that takes this Host header and path, or None."""
        host = bare_host(host)
        for pattern, prefix, number in self._claims:
            if path_matches(prefix, path) and host_matches(pattern, host):
                return number
        return None
