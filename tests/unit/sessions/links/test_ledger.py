"""A link's ledger on a real Redis: write-ahead, in batches, through full queues, outages, losses and other owners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.clock import SystemClock
from edge.config import EdgeSettings
from edge.errors import QueueFull, SessionGone
from edge.model import link_backlog
from edge.sessions.links import ledger as ledger_module
from edge.sessions.links.ledger import DRAFTS
from edge.store.links_base import IqEntry, LinkBounds, NewStream, Stanza
from edge.store.redis import RedisStore, open_store
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until
from tests.unit.sessions.links.bench import AT, Bench, bench
from tests.unit.store.conftest import Ears, Edge, OpenEdge
from tests.unit.store.some_links import LINK

ASKED = IqEntry("e1-1", "e1-1", "bob@x", AT + 1_000, "a-1")
OpenBench = Callable[..., Awaitable[Bench]]


@pytest.fixture(autouse=True)
def _soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "AGAIN_MS", 1)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as opened:
        yield opened


@pytest.fixture
async def open_bench(open_edge: OpenEdge, redis_url: str, prefix: str, client: redis.Redis) -> AsyncIterator[OpenBench]:
    """``await open_bench(events=2)``: a ledger on a Redis with so much room."""
    opened: list[Bench] = []

    async def made(**bounds: int) -> Bench:
        opened.append(await bench(await open_edge(redis_url, prefix), client, LinkBounds(**bounds)))
        return opened[-1]

    yield made
    for each in opened:
        each.ledger.close()
        each.wheel.stop()


@pytest.fixture
async def desk(open_bench: OpenBench) -> Bench:
    return await open_bench()


# ---------------------------------------------------------------------- write-ahead, in batches


async def test_nothing_is_told_before_redis_has_it(desk: Bench) -> None:
    desk.add(1, 2)
    desk.ledger.heard(2)
    desk.send(b"<a/>", "a-1")
    desk.ledger.flush()
    assert desk.log == []
    assert (desk.ledger.h_in, desk.ledger.out_n, desk.ledger.backlog.ready) == (0, 0, False)
    assert not desk.ledger.idle
    await desk.settle()
    assert desk.log == [("kept", 2), ("may send", [b"<a/>"]), ("flushed", None)]
    assert desk.told == [("a-1", None)]
    assert await desk.waiting() == [(1, 1), (2, 2)]
    await desk.check()


async def test_what_gathers_while_a_flush_is_out_leaves_in_the_next_one(desk: Bench) -> None:
    for n in range(10):
        desk.add(n)
        desk.ledger.heard(n + 1)
        desk.send(b"<m%d/>" % n)
        desk.ledger.acknowledged(0)
        desk.ledger.flush()
    await desk.settle()
    assert desk.links.asked == ["receive", "send", "acked"] * 2
    assert desk.of("kept") == [1, 10]
    assert desk.of("may send") == [[b"<m0/>"], [b"<m%d/>" % n for n in range(1, 10)]]
    await desk.check()


async def test_a_flush_is_one_round_trip(desk: Bench) -> None:
    before = desk.edge.store.round_trips
    desk.add(1)
    desk.ledger.heard(1)
    desk.send(b"<a/>")
    desk.ledger.acknowledged(0)
    await desk.settle()
    assert desk.edge.store.round_trips == before + 1


async def test_nothing_to_write_is_not_written(desk: Bench) -> None:
    assert desk.ledger.idle
    desk.ledger.flush()
    assert desk.links.asked == []


async def test_an_answer_is_written_with_its_stanzas_and_its_event(desk: Bench) -> None:
    desk.add(1)
    await desk.settle()
    desk.ledger.change_state({"n": 1}, ())
    desk.ledger.save_result(presence=b"<presence/>", pinned="def")
    desk.send(b"<presence/>", "~x:u42:1/1")
    desk.ledger.accept(1)
    desk.links.asked.clear()
    await desk.settle()
    assert desk.links.asked == ["send"]
    row = (await desk.check()).row
    assert (row.done, row.state, row.state_version, row.presence, row.pinned) == (1, {"n": 1}, 1, b"<presence/>", "def")
    assert desk.ledger.backlog.waiting == 0


async def test_an_answer_without_stanzas_is_one_write_as_well(desk: Bench) -> None:
    desk.add(1)
    await desk.settle()
    desk.ledger.change_state({"n": 1, "m": 2}, ())
    desk.ledger.change_state({}, ("m", "never was"))
    desk.ledger.accept(1)
    desk.links.asked.clear()
    await desk.settle()
    assert desk.links.asked == ["receive"]
    row = (await desk.check()).row
    assert (row.done, row.state, row.state_version) == (1, {"n": 1}, 2)


async def test_small_state_is_seen_at_once_and_stored_with_the_next_flush(desk: Bench) -> None:
    desk.ledger.save(phase="live", lost_at=7, attached=("s1",))
    desk.ledger.archived("K4")
    desk.ledger.ask(ASKED)
    assert (desk.ledger.base.phase, desk.ledger.base.lost_at) == ("live", 7)
    await desk.settle()
    row = (await desk.check()).row
    assert (row.phase, row.lost_at, row.attached, row.last_mam_id) == ("live", 7, ("s1",), "K4")
    desk.ledger.answered("e1-1")
    desk.ledger.answered("nobody asked")
    await desk.settle()
    assert (await desk.check()).iqs == []


async def test_what_the_server_acknowledged_is_dropped_and_a_wrong_count_harms_nothing(desk: Bench) -> None:
    for n in range(3):
        desk.send(b"<m%d/>" % n)
    await desk.settle()
    desk.ledger.acknowledged(2)
    await desk.settle()
    assert [stanza.raw for stanza in desk.ledger.unacked] == [b"<m2/>"]
    for wrong in (9, 1):
        desk.ledger.acknowledged(wrong)
        await desk.settle()
        assert [stanza.raw for stanza in (await desk.check()).unacked] == [b"<m2/>"]


async def test_a_repeated_action_is_confirmed_and_not_written(desk: Bench) -> None:
    desk.send(b"<a/>", "a-1")
    await desk.settle()
    desk.send(b"<iq/>", "a-1", ASKED)
    desk.send(b"<b/>", "a-2")
    assert desk.ledger.iqs == {"e1-1": ASKED}
    await desk.settle()
    assert desk.of("may send") == [[b"<a/>"], [b"<b/>"]]
    assert desk.told == [("a-1", None), ("a-1", None), ("a-2", None)]
    assert (await desk.check()).iqs == []


async def test_so_many_stanzas_wait_for_redis_and_no_more(desk: Bench) -> None:
    for n in range(DRAFTS + 1):
        desk.send(b"<m/>", f"a-{n}")
    ((action, error),) = desk.told
    assert (action, type(error)) == (f"a-{DRAFTS}", QueueFull)
    await desk.settle()
    assert len(desk.told) == DRAFTS + 1
    assert desk.ledger.out_n == DRAFTS


# ---------------------------------------------------------------------- full queues


async def test_a_full_queue_holds_events_back_and_everything_else_goes_on(open_bench: OpenBench) -> None:
    desk = await open_bench(events=2)
    desk.add(1, 2)
    desk.ledger.heard(2)
    await desk.settle()
    desk.add(3, 4)
    desk.ledger.heard(4)
    desk.ledger.save(phase="live")
    desk.ledger.ask(ASKED)
    desk.send(b"<a/>", "a-1")
    desk.ledger.flush()
    await wait_until(lambda: desk.ledger.full and not desk.ledger._flying, "there is no room")
    assert not desk.ledger.idle
    assert desk.ledger.h_in == 2
    assert desk.of("kept") == [2, None]
    assert desk.told == [("a-1", None)]
    held = await desk.stored()
    assert (held.row.h_in, held.row.phase, held.iqs, held.row.seq) == (2, "live", [ASKED], 2)
    desk.ledger.accept(1)
    desk.ledger.flush()
    await wait_until(lambda: desk.ledger.backlog.done == 1 and not desk.ledger._flying, "it is accepted")
    assert desk.ledger.full  # for two there is still no room
    assert (await desk.stored()).row.done == 1
    desk.ledger.accept(2)
    await desk.settle()
    assert not desk.ledger.full
    assert desk.of("kept")[-1] == 4
    assert await desk.waiting() == [(3, 3), (4, 4)]
    await desk.check()


async def test_what_nobody_can_hold_back_has_room(open_bench: OpenBench) -> None:
    desk = await open_bench(events=1)
    desk.add(1)
    await desk.settle()
    desk.add(2)
    desk.ledger.heard(2)
    desk.ledger.flush()
    await wait_until(lambda: desk.ledger.full and not desk.ledger._flying, "there is no room")
    desk.ledger.urgent = True
    desk.add(3)
    await desk.settle()
    assert await desk.waiting() == [(1, 1), (2, 2), (3, 3)]
    assert (await desk.check()).row.h_in == 2


async def test_newer_news_of_what_was_held_back_are_stored(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_backlog, "COALESCE_FROM", 1)
    desk = await open_bench(events=1)
    desk.add(1)
    await desk.settle()
    desk.add(2, key="bob")
    desk.ledger.flush()
    desk.add(3, key="bob")
    await wait_until(lambda: desk.ledger.full and not desk.ledger._flying, "there is no room")
    desk.ledger.accept(1)
    await desk.settle()
    assert await desk.waiting() == [(2, 3)]
    assert desk.of("dispossessed") == []


async def test_the_state_survives_a_full_queue_change_by_change(open_bench: OpenBench) -> None:
    desk = await open_bench(events=1)
    desk.add(1)
    await desk.settle()
    desk.add(2)
    desk.ledger.change_state({"a": 1, "b": 1}, ())
    desk.ledger.flush()
    desk.ledger.change_state({"c": 2}, ("b",))
    await wait_until(lambda: desk.ledger.full and not desk.ledger._flying, "there is no room")
    desk.ledger.change_state({"b": 3}, ("c",))
    desk.ledger.accept(1)
    await desk.settle()
    row = (await desk.check()).row
    assert (row.state, row.state_version) == ({"a": 1, "b": 3}, 3)


async def test_a_refused_stanza_is_told_and_its_answer_is_accepted_all_the_same(open_bench: OpenBench) -> None:
    desk = await open_bench(stanzas=1)
    desk.add(1, 2)
    desk.send(b"<a/>", "a-1")
    await desk.settle()
    desk.ledger.change_state({"a": 1}, ())
    desk.send(b"<iq/>", "a-2", ASKED)
    desk.ledger.accept(1)
    desk.ledger.flush()
    desk.ledger.change_state({"b": 2}, ())
    desk.ledger.accept(2)
    await desk.settle()
    assert [(action, type(error)) for action, error in desk.told] == [("a-1", type(None)), ("a-2", QueueFull)]
    held = await desk.check()
    assert (held.row.done, held.row.state, held.iqs) == (2, {"a": 1, "b": 2}, [])
    assert desk.of("may send") == [[b"<a/>"]]


# ---------------------------------------------------------------------- a new stream


async def test_a_new_stream_begins_when_nothing_of_the_old_one_is_under_way(desk: Bench) -> None:
    desk.send(b"<a/>", "a-1")
    desk.ledger.heard(5)
    desk.ledger.flush()
    desk.send(b"<b/>", "a-2")
    desk.ledger.heard(6)
    made: list[list[bytes]] = []

    def make() -> NewStream:
        made.append([stanza.raw for stanza in desk.ledger.unacked])
        desk.add(1)
        desk.ledger.save(phase="live", bound_jid="u42@chat.example/new")
        return NewStream("sm-2", 600, "two:5222", [Stanza(b"<a again/>", AT, "a-1")])

    desk.ledger.new_stream(make, lambda: desk.log.append(("then", None)))
    desk.ledger.heard(1)
    await desk.settle()
    assert made == [[b"<a/>"]]
    assert desk.log == [
        ("kept", 5), ("may send", [b"<a/>"]), ("flushed", None), ("kept", None), ("then", None), ("flushed", None),
        ("kept", 1), ("may send", [b"<b/>"]), ("flushed", None),
    ]  # fmt: skip
    held = await desk.check()
    assert (held.row.stream, held.row.sm_id, held.row.sm_max_s, held.row.location) == (2, "sm-2", 600, "two:5222")
    assert [stanza.raw for stanza in held.unacked] == [b"<a again/>", b"<b/>"]
    assert (held.row.h_in, held.row.out_n, held.row.bound_jid) == (1, 2, "u42@chat.example/new")


async def test_a_count_that_was_refused_is_not_carried_into_the_next_stream(open_bench: OpenBench) -> None:
    desk = await open_bench(events=1)
    desk.add(1)
    await desk.settle()
    desk.add(2)
    desk.ledger.heard(40)
    desk.ledger.flush()
    desk.ledger.new_stream(lambda: NewStream("sm-2"), lambda: None)
    await desk.settle()
    assert (await desk.check()).row.h_in == 0
    assert await desk.waiting() == [(1, 1), (2, 2)]
    assert desk.of("kept") == [None, None]


async def test_newer_news_are_kept_when_a_stream_begins(desk: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_backlog, "COALESCE_FROM", 1)
    desk.add(1, key="bob")
    await desk.settle()
    desk.add(2, key="bob")
    desk.ledger.new_stream(lambda: NewStream("sm-2"), lambda: None)
    await desk.settle()
    assert await desk.waiting() == [(1, 2)]


async def test_events_of_a_new_stream_need_no_room(open_bench: OpenBench) -> None:
    desk = await open_bench(events=1)
    desk.add(1)
    await desk.settle()

    def make() -> NewStream:
        desk.add(2)
        return NewStream("sm-2")

    desk.ledger.new_stream(make, lambda: None)
    await desk.settle()
    assert await desk.waiting() == [(1, 1), (2, 2)]


# ---------------------------------------------------------------------- Redis is away


@pytest.mark.parametrize("fate", ["before", "after"])
async def test_the_same_commands_are_given_until_redis_answers_and_take_effect_once(desk: Bench, fate: str) -> None:
    losses = 3

    def lose(name: str) -> str:
        nonlocal losses
        if name == "load" or losses <= 0:
            return ""
        losses -= name == "send"
        return fate

    desk.links.fate = lose
    desk.add(1)
    desk.ledger.heard(1)
    desk.send(b"<a/>", "a-1")
    desk.send(b"<b/>", "~x/1")
    desk.send(b"<ping/>")
    desk.ledger.acknowledged(0)
    desk.ledger.flush()
    await wait_until(lambda: desk.ledger.waits_for_store, "Redis is missed")
    desk.add(2)
    desk.ledger.heard(2)
    desk.ledger.flush()  # nothing new leaves before it answers
    assert desk.of("kept") == [None]
    await desk.settle()
    assert not desk.ledger.waits_for_store
    assert desk.of("kept") == [None, 1, 2]
    assert desk.of("may send") == [[b"<a/>", b"<b/>", b"<ping/>"]]
    assert desk.told == [("a-1", None), ("~x/1", None), ("", None)]
    assert await desk.waiting() == [(1, 1), (2, 2)]
    assert (await desk.check()).row.out_n == 3


async def test_a_new_stream_whose_answer_was_lost_is_begun_once(desk: Bench) -> None:
    fates = ["after", "before"]
    desk.links.fate = lambda name: fates.pop() if name == "enabled" and fates else ""
    desk.send(b"<a/>", "a-1")
    await desk.settle()
    made: list[int] = []

    def make() -> NewStream:
        made.append(1)
        desk.add(1)
        return NewStream("sm-2", 0, "", tuple(desk.ledger.unacked))

    desk.ledger.new_stream(make, lambda: desk.log.append(("then", None)))
    await desk.settle()
    assert made == [1]
    assert desk.of("then") == [None]
    held = await desk.check()
    assert (held.row.stream, held.row.out_n, held.row.seq) == (2, 1, 1)


async def test_redis_that_falls_silent_is_waited_for(open_edge: OpenEdge, redis_server: RedisServer) -> None:
    edge = await open_edge(redis_server.url, store_wait_s=0.3)
    with redis_server.client() as client:
        desk = await bench(edge, client)
        redis_server.pause()
        try:
            desk.add(1)
            desk.ledger.heard(1)
            desk.send(b"<a/>", "~x/1")
            desk.ledger.flush()
            await wait_until(lambda: desk.ledger.waits_for_store, "Redis is missed")
            assert desk.log == [("kept", None)]
        finally:
            redis_server.go_on()
        await desk.settle()
        assert desk.log == [("kept", None), ("kept", 1), ("may send", [b"<a/>"]), ("flushed", None)]
        assert await desk.waiting() == [(1, 1)]
        await desk.check()
        desk.wheel.stop()


# ---------------------------------------------------------------------- Redis has lost what it had


async def test_after_a_loss_everything_is_written_anew_before_anything_else(
    open_edge: OpenEdge, redis_server: RedisServer
) -> None:
    edge = await open_edge(redis_server.url)
    with redis_server.client() as client:
        desk = await bench(edge, client)
        desk.add(1, 2, 3)
        desk.ledger.heard(3)
        desk.send(b"<a/>", "a-1")
        desk.send(b"<iq/>", "a-2", ASKED)
        desk.ledger.save(phase="live", attached=("s1",), credentials=b"sealed")
        desk.ledger.change_state({"n": [1]}, ())
        desk.ledger.archived("K4")
        await desk.settle()
        desk.ledger.accept(1)
        desk.ledger.acknowledged(1)
        await desk.settle()
        before = await desk.check()
        client.flushall()
        desk.add(4)
        desk.ledger.heard(4)
        desk.send(b"<b/>", "a-3")
        await desk.settle()
        assert "restore" in desk.links.asked
        assert await desk.waiting() == [(2, 2), (3, 3), (4, 4)]
        held = await desk.check()
        assert (held.row.fence, held.row.owner, held.row.credentials) == (before.row.fence, edge.id, b"sealed")
        assert (held.row.h_in, held.row.out_base, held.row.out_n, held.iqs) == (4, 1, 3, [ASKED])
        assert await edge.store.links.links_of(edge.id, 10) == [LINK]
        assert desk.of("dispossessed") == []
        # And when it is idle, it is looked at by order.
        client.flushall()
        desk.ledger.verify()
        assert not desk.ledger.idle
        await desk.settle()
        assert await desk.check() == held
        desk.links.asked.clear()
        desk.ledger.verify()
        await desk.settle()
        assert desk.links.asked == ["load", "load"]  # all was there
        desk.wheel.stop()


async def test_what_redis_forgot_of_the_end_is_written_again(desk: Bench, client: redis.Redis) -> None:
    desk.add(1, 2)
    desk.ledger.heard(2)
    desk.send(b"<a/>", "a-1")
    await desk.settle()
    row, waiting, unacked, _ = desk.edge.store._links._keys.link(LINK)
    client.rpop(waiting)
    client.delete(unacked)
    client.hset(row, mapping={"seq": 1, "h_in": 1, "out_n": 0, "out_bytes": 0})
    desk.ledger.verify()
    await desk.settle()
    assert await desk.waiting() == [(1, 1), (2, 2)]
    await desk.check()


async def test_what_does_not_fit_is_given_up_after_a_few_tries(desk: Bench, client: redis.Redis) -> None:
    client.hset(desk.edge.store._links._keys.link(LINK)[0], "out_n", 5)
    desk.send(b"<a/>", "a-1")
    desk.ledger.flush()
    await wait_until(lambda: desk.of("dispossessed"), "the link is given up")
    assert "does not fit" in desk.of("dispossessed")[0]
    assert [type(error) for _, error in desk.told] == [SessionGone]
    assert desk.links.asked.count("send") == 4


# ---------------------------------------------------------------------- another owner


async def take_over(desk: Bench, other: Edge) -> None:
    await other.store.links.claim(LINK, other.id, dead=desk.edge.id)


@pytest.mark.parametrize("how", ["by its next write", "by looking"])
async def test_another_owner_is_noticed_once_and_nothing_is_written_any_more(
    desk: Bench, open_edge: OpenEdge, redis_url: str, prefix: str, how: str
) -> None:
    other = await open_edge(redis_url, prefix)
    desk.send(b"<a/>", "a-1")
    await desk.settle()
    await take_over(desk, other)
    now = await other.store.links.load(LINK)
    if how == "by looking":
        desk.ledger.verify()
    else:
        desk.add(1)
        desk.ledger.heard(1)
        desk.send(b"<b/>", "a-2")
        desk.ledger.flush()
        desk.send(b"<c/>", "a-3")
    await wait_until(lambda: desk.of("dispossessed"), "the link is another's")
    assert desk.ledger.closed
    told = [(action, type(error)) for action, error in desk.told[1:]]
    assert told == ([] if how == "by looking" else [("a-2", SessionGone), ("a-3", SessionGone)])
    assert desk.of("may send") == [[b"<a/>"]]
    assert desk.of("kept") == []
    asked = len(desk.links.asked)
    desk.add(2)
    desk.ledger.flush()
    desk.ledger.verify()
    desk.ledger.close()
    assert len(desk.links.asked) == asked
    assert len(desk.of("dispossessed")) == 1
    assert await other.store.links.load(LINK) == now


async def test_a_closed_ledger_tells_whoever_gave_it_stanzas_and_forgets_what_is_out(desk: Bench) -> None:
    desk.send(b"<a/>", "a-1")
    desk.ledger.flush()
    desk.send(b"<b/>", "a-2")
    desk.ledger.close()
    assert [(action, type(error)) for action, error in desk.told] == [("a-1", SessionGone), ("a-2", SessionGone)]
    await desk.edge.store.links.load(LINK)
    assert desk.log == []
    assert len(desk.told) == 2


async def test_a_link_that_was_deleted_by_others_is_not_written_again_when_somebody_has_it_now(
    desk: Bench, open_edge: OpenEdge, redis_url: str, prefix: str
) -> None:
    other = await open_edge(redis_url, prefix)
    await take_over(desk, other)
    held = await other.store.links.claim(LINK, other.id)
    await other.store.links.disconnect(held.row.hold)
    begun = await other.store.links.connect(held.row, other.id)
    desk.ledger.verify()
    await wait_until(lambda: desk.of("dispossessed"), "the link is another's")
    assert await other.store.links.load(LINK) == begun.row


# ---------------------------------------------------------------------- everything at once


STEPS = st.lists(
    st.sampled_from(["hear", "hear", "send", "repeat", "answer", "state", "ack", "accept", "save", "flush", "turn"]),
    max_size=40,
)
FATES = st.lists(st.sampled_from(["", "", "", "before", "after"]), max_size=25)


async def live(desk: Bench, steps: list[str], fates: list[str]) -> None:
    """Any steps, with any answers lost; at the end everything is durable, and was told once and in order."""
    left = list(fates)
    desk.links.fate = lambda name: left.pop() if left else ""
    ledger, h, sent, named = desk.ledger, 0, 0, 0
    for number, step in enumerate(steps, 1):
        match step:
            case "hear":
                h += 1
                desk.add(number, key="bob" if number % 3 else None)
                ledger.heard(h)
            case "send":
                sent += 1
                named = sent
                desk.send(b"<m%d/>" % sent, f"a-{sent}")
            case "repeat" if named:
                desk.send(b"<m%d/>" % named, f"a-{named}")
            case "answer":
                taken = ledger.backlog.take(2, 10_000)
                ledger.change_state({f"k{number % 3}": number}, (f"k{(number + 1) % 3}",))
                for seq, _ in taken:
                    sent += 1
                    desk.send(b"<m%d/>" % sent, f"~{seq}")
                    ledger.accept(seq)
            case "state":
                ledger.change_state({f"k{number % 2}": number}, ())
            case "ack":
                ledger.acknowledged(ledger.out_n)
            case "accept":
                for seq, _ in ledger.backlog.take(3, 10_000):
                    ledger.accept(seq)
            case "save":
                ledger.save(lost_at=number)
            case "flush":
                ledger.flush()
            case "turn":
                ledger.flush()
                await desk.edge.store.links.load(LINK)
    await desk.settle()
    assert desk.of("dispossessed") == []
    assert [raw for raws in desk.of("may send") for raw in raws] == [b"<m%d/>" % n for n in range(1, sent + 1)]
    assert all(error is None for _, error in desk.told)
    counts = [h for h in desk.of("kept") if h is not None]
    assert counts == sorted(counts)
    assert ledger.h_in == h
    await desk.check()
    await desk.edge.store.links.disconnect(ledger.hold, drop=True)
    for n in range(1, sent + 1):
        name = desk.edge.store._links._keys.link_action(LINK, f"a-{n}")
        desk._client.delete(name)
    desk.wheel.stop()


@given(st.lists(st.tuples(STEPS, FATES), min_size=3, max_size=3))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_gets_lost_on_the_way_everything_is_kept_and_told_once(
    redis_url: str, prefix: str, client: redis.Redis, runs: list[tuple[list[str], list[str]]]
) -> None:
    async def one_after_the_other() -> None:
        store = open_store(EdgeSettings(redis=redis_url), "e", SystemClock(), prefix=prefix)
        assert isinstance(store, RedisStore)
        await store.start(Ears().listener())
        try:
            for steps, fates in runs:
                await live(await bench(Edge("e", store, Ears()), client), steps, fates)
        finally:
            await store.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(link_backlog, "COALESCE_FROM", 2)
        asyncio.run(one_after_the_other())
