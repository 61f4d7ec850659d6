"""All links of a process, on a real Redis: begun once wherever it is ordered, shared out when an edge dies, left alone
where nobody here can have them, and given away when this edge goes. No link gets to a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from edge.backend.base import Release
from edge.clock import SystemClock
from edge.config import Secret, XmppSettings
from edge.errors import Conflict, SessionGone, StoreUnavailable
from edge.links.vault import Vault
from edge.protocol.callbacks.actions import XmppConnect
from edge.protocol.xmpp.credentials import Account
from edge.sessions.journal import Journal
from edge.sessions.links.house import House
from edge.sessions.links.link import Link
from edge.store.links_base import LinkRow
from edge.telemetry.metrics import ProcessMeters
from edge.wheel import Wheel
from tests.support.waiting import wait_until
from tests.unit.sessions.links.bench import LossyLinks
from tests.unit.store.conftest import Edge, OpenEdge
from tests.unit.store.conftest import row as client_row
from tests.unit.store.some_links import new

DOMAIN, COMPONENT = "chat.example", "visitors.example"
SERVERS = {
    DOMAIN: XmppSettings(domain=DOMAIN),
    COMPONENT: XmppSettings(domain=COMPONENT, component_secret=Secret("s3cret")),
}
CONNECT = XmppConnect(f"u42@{DOMAIN}", Account("", "pencil"), attach=("s1",))
LINK = "x:u42"


class Home:
    """A house, and an edge around it as far as a house sees one. Its links wait for ever to be let to their server."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.links = LossyLinks(edge.store.links)
        self.handle: Any = SimpleNamespace(settings=SimpleNamespace(app="chat"), name="*/")
        self.routes = {("*/", "chat"): self.handle}
        self.clients: set[str] = set()
        """Client sessions of this edge."""
        self.told = 0
        """How often the other edges heard of links that are to be had."""
        self.house = House()
        clock = SystemClock()
        self.wheel = Wheel(clock)
        self.wheel.start(asyncio.get_running_loop())
        release = Release("chat", "abc", "http://backend")
        store: Any = SimpleNamespace(links=self.links, load=edge.store.load)
        shared = SimpleNamespace(
            store=store,
            clock=clock,
            wheel=self.wheel,
            edge_id=edge.id,
            metrics=SimpleNamespace(process=ProcessMeters()),
            releases=SimpleNamespace(version=1, choose=lambda *_, **__: release),
            deliverer=SimpleNamespace(ready=lambda mailbox: None),
            journal=Journal(),
            registry=SimpleNamespace(get=lambda id: id if id in self.clients else None),
            post=SimpleNamespace(tell_links_freed=self._tell),
        )
        services: Any = SimpleNamespace(
            shared=shared, loop=asyncio.get_running_loop(), dialer=None, pacer=self, vault=Vault([bytes(32)]),
            server=SERVERS.get, find_route=lambda name, app: self.routes.get((name, app)), random=lambda: 0.0,
            house=self.house,
        )  # fmt: skip
        self.house.services = services

    async def admitted(self, server: XmppSettings) -> None:
        await asyncio.Event().wait()

    async def _tell(self) -> None:
        self.told += 1

    async def connect(self, link: str = LINK, action: XmppConnect = CONNECT) -> tuple[Link | LinkRow, bool]:
        return await self.house.connect(link, action, self.handle)

    async def owner(self, link: str) -> str | None:
        row = await self.edge.store.links.load(link)
        return None if row is None else row.owner

    async def close(self) -> None:
        self.house.lose_all()
        self.wheel.stop()


@pytest.fixture
async def homes(open_edge: OpenEdge, redis_url: str, prefix: str) -> AsyncIterator[tuple[Home, Home]]:
    """Two edges of one Redis."""
    made = Home(await open_edge(redis_url, prefix)), Home(await open_edge(redis_url, prefix))
    yield made
    for home in made:
        await home.close()


async def yes() -> bool:
    return True


# ---------------------------------------------------------------------- beginning


