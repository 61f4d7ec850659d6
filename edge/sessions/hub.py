"""The hub: which sessions of this process listen to which channel, and what each of them still has to catch up on.

Owns the local half of channels; the store owns the other half (offsets, history, the bus). Promises per session and
channel: publications in offset order, each at most once, and after `subscribe(since=…)` all of them, or a gap is told.

A publication is encoded once (`Frame`), and handed to every connection in one loop. A subscriber is in one of three
places: `live` (gets what comes), `catching` (reads from history what it missed; live publications wait), or `ahead`
(history gave it more than the bus has delivered here so far: those few are skipped for it).
"""

from __future__ import annotations

from asyncio import Future, get_running_loop
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from edge.sessions.connection import Frame
from edge.store.base import NO_POSITION, ChannelStore, HistoryPage, HistoryPolicy, Position, Publication
from edge.telemetry.metrics import Counter, ProcessMeters

CATCH_UP_BUFFER = 1_000
"""Live publications kept while history is being read; past it the rest is read from history again."""


class Sink(Protocol):
    """The part of a `Connection` the hub uses."""

    def send(self, frame: Frame) -> None: ...


class Subscriber(Protocol):
    """A session, as the hub sees it."""

    @property
    def connection(self) -> Sink:
        """Where its messages go; the same object as long as it is subscribed."""
        ...

    @property
    def session(self) -> str: ...

    @property
    def delivered(self) -> Counter: ...

    def gap(self, channel: str, since: Position, position: Position) -> None:
        """History could not give everything after `since`; the subscription is live from `position`."""
        ...


class _CatchUp:
    """One session that is still reading what it missed. Live publications wait in `buffer` meanwhile."""

    __slots__ = ("buffer", "done", "overflowed", "since")

    def __init__(self, since: Position, done: Future[None]) -> None:
        self.since = since
        self.done = done
        self.buffer: list[Publication] = []
        self.overflowed = False


class _FanOut:
    """Everybody who is live on a channel. What a publication costs here it costs thousands of times, so sinks stand
    ready as bound methods, and deliveries are counted once per publication and counter."""

    __slots__ = ("counters", "sends")

    def __init__(self, live: Mapping[Subscriber, Sink]) -> None:
        self.sends = tuple([sink.send for sink in live.values()])
        self.counters: dict[Counter, int] = {}
        for subscriber in live:
            counter = subscriber.delivered
            self.counters[counter] = self.counters.get(counter, 0) + 1

    def send(self, frame: Frame) -> None:
        for send in self.sends:
            send(frame)
        for counter, count in self.counters.items():
            counter.value += count


class _Channel:
    """The local side of one channel. `seen` is the newest position the bus (or a recovery) has delivered."""

    __slots__ = (
        "ahead",
        "buffer",
        "catching",
        "confirmed",
        "doubtful",
        "fan_out",
        "live",
        "placed",
        "recovering",
        "seen",
    )

    def __init__(self) -> None:
        self.confirmed: Future[None] | None = get_running_loop().create_future()
        self.live: dict[Subscriber, Sink] = {}
        # `live` made ready to be walked over, until somebody comes or goes: a slow consumer that is thrown out in
        # mid-loop changes the dict, not this.
        self.fan_out: _FanOut | None = None
        self.catching: dict[Subscriber, _CatchUp] = {}
        self.ahead: dict[Subscriber, Position] = {}
        self.seen = NO_POSITION
        # True once `seen` says where the channel stood when we came (NO_POSITION then means: it had no history yet).
        self.placed = False
        self.recovering = False
        # The bus was interrupted, and what came meanwhile has not been read from history yet.
        self.doubtful = False
        self.buffer: list[Publication] = []

    def join(self, subscriber: Subscriber) -> None:
        self.live[subscriber] = subscriber.connection
        self.fan_out = None

    def leave(self, subscriber: Subscriber) -> None:
        if self.live.pop(subscriber, None) is not None:
            self.fan_out = None
        self.ahead.pop(subscriber, None)

    def covers(self, position: Position) -> bool:
        """Has everything up to `position` been delivered to `live` already?"""
        return self.seen.epoch == position.epoch and self.seen.offset >= position.offset and not self.recovering


