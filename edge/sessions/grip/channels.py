"""Channels of GRIP routes in this process: who is on which, and items to them in sequence.

Owns the local half: members, the order of items by their ids, and what may have been missed. The store owns the other
half: the bus, de-duplication by id over all edges, and the newest item with an id of each channel, so that an edge
that comes to a channel late can learn its id. On the bus GRIP channels have a name space of their own (`GRIP_PREFIX`).
"""

from __future__ import annotations

import logging
from asyncio import Future, get_running_loop
from collections.abc import Callable, Sequence

from edge.clock import Clock
from edge.config import GripRouteSettings, GripSettings
from edge.errors import WireError
from edge.model.sequence import ItemSequence
from edge.protocol.grip.bus import unpack_item
from edge.protocol.grip.items import Item
from edge.sessions.grip.fan_out import FORMAT_NAMES, FanOut, Members, Subscription, format_for, has_id, tell_missed
from edge.sessions.grip.pacing import Pacer
from edge.sessions.grip.ports import Delivery, Member, MemberKind
from edge.store.base import NO_POSITION, ChannelStore, HistoryPage, Position, Publication
from edge.telemetry.metrics import Metrics
from edge.wheel import Alarm, Wheel

_log = logging.getLogger("holdfast.grip")

GRIP_PREFIX = "\0grip:"
"""No channel of a callback route begins with it: their names hold no NUL."""
FIRST_SUBSCRIPTION_MS = 1_000
"""What was published just before the first subscription to a channel has reached its backend's store by then."""
AGAIN_MS = 1_000
"""Between attempts to subscribe while Redis is away."""


def is_grip(channel: str) -> bool:
    """Is this channel of the bus one of GRIP's?"""
    return channel.startswith(GRIP_PREFIX)


