"""Listening sockets: shared between workers with SO_REUSEPORT, and never with a stranger.

SO_REUSEPORT would let a second edge of the same user bind the same port and take half of the first one's clients
without a word. So the supervisor first binds without it, which fails when anybody listens there, and then keeps a
bound socket that does not listen: it holds the port while workers come and go, and takes no connections.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from edge.config.addresses import ANY_V4, Address
from edge.errors import StartError

BACKLOG = 4_096
"""Connections the kernel keeps waiting per listener; Linux caps it at net.core.somaxconn (4096 by default)."""

_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


class Reservation:
    """Ports this edge holds. `addresses` are those asked for, with real ports in the place of 0."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def take(self, address: Address, setting: str) -> Address:
        """Hold one address. Raises `StartError` that names it and its `setting` when it cannot be had."""
        if address.port:
            _bind(address, setting, shared=False).close()
        held = _bind(address, setting, shared=True)
        self._sockets.append(held)
        return Address(address.host, held.getsockname()[1])

    def release(self) -> None:
        """Let go of all. Idempotent."""
        while self._sockets:
            self._sockets.pop().close()


def listen(address: Address) -> socket.socket:
    """A listening, non-blocking socket on an address the supervisor has reserved. Raises `StartError`."""
    sock = _bind(address, "the address", shared=True)
    sock.setblocking(False)
    sock.listen(BACKLOG)
    return sock


def listen_unix(path: Path) -> socket.socket:
    """A listening unix socket only this user can connect to. One that a dead process left at `path` is replaced."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        sock.setblocking(False)
        sock.listen(128)
    except OSError as error:
        sock.close()
        raise StartError(f"cannot listen on {path}: {error.strerror or error}") from None
    return sock


def _bind(address: Address, setting: str, *, shared: bool) -> socket.socket:
    problem: OSError | None = None
    for family, place in _places(address):
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            problem = error
            continue
        try:
            # Without it connections in TIME_WAIT of an earlier run would keep the port for a minute.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if not address.host else 1)
            sock.bind(place)
            if not shared:
                # Another edge's reservation is bound but does not listen; only listening tells.
                sock.listen(1)
        except OSError as error:
            sock.close()
            problem = error
            if address.host or error.errno not in _NO_IPV6:
                break
        else:
            return sock
    reason = problem.strerror or str(problem) if problem else "no such address"
    raise StartError(f"{setting} = {str(address)!r} cannot be listened on: {reason}") from None


def _places(address: Address) -> Sequence[tuple[socket.AddressFamily, tuple[object, ...]]]:
    """Where to bind, best first. No host: one socket for IPv6 and IPv4, or IPv4 alone where there is no IPv6."""
    if not address.host:
        return [
            (socket.AF_INET6, ("::", address.port, 0, 0)),
            (socket.AF_INET, (ANY_V4, address.port)),
        ]
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return []
    # IPv4 first: it is what "localhost" means to most programs that are given a port.
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return [(entry[0], entry[4]) for entry in found]
