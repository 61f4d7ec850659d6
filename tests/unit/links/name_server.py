"""A DNS server on loopback, with a handful of SRV records."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from edge.config.addresses import Address


class NameServer(asyncio.DatagramProtocol):
    """Answers SRV questions from `records` (name without the final dot → texts of records); else there is no such name.

    `mute` names are not answered, `failing` ones with SERVFAIL, `empty` ones exist without SRV records.
    """

    def __init__(self) -> None:
        self.records: dict[str, list[str]] = {}
        self.ttl = 60
        self.mute: set[str] = set()
        self.failing: set[str] = set()
        self.empty: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.transport: asyncio.DatagramTransport | None = None

    @property
    def address(self) -> Address:
        assert self.transport is not None
        return Address(*self.transport.get_extra_info("sockname")[:2])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        (question,) = query.question
        name = question.name.to_text(omit_final_dot=True)
        self.asked[name] += 1
        if name in self.mute:
            return
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if name in self.failing:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif name in self.records:
            response.answer.append(dns.rrset.from_text(question.name, self.ttl, "IN", "SRV", *self.records[name]))
        elif name not in self.empty:
            response.set_rcode(dns.rcode.NXDOMAIN)
        assert self.transport is not None
        self.transport.sendto(response.to_wire(), addr)


@asynccontextmanager
async def name_server() -> AsyncIterator[NameServer]:
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        NameServer, local_addr=("127.0.0.1", 0)
    )
    try:
        yield server
    finally:
        transport.close()
