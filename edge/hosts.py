"""Where the name of a host leads to: looked up through the loop, remembered for some seconds, used in turn."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

from edge.clock import Clock

CACHE_MS = 5_000
"""Long enough to spare the resolver, short enough that a rolled deployment's new pods are found."""
SKIP_MS = 4_000
"""How long an address that refused, or did not answer, is tried last: longer than finding that out takes."""


class Addresses:
    """The addresses of one host and port.

    Every call of `candidates` starts one further on, so that connections spread over all of them; those that refused a
    moment ago come last.
    """

    __slots__ = ("_clock", "_found", "_found_at_ms", "_host", "_looking", "_port", "_refused", "_turn")

    def __init__(self, host: str, port: int, clock: Clock) -> None:
        self._host = host
        self._port = port
        self._clock = clock
        self._found: Sequence[str] = ()
        self._found_at_ms = 0
        self._refused: dict[str, int] = {}
        self._turn = 0
        self._looking: asyncio.Future[None] | None = None

    async def candidates(self) -> Sequence[str]:
        """All known addresses, best first, at least one. Raises OSError when the name leads nowhere."""
        now = self._clock.monotonic_ms()
        while not self._found or now - self._found_at_ms >= CACHE_MS:
            if self._looking is None:
                self._looking = asyncio.ensure_future(self._look_up())
                # Those who wait may all give up before it fails: then nobody else takes the error.
                self._looking.add_done_callback(lambda looked: looked.cancelled() or looked.exception())
            await asyncio.shield(self._looking)
            now = self._clock.monotonic_ms()
        first = self._turn % len(self._found)
        self._turn += 1
        turned = [*self._found[first:], *self._found[:first]]
        return sorted(turned, key=lambda address: self._refused.get(address, 0) > now)

    async def _look_up(self) -> None:
        """For all who wait: a pool that opens many connections at once asks the resolver once."""
        try:
            if _is_address(self._host):
                self._found = (self._host,)
            else:
                loop = asyncio.get_running_loop()
                infos = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                self._found = tuple(dict.fromkeys(str(info[4][0]) for info in infos))
                if not self._found:
                    raise OSError(f"{self._host} has no address")
        finally:
            self._looking = None
        self._found_at_ms = self._clock.monotonic_ms()
        self._refused = {address: until for address, until in self._refused.items() if address in self._found}

    def refused(self, address: str) -> None:
        """A connection to `address` failed: try others first for a moment, and look the name up again."""
        now = self._clock.monotonic_ms()
        self._refused[address] = now + SKIP_MS
        if all(self._refused.get(found, 0) > now for found in self._found):
            self._found_at_ms = now - CACHE_MS


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
