"""The hub under every interleaving of bus, history and subscriptions: in order, no gap, no repeat.

The store here is a small model of the real one whose answers and deliveries happen when the test says so; that the
real one keeps the same promises is tested in tests/unit/store.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.sessions.connection import Frame
from edge.sessions.hub import Hub
from edge.store.base import NO_POSITION, ChannelStore, HistoryPage, HistoryPolicy, Position, Publication, Published
from edge.telemetry.metrics import Counter, ProcessMeters

CHANNEL = "room"
EPOCH = "e1"


class Paper:
    """A connection that keeps what it was sent."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def send(self, frame: Frame) -> None:
        assert isinstance(frame.payload, str)
        self.read.append(frame.payload)


class Reader:
    """A subscriber."""

    def __init__(self, name: str) -> None:
        self.session = name
        self.connection: Paper = Paper()
        self.delivered = Counter()
        self.gaps: list[Position] = []
        self.since: Position | None = None
        self.joined_at = 0

    def gap(self, channel: str, since: Position, position: Position) -> None:
        self.gaps.append(position)


class ScriptedStore:
    """One channel with history. Commands are carried out when `answer` is called, the bus delivers on `deliver`."""

    def __init__(self, keep: int = 1_000) -> None:
        self.published: list[Publication] = []
        self.keep = keep
        self.epoch = EPOCH
        self.pending: deque[Callable[[], None]] = deque()
        self.bus: deque[Publication] = deque()
        self.subscribed = False

    # What the hub calls.

    def position(self, channel: str) -> Future[Position]:
        return self._later(self.top)

    def subscribe(self, channel: str) -> Future[None]:
        def confirm() -> None:
            self.subscribed = True

        return self._later(confirm)

    def unsubscribe(self, channel: str) -> None:
        self.subscribed = False

    def history(self, channel: str, since: Position | None, limit: int) -> Future[HistoryPage]:
        return self._later(lambda: self.page(since))

    def publish(self, *args: object, **kwargs: object) -> Future[Published]:
        raise AssertionError("the hub does not publish")

    # What the test does.

    def start_anew(self, epoch: str) -> None:
        """Redis lost its data: the channel begins another life."""
        self.published.clear()
        self.epoch = epoch

    def put(self) -> None:
        offset = len(self.published) + 1
        publication = Publication(CHANNEL, str(offset), Position(offset, self.epoch))
        self.published.append(publication)
        if self.subscribed:
            self.bus.append(publication)

    def top(self) -> Position:
        return Position(len(self.published), self.epoch) if self.published else NO_POSITION

    def page(self, since: Position | None) -> HistoryPage:
        since = since or Position(0, self.epoch)
        first_kept = max(0, len(self.published) - self.keep)
        if since.offset < first_kept or since.offset > len(self.published) or since.epoch != self.epoch:
            return HistoryPage((), False, self.top())
        return HistoryPage(tuple(self.published[since.offset :]), True, self.top())

    def _later(self, make: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = asyncio.get_running_loop().create_future()
        self.pending.append(lambda: future.set_result(make()))
        return future

    def answer(self) -> bool:
        """Carry out the oldest command; False when there is none."""
        if not self.pending:
            return False
        self.pending.popleft()()
        return True


def make_hub(store: ScriptedStore) -> Hub:
    return Hub(cast(ChannelStore, store), lambda channel: HistoryPolicy(1_000, 60_000), ProcessMeters())


async def settle(store: ScriptedStore, hub: Hub) -> None:
    """Answer everything, deliver everything."""
    while store.pending or store.bus:
        while store.answer():
            await asyncio.sleep(0)
        if store.bus:
            hub.publication(store.bus.popleft())
        await asyncio.sleep(0)


async def interrupted(store: ScriptedStore, hub: Hub, meanwhile: Callable[[], None]) -> None:
    """The bus goes, things happen, it comes back."""
    store.subscribed = False
    hub.interrupted()
    meanwhile()
    store.subscribed = True
    hub.restored([CHANNEL])
    await settle(store, hub)


async def test_a_channel_that_was_silent_so_far_misses_nothing_while_the_bus_is_away() -> None:
    store, reader = ScriptedStore(), Reader("r")
    hub = make_hub(store)
    hub.subscribe(reader, CHANNEL, None)
    await settle(store, hub)
    await interrupted(store, hub, store.put)
    store.put()
    await settle(store, hub)
    assert reader.connection.read == ["1", "2"]
    assert reader.gaps == []


async def test_a_life_that_began_while_the_bus_was_away_is_read_from_its_start_behind_a_gap() -> None:
    store, reader = ScriptedStore(), Reader("r")
    hub = make_hub(store)
    hub.subscribe(reader, CHANNEL, None)
    await settle(store, hub)
    store.put()
    await settle(store, hub)

    def lose_data() -> None:
        store.start_anew("e2")
        store.put()
        store.put()

    await interrupted(store, hub, lose_data)
    assert reader.connection.read == ["1", "1", "2"]
    assert reader.gaps == [Position(0, "e2")]


async def test_a_new_life_heard_before_the_bus_is_whole_again_tells_the_gap_as_well() -> None:
    store, reader = ScriptedStore(), Reader("r")
    hub = make_hub(store)
    hub.subscribe(reader, CHANNEL, None)
    await settle(store, hub)
    store.put()
    await settle(store, hub)
    hub.interrupted()
    store.start_anew("e2")
    store.put()
    await settle(store, hub)
    hub.restored([CHANNEL])
    await settle(store, hub)
    assert reader.connection.read == ["1", "1"]
    assert reader.gaps == [Position(0, "e2")]


async def test_a_subscription_with_history_stands_when_redis_has_confirmed_it() -> None:
    store, reader = ScriptedStore(), Reader("r")
    hub = make_hub(store)
    standing = hub.subscribe(reader, CHANNEL, None)
    assert standing is not None
    assert not standing.done()
    await settle(store, hub)
    assert standing.done()
    store.put()
    await settle(store, hub)
    assert reader.connection.read == ["1"]


async def test_what_was_missed_comes_first_and_then_live() -> None:
    store, reader = ScriptedStore(), Reader("r")
    hub = make_hub(store)
    for _ in range(3):
        store.put()
    hub.subscribe(reader, CHANNEL, Position(1, EPOCH))
    store.answer()  # where the channel stands
    await asyncio.sleep(0)
    store.answer()  # subscribed
    await asyncio.sleep(0)
    store.put()
    hub.publication(store.bus.popleft())  # live before history was read: must wait
    assert reader.connection.read == []
    await settle(store, hub)
    store.put()
    await settle(store, hub)
    assert reader.connection.read == ["2", "3", "4", "5"]


async def test_a_gap_is_told_and_nothing_partial_is_sent() -> None:
    store, reader = ScriptedStore(keep=1), Reader("r")
    hub = make_hub(store)
    for _ in range(5):
        store.put()
    hub.subscribe(reader, CHANNEL, Position(1, EPOCH))
    await settle(store, hub)
    store.put()
    await settle(store, hub)
    assert reader.gaps == [Position(5, EPOCH)]
    assert reader.connection.read == ["6"]


async def test_a_publication_is_not_delivered_to_its_sender_when_it_is_left_out() -> None:
    store, me, other = ScriptedStore(), Reader("me"), Reader("other")
    hub = make_hub(store)
    hub.subscribe(me, CHANNEL, None)
    hub.subscribe(other, CHANNEL, None)
    await settle(store, hub)
    hub.publication(Publication(CHANNEL, "hello", Position(1, EPOCH), sender="me"))
    assert (me.connection.read, other.connection.read) == ([], ["hello"])


async def test_a_subscriber_thrown_out_while_a_publication_is_handed_round_disturbs_nobody() -> None:
    store, first, last = ScriptedStore(), Reader("first"), Reader("last")
    hub = make_hub(store)
    hub.subscribe(first, CHANNEL, None)
    hub.subscribe(last, CHANNEL, None)
    await settle(store, hub)
    keep = first.connection.send

    def send(frame: Frame) -> None:
        keep(frame)
        hub.unsubscribe(first, CHANNEL)

    first.connection.send = send  # type: ignore[method-assign]
    for _ in range(2):
        store.put()
    await settle(store, hub)
    assert (first.connection.read, last.connection.read) == (["1"], ["1", "2"])


async def test_the_last_one_out_turns_off_the_light() -> None:
    store, reader = ScriptedStore(), Reader("r")
    hub = make_hub(store)
    standing = hub.subscribe(reader, CHANNEL, None)
    hub.unsubscribe(reader, CHANNEL)
    assert standing is not None
    assert standing.done()
    await settle(store, hub)
    assert not store.subscribed
    assert hub.subscribers(CHANNEL) == 0


class HubLife(RuleBasedStateMachine):
    """Random interleavings, the bus losing letters included; everybody is right once all is delivered."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store = ScriptedStore()
        self.hub = make_hub(self.store)
        self.readers: list[Reader] = []

    def teardown(self) -> None:
        self._do(lambda: self.hub.restored([CHANNEL]))
        self.loop.run_until_complete(settle(self.store, self.hub))
        if self.readers:
            # One more, so that a loss at the very end shows as a jump.
            self.store.put()
            self.loop.run_until_complete(settle(self.store, self.hub))
        newest = len(self.store.published)
        for reader in self.readers:
            read = [int(text) for text in reader.connection.read]
            assert not reader.gaps
            if reader.since is not None:
                assert read == list(range(reader.since.offset + 1, newest + 1))
            else:
                assert read == list(range(newest - len(read) + 1, newest + 1))
                assert newest - len(read) <= reader.joined_at
        self.loop.close()

    def _do(self, step: Callable[[], object]) -> None:
        async def run() -> None:
            step()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        self.loop.run_until_complete(run())

    @rule()
    def publish(self) -> None:
        self.store.put()

    @rule(count=st.integers(1, 3))
    def answer(self, count: int) -> None:
        for _ in range(count):
            self._do(self.store.answer)

    @precondition(lambda self: self.store.bus)
    @rule()
    def deliver(self) -> None:
        self._do(lambda: self.hub.publication(self.store.bus.popleft()))

    @precondition(lambda self: self.store.bus)
    @rule()
    def the_bus_loses_what_is_under_way(self) -> None:
        self.store.bus.clear()

    @rule()
    def the_bus_is_restored(self) -> None:
        self._do(lambda: self.hub.restored([CHANNEL]))

    @precondition(lambda self: len(self.readers) < 5)
    @rule(since=st.none() | st.integers(0, 10))
    def subscribe(self, since: int | None) -> None:
        reader = Reader(f"r{len(self.readers)}")
        newest = len(self.store.published)
        if since is not None:
            reader.since = Position(min(since, newest), EPOCH)
        self.readers.append(reader)

        def begin() -> None:
            standing = self.hub.subscribe(reader, CHANNEL, reader.since)

            def stands(_: object = None) -> None:
                reader.joined_at = len(self.store.published)

            # Without `since` everything from the moment it stands on is owed; before that, nothing.
            reader.joined_at = 1 << 30
            if standing is None:
                stands()
            else:
                standing.add_done_callback(stands)

        self._do(begin)

    @invariant()
    def nobody_reads_twice_or_out_of_order(self) -> None:
        for reader in self.readers:
            read = [int(text) for text in reader.connection.read]
            assert read == sorted(set(read))


HubLife.TestCase.settings = settings(max_examples=300, stateful_step_count=40)
TestHubLife = HubLife.TestCase
