"""Publishing, history and the bus: order, offsets, recovery whole or not at all."""

from __future__ import annotations

import asyncio

import pytest

from edge.errors import StoreRefused, StoreUnavailable
from edge.store.base import NO_POSITION, HistoryPolicy, Position, Publication
from edge.store.channels import decode, encode
from tests.support.waiting import wait_until
from tests.unit.store.conftest import Edge

KEEP = HistoryPolicy(1_000, 60_000)
ODD_NAMES = ["plain", "with space", "{tag}", "}", "a}b{c", "100%", "%7D", "ü", "*", "x:y:z"]


async def heard(edge: Edge, count: int) -> list[Publication]:
    await wait_until(lambda: len(edge.ears.publications) >= count, f"{count} publications were heard")
    return edge.ears.publications


async def test_concurrent_publishers_on_two_edges_make_one_order_without_holes(edge: Edge, other: Edge) -> None:
    await asyncio.gather(edge.store.subscribe("room"), other.store.subscribe("room"))
    answers = await asyncio.gather(
        *(
            publisher.store.publish("room", f"{publisher.id} {n}", KEEP)
            for n in range(200)
            for publisher in (edge, other)
        )
    )
    assert sorted(answer.position.offset for answer in answers) == list(range(1, 401))
    assert len({answer.position.epoch for answer in answers}) == 1
    first, second = await heard(edge, 400), await heard(other, 400)
    assert [p.position.offset for p in first] == list(range(1, 401))
    assert first == second
    for publisher in (edge, other):
        mine = [p.payload for p in first if str(p.payload).startswith(publisher.id)]
        assert mine == [f"{publisher.id} {n}" for n in range(200)]
    page = await edge.store.history("room", Position(0, answers[0].position.epoch), 1_000)
    assert list(page.publications) == first


async def test_a_publication_arrives_as_it_was_sent(edge: Edge, other: Edge) -> None:
    await edge.store.subscribe("room")
    await other.store.publish("room", "tèxt with spaces", KEEP, sender="x:a b%")
    await other.store.publish("room", b"\x00 \xff bytes", KEEP)
    await other.store.publish("room", "", HistoryPolicy())
    text, data, empty = await heard(edge, 3)
    assert (text.channel, text.payload, text.sender, text.position.offset) == ("room", "tèxt with spaces", "x:a b%", 1)
    assert (data.payload, data.sender, data.position.offset) == (b"\x00 \xff bytes", None, 2)
    assert (empty.payload, empty.position) == ("", NO_POSITION)
    page = await edge.store.history("room", None, 10)
    assert list(page.publications) == [text, data]
    assert all(p.at > 1_600_000_000_000 for p in (text, data, empty))


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_any_name_is_a_channel_of_its_own(edge: Edge, name: str) -> None:
    await asyncio.gather(*(edge.store.subscribe(each) for each in ODD_NAMES))
    published = await edge.store.publish(name, "x", KEEP, id="}i{")
    assert published.position.offset == 1
    assert [p.channel for p in await heard(edge, 1)] == [name]
    assert await edge.store.position(name) == published.position


async def test_history_keeps_the_newest_by_count(edge: Edge) -> None:
    last = [await edge.store.publish("room", str(n), HistoryPolicy(3, 60_000)) for n in range(1, 11)][-1].position
    epoch = last.epoch
    page = await edge.store.history("room", None, 100)
    assert ([p.payload for p in page.publications], page.whole, page.top) == (
        ["8", "9", "10"],
        True,
        Position(10, epoch),
    )
    since_7 = await edge.store.history("room", Position(7, epoch), 100)
    assert ([p.position.offset for p in since_7.publications], since_7.whole) == ([8, 9, 10], True)
    since_6 = await edge.store.history("room", Position(6, epoch), 100)
    assert (since_6.publications, since_6.whole, since_6.top) == ((), False, Position(10, epoch))


async def test_history_pages_begin_right_behind_since(edge: Edge) -> None:
    positions = [(await edge.store.publish("room", str(n), KEEP)).position for n in range(1, 8)]
    first = await edge.store.history("room", positions[1], 2)
    assert ([p.payload for p in first.publications], first.whole, first.top) == (["3", "4"], True, positions[6])
    rest = await edge.store.history("room", first.publications[-1].position, 10)
    assert [p.payload for p in rest.publications] == ["5", "6", "7"]
    newest = await edge.store.history("room", None, 2)
    assert [p.payload for p in newest.publications] == ["6", "7"]
    nothing_new = await edge.store.history("room", positions[6], 10)
    assert (nothing_new.publications, nothing_new.whole) == ((), True)


async def test_another_epoch_or_a_future_offset_is_not_whole(edge: Edge) -> None:
    top = (await edge.store.publish("room", "x", KEEP)).position
    for since in (Position(0, "another"), Position(1, "another"), Position(2, top.epoch), NO_POSITION):
        page = await edge.store.history("room", since, 10)
        assert (page.publications, page.whole, page.top) == ((), False, top)


async def test_a_channel_without_history_has_no_position(edge: Edge) -> None:
    await edge.store.publish("room", "x", HistoryPolicy())
    assert await edge.store.position("room") == NO_POSITION
    page = await edge.store.history("room", None, 10)
    assert (page.publications, page.whole, page.top) == ((), True, NO_POSITION)
    assert not (await edge.store.history("room", Position(1, "old"), 10)).whole


