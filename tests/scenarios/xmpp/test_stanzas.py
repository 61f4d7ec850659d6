"""What we send and how we read, shown on real servers.

A stanza that passes our checks must not cost the link its stream, however odd it is: servers answer with an error
stanza, or not at all. And it must count as one stanza (XEP-0198), or both sides would lose count of all the others.
"""

from __future__ import annotations

import asyncio

import pytest

from edge.protocol.xmpp import names
from edge.protocol.xmpp.archive import Archived, Catchup, CatchupEnd
from edge.protocol.xmpp.element import Element
from edge.protocol.xmpp.iq_table import IqTable
from edge.protocol.xmpp.outgoing import (
    MessageFields,
    PresenceFields,
    iq_stanza,
    message_stanza,
    presence_stanza,
    raw_stanza,
)
from edge.protocol.xmpp.stanza import read_message, read_presence, read_roster
from tests.support.waiting import wait_until
from tests.support.xmpp import DOMAIN, XmppServer
from tests.support.xmpp_peer import Peer
from tests.support.xmpp_raw import RawClient

pytestmark = [pytest.mark.scenario, pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]

TO = f"to='u1@{DOMAIN}'"
ODD = [
    "<message/>",
    f"<message {TO}/>",
    f"<a:message xmlns:a='jabber:client' {TO}><a:body>x</a:body></a:message>",
    f"<message xmlns='jabber:client' {TO}><body>x</body></message>",
    f"<message {TO}><b:x xmlns:b='u' b:y='1'/></message>",
    f"<message {TO} xmlns:stream='jabber:client'><stream:body>x</stream:body></message>",
    f"<message {TO} xmlns:b='u'><b:body xmlns:b='v'/></message>",
    f"<message {TO} from='u0@{DOMAIN}'/>",
    f"<message {TO} from='u0@{DOMAIN}/raw'/>",
    f"<message {TO} " + " ".join(f"a{number}='1'" for number in range(60)) + "/>",
    f"<message {TO}>plain text<body>x</body>plain</message>",
    f"<message {TO} type='nonsense'/>",
    f"<message {TO} type='error'><error/></message>",
    f"<message {TO} id='" + "i" * 5_000 + "'/>",
    f"<message {TO} xml:lang='" + "x" * 3_000 + "'/>",
    f"<message {TO}><delay xmlns='urn:xmpp:delay' stamp='nonsense'/></message>",
    f"<message {TO}><received xmlns='urn:xmpp:carbons:2'/></message>",
    f"<message {TO}><r xmlns='urn:xmpp:sm:3'/></message>",
    f"<message {TO}><body><![CDATA[</message>]]></body></message>",
    f"<message {TO}><body>&#xd;&#9;&lt;</body></message>",
    f"<message {TO}><body>\u2028\U0001f600\ufffd</body></message>",
    f"<message {TO}>" + "<a>" * 63 + "</a>" * 63 + "</message>",
    f"<message {TO}><body>" + "x" * 262_060 + "</body></message>",
    "<message to=''/>",
    "<message to='@@@'/>",
    f"<message to='a b@{DOMAIN}'/>",
    "<message to='" + "i" * 5_000 + f"@{DOMAIN}'/>",
    f"<message to='u1@{DOMAIN}/" + "i" * 5_000 + "'/>",
    "<message type='error'/>",
    "<presence type='nonsense'/>",
    "<presence to='@@'/>",
    "<presence><priority>x</priority></presence>",
    "<presence><show>zzz</show></presence>",
    "<presence type='subscribe'/>",
    "<presence type='subscribe' to='@@'/>",
    f"<presence type='probe' {TO}/>",
    "<presence type='unavailable'/>",
    "<iq type='get' id='1'><x/></iq>",
    "<iq type='get' id='1'><x xmlns='nonsense'/></iq>",
    "<iq type='get' id='1' to='@@'><x xmlns='n'/></iq>",
    "<iq type='result' id='1'/>",
    f"<iq type='result' id='1' {TO}/>",
    "<iq type='error' id='1'/>",
    "<iq type='set' id='2'><query xmlns='jabber:iq:roster'/></iq>",
    "<iq type='set' id='2'><query xmlns='jabber:iq:roster'><item jid='@@'/></query></iq>",
    "<iq type='set' id='2'><query xmlns='jabber:iq:roster'><item/><item/></query></iq>",
    "<iq type='set' id='2'><vCard xmlns='vcard-temp'><a/></vCard></iq>",
    "<iq type='set' id='2'><query xmlns='jabber:iq:privacy'><x/></query></iq>",
    "<iq type='set' id='2'><query xmlns='jabber:iq:private'/></iq>",
    "<iq type='set' id='2'><enable xmlns='urn:xmpp:carbons:2'/></iq>",
    "<iq type='set' id='2'><bogus xmlns='urn:xmpp:carbons:2'/></iq>",
    "<iq type='get' id='2'><query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>x</max></set>"
    "</query></iq>",
    "<iq type='set' id='2'><query xmlns='urn:xmpp:mam:2'><x xmlns='jabber:x:data' type='submit'><field var='start'>"
    "<value>x</value></field></x></query></iq>",
]


async def test_nothing_that_passes_costs_the_stream_or_its_count(shared_server: XmppServer) -> None:
    async with RawClient(shared_server, 0) as client:
        for count, xml in enumerate(ODD, 1):
            client.say(raw_stanza(xml, client.jid).raw)
            assert await client.handled() == count, xml[:100]


