"""The servers these tests stand on do what the tests rely on: shown with a client that is not ours."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import proctree
from tests.support.ports import accepts
from tests.support.waiting import wait_until
from tests.support.xmpp import HASHED_DOMAIN, SERVERS, XmppServer
from tests.support.xmpp_peer import Peer

pytestmark = [pytest.mark.scenario, pytest.mark.long]


@pytest.fixture(params=sorted(SERVERS))
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[XmppServer]:
    async with SERVERS[request.param](tmp_path, accounts=30, archive=True) as running:
        yield running


async def test_accounts_log_in_and_have_their_contacts(server: XmppServer) -> None:
    assert len(server.contacts(0)) == 20
    for direct_tls in (False, True):
        async with Peer(server, 0, direct_tls=direct_tls) as peer:
            assert peer.roster == dict.fromkeys(server.contacts(0), "both")
    async with Peer(server, 1, domain=HASHED_DOMAIN) as peer:
        assert peer.roster == {}


async def test_contacts_see_and_hear_each_other(server: XmppServer) -> None:
    async with Peer(server, 0) as peer, Peer(server, 1) as other:
        await wait_until(lambda: peer.presences_of(server.jid(1)), "the contact is seen")
        peer.say(other.jid, "<hello> & é")
        await wait_until(lambda: other.bodies == ["<hello> & é"], "the message came")
    async with Peer(server, 15) as stranger:
        assert stranger.presences_of(server.jid(1)) == []


async def test_a_server_keeps_its_ports_and_accounts_over_its_ends(server: XmppServer) -> None:
    for polite in (True, False):
        pids, port = server.members(), server.port
        await server.restart(polite=polite)
        assert not set(pids) & set(server.members())
        assert server.port == port
        async with Peer(server, 2) as peer:
            assert len(peer.roster) == 20


async def test_nothing_of_a_server_is_left(server: XmppServer) -> None:
    owners = {os.stat(f"/proc/{pid}").st_uid for pid in server.members()}
    assert 0 not in owners
    pids, scratch = server.members(), server.scratch
    await server.kill_tree()
    assert not any(map(proctree.is_alive, pids))
    assert not accepts(server.port)
    assert not scratch.exists()


async def test_a_wrong_password_is_refused(server: XmppServer) -> None:
    peer = Peer(server, 0)
    peer.client.password = "not that"
    with pytest.raises(AssertionError, match="not-authorized"):
        async with peer:
            pass
