"""SRV records: what DNS says, how long that is remembered, and in which order it is used."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from random import Random

import pytest

from edge.clock import ManualClock
from edge.config.addresses import Address
from edge.links import services
from edge.links.services import LEAST_S, MOST_S, NOTHING_S, Offer, Service, Services, in_order
from tests.unit.links.name_server import NameServer, name_server

NAME = "_xmpp-client._tcp.chat.example"
ONE = Service(5, 10, "xmpp.chat.example", 5222)


@pytest.fixture
async def dns() -> AsyncIterator[NameServer]:
    async with name_server() as server:
        server.records[NAME] = ["5 10 5222 XMPP.chat.example."]
        yield server


async def of(server: NameServer, name: str = NAME) -> Offer:
    return await Services(ManualClock(), server.address).of(f"{name}.")


async def test_records(dns: NameServer) -> None:
    dns.records[NAME].append("10 0 443 other.example.")
    offer = await of(dns)
    assert set(offer.services) == {ONE, Service(10, 0, "other.example", 443)}
    assert not offer.refused


@pytest.mark.parametrize("kind", ["no such name", "empty", "failing"])
async def test_nothing_is_said(dns: NameServer, kind: str) -> None:
    dns.empty.add("empty")
    dns.failing.add("failing")
    assert await of(dns, kind.replace(" ", "-")) == Offer()


async def test_a_service_that_is_not_offered(dns: NameServer) -> None:
    dns.records[NAME] = ["0 0 0 ."]
    assert await of(dns) == Offer(refused=True)


async def test_a_name_server_that_is_silent(dns: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "LOOK_UP_S", 0.05)
    dns.mute.add(NAME)
    assert await of(dns) == Offer()


async def test_no_name_server_at_all() -> None:
    assert await Services(ManualClock(), Address("no address", 53)).of("a.example.") == Offer()


@pytest.mark.parametrize(("ttl", "held_s"), [(60, 60), (0, LEAST_S), (1, LEAST_S), (86_400, MOST_S), (None, NOTHING_S)])
async def test_an_answer_is_remembered_as_long_as_it_says_within_bounds(
    dns: NameServer, ttl: int | None, held_s: int
) -> None:
    if ttl is None:
        dns.records.clear()
    else:
        dns.ttl = ttl
    clock = ManualClock()
    found = Services(clock, dns.address)
    first = await found.of(f"{NAME}.")
    clock.advance(held_s * 1000 - 1)
    assert await found.of(f"{NAME}.") == first
    assert dns.asked[NAME] == 1
    clock.advance(1)
    await found.of(f"{NAME}.")
    assert dns.asked[NAME] == 2


async def test_those_who_ask_at_once_share_the_answer_and_may_leave(dns: NameServer) -> None:
    found = Services(ManualClock(), dns.address)
    tasks = [asyncio.create_task(found.of(f"{NAME}.")) for _ in range(100)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    offers = await asyncio.gather(*tasks[1:])
    assert {offer.services for offer in offers} == {(ONE,)}
    assert dns.asked[NAME] == 1


def test_lower_priorities_come_first() -> None:
    wanted = [Service(priority, 0, f"{priority}.example", 1) for priority in range(5)]
    assert list(in_order(wanted[::-1])) == wanted


def test_weights_are_shares() -> None:
    random = Random(3).random
    equals = [Service(0, weight, str(weight), 1) for weight in (60, 20, 20, 0)]
    firsts = Counter(in_order(equals, random)[0].weight for _ in range(10_000))
    assert firsts[60] == pytest.approx(6_000, rel=0.05)
    assert 0 < firsts[0] < 200
    assert sorted(in_order(equals, random), key=str) == sorted(equals, key=str)
    assert in_order(equals, lambda: 0.0)[0].weight == 0
    assert in_order(equals, lambda: 0.999)[0].weight == 60
    assert in_order([]) == []
