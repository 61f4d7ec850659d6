"""Backends that die, say wrong things, or ask: what it means to their XMPP links."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from slixmpp.exceptions import IqError
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from tests.scenarios.xmpp.holding import QUESTION, Held, Told, full_jid, held, link_id
from tests.scenarios.xmpp.kinds import ANY_KIND
from tests.scenarios.xmpp.traffic import EVERYTHING, Traffic, Watch
from tests.support.waiting import wait_until
from tests.support.xmpp import DOMAIN
from tests.support.xmpp_peer import Peer

pytestmark = [pytest.mark.scenario, ANY_KIND]

LINK = link_id(0)


async def test_a_backend_that_is_killed_under_traffic_costs_nothing(kind: str, tmp_path: Path) -> None:
    links = range(20)
    server = {"watchers": 1, "contacts": 4}
    async with (
        held(tmp_path, kind, 2, accounts=len(links) + 1, server=server) as here,
        Peer(here.server, len(links)) as contact,
    ):
        await here.connect(links, **EVERYTHING)
        watch = Watch(contact, links)
        await watch.begins()
        async with Traffic(here, [contact], links) as talk:
            for _ in range(5):
                await talk.flows()
                await here.backend.restart()
            await here.backend.sigkill()
            said = talk.said
            await wait_until(lambda: talk.said >= said + len(links), "contacts talk to links whose backend is gone")
            await here.backend.start()
            await talk.flows(2)
        watch.saw_nothing()
        for type in ("resumed", "reset", "disconnected"):
            assert here.notes.all(type) == []


TO = f"to='u1@{DOMAIN}'"
BAD = {
    "two stanzas": f"<message {TO}><body>1</body></message><message {TO}><body>2</body></message>",
    "another sender": f"<message {TO} from='u2@{DOMAIN}/peer'><body>forged</body></message>",
    "the end of the stream": "</stream:stream>",
    "a stanza and the end of the stream": f"<message {TO}><body>x</body></message></stream:stream>",
    "the end of a stanza only": f"<message {TO}><body>x</body></message></message>",
    "half a stanza": f"<message {TO}><body>x",
    "an entity": f"<!DOCTYPE message [<!ENTITY x 'boom'>]><message {TO}><body>&x;</body></message>",
    "an unknown entity": f"<message {TO}><body>&boom;</body></message>",
    "a comment": f"<message {TO}><!-- x --><body>x</body></message>",
    "an instruction": f"<message {TO}><?x y?><body>x</body></message>",
    "an acknowledgement": "<a xmlns='urn:xmpp:sm:3' h='1'/>",
    "a request for one": "<r xmlns='urn:xmpp:sm:3'/>",
    "an error of the stream": "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
    "another namespace": f"<message xmlns='jabber:server' {TO}><body>x</body></message>",
    "an open prefix": f"<message {TO}><x:y/></message>",
    "no XML": "hello",
    "nothing": "",
}


async def test_xml_that_is_not_one_stanza_fails_alone(kind: str, tmp_path: Path) -> None:
    async with held(tmp_path, kind) as here, Peer(here.server, 1) as contact, Peer(here.server, 2) as other:
        await here.connect([0])
        for number, xml in enumerate(BAD.values()):
            await here.order((LINK, "send_xml", {"xml": xml, "id": f"bad-{number}"}))
        await here.order((LINK, "send", {"to": "a b@@", "body": "x", "id": "bad address"}))
        await here.order((LINK, "send", {"to": contact.jid, "body": "x", "extra": "</message>", "id": "bad extra"}))
        await here.order((LINK, "send", {"to": contact.jid, "body": "and a good one"}))
        wanted = {*(f"bad-{number}" for number in range(len(BAD))), "bad address", "bad extra"}
        await wait_until(lambda: len(here.notes.of("send_failed", LINK)) >= len(wanted), "all have failed")
        await contact.until_it_has(["and a good one"])
        failed = here.notes.of("send_failed", LINK)
        assert {told.fields["action_id"] for told in failed} == wanted
        assert {(told.fields["reason"], told.fields["certain"]) for told in failed} == {("invalid", True)}
        contact.say(full_jid(0), "echo still here")
        await contact.until_it_has(["and a good one", "still here"])
        assert other.bodies == []
        for type in ("resumed", "reset", "disconnected"):
            assert here.notes.of(type, LINK) == []


async def test_a_message_that_no_backend_can_handle_is_laid_aside_and_those_behind_it_are_heard(
    kind: str, tmp_path: Path
) -> None:
    async with held(tmp_path, kind, timeouts={"retry_window_s": 0.3}) as here, Peer(here.server, 1) as contact:
        await here.connect([0])
        [edge] = here.edges
        where = f"/v1/sessions/{LINK}/parked"
        assert json.loads((await edge.get(where))[1]) == {"session": LINK, "parked": []}
        for text in ("before", "poison", "behind"):
            contact.say(full_jid(0), text)
        await here.has_heard(0, ["before", "poison", "behind"])
        status, shown = await edge.get(where)
        assert status == 200
        [parked] = json.loads(shown)["parked"]
        [told] = [told for told in here.notes.of("message", LINK) if told.body == "poison"]
        assert (parked["id"], parked["type"]) == (f"{LINK}:{told.seq}", "xmpp.message")
        assert parked["fields"]["stanza"]["body"] == "poison"
        assert "status 500" in parked["why"]
        await here.order((LINK, "disconnect", {}))
        await here.told("disconnected", LINK)
        assert len(json.loads((await edge.get(where))[1])["parked"]) == 1, "it outlives its link"
        assert (await edge.get("/v1/sessions/x:nobody/parked"))[0] == 404


class Asked:
    """A contact that gets iq requests for ``urn:test`` and answers when it is told to."""

    def __init__(self, peer: Peer) -> None:
        self.requests: list[Any] = []
        matcher = MatchXPath("{jabber:client}iq/{urn:test}query")
        peer.client.register_handler(Callback("asked", matcher, self.requests.append))

    async def request(self, number: int) -> Any:
        """The so-manieth request."""
        await wait_until(lambda: len(self.requests) > number, "the request has come")
        return self.requests[number]


def answer(by: Peer, request: Any, text: str) -> None:
    """An answer to the request, whoever `by` is."""
    by.client.send_raw(
        f"<iq type='result' id='{request['id']}' to='{request['from']}'><query xmlns='urn:test'>{text}</query></iq>"
    )


async def results(here: Held, count: int) -> list[Told]:
    await wait_until(lambda: len(here.notes.of("iq_result", LINK)) >= count, f"{count} answers are told")
    return here.notes.of("iq_result", LINK)


async def test_an_answer_finds_another_process_than_the_one_that_asked(kind: str, tmp_path: Path) -> None:
    async with held(tmp_path, kind, 2) as here, Peer(here.server, 1) as contact, Peer(here.server, 2) as other:
        asked = Asked(contact)
        await here.connect([0])
        question = {"to": contact.jid, "xml": "<query xmlns='urn:test'/>", "name": QUESTION, "timeout_s": 300}
        await here.order((LINK, "iq", question))
        request = await asked.request(0)
        # Somebody else who knows the id.
        answer(other, request, "forged")
        await other.all_taken()
        await here.backend.restart()
        [owner] = [edge for edge in here.edges if await here.links_of(edge, [0])]
        await here.kill(owner)
        await here.happened("resumed", [0])
        answer(other, request, "forged again")
        await other.all_taken()
        answer(contact, request, "true")
        [result] = await results(here, 1)
        assert result.fields["ok"]
        assert result.fields["action_id"].startswith(f"{QUESTION}#")
        assert "true" in result.fields["xml"]
        contact.say(full_jid(0), "echo done")
        await contact.until_it_has(["done"])
        assert len(here.notes.of("iq_result", LINK)) == 1


async def test_a_question_that_nobody_answers_ends(kind: str, tmp_path: Path) -> None:
    async with held(tmp_path, kind) as here, Peer(here.server, 1) as contact:
        asked = Asked(contact)
        await here.connect([0])
        question = {"to": contact.jid, "xml": "<query xmlns='urn:test'/>"}
        await here.order((LINK, "iq", {**question, "timeout_s": 1, "id": "in vain"}))
        request = await asked.request(0)
        [result] = await results(here, 1)
        assert (result.fields["ok"], result.fields["reason"]) == (False, "timeout")
        assert result.fields["action_id"] == "in vain"
        answer(contact, request, "too late")
        await here.order((LINK, "iq", {**question, "id": "refused"}))
        refused = await asked.request(1)
        contact.client.send_raw(
            f"<iq type='error' id='{refused['id']}' to='{refused['from']}'><error type='cancel'>"
            "<forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        )
        [_, second] = await results(here, 2)
        assert (second.fields["ok"], second.fields["reason"], second.fields["action_id"]) == (False, "error", "refused")
        assert second.fields["stanza"]["error"]["condition"] == "forbidden"
        # One that nobody asked does not reach anybody.
        await here.order(
            (LINK, "iq", {"to": DOMAIN, "xml": "<query xmlns='urn:nobody-knows'/>", "id": "of the server"})
        )
        [*_, third] = await results(here, 3)
        assert (third.fields["ok"], third.fields["action_id"]) == (False, "of the server")


async def ask(contact: Peer, xml: str) -> Any:
    """The link's answer to a contact. Raises slixmpp's IqError when it is a refusal."""
    iq = contact.client.make_iq_get(ito=full_jid(0))
    iq.append(ElementTree.fromstring(xml))
    return await iq.send(timeout=30)


async def test_who_asks_a_link_is_answered_by_the_backend_or_by_the_edge(kind: str, tmp_path: Path) -> None:
    async with held(tmp_path, kind, xmpp={"iq_reply_s": 1}) as here, Peer(here.server, 1) as contact:
        await here.connect([0])
        assert "<answer" in str(await ask(contact, "<query xmlns='urn:test'/>"))
        with pytest.raises(IqError) as refusal:
            await ask(contact, "<query xmlns='urn:test'><silence/></query>")
        assert refusal.value.condition == "service-unavailable"
        [first, second] = here.notes.of("iq", LINK)
        assert first.fields["stanza"]["query"] == ["urn:test", "query"]
        assert second.fields["reply_by"]
        # What the edge answers itself, also while there is no backend.
        await here.backend.sigkill()
        await ask(contact, "<ping xmlns='urn:xmpp:ping'/>")
        assert "<feature" in str(await ask(contact, "<query xmlns='http://jabber.org/protocol/disco#info'/>"))
        await here.backend.start()
        assert "<answer" in str(await ask(contact, "<query xmlns='urn:test'/>"))
        assert len(here.notes.of("iq", LINK)) == 3
