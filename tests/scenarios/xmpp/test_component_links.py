"""A link that is a component: it speaks for everybody at its domain, with contacts who are not ours, and goes on
whatever becomes of edges and servers."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.xmpp.holding import COMPONENT, MANY_S, Held, held
from tests.support import proctree
from tests.support.processes import Edge
from tests.support.waiting import wait_until
from tests.support.xmpp import COMPONENT_DOMAIN, DOMAIN, SERVERS
from tests.support.xmpp_component import Component
from tests.support.xmpp_peer import Peer
from tests.unit.telemetry.test_metrics import samples_of, total

pytestmark = [pytest.mark.scenario, pytest.mark.parametrize("kind", sorted(SERVERS))]

VISITORS = 3
PING = "<ping xmlns='urn:xmpp:ping'/>"


def visitor(number: int) -> str:
    return f"visitor{number % VISITORS}@{COMPONENT_DOMAIN}"


@contextlib.asynccontextmanager
async def component(folder: Path, kind: str, edges: int = 1, **options: Any) -> AsyncIterator[tuple[Held, Peer]]:
    """The component's link is there, and a contact."""
    async with held(folder, kind, edges, component={}, **options) as here, Peer(here.server, 0) as contact:
        await here.begin_component(here.edges[0])
        [connected] = await here.told("connected", COMPONENT)
        assert connected.fields["jid"] == COMPONENT_DOMAIN
        assert not connected.fields["resumable"]
        yield here, contact


class Talk:
    """Numbered messages to a contact, of all visitors in turn."""

    def __init__(self, here: Held, contact: Peer) -> None:
        self._here, self._contact = here, contact
        self.said = 0

    async def say(self, count: int, edge: Edge | None = None) -> None:
        """So many more: ordered, but not yet with the contact."""
        numbers = range(self.said, self.said + count)
        self.said += count
        for first in range(0, count, 10):
            orders = [
                (COMPONENT, "send", {"to": self._contact.jid, "body": str(number), "sender": visitor(number)})
                for number in numbers[first : first + 10]
            ]
            await self._here.order(*orders, edge=edge)

    async def arrived(self) -> int:
        """Wait until all have come. They came in order, each from who has said it, and what came twice says so: it has
        the id of the first, and the time that it was meant for. How many did."""
        wanted = {str(number) for number in range(self.said)}
        try:
            await wait_until(lambda: set(self._contact.bodies) >= wanted, f"{self.said} messages have come", MANY_S)
        except AssertionError as error:
            missing = sorted(map(int, wanted - set(self._contact.bodies)))
            failed = [told.fields for told in self._here.notes.all("send_failed")[:5]]
            refused = self._here.notes.refusals()[:5]
            error.add_note(f"{len(missing)} never came: {missing[:50]}; failed: {failed}; refused: {refused}")
            error.add_note("\n".join(edge.log_tail() for edge in self._here.edges))
            raise
        first: dict[str, str] = {}
        messages = [message for message in self._contact.messages if message["type"] != "error"]
        for message in messages:
            body, id = str(message["body"]), str(message["id"])
            assert str(message["from"]) == visitor(int(body))
            assert id
            if body in first:
                assert id == first[body]
                assert message.xml.find("{urn:xmpp:delay}delay") is not None
            else:
                first[body] = id
        assert list(first) == [str(number) for number in range(self.said)]
        assert len(set(first.values())) == self.said
        return len(messages) - self.said


async def test_visitors_talk_with_a_contact(kind: str, tmp_path: Path) -> None:
    async with component(tmp_path, kind) as (here, contact):
        talk = Talk(here, contact)
        said = [f"echo {VISITORS * 20 + number}" for number in range(60)]
        await talk.say(60)
        await talk.arrived()
        for number, body in enumerate(said):
            contact.say(visitor(number), body)
        talk.said += len(said)
        assert await talk.arrived() == 0
        messages = here.notes.of("message", COMPONENT)
        assert [told.body for told in messages] == said
        assert [told.fields["stanza"]["to"] for told in messages] == [visitor(number) for number in range(60)]
        assert {told.fields["stanza"]["sender"] for told in messages} == {contact.jid}
        assert all(told.fields["jid"] == COMPONENT_DOMAIN for told in messages)


