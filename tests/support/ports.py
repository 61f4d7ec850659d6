"""Free ports on loopback, for processes that must come back on the port they had."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"

_FIRST, _LAST = 20_000, 32_000
"""Below Linux's ephemeral range (32768–60999): no outgoing connection can take such a port while its process
is down.
"""


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now. Random: parallel tests rarely meet."""
    for _ in range(200):
        port = random.randint(_FIRST, _LAST)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no free port found between {_FIRST} and {_LAST}")


def accepts(port: int) -> bool:
    """Whether somebody accepts TCP connections on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0
