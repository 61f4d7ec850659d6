"""A link's stream between a server in memory and a ledger on a real Redis: what is said when, and when it is read."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from edge.links.connection import LinkConnection
from edge.protocol.xmpp.element import Element
from edge.protocol.xmpp.stream import XmppStream
from edge.protocol.xmpp.stream_facts import Connected, StreamPlan
from edge.protocol.xmpp.stream_management import SavedStream
from edge.sessions.links import ledger as ledger_module
from edge.sessions.links import wire as wire_module
from edge.sessions.links.wire import Wire
from edge.store.links_base import HeldLink, LinkBounds, NewStream, Stanza
from edge.wheel import Alarm
from tests.support.waiting import wait_until
from tests.unit.protocol.xmpp import streams as say
from tests.unit.protocol.xmpp.streams import PLAIN, SAVED, SCRAM_NONCE
from tests.unit.sessions.links.bench import Bench, Transport
from tests.unit.store.conftest import Edge, OpenEdge
from tests.unit.store.some_links import begin, state

ASK = b"<r xmlns='urn:xmpp:sm:3'/>"
OpenLink = Callable[..., Awaitable["OnWire"]]


def ack(h: int) -> bytes:
    return b"<a xmlns='urn:xmpp:sm:3' h='%d'/>" % h


class OnWire(Bench):
    """A link as its wire sees it; every stanza is an event."""

    id = "x:u42"
    is_component = False

    def __init__(self, edge: Edge, held: HeldLink, bounds: LinkBounds | None, client: redis.Redis) -> None:
        super().__init__(edge, held, bounds, client)
        self.options = SimpleNamespace(sent=False)
        self.meters = SimpleNamespace(link_stanzas={"in": SimpleNamespace(value=0), "out": SimpleNamespace(value=0)})
        self.far = self.hearing = self
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.calls: Counter[str] = Counter()
        self.alarms: list[tuple[int, Callable[[], None]]] = []
        self.wire = Wire(self)  # type: ignore[arg-type]
        self.transport = Transport()
        self.connection: LinkConnection

    # -- the way to the server

    def begin(self, plan: StreamPlan = PLAIN) -> asyncio.Future[bool]:
        loop = asyncio.get_running_loop()
        self.transport = Transport()
        self.connection = LinkConnection(loop, self.wheel)
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]
        outcome = self.wire.begin(self.connection, resuming=plan.resume is not None)
        self.connection.begin(
            lambda now: XmppStream(plan, lambda: SCRAM_NONCE, now),
            self.wire,
            domain=plan.domain,
            context=None,
            password=None,
        )
        return outcome

    def hears(self, *words: bytes) -> None:
        for word in words:
            self.connection.data_received(word)

    async def go_live(self, *last: bytes) -> None:
        outcome = self.begin()
        self.hears(*(say.TO_LIVE if not last else (*say.TO_LOGGED_IN, *last)))
        assert await outcome
        await self.settle()
        self.transport.written = b""

    @property
    def said(self) -> bytes:
        """Since it was asked for last."""
        written, self.transport.written = self.transport.written, b""
        return written

    # -- the link

    def connected(self, fact: Connected) -> None:
        self.ledger.new_stream(lambda: NewStream(fact.sm_id, 0, "", tuple(self.ledger.unacked)), self._begun)

    def _begun(self) -> None:
        if self.wire.came_alive():
            self.wire.write_all()

    def resumed(self, h: int, redelivered: int) -> None:
        self.wire.acknowledged(h)
        if self.wire.came_alive():
            self.wire.write_rest()

    def stanza(self, element: Element) -> None:
        self.add(len(self.events))

    def tell(self, kind: str, fields: Mapping[str, Any]) -> None:
        self.events.append((kind, fields))

    def pump(self) -> None:
        self.ledger.flush()

    def cut(self) -> None:
        self.calls["cut"] += 1

    def suspend(self, *, until_room: bool) -> None:
        self.calls["suspend"] += until_room

    def login_refused(self, condition: str, text: str) -> None:
        self.calls[f"refused: {condition}"] += 1

    def after(self, delay_ms: int, callback: Callable[[], None]) -> Alarm:
        alarm = Alarm(callback)
        self.alarms.append((delay_ms, lambda: alarm.callback() if alarm.callback is not None else None))
        return alarm

    # -- Keeper

    def kept(self, h: int | None) -> None:
        super().kept(h)
        self.wire.kept(h)

    def may_send(self, stanzas: Sequence[Stanza]) -> None:
        super().may_send(stanzas)
        self.wire.write(stanzas)

    def flushed(self) -> None:
        self.wire.breathe(full=self.ledger.full)
        super().flushed()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "AGAIN_MS", 1)
    monkeypatch.setattr(wire_module, "UNKEPT_BYTES", 3 * len(say.MESSAGE))


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as opened:
        yield opened


@pytest.fixture
async def open_link(open_edge: OpenEdge, redis_url: str, prefix: str, client: redis.Redis) -> AsyncIterator[OpenLink]:
    opened: list[OnWire] = []

    async def made(**bounds: int) -> OnWire:
        edge = await open_edge(redis_url, prefix)
        await begin(edge)
        opened.append(OnWire(edge, await state(edge), LinkBounds(**bounds), client))
        return opened[-1]

    yield made
    for each in opened:
        each.wire.abort()
        each.ledger.close()
        each.wheel.stop()


@pytest.fixture
async def link(open_link: OpenLink) -> OnWire:
    return await open_link()


async def turn() -> None:
    """The loop's: what is written soon is written."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


