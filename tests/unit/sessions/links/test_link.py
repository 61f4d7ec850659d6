"""A whole link, between a server in memory and a real Redis: its first login, what is lost and what is kept with a
session, and how it ends."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from edge.backend.base import Release
from edge.clock import SystemClock
from edge.config import XmppSettings
from edge.errors import HoldfastError
from edge.links.vault import Vault
from edge.model.link_options import LinkOptions
from edge.model.link_phases import LinkPhase
from edge.protocol.callbacks.actions import Action, Result, XmppIq, XmppPresence, XmppSend
from edge.protocol.xmpp.credentials import Token
from edge.sessions.journal import Journal
from edge.sessions.links.link import Link
from edge.store.links_base import HeldLink
from edge.telemetry.metrics import ProcessMeters
from edge.wheel import Wheel
from tests.support.waiting import wait_until
from tests.unit.protocol.xmpp import streams as say
from tests.unit.sessions.links.bench import Transport
from tests.unit.store.conftest import Edge, OpenEdge
from tests.unit.store.some_links import LINK, new, state

SERVER = XmppSettings(domain="chat.example", tls="direct", silence_s=600.0)
JID = "user@chat.example"
HELLO = XmppSend("<message to='bob@chat.example'><body>hello</body></message>", id="a-1")
QUESTION = XmppIq("<query xmlns='q'/>", to="bob@chat.example", id="a-2")
OpenHall = Callable[..., Awaitable["Hall"]]


class Hall:
    """Everything around one link: an edge's services as far as a link sees them, and the server."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.transport = Transport()
        self.connection: Any = None
        self.ready = 0
        self.vault = Vault([bytes(32)])
        self.wheel = Wheel(SystemClock())
        self.wheel.start(asyncio.get_running_loop())
        self.heard: list[tuple[str, Mapping[str, Any]]] = []
        """Events that the backend has accepted."""
        self.gone: list[str] = []
        self.server = SERVER
        release = Release("chat", "abc", "http://backend")
        shared = SimpleNamespace(
            store=edge.store,
            clock=SystemClock(),
            wheel=self.wheel,
            edge_id=edge.id,
            metrics=SimpleNamespace(process=ProcessMeters()),
            releases=SimpleNamespace(version=1, choose=lambda route, subject, pinned, held, now, *, stay: release),
            deliverer=SimpleNamespace(ready=self._is_ready),
            journal=Journal(),
        )
        house = SimpleNamespace(
            under_way=lambda domain: asyncio.Semaphore(1),
            pinned={},
            attached=lambda *_: None,
            forget=self._forget,
            lost=lambda link: self.gone.append("lost"),
        )
        self.services: Any = SimpleNamespace(
            shared=shared, loop=asyncio.get_running_loop(), dialer=self, pacer=self, vault=self.vault,
            server=lambda domain: self.server, random=lambda: 0.0, house=house,
        )  # fmt: skip
        self.link: Link

    async def begin(self, **options: Any) -> Link:
        """A link on its way to the server for the first time."""
        row = new(
            jid=JID,
            phase="connecting",
            connect=LinkOptions(**options).to_stored(),
            credentials=self.vault.seal(LINK, Token("user", "token")),
            attached=("s1",),
        )
        begun = await self.edge.store.links.connect(row, self.edge.id)
        assert begun.row is not None
        return await self.take_in(HeldLink(begun.row, (), ()))

    async def take_in(self, held: HeldLink) -> Link:
        handle: Any = SimpleNamespace(settings=SimpleNamespace(app="chat"), name="*/")
        self.link = Link(held, self.services, handle)
        self.link.start()
        return self.link

    # -- dialer and pacer

    async def dial(self, server: XmppSettings, factory: Callable[[], Any], *, location: str = "") -> tuple[Any, Any]:
        self.transport, self.connection = Transport(), factory()
        self.connection.connection_made(self.transport)
        return self.transport, self.connection

    async def admitted(self, server: XmppSettings) -> None:
        """At once."""

    def reached(self, domain: str) -> None:
        """Good."""

    def unreachable(self, domain: str, why: str, *, permanent: bool) -> None:
        """Not so good."""

    # -- the server

    async def dialed(self) -> None:
        await wait_until(lambda: self.transport.written.endswith(b"streams'>"), "the link has dialed")

    def says(self, *words: bytes) -> None:
        for word in words:
            self.connection.data_received(word)

    async def log_in(self, *last: bytes) -> None:
        """To a new session; `last` instead of its beginning."""
        await self.dialed()
        self.says(*say.TO_LOGGED_IN, say.OFFER_ALL, *(last or (say.BOUND, say.ENABLED)))
        await wait_until(lambda: self.link.live, "the link is live")
        await self.settled()

    async def loses_it(self) -> None:
        """The connection breaks, and the link dials again."""
        old, self.transport = self.transport, Transport()
        self.connection.connection_lost(None)
        assert old.end or not self.link.live
        await self.dialed()

    async def settled(self) -> None:
        await wait_until(lambda: self.link.ledger.idle, "everything is durable")
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    # -- the backend

    def _is_ready(self, mailbox: object) -> None:
        self.ready += 1

    async def order(self, *actions: Action) -> None:
        done: asyncio.Future[HoldfastError | None] = asyncio.get_running_loop().create_future()
        self.link.order(Result(actions), done.set_result)
        assert await done is None

    async def events(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Have all that wait accepted; those since it was called last."""
        await self.settled()
        since = len(self.heard)
        while parcel := self.link.mailbox.take(100, 10**6).events:
            self.heard += [(event.kind, event.fields) for event in parcel if hasattr(event, "kind")]  # type: ignore[union-attr]
            self.link.mailbox.settle([(event, Result()) for event in parcel])
            await wait_until(lambda: self.link.gone or self.link.ledger.idle, "it is accepted")
        return self.heard[since:]

    async def kinds(self) -> list[str]:
        return [kind for kind, _ in await self.events()]

    def _forget(self, link: Link) -> None:
        self.gone.append("forgotten")


@pytest.fixture
async def hall(open_edge: OpenEdge, redis_url: str, prefix: str) -> AsyncIterator[Hall]:
    made = Hall(await open_edge(redis_url, prefix))
    yield made
    made.link.lose()
    made.wheel.stop()


# ---------------------------------------------------------------------- the first login


async def test_a_first_login_is_told_and_presence_is_sent(hall: Hall) -> None:
    link = await hall.begin(presence="<presence><priority>5</priority></presence>")
    await hall.log_in()
    assert hall.transport.written.endswith(b"<presence><priority>5</priority></presence><r xmlns='urn:xmpp:sm:3'/>")
    ((kind, fields),) = await hall.events()
    assert (kind, fields["jid"], fields["resumable"], fields["max_s"]) == (
        "xmpp.connected", f"{JID}/edge", True, 300,
    )  # fmt: skip
    row = (await state(hall.edge)).row
    assert (row.phase, row.bound_jid, row.sm_id, row.done, row.lost_at) == ("live", f"{JID}/edge", "sm-1", 1, 0)
    assert link.meters.links_live.value == 1


async def test_a_question_that_is_ordered_again_has_one_result(hall: Hall) -> None:
    await hall.begin()
    await hall.log_in()
    await hall.events()
    again = replace(QUESTION, timeout_s=0.1)
    await hall.order(again)
    (entry,) = hall.link.ledger.iqs.values()
    await hall.order(again)
    assert hall.transport.written.count(b"<query xmlns='q'/>") == 1
    hall.says(f"<iq type='result' id='{entry.id}' from='bob@chat.example'/>".encode())
    await hall.order(replace(QUESTION, id="a-3", timeout_s=0.2))
    await wait_until(lambda: not hall.link.ledger.iqs, "the last question's time is up")
    results = [(fields["action_id"], fields["reason"]) for _, fields in await hall.events()]
    assert results == [("a-2", None), ("a-3", "timeout")]


async def test_a_question_in_xml_that_is_ordered_again_waits_for_its_one_answer(hall: Hall) -> None:
    await hall.begin()
    await hall.log_in()
    await hall.events()
    question = XmppSend("<iq type='get' to='bob@chat.example' id='mine'><query xmlns='q'/></iq>", id="a-4")
    await hall.order(question)
    await hall.order(question)
    assert hall.transport.written.count(b"<query xmlns='q'/>") == 1
    hall.says(b"<iq type='result' id='mine' from='bob@chat.example'/>")
    await hall.order(replace(question, id="a-5"))
    ((kind, fields),) = await hall.events()
    assert (kind, fields["action_id"], fields["ok"]) == ("xmpp.iq_result", "a-4", True)
    await hall.order(replace(question, id="a-6"))
    ((kind, fields),) = await hall.events()
    assert (kind, fields["action_id"], fields["reason"]) == ("xmpp.send_failed", "a-6", "invalid")


async def test_what_was_ordered_before_the_first_login_is_said_and_asked_then(hall: Hall) -> None:
    await hall.begin()
    await hall.order(HELLO, QUESTION)
    await hall.log_in()
    assert b"<body>hello</body></message><iq " in hall.transport.written
    assert await hall.kinds() == ["xmpp.connected"]
    (entry,) = hall.link.ledger.iqs.values()
    hall.says(f"<iq type='result' id='{entry.id}' from='bob@chat.example'/>".encode())
    ((kind, fields),) = await hall.events()
    assert (kind, fields["action_id"], fields["ok"]) == ("xmpp.iq_result", "a-2", True)
    assert hall.link.ledger.iqs == {}
    assert (await state(hall.edge)).iqs == []


async def test_a_refused_login_ends_the_link_when_the_backend_knows(hall: Hall) -> None:
    await hall.begin()
    await hall.dialed()
    hall.says(say.HEADER, say.OFFER_TOKEN, say.FAILURE)
    ((kind, fields),) = await hall.events()
    assert (kind, fields["condition"], fields["will_retry"]) == ("xmpp.auth_failed", "not-authorized", False)
    await wait_until(lambda: hall.gone, "it is forgotten")
    assert hall.gone == ["forgotten"]
    assert (await state(hall.edge)).row.credentials == b""


# ---------------------------------------------------------------------- a session goes on, or is lost


async def test_a_resumed_session_goes_on_and_says_nothing_twice(hall: Hall) -> None:
    await hall.begin()
    await hall.log_in()
    await hall.order(HELLO, QUESTION)
    hall.says(say.MESSAGE)
    assert await hall.kinds() == ["xmpp.connected", "xmpp.message"]
    await hall.loses_it()
    hall.says(*say.TO_LOGGED_IN, say.OFFER_ALL)
    assert b"<resume xmlns='urn:xmpp:sm:3' h='1' previd='sm-1'/>" in hall.transport.written
    hall.says(say.resumed(1))
    await wait_until(lambda: hall.link.live, "the link is live")
    await hall.settled()
    assert hall.transport.written.count(b"<query xmlns='q'/>") == 1
    assert b"<message" not in hall.transport.written
    assert await hall.kinds() == ["xmpp.resumed"]
    assert len(hall.link.ledger.iqs) == 1


def live(id: int, body: str) -> bytes:
    kept = f"<stanza-id xmlns='urn:xmpp:sid:0' by='{JID}' id='{id}'/>"
    return f"<message from='bob@chat.example/p' to='{JID}' type='chat'><body>{body}</body>{kept}</message>".encode()


def archived(query: str, id: int, body: str, **more: str) -> bytes:
    """As an answer to our `query`."""
    attributes = {"from": "bob@chat.example/p", "to": JID, **more}
    written = " ".join(f"{name}='{value}'" for name, value in attributes.items())
    message = f"<message xmlns='jabber:client' {written} type='chat'><body>{body}</body></message>"
    delay = "<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>"
    return (
        f"<message to='{JID}/edge'><result xmlns='urn:xmpp:mam:2' queryid='{query}' id='{id}'>"
        f"<forwarded xmlns='urn:xmpp:forward:0'>{delay}{message}</forwarded></result></message>"
    ).encode()


def query_of(hall: Hall) -> str:
    """The name of the last question to the archive."""
    return str(re.findall(rb"queryid='([^']+)'", hall.transport.written)[-1].decode())


def end_of(query: str) -> bytes:
    return f"<iq type='result' id='{query}'><fin xmlns='urn:xmpp:mam:2' complete='true'/></iq>".encode()


def bodies(events: Sequence[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, bool]]:
    return [(fields["stanza"]["body"], fields["replay"]) for kind, fields in events if kind == "xmpp.message"]


async def resumes(hall: Hall) -> None:
    await hall.loses_it()
    hall.says(*say.TO_LOGGED_IN, say.OFFER_ALL, say.resumed(0))
    await wait_until(lambda: hall.link.live, "the link is live")


async def hears_and_resumes(hall: Hall, **settings: Any) -> None:
    """A message, and its session goes on elsewhere, with these settings of the server."""
    hall.server = replace(SERVER, **settings)
    await hall.begin()
    await hall.log_in()
    hall.says(live(5, "before"))
    await hall.events()
    await resumes(hall)


async def test_what_a_server_loses_in_a_resumption_comes_from_the_archive_when_that_is_wanted(hall: Hall) -> None:
    await hears_and_resumes(hall, archive_after_resume=True)
    hall.says(live(7, "sent again"))
    await hall.settled()
    query = query_of(hall)
    assert b"<after>5</after>" in hall.transport.written
    hall.says(
        archived(query, 6, "lost"),
        archived(query, 7, "sent again"),
        archived(query, 8, "ours", **{"from": f"{JID}/edge", "to": "bob@chat.example"}),
        archived(query, 9, "another device's", **{"from": f"{JID}/phone", "to": "bob@chat.example"}),
        archived(query, 10, "to another device", to=f"{JID}/phone"),
        end_of(query),
    )
    hall.says(live(6, "lost"), live(11, "after"))
    events = await hall.events()
    assert bodies(events) == [("sent again", False), ("lost", True), ("after", False)]
    caught_up = [(fields["count"], fields["whole"]) for kind, fields in events if kind == "xmpp.caught_up"]
    assert caught_up == [(1, True)]
    assert (await state(hall.edge)).row.last_mam_id == "11"


async def test_nobody_asks_the_archive_after_a_resumption_otherwise(hall: Hall) -> None:
    await hears_and_resumes(hall)
    await hall.settled()
    assert b"urn:xmpp:mam:2" not in hall.transport.written
    assert await hall.kinds() == ["xmpp.resumed"]


async def test_an_answer_of_the_archive_to_a_question_of_before_is_not_taken_for_the_new_ones(hall: Hall) -> None:
    await hears_and_resumes(hall, archive_after_resume=True)
    await hall.settled()
    first = query_of(hall)
    await resumes(hall)
    await hall.settled()
    second = query_of(hall)
    assert first != second
    hall.says(archived(first, 6, "lost"), end_of(first), archived(second, 6, "lost"), end_of(second))
    events = await hall.events()
    assert bodies(events) == [("lost", True)]
    assert [fields["count"] for kind, fields in events if kind == "xmpp.caught_up"] == [1]


async def test_of_a_lost_session_everything_is_told_and_nothing_is_said_twice(hall: Hall) -> None:
    await hall.begin(presence="<presence/>")
    await hall.log_in()
    await hall.order(HELLO, QUESTION, XmppPresence("<presence to='room@muc.example/me'/>", id="a-3"))
    await hall.events()
    await hall.loses_it()
    hall.says(*say.TO_LOGGED_IN, say.OFFER_ALL)
    await hall.order(XmppIq("<query xmlns='later'/>", to="bob@chat.example", id="a-4"))
    hall.says(
        b"<failed xmlns='urn:xmpp:sm:3'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>",
        say.BOUND, say.ENABLED,
    )  # fmt: skip
    await wait_until(lambda: hall.link.live, "the link is live")
    await hall.settled()
    events = await hall.events()
    told = [(kind, fields.get("action_id"), fields.get("certain")) for kind, fields in events]
    assert told == [
        ("xmpp.iq_result", "a-2", None),
        ("xmpp.reset", None, None),
        ("xmpp.send_failed", "a-1", False),
        ("xmpp.send_failed", "a-3", True),
    ]
    assert dict(events)["xmpp.reset"]["unknown"] == ["a-1"]
    assert b"hello" not in hall.transport.written
    # What was ordered meanwhile nobody had seen: it is as good as new, and waits for its answer.
    assert hall.transport.written.count(b"<query xmlns='later'/>") == 1
    assert "a-4" in {entry.action_id for entry in hall.link.ledger.iqs.values()}


async def test_a_message_that_certainly_did_not_arrive_is_said_again(hall: Hall) -> None:
    await hall.begin()
    await hall.log_in()
    await hall.order(HELLO)
    await hall.events()
    await hall.loses_it()
    hall.says(*say.TO_LOGGED_IN, say.OFFER_ALL, say.SM_FAILED % 0, say.BOUND, say.ENABLED)
    await wait_until(lambda: hall.link.live, "the link is live")
    await hall.settled()
    assert hall.transport.written.count(b"<body>hello</body><delay ") == 1
    (reset,) = [fields for kind, fields in await hall.events() if kind == "xmpp.reset"]
    assert (reset["server_h"], reset["resent"], reset["unknown"], reset["reason"]) == (0, 1, [], "item-not-found")


# ---------------------------------------------------------------------- ends


async def test_another_client_that_takes_the_resource_is_not_fought(hall: Hall) -> None:
    await hall.begin()
    await hall.log_in()
    hall.says(say.ERROR)
    await wait_until(lambda: hall.link.phase is LinkPhase.ENDING, "the link ends")
    told = [(kind, fields.get("reason")) for kind, fields in await hall.events()]
    assert told == [("xmpp.connected", None), ("xmpp.disconnected", "conflict")]
    await wait_until(lambda: hall.gone, "it is forgotten")


async def test_a_link_that_is_logged_out_says_everything_first(hall: Hall) -> None:
    await hall.begin()
    await hall.log_in()
    await hall.order(HELLO)
    hall.link.log_out("requested", "the backend asked for it")
    hall.link.log_out("again", "")
    await wait_until(lambda: hall.link.phase is LinkPhase.ENDING, "the link ends")
    assert hall.transport.written.endswith(b"</stream:stream>")
    assert hall.transport.written.index(b"hello") < hall.transport.written.index(b"</stream:stream>")
    assert await hall.kinds() == ["xmpp.connected", "xmpp.disconnected"]


async def test_a_link_is_given_away_with_its_session(hall: Hall) -> None:
    await hall.begin()
    await hall.log_in()
    hall.says(say.MESSAGE)
    await hall.link.give_away()
    assert hall.transport.written.endswith(b"<a xmlns='urn:xmpp:sm:3' h='1'/>")
    assert hall.transport.end == "closed"
    (freed,) = await hall.edge.store.links.freed(10)
    held = await hall.edge.store.links.claim(LINK, hall.edge.id, freed=freed)
    assert (held.row.h_in, held.row.sm_id, held.row.seq, held.row.done) == (1, "sm-1", 2, 0)
    await hall.take_in(held)
    await hall.dialed()
    hall.says(*say.TO_LOGGED_IN, say.OFFER_ALL)
    assert b"<resume xmlns='urn:xmpp:sm:3' h='1' previd='sm-1'/>" in hall.transport.written
    hall.says(say.resumed(0))
    await wait_until(lambda: hall.link.live, "the link is live")
    assert await hall.kinds() == ["xmpp.connected", "xmpp.message", "xmpp.resumed"]
