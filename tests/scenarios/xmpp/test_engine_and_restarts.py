"""Servers that end and come back, politely and not: what our side of a stream makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.protocol.xmpp.stream_facts import Connected, Resumed, ResumeFailed
from tests.scenarios.xmpp.test_engine import be_available, bodies, say
from tests.support.waiting import wait_until
from tests.support.xmpp import SERVERS
from tests.support.xmpp_link import Link
from tests.support.xmpp_peer import Peer

pytestmark = [pytest.mark.scenario, pytest.mark.long]


@pytest.mark.parametrize("polite", [True, False])
@pytest.mark.parametrize("kind", sorted(SERVERS))
async def test_a_server_that_comes_back_gets_a_new_session(kind: str, polite: bool, tmp_path: Path) -> None:
    async with SERVERS[kind](tmp_path, accounts=3) as server:
        link = Link(server, 0)
        async with link:
            await link.until(lambda: link.last(Connected), "the link is up")
            say(link, server.jid(1), "one", "two")
            await link.all_acknowledged()
            await server.restart(polite=polite)
            await wait_until(lambda: link.over, "the link has noticed")
        async with link.again() as again, Peer(server, 1) as contact:
            failed = again.last(ResumeFailed)
            assert failed is not None, again.facts
            assert failed.unacked == ()
            assert failed.h in (None, 2)
            assert again.last(Connected) is not None
            await be_available(again, contact)
            contact.say(again.jid, "welcome back")
            await again.until(lambda: bodies(again.stanzas)[-1:] == ["welcome back"], "the new session works")


@pytest.mark.parametrize("kind", sorted(SERVERS))
async def test_a_server_that_is_only_slow_loses_nothing(kind: str, tmp_path: Path) -> None:
    async with SERVERS[kind](tmp_path, accounts=3) as server, Peer(server, 1) as contact:
        link = Link(server, 0)
        async with link:
            await be_available(link, contact)
            server.pause()
            say(link, contact.jid, "said to a server that does not hear")
            await link.cut()
        server.go_on()
        async with link.again() as again:
            assert again.last(Resumed) is not None, again.facts
            say(again, contact.jid, "and then")
            await again.all_acknowledged()
            expected = ["said to a server that does not hear", "and then"]
            await wait_until(lambda: contact.bodies == expected, "each came once")


@pytest.mark.parametrize("kind", sorted(SERVERS))
async def test_a_window_that_has_closed_is_told_with_what_had_arrived(kind: str, tmp_path: Path) -> None:
    async with SERVERS[kind](tmp_path, accounts=3, resume_s=1) as server, Peer(server, 1) as contact:
        link = Link(server, 0)
        async with link:
            await be_available(link, contact)
            say(link, contact.jid, "one", "two")
            await link.all_acknowledged()
            await link.cut()
        await wait_until(lambda: contact.presences[-1:] == [(link.jid, "unavailable")], "the server gave the link up")
        async with link.again() as again:
            failed = again.last(ResumeFailed)
            assert failed is not None, again.facts
            assert (failed.h, failed.unacked) == (3, ())
            assert again.last(Connected) is not None
