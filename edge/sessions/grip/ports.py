"""The borders inside GRIP: what is held (`Member`, `Held`), and where publications come from (`Channels`)."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, Protocol

from edge.protocol.grip.items import Item
from edge.sessions.connection import Frame

MemberKind = Literal["socket", "stream", "response"]


class Delivery:
    """An item on its way to any number of members, encoded at most once.

    `item` is what is delivered: a filter that changes content makes a delivery of its own for its members.
    """

    __slots__ = ("frame", "item")

    def __init__(self, item: Item) -> None:
        self.item = item
        socket = item.socket
        self.frame = Frame(socket.content) if socket is not None and socket.kind in ("text", "binary") else None
        """Of a ``ws-message`` that is sent as a data frame."""


class Member(Protocol):
    """Something held that is subscribed to channels."""

    @property
    def kind(self) -> MemberKind:
        """Which of an item's formats it takes."""
        ...

    @property
    def meta(self) -> Mapping[str, str]:
        """Subscription meta, for filters."""
        ...

    @property
    def channels(self) -> Collection[str] | Mapping[str, str | None]:
        """All channels it is subscribed to (full names), for ``require-sub``; as a mapping, with the id of the newest
        item the client has of each, for ``build-id``."""
        ...

    @property
    def route(self) -> str:
        """Name of its route: deliveries are counted and limited by route."""
        ...

    def deliver(self, delivery: Delivery) -> None:
        """An item of its format has come, in the order of its channel, and has passed its filters."""
        ...

    def skipped(self, item: Item, problem: str | None = None) -> None:
        """An item of its format has come that its filters keep from it. Its successor follows it all the same: without
        this, a hold with ids would take the next item for one with a gap before it. `problem`: its filters could not
        be carried out, or are not those the publisher assumed; a client of a route in debug mode is told."""
        ...

    def missed(self, channel: str) -> None:
        """Something of `channel` may have been missed, and only the backend knows what (a first subscription that
        may have come too late, ``recover``, a bus that was away): ask it, if there is a way to."""
        ...


class Channels(Protocol):
    """Channels of GRIP routes in this process. Full names, the route's prefix included; a name space of its own beside
    the channels of callback routes.

    Per channel items come in sequence (prev-id), once (id), and are handed to all members in one call of the loop.
    """

    def join(self, member: Member, channel: str, filters: Sequence[str]) -> Future[None] | None:
        """Subscribe, or replace the filters. None: every later item is sure to come; else a future that ends then (it
        may be shared: do not cancel it). It never fails: without Redis it stands when Redis is back.

        A second after this process's first subscription to the channel, streams and responses that know no id of it
        (`Member.channels`) are told `missed`. Those with an id compare it with `last_id`."""
        ...

    def leave(self, member: Member, channel: str) -> None:
        """End a subscription, if there is one."""
        ...

    def last_id(self, channel: str) -> Future[str | None]:
        """The id of the newest item of `channel`, as far as anybody remembers: this process while it is subscribed,
        Redis for a while after the item. None: unknown. Never fails. Ask after `join` has ended."""
        ...


class Held(Protocol):
    """A client that is held, as a drain sees it."""

    @property
    def closable(self) -> bool:
        """A client is connected and has not been told to go."""
        ...

    def leave(self, code: int, reason: str, cause: str) -> None:
        """End it politely: what it is owed first. A socket closes with `code` and `reason`; a stream's body ends; a
        held response gets its timeout answer."""
        ...

    def leave_now(self) -> None:
        """Wait no longer."""
        ...
