"""Who is on a channel, and how an item reaches them all.

What an item costs here it costs thousands of times, so members without filters and without a rate limit stand ready as
bound methods, and their deliveries are counted once per item and route. A member that raises is logged and counted;
the others get theirs.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from edge.config import GripRouteSettings
from edge.protocol.grip.filters import Dropped, Sieve
from edge.protocol.grip.items import Item, ResponseFormat, SocketFormat, StreamFormat
from edge.sessions.grip.pacing import Pacer
from edge.sessions.grip.ports import Delivery, Member, MemberKind
from edge.telemetry.metrics import Counter, Metrics

_log = logging.getLogger("holdfast.grip")

Format = SocketFormat | StreamFormat | ResponseFormat
FORMAT_NAMES: Mapping[MemberKind, str] = {
    "socket": "ws-message",
    "stream": "http-stream",
    "response": "http-response",
}
FindPacer = Callable[[str], Pacer | None]
"""Route name → its pacer; None: no limit."""
FindRoute = Callable[[str], GripRouteSettings | None]


class Subscription(NamedTuple):
    """How a member is subscribed."""

    kind: MemberKind
    filters: Sequence[str]


Members = dict[Member, Subscription]


class _Special(NamedTuple):
    """A member that needs a look of its own: it has filters, or its route a limited rate."""

    member: Member
    how: Subscription
    pacer: Pacer | None
    prefix: str
    delivered: Counter


def format_for(item: Item, kind: MemberKind) -> Format | None:
    """What `item` has for members of this kind."""
    match kind:
        case "socket":
            return item.socket
        case "stream":
            return item.stream
        case "response":
            return item.response


def formats_of(item: Item) -> Sequence[MemberKind]:
    """Kinds of members `item` has something for."""
    return [kind for kind in FORMAT_NAMES if format_for(item, kind) is not None]


class FanOut:
    """The members of one channel and kind, until somebody comes or goes."""

    __slots__ = ("_channel", "_counters", "_kind", "_metrics", "_sends", "_special", "members")

    def __init__(
        self, channel: str, kind: MemberKind, members: Members, metrics: Metrics, route: FindRoute, pacer: FindPacer
    ) -> None:
        self.members = members
        self._channel = channel
        self._kind: MemberKind = kind
        self._metrics = metrics
        sends = []
        self._special: list[_Special] = []
        self._counters: dict[Counter, int] = {}
        for member, subscription in members.items():
            if subscription.kind != kind:
                continue
            paced = pacer(member.route)
            counter = metrics.route(member.route, "").items_delivered[FORMAT_NAMES[kind]]
            if subscription.filters or paced is not None:
                settings = route(member.route)
                prefix = settings.prefix if settings is not None else ""
                self._special.append(_Special(member, subscription, paced, prefix, counter))
            else:
                sends.append(member.deliver)
                self._counters[counter] = self._counters.get(counter, 0) + 1
        self._sends = tuple(sends)

    def send(self, item: Item, delivery: Delivery, wanted: Format) -> None:
        """Hand `delivery` (of `item`, whose format for this kind is `wanted`) to everybody."""
        if self._sends:
            if wanted.filters:
                problem = f"content filter mismatch: subscription= message={','.join(wanted.filters)}"
                self._skip_plain(item, problem)
            else:
                self._send_plain(delivery)
        if not self._special:
            return
        sieve = Sieve(item, self._kind)
        deliveries = {id(item): delivery}
        for special in self._special:
            try:
                self._send_special(special, item, deliveries, wanted, sieve)
            except Exception:
                self._failed()

    def _send_plain(self, delivery: Delivery) -> None:
        sends = iter(self._sends)
        while True:
            try:
                # After an error the iterator goes on behind the member that raised.
                for send in sends:
                    send(delivery)
                break
            except Exception:
                self._failed()
        for counter, count in self._counters.items():
            counter.value += count

    def _skip_plain(self, item: Item, problem: str) -> None:
        special = {each.member for each in self._special}
        for member, how in tuple(self.members.items()):
            if how.kind == self._kind and member not in special:
                self._skip(member, item, problem)

    def _send_special(
        self, special: _Special, item: Item, deliveries: dict[int, Delivery], wanted: Format, sieve: Sieve
    ) -> None:
        """`deliveries` by the `id` of their items: members whose filters make the same of it share one."""
        member, delivery = special.member, deliveries[id(item)]
        problem: Dropped | None = None
        if special.how.filters or wanted.filters:
            passed = sieve.apply(special.how.filters, member.meta, member.channels, special.prefix)
            if isinstance(passed, Dropped):
                problem = passed
            else:
                delivery = deliveries.get(id(passed)) or deliveries.setdefault(id(passed), Delivery(passed))
        if problem is not None:
            act = functools.partial(self._skip, member, item, problem.problem)
        else:
            act = functools.partial(self._in_turn, special, delivery)
        if special.pacer is None:
            act()
        else:
            special.pacer.put(item.size if item.size is not None else size_of(wanted), act)

    def _in_turn(self, special: _Special, delivery: Delivery) -> None:
        """A delivery that may have waited for its route's rate: whoever left meanwhile gets nothing."""
        if special.member not in self.members:
            return
        try:
            special.member.deliver(delivery)
            special.delivered.value += 1
        except Exception:
            self._failed()

    def _skip(self, member: Member, item: Item, problem: str | None) -> None:
        if problem is not None:
            _log.debug("channel %s: item %s was kept from a member: %s", self._channel, item.id, problem)
        self._dropped("filter" if problem is None else "content_filters", 1)
        try:
            member.skipped(item, problem)
        except Exception:
            self._failed()

    def _dropped(self, reason: str, count: int) -> None:
        self._metrics.process.items_dropped[reason].value += count

    def _failed(self) -> None:
        _log.exception("channel %s: a member could not take an item", self._channel)
        self._dropped("failed", 1)


def size_of(wanted: Format) -> int:
    """Bytes of what is delivered."""
    match wanted:
        case SocketFormat(content=content):
            return len(content.encode("utf-8", "replace")) if isinstance(content, str) else len(content)
        case StreamFormat(content=content):
            return len(content)
        case ResponseFormat(body=body):
            return len(body)


def has_id(member: Member, channel: str) -> bool:
    """Does `member` know which item of `channel` its client has seen last?"""
    channels = member.channels
    return isinstance(channels, Mapping) and channels.get(channel) is not None


def tell_missed(channel: str, members: Iterable[Member]) -> None:
    """Call `missed` of each; one that raises keeps none of the others from hearing it."""
    for member in members:
        _missed(member, channel)


def _missed(member: Member, channel: str) -> None:
    try:
        member.missed(channel)
    except Exception:
        _log.exception("channel %s: a member could not be told that it missed something", channel)