async def test_whoever_is_asked_answers(kind: str, tmp_path: Path) -> None:
    async with component(tmp_path, kind) as (here, contact):
        iq = contact.client.make_iq_get("urn:test", ito=visitor(1))
        answer = await iq.send(timeout=30)
        assert (str(answer["from"]), answer["type"]) == (visitor(1), "result")
        assert answer.xml.find("{urn:test}answer") is not None
        [asked] = here.notes.of("iq", COMPONENT)
        assert asked.fields["stanza"]["to"] == visitor(1)
        # What the edge answers itself, it answers in that name, too.
        await contact.client.plugin["xep_0199"].ping(visitor(2), timeout=30)

        orders = [("iq", {"to": contact.jid, "xml": PING, "sender": visitor(1), "id": "q1"})]
        orders += [("iq", {"to": DOMAIN, "xml": PING, "id": "q2"})]
        await here.order(*((COMPONENT, order, arguments) for order, arguments in orders))
        results = {told.fields["action_id"]: told.fields for told in await here.told("iq_result", COMPONENT, 2)}
        assert [results[id]["stanza"]["sender"] for id in ("q1", "q2")] == [contact.jid, DOMAIN]
        assert [results[id]["stanza"]["to"] for id in ("q1", "q2")] == [visitor(1), COMPONENT_DOMAIN]


async def test_what_is_said_in_a_strangers_name_is_refused(kind: str, tmp_path: Path) -> None:
    async with component(tmp_path, kind) as (here, contact):
        await here.connect([1])
        stranger = {"to": contact.jid, "sender": f"u2@{DOMAIN}"}
        wrong: list[tuple[str, dict[str, Any]]] = [
            ("send", {"body": "x", **stranger}), ("presence", stranger), ("iq", {"xml": PING, **stranger}),
            ("presence", {}), ("iq", {"to": None, "xml": PING}),
        ]  # fmt: skip
        for link, orders in ((COMPONENT, wrong), ("x:u1", wrong[:3])):
            await here.order(*((link, order, arguments) for order, arguments in orders))
            failed = await here.told("send_failed", link, len(orders))
            assert [told.fields["reason"] for told in failed] == ["invalid"] * len(orders)
            await here.order((link, "send", {"to": contact.jid, "body": link}))
        await contact.until_it_has([COMPONENT, "x:u1"])
        assert [str(message["from"]) for message in contact.messages] == [COMPONENT_DOMAIN, f"u1@{DOMAIN}/edge"]


async def test_a_component_stays_when_nobody_uses_it_and_leaves_when_it_is_told_to(kind: str, tmp_path: Path) -> None:
    async with held(tmp_path, kind, component={}) as here, Peer(here.server, 0) as contact:
        await here.begin_component(keep_after_detach_s=0)
        await here.told("connected", COMPONENT)
        await here.begin_component(keep_after_detach_s=0)
        [state] = await here.told("state", COMPONENT)
        assert (state.fields["phase"], state.fields["resumable"]) == ("live", False)
        await here.order((COMPONENT, "send", {"to": contact.jid, "body": "bye"}), (COMPONENT, "disconnect", {}))
        [ended] = await here.told("disconnected", COMPONENT)
        assert ended.fields["reason"] == "requested"
        await contact.until_it_has(["bye"])
        async with Component(here.server) as other:
            assert other.stream.live


