"""The rules of holds: what an answer means, which items a hold takes, when it asks its backend again. Pure.

Bytes and deadlines are `edge.sessions.grip`'s business. Source of the rules: Pushpin's documentation of GRIP, and the
behaviour of its release 1.36 where that is silent.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edge.protocol.callbacks.events import Headers
from edge.protocol.grip.instruct import HeldChannel, Instruct
from edge.protocol.grip.items import Item, ResponseFormat

QUEUE_ITEMS = 100
"""Items that wait while a hold asks its backend. What comes on top is asked for instead."""
LEAST_TIMEOUT_S = 5.0
"""A held response is held this long at least."""
LEAST_KEEP_ALIVE_S = 1.0
JITTER_MS = 1_000
"""Timers of many holds that began together are shortened by up to this much, so that they do not ring together."""


class Plan(enum.Enum):
    """What is to be done with an answer."""

    GIVE = "give"
    """Nothing is held: it goes to the client as it is."""
    RESPONSE = "response"
    """It is kept, and given when the time is out."""
    STREAM = "stream"
    """It is the beginning of a body that publications continue."""
    CHAIN = "chain"
    """It is the beginning of a body that the next link continues."""


def plan_of(instruct: Instruct) -> Plan:
    """What `instruct` asks for."""
    if instruct.hold == "response":
        return Plan.RESPONSE
    if instruct.hold == "stream":
        return Plan.STREAM
    return Plan.GIVE if instruct.next is None else Plan.CHAIN


def flaw_of(instruct: Instruct) -> str | None:
    """Why a stream hold cannot be kept up: ids without a link that could fetch what was missed between them."""
    if instruct.hold == "stream" and instruct.next is None:
        for channel in instruct.channels:
            if channel.prev_id is not None:
                return f"channel '{channel.name}' specifies prev-id, but no next link found"
    return None


@dataclass(slots=True)
class _Place:
    """One subscription: where in the channel's sequence the client is."""

    name: str
    """As the backend calls it."""
    prev_id: str | None
    filters: Sequence[str]
    implicit: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What a new instruction changes. `joined` are new subscriptions and those with other filters."""

    joined: Sequence[tuple[str, Sequence[str]]]
    left: Sequence[str]
    dropped: int
    """Subscriptions beyond the limit."""


class Verdict(enum.Enum):
    """Whether an item continues what the client has."""

    TAKE = "take"
    SEEN = "seen"
    """The backend's answer had it already."""
    GAP = "gap"
    """Something is missing before it."""


class Places:
    """The subscriptions of one hold, by full name: prefix and all."""

    __slots__ = ("_active", "_doubted", "_places", "_prefix", "sequenced")

    def __init__(self, prefix: str, implicit: Sequence[str]) -> None:
        """`implicit` are full names already: the route's operator gave them."""
        self._prefix = prefix
        self._places = {name: _Place(name, None, (), implicit=True) for name in implicit}
        self._active: set[str] = set()
        self._doubted: dict[str, str] = {}
        self.sequenced = False
        """There are ids: items have to be judged."""

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, channel: str) -> bool:
        return channel in self._places

    def __len__(self) -> int:
        return len(self._places)

    @property
    def prev_ids(self) -> Mapping[str, str | None]:
        """The newest id the client has, per channel; None: the backend gave none."""
        return {name: place.prev_id for name, place in self._places.items()}

    def replace(self, channels: Sequence[HeldChannel], most: int) -> Change:
        """Hold these channels from now on, at most `most` of them (0: any number), and the implicit ones."""
        dropped = max(0, len(channels) - most) if most else 0
        wanted = {self._prefix + channel.name: channel for channel in channels[: len(channels) - dropped]}
        left = [name for name, place in self._places.items() if name not in wanted and not place.implicit]
        for name in left:
            del self._places[name]
            self._doubted.pop(name, None)
        joined = []
        for name, channel in wanted.items():
            place = self._places.get(name)
            if place is None or tuple(place.filters) != tuple(channel.filters):
                joined.append((name, channel.filters))
            implicit = place is not None and place.implicit
            self._places[name] = _Place(channel.name, channel.prev_id, channel.filters, implicit)
        self._active.clear()
        self.sequenced = any(place.prev_id is not None for place in self._places.values())
        return Change(joined, left, dropped)

    def judge(self, item: Item) -> Verdict:
        """Whether `item` follows what the client has of its channel. Without ids everything does."""
        prev_id = self._places[item.channel].prev_id
        if prev_id is None or prev_id == item.prev_id:
            return Verdict.TAKE
        return Verdict.SEEN if item.id == prev_id else Verdict.GAP

    def took(self, item: Item) -> None:
        """`item` was delivered, or dropped by a filter: its successor is next."""
        place = self._places[item.channel]
        if place.prev_id is not None:
            place.prev_id = item.id

    def to_compare(self) -> Sequence[str]:
        """Channels whose newest id has to be the one the backend continued from."""
        return [name for name, place in self._places.items() if place.prev_id is not None]

    def behind(self, channel: str, last_id: str | None) -> bool:
        """Whether the hold is not where its channel is. False when the backend was asked about this id before: it
        knows better, most likely because what it wrote is still on its way to us."""
        place = self._places.get(channel)
        if place is None or place.prev_id is None or last_id is None or last_id == place.prev_id:
            return False
        if self._doubted.get(channel) == last_id:
            return False
        self._doubted[channel] = last_id
        return True

    def last_ids(self) -> Sequence[tuple[str, str]]:
        """For Grip-Last: each channel, as the backend calls it, with the id the client has."""
        return [(place.name, place.prev_id) for place in self._places.values() if place.prev_id is not None]

    def all_active(self, channel: str) -> bool:
        """Something of `channel` was sent. True when that has now happened on every channel, and starts again."""
        self._active.add(channel)
        if len(self._active) < len(self._places):
            return False
        self._active.clear()
        return True


def hold_ms(timeout_s: float) -> int:
    """How long a response is held."""
    return int(max(timeout_s, LEAST_TIMEOUT_S) * 1_000)


def keep_alive_ms(timeout_s: float, random: float) -> int:
    """From anything sent to the keep-alive. `random` is in [0, 1)."""
    return max(0, int(max(timeout_s, LEAST_KEEP_ALIVE_S) * 1_000 - random * JITTER_MS))


def exposed_headers(headers: Headers, exposed: Sequence[str] | None) -> Headers:
    """Of `headers` those a client may see: no instructions, and only `exposed` (lower case), if that is given."""
    return [
        (name, value)
        for name, value in headers
        if not name.lower().startswith("grip-") and (exposed is None or name.lower() in exposed)
    ]


def published_headers(held: Headers, pushed: ResponseFormat) -> Headers:
    """Headers of a published answer: those of the held one, unless it brings its own of the same name. It may say
    with Grip-Expose-Headers which of all these are shown."""
    own = {name.lower() for name, _ in pushed.headers}
    exposed = [
        each.strip().lower()
        for name, value in pushed.headers
        if name.lower() == "grip-expose-headers"
        for each in value.split(",")
    ]
    headers = [(name, value) for name, value in held if name.lower() not in own and name.lower() != "content-length"]
    headers += [(name, value) for name, value in pushed.headers if name.lower() != "content-length"]
    return exposed_headers(headers, exposed or None)


def content_filters(instruct: Instruct) -> Sequence[str]:
    """The filters of all channels, each once, in order: what the body of the answer itself may have to pass."""
    return list(dict.fromkeys(name for channel in instruct.channels for name in channel.filters))