async def test_history_forgets_by_age_also_without_a_new_publication(edge: Edge) -> None:
    old = (await edge.store.publish("room", "old", HistoryPolicy(10, 300))).position

    async def aged() -> bool:
        return not (await edge.store.history("room", None, 10)).publications

    await wait_until(aged, "the publication is too old")
    since = await edge.store.history("room", Position(0, old.epoch), 10)
    assert (since.whole, since.top) == (False, old)
    assert (await edge.store.history("room", old, 10)).whole
    new = (await edge.store.publish("room", "new", HistoryPolicy(10, 300))).position
    assert new == Position(2, old.epoch)
    assert [p.payload for p in (await edge.store.history("room", old, 10)).publications] == ["new"]


async def test_a_younger_publication_does_not_keep_an_old_one(edge: Edge) -> None:
    old = (await edge.store.publish("room", "old", HistoryPolicy(10, 400))).position

    async def only_young() -> bool:
        await edge.store.publish("room", "young", HistoryPolicy(10, 400))
        page = await edge.store.history("room", None, 1_000)
        return "old" not in [p.payload for p in page.publications]

    await wait_until(only_young, "the old publication is gone")
    page = await edge.store.history("room", Position(old.offset - 1, old.epoch), 1_000)
    assert (page.publications, page.whole) == ((), False)


async def test_an_age_of_zero_is_no_limit(edge: Edge) -> None:
    first = (await edge.store.publish("room", "a", HistoryPolicy(10, 0))).position
    assert (await edge.store.history("room", Position(0, first.epoch), 10)).whole


async def test_a_publication_id_is_accepted_once_on_all_edges(edge: Edge, other: Edge) -> None:
    await edge.store.subscribe("room")
    first = await edge.store.publish("room", "x", KEEP, id="same")
    again = await other.store.publish("room", "x", KEEP, id="same")
    third = await other.store.publish("room", "y", KEEP, id="another")
    assert (first.duplicate, again.duplicate, third.duplicate) == (False, True, False)
    assert again.position == first.position
    assert third.position.offset == 2
    bare = [await edge.store.publish("bare", "x", HistoryPolicy(), id="same") for _ in range(2)]
    assert [(p.duplicate, p.position) for p in bare] == [(False, NO_POSITION), (True, NO_POSITION)]
    assert [p.payload for p in await heard(edge, 2)] == ["x", "y"]


async def test_what_is_published_after_subscribe_has_ended_is_heard(edge: Edge, other: Edge) -> None:
    for n in range(30):
        await edge.store.subscribe(f"room {n}")
        await other.store.publish(f"room {n}", str(n), HistoryPolicy())
    # Each channel has an order of its own; between channels a cluster's nodes promise none.
    assert sorted(int(p.payload) for p in await heard(edge, 30)) == list(range(30))


async def test_unsubscribing_and_subscribing_again_in_one_tick_works_out(edge: Edge, other: Edge) -> None:
    await edge.store.subscribe("room")
    edge.store.unsubscribe("room")
    back = edge.store.subscribe("room")
    for _ in range(3):
        await asyncio.sleep(0)
        edge.store.unsubscribe("room")
        back = edge.store.subscribe("room")
    await back
    await edge.store.subscribe("room")
    edge.store.unsubscribe("gone")
    await edge.store.subscribe("gone")
    edge.store.unsubscribe("gone")
    await other.store.publish("gone", "not heard", HistoryPolicy())
    await other.store.publish("room", "heard", HistoryPolicy())
    assert [p.payload for p in await heard(edge, 1)] == ["heard"]


async def test_who_waits_for_a_channel_that_is_given_up_is_told(edge: Edge) -> None:
    waiting = edge.store.subscribe("room")
    edge.store.unsubscribe("room")
    with pytest.raises(StoreUnavailable, match="unsubscribed"):
        await waiting
    await edge.store.subscribe("room")


async def test_a_listener_that_raises_costs_one_publication(edge: Edge, other: Edge) -> None:
    problems: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    await edge.store.subscribe("room")
    good = edge.ears.publications

    def picky(publication: Publication) -> None:
        if publication.payload == "bad":
            raise RuntimeError("a bug")
        good.append(publication)

    edge.store._bus._publication = picky
    for payload in ("one", "bad", "two"):
        await other.store.publish("room", payload, HistoryPolicy())
    assert [p.payload for p in await heard(edge, 2)] == ["one", "two"]
    assert [str(problem["exception"]) for problem in problems] == ["a bug"]


async def test_mail_reaches_one_edge_only(edge: Edge, other: Edge) -> None:
    await other.store.send(edge.id, b"\x00hello")
    await edge.store.send(edge.id, b"myself")
    await edge.store.send("nobody", b"?")
    await wait_until(lambda: len(edge.ears.mail) == 2, "the mail has come")
    assert edge.ears.mail == [(other.id, b"\x00hello"), (edge.id, b"myself")]
    assert other.ears.mail == []


async def test_text_that_is_not_unicode_is_refused(edge: Edge) -> None:
    for refused in (
        edge.store.publish("room", "\ud800", KEEP),
        edge.store.publish("\ud800", "x", KEEP),
        edge.store.publish("room", "x", KEEP, id="\ud800"),
    ):
        with pytest.raises(StoreRefused):
            await refused
    assert await edge.store.position("room") == NO_POSITION


@pytest.mark.parametrize("message", [b"", b"1 e 2", b"x e 1 t y", b"1 e 1 t \xff"])
def test_a_message_that_is_no_publication_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any of its kinds
        decode("room", message)


def test_encoding_says_kind_and_sender() -> None:
    assert encode("é", None) == b"t \xc3\xa9"
    assert encode(b"\x00", "s:1") == b"bs:1 \x00"
    assert decode("c", b"0  5 b  x") == Publication("c", b" x", NO_POSITION, None, 5)