class _Channel:
    """The local side of one channel."""

    __slots__ = (
        "alarm",
        "confirmed",
        "confirmed_ms",
        "doubtful",
        "fan_outs",
        "first",
        "heard",
        "holding",
        "known",
        "left_ms",
        "lingering",
        "mark",
        "members",
        "name",
        "sequence",
        "updating",
        "waiting_id",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: Members = {}
        self.fan_outs: dict[MemberKind, FanOut] = {}
        self.sequence = ItemSequence()
        self.alarm: Alarm | None = None
        """The sequence has something to do then."""
        self.confirmed: Future[None] | None = get_running_loop().create_future()
        self.confirmed_ms = 0
        self.known = False
        """`sequence.last` is the newest id, as far as anybody remembers; it need not be asked for."""
        self.waiting_id: list[Future[str | None]] = []
        self.heard = NO_POSITION
        """Of the newest item with an id that came."""
        self.mark = NO_POSITION
        """`heard` when the bus was interrupted."""
        self.doubtful = False
        """The bus was interrupted, and what came meanwhile has not been looked for yet."""
        self.first = NO_POSITION
        """Of the first item with an id that was heard after the interruption."""
        self.lingering: Alarm | None = None
        self.left_ms = 0
        self.holding = False
        """Some member was a stream or a response."""
        self.updating: Alarm | None = None


class GripChannels:
    """`Channels` (edge.sessions.grip.ports), and the bus listener of GRIP's part of the bus.

    `route` finds the settings of a route by name, for its `message_rate`; call `reloaded` when they have changed.
    """

    def __init__(
        self,
        store: ChannelStore,
        wheel: Wheel,
        clock: Clock,
        metrics: Metrics,
        settings: Callable[[], GripSettings],
        route: Callable[[str], GripRouteSettings | None] = lambda _: None,
    ) -> None:
        self._store = store
        self._wheel = wheel
        self._clock = clock
        self._metrics = metrics
        self._settings = settings
        self._route = route
        self._channels: dict[str, _Channel] = {}
        self._pacers: dict[str, Pacer] = {}

    # Channels.

    def join(self, member: Member, channel: str, filters: Sequence[str]) -> Future[None] | None:
        entry = self._channels.get(channel)
        if entry is None:
            entry = self._channels[channel] = _Channel(channel)
            self._metrics.process.grip_channels.value = len(self._channels)
            self._subscribe(entry)
        entry.members[member] = Subscription(member.kind, tuple(filters))
        entry.fan_outs.clear()
        if member.kind != "socket":
            entry.holding = True
            self._update_soon(entry)
        return entry.confirmed

    def leave(self, member: Member, channel: str) -> None:
        entry = self._channels.get(channel)
        subscription = entry.members.pop(member, None) if entry is not None else None
        if entry is None or subscription is None:
            return
        entry.fan_outs.clear()
        if entry.members:
            return
        linger_ms = int(self._settings().subscription_linger_s * 1_000)
        if subscription.kind != "response" or not linger_ms:
            self._forget(entry)
            return
        entry.left_ms = self._clock.monotonic_ms()
        if entry.lingering is None:
            entry.lingering = self._wheel.after(linger_ms, lambda: self._lingered(entry))

    def last_id(self, channel: str) -> Future[str | None]:
        answer: Future[str | None] = get_running_loop().create_future()
        entry = self._channels.get(channel)
        if entry is not None and entry.known:
            answer.set_result(entry.sequence.last)
        elif entry is None:
            self._ask_last_id(channel, None, [answer])
        else:
            entry.waiting_id.append(answer)
            if len(entry.waiting_id) == 1:
                self._ask_last_id(channel, entry, entry.waiting_id)
        return answer

    # Questions of other edges, and of the control API.

    def receivers(self, channel: str, kinds: Sequence[str]) -> int:
        """Members of this process that would be handed an item with formats for `kinds`."""
        entry = self._channels.get(channel)
        if entry is None:
            return 0
        return sum(1 for subscription in entry.members.values() if subscription.kind in kinds)

    def recover(self) -> None:
        """Forget the newest ids, and have every backend asked for what its clients may have missed."""
        for entry in tuple(self._channels.values()):
            self._release(entry)
            entry.known = True
            tell_missed(entry.name, tuple(entry.members))

    def reloaded(self) -> None:
        """Settings of routes have changed."""
        for name, pacer in list(self._pacers.items()):
            settings = self._route(name)
            if settings is not None:
                pacer.settings = settings
            elif not len(pacer):
                del self._pacers[name]
        for entry in self._channels.values():
            entry.fan_outs.clear()

    # What the bus says.

    def publication(self, publication: Publication) -> None:
        """An item arrived; its channel `is_grip`."""
        self._metrics.process.items_received.value += 1
        entry = self._channels.get(publication.channel[len(GRIP_PREFIX) :])
        if entry is None:
            return
        if publication.position.offset:
            # History and bus may both bring an item after an interruption.
            if _covers(entry.heard, publication.position):
                return
            entry.heard = publication.position
            if entry.doubtful and not entry.first.offset:
                entry.first = publication.position
        item = self._unpack(entry.name, publication)
        if item is not None:
            self._heard(entry, item)

    def interrupted(self) -> None:
        """The bus is gone: from now on items may be missed."""
        for entry in self._channels.values():
            if not entry.doubtful:
                entry.doubtful = True
                entry.mark, entry.first = entry.heard, NO_POSITION

    def restored(self, channels: Sequence[str]) -> None:
        """The bus is back on these channels (others than GRIP's are none of ours)."""
        for channel in channels:
            entry = self._channels.get(channel[len(GRIP_PREFIX) :]) if is_grip(channel) else None
            if entry is not None and entry.doubtful:
                self._catch_up(entry)

    # Inside: items.

    def _unpack(self, channel: str, publication: Publication) -> Item | None:
        try:
            payload = publication.payload
            return unpack_item(payload if isinstance(payload, bytes) else payload.encode())
        except WireError as error:
            _log.warning("channel %s: something that is no item was published: %s", channel, error)
            self._metrics.process.items_dropped["unreadable"].value += 1
            return None

    def _heard(self, entry: _Channel, item: Item) -> None:
        if not item.no_seq:
            entry.known = True
        wait_ms = int(self._settings().message_wait_s * 1_000)
        for each in entry.sequence.offer(item, self._clock.monotonic_ms(), wait_ms):
            self._fan_out(entry, each)
        self._watch(entry)

    def _fan_out(self, entry: _Channel, item: Item) -> None:
        delivery: Delivery | None = None
        for kind in FORMAT_NAMES:
            wanted = format_for(item, kind)
            if wanted is None:
                continue
            fan_out = entry.fan_outs.get(kind)
            if fan_out is None:
                fan_out = entry.fan_outs[kind] = self._fan_out_of(entry, kind)
            delivery = delivery or Delivery(item)
            fan_out.send(item, delivery, wanted)

    def _fan_out_of(self, entry: _Channel, kind: MemberKind) -> FanOut:
        return FanOut(entry.name, kind, entry.members, self._metrics, self._route, self._pacer)

    def _watch(self, entry: _Channel) -> None:
        wake_ms = entry.sequence.wake_at()
        if wake_ms is not None and entry.alarm is None:
            entry.alarm = self._wheel.at(wake_ms, lambda: self._expire(entry))

    def _expire(self, entry: _Channel) -> None:
        entry.alarm = None
        for item in entry.sequence.expire(self._clock.monotonic_ms()):
            _log.debug("channel %s: item %s has waited long enough for %s", entry.name, item.id, item.prev_id)
            self._fan_out(entry, item)
        self._watch(entry)

    def _release(self, entry: _Channel) -> None:
        for item in entry.sequence.release():
            self._fan_out(entry, item)

    def _pacer(self, route: str) -> Pacer | None:
        pacer = self._pacers.get(route)
        settings = self._route(route)
        if settings is None or not settings.message_rate:
            # What waits in a pacer that is no longer needed goes at its next turn.
            return None
        if pacer is None:
            dropped = self._metrics.process.items_dropped["rate"]
            pacer = self._pacers[route] = Pacer(route, settings, self._wheel, self._clock, dropped)
        return pacer

    # Inside: the newest id.

    def _ask_last_id(self, channel: str, entry: _Channel | None, waiting: list[Future[str | None]]) -> None:
        def read(answer: Future[HistoryPage]) -> None:
            found: str | None = None
            if not answer.cancelled() and answer.exception() is None:
                page = answer.result()
                newest = self._unpack(channel, page.publications[-1]) if page.publications else None
                found = newest.id if newest is not None else None
                if entry is not None and not entry.known:
                    entry.known = True
                    entry.sequence.last = found
            if entry is not None and entry.known:
                # What came over the bus meanwhile is newer.
                found = entry.sequence.last
            for each in waiting:
                if not each.done():
                    each.set_result(found)
            waiting.clear()

        self._store.history(GRIP_PREFIX + channel, None, 1).add_done_callback(read)

    # Inside: what may have been missed.

    def _catch_up(self, entry: _Channel) -> None:
        if not entry.mark.offset and entry.sequence.last is None:
            # No ids: nobody can know.
            entry.doubtful = False
            tell_missed(entry.name, tuple(entry.members))
            return

        def read(answer: Future[HistoryPage]) -> None:
            if self._channels.get(entry.name) is not entry or answer.cancelled() or answer.exception() is not None:
                return  # Redis went away again: `restored` follows
            entry.doubtful = False
            page = answer.result()
            newest = self._unpack(entry.name, page.publications[-1]) if page.publications else None
            if _whole(entry, page.top, newest):
                return
            self._release(entry)
            for publication in page.publications:
                # The newest of what was missed is better than nothing, for those who cannot ask anybody.
                self.publication(publication)
            entry.sequence.last = newest.id if newest is not None else None
            tell_missed(entry.name, tuple(entry.members))

        self._store.history(GRIP_PREFIX + entry.name, None, 1).add_done_callback(read)

    def _update_soon(self, entry: _Channel) -> None:
        """A second after the first subscription, have the backends asked by those who came by then."""
        if entry.confirmed is not None or entry.updating is not None or not entry.holding:
            return
        due_ms = entry.confirmed_ms + FIRST_SUBSCRIPTION_MS
        if self._clock.monotonic_ms() >= due_ms or not self._settings().update_on_first_subscription:
            return

        def update() -> None:
            unsure = [m for m, how in entry.members.items() if how.kind != "socket" and not has_id(m, entry.name)]
            tell_missed(entry.name, unsure)

        entry.updating = self._wheel.at(due_ms, update)

    # Inside: the subscription on the bus.

    def _subscribe(self, entry: _Channel) -> None:
        if self._channels.get(entry.name) is not entry:
            return

        def confirmed(answer: Future[None]) -> None:
            if self._channels.get(entry.name) is not entry:
                return
            if answer.cancelled() or answer.exception() is not None:
                # Redis is away. The store keeps the wish, but only who asks again hears when it came true.
                self._wheel.after(AGAIN_MS, lambda: self._subscribe(entry))
                return
            entry.confirmed_ms = self._clock.monotonic_ms()
            _confirm(entry)
            self._update_soon(entry)

        self._store.subscribe(GRIP_PREFIX + entry.name).add_done_callback(confirmed)

    def _lingered(self, entry: _Channel) -> None:
        entry.lingering = None
        if entry.members or self._channels.get(entry.name) is not entry:
            return
        rest_ms = entry.left_ms + int(self._settings().subscription_linger_s * 1_000) - self._clock.monotonic_ms()
        if rest_ms > 0:
            entry.lingering = self._wheel.after(rest_ms, lambda: self._lingered(entry))
        else:
            self._forget(entry)

    def _forget(self, entry: _Channel) -> None:
        del self._channels[entry.name]
        self._metrics.process.grip_channels.value = len(self._channels)
        for alarm in (entry.alarm, entry.lingering, entry.updating):
            if alarm is not None:
                alarm.cancel()
        self._store.unsubscribe(GRIP_PREFIX + entry.name)
        _confirm(entry)


def _confirm(entry: _Channel) -> None:
    confirmed, entry.confirmed = entry.confirmed, None
    if confirmed is not None and not confirmed.done():
        confirmed.set_result(None)


def _covers(seen: Position, position: Position) -> bool:
    """Was the item at `position` heard already, when `seen` is the newest one heard?"""
    return seen.epoch == position.epoch and seen.offset >= position.offset


def _whole(entry: _Channel, top: Position, newest: Item | None) -> bool:
    """Is it certain that nothing with an id came while the bus was away?"""
    mark, first = entry.mark, entry.first
    if not mark.offset:
        return newest is not None and newest.id == entry.sequence.last
    if first.offset:
        return first.epoch == mark.epoch and first.offset == mark.offset + 1
    return _covers(mark, top) and top.offset > 0
