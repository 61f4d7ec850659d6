"""Our side of an XMPP stream against real servers: it logs in, sends and hears, and goes on after a cut.

The other end is a client that is not ours (`Peer`), so that nothing here proves itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from edge.protocol.xmpp.credentials import Account
from edge.protocol.xmpp.framing import Ended
from edge.protocol.xmpp.negotiation import Tls
from edge.protocol.xmpp.outgoing import MessageFields, PresenceFields, message_stanza, presence_stanza
from edge.protocol.xmpp.stanza import Message, Presence, Stanza
from edge.protocol.xmpp.stream_facts import AuthFailed, Connected, Resumed, ResumeFailed
from tests.support.waiting import wait_until
from tests.support.xmpp import DOMAIN, HASHED_DOMAIN, PASSWORD, XmppServer
from tests.support.xmpp_link import Link
from tests.support.xmpp_peer import Peer

pytestmark = [pytest.mark.scenario, pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]


def bodies(stanzas: Sequence[Stanza]) -> list[str]:
    return [stanza.body for stanza in stanzas if isinstance(stanza, Message) and stanza.body is not None]


def say(link: Link, to: str, *texts: str, dies_before_writing: bool = False) -> None:
    stanzas = (message_stanza(MessageFields(to, body=text), link.jid).raw for text in texts)
    link.send(*stanzas, dies_before_writing=dies_before_writing)


async def be_available(link: Link, contact: Peer) -> None:
    """Say so, and wait until the contact has seen it."""
    link.send(presence_stanza(PresenceFields(), link.jid).raw)
    await wait_until(lambda: (link.jid, "available") in contact.presences, "the contact sees the link")


@pytest.mark.parametrize("tls", list(Tls))
@pytest.mark.parametrize("domain", [DOMAIN, HASHED_DOMAIN])
async def test_it_logs_in(shared_server: XmppServer, tls: Tls, domain: str) -> None:
    async with Link(shared_server, 0, "first", domain=domain, tls=tls) as link:
        connected = link.last(Connected)
        assert connected is not None, link.facts
        assert (connected.jid, connected.resumable) == (f"u0@{domain}/first", True)
        assert connected.max_s is None or connected.max_s == 300
        assert link.stream.mechanism.startswith("SCRAM-")
        assert link.keys is not None


async def test_keys_do_instead_of_a_password(shared_server: XmppServer) -> None:
    """Where the server has no password either. One that has it salts it anew at each login: keys are no use there."""
    async with Link(shared_server, 1, domain=HASHED_DOMAIN) as link:
        assert link.keys is not None
        account = Account("u1", keys=(link.keys,))
    async with Link(shared_server, 1, "", domain=HASHED_DOMAIN, credentials=account) as again:
        connected = again.last(Connected)
        assert connected is not None, again.facts
        assert connected.jid.startswith(f"u1@{HASHED_DOMAIN}/")
        assert again.keys is None


async def test_a_wrong_password_is_one_attempt(shared_server: XmppServer) -> None:
    for account in (Account("u0", "not " + PASSWORD), Account("nobody", PASSWORD)):
        async with Link(shared_server, 0, credentials=account) as link:
            assert isinstance(link.failure, AuthFailed)
            assert link.failure.condition == "not-authorized"
            assert link.over


async def test_it_sends_and_hears(shared_server: XmppServer) -> None:
    async with Peer(shared_server, 2) as contact, Link(shared_server, 1) as link:
        await be_available(link, contact)
        sent = [f"<{number}> & é" for number in range(200)]
        say(link, contact.jid, *sent)
        for text in sent:
            contact.say(link.jid, text)
        await link.all_acknowledged()
        await wait_until(lambda: contact.bodies == sent, "the contact has all of it")
        await link.until(lambda: bodies(link.stanzas) == sent, "we have all of it")
        assert contact.jid in [each.sender for each in link.stanzas if isinstance(each, Presence)]
        link.stream.close()
        link.flush()
        await wait_until(lambda: contact.presences[-1:] == [(link.jid, "unavailable")], "a polite end is seen")


@pytest.mark.parametrize("tls", [Tls.NONE, Tls.STARTTLS])
async def test_it_goes_on_after_many_cuts(shared_server: XmppServer, tls: Tls) -> None:
    """Nothing lost, nothing twice, in order, both ways; contacts see nothing."""
    link = Link(shared_server, 3, f"cut-{tls.value}", tls=tls)
    said: list[str] = []
    async with Peer(shared_server, 4, f"cut-{tls.value}") as contact:
        async with link:
            await be_available(link, contact)
            seen = len(contact.presences)
            await link.cut()
        for number in range(6):
            texts = [f"{number}: {part}" for part in range(12)]
            for text in texts[:6]:  # while nobody is connected
                contact.say(link.jid, text)
            await contact.all_taken()
            link = link.again(acknowledges=bool(number % 3))
            async with link:
                assert link.last(Resumed) is not None, link.facts
                assert link.last(Connected) is None
                say(link, contact.jid, *texts[:6])
                for text in texts[6:]:
                    contact.say(link.jid, text)
                await contact.all_taken()
                await contact.until_it_has([*said, *texts[:6]])
                say(link, contact.jid, *texts[6:], dies_before_writing=True)
                await link.cut()
            said += texts
        async with link.again() as link:
            await link.until(lambda: len(bodies(link.stanzas)) >= len(said), "all has come to us")
            await link.all_acknowledged()
            say(link, contact.jid, "last")
            contact.say(link.jid, "last")
            await link.until(lambda: bodies(link.stanzas)[-1] == "last", "the last has come to us")
            await wait_until(lambda: contact.bodies[-1] == "last", "the last has come to the contact")
            assert bodies(link.stanzas) == [*said, "last"]
            assert contact.bodies == [*said, "last"]
            assert contact.presences[seen:] == []


async def test_nothing_is_lost_while_a_session_changes_hands(shared_server: XmppServer) -> None:
    """Both sides talk at the very moment at which the server hands the session to another connection.

    With ejabberd 23.01 that costs order, and can double what we say: until the old connection's process is stopped, it
    goes on with what it has read, which the new one's count lacks. Who is acknowledged before it lets go is safe.
    """
    link = Link(shared_server, 10, "racing")
    said: list[str] = []
    async with Peer(shared_server, 11, "racing") as contact:
        async with link:
            await be_available(link, contact)
            await link.cut()
        for number in range(10):
            texts = [f"{number}: {part}" for part in range(12)]
            for text in texts[:6]:
                contact.say(link.jid, text)
            link = link.again(acknowledges=bool(number % 3))
            async with link:
                assert link.last(Resumed) is not None, link.facts
                for text in texts[6:]:
                    contact.say(link.jid, text)
                say(link, contact.jid, *texts)
                await link.cut()
            said += texts
        async with link.again() as link:
            await link.until(lambda: set(said) <= set(bodies(link.stanzas)), "all has come to us")
            await link.all_acknowledged()
            await wait_until(lambda: set(said) <= set(contact.bodies), "all has come to the contact")
            assert len(bodies(link.stanzas)) == len(said)
            if shared_server.kind == "prosody":
                assert bodies(link.stanzas) == said
                assert contact.bodies == said


async def test_a_stream_has_one_owner(shared_server: XmppServer) -> None:
    async with Link(shared_server, 5, "owned") as first, Peer(shared_server, 6) as contact:
        await be_available(first, contact)
        async with first.again() as second:
            assert second.last(Resumed) is not None, second.facts
            await wait_until(lambda: first.over, "the first has lost its stream")
            contact.say(second.jid, "to the second")
            await second.until(lambda: bodies(second.stanzas) == ["to the second"], "the second hears")
            assert bodies(first.stanzas) == []
            assert first.last(Ended) is None or first.failure is not None
            assert not [kind for jid, kind in contact.presences if jid == first.jid and kind == "unavailable"]


async def test_what_was_ended_politely_cannot_be_resumed(shared_server: XmppServer) -> None:
    async with Link(shared_server, 7, "ended") as link:
        assert link.last(Connected) is not None, link.facts
        kept = link.kept
    link.kept = kept
    async with link.again() as again:
        failed = again.last(ResumeFailed)
        assert failed is not None, again.facts
        assert failed.unacked == ()
        connected = again.last(Connected)
        assert connected is not None
        assert connected.jid == f"u7@{DOMAIN}/ended"
        assert connected.resumable


async def test_the_server_can_send_less_while_nobody_looks(shared_server: XmppServer) -> None:
    """Prosody holds presence back, ejabberd not always: what both must do is go on, and keep count."""
    async with Link(shared_server, 8, "quiet", active=False) as link, Peer(shared_server, 9) as contact:
        await be_available(link, contact)
        contact.say(link.jid, "hello")
        await link.until(lambda: bodies(link.stanzas) == ["hello"], "messages come all the same")
        await link.cut()
        async with link.again() as again:
            contact.say(link.jid, "hello again")
            await again.until(lambda: bodies(again.stanzas) == ["hello", "hello again"], "and after resuming")
            again.stream.set_active(True)
            say(again, contact.jid, "active")
            await again.all_acknowledged()
