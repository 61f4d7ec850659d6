"""Fan-out load: publish over keep-alive HTTP, count every subscriber's bytes until the last delivery is in."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from benchmarks.load.clients import Address, Clients
from benchmarks.load.wire import LoadError

_READ_BYTES = 65_536
_EVENTS_PER_POLL = 1_024
_HEAD_END = b"\r\n\r\n"


class Publishers:
    """Connections to a server's publishing side, in the subscribers' epoll.

    A burst is spread over them evenly, written at once (pipelined), and its answers are collected while the
    deliveries are. With `closes` the server ends a connection after each answer: every request gets a new one.
    """

    def __init__(self, address: Address, connections: int, clients: Clients, closes: bool = False) -> None:
        self._address = address
        self._epoll = clients.epoll
        self._closes = closes
        self._sockets: dict[int, socket.socket] = {}
        self._received: dict[int, bytes] = {}
        self.answered = 0
        if not closes:
            for _ in range(connections):
                self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sock in self._sockets.values():
            sock.close()

    def __contains__(self, fd: int) -> bool:
        return fd in self._sockets

    def publish(self, requests: Sequence[bytes]) -> None:
        """Write all of them now. What a socket does not take at once is an error: bursts are small."""
        fds = [self._open() for _ in requests] if self._closes else list(self._sockets)
        for i, fd in enumerate(fds):
            if mine := b"".join(requests[i :: len(fds)]):
                written = os.write(fd, mine)
                if written != len(mine):
                    raise LoadError("a burst of publications does not fit the socket buffer")

    def _open(self) -> int:
        sock = socket.create_connection(self._address, timeout=10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        fd = sock.fileno()
        self._sockets[fd] = sock
        self._received[fd] = b""
        self._epoll.register(fd, select.EPOLLIN)
        return fd

    def read(self, fd: int) -> None:
        """Take in answers; every one must be a success."""
        data = os.read(fd, _READ_BYTES)
        if not data:
            raise LoadError("the server closed a publishing connection")
        received = self._received[fd] + data
        while whole := _whole_answer(received):
            if received[9:10] != b"2":
                raise LoadError(f"publication refused: {received[:300]!r}")
            self.answered += 1
            received = received[whole:]
        self._received[fd] = received
        if self._closes and not received:
            self._sockets.pop(fd).close()  # leaves the epoll with its last descriptor: epoll(7)


def _whole_answer(received: bytes) -> int:
    """Length of the first whole HTTP answer in `received`, 0 when there is none yet (Content-Length bodies only)."""
    head, end, body = received.partition(_HEAD_END)
    if not end:
        return 0
    length = 0
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"transfer-encoding":
            raise LoadError("a publishing answer in chunks: the generator reads sized ones only")
        if name == b"content-length":
            length = int(value)
    return len(head) + len(end) + length if len(body) >= length else 0


@dataclass(frozen=True, slots=True)
class Spread:
    """One publication or burst: from writing the request to the last subscriber's last byte."""

    deliveries: int
    last_ns: int


class FanOut:
    """Publishes to `clients`, who all subscribe to one channel, and waits for every delivery."""

    def __init__(self, clients: Clients, publishers: Publishers, frame: bytes, deadline_s: float = 60.0) -> None:
        self._clients = clients
        self._publishers = publishers
        self._frame = frame
        self._deadline_s = deadline_s

    def spread(self, requests: Sequence[bytes], publications: int) -> Spread:
        """Publish at once; return when every subscriber has all `publications` and every request is answered.

        Raises LoadError when a delivery is wrong, too many or missing at the deadline.
        """
        wanted = publications * len(self._frame)
        missing = dict.fromkeys(self._clients.sockets, wanted)
        answers = self._publishers.answered + len(requests)
        began = time.perf_counter_ns()
        self._publishers.publish(requests)
        last_ns = self._collect(missing, began)
        while self._publishers.answered < answers:
            self._collect_answers()
        return Spread(len(self._clients) * publications, last_ns - began)

    def _collect(self, missing: dict[int, int], began: int) -> int:
        poll, read = self._clients.epoll.poll, os.read
        frame, size = self._frame, len(self._frame)
        left = len(missing)
        deadline = time.monotonic() + self._deadline_s
        while left:
            ready = poll(1.0, _EVENTS_PER_POLL)
            if time.monotonic() > deadline:
                lost = sum(count for count in missing.values() if count) // size
                raise LoadError(f"{lost} deliveries on {left} connections were missing after {self._deadline_s:g} s")
            for fd, _ in ready:
                if fd not in missing:
                    self._publishers.read(fd)
                    continue
                data = read(fd, _READ_BYTES)
                if len(data) == size and data != frame:
                    raise LoadError(f"a wrong delivery: {data[:200]!r}")
                rest = missing[fd] - len(data)
                missing[fd] = rest
                if rest == 0:
                    left -= 1
                elif rest < 0 or not data:
                    raise LoadError(f"more or less than was published: {data[:200]!r}")
        return time.perf_counter_ns()

    def _collect_answers(self) -> None:
        for fd, _ in self._clients.epoll.poll(self._deadline_s, 64) or [(-1, 0)]:
            if fd < 0:
                raise LoadError("a publication was delivered but never answered")
            if fd not in self._publishers:
                raise LoadError(f"a delivery too many: {os.read(fd, 200)!r}")
            self._publishers.read(fd)