async def test_a_link_is_begun_once_wherever_it_is_ordered(homes: tuple[Home, Home]) -> None:
    here, there = homes
    (link, begun), (row, again) = await here.connect(), await there.connect()
    assert isinstance(link, Link)
    assert isinstance(row, LinkRow)
    assert (begun, again, row.owner, len(here.house), len(there.house)) == (True, False, here.edge.id, 1, 0)
    assert await here.connect() == (link, False)
    stored = await here.edge.store.links.load(LINK)
    assert stored is not None
    assert b"pencil" not in stored.credentials
    assert (stored.attached, stored.detached_at) == (("s1",), 0)


@pytest.mark.parametrize(
    ("action", "problem"),
    [
        (
            XmppConnect("u1@elsewhere.example", Account("", "p")),
            "no .* is for elsewhere.example: links go nowhere else",
        ),
        (XmppConnect(f"u1@{DOMAIN}"), f"{DOMAIN} is a server for clients: it needs auth"),
        (XmppConnect(COMPONENT, Account("", "p")), f"{COMPONENT} is a component: it needs no auth"),
    ],
)
async def test_what_the_settings_do_not_allow_is_not_begun(
    homes: tuple[Home, Home], action: XmppConnect, problem: str
) -> None:
    with pytest.raises(Conflict, match=problem):
        await homes[0].connect("x:u1", action)
    assert await homes[0].owner("x:u1") is None


async def test_an_edge_that_goes_down_begins_nothing_and_takes_nothing(homes: tuple[Home, Home]) -> None:
    here, there = homes
    await there.house.give_away_all()
    await here.edge.store.links.connect(new("x:u1"), "dead")
    with pytest.raises(SessionGone, match="going down"):
        await there.connect()
    assert await there.house.claim("x:u1", dead="dead") is None
    assert await there.house.claim_estate("dead", yes) == 0
    assert (await there.owner(LINK), await there.owner("x:u1")) == (None, "dead")


# ---------------------------------------------------------------------- taking over


async def test_the_links_of_a_dead_edge_are_shared_by_those_who_are_there(homes: tuple[Home, Home]) -> None:
    ids = [f"x:u{number}" for number in range(450)]
    for id in ids:
        await homes[0].edge.store.links.connect(new(id), "dead")
    taken = await asyncio.gather(*(home.house.claim_estate("dead", yes) for home in homes))
    assert sum(taken) == len(ids)
    held = [{link.id for link in home.house} for home in homes]
    assert held[0] | held[1] == set(ids)
    assert not held[0] & held[1]
    assert [home.house.services.shared.metrics.process.links_claimed.value for home in homes] == taken


async def test_taking_over_stops_when_it_is_told_to(homes: tuple[Home, Home]) -> None:
    for number in range(250):
        await homes[0].edge.store.links.connect(new(f"x:u{number}"), "dead")

    async def no() -> bool:
        return False

    assert await homes[0].house.claim_estate("dead", no) == 200
    assert await homes[1].house.claim_estate("dead", yes) == 50


async def test_a_store_that_goes_away_meanwhile_is_somebody_elses_news(homes: tuple[Home, Home]) -> None:
    await homes[0].edge.store.links.connect(new("x:u1"), "dead")
    homes[0].links.fate = lambda name: "after" if name == "claim" else ""
    with pytest.raises(StoreUnavailable):
        await homes[0].house.claim_estate("dead", yes)
    homes[0].links.fate = lambda name: ""
    # Its answer was lost: the link is ours, and nobody here knows yet.
    assert await homes[0].owner("x:u1") == homes[0].edge.id
    assert isinstance(await homes[0].house.claim("x:u1"), Link)


async def test_a_link_is_claimed_once_by_those_who_ask_at_the_same_time(homes: tuple[Home, Home]) -> None:
    await homes[0].edge.store.links.connect(new("x:u1"), "dead")
    house = homes[0].house
    found = await asyncio.gather(*(house.claim("x:u1", dead="dead") for _ in range(5)))
    assert [link for link in found if link is not None] == [house.get("x:u1")]
    assert await house.claim("x:u1", dead="dead") is house.get("x:u1")