async def test_a_wrong_secret_is_tried_once(kind: str, tmp_path: Path) -> None:
    async with held(tmp_path, kind, component={"component_secret": "not this one"}) as here:
        await here.begin_component()
        [failed] = await here.told("auth_failed", COMPONENT)
        assert (failed.fields["condition"], failed.fields["will_retry"]) == ("not-authorized", False)
        await wait_until(lambda: no_owner(here), "the link is over")
        _, metrics = await here.edges[0].get("/metrics")
        assert total(samples_of(metrics), "holdfast_link_logins_total") == 1, metrics.decode()
        assert "not this one" not in here.edges[0].log()
        assert here.notes.of("disconnected", COMPONENT) == []


async def no_owner(here: Held) -> bool:
    return await here.owner(COMPONENT) == ""


async def test_what_contacts_show_to_one_visitor_is_no_news_of_what_they_show_to_others(
    kind: str, tmp_path: Path
) -> None:
    async with component(tmp_path, kind) as (here, contact):
        await here.backend.sigkill()
        for show in ("away", "dnd"):
            for number in range(VISITORS):
                contact.client.send_presence(pto=visitor(number), pshow=show)
        contact.say(visitor(0), "behind it")
        await contact.all_taken()
        await here.backend.start()
        await wait_until(lambda: here.notes.bodies(COMPONENT) == ["behind it"], "the backend has heard all", MANY_S)
        shown = {told.fields["stanza"]["to"]: told.fields["stanza"]["show"] for told in here.notes.all("presence")}
        assert shown == {visitor(number): "dnd" for number in range(VISITORS)}


async def test_a_domain_that_somebody_else_has_is_waited_for(kind: str, tmp_path: Path) -> None:
    """Prosody refuses the second connection of a component, ejabberd has both."""
    async with held(tmp_path, kind, component={}) as here, Peer(here.server, 0) as contact:
        async with Component(here.server) as other:
            assert other.stream.live
            await here.begin_component()
            talk = Talk(here, contact)
            await talk.say(20)
            if kind == "prosody":
                await wait_until(lambda: here.edges[0].log().count("conflict") >= 2, "it was tried twice")
                assert here.notes.all("connected") == []
        await here.told("connected", COMPONENT)
        assert await talk.arrived() == 0
        assert here.notes.all("disconnected") == here.notes.all("auth_failed") == []


async def test_killed_edges_cost_contacts_nothing(kind: str, tmp_path: Path) -> None:
    async with component(tmp_path, kind, 2) as (here, contact):
        talk, before = Talk(here, contact), 0
        for times in (2, 3):
            owner, other = await owner_and_other(here)
            talking = asyncio.create_task(talk.say(200, other))
            await wait_until(lambda: len(contact.messages) > before + 10, "they are talking")  # noqa: B023
            await here.kill(owner)
            await here.told("connected", COMPONENT, times)
            await talking
            await here.start_edge()
            # What the edge that is killed next was ordered, it has done.
            await talk.arrived()
            before = len(contact.messages)
        contact.say(visitor(talk.said), f"echo {talk.said}")
        talk.said += 1
        await talk.arrived()


async def owner_and_other(here: Held) -> tuple[Edge, Edge]:
    id = await here.owner(COMPONENT)
    [owner] = [edge for edge in here.edges if await here.id_of(edge) == id]
    [other] = [edge for edge in here.edges if edge is not owner]
    return owner, other


async def test_what_may_have_been_said_is_said_again_with_its_time(kind: str, tmp_path: Path) -> None:
    async with component(tmp_path, kind, 2) as (here, contact):
        talk = Talk(here, contact)
        await talk.say(5)
        await talk.arrived()
        owner, other = await owner_and_other(here)
        await wait_until(lambda: unacked_is(here, other, 0), "the server has said that it has it")
        # The server has it in its hands, and no time to say so.
        here.server.pause()
        await talk.say(10, other)
        await wait_until(lambda: unacked_is(here, other, 10), "the edge has written it")
        await here.kill(owner)
        here.server.go_on()
        await here.told("connected", COMPONENT, 2)
        await talk.say(5, other)
        assert await talk.arrived() == 10


