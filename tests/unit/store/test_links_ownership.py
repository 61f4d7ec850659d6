"""Links: claimed once, released, found by survivors, deleted, and written again after a loss."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from edge.errors import FenceRefused, OutOfStep, StoreRefused
from edge.store.links_base import (
    Action,
    Change,
    Freed,
    HeldLink,
    Hold,
    IqEntry,
    NewStream,
    Save,
    Standing,
    WaitingEvent,
)
from tests.support.waiting import wait_until
from tests.unit.store.conftest import Edge
from tests.unit.store.some_links import LINK, begin, events, new, out, state, waiting

LONG_MS = 60_000


async def let_die(edge: Edge, seen_by: Edge) -> None:
    """`edge` lets its lease lapse, and is condemned for it."""
    await edge.store.renew(edge.id, 80, {})

    async def condemned() -> bool:
        return await seen_by.store.links.condemn(edge.id, seen_by.id, LONG_MS)

    await wait_until(condemned, "the edge is dead for good")


# ---------------------------------------------------------------------- ownership


async def test_a_claim_shuts_the_dead_owner_out_and_returns_everything(edge: Edge, other: Edge) -> None:
    links, hold = edge.store.links, await begin(edge)
    await links.receive(hold, 3, events(1, b"one"))
    iq = IqEntry("k", "k", "p", 1)
    await links.send(hold, 0, [out(b"<a/>", "a-1", iq)])
    with pytest.raises(FenceRefused):
        await other.store.links.claim(LINK, other.id)
    with pytest.raises(FenceRefused):
        await other.store.links.claim(LINK, other.id, dead="somebody else")
    assert await other.store.links.links_of(other.id, 10) == []
    await let_die(edge, other)
    (found,) = await other.store.links.links_of(edge.id, 10)
    held = await other.store.links.claim(found, other.id, dead=edge.id)
    assert held.row.hold == Hold(LINK, other.id, hold.fence + 1, 1)
    assert (held.row.h_in, held.row.sm_id, held.row.seq, held.iqs) == (3, "sm-1", 1, [iq])
    assert [stanza.action_id for stanza in held.unacked] == ["a-1"]
    assert await other.store.links.claim(found, other.id, dead=edge.id) == held
    commands = (
        lambda: links.receive(hold, 4, events(2, b"two")),
        lambda: links.take(hold, 0, 10, 10),
        lambda: links.accepted(hold, 1),
        lambda: links.send(hold, 1, [out(b"<b/>")]),
        lambda: links.acked(hold, 1),
        lambda: links.enabled(hold, 1, NewStream("sm-x")),
        lambda: links.save(hold, Change(save=Save(phase="x")), Action("a-7")),
        lambda: links.disconnect(hold, drop=True),
        lambda: links.restore(replace(held, row=replace(held.row, owner=edge.id, fence=hold.fence)), []),
    )
    for command in commands:
        with pytest.raises(FenceRefused):
            await command()
    await links.release(hold)
    assert await other.store.links.claim(LINK, other.id) == held
    assert await other.store.links.save(held.row.hold, Change(), Action("a-7"))
    await edge.store.links._unlist(edge.id, LINK)  # type: ignore[attr-defined]
    assert await other.store.links.links_of(other.id, 10) == [LINK]


async def test_a_released_link_is_free_at_once_and_for_one_taker(edge: Edge, other: Edge) -> None:
    hold = await begin(edge)
    pending = edge.store.links.receive(hold, 1, events(1, b"one"))
    for _ in range(2):
        await edge.store.links.release(hold, Change(save=Save(lost_at=9)))
    assert (await pending).seq == 1
    with pytest.raises(FenceRefused):
        await edge.store.links.receive(hold, 2, events(2, b"two"))
    assert await other.store.links.links_of(edge.id, 10) == []
    (freed,) = await other.store.links.freed(10)
    assert freed == Freed(LINK, hold.fence)
    both = [by.store.links.claim(LINK, by.id, freed=freed) for by in (edge, other)]
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    (held,) = [outcome for outcome in outcomes if isinstance(outcome, HeldLink)]
    assert [type(o) for o in outcomes if o is not held] == [FenceRefused]
    assert (held.row.fence, held.row.lost_at, held.row.h_in) == (hold.fence + 1, 9, 1)
    assert await other.store.links.freed(10) == []
    owned = {by.id: await by.store.links.links_of(by.id, 10) for by in (edge, other)}
    assert owned == {edge.id: [], other.id: []} | {held.row.owner: [LINK]}


async def test_entries_that_are_out_of_date_go_when_they_are_met(edge: Edge, other: Edge) -> None:
    hold = await begin(edge)
    await edge.store.links.release(hold)
    (freed,) = await edge.store.links.freed(10)
    held = await edge.store.links.claim(LINK, edge.id)  # by its id: the entry stays
    assert await edge.store.links.freed(10) == [freed]
    with pytest.raises(FenceRefused):
        await other.store.links.claim(LINK, other.id, freed=freed)
    assert await other.store.links.freed(10) == []
    await other.store.links._list("dead", LINK)  # type: ignore[attr-defined]
    await other.store.links._list("dead", "x:never was")  # type: ignore[attr-defined]
    for link in await other.store.links.links_of("dead", 10):
        with pytest.raises(FenceRefused):
            await other.store.links.claim(link, other.id, dead="dead")
    assert await other.store.links.links_of("dead", 10) == []
    assert await other.store.links.links_of(edge.id, 10) == [LINK]
    assert (await state(edge)).row == held.row


async def test_survivors_share_the_links_of_a_dead_edge(edge: Edge, other: Edge) -> None:
    ids = {f"x:{n}" for n in range(60)}
    await asyncio.gather(*(edge.store.links.connect(new(link), "dead") for link in ids))
    claimed: list[HeldLink] = []

    async def survive(by: Edge) -> None:
        while found := await by.store.links.links_of("dead", 7):
            claims = (by.store.links.claim(link, by.id, dead="dead") for link in found)
            for outcome in await asyncio.gather(*claims, return_exceptions=True):
                if isinstance(outcome, HeldLink):
                    claimed.append(outcome)
                else:
                    assert isinstance(outcome, FenceRefused)

    await asyncio.gather(survive(edge), survive(other))
    assert sorted(held.row.id for held in claimed) == sorted(ids)
    for by in (edge, other):
        assert set(await by.store.links.links_of(by.id, 100)) == {h.row.id for h in claimed if h.row.owner == by.id}


async def test_the_condemned_have_lost_and_the_others_have_not(edge: Edge, other: Edge) -> None:
    await edge.store.renew(edge.id, LONG_MS, {})
    assert not await other.store.links.condemn(edge.id, other.id, LONG_MS)
    assert (await edge.store.renew(edge.id, LONG_MS, {})).kind == "held"
    await let_die(edge, other)
    assert await other.store.links.condemn(edge.id, other.id, LONG_MS)
    assert (await edge.store.renew(edge.id, LONG_MS, {})).kind == "lost"
    assert await other.store.lapsed() == [edge.id]
    assert await other.store.claim_estate(edge.id, other.id, LONG_MS)
    await other.store.bury(edge.id)
    assert await other.store.links.condemn(edge.id, other.id, LONG_MS)


async def test_an_edge_without_a_lease_gets_time_to_renew_it(edge: Edge, other: Edge) -> None:
    assert not await other.store.links.condemn(edge.id, other.id, LONG_MS)
    assert (await edge.store.renew(edge.id, LONG_MS, {})).kind == "held"
    assert not await other.store.links.condemn("never was", other.id, 1)

    async def condemned() -> bool:
        return await other.store.links.condemn("never was", other.id, 1)

    await wait_until(condemned, "who did not renew is dead")


async def test_an_edge_with_links_is_not_buried_and_leaves_an_estate(edge: Edge, other: Edge) -> None:
    await edge.store.renew(edge.id, LONG_MS, {})
    await begin(edge)
    await edge.store.release(edge.id)
    assert await other.store.lapsed() == [edge.id]
    assert await other.store.claim_estate(edge.id, other.id, LONG_MS)
    await other.store.bury(edge.id)
    assert await other.store.lapsed() == [edge.id]
    await other.store.links.claim(LINK, other.id, dead=edge.id)
    await other.store.bury(edge.id)
    assert await other.store.lapsed() == []


# ---------------------------------------------------------------------- ends and losses


async def test_a_link_is_not_deleted_while_events_wait(edge: Edge) -> None:
    links, hold = edge.store.links, await begin(edge)
    await links.receive(hold, 1, events(1, b"one"))
    with pytest.raises(OutOfStep):
        await links.disconnect(hold)
    await links.disconnect(hold, drop=True)
    await links.disconnect(hold, drop=True)
    assert await links.load(LINK) is None
    assert await links.links_of(edge.id, 10) == []
    keys = edge.store._links._keys.link(LINK)
    for key in keys:
        assert await edge.store._router.send(("EXISTS", key), key, repeatable=True) == 0


async def test_what_redis_lost_is_written_again(edge: Edge) -> None:
    links, hold = edge.store.links, await begin(edge)
    await links.receive(hold, 3, events(1, b"one", b"two", b"three"))
    await links.send(hold, 0, [out(b"<a/>", "a-1", IqEntry("k", "k", "p", 1))])
    held = await state(edge)
    tail = [WaitingEvent(3, b"three")]
    assert not (await links.restore(held, tail)).written
    keys = edge.store._links._keys.link(LINK)

    async def command(*args: object) -> None:
        await edge.store._router.send(args, str(args[1]), repeatable=True)

    # Rolled back to before the last event.
    await command("RPOP", keys[1])
    await command("HSET", keys[0], "seq", 2, "h_in", 2)
    restored = await links.restore(held, tail)
    assert (restored.written, restored.lost) == (True, 0)
    assert await state(edge) == held
    assert await waiting(links, hold) == [(1, b"one"), (2, b"two"), (3, b"three")]
    # Everything is gone.
    await command("DEL", *keys)
    restored = await links.restore(held, tail)
    assert (restored.written, restored.lost) == (True, 2)
    assert await state(edge) == replace(held, row=replace(held.row, event_bytes=5))
    assert await waiting(links, hold) == [(3, b"three")]
    assert await links.receive(hold, 4, events(4, b"four")) == Standing(4, 0, 9)
    assert await links.accepted(hold, 3) == Standing(4, 3, 4)


async def test_many_commands_of_one_tick_leave_in_one_pipeline(open_edge: object, redis_url: str, prefix: str) -> None:
    edge: Edge = await open_edge(redis_url, prefix)  # type: ignore[operator]
    holds = [await begin(edge, f"x:{n}") for n in range(20)]
    before = edge.store.round_trips
    answers = [edge.store.links.receive(hold, 1, events(1, b"one")) for hold in holds]
    sent = [edge.store.links.send(hold, 0, [out(b"<a/>")]) for hold in holds]
    assert {(await answer).seq for answer in answers} == {1}
    assert [(await each).places for each in sent] == [[1]] * 20
    assert edge.store.round_trips == before + 1


async def test_what_cannot_be_stored_is_refused_alone(edge: Edge) -> None:
    links, hold = edge.store.links, await begin(edge)
    bad = links.save(hold, Change(save=Save(state_set={"a": object()})))
    worse = links.send(hold, 0, [out(b"<a/>", "\ud800")])
    good = links.send(hold, 0, [out(b"<a/>")])
    for refused in (bad, worse, links.connect(new(state={"a": 2**70}), edge.id)):
        with pytest.raises(StoreRefused):
            await refused
    assert (await good).places == [1]
