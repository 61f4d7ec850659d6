"""Links: what goes along with a command (above all what the backend has accepted), what names are remembered, what is
laid aside, and what one life of a link leaves to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from edge.errors import OutOfStep, QueueFull
from edge.store.links import PARKED_S, Links
from edge.store.links_base import PARKED, Action, Change, Hold, LinkBounds, LinkStore, NewStream, Save, Standing, Stanza
from tests.unit.store.conftest import Edge
from tests.unit.store.some_links import LINK, begin, events, new, out, state, waiting

Command = Callable[[LinkStore, Hold, Change], Awaitable[object]]
DAY_S = 86_400


async def ttl(edge: Edge, key: str) -> int:
    """Seconds; -1: for ever; -2: it is not there."""
    answer = await edge.store._router.send(("TTL", key), key, repeatable=True)
    assert isinstance(answer, int)
    return answer


# ---------------------------------------------------------------------- accepted events, along with something else


ONCE = Action("once")
COMMANDS: dict[str, Command] = {
    "receive": lambda links, hold, change: links.receive(hold, 9, change),
    "send": lambda links, hold, change: links.send(hold, 0, [out(b"<a/>", "a-1")], change),
    "save": lambda links, hold, change: links.save(hold, change),
    "save of an action": lambda links, hold, change: links.save(hold, change, ONCE),
    "accepted": lambda links, hold, change: links.accepted(hold, 1, change),
    "acked": lambda links, hold, change: links.acked(hold, 0, change),
    "enabled": lambda links, hold, change: links.enabled(hold, 0, NewStream("sm-2", 300), change),
    "release": lambda links, hold, change: links.release(hold, change),
}


@pytest.mark.parametrize("name", COMMANDS)
async def test_every_command_takes_along_what_the_backend_accepted(edge: Edge, name: str) -> None:
    links, hold = edge.store.links, await begin(edge)
    await links.receive(hold, 4, events(1, b"1", b"22", b"333", b"4444"))
    change = events(5, b"55555", b"6", done=3, replace={4: b"four"}, save=Save(phase="x", state_set={"a": 1}))
    for _ in range(1 if name == "release" else 2):  # sent again, it changes nothing more
        await COMMANDS[name](links, hold, change)
        row = (await state(edge)).row
        assert (row.seq, row.done, row.event_bytes, row.phase, row.state) == (6, 3, 10, "x", {"a": 1})
        assert await waiting(links, row.hold) == [(4, b"four"), (5, b"55555"), (6, b"6")]


async def test_accepted_events_make_room_for_those_that_come_along(edge: Edge) -> None:
    links = Links(edge.store._router, edge.store._links._keys, LinkBounds(events=2, event_bytes=100))
    hold = await begin(edge)
    await links.receive(hold, 2, events(1, b"one", b"two"))
    with pytest.raises(QueueFull):
        await links.receive(hold, 3, events(3, b"three"))
    assert await links.receive(hold, 3, events(3, b"three", done=1)) == Standing(3, 1, 8)
    with pytest.raises(QueueFull):
        await links.receive(hold, 5, events(4, b"four", b"five", done=2))
    row = (await state(edge)).row
    assert (row.h_in, row.done) == (3, 1)  # nothing was changed, not even that
    assert await links.receive(hold, 5, events(4, b"four", b"five", done=3)) == Standing(5, 3, 8)


async def test_everything_accepted_leaves_no_bytes_behind(edge: Edge) -> None:
    links, hold = edge.store.links, await begin(edge)
    for first in range(1, 30, 3):
        await links.receive(hold, first, events(first, b"x" * first, b"", b"y", done=first - 1))
    assert await links.receive(hold, None, Change(done=30)) == Standing(30, 30, 0)
    assert await waiting(links, hold) == []


async def test_what_never_came_cannot_be_accepted(edge: Edge) -> None:
    links, hold = edge.store.links, await begin(edge)
    await links.receive(hold, 1, events(1, b"one"))
    for command in (
        links.receive(hold, 2, events(2, b"two", done=2)),
        links.send(hold, 0, [out(b"<a/>")], Change(done=2)),
        links.save(hold, Change(done=2)),
    ):
        with pytest.raises(OutOfStep):
            await command
    held = await state(edge)
    assert (held.row.seq, held.row.done, held.unacked) == (1, 0, [])


async def test_an_event_accepted_before_is_passed_over(edge: Edge) -> None:
    links, hold = edge.store.links, await begin(edge)
    await links.receive(hold, 3, events(1, b"one", b"two", b"three", done=0))
    await links.accepted(hold, 2)
    assert await links.receive(hold, 3, Change(done=1)) == Standing(3, 2, 5)


async def test_new_content_of_an_accepted_event_is_passed_over(edge: Edge) -> None:
    """Such a command is sent again when its answer was lost, and others behind it were carried out."""
    links, hold = edge.store.links, await begin(edge)
    await links.receive(hold, 2, events(1, b"one", b"two"))
    change = Change(replace={1: b"first", 2: b"second"})
    assert await links.receive(hold, 2, change) == Standing(2, 0, 11)
    await links.send(hold, 0, [out(b"<a/>")], Change(done=1))
    assert await links.receive(hold, 2, change) == Standing(2, 1, 6)
    assert await links.receive(hold, 2, replace(change, done=2)) == Standing(2, 2, 0)
    assert await links.receive(hold, 2, change) == Standing(2, 2, 0)
    with pytest.raises(OutOfStep):
        await links.receive(hold, 2, Change(replace={3: b"never came"}))


# ---------------------------------------------------------------------- an answer, and the names of its stanzas


async def test_an_answer_of_repeats_alone_still_accepts_its_event(edge: Edge) -> None:
    links, hold = edge.store.links, await begin(edge)
    await links.receive(hold, 2, events(1, b"one", b"two"))
    stanzas = [out(b"<a/>", "a-1"), out(b"<b/>", "^e/2")]
    first = await links.send(hold, 0, stanzas, Change(done=1, save=Save(state_set={"n": 1})))
    assert (first.places, first.standing) == ([1, 2], Standing(2, 1, 3))
    again = await links.send(hold, 2, stanzas, Change(done=2, save=Save(state_set={"n": 2})))
    assert (again.places, again.standing) == ([None, None], Standing(2, 2, 0))
    held = await state(edge)
    assert (held.row.state, held.row.out_n, len(held.unacked)) == ({"n": 2}, 2, 2)
    # Without news of an event what they change was changed then.
    await links.send(hold, 2, stanzas, Change(done=2, save=Save(state_set={"n": 3})))
    assert (await state(edge)).row.state == {"n": 2}


async def test_an_answer_whose_reply_was_lost_is_carried_out_once(edge: Edge) -> None:
    links, hold = edge.store.links, await begin(edge)
    await links.receive(hold, 1, events(1, b"one"))
    stanzas = [out(b"<a/>", "~x:1/1"), out(b"<a/>", "~x:1/2"), out(b"<b/>", "a-1"), out(b"<ping/>")]
    for _ in range(2):
        sent = await links.send(hold, 0, stanzas, Change(done=1))
        assert (sent.places, sent.standing) == ([1, 2, 3, 4], Standing(1, 1, 0))
    assert [stanza.action_id for stanza in (await state(edge)).unacked] == ["~x:1/1", "~x:1/2", "a-1", ""]


async def test_names_are_remembered_as_long_as_they_are_needed(edge: Edge) -> None:
    links, hold, keys = edge.store.links, await begin(edge), edge.store._links._keys
    await links.send(hold, 0, [out(b"<a/>", "~e/1"), out(b"<b/>", "^e/2"), out(b"<c/>", "a-1"), out(b"<d/>")])
    assert await ttl(edge, keys.link_action(LINK, "~e/1")) == -2
    assert 500 < await ttl(edge, keys.link_action(LINK, "^e/2")) <= 600
    assert DAY_S - 100 < await ttl(edge, keys.link_action(LINK, "a-1")) <= DAY_S
    again = await links.send(hold, 4, [out(b"<a/>", "~e/1"), out(b"<b/>", "^e/2"), out(b"<c/>", "a-1")])
    assert again.places == [5, None, None]


@pytest.mark.parametrize("link", ["x:u}42", "x:}:^u"])
async def test_what_a_link_is_called_does_not_shorten_what_is_remembered(edge: Edge, link: str) -> None:
    hold = await begin(edge, link)
    await edge.store.links.send(hold, 0, [out(b"<a/>", "a-1"), out(b"<b/>", "a}:^1")])
    for id in ("a-1", "a}:^1"):
        assert await ttl(edge, edge.store._links._keys.link_action(link, id)) > 600


async def test_the_pin_and_the_version_of_the_state_are_kept(edge: Edge) -> None:
    links, hold = edge.store.links, await begin(edge)
    row = (await state(edge)).row
    assert (row.pinned, row.state_version) == ("", 0)
    await links.save(hold, Change(save=Save(pinned="def", state_version=3)))
    row = (await state(edge)).row
    assert (row.pinned, row.state_version) == ("def", 3)
    await links.save(hold, Change(save=Save(pinned="")))
    row = (await state(edge)).row
    assert (row.pinned, row.state_version) == ("", 3)


# ---------------------------------------------------------------------- laid aside


async def test_what_is_laid_aside_is_kept_for_a_week_from_the_first_on(edge: Edge) -> None:
    assert await edge.store.links.parked(LINK) == []
    await edge.store.links.park(LINK, b"poison")
    assert await edge.store.links.parked(LINK) == [b"poison"]
    assert PARKED_S - 100 < await ttl(edge, edge.store._links._keys.link_parked(LINK)) <= PARKED_S


async def test_the_newest_that_was_laid_aside_is_kept(edge: Edge) -> None:
    links = edge.store.links
    await asyncio.gather(*(links.park(LINK, b"%d" % n) for n in range(PARKED + 5)))
    parked = await links.parked(LINK)
    assert (len(parked), parked[0], parked[-1]) == (PARKED, b"5", b"%d" % (PARKED + 4))


# ---------------------------------------------------------------------- the next life


async def test_the_next_life_counts_on_from_the_last(edge: Edge) -> None:
    links, before = edge.store.links, await begin(edge)
    await links.receive(before, 3, events(1, b"one", b"two", b"three"))
    await links.accepted(before, 3)
    await links.disconnect(before)
    begun = await links.connect(new(seq=99, done=98), edge.id)
    assert begun.row is not None
    assert (begun.row.seq, begun.row.done, begun.row.event_bytes, begun.row.stream) == (3, 3, 0, 0)
    assert begun.row.fence > before.fence
    hold = begun.row.hold
    with pytest.raises(OutOfStep):
        await links.receive(hold, None, events(5, b"five"))
    assert await links.receive(hold, None, events(4, b"four")) == Standing(4, 3, 4)
    assert await waiting(links, hold) == [(4, b"four")]


async def test_events_that_were_given_up_are_counted_as_well(edge: Edge) -> None:
    links, before = edge.store.links, await begin(edge)
    await links.receive(before, 2, events(1, b"one", b"two"))
    await links.disconnect(before, drop=True)
    after = await begin(edge)
    row = (await state(edge)).row
    assert (row.seq, row.done) == (2, 2)
    assert await waiting(links, after) == []


async def test_fences_go_on_over_lives_of_several_owners(edge: Edge, other: Edge) -> None:
    hold = await begin(edge)
    for by in (other, edge, other):
        await by.store.links.release(hold)
        hold = (await by.store.links.claim(LINK, by.id)).row.hold
    await other.store.links.disconnect(hold)
    after = await begin(edge)
    assert after.fence > hold.fence
    key = edge.store._links._keys.link_fence(LINK)
    assert DAY_S - 100 < await ttl(edge, key) <= DAY_S


async def test_a_new_stream_takes_events_stanzas_and_acceptance_in_one_write(edge: Edge) -> None:
    links, hold = edge.store.links, await begin(edge)
    await links.receive(hold, 2, events(1, b"one", b"two"))
    await links.send(hold, 0, [out(b"<a/>", "a-1")])
    stream = NewStream("", 0, "", [Stanza(b"<a delayed/>", 5, "a-1")])
    reset = events(3, b"reset", done=2, urgent=True, replace=None, iq_done=["k"], save=Save(phase="live"))
    for _ in range(2):
        assert await links.enabled(hold, 1, stream, reset) == Standing(3, 2, 5)
    held = await state(edge)
    assert (held.row.stream, held.row.sm_id, held.row.out_n, held.row.phase) == (2, "", 1, "live")
    assert held.unacked == list(stream.resend)