# ---------------------------------------------------------------------- nothing before it is durable


async def test_nothing_is_acknowledged_before_it_is_kept(link: OnWire) -> None:
    await link.go_live()
    link.hears(say.MESSAGE, say.MESSAGE)
    await turn()
    assert link.said == b""
    await link.settle()
    await turn()
    assert link.said.endswith(ack(2))


async def test_a_server_that_asks_is_told_what_is_durable_and_waits_for_the_rest(link: OnWire) -> None:
    await link.go_live()
    link.hears(say.ASK)
    await turn()
    assert link.said == ack(0)
    link.hears(say.MESSAGE, say.ASK)
    await turn()
    assert link.said == b""
    await link.settle()
    await turn()
    assert link.said == ack(1)


async def test_while_redis_is_away_a_server_is_told_the_old_count(link: OnWire) -> None:
    await link.go_live()
    link.links.fate = lambda name: "before"
    link.hears(say.MESSAGE, say.ASK)
    await wait_until(lambda: link.ledger.waits_for_store, "Redis is missed")
    await turn()
    assert link.said == ack(0)
    link.hears(say.ASK)
    await turn()
    assert link.said == ack(0)
    link.links.fate = lambda name: ""
    await link.settle()
    await turn()
    assert link.said == ack(1)


async def test_nothing_is_written_before_it_is_kept(link: OnWire) -> None:
    await link.go_live()
    link.links.fate = lambda name: "before"
    link.send(b"<message id='1'/>", "a-1")
    link.pump()
    await wait_until(lambda: link.ledger.waits_for_store, "Redis is missed")
    await turn()
    assert link.said == b""
    link.links.fate = lambda name: ""
    await link.settle()
    await turn()
    assert link.said == b"<message id='1'/>" + ASK
    assert link.meters.link_stanzas["out"].value == 1


async def test_a_session_is_not_used_before_it_is_stored(link: OnWire) -> None:
    link.links.fate = lambda name: "before" if name == "enabled" else ""
    outcome = link.begin()
    link.hears(*say.TO_LIVE, say.MESSAGE, say.ASK)
    link.send(b"<message id='1'/>", "a-1")
    await wait_until(lambda: link.ledger.waits_for_store, "Redis is missed")
    await turn()
    assert not outcome.done()
    assert not link.wire.up
    assert ack(0) not in link.transport.written
    link.transport.written = b""
    link.links.fate = lambda name: ""
    await link.settle()
    await turn()
    assert outcome.result()
    assert link.said in (ack(1) + b"<message id='1'/>" + ASK, b"<message id='1'/>" + ASK + ack(1))


# ---------------------------------------------------------------------- what was not written


async def test_what_was_kept_without_a_connection_is_written_when_there_is_one(link: OnWire) -> None:
    link.send(b"<message id='1'/>", "a-1")
    await link.settle()
    assert link.wire.written == 0
    link.begin()
    link.hears(*say.TO_LIVE)
    await link.settle()
    await turn()
    assert link.said.endswith(b"<message id='1'/>" + ASK)
    assert link.wire.written == 1


async def test_a_resumed_stream_says_again_what_it_was_given_and_then_the_rest(link: OnWire) -> None:
    await link.go_live()
    for n in (1, 2):
        link.send(b"<message id='%d'/>" % n, f"a-{n}")
    await link.settle()
    link.connection.connection_lost(None)
    assert (link.calls["cut"], link.wire.up) == (1, False)
    unacked = tuple(stanza.raw for stanza in link.ledger.unacked)
    outcome = link.begin(replace(PLAIN, resume=SavedStream("sm-1", 0, 0, unacked)))
    link.send(b"<message id='3'/>", "a-3")
    await link.settle()
    assert link.wire.written == 2
    link.hears(*say.TO_LOGGED_IN, say.OFFER_ALL)
    link.transport.written = b""
    link.hears(say.resumed(1))
    assert await outcome
    await link.settle()
    await turn()
    assert link.said.replace(ASK, b"") == b"<message id='2'/><message id='3'/>"
    assert [stanza.action_id for stanza in link.ledger.unacked] == ["a-2", "a-3"]