async def test_fields_reach_a_contact_and_theirs_reach_us(shared_server: XmppServer) -> None:
    async with RawClient(shared_server, 2) as client, Peer(shared_server, 3) as contact:
        account = shared_server.jid(2)
        status = "<here> & 'there'\n\ttoo"
        client.say(presence_stanza(PresenceFields(show="dnd", status=status, priority=7), client.jid).raw)
        await wait_until(lambda: (client.jid, "dnd") in contact.presences, "the contact sees us")
        body = '<hi> & "bye" ]]> \U0001f600\nline'
        client.say(message_stanza(MessageFields(contact.jid, body=body, subject="s", thread="t"), client.jid).raw)
        await wait_until(lambda: contact.bodies == [body], "the message came as it was")
        seen = read_presence(
            await client.next(lambda each: each.name == "presence" and each.attributes["from"] == contact.jid), account
        )
        assert (seen.type, seen.to) == ("available", client.jid)
        contact.say(client.jid, body, "m-1")
        read = read_message(await client.next(lambda each: each.attributes.get("id") == "m-1"), account)
        assert (read.sender, read.to, read.type, read.body) == (contact.jid, client.jid, "chat", body)
        assert read.stanza_id


async def test_the_roster_and_its_pushes(shared_server: XmppServer) -> None:
    async with RawClient(shared_server, 4) as client:
        account, asked = shared_server.jid(4), IqTable(client.jid)

        async def ask(kind: str, id: str, xml: str) -> Element:
            asked.ask(id, None, "roster", 0)
            stanza = iq_stanza("get" if kind == "get" else "set", id, None, xml, client.jid)
            answer = await client.iq(stanza.raw)
            assert asked.answered(answer) is not None
            return answer

        roster = read_roster(await ask("get", "r-1", f"<query xmlns='{names.ROSTER}'/>"), account)
        assert roster is not None
        assert roster.full
        assert {item.jid: item.subscription for item in roster.items} == dict.fromkeys(
            shared_server.contacts(4), "both"
        )
        contact = shared_server.contacts(4)[0]
        changed = f"<item jid='{contact}' name='&lt;Bob&gt;'><group>friends</group></item>"
        await ask("set", "r-2", f"<query xmlns='{names.ROSTER}'>{changed}</query>")
        push = await client.next(lambda each: each.name == "iq" and each.attributes["type"] == "set")
        pushed = read_roster(push, account)
        assert pushed is not None
        assert not pushed.full
        (item,) = pushed.items
        assert (item.jid, item.subscription, item.name, item.groups) == (contact, "both", "<Bob>", ("friends",))


async def test_copies_of_what_another_client_of_ours_says_and_hears(shared_server: XmppServer) -> None:
    account = shared_server.jid(6)
    async with (
        RawClient(shared_server, 6) as client,
        Peer(shared_server, 6, "other") as other,
        Peer(shared_server, 7) as contact,
    ):
        client.say(presence_stanza(PresenceFields(), client.jid).raw)
        await client.iq(iq_stanza("set", "c-1", None, f"<enable xmlns='{names.CARBONS}'/>", client.jid).raw)
        other.say(contact.jid, "said", "m-1")
        await wait_until(lambda: contact.bodies == ["said"], "the contact has it")
        contact.say(other.jid, "heard", "m-2")
        for body, carbon, sender in (("said", "sent", other.jid), ("heard", "received", contact.jid)):
            copied = await client.next(lambda each, body=body: each.name == "message" and body.encode() in each.raw)  # type: ignore[misc]
            read = read_message(copied, account)
            assert (read.carbon, read.body, read.sender) == (carbon, body, sender)


async def _fetch(client: RawClient, catchup: Catchup) -> list[Archived]:
    found = []
    while (query := catchup.ask()) is not None:
        answer = await client.iq(query)
        results = [each for each in client.came if catchup.belongs(each)]
        client.came = [each for each in client.came if each not in results]
        found += [given for each in results if (given := catchup.give(each)) is not None]
        catchup.finish(answer)
    return found


async def test_the_archive_fills_the_gap(shared_server: XmppServer) -> None:
    account = shared_server.jid(8)
    async with RawClient(shared_server, 8, "before") as client, Peer(shared_server, 9) as contact:
        client.say(presence_stanza(PresenceFields(), client.jid).raw)
        await wait_until(lambda: contact.presences_of(account), "the contact sees us")
        contact.say(client.jid, "first", "m-0")
        first = read_message(await client.next(lambda each: each.attributes.get("id") == "m-0"), account)
        assert first.stanza_id
    async with RawClient(shared_server, 8, "after") as client, Peer(shared_server, 9, "again") as contact:
        missed = [f"missed {number}" for number in range(25)]
        for body in missed:
            contact.say(account, body)
            await asyncio.sleep(0)
        catchup, found = Catchup(client.jid, "mam", first.stanza_id, page=10), list[Archived]()

        async def all_there() -> bool:
            nonlocal catchup
            catchup = Catchup(client.jid, f"mam{len(found)}", catchup.newest, page=10)
            found.extend(await _fetch(client, catchup))
            assert catchup.end is CatchupEnd.WHOLE
            return len(found) >= len(missed)

        await wait_until(all_there, "all messages are in the archive")
        assert [read_message(given.message, account).body for given in found] == missed
        assert all(given.delay is not None and not given.ours for given in found)
        # From a time on, and once more past messages that came live.
        again = Catchup(client.jid, "mam-time", None, "2020-01-01T00:00:00Z", page=7)
        for given in found[:5]:
            again.arrived(given.id)
        bodies = [read_message(given.message, account).body for given in await _fetch(client, again)]
        assert bodies == ["first", *missed[5:]]
        assert again.end is CatchupEnd.WHOLE
        # A message the archive does not know (any more): whatever it answers, the end is not an endless one.
        unknown = Catchup(client.jid, "mam-unknown", "no-such-id", "2020-01-01T00:00:00Z", page=50)
        bodies = [read_message(given.message, account).body for given in await _fetch(client, unknown)]
        assert bodies == ["first", *missed]
