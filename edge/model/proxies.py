"""Who the client is, when proxies stand in front of the edge.

X-Forwarded-For and X-Forwarded-Proto are what anybody says they are. They are believed only as far as a chain of
trusted proxies reaches: from the socket's peer, through the list from right to left, up to the first address that is
not a trusted proxy. That one is the client; what stands left of it is the client's own invention.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

Networks = Sequence[IPv4Network | IPv6Network]


def parse_networks(networks: Sequence[str]) -> Networks:
    """Networks and single addresses (``10.0.0.0/8``, ``::1``). Raises ValueError for anything else."""
    return tuple(ip_network(network, strict=False) for network in networks)


def is_trusted(address: str, trusted: Networks) -> bool:
    """Whether `address` (no port) lies in one of the networks. What is no IP address is not trusted."""
    if not trusted:
        return False
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    candidate = mapped if mapped is not None else parsed
    return any(candidate in network for network in trusted)


def true_client(peer: tuple[str, int], forwarded_for: Sequence[str], trusted: Networks) -> tuple[str, int]:
    """Address and port of the client; port 0 where only a proxy's word for the address is known.

    `forwarded_for`: the values of all X-Forwarded-For headers, in order.
    """
    client = peer
    hops = [hop.strip() for value in forwarded_for for hop in value.split(",")]
    while hops and is_trusted(client[0], trusted):
        parsed = _parse_hop(hops.pop())
        if parsed is None:
            break
        client = parsed
    return client


def true_scheme(own: str, peer: str, forwarded_proto: Sequence[str], trusted: Networks) -> str:
    """The scheme the client used: the proxy's word if `peer` is trusted, else `own`."""
    if forwarded_proto and is_trusted(peer, trusted):
        said = forwarded_proto[-1].rpartition(",")[2].strip().lower()
        return {"https": "wss", "wss": "wss", "http": "ws", "ws": "ws"}.get(said, own)
    return own


def show_address(address: str, port: int) -> str:
    """``ip:port``, IPv6 in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _parse_hop(hop: str) -> tuple[str, int] | None:
    """One X-Forwarded-For entry: an address, maybe in brackets, maybe with a port."""
    port = ""
    if hop.startswith("["):
        hop, _, rest = hop[1:].partition("]")
        port = rest.removeprefix(":")
    elif hop.count(":") == 1:
        hop, _, port = hop.partition(":")
    try:
        return str(ip_address(hop)), int(port) if port.isdecimal() and port.isascii() else 0
    except ValueError:
        return None