async def test_a_link_whose_route_is_not_here_is_left_for_others(
    homes: tuple[Home, Home], caplog: pytest.LogCaptureFixture
) -> None:
    here, there = homes
    here.routes.clear()
    await here.edge.store.links.connect(new("x:u1"), "dead")
    assert await here.house.claim("x:u1", dead="dead") is None
    assert "link x:u1 of app 'chat' is left alone: no route here leads there" in caplog.text
    assert await here.owner("x:u1") == ""
    assert await there.house.claim_freed(yes) == 1
    assert await there.owner("x:u1") == there.edge.id


# ---------------------------------------------------------------------- clients


async def test_a_client_that_ends_lets_go_of_its_links_only(homes: tuple[Home, Home]) -> None:
    house = homes[0].house
    await homes[0].connect("x:u1", XmppConnect(f"u1@{DOMAIN}", Account("", "p"), attach=("s1", "s2")))
    await homes[0].connect("x:u2", XmppConnect(f"u2@{DOMAIN}", Account("", "p"), attach=("s2",)))
    house.client_ended("s1")
    house.client_ended("nobody")
    assert [tuple(link.ledger.base.attached) for link in house] == [("s2",), ("s2",)]
    house.client_ended("s2")
    assert [tuple(link.ledger.base.attached) for link in house] == [(), ()]


async def test_clients_elsewhere_that_are_no_more_are_found_out(homes: tuple[Home, Home]) -> None:
    here, there = homes
    here.clients.add("s-here")
    await there.edge.store.register(client_row("s-there", there.edge.id))
    clients = ("s-here", "s-there", "s-gone")
    link, _ = await here.connect(LINK, XmppConnect(f"u42@{DOMAIN}", Account("", "p"), attach=clients))
    assert isinstance(link, Link)
    await here.house.check_clients()
    assert tuple(link.ledger.base.attached) == ("s-here", "s-there")


# ---------------------------------------------------------------------- going


async def test_everything_is_given_away_and_found_by_the_others(homes: tuple[Home, Home]) -> None:
    here, there = homes
    for number in range(20):
        await here.connect(f"x:u{number}", XmppConnect(f"u{number}@{DOMAIN}", Account("", "p"), attach=()))
    assert await here.house.give_away_all() == 0
    assert len(here.house) == 0
    assert 1 <= here.told <= 3
    assert await there.house.claim_freed(yes) == 20
    assert {await here.owner(f"x:u{number}") for number in range(20)} == {there.edge.id}


async def test_what_cannot_be_given_away_is_counted(homes: tuple[Home, Home]) -> None:
    here, _ = homes
    await here.connect()
    here.links.fate = lambda name: "before" if name == "release" else ""
    assert await here.house.give_away_all() == 1
    assert here.told == 1
    assert await here.owner(LINK) == here.edge.id


async def test_a_link_that_is_over_is_deleted_as_soon_as_redis_is_there(homes: tuple[Home, Home]) -> None:
    here, _ = homes
    link, _ = await here.connect()
    assert isinstance(link, Link)
    tries = iter(["before", ""])
    here.links.fate = lambda name: next(tries) if name == "disconnect" else ""
    link.ledger.close()
    here.house.forget(link)
    assert here.house.get(LINK) is None

    async def deleted() -> bool:
        return await here.owner(LINK) is None

    await wait_until(deleted, "nothing is kept of it")
    assert here.links.asked.count("disconnect") == 2


async def test_an_edge_that_was_declared_dead_lets_go_of_everything_at_once(homes: tuple[Home, Home]) -> None:
    here, _ = homes
    link, _ = await here.connect()
    assert isinstance(link, Link)
    here.house.lose_all()
    assert link.gone
    assert len(here.house) == 0
    assert await here.owner(LINK) == here.edge.id  # who declared it dead takes it from there
