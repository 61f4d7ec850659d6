"""Free ports on loopback, for processes that must come back on the port they had."""

from __future__ import annotations

import os
import random
import socket

LOOPBACK = "127.0.0.1"

_FIRST, _LAST = 20_000, 32_000
"""Below Linux's ephemeral range (32768–60999): no outgoing connection can take such a port while its process
is down.
"""


_given: set[int] = set()


def free_port() -> int:
    """A TCP port on loopback that nobody listens on, and that no other test of this run is given: some are used half
    a minute later. Tests that run in parallel have ranges of their own."""
    first, last = _range()
    for _ in range(200):
        if len(_given) > (last - first) // 2:
            _given.clear()
        port = random.randint(first, last)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            _given.add(port)
            return port
    raise AssertionError(f"no free port found between {first} and {last}")


def _range() -> tuple[int, int]:
    """This process's share of all ports; pytest-xdist says which of how many it is."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    size = (_LAST - _FIRST) // max(workers, number + 1)
    return _FIRST + number * size, _FIRST + (number + 1) * size - 1


def accepts(port: int) -> bool:
    """Whether somebody accepts TCP connections on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0
