"""The XMPP server gives a link's session up: the link tells it once, has a new one, and the archive fills the gap."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.xmpp.holding import Held, full_jid, held, link_id
from tests.support.waiting import wait_until
from tests.support.xmpp import SERVERS
from tests.support.xmpp_peer import Peer

pytestmark = [pytest.mark.scenario, pytest.mark.parametrize("kind", sorted(SERVERS))]

LINKS = range(5)
CONTACT = len(LINKS)
ARCHIVE = {"watchers": 1, "contacts": 0, "archive": True}


def words(what: str, number: int, count: int = 3) -> list[str]:
    return [f"{what} {place} for {number}" for place in range(count)]


async def say_to_all(here: Held, contact: Peer, what: str, count: int = 3) -> None:
    """So many messages to each link, by its account: whoever of it is there, or the archive, gets them."""
    for number in LINKS:
        for body in words(what, number, count):
            contact.say(here.server.jid(number), body)
    await contact.all_taken()


async def seen(contact: Peer, kind: str) -> None:
    """The contact has last seen this of every link."""
    wanted = {full_jid(number): kind for number in LINKS}
    await wait_until(lambda: dict(contact.presences).items() >= wanted.items(), f"all links are {kind}")


def reset_once(here: Held) -> None:
    """Each link has told of one new session, and whether anything is missing."""
    for number in LINKS:
        link = link_id(number)
        assert len(here.notes.of("reset", link)) == 1
        assert len(here.notes.of("connected", link)) == 1  # the first one; a reset says that there is another
        [caught_up] = here.notes.of("caught_up", link)
        assert caught_up.fields["whole"]
        assert here.notes.of("disconnected", link) == []


async def both_ways_work(here: Held, contact: Peer, heard_before: dict[int, list[str]]) -> None:
    """New messages go both ways, and the links have heard nothing but these and what they had heard before."""
    already = set(contact.bodies)
    for number in LINKS:
        contact.say(full_jid(number), f"echo back-{number}")
    back = {f"back-{number}" for number in LINKS}
    await wait_until(lambda: set(contact.bodies) - already >= back, "all links answer")
    for number in LINKS:
        await here.has_heard(number, [*heard_before[number], f"echo back-{number}"])


@pytest.mark.parametrize("polite", [True, False], ids=["ended", "killed"])
async def test_a_server_that_restarts_costs_each_link_a_new_session(kind: str, polite: bool, tmp_path: Path) -> None:
    async with held(tmp_path, kind, accounts=len(LINKS) + 1, server=ARCHIVE) as here:
        async with Peer(here.server, CONTACT) as contact:
            await here.connect(LINKS)
            await seen(contact, "available")
            await say_to_all(here, contact, "before")
            for number in LINKS:
                await here.has_heard(number, words("before", number))
        await here.server.restart(polite=polite)
        async with Peer(here.server, CONTACT, "again") as contact:
            await say_to_all(here, contact, "after")  # in the middle of the links' return
            await here.happened("caught_up", LINKS)
            await seen(contact, "available")
            heard = {number: [*words("before", number), *words("after", number)] for number in LINKS}
            await both_ways_work(here, contact, heard)
            reset_once(here)


@pytest.mark.parametrize("polite", [True, False], ids=["ended", "killed"])
async def test_a_server_that_restarts_while_no_edge_is_there(kind: str, polite: bool, tmp_path: Path) -> None:
    async with held(tmp_path, kind, accounts=len(LINKS) + 1, server=ARCHIVE) as here:
        async with Peer(here.server, CONTACT) as contact:
            await here.connect(LINKS)
            await seen(contact, "available")
            await say_to_all(here, contact, "before")
            for number in LINKS:
                await here.has_heard(number, words("before", number))
        await here.kill(here.edges[0])
        await here.server.restart(polite=polite)
        async with Peer(here.server, CONTACT, "again") as contact:
            await say_to_all(here, contact, "missed")
            await here.start_edge()
            await here.happened("caught_up", LINKS)
            heard = {number: [*words("before", number), *words("missed", number)] for number in LINKS}
            await both_ways_work(here, contact, heard)
            reset_once(here)
            assert all(told.fields["replay"] == ("missed" in (told.body or "")) for told in here.notes.all("message"))


async def test_a_server_that_freezes_costs_nothing(kind: str, tmp_path: Path) -> None:
    impatient = {"silence_s": 2, "answer_s": 1, "negotiation_s": 1}
    async with (
        held(tmp_path, kind, 2, accounts=len(LINKS) + 1, server=ARCHIVE, xmpp=impatient) as here,
        Peer(here.server, CONTACT) as contact,
    ):
        await here.connect(LINKS, detached=True)
        await seen(contact, "available")
        await say_to_all(here, contact, "before")
        here.server.pause()
        try:
            await here.happened("detached", LINKS)
            orders = [
                (link_id(number), "send", {"to": contact.jid, "body": f"into the void {number}"}) for number in LINKS
            ]
            await here.order(*orders)
        finally:
            here.server.go_on()
        await here.happened("resumed", LINKS)
        said = {f"into the void {number}" for number in LINKS}
        await wait_until(lambda: said <= set(contact.bodies), "what was said meanwhile has come")
        assert len(contact.bodies) == len(said)
        await both_ways_work(here, contact, {number: words("before", number) for number in LINKS})
        assert set(here.counts("connected", LINKS).values()) == {1}
        assert [contact.saw(full_jid(number)) for number in LINKS] == [["available"]] * len(LINKS)


async def test_a_window_that_has_closed_costs_a_new_session_and_no_message(kind: str, tmp_path: Path) -> None:
    server = {**ARCHIVE, "resume_s": 1}
    async with (
        held(tmp_path, kind, accounts=len(LINKS) + 1, server=server) as here,
        Peer(here.server, CONTACT) as contact,
    ):
        await here.connect(LINKS)
        await seen(contact, "available")
        await say_to_all(here, contact, "before")
        for number in LINKS:
            await here.has_heard(number, words("before", number))
        await here.kill(here.edges[0])
        await say_to_all(here, contact, "just behind")
        await seen(contact, "unavailable")
        await say_to_all(here, contact, "missed")
        await here.start_edge()
        await here.happened("caught_up", LINKS)
        await seen(contact, "available")
        heard = {
            number: [*words("before", number), *words("just behind", number), *words("missed", number)]
            for number in LINKS
        }
        await both_ways_work(here, contact, heard)
        reset_once(here)


async def test_a_queue_that_overflowed_costs_a_new_session_and_no_message(kind: str, tmp_path: Path) -> None:
    # A page of the archive (100 messages) must find room in the queue of the new session.
    server = {**ARCHIVE, "queue": 110}
    async with (
        held(tmp_path, kind, accounts=len(LINKS) + 1, server=server) as here,
        Peer(here.server, CONTACT) as contact,
    ):
        await here.connect(LINKS)
        await seen(contact, "available")
        await say_to_all(here, contact, "before")
        for number in LINKS:
            await here.has_heard(number, words("before", number))
        await here.kill(here.edges[0])
        await say_to_all(here, contact, "missed", 130)
        await here.start_edge()
        await here.happened("caught_up", LINKS)
        heard = {number: [*words("before", number), *words("missed", number, 130)] for number in LINKS}
        await both_ways_work(here, contact, heard)
        reset_once(here)
