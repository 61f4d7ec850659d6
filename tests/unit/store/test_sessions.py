"""Rows: what is written is what is read, under the fence, whole or not at all."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from edge.errors import FenceRefused, StoreRefused
from edge.store.base import Patch, StoredTimer
from tests.unit.store.conftest import Edge, row

STATE: dict[str, object] = {
    "none": None,
    "yes": True,
    "int": 5,
    "big": 2**63,
    "negative": -(2**63),
    "float": 5.0,
    "text": "é\x00",
    "bytes": b"\xff\x00",
    "empty map": {},
    "empty list": [],
    "deep": {"a": [1, {"b": b"x"}], 7: "int key"},
}


async def test_a_row_reads_back_exactly_with_all_msgpack_types(edge: Edge) -> None:
    written = row(
        "s1", edge.id, user="ann", pinned="abc", state=STATE, version=3, channels=("a", "b c", "ü:1"),
        timers=(StoredTimer("t1", 1_700_000_000_123, {"x": [None]}), StoredTimer("t2", 5, None)),
    )  # fmt: skip
    await edge.store.register(written)
    read = await edge.store.load("s1")
    assert read is not None
    assert replace(read, channels=(), timers=()) == replace(written, channels=(), timers=())
    assert [type(v) for v in read.state.values()] == [type(written.state[k]) for k in read.state]
    assert set(read.channels) == set(written.channels)
    assert {t.name: t for t in read.timers} == {t.name: t for t in written.timers}


async def test_a_row_with_thousands_of_fields_is_written_whole(edge: Edge) -> None:
    state = {f"key {n}": n for n in range(6_000)}
    await edge.store.register(row("s1", edge.id, state=state))
    await edge.store.commit(Patch("s1", 1, state_set={k: -v for k, v in state.items()}))
    await edge.store.commit(Patch("s1", 1, state_unset=[f"key {n}" for n in range(1, 6_000)]))
    read = await edge.store.load("s1")
    assert read is not None
    assert (read.state, read.version) == ({"key 0": 0}, 2)


async def test_nothing_is_loaded_for_an_unknown_session(edge: Edge) -> None:
    assert await edge.store.load("nobody") is None


async def test_a_commit_changes_everything_it_names_and_nothing_else(edge: Edge) -> None:
    await edge.store.register(
        row(
            "s1", edge.id, state={"a": 1, "b": 2, "c": 3}, channels=("old", "kept"), pinned="abc",
            timers=(StoredTimer("old", 1, None), StoredTimer("kept", 2, None)),
        )
    )  # fmt: skip
    patch = Patch(
        "s1", 1, state_set={"b": "two", "d": b"4"}, state_unset=("a", "never was"), user=("ann",), release="def",
        pinned=(None,), subscribe=("new",), unsubscribe=("old",), set_timers=(StoredTimer("new", 3, [1]),),
        cancel_timers=("old",),
    )  # fmt: skip
    assert (await edge.store.commit(patch)).version == 1
    read = await edge.store.load("s1")
    assert read is not None
    assert read.state == {"b": "two", "c": 3, "d": b"4"}
    assert (read.user, read.release, read.pinned, read.version) == ("ann", "def", None, 1)
    assert set(read.channels) == {"new", "kept"}
    timers = sorted(read.timers, key=lambda timer: timer.name)
    assert timers == [StoredTimer("kept", 2, None), StoredTimer("new", 3, [1])]


async def test_the_version_grows_with_state_only(edge: Edge) -> None:
    await edge.store.register(row("s1", edge.id, version=7))
    versions = [
        (await edge.store.commit(patch)).version
        for patch in (
            Patch("s1", 1, subscribe=("a",)),
            Patch("s1", 1, state_set={"a": 1}),
            Patch("s1", 1, state_unset=("a",)),
            Patch("s1", 1),
        )
    ]
    assert versions == [7, 8, 9, 9]


async def test_commands_on_a_session_keep_their_order_from_its_first_one_on(edge: Edge) -> None:
    """In a cluster the list entry goes to another server first; what follows must wait for the row."""
    for number in range(20):
        sid = f"s{number}"
        registered = edge.store.register(row(sid, edge.id))
        commits = [edge.store.commit(Patch(sid, 1, state_set={"n": n})) for n in range(5)]
        loaded = edge.store.load(sid)
        await registered
        assert [(await c).version for c in commits] == [1, 2, 3, 4, 5]
        read = await loaded
        assert read is not None
        assert read.state == {"n": 4}


async def test_an_older_fence_is_refused_and_changes_nothing(edge: Edge) -> None:
    await edge.store.register(row("s1", edge.id, fence=5, state={"a": 1}))
    before = await edge.store.load("s1")
    with pytest.raises(FenceRefused):
        await edge.store.commit(Patch("s1", 4, state_set={"a": 2}, user=("eve",), action_ids=("x",)))
    with pytest.raises(FenceRefused):
        await edge.store.forget("s1", edge.id, 4)
    with pytest.raises(FenceRefused):
        await edge.store.register(row("s1", edge.id, fence=4))
    with pytest.raises(FenceRefused):
        await edge.store.register(row("s1", "somebody else", fence=5))
    assert await edge.store.load("s1") == before
    assert (await edge.store.commit(Patch("s1", 5, action_ids=("x",)))).repeated == frozenset()


async def test_a_commit_on_a_forgotten_row_is_refused(edge: Edge) -> None:
    await edge.store.register(row("s1", edge.id))
    await edge.store.forget("s1", edge.id, 1)
    await edge.store.forget("s1", edge.id, 1)
    assert await edge.store.load("s1") is None
    with pytest.raises(FenceRefused):
        await edge.store.commit(Patch("s1", 1, state_set={"a": 1}))
    assert await edge.store.load("s1") is None


async def test_action_ids_are_told_from_repeats_per_session(edge: Edge) -> None:
    await asyncio.gather(edge.store.register(row("s1", edge.id)), edge.store.register(row("s2", edge.id)))
    first = await edge.store.commit(Patch("s1", 1, action_ids=("a", "b")))
    again = await edge.store.commit(Patch("s1", 1, action_ids=("c", "b", "a")))
    elsewhere = await edge.store.commit(Patch("s2", 1, action_ids=("a",)))
    assert (first.repeated, again.repeated, elsewhere.repeated) == (frozenset(), frozenset({"a", "b"}), frozenset())


async def test_registering_again_is_harmless(edge: Edge) -> None:
    written = row("s1", edge.id, state={"a": 1})
    await edge.store.register(written)
    await edge.store.register(replace(written, state={"b": 2}))
    read = await edge.store.load("s1")
    assert read is not None
    assert read.state == {"b": 2}


async def test_sessions_of_a_user_follow_identify_and_forget(edge: Edge, other: Edge) -> None:
    await edge.store.register(row("s1", edge.id, user="ann"))
    await other.store.register(row("s2", other.id))
    await other.store.commit(Patch("s2", 1, user=("ann",)))

    async def of(user: str) -> set[str]:
        return {found.id for found in await edge.store.sessions_of_user(user)}

    assert await of("ann") == {"s1", "s2"}
    await other.store.commit(Patch("s2", 1, user=("bob",)))
    assert (await of("ann"), await of("bob")) == ({"s1"}, {"s2"})
    await other.store.commit(Patch("s2", 1, user=(None,)))
    await edge.store.forget("s1", edge.id, 1)
    assert (await of("ann"), await of("bob"), await of("nobody")) == (set(), set(), set())


async def test_what_cannot_be_stored_is_refused_alone(edge: Edge) -> None:
    await edge.store.register(row("s1", edge.id))
    bad = edge.store.commit(Patch("s1", 1, state_set={"a": object()}))
    worse = edge.store.commit(Patch("s1", 1, state_set={"a": 2**70}))
    worst = edge.store.commit(Patch("\ud800", 1))
    good = edge.store.commit(Patch("s1", 1, state_set={"a": 1}))
    for refused in (bad, worse, worst):
        with pytest.raises(StoreRefused):
            await refused
    assert (await good).version == 1
