"""Items go in the order their publisher means, and none stays behind."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from edge.model.sequence import WAITING_MAX, ItemSequence
from edge.protocol.grip.items import Item

WAIT_MS = 5_000


def item(id: str | None, prev: str | None = None, *, no_seq: bool = False) -> Item:
    return Item("room", id, prev, no_seq)


def ids(items: Sequence[Item]) -> list[str | None]:
    return [each.id for each in items]


def test_items_without_a_predecessor_pass_and_set_the_mark() -> None:
    sequence = ItemSequence()
    assert ids(sequence.offer(item("a"), 0, WAIT_MS)) == ["a"]
    assert sequence.last == "a"
    assert ids(sequence.offer(item(None), 0, WAIT_MS)) == [None]
    assert sequence.last is None
    assert sequence.wake_at() is None


def test_the_first_item_passes_whatever_it_follows() -> None:
    assert ids(ItemSequence().offer(item("b", "a"), 0, WAIT_MS)) == ["b"]


def test_an_item_waits_for_its_predecessor() -> None:
    sequence = ItemSequence("1")
    assert ids(sequence.offer(item("3", "2"), 10, WAIT_MS)) == []
    assert ids(sequence.offer(item("4", "3"), 20, WAIT_MS)) == []
    assert sequence.wake_at() == 10 + WAIT_MS
    assert ids(sequence.offer(item("2", "1"), 30, WAIT_MS)) == ["2", "3", "4"]
    assert sequence.last == "4"
    assert sequence.wake_at() is None


def test_an_item_goes_anyway_when_it_has_waited_long_enough_and_takes_its_followers_along() -> None:
    sequence = ItemSequence("1")
    sequence.offer(item("3", "2"), 0, WAIT_MS)
    sequence.offer(item("4", "3"), 1_000, WAIT_MS)
    sequence.offer(item("6", "5"), 2_000, WAIT_MS)
    assert ids(sequence.expire(WAIT_MS - 1)) == []
    assert ids(sequence.expire(WAIT_MS)) == ["3", "4"]
    assert sequence.wake_at() == 2_000 + WAIT_MS
    assert ids(sequence.expire(2_000 + WAIT_MS)) == ["6"]


def test_an_item_that_asks_for_no_sequence_passes_and_leaves_no_mark() -> None:
    sequence = ItemSequence("1")
    assert ids(sequence.offer(item("9", "8", no_seq=True), 0, WAIT_MS)) == ["9"]
    assert sequence.last == "1"


def test_the_newest_item_passes_also_when_its_id_was_known_before_it_came() -> None:
    sequence = ItemSequence("2")
    assert ids(sequence.offer(item("2", "1"), 0, WAIT_MS)) == ["2"]
    assert sequence.last == "2"


def test_a_follower_that_waits_goes_behind_an_item_without_predecessor() -> None:
    sequence = ItemSequence("1")
    sequence.offer(item("8", "7"), 0, WAIT_MS)
    assert ids(sequence.offer(item("7"), 0, WAIT_MS)) == ["7", "8"]


def test_of_too_many_that_wait_the_oldest_goes() -> None:
    sequence = ItemSequence("start")
    for number in range(WAITING_MAX):
        assert not sequence.offer(item(f"{number}", f"nobody{number}"), number, WAIT_MS)
    assert ids(sequence.offer(item("more", "nobody"), 1_000, WAIT_MS)) == ["0"]
    assert sequence.wake_at() == 1 + WAIT_MS


def test_release_gives_everything_in_the_order_it_came_and_forgets() -> None:
    sequence = ItemSequence("1")
    sequence.offer(item("9", "8"), 0, WAIT_MS)
    sequence.offer(item("3", "2"), 0, WAIT_MS)
    assert ids(sequence.release()) == ["9", "3"]
    assert sequence.last is None
    assert sequence.wake_at() is None


@given(st.permutations(range(1, 12)))
def test_whatever_order_a_chain_comes_in_it_goes_in_its_own(order: list[int]) -> None:
    sequence = ItemSequence("0")
    gone = [each for n in order for each in sequence.offer(item(str(n), str(n - 1)), 0, WAIT_MS)]
    assert ids(gone) == [str(n) for n in range(1, 12)]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 4_000)), max_size=250))
def test_nothing_is_lost_and_nothing_goes_twice(steps: list[tuple[int, int, int]]) -> None:
    sequence, now = ItemSequence("0"), 0
    offered: list[Item] = []
    gone: list[Item] = []
    for number, (own, prev, pause) in enumerate(steps):
        now += pause
        gone += sequence.expire(now)
        one = Item("room", str(own), str(prev), meta={"n": str(number)})
        offered.append(one)
        gone += sequence.offer(one, now, WAIT_MS)
        assert (wake := sequence.wake_at()) is None or wake > now - 1
    gone += sequence.expire(now + WAIT_MS)
    assert sorted(each.meta["n"] for each in gone) == sorted(each.meta["n"] for each in offered)
