"""Where DNS says a service is: SRV records (RFC 2782), asked for once for all who want to know, and remembered.

The only door to dnspython. What is done where DNS says nothing is `edge.links.dialer`'s.
"""

from __future__ import annotations

import asyncio
import random as randomness
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
from dns.rdtypes.IN.SRV import SRV

from edge.clock import Clock
from edge.config.addresses import Address

LEAST_S = 5
"""A record may ask not to be remembered; thousands of links that connect at once must not each ask."""
MOST_S = 300
NOTHING_S = 30
"""How long it is remembered that there is no record."""
LOOK_UP_S = 5.0
"""For all name servers together."""


@dataclass(frozen=True, slots=True)
class Service:
    """One record."""

    priority: int
    weight: int
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Offer:
    """What DNS says of a service."""

    services: Sequence[Service] = ()
    """Empty: nothing, or nothing that could be heard."""
    refused: bool = False
    """The service is not offered, and it is said so (a record whose target is the root)."""


@dataclass(frozen=True, slots=True)
class _Known:
    offer: Offer
    until_ms: int


class Services:
    """Looks services up, with the name servers of the machine or with `name_server` alone."""

    __slots__ = ("_clock", "_known", "_looking", "_name_server")

    def __init__(self, clock: Clock, name_server: Address | None = None) -> None:
        self._clock = clock
        self._name_server = name_server
        self._known: dict[str, _Known] = {}
        self._looking: dict[str, asyncio.Task[Offer]] = {}

    async def of(self, name: str) -> Offer:
        """Of ``_service._proto.domain``, a whole name in ASCII. Never raises; takes 5 s at most."""
        known = self._known.get(name)
        if known is not None and known.until_ms > self._clock.monotonic_ms():
            return known.offer
        looking = self._looking.get(name)
        if looking is None:
            looking = self._looking[name] = asyncio.create_task(self._look_up(name))
        return await asyncio.shield(looking)

    async def _look_up(self, name: str) -> Offer:
        try:
            offer, ttl_s = await self._ask(name)
            self._known[name] = _Known(offer, self._clock.monotonic_ms() + 1000 * ttl_s)
            return offer
        finally:
            del self._looking[name]

    async def _ask(self, name: str) -> tuple[Offer, int]:
        """And for how many seconds that holds."""
        try:
            answer = await self._resolver().resolve(
                dns.name.from_text(name),
                dns.rdatatype.SRV,
                search=False,
                lifetime=LOOK_UP_S,
                backend=dns.asyncbackend.get_backend("asyncio"),
            )
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return Offer(), NOTHING_S
        except (dns.exception.DNSException, OSError, ValueError):
            # RFC 6120 §3.2.1: a query that is not answered is no reason not to try the domain itself.
            return Offer(), LEAST_S
        records = [record for record in answer if isinstance(record, SRV)]
        services = tuple(
            Service(record.priority, record.weight, record.target.to_text(omit_final_dot=True).lower(), record.port)
            for record in records
            if record.target != dns.name.root
        )
        ttl_s = min(max(answer.chaining_result.minimum_ttl, LEAST_S), MOST_S)
        return Offer(services, refused=bool(records) and not services), ttl_s

    def _resolver(self) -> dns.asyncresolver.Resolver:
        """A new one each time: the name servers of a machine change (a laptop moves, a container is connected)."""
        if self._name_server is None:
            return dns.asyncresolver.Resolver()
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [self._name_server.host]
        resolver.port = self._name_server.port
        return resolver


def in_order(services: Sequence[Service], random: Callable[[], float] = randomness.random) -> Sequence[Service]:
    """By priority, and within one by the draw that RFC 2782 describes ("weight"). `random` draws from [0, 1)."""
    ordered: list[Service] = []
    by_priority = sorted(services, key=lambda service: (service.priority, service.weight))
    for _, equals in groupby(by_priority, key=lambda service: service.priority):
        left = list(equals)
        while left:
            drawn = int(random() * (sum(service.weight for service in left) + 1))
            chosen = 0
            while (drawn := drawn - left[chosen].weight) > 0:
                chosen += 1
            ordered.append(left.pop(chosen))
    return ordered