class Hub:
    """See the module's docstring."""

    def __init__(self, store: ChannelStore, policy: Callable[[str], HistoryPolicy], meters: ProcessMeters) -> None:
        self._store = store
        self._policy = policy
        self._meters = meters
        self._channels: dict[str, _Channel] = {}

    # What sessions ask for.

    def subscribe(self, subscriber: Subscriber, channel: str, since: Position | None) -> Future[None] | None:
        """Add a subscription. None: it stands at once. Otherwise a future: done when every later publication is sure
        to arrive and, with `since`, what was missed has been sent. It never fails: what cannot be had is told to the
        session as a gap, and the live part comes as soon as Redis does."""
        entry = self._channels.get(channel)
        if entry is None:
            entry = self._channels[channel] = _Channel()
            self._meters.channels.value = len(self._channels)
            self._connect(channel, entry)
        if since is None:
            if subscriber not in entry.catching and subscriber not in entry.ahead:
                entry.join(subscriber)
            return entry.confirmed
        entry.leave(subscriber)
        self._stop_catching(entry, subscriber)
        catch_up = _CatchUp(since, get_running_loop().create_future())
        entry.catching[subscriber] = catch_up
        if entry.confirmed is None:
            self._read_missed(channel, entry, subscriber, catch_up)
        return catch_up.done

    def unsubscribe(self, subscriber: Subscriber, channel: str) -> None:
        """Remove a subscription, if it is there."""
        entry = self._channels.get(channel)
        if entry is None:
            return
        entry.leave(subscriber)
        self._stop_catching(entry, subscriber)
        if not entry.live and not entry.catching and not entry.ahead:
            del self._channels[channel]
            self._meters.channels.value = len(self._channels)
            self._store.unsubscribe(channel)
            self._confirm(entry)

    def recount(self, channel: str) -> None:
        """A subscriber counts its deliveries elsewhere from now on."""
        entry = self._channels.get(channel)
        if entry is not None:
            entry.fan_out = None

    def subscribers(self, channel: str) -> int:
        """How many sessions of this process are subscribed."""
        entry = self._channels.get(channel)
        return len(entry.live) + len(entry.catching) + len(entry.ahead) if entry else 0

    # What the bus says.

    def publication(self, publication: Publication) -> None:
        """A publication arrived from the bus."""
        self._meters.publications_received.value += 1
        entry = self._channels.get(publication.channel)
        if entry is None:
            return
        for catch_up in entry.catching.values():
            if len(catch_up.buffer) < CATCH_UP_BUFFER:
                catch_up.buffer.append(publication)
            else:
                catch_up.overflowed = True
        self._pass_on(publication, entry)

    def interrupted(self) -> None:
        """The bus is gone: from now on publications may be missed."""
        for entry in self._channels.values():
            entry.doubtful = True

    def restored(self, channels: Sequence[str]) -> None:
        """The bus is back: read from history what was missed, where there is history."""
        for channel in channels:
            entry = self._channels.get(channel)
            if entry is not None and (entry.seen.offset or entry.placed) and not entry.recovering:
                self._recover(channel, entry, entry.seen)

    # Inside: passing on.

    def _pass_on(self, publication: Publication, entry: _Channel) -> None:
        position = publication.position
        if position.offset:
            if entry.recovering:
                if len(entry.buffer) < CATCH_UP_BUFFER:
                    entry.buffer.append(publication)
                return
            if entry.seen.epoch != position.epoch and entry.seen.offset and entry.doubtful:
                # A new life, and who knows how much of the old one we have missed.
                entry.buffer.append(publication)
                self._recover(publication.channel, entry, entry.seen)
                return
            if entry.seen.epoch != position.epoch:
                # A new life of the channel: all of it is new to us, if we were here before it began.
                start = 0 if entry.placed else position.offset - 1
                entry.seen = Position(start, position.epoch)
            if position.offset <= entry.seen.offset:
                return
            if position.offset != entry.seen.offset + 1:
                # Something was lost between Redis and us. History knows.
                entry.buffer.append(publication)
                self._recover(publication.channel, entry, entry.seen)
                return
            entry.seen = position
        self._fan_out(entry, publication)

    def _fan_out(self, entry: _Channel, publication: Publication) -> None:
        frame = Frame(publication.payload)
        sender = publication.sender
        if sender is None:
            targets = entry.fan_out
            if targets is None:
                targets = entry.fan_out = _FanOut(entry.live)
            targets.send(frame)
        else:
            for subscriber in tuple(entry.live):
                self._send_one(subscriber, publication, frame)
        if entry.ahead:
            self._fan_out_ahead(entry, publication, frame)

    def _fan_out_ahead(self, entry: _Channel, publication: Publication, frame: Frame) -> None:
        position = publication.position
        for subscriber, last in list(entry.ahead.items()):
            if position.epoch != last.epoch or position.offset > last.offset:
                self._send_one(subscriber, publication, frame)
            if position.epoch != last.epoch or position.offset >= last.offset:
                del entry.ahead[subscriber]
                entry.join(subscriber)

    def _send_one(self, subscriber: Subscriber, publication: Publication, frame: Frame) -> None:
        if publication.sender is None or publication.sender != subscriber.session:
            subscriber.connection.send(frame)
            subscriber.delivered.value += 1

    # Inside: the subscription on the bus.

    def _connect(self, channel: str, entry: _Channel) -> None:
        """Subscribe on the bus. A channel with history is asked first where it stands, and only then subscribed to:
        so whatever comes after that mark is either delivered live or known to be missing."""
        if not self._policy(channel).count:
            self._subscribe(channel, entry)
            return

        def placed(answer: Future[Position]) -> None:
            if self._channels.get(channel) is entry:
                if not answer.cancelled() and answer.exception() is None:
                    entry.seen, entry.placed = answer.result(), True
                self._subscribe(channel, entry)

        self._store.position(channel).add_done_callback(placed)

    def _subscribe(self, channel: str, entry: _Channel) -> None:
        def confirmed(answer: Future[None]) -> None:
            # A refusal means Redis is away. The store keeps the wish and fulfils it later, without another word.
            failed = answer.cancelled() or answer.exception() is not None
            if self._channels.get(channel) is entry and not (failed and entry.confirmed is None):
                self._confirm(entry)
                for subscriber, catch_up in list(entry.catching.items()):
                    self._read_missed(channel, entry, subscriber, catch_up)

        self._store.subscribe(channel).add_done_callback(confirmed)

    def _confirm(self, entry: _Channel) -> None:
        confirmed, entry.confirmed = entry.confirmed, None
        if confirmed is not None and not confirmed.done():
            confirmed.set_result(None)

    # Inside: catching up.

    def _stop_catching(self, entry: _Channel, subscriber: Subscriber) -> None:
        catch_up = entry.catching.pop(subscriber, None)
        if catch_up is not None and not catch_up.done.done():
            catch_up.done.set_result(None)

    def _read_missed(self, channel: str, entry: _Channel, subscriber: Subscriber, catch_up: _CatchUp) -> None:
        catch_up.buffer.clear()
        catch_up.overflowed = False

        def read(answer: Future[HistoryPage]) -> None:
            if entry.catching.get(subscriber) is not catch_up:
                return
            if answer.cancelled() or answer.exception() is not None:
                subscriber.gap(channel, catch_up.since, NO_POSITION)
                self._go_live(entry, subscriber, catch_up, NO_POSITION)
                return
            page = answer.result()
            last = page.top
            if not page.whole:
                subscriber.gap(channel, catch_up.since, page.top)
            for publication in page.publications:
                self._send_one(subscriber, publication, Frame(publication.payload))
                last = publication.position
            if catch_up.overflowed:
                catch_up.since = last
                self._read_missed(channel, entry, subscriber, catch_up)
                return
            self._go_live(entry, subscriber, catch_up, last)

        limit = max(1, self._policy(channel).count)
        self._store.history(channel, catch_up.since, limit).add_done_callback(read)

    def _go_live(self, entry: _Channel, subscriber: Subscriber, catch_up: _CatchUp, last: Position) -> None:
        for publication in catch_up.buffer:
            position = publication.position
            if not position.offset or position.epoch != last.epoch or position.offset > last.offset:
                self._send_one(subscriber, publication, Frame(publication.payload))
                last = position
        del entry.catching[subscriber]
        if last.offset and not entry.covers(last):
            entry.ahead[subscriber] = last
        else:
            entry.join(subscriber)
        if not catch_up.done.done():
            catch_up.done.set_result(None)

    def _recover(self, channel: str, entry: _Channel, since: Position) -> None:
        """Read from history what `live` sessions missed; live publications wait in the channel's buffer meanwhile."""
        entry.recovering = True

        def read(answer: Future[HistoryPage]) -> None:
            if self._channels.get(channel) is not entry:
                return
            entry.recovering = False
            if answer.cancelled() or answer.exception() is not None:
                # Redis went away again; the next `restored` starts over from the same mark.
                entry.buffer.clear()
                return
            page = answer.result()
            entry.doubtful = False
            if not page.whole:
                # Of a life that began while we were away nothing need be missing: that one is read from its start.
                newborn = page.top.offset > 0 and page.top.epoch != since.epoch
                start = Position(0, page.top.epoch) if newborn else page.top
                if since.epoch:
                    for subscriber in (*entry.live, *entry.ahead):
                        subscriber.gap(channel, since, start)
                entry.seen = start
                if newborn:
                    self._recover(channel, entry, start)
                    return
            waiting, entry.buffer = entry.buffer, []
            for publication in (*page.publications, *waiting):
                self._pass_on(publication, entry)

        self._store.history(channel, since, max(1, self._policy(channel).count)).add_done_callback(read)