async def test_what_the_server_has_is_told_once_when_it_is_wanted(link: OnWire) -> None:
    link.options.sent = True
    await link.go_live()
    for n in (1, 2, 3):
        link.send(b"<message id='%d'/>" % n, f"a-{n}" if n != 2 else "")
    await link.settle()
    await turn()
    link.hears(say.acked(1), say.acked(1), say.acked(3))
    await link.settle()
    assert link.events == [("xmpp.sent", {"action_ids": ["a-1"]}), ("xmpp.sent", {"action_ids": ["a-3"]})]
    assert not link.ledger.unacked
    assert link.wire.all_acknowledged


# ---------------------------------------------------------------------- reading


async def test_a_server_is_not_read_while_too_much_is_not_durable(link: OnWire) -> None:
    await link.go_live()
    link.links.fate = lambda name: "before"
    link.hears(say.MESSAGE, say.MESSAGE, say.MESSAGE)
    assert link.transport.reading
    link.hears(say.MESSAGE)
    assert not link.transport.reading
    link.links.fate = lambda name: ""
    await link.settle()
    assert link.transport.reading
    assert len(await link.waiting()) == 4


async def test_a_server_that_keeps_no_count_is_read_on_as_well(link: OnWire) -> None:
    await link.go_live(say.OFFER_BIND, say.BOUND)
    assert link.connection.stream.management is None
    for _ in range(3):
        link.hears(*[say.MESSAGE] * 4)
        await link.settle()
        assert link.transport.reading
    assert len(await link.waiting()) == 12


async def test_what_is_written_to_a_server_without_a_count_is_done_with(link: OnWire) -> None:
    await link.go_live(say.OFFER_BIND, say.BOUND)
    link.send(b"<message id='1'/>", "a-1")
    await link.settle()
    await turn()
    assert link.said == b"<message id='1'/>"
    assert not link.ledger.unacked


async def test_a_server_is_made_to_wait_while_the_backend_takes_no_events(open_link: OpenLink) -> None:
    link = await open_link(events=1)
    await link.go_live()
    link.hears(say.MESSAGE)
    await link.settle()
    link.hears(say.MESSAGE)
    await wait_until(lambda: not link.transport.reading, "it is not read")
    ((delay_ms, give_up),) = link.alarms
    assert delay_ms == 60_000
    link.ledger.accept(1)
    await link.settle()
    assert link.transport.reading
    give_up()
    assert link.calls["suspend"] == 0
    link.hears(say.MESSAGE)
    await wait_until(lambda: not link.transport.reading, "it is not read")
    link.alarms[-1][1]()
    assert link.calls["suspend"] == 1


# ---------------------------------------------------------------------- ends


async def test_a_lost_connection_is_told_once_with_its_reason(link: OnWire) -> None:
    await link.go_live()
    link.hears(say.ERROR)
    assert link.calls == {"cut": 1}
    assert (link.wire.failure.condition, link.wire.failure.by_server) == ("conflict", True)
    assert not link.wire.up
    link.connection.connection_lost(None)
    link.wire.cut("again")
    assert link.calls == {"cut": 1}


@pytest.mark.parametrize(("words", "reason"), [((say.END,), "ended"), ((), "")])
async def test_why_a_stream_is_over(link: OnWire, words: Sequence[bytes], reason: str) -> None:
    await link.go_live()
    link.hears(*words)
    if not words:
        link.connection.connection_lost(ConnectionResetError("reset"))
    assert link.wire.failure.condition == reason
    assert link.wire.failure.text == ("the server ended the stream" if words else "reset")


async def test_a_refused_login(link: OnWire) -> None:
    outcome = link.begin()
    link.hears(say.HEADER, say.OFFER_TOKEN, say.FAILURE)
    assert not await outcome
    assert link.calls == {"refused: not-authorized": 1, "cut": 1}


async def test_a_session_that_was_lost_is_remembered_with_what_it_had(link: OnWire) -> None:
    link.begin(replace(PLAIN, resume=SAVED))
    link.hears(*say.TO_LOGGED_IN, say.OFFER_ALL)
    lost = [link.wire.lost_session]
    link.hears(say.SM_FAILED % 8)
    lost.append(link.wire.lost_session)
    assert lost == [(None, "new session"), (8, "item-not-found")]
    link.wire.abort()
    link.begin()
    assert link.wire.lost_session == (None, "not resumed")


@pytest.mark.parametrize(("how", "end"), [("leave", "closed"), ("abort", "aborted")])
async def test_a_wire_that_was_left_says_and_hears_nothing_more(link: OnWire, how: str, end: str) -> None:
    await link.go_live()
    transport = link.transport
    link.hears(say.MESSAGE)
    getattr(link.wire, how)()
    assert transport.end == end
    link.hears(say.MESSAGE, say.ASK)
    await link.settle()
    link.wire.acknowledge()
    await turn()
    assert transport.written == b""
    assert link.calls["cut"] == 0
    assert link.ledger.h_in == 1
