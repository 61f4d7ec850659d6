"""Which server is which: the fixed one, the one the sentinels name, or the primaries of a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge.config.redis_address import Address, Endpoint
from edge.errors import StoreError, StoreRefused, StoreUnavailable
from edge.store.wire import ask_once

Slots = dict[int, str]


@dataclass(frozen=True, slots=True)
class Cluster:
    """What `CLUSTER SLOTS` said: slot → ``host:port`` of its primary, and the primaries."""

    slots: Mapping[int, str]
    primaries: frozenset[str]


class Topology:
    """Finds servers. Keeps no connection open."""

    def __init__(self, address: Address, tls: Any, timeout_s: float) -> None:
        self._address = address
        self._tls = tls
        self._timeout_s = timeout_s

    async def endpoint(self, name: str) -> Endpoint:
        """Where the lane called `name` connects to. Raises StoreUnavailable."""
        address = self._address
        if address.kind == "cluster":
            return server(name)
        if address.kind == "sentinel":
            return await self._master()
        return address.endpoints[0]

    async def _master(self) -> Endpoint:
        """The first sentinel's answer that leads to a server which itself says it is the master."""
        address = self._address
        problem = "no sentinel was asked"
        for sentinel in address.endpoints:
            try:
                found = await ask_once(
                    sentinel, address.sentinel_login, self._tls, self._timeout_s,
                    "SENTINEL", "get-master-addr-by-name", address.service,
                )  # fmt: skip
                if found is None:
                    problem = f"sentinel {sentinel} knows no service {address.service}"
                    continue
                master = Endpoint(found[0].decode(), int(found[1]))
                role = await ask_once(master, address.login, self._tls, self._timeout_s, "ROLE")
            except StoreError as error:
                problem = str(error)
                continue
            if role[0] == b"master":
                return master
            problem = f"{master} is not the master yet"
        raise StoreUnavailable(problem)

    async def cluster(self, known: Sequence[str]) -> Cluster:
        """The cluster's layout, from the first node that tells. `known` nodes are asked after the configured
        ones.
        Raises StoreUnavailable when nobody answers."""
        problem = ""
        asked: list[Endpoint] = [*self._address.endpoints, *map(server, known)]
        for node in asked:
            try:
                ranges = await ask_once(node, self._address.login, self._tls, self._timeout_s, "CLUSTER", "SLOTS")
            except StoreRefused as error:
                raise StoreUnavailable(f"{node} is not a cluster: {error}") from None
            except StoreError as error:
                problem = str(error)
                continue
            if found := _layout(ranges, node):
                return found
            problem = f"{node} knows of no slots"
        raise StoreUnavailable(problem)


def server(name: str) -> Endpoint:
    """``host:port`` as an endpoint."""
    host, _, port = name.rpartition(":")
    return Endpoint(host.strip("[]"), int(port))


def _layout(ranges: Sequence[Any], told_by: Endpoint) -> Cluster | None:
    slots: Slots = {}
    for first, last, primary, *_ in ranges:
        # An empty host means: the one you asked (CLUSTER SLOTS, "unknown endpoint").
        host = primary[0].decode() if primary[0] else told_by.host
        name = f"{host}:{primary[1]}"
        slots.update(dict.fromkeys(range(first, last + 1), name))
    return Cluster(slots, frozenset(slots.values())) if slots else None
