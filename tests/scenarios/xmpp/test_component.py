"""Our external component against real servers: let in, heard and told, and what it knows of what they have handled.

The other end is a client that is not ours (`Peer`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from edge.protocol.xmpp.component import Acks
from edge.protocol.xmpp.outgoing import (
    MessageFields,
    PresenceFields,
    iq_result,
    message_stanza,
    presence_stanza,
    raw_stanza,
)
from edge.protocol.xmpp.stanza import Iq, Presence
from edge.protocol.xmpp.stream_facts import Acked, AuthFailed, Connected, StreamFailed
from tests.support.waiting import wait_until
from tests.support.xmpp import COMPONENT_DOMAIN, DOMAIN, ROOMS_DOMAIN, SERVERS, XmppServer
from tests.support.xmpp_component import Component
from tests.support.xmpp_peer import Peer

pytestmark = [pytest.mark.scenario, pytest.mark.long]
shared = pytest.mark.asyncio(loop_scope="module")

BOT = f"bot@{COMPONENT_DOMAIN}"


@pytest.fixture(params=sorted(SERVERS))
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[XmppServer]:
    async with SERVERS[request.param](tmp_path) as running:
        yield running


def says(component: Component, to: str, *texts: str) -> list[bytes]:
    return [message_stanza(MessageFields(to, body=text, sender=BOT), component.sender).raw for text in texts]


@shared
async def test_a_component_is_let_in(shared_server: XmppServer) -> None:
    async with Component(shared_server) as component:
        assert component.facts == [Connected(COMPONENT_DOMAIN, False, "", None, "")]
        await component.until(lambda: component.stream.acks is Acks.PINGS, "the first ping is passed back")
        assert component.elements == []


@shared
async def test_a_wrong_secret_and_a_wrong_domain_are_refused(shared_server: XmppServer) -> None:
    async with Component(shared_server, secret="wrong") as component:
        failed = component.last(AuthFailed)
        assert failed is not None, component.facts
        assert failed.condition == "not-authorized"
    async with Component(shared_server, domain="other.test") as component:
        # ejabberd does not say which of the two is wrong.
        refused = component.last(StreamFailed) or component.last(AuthFailed)
        assert refused is not None, component.facts
        assert refused.condition == ("host-unknown" if shared_server.kind == "prosody" else "not-authorized")


async def test_a_thousand_messages_each_way(server: XmppServer) -> None:
    texts = [f"<{number}> & é" for number in range(1_000)]
    async with Peer(server, 0) as peer, Component(server) as component:
        component.send(*says(component, peer.jid, *texts[:500]))
        for text in texts:
            peer.say(BOT, text)
        for stanza in says(component, peer.jid, *texts[500:]):
            component.send(stanza)
        await peer.until_it_has(texts)
        await component.until(lambda: component.bodies == texts, "all has come to the component")
        await component.all_acknowledged()
        acked = component.last(Acked)
        assert acked is not None
        assert acked.h == 1_000
        assert component.stanzas[0].sender == peer.jid
        assert component.stanzas[0].to == BOT


@shared
@pytest.mark.parametrize("ack_from", ["", DOMAIN, ROOMS_DOMAIN, "nowhere.test"])
async def test_whoever_is_asked_something_comes_back(shared_server: XmppServer, ack_from: str) -> None:
    """A result, an error, or the ping itself."""
    async with Component(shared_server, ack_from=ack_from) as component, Peer(shared_server, 1) as peer:
        for number in range(3):
            component.send(*says(component, peer.jid, f"{ack_from} {number}"))
            await component.all_acknowledged()
        assert component.stream.acks is Acks.PINGS
        assert len(peer.bodies) <= 3
        await peer.until_it_has([f"{ack_from} {number}" for number in range(3)])
        assert component.elements == []


@shared
async def test_contacts_see_a_bot_and_ask_it_things(shared_server: XmppServer) -> None:
    async with Component(shared_server) as component, Peer(shared_server, 2) as peer:
        component.send(presence_stanza(PresenceFields(peer.jid, show="away", sender=f"{BOT}/1"), component.sender).raw)
        await wait_until(lambda: (f"{BOT}/1", "away") in peer.presences, "the bot is seen")
        peer.client.send_presence(pto=BOT)
        await component.until(lambda: [type(each) for each in component.stanzas] == [Presence], "the peer is seen")
        pinging = peer.client.plugin["xep_0199"].send_ping(f"{BOT}/1", timeout=60)
        await component.until(lambda: len(component.stanzas) == 2, "the ping has come")
        asked = component.stanzas[1]
        assert isinstance(asked, Iq)
        assert (asked.sender, asked.to, asked.query) == (peer.jid, f"{BOT}/1", ("urn:xmpp:ping", "ping"))
        assert asked.id is not None
        component.send(iq_result(asked.id, asked.sender, "", component.sender, from_=asked.to).raw)
        assert (await pinging)["type"] == "result"


ODD = [
    "to=''",
    "to='@'",
    "to='a b@chat.test'",
    "to='chat.test/\u2028'",
    f"to='u0@ch{'a' * 1_100}'",
    "to='u0@chat..test'",
    "to='chat.test' type='nonsense'",
    "to='chat.test' xml:lang='no language'",
    "to='chat.test' b:id='1' xmlns:b='u'",
    "to='chat.test' xmlns='jabber:component:accept'",
    "to='component.test'",
]
NAMES = ["bot@component.test", "\u0340@component.test", "B\u0378@component.test/\ue000", "component.test"]


@shared
async def test_what_passes_our_checks_costs_no_stream(shared_server: XmppServer) -> None:
    async with Component(shared_server) as component:
        for head in ODD:
            for name in NAMES:
                for xml in (
                    f"<message from='{name}' {head}/>",
                    f"<presence from='{name}' {head}><show>x</show></presence>",
                ):
                    component.send(raw_stanza(xml, component.sender).raw)
                    await component.until(lambda: not component.unacked or component.over, xml)
                    assert not component.over, (xml, component.facts)


@shared
async def test_a_domain_with_two_connections(shared_server: XmppServer) -> None:
    """Prosody refuses the second. ejabberd has both, and passes pings back to either: to be asked for again."""
    async with Component(shared_server, answer_s=0.2) as first, Component(shared_server, answer_s=0.2) as second:
        if shared_server.kind == "prosody":
            conflict = second.last(StreamFailed)
            assert conflict is not None, second.facts
            assert conflict.condition == "conflict"
            assert conflict.by_server
        else:
            await second.until(lambda: second.stream.acks is not Acks.UNKNOWN, "the second knows how")
            for number in range(5):
                for each in (first, second):
                    each.send(*says(each, f"u3@{DOMAIN}", f"{number}"))
                    await each.all_acknowledged()
            assert not [each for each in (*first.stanzas, *second.stanzas) if isinstance(each, Iq)]
        assert first.stream.live


async def test_what_is_not_acknowledged_is_sent_again(server: XmppServer) -> None:
    async with Peer(server, 0) as peer:
        component = Component(server)
        async with component:
            component.send(*says(component, peer.jid, "1"))
            await component.all_acknowledged()
            component.send(*says(component, peer.jid, "2", "3"), dies_before_writing=True)
            await component.cut()
        assert len(component.unacked) == 2
        async with component.again() as component:
            component.send(*says(component, peer.jid, "4"))
            await component.all_acknowledged()
            await peer.until_it_has(["1", "2", "3", "4"])


async def test_a_stopped_server_has_handled_nothing(server: XmppServer) -> None:
    component = Component(server)
    async with component:
        await component.until(lambda: component.stream.acks is Acks.PINGS, "the first ping is passed back")
        server.pause()
        component.send(*says(component, server.jid(0), *map(str, range(20))))
        await component.cut()
        assert len(component.unacked) == 20
    await server.sigkill()
    await server.start()
    async with Peer(server, 0) as peer, component.again() as component:
        await component.all_acknowledged()
        await peer.until_it_has([*map(str, range(20))])


async def test_a_component_comes_back_to_a_server_that_was_restarted(server: XmppServer) -> None:
    before = Component(server)
    for polite in (True, False, True):
        async with before.again() as component, Peer(server, 0) as peer:
            texts = [f"{polite} {number}" for number in range(5)]
            component.send(*says(component, peer.jid, *texts))
            peer.say(BOT, "hello")
            await component.until(partial(has, component, "hello"), "the component hears")
            await peer.until_it_has(texts)
            await component.all_acknowledged()
            await server.restart(polite=polite)
            await component.until(partial(getattr, component, "over"), "the component has lost its stream")
            assert component.last(AuthFailed) is None
        before = component


def has(component: Component, *bodies: str) -> bool:
    return component.bodies == [*bodies]
