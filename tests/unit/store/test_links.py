"""Links: write-ahead under a fence, repeatable and bounded, one stream after the other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge.errors import CountTooHigh, FenceRefused, OutOfStep, QueueFull, StoreRefused
from edge.store.links import Links
from edge.store.links_base import (
    Action,
    Change,
    HeldLink,
    IqEntry,
    LinkBounds,
    NewStream,
    Save,
    Standing,
    Stanza,
)
from tests.unit.store.conftest import Edge
from tests.unit.store.some_links import LINK, begin, events, new, out, state, waiting

WRAP = 2**32


# ---------------------------------------------------------------------- rows


async def test_a_row_reads_back_exactly(edge: Edge) -> None:
    written = new(
        connect={"host": "xmpp.internal", "port": 5222, "on": [True, None, b"\xff"]}, phase="new", bound_jid="ü@x/y",
        presence=b"<presence/>", credentials=b"\x00\xff", attached=("s1", "s2"), inactive=True, last_mam_id="K4",
        lost_at=1_700_000_000_123, state={"a": 1, "b": {"c": None}},
    )  # fmt: skip
    begun = await edge.store.links.connect(written, edge.id)
    assert begun.row is not None
    assert begun.row == replace(written, owner=edge.id, fence=begun.row.fence)
    assert await edge.store.links.load(LINK) == begun.row
    assert await edge.store.links.load("x:nobody") is None
    assert "\\xff" not in repr(Save(credentials=b"\xff"))
    assert "credentials" not in repr(begun.row)


async def test_connecting_again_returns_what_is_there(edge: Edge, other: Edge) -> None:
    hold = await begin(edge)
    await edge.store.links.receive(hold, 1, events(1, b"one"))
    for by in (edge, other):
        begun = await by.store.links.connect(new(jid="eve@chat.example"), by.id)
        assert begun.row is not None
        assert (begun.new, begun.row.jid, begun.row.owner, begun.row.h_in) == (False, "u42@chat.example", edge.id, 1)
    assert await other.store.links.links_of(other.id, 10) == []
    assert await other.store.links.links_of(edge.id, 10) == [LINK]


async def test_a_connect_that_was_carried_out_does_not_begin_a_second_life(edge: Edge) -> None:
    action = Action("a-1")
    first = await edge.store.links.connect(new(), edge.id, action)
    again = await edge.store.links.connect(new(), edge.id, action)
    assert first == again  # the same call, sent again: it still says that it began the link
    assert first.row is not None
    await edge.store.links.disconnect(first.row.hold)
    late = await edge.store.links.connect(new(), edge.id, Action("a-1"))
    assert (late.row, late.new) == (None, False)
    assert await edge.store.links.load(LINK) is None
    assert await edge.store.links.links_of(edge.id, 10) == []


async def test_no_command_of_one_life_touches_the_next(edge: Edge) -> None:
    before = await begin(edge)
    await edge.store.links.disconnect(before)
    await edge.store.links.disconnect(before)
    after = await begin(edge)
    assert after.fence > before.fence
    for late in (
        edge.store.links.receive(before, 1, Change()),
        edge.store.links.disconnect(before),
        edge.store.links.save(before, Change(save=Save(phase="x"))),
    ):
        with pytest.raises(FenceRefused):
            await late


async def test_a_row_of_a_newer_release_is_left_to_it(edge: Edge, other: Edge) -> None:
    hold = await begin(edge)
    await edge.store.links.release(hold)
    key = other.store._links._keys.link(LINK)[0]
    await other.store._router.send(("HSET", key, "version", 99), key, repeatable=True)
    (freed,) = await other.store.links.freed(10)
    with pytest.raises(StoreRefused, match="newer release"):
        await other.store.links.claim(LINK, other.id, freed=freed)
    assert await other.store.links.links_of(other.id, 10) == []
    assert await other.store.links.freed(10) == [freed]


# ---------------------------------------------------------------------- IN, TAKE, DONE


async def test_events_and_h_are_kept_in_one_step_and_repeats_are_skipped(edge: Edge) -> None:
    links, hold = edge.store.links, await begin(edge)
    assert await links.receive(hold, 2, events(1, b"one", b"two")) == Standing(2, 0, 6)
    assert await links.receive(hold, 2, events(1, b"one", b"two")) == Standing(2, 0, 6)
    assert await links.receive(hold, 3, events(2, b"two", b"three")) == Standing(3, 0, 11)
    assert await links.receive(hold, 1, Change()) == Standing(3, 0, 11)
    assert await waiting(links, hold) == [(1, b"one"), (2, b"two"), (3, b"three")]
    assert (await state(edge)).row.h_in == 3
    with pytest.raises(OutOfStep):
        await links.receive(hold, 9, events(5, b"five"))
    assert (await state(edge)).row.h_in == 3


async def test_what_the_backend_accepted_is_dropped_and_the_rest_is_taken_in_pages(edge: Edge) -> None:
    links, hold = edge.store.links, await begin(edge)
    await links.receive(hold, 5, events(1, *[b"%d" % n * 10 for n in range(1, 6)]))
    assert [e.seq for e in await links.take(hold, 0, 2, 1_000)] == [1, 2]
    assert [e.seq for e in await links.take(hold, 2, 10, 25)] == [3, 4]
    assert [e.seq for e in await links.take(hold, 4, 10, 1)] == [5]
    assert await links.take(hold, 5, 10, 1_000) == []
    assert await links.accepted(hold, 3) == Standing(5, 3, 20)
    assert await links.accepted(hold, 2) == Standing(5, 3, 20)
    assert [e.seq for e in await links.take(hold, 0, 10, 1_000)] == [4, 5]
    assert await links.accepted(hold, 5, events(6, b"six")) == Standing(6, 5, 3)
    with pytest.raises(OutOfStep):
        await links.accepted(hold, 7)


async def test_a_full_queue_takes_nothing_and_says_so(edge: Edge) -> None:
    links = Links(edge.store._router, edge.store._links._keys, LinkBounds(3, 20, 3, 60))
    hold = await begin(edge)
    await links.receive(hold, 1, events(1, b"x" * 30))  # an empty queue takes anything
    with pytest.raises(QueueFull):
        await links.receive(hold, 2, events(2, b"y"))
    await links.accepted(hold, 1)
    await links.receive(hold, 3, events(2, b"a", b"b"))
    with pytest.raises(QueueFull):
        await links.receive(hold, 5, events(4, b"c", b"d"))
    assert (await state(edge)).row.h_in == 3
    assert await links.receive(hold, 4, events(4, b"c")) == Standing(4, 1, 3)
    assert await links.receive(hold, 4, events(4, b"c")) == Standing(4, 1, 3)  # a repeat needs no room
    assert await links.receive(hold, 5, Change(replace={3: b"bbb"})) == Standing(4, 1, 5)
    assert await links.receive(hold, None, events(5, b"gone", urgent=True)) == Standing(5, 1, 9)
    assert await waiting(links, hold) == [(2, b"a"), (3, b"bbb"), (4, b"c"), (5, b"gone")]
    sent = await links.send(hold, 0, [out(b"1"), out(b"2"), out(b"3")])
    assert sent.places == [1, 2, 3]
    with pytest.raises(QueueFull):
        await links.send(hold, 3, [out(b"4")])
    await links.acked(hold, 3)
    await links.send(hold, 3, [out(b"x" * 100)])
    with pytest.raises(QueueFull):
        await links.send(hold, 4, [out(b"5")])


# ---------------------------------------------------------------------- OUT, ACK


async def test_stanzas_get_places_in_order_and_repeated_actions_none(edge: Edge) -> None:
    links, hold = edge.store.links, await begin(edge)
    first = [out(b"<a/>", "a-1"), out(b"<ping/>"), out(b"<b/>", "a-2"), out(b"<b/>", "a-2")]
    for _ in range(2):
        assert (await links.send(hold, 0, first)).places == [1, 2, 3, None]
    assert (await links.send(hold, 3, [out(b"<a/>", "a-1"), out(b"<c/>", "a-3")])).places == [None, 4]
    # What was in doubt, together with what is new.
    assert (await links.send(hold, 2, [out(b"<b/>", "a-2"), out(b"<c/>", "a-3"), out(b"<d/>")])).places == [3, 4, 5]
    held = await state(edge)
    assert [stanza.raw for stanza in held.unacked] == [b"<a/>", b"<ping/>", b"<b/>", b"<c/>", b"<d/>"]
    assert [stanza.action_id for stanza in held.unacked] == ["a-1", "", "a-2", "a-3", ""]
    for before in (3, 6):
        with pytest.raises(OutOfStep):
            await links.send(hold, before, [out(b"<other/>", "a-9")])
    assert await links.acked(hold, 2) == 2
    assert await links.acked(hold, 1) == 0
    with pytest.raises(OutOfStep):  # acknowledged long ago, and the ping has no id to tell it by
        await links.send(hold, 0, first)
    assert (await links.send(hold, 2, first[2:])).places == [3, None]
    with pytest.raises(CountTooHigh):
        await links.acked(hold, 6)
    assert await links.resumed(hold, 5) == 3
    held = await state(edge)
    assert (held.unacked, held.row.out_base, held.row.out_n, held.row.stanza_bytes) == ([], 5, 5, 0)


async def test_a_change_of_a_repeated_action_is_not_made_twice(edge: Edge) -> None:
    links, hold = edge.store.links, await begin(edge)
    iq = IqEntry("e1-1", "e1-1", "chat.example", 1_700_000_020_000, "a-1")
    away = Change(save=Save(presence=b"away"))
    await links.send(hold, 0, [out(b"<iq/>", "a-1", iq)])
    await links.send(hold, 1, [out(b"<presence/>", "a-2")], away)
    held = await state(edge)
    assert (held.iqs, held.row.presence) == ([iq], b"away")
    await links.receive(hold, 1, events(1, b"result", iq_done=["e1-1"], save=Save(presence=b"")))
    await links.send(hold, 2, [out(b"<iq/>", "a-1", iq)])
    await links.send(hold, 2, [out(b"<presence/>", "a-2")], away)
    held = await state(edge)
    assert (held.iqs, held.row.presence, held.row.out_n) == ([], b"", 2)
    assert await links.save(hold, Change(save=Save(inactive=True)), action := Action("a-3"))
    assert await links.save(hold, Change(save=Save(inactive=True)), action)
    assert not await links.save(hold, Change(save=Save(inactive=False)), Action("a-3"))
    assert not await links.save(hold, Change(save=Save(inactive=False)), Action("a-2"))
    assert (await state(edge)).row.inactive


async def test_small_state_is_set_and_cleared_field_by_field(edge: Edge) -> None:
    links, hold = edge.store.links, await begin(edge)
    requested = IqEntry("58", "q1", "bob@x/p", 1_700_000_000_000)
    some = Save(
        phase="live", bound_jid="u42@chat.example/r", lost_at=5, detached_at=6, inactive=True, presence=b"<p/>",
        last_mam_id="m", credentials=b"\xff", attached=["s1"], release="def", state_set={"a": [1], "b": 2},
    )  # fmt: skip
    await links.save(hold, Change(save=some, iq_set=[requested]))
    await links.save(hold, Change(save=Save(lost_at=0, state_unset=["a", "never was"])))
    held = await state(edge)
    row = held.row
    assert (row.phase, row.bound_jid, row.lost_at, row.detached_at, row.inactive) == (
        "live", "u42@chat.example/r", 0, 6, True,
    )  # fmt: skip
    assert (row.presence, row.last_mam_id, row.credentials, row.attached) == (b"<p/>", "m", b"\xff", ("s1",))
    assert (row.release, row.state, held.iqs) == ("def", {"b": 2}, [requested])


async def test_counters_wrap(edge: Edge) -> None:
    links, hold = edge.store.links, await begin(edge)
    row = (await state(edge)).row
    near = replace(row, h_in=WRAP - 1, out_base=WRAP - 2, out_n=WRAP - 1)
    await links.restore(HeldLink(near, [Stanza(b"<a/>", 0)], []), [])
    await links.receive(hold, 1, events(1, b"last", b"first"))
    assert (await links.send(hold, WRAP - 1, [out(b"<b/>"), out(b"<c/>", "a-1")])).places == [0, 1]
    assert (await links.send(hold, 0, [out(b"<c/>", "a-1"), out(b"<d/>")])).places == [1, 2]
    with pytest.raises(CountTooHigh):
        await links.acked(hold, 3)
    assert await links.acked(hold, 1) == 3
    held = await state(edge)
    assert (held.row.h_in, held.row.out_base, held.row.out_n) == (1, 1, 2)
    assert [stanza.raw for stanza in held.unacked] == [b"<d/>"]


# ---------------------------------------------------------------------- streams


async def test_a_new_stream_begins_at_zero_with_what_is_sent_again(edge: Edge) -> None:
    links, hold = edge.store.links, await begin(edge)
    await links.send(hold, 0, [out(b"<a/>", "a-1"), out(b"<b/>", "a-2")])
    await links.receive(hold, 7, events(1, b"one"))
    new_stream = NewStream("sm-2", 600, "other:5222", [Stanza(b"<b delayed/>", 5, "a-2")])
    for out_n in (1, 3):
        with pytest.raises(OutOfStep):
            await links.enabled(hold, out_n, new_stream)
    reset = events(2, b"reset", save=Save(phase="live"), urgent=True)
    for _ in range(2):
        assert (await links.enabled(hold, 2, new_stream, reset)).seq == 2
    row, unacked = (held := await state(edge)).row, held.unacked
    assert (row.stream, row.sm_id, row.sm_max_s, row.location) == (2, "sm-2", 600, "other:5222")
    assert (row.h_in, row.out_base, row.out_n, row.seq, row.phase) == (0, 0, 1, 2, "live")
    assert unacked == list(new_stream.resend)
    with pytest.raises(OutOfStep):
        await links.enabled(hold, 2, NewStream("sm-3"))


async def test_late_commands_leave_the_next_stream_alone(edge: Edge) -> None:
    links, hold = edge.store.links, await begin(edge)
    await links.send(hold, 0, [out(b"<a/>", "a-1")])
    await links.enabled(hold, 1, NewStream("sm-2", 0, "", [Stanza(b"<a/>", 5, "a-1")]))
    now = replace(hold, stream=2)
    assert await links.receive(hold, 9, events(1, b"one")) == Standing(1, 0, 3)
    assert await links.acked(hold, 1) == 0
    assert (await links.send(hold, 0, [out(b"<a/>", "a-1")])).places == [1]  # as it was answered the first time
    with pytest.raises(OutOfStep):
        await links.send(hold, 1, [out(b"<b/>")])
    ahead = replace(now, stream=3)
    for refused in (links.receive(ahead, 1, Change()), links.acked(ahead, 1), links.send(ahead, 1, [out(b"<b/>")])):
        with pytest.raises(OutOfStep):
            await refused
    held = await state(edge)
    assert (held.row.h_in, held.row.out_base, held.row.out_n, len(held.unacked)) == (0, 0, 1, 1)
    assert (await links.send(now, 1, [out(b"<b/>", "a-2")])).places == [2]
