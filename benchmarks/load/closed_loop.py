"""Closed-loop load: every connection sends its next event when the answer to the last has come, without pause.

Where a server can take fewer events at a time than there are connections, these wait in line: an answer lets the
first of the line send.
"""

from __future__ import annotations

import os
import time
from array import array
from collections import deque
from dataclasses import dataclass

from benchmarks.load.clients import Clients
from benchmarks.load.wire import LoadError

_READ_BYTES = 4_096
_EVENTS_PER_POLL = 512


@dataclass(frozen=True, slots=True)
class Tally:
    """One window: how long it was, and each answer's latency, ascending."""

    elapsed_ns: int
    latencies_ns: list[int]


class ClosedLoop:
    """Drives `clients`: first `warm`, then `window`, which goes on where the warming stopped: nothing starts cold
    inside a measurement."""

    def __init__(self, clients: Clients, silence_s: float = 30.0) -> None:
        self._clients = clients
        self._silence_s = silence_s
        self._size = 0
        self._partial: dict[int, bytes] = {}
        self._waiting: deque[int] = deque()
        self._sent_ns = [0] * (max(clients.sockets) + 1)

    def warm(self, seconds: float) -> None:
        """Start all connections; return when `seconds` are over and every connection has had an answer.

        Raises LoadError when an answer is wrong, a connection is closed or the server falls silent.
        """
        self._size = self._learn()
        self._waiting.extend(self._clients.sockets)
        for _ in range(min(len(self._clients), self._clients.dialect.in_flight)):
            fd = self._waiting.popleft()
            self._sent_ns[fd] = time.perf_counter_ns()
            os.write(fd, self._clients.dialect.request)
        first = list(self._sent_ns)
        self._run(seconds)
        deadline = time.monotonic() + self._silence_s
        while any(self._sent_ns[fd] == first[fd] for fd in self._clients.sockets):
            if time.monotonic() > deadline:
                raise LoadError("some connections never had an answer")
            self._run(0.1)

    def window(self, seconds: float) -> Tally:
        """Count and time answers for `seconds`. Raises as `warm`."""
        began = time.perf_counter_ns()
        latencies = self._run(seconds)
        elapsed = time.perf_counter_ns() - began
        return Tally(elapsed, sorted(latencies))

    def _learn(self) -> int:
        """The length of an answer, from one event on one connection, alone."""
        fd = next(iter(self._clients.sockets))
        os.write(fd, self._clients.dialect.request)
        answer = b""
        while not answer.endswith(self._clients.dialect.answer_tail):
            if not self._clients.epoll.poll(self._silence_s):
                raise LoadError(f"no answer to the first event; so far: {answer[:300]!r}")
            answer += _read(fd)
        return len(answer)

    def _run(self, seconds: float) -> array[int]:
        # The one hot loop: names are bound once, and an answer that comes whole costs no call but the two system's.
        poll, read, write, now_ns = self._clients.epoll.poll, os.read, os.write, time.perf_counter_ns
        request, tail, size = self._clients.dialect.request, self._clients.dialect.answer_tail, self._size
        sent_ns, partial, latencies = self._sent_ns, self._partial, array("q")
        stand_in_line, next_in_line = self._waiting.append, self._waiting.popleft
        end_ns = now_ns() + int(seconds * 1e9)
        while (now := now_ns()) < end_ns:
            ready = poll(self._silence_s, _EVENTS_PER_POLL)
            if not ready:
                raise LoadError(f"no answer on any of {len(self._clients)} connections in {self._silence_s:g} s")
            for fd, _ in ready:
                data = read(fd, _READ_BYTES)
                if (len(data) != size or fd in partial or not data.endswith(tail)) and not self._join(fd, data):
                    continue
                now = now_ns()
                latencies.append(now - sent_ns[fd])
                stand_in_line(fd)
                fd = next_in_line()
                sent_ns[fd] = now
                write(fd, request)
        return latencies

    def _join(self, fd: int, data: bytes) -> bool:
        """Put the pieces of an answer together; True when it is whole."""
        if not data:
            raise LoadError("the server closed a connection under load")
        answer = self._partial.pop(fd, b"") + data
        if len(answer) < self._size:
            self._partial[fd] = answer
            return False
        if len(answer) > self._size or not answer.endswith(self._clients.dialect.answer_tail):
            raise LoadError(f"a wrong answer: {answer[:300]!r}")
        return True


def _read(fd: int) -> bytes:
    data = os.read(fd, _READ_BYTES)
    if not data:
        raise LoadError("the server closed a connection under load")
    return data
