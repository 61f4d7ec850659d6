"""Many client sockets: opened with bounded concurrency, kept in one epoll, closed together."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from benchmarks.load.wire import Dialect, LoadError

_PORTS_PER_ADDRESS = 10_000
"""Well under the 28,000 ephemeral ports an address has by default: some are still in TIME-WAIT."""
_IP_BIND_ADDRESS_NO_PORT = 24
"""ip(7): choose the port at connect time, where the kernel knows that the whole 4-tuple is free."""
_HEAD_END = b"\r\n\r\n"
Address = tuple[str, int]


def allow_files(wanted: int) -> int:
    """Raise the soft limit of open files towards `wanted`; returns what is allowed now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # only the superuser may pass the hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
            return wanted
        soft = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


def source_addresses() -> Iterator[str]:
    """127.0.0.1, 127.0.0.2 …, each for ten thousand connections, over and over."""
    while True:
        for last in range(1, 251):
            for _ in range(_PORTS_PER_ADDRESS):
                yield f"127.0.0.{last}"


@dataclass(slots=True)
class Clients:
    """Connected clients. Use as a context manager: leaving it closes them."""

    dialect: Dialect
    epoll: select.epoll = field(default_factory=select.epoll)
    sockets: dict[int, socket.socket] = field(default_factory=dict)
    opening_ns: list[int] = field(default_factory=list)
    """Per connection, from connect to the end of its handshake."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.sockets)

    def close(self) -> None:
        for sock in self.sockets.values():
            sock.close()
        self.sockets.clear()
        self.epoll.close()


def open_clients(
    address: Address,
    count: int,
    dialect: Dialect,
    sources: Iterator[str],
    concurrency: int = 64,
    deadline_s: float = 120.0,
) -> Clients:
    """Open `count` connections, at most `concurrency` handshakes under way at a time.

    Raises LoadError when the server refuses one, or not all are open after `deadline_s`.
    """
    opener = _Opener(address, dialect, sources)
    try:
        opener.run(count, concurrency, time.monotonic() + deadline_s)
    except BaseException:
        opener.abandon()
        raise
    return opener.clients


class _Opener:
    """The handshakes under way. A socket moves: connecting → (hello sent) waiting → in `clients`."""

    def __init__(self, address: Address, dialect: Dialect, sources: Iterator[str]) -> None:
        self.clients = Clients(dialect)
        self._address = address
        self._dialect = dialect
        self._sources = sources
        self._epoll = select.epoll()
        self._under_way: dict[int, tuple[socket.socket, int]] = {}
        self._received: dict[int, bytes] = {}

    def run(self, count: int, concurrency: int, deadline: float) -> None:
        started = 0
        while len(self.clients) < count:
            while started < count and len(self._under_way) < concurrency:
                self._start()
                started += 1
            if time.monotonic() > deadline:
                raise LoadError(f"only {len(self.clients)} of {count} connections were open in time")
            for fd, events in self._epoll.poll(1.0, 256):
                if fd in self._received:
                    self._read(fd)
                else:
                    self._connected(fd, events)
        self._epoll.close()

    def abandon(self) -> None:
        for sock, _ in self._under_way.values():
            sock.close()
        self._epoll.close()
        self.clients.close()

    def _start(self) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((next(self._sources), 0))
        self._under_way[sock.fileno()] = (sock, time.perf_counter_ns())
        outcome = sock.connect_ex(self._address)
        if outcome not in (0, errno.EINPROGRESS):
            raise LoadError(f"cannot connect: {os.strerror(outcome)}")
        self._epoll.register(sock.fileno(), select.EPOLLOUT)

    def _connected(self, fd: int, events: int) -> None:
        sock, _ = self._under_way[fd]
        if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise LoadError(f"cannot connect: {os.strerror(error)}")
        if not self._dialect.hello:
            self._ready(fd)
            return
        sock.send(self._dialect.hello)
        self._received[fd] = b""
        self._epoll.modify(fd, select.EPOLLIN)

    def _read(self, fd: int) -> None:
        data = os.read(fd, 65_536)
        if not data:
            raise LoadError("the server closed a connection during its handshake")
        received = self._received[fd] + data
        self._received[fd] = received
        head, end, rest = received.partition(_HEAD_END)
        if not end:
            return
        if not head.startswith(b"HTTP/1.1 101"):
            raise LoadError(f"handshake refused: {received[:200]!r}")
        if len(rest) > self._dialect.greeting:
            raise LoadError(f"unexpected bytes after the handshake: {rest[:200]!r}")
        if len(rest) == self._dialect.greeting:
            del self._received[fd]
            self._ready(fd)

    def _ready(self, fd: int) -> None:
        sock, since = self._under_way.pop(fd)
        self._epoll.unregister(fd)
        self.clients.sockets[fd] = sock
        self.clients.opening_ns.append(time.perf_counter_ns() - since)
        self.clients.epoll.register(fd, select.EPOLLIN)