async def unacked_is(here: Held, edge: Edge, count: int) -> bool:
    before = len(here.notes.of("state", COMPONENT))
    await here.order((COMPONENT, "get", {}), edge=edge)
    state = (await here.told("state", COMPONENT, before + 1))[-1]
    return bool(state.fields["unacked"] == count)


async def test_an_edge_that_is_rolled_hands_its_component_over(kind: str, tmp_path: Path) -> None:
    async with component(tmp_path, kind, edge={"lease_s": 600}) as (here, contact):
        talk, said = Talk(here, contact), list[str]()

        async def chat() -> None:
            while len(here.notes.of("connected", COMPONENT)) < 3:
                for number in range(5):
                    said.append(f"to you {len(said)}")
                    contact.say(visitor(number), said[-1], id=said[-1])
                await contact.all_taken()

        chatting = asyncio.create_task(chat())
        for times in (2, 3):
            leaving = here.edges[0]
            talking = asyncio.create_task(talk.say(100, await here.start_edge()))
            await here.drain(leaving)
            await here.told("connected", COMPONENT, times)
            await talking
        await chatting
        assert await talk.arrived() == 0
        contact.say(visitor(0), "last")
        await wait_until(lambda: "last" in here.notes.bodies(COMPONENT), "it still hears", MANY_S)
        heard, bounced = here.notes.bodies(COMPONENT), set(contact.bounced)
        assert heard == [body for body in [*said, "last"] if body in set(heard)]
        assert not bounced & set(heard)
        if kind == "prosody":  # ejabberd loses what it was about to pass on when the component left
            assert len(heard) + len(bounced) == len(said) + 1


async def test_an_edge_that_is_rolled_sees_through_what_it_was_ordered(kind: str, tmp_path: Path) -> None:
    async with component(tmp_path, kind, 2, edge={"lease_s": 600}) as (here, contact):
        talk = Talk(here, contact)
        owner, other = await owner_and_other(here)
        with frozen(owner):  # so that the other one cannot get rid of its orders
            await talk.say(20, other)
            leaving = asyncio.create_task(here.drain(other))
            await wait_until(
                lambda: len(re.findall("unfinished=[1-9]", other.log())) >= 2, "it waits, and says so twice"
            )
            assert other.running
        await leaving
        assert await talk.arrived() == 0


async def test_a_server_that_comes_back_has_its_component_again(kind: str, tmp_path: Path) -> None:
    async with component(tmp_path, kind, server={"queue": 500}, edge={"lease_s": 600}) as (here, _):
        for times, polite in enumerate((True, False), 2):
            async with Peer(here.server, 1) as contact:
                talk = Talk(here, contact)
                await talk.say(10)
                await talk.arrived()
            await (here.server.stop() if polite else here.server.sigkill())
            await wait_until(lambda: phase_is(here, "lost"), "the connection is lost")
            await here.order((COMPONENT, "send", {"to": here.server.jid(2), "body": f"meanwhile {times}"}))
            async with contextlib.AsyncExitStack() as stack:
                # The contact first: what servers do with messages to who is not there is not what is tested.
                with frozen(here.edges[0]):
                    await here.server.start()
                    other = await stack.enter_async_context(Peer(here.server, 2))
                await here.told("connected", COMPONENT, times)
                await wait_until(lambda: other.bodies == [f"meanwhile {times}"], "it was sent")  # noqa: B023
                other.say(visitor(1), f"echo back {times}")
                await other.until_it_has([f"meanwhile {times}", f"back {times}"])


@contextlib.contextmanager
def frozen(edge: Edge) -> Iterator[None]:
    """Its processes stand still meanwhile."""
    members = edge.members()
    proctree.stop(members)
    try:
        yield
    finally:
        proctree.kill(members, signal.SIGCONT)


async def phase_is(here: Held, phase: str) -> bool:
    before = len(here.notes.of("state", COMPONENT))
    await here.order((COMPONENT, "get", {}))
    return bool((await here.told("state", COMPONENT, before + 1))[-1].fields["phase"] == phase)
