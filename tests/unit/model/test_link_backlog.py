"""A link's backlog beside a simple store: no hole, nothing lost, nothing twice, and newer news only for who waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.errors import WireError
from edge.model import link_backlog
from edge.model.link_backlog import COALESCE_FROM, EVENT_BYTES, REFILL, WINDOW, Backlog, from_stored, to_stored
from edge.protocol.callbacks.events import LinkEvent

LINK = "x:u42"
MANY = 1_000_000


def filled(count: int, *, key: str | None = None) -> Backlog:
    """A backlog with so many stored events, the last one of them news of `key`."""
    backlog = Backlog(LINK, 0, 0)
    for number in range(1, count + 1):
        backlog.add("xmpp.message", number, {"n": number}, key if number == count else None)
    store(backlog)
    return backlog


def store(backlog: Backlog) -> tuple[list[tuple[int, object]], dict[int, object]]:
    """Have its news stored; what it was."""
    news, replaced = backlog.news()
    backlog.stored(news)
    return [(seq, event.fields["n"]) for seq, event in news], {seq: e.fields["n"] for seq, e in replaced.items()}


def taken(backlog: Backlog, most: int = 100, most_bytes: int = MANY) -> list[tuple[int, object]]:
    return [(seq, event.fields["n"]) for seq, event in backlog.take(most, most_bytes)]


# ---------------------------------------------------------------------- events at rest


def test_an_event_reads_back_as_it_was_stored() -> None:
    event = LinkEvent(f"{LINK}:7", 5, "xmpp.message", {"seq": 7, "xml": "<message/>", "stanza": {"a": None}})
    assert from_stored(LINK, 7, to_stored(event)) == event


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x01", to_stored(LinkEvent("", 1, "k", {}))[:-1], b"\x91\x01"])
def test_what_is_no_stored_event_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(WireError, match="stored event 7 of link x:u42"):
        from_stored(LINK, 7, data)


# ---------------------------------------------------------------------- coming in, going out


def test_numbers_go_on_from_those_of_the_store() -> None:
    backlog = Backlog(LINK, 9, 9)
    assert backlog.add("xmpp.message", 1, {"n": 1}) == 10
    (event,) = [event for _, event in backlog.news()[0]]
    assert (event.id, event.fields) == ("x:u42:10", {"seq": 10, "n": 1})


def test_nothing_is_handed_out_before_it_is_stored() -> None:
    backlog = Backlog(LINK, 0, 0)
    backlog.add("xmpp.message", 1, {"n": 1})
    assert not backlog.ready
    news, _ = backlog.news()
    assert taken(backlog) == []
    backlog.stored(news)
    assert backlog.ready
    assert taken(backlog) == [(1, 1)]
    assert not backlog.ready


def test_a_batch_is_bounded_by_events_and_bytes_but_one_event_always_goes() -> None:
    backlog = Backlog(LINK, 0, 0)
    for xml in ("x" * 5_000, "", "", ""):
        backlog.add("xmpp.message", 1, {"n": 0, "xml": xml})
    store(backlog)
    assert [seq for seq, _ in backlog.take(10, 1)] == [1]
    assert [seq for seq, _ in backlog.take(10, 2 * EVENT_BYTES)] == [2, 3]
    assert [seq for seq, _ in backlog.take(0, MANY)] == []
    assert [seq for seq, _ in backlog.take(10, MANY)] == [4]


def test_what_nobody_took_is_handed_out_again() -> None:
    backlog = filled(4)
    assert taken(backlog, 3) == [(1, 1), (2, 2), (3, 3)]
    backlog.accepted(1)
    backlog.hand_back(2)
    assert taken(backlog) == [(2, 2), (3, 3), (4, 4)]


def test_what_does_not_fit_into_the_window_is_read_when_it_has_emptied() -> None:
    backlog = filled(WINDOW + 10)
    assert backlog.wants_more is None
    assert len(taken(backlog, MANY)) == WINDOW
    backlog.accepted(WINDOW - REFILL)
    assert backlog.wants_more is None
    backlog.accepted(WINDOW - REFILL + 1)
    assert backlog.wants_more == WINDOW
    # The store has lost one of them.
    found = [(seq, LinkEvent(f"{LINK}:{seq}", 1, "k", {"n": seq})) for seq in range(WINDOW + 2, WINDOW + 11)]
    backlog.read(found, WINDOW + 10)
    assert [seq for seq, _ in taken(backlog)] == list(range(WINDOW + 2, WINDOW + 11))
    assert backlog.wants_more is None


def test_a_new_owner_begins_with_what_the_store_has() -> None:
    backlog = Backlog(LINK, 5, 3)
    assert (backlog.waiting, backlog.ready, backlog.wants_more) == (2, False, 3)
    assert backlog.in_memory() == ()
    backlog.read([(seq, LinkEvent("", 1, "k", {"n": seq})) for seq in (4, 5)], 5)
    assert taken(backlog) == [(4, 4), (5, 5)]
    assert [seq for seq, _ in backlog.in_memory()] == [4, 5]


def test_what_is_in_memory_has_no_hole_where_the_store_had_lost_an_event() -> None:
    backlog = Backlog(LINK, 6, 0)
    backlog.read([(seq, LinkEvent("", 1, "k", {"n": seq})) for seq in (1, 2, 4, 5, 6)], 6)
    assert [seq for seq, _ in backlog.in_memory()] == [4, 5, 6]
    lost_last = Backlog(LINK, 3, 0)
    lost_last.read([(seq, LinkEvent("", 1, "k", {"n": seq})) for seq in (1, 2)], 3)
    assert lost_last.in_memory() == ()


# ---------------------------------------------------------------------- newer news in the place of older


def test_a_backend_that_keeps_up_is_told_everything() -> None:
    backlog = filled(COALESCE_FROM - 1, key="bob")
    assert backlog.add("xmpp.presence", 1, {"n": 98}, "bob") == COALESCE_FROM
    assert backlog.add("xmpp.presence", 1, {"n": 99}, "bob") == COALESCE_FROM
    assert store(backlog) == ([(COALESCE_FROM, 99)], {})


def test_stored_news_are_replaced_in_the_store_and_in_memory() -> None:
    backlog = filled(COALESCE_FROM, key="bob")
    assert backlog.add("xmpp.presence", 1, {"n": 99}, "bob") == COALESCE_FROM
    assert backlog.add("xmpp.presence", 1, {"n": 100}, "eve") == COALESCE_FROM + 1
    assert store(backlog) == ([(COALESCE_FROM + 1, 100)], {COALESCE_FROM: 99})
    assert taken(backlog)[-2:] == [(COALESCE_FROM, 99), (COALESCE_FROM + 1, 100)]


def test_what_was_handed_out_is_not_replaced_even_when_it_came_back() -> None:
    backlog = filled(COALESCE_FROM, key="bob")
    taken(backlog)
    backlog.hand_back(1)
    assert backlog.add("xmpp.presence", 1, {"n": 99}, "bob") == COALESCE_FROM + 1
    assert taken(backlog)[-1] == (COALESCE_FROM, COALESCE_FROM)


def test_news_of_what_is_on_its_way_into_the_store_are_handed_out() -> None:
    backlog = filled(COALESCE_FROM)
    backlog.add("xmpp.presence", 1, {"n": 98}, "bob")
    on_the_way, _ = backlog.news()
    backlog.add("xmpp.presence", 1, {"n": 99}, "bob")
    backlog.stored(on_the_way)
    assert store(backlog) == ([], {COALESCE_FROM + 1: 99})
    assert taken(backlog)[-1] == (COALESCE_FROM + 1, 99)


def test_news_of_what_there_was_no_room_for_take_its_place() -> None:
    backlog = filled(COALESCE_FROM)
    backlog.add("xmpp.presence", 1, {"n": 98}, "bob")
    refused, nothing = backlog.news()
    backlog.add("xmpp.presence", 1, {"n": 99}, "bob")
    backlog.add("xmpp.message", 1, {"n": 100})
    backlog.put_back(refused, nothing)
    assert store(backlog) == ([(COALESCE_FROM + 1, 99), (COALESCE_FROM + 2, 100)], {})


def test_newer_news_win_over_those_there_was_no_room_for() -> None:
    backlog = filled(COALESCE_FROM, key="bob")
    backlog.add("xmpp.presence", 1, {"n": 98}, "bob")
    refused = backlog.news()
    backlog.add("xmpp.presence", 1, {"n": 99}, "bob")
    backlog.put_back(*refused)
    assert store(backlog) == ([], {COALESCE_FROM: 99})


# ---------------------------------------------------------------------- everything at once


class Backlogs(RuleBasedStateMachine):
    """A backlog, its store and its backend. Commands reach the store in the order given, and are answered in it."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        for name, value in (("WINDOW", 6), ("REFILL", 3), ("COALESCE_FROM", 4)):
            self.stack.enter_context(patch.object(link_backlog, name, value))
        self.backlog = Backlog(LINK, 0, 0)
        self.answers: deque[Callable[[], None]] = deque()
        self.flushing = self.reading = False
        self.stored: dict[int, LinkEvent] = {}
        """Of the store: waiting events."""
        self.last = self.done = 0
        """Of the store: numbers of the newest event, and of the newest that was accepted."""
        self.newest: dict[int, tuple[str | None, int]] = {}
        """By seq: what it is the news of, and the number of the newest news."""
        self.count = 0
        self.seen: dict[int, int] = {}
        """Handed out: seq → number of the news."""
        self.under_way: list[int] = []
        self.accept = 0

    def teardown(self) -> None:
        try:
            for _ in range(10 * len(self.newest) + 10):
                self.settle_all()
                self.begin_flush(refused=False)
                self.begin_read()
                self.hand_out(3)
                self.accept_some(3)
                if not (self.answers or self.backlog.waiting or self.backlog.has_news):
                    break
            assert self.backlog.waiting == 0
            assert {seq: number for seq, (_, number) in self.newest.items()} == self.seen
            assert self.stored == {}
        finally:
            self.stack.close()

    def settle_all(self) -> None:
        while self.answers:
            self.answers.popleft()()

    @rule(key=st.sampled_from(["bob", "eve", None]), times=st.integers(1, 4))
    def add(self, key: str | None, times: int) -> None:
        for _ in range(times):
            self.count += 1
            waiting, last = self.backlog.waiting, self.backlog.seq
            seq = self.backlog.add("xmpp.presence", 1, {"n": self.count}, key)
            if seq <= last:
                assert key is not None
                assert waiting >= link_backlog.COALESCE_FROM
                assert self.newest[seq][0] == key
                assert seq not in self.seen
            else:
                assert seq == last + 1
            self.newest[seq] = key, self.count

    @rule(refused=st.booleans())
    def flush(self, refused: bool) -> None:
        self.begin_flush(refused)

    def begin_flush(self, refused: bool) -> None:
        if self.flushing or not (self.backlog.has_news or self.accept > self.done):
            return
        self.flushing = True
        news, replaced = self.backlog.news()
        if refused:
            self.answers.append(lambda: self.put_back(news, replaced))
            return
        assert [seq for seq, _ in news] == list(range(self.last + 1, self.last + len(news) + 1))
        assert all(seq <= self.last for seq in replaced)
        done = self.done = max(self.done, self.accept)
        self.stored |= {seq: event for seq, event in [*news, *replaced.items()] if seq > done}
        self.stored = {seq: event for seq, event in self.stored.items() if seq > done}
        self.last += len(news)
        durable = {seq: number for seq, (_, number) in self.newest.items() if done < seq}
        assert {seq: event.fields["n"] for seq, event in self.stored.items()} == durable

        def stored() -> None:
            self.flushing = False
            self.backlog.accepted(done)
            self.backlog.stored(news)

        self.answers.append(stored)

    def put_back(self, news: Sequence[tuple[int, LinkEvent]], replaced: Mapping[int, LinkEvent]) -> None:
        self.flushing = False
        self.backlog.put_back(news, replaced)

    @rule()
    def refill(self) -> None:
        self.begin_read()

    def begin_read(self) -> None:
        after = self.backlog.wants_more
        if after is None or self.reading:
            return
        self.reading = True
        upto = self.backlog.kept
        found = [(seq, event) for seq, event in sorted(self.stored.items()) if seq > after][:5]
        last = found[-1][0] if len(found) == 5 else upto

        def read() -> None:
            self.reading = False
            self.backlog.read(found, last)

        self.answers.append(read)

    @precondition(lambda self: self.answers)
    @rule()
    def answer(self) -> None:
        self.answers.popleft()()

    @rule(most=st.integers(1, 4))
    def take(self, most: int) -> None:
        self.hand_out(most)

    def hand_out(self, most: int) -> None:
        ready = self.backlog.ready
        events = self.backlog.take(most, MANY)
        assert bool(events) == ready
        for seq, event in events:
            assert seq == (self.under_way[-1] if self.under_way else self.accept) + 1
            assert seq <= self.backlog.kept or self.flushing
            assert event.fields["n"] == self.newest[seq][1]
            assert self.seen.setdefault(seq, event.fields["n"]) == event.fields["n"]
            self.under_way.append(seq)

    @rule(count=st.integers(1, 4))
    def accept_events(self, count: int) -> None:
        self.accept_some(count)

    def accept_some(self, count: int) -> None:
        for seq in self.under_way[:count]:
            self.accept = seq
        del self.under_way[:count]

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def hand_back(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.under_way) - 1))
        self.backlog.hand_back(self.under_way[index])
        del self.under_way[index:]

    @invariant()
    def memory_is_bounded_and_has_no_hole(self) -> None:
        memory = [seq for seq, _ in self.backlog.in_memory()]
        if memory:
            assert memory[-1] == self.backlog.kept
            assert memory == list(range(memory[0], memory[-1] + 1))
        assert len(self.backlog._window) <= link_backlog.WINDOW + 5
        assert self.backlog.waiting == self.backlog.seq - self.backlog.done


TestBacklogs = Backlogs.TestCase
TestBacklogs.settings = settings(max_examples=100, stateful_step_count=50)
