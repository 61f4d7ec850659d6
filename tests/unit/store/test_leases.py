"""Leases and estates: Redis's time decides, and every session of a dead edge gets exactly one heir."""

from __future__ import annotations

import asyncio

import pytest

from edge.errors import FenceRefused
from edge.store.base import Patch, SessionRow
from tests.support.waiting import wait_until
from tests.unit.store.conftest import Edge, row

LONG_MS = 60_000
SHORT_MS = 80


async def let_lapse(edge: Edge, seen_by: Edge) -> None:
    await edge.store.renew(edge.id, SHORT_MS, {})

    async def lapsed() -> bool:
        return edge.id in await seen_by.store.lapsed()

    await wait_until(lapsed, "the lease has lapsed")


async def test_a_lease_is_fresh_once_and_held_from_then_on(edge: Edge, other: Edge) -> None:
    kinds = [(await edge.store.renew(edge.id, LONG_MS, {"control": "10.0.0.1:5561"})).kind for _ in range(3)]
    assert kinds == ["fresh", "held", "held"]
    assert (await other.store.renew(other.id, LONG_MS, {})).kind == "fresh"
    assert await other.store.edges() == {edge.id: {"control": "10.0.0.1:5561"}, other.id: {}}
    assert await other.store.lapsed() == []


async def test_a_late_renewal_still_holds_while_nobody_has_claimed(edge: Edge, other: Edge) -> None:
    await let_lapse(edge, other)
    assert await other.store.edges() == {}
    assert (await edge.store.renew(edge.id, LONG_MS, {})).kind == "held"
    assert await other.store.lapsed() == []
    assert not await other.store.claim_estate(edge.id, other.id, LONG_MS)


async def test_from_the_first_claim_on_the_dead_edge_has_lost(edge: Edge, other: Edge) -> None:
    await let_lapse(edge, other)
    assert await other.store.claim_estate(edge.id, other.id, LONG_MS)
    assert (await edge.store.renew(edge.id, LONG_MS, {})).kind == "lost"
    assert await other.store.claim_estate(edge.id, other.id, LONG_MS)
    assert not await other.store.claim_estate(edge.id, "third", LONG_MS)
    assert await other.store.lapsed() == [edge.id]
    await other.store.bury(edge.id)
    assert await other.store.lapsed() == []
    assert (await edge.store.renew(edge.id, LONG_MS, {})).kind == "lost"
    assert not await other.store.claim_estate(edge.id, other.id, LONG_MS)


async def test_a_claim_lapses_with_its_claimant(edge: Edge, other: Edge) -> None:
    await let_lapse(edge, other)
    assert await other.store.claim_estate(edge.id, "claimant that dies", SHORT_MS)

    async def claimed() -> bool:
        return await other.store.claim_estate(edge.id, other.id, LONG_MS)

    assert not await claimed()
    await wait_until(claimed, "the claim has lapsed")


async def test_what_an_edge_owns_is_listed_until_it_is_forgotten(edge: Edge, other: Edge) -> None:
    for sid in ("s1", "s2"):
        await edge.store.register(row(sid, edge.id))
    assert sorted(await other.store.owned(edge.id)) == ["s1", "s2"]
    await edge.store.forget("s1", edge.id, 1)
    assert await other.store.owned(edge.id) == ["s2"]
    assert await other.store.owned("nobody") == []


async def test_nobody_claims_what_is_unknown(edge: Edge) -> None:
    assert not await edge.store.claim_estate("never was", edge.id, LONG_MS)


async def test_leaving_politely_leaves_nothing(edge: Edge, other: Edge) -> None:
    await edge.store.renew(edge.id, LONG_MS, {})
    await edge.store.release(edge.id)
    assert (await other.store.edges(), await other.store.lapsed()) == ({}, [])
    assert (await edge.store.renew(edge.id, LONG_MS, {})).kind == "fresh"


async def test_leaving_with_sessions_gives_them_away_at_once(edge: Edge, other: Edge) -> None:
    await edge.store.renew(edge.id, LONG_MS, {})
    await edge.store.register(row("s1", edge.id))
    await edge.store.release(edge.id)
    assert await other.store.lapsed() == [edge.id]


async def test_inheriting_raises_the_fence_and_shuts_the_dead_edge_out(edge: Edge, other: Edge) -> None:
    await edge.store.register(row("s1", edge.id, fence=3, state={"a": 1}, user="ann"))
    (estate,) = await other.store.estate(edge.id, 10)
    await edge.store.commit(Patch("s1", 3, state_set={"a": 2}))
    heir = await other.store.inherit(estate, other.id)
    assert (heir.owner, heir.fence, heir.state, heir.user) == (other.id, 4, {"a": 2}, "ann")
    assert await other.store.inherit(estate, other.id) == heir
    with pytest.raises(FenceRefused):
        await edge.store.commit(Patch("s1", 3, state_set={"a": 3}))
    with pytest.raises(FenceRefused):
        await edge.store.register(row("s1", edge.id, fence=3))
    with pytest.raises(FenceRefused):
        await edge.store.forget("s1", edge.id, 3)
    assert await other.store.estate(edge.id, 10) == []
    assert await other.store.estate(other.id, 10) == [heir]
    assert (await other.store.commit(Patch("s1", 4, state_set={"a": 4}))).version == 2


async def test_two_survivors_that_race_inherit_each_session_exactly_once(edge: Edge, other: Edge) -> None:
    ids = {f"s{n}" for n in range(60)}
    await asyncio.gather(*(edge.store.register(row(sid, "dead")) for sid in ids))
    inherited: list[SessionRow] = []
    refused = 0

    async def survive(by: Edge) -> None:
        nonlocal refused
        while estate := await by.store.estate("dead", 7):
            outcomes = await asyncio.gather(*(by.store.inherit(r, by.id) for r in estate), return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, SessionRow):
                    inherited.append(outcome)
                else:
                    assert isinstance(outcome, FenceRefused)
                    refused += 1

    await asyncio.gather(survive(edge), survive(other))
    assert sorted(r.id for r in inherited) == sorted(ids)
    assert {r.fence for r in inherited} == {2}
    for by in (edge, other):
        rows = await by.store.estate(by.id, 1_000)
        assert {r.id for r in rows} == {r.id for r in inherited if r.owner == by.id}
    assert await edge.store.estate("dead", 10) == []


async def test_an_estate_skips_what_is_only_a_list_entry(edge: Edge, other: Edge) -> None:
    await edge.store.register(row("s1", edge.id))
    await edge.store.register(row("s2", edge.id))
    key = edge.store._sessions._keys.owned(edge.id)
    await edge.store._router.send(("SADD", key, "never written", "nor this"), key, repeatable=True)
    (mine,) = [r for r in await edge.store.estate(edge.id, 10) if r.id == "s1"]
    await other.store.inherit(mine, other.id)
    await edge.store._router.send(("SADD", key, "s1"), key, repeatable=True)
    assert [r.id for r in await other.store.estate(edge.id, 10)] == ["s2"]
    assert await other.store.estate(edge.id, 1) != []
    await other.store.forget("s2", edge.id, 1)
    assert await other.store.estate(edge.id, 1) == []


async def test_an_estate_with_sessions_is_not_buried(edge: Edge, other: Edge) -> None:
    await let_lapse(edge, other)
    await other.store.claim_estate(edge.id, other.id, LONG_MS)
    await edge.store.register(row("written late", edge.id))
    await other.store.bury(edge.id)
    assert await other.store.lapsed() == [edge.id]
