"""What both kinds of holds share: subscriptions, the order of items by their ids, and what waits while the backend is
asked. No task and no lock: a hold is a member of its channels, and an alarm where it has a deadline.
"""

from __future__ import annotations

import logging
from asyncio import Future
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from edge.model.grip_hold import QUEUE_ITEMS, Places, Verdict
from edge.model.grip_links import resolve
from edge.protocol.callbacks.events import ClientRequest
from edge.protocol.grip.instruct import Instruct
from edge.protocol.grip.items import Item
from edge.sessions.connection import ClientExchange
from edge.sessions.grip.ports import Delivery, MemberKind
from edge.sessions.grip.ways import Way
from edge.sessions.routes import RouteHandle

if TYPE_CHECKING:
    from edge.sessions.grip.services import GripServices

_log = logging.getLogger("holdfast.grip")


@dataclass(slots=True, eq=False)
class Guest:
    """The client that is held. `uri`: what it asked for, as an absolute address. `way`: to the target that answered.
    `finished` is called once, when the hold is over."""

    services: GripServices
    route: RouteHandle
    client: ClientExchange
    request: ClientRequest
    uri: str
    way: Way
    finished: Callable[[], None]

    def complain(self, problem: str, detail: object) -> None:
        """Tell the backend's people, now and then, what is wrong with it."""
        self.way.complain(self.route.name, problem, detail, self.services.clock.monotonic_ms())

    def blame(self, problem: str, detail: object) -> None:
        """The same, of what it has said: it is counted too."""
        self.route.meters.bad_results.value += 1
        self.complain(problem, detail)


class Hold:
    """A `Member`; `ResponseHold` and `StreamHold` say what its items do, and how its backend is asked."""

    kind: MemberKind

    __slots__ = ("_again", "_asking", "_gone", "_guest", "_joining", "_meta", "_places", "_queue", "over")

    def __init__(self, guest: Guest, first: Instruct) -> None:
        self._guest = guest
        self._meta: Mapping[str, str] = {}
        self._places = Places(guest.route.settings.grip.prefix, guest.way.target.subscribe)
        self._joining: dict[str, Future[None]] = {}
        self._queue: deque[tuple[Item, bool]] = deque()
        self._asking = False
        self._again = False
        self._gone = first.gone
        self.over = False
        guest.route.meters.holds.value += 1
        for name in guest.way.target.subscribe:
            self._join(name, ())

    # Member.

    @property
    def meta(self) -> Mapping[str, str]:
        return self._meta

    @property
    def channels(self) -> Mapping[str, str | None]:
        return self._places.prev_ids

    @property
    def route(self) -> str:
        return self._guest.route.name

    def deliver(self, delivery: Delivery) -> None:
        # Called once for every client of a publication: what most of them need stands here.
        if self._asking or self.over:
            self._came(delivery.item, dropped=False)
        elif self._places.sequenced:
            self._take(delivery.item, False)
        else:
            self._act(delivery.item)

    def skipped(self, item: Item, problem: str | None = None) -> None:
        if problem is None:
            self._came(item, dropped=True)
        elif not self.over and self._guest.route.settings.grip.debug:
            self._fail(problem)
        elif self._places.prev_ids.get(item.channel) is not None:
            # It was meant for this client: the backend can say it in the client's own way.
            self.missed(item.channel)

    def missed(self, channel: str) -> None:
        if self.over:
            return
        if not self._asking:
            self._ask(spread=True)
        elif self._sent:
            self._again = True

    # What differs.

    def _act(self, item: Item) -> None:
        """An item is due: show it to the client."""
        raise NotImplementedError

    def _ask(self, *, spread: bool) -> None:
        """Ask the backend for what there is now, if it can be asked; then `_asking`, until `_answered`. `spread`:
        nobody waits for it this moment."""
        raise NotImplementedError

    @property
    def _sent(self) -> bool:
        """The question has left: what happens from now on may not be in its answer."""
        raise NotImplementedError

    def _fail(self, phrase: str) -> None:
        """Something was wrong that ends the hold; `phrase` is for clients of routes in debug mode."""
        raise NotImplementedError

    # What they have in common.

    def _adopt(self, instruct: Instruct) -> None:
        """Be subscribed to what `instruct` says, and to nothing else."""
        guest = self._guest
        self._meta = instruct.meta
        change = self._places.replace(instruct.channels, guest.route.settings.limits.subscriptions)
        if change.dropped:
            guest.route.meters.limits_hit["subscriptions"].value += 1
            _log.debug("route %s: %d subscriptions of a hold are too many", guest.route.name, change.dropped)
        for name in change.left:
            self._joining.pop(name, None)
            guest.services.channels.leave(self, name)
        for name, filters in change.joined:
            self._join(name, filters)

    def _join(self, name: str, filters: Sequence[str]) -> None:
        joined = self._guest.services.channels.join(self, name, filters)
        if joined is None:
            self._joining.pop(name, None)
        else:
            self._joining[name] = joined

    def _answered(self) -> None:
        """The backend's answer has been adopted: go on with what came meanwhile."""
        self._asking = False
        while self._queue and not self._asking and not self.over:
            self._take(*self._queue.popleft())
        if self._asking or self.over:
            return
        if self._again:
            self._again = False
            self._ask(spread=True)
        else:
            self._compare()

    def _compare(self) -> None:
        """See whether the channels are where the backend took them to be: an item that was published after its answer
        and before our subscription would be missed otherwise."""
        for name in self._places.to_compare():
            joining = self._joining.get(name)
            if joining is None or joining.done():
                self._compare_one(name)
            else:
                joining.add_done_callback(partial(self._joined, name))

    def _joined(self, name: str, joining: Future[None]) -> None:
        if not self.over:
            self._compare_one(name)

    def _compare_one(self, name: str) -> None:
        answer = self._guest.services.channels.last_id(name)
        if answer.done():
            self._told_last_id(name, answer)
        else:
            answer.add_done_callback(partial(self._told_last_id, name))

    def _told_last_id(self, name: str, answer: Future[str | None]) -> None:
        if self.over or self._asking or answer.cancelled():
            return
        if self._places.behind(name, answer.result()):
            self._ask(spread=True)

    def _came(self, item: Item, *, dropped: bool) -> None:
        if self.over or item.channel not in self._places:
            return
        if not self._asking:
            self._take(item, dropped)
        elif len(self._queue) < QUEUE_ITEMS:
            self._queue.append((item, dropped))
        else:
            # What is let go here is fetched, if there is a way to.
            self._again = True
            self._guest.route.meters.limits_hit["hold_queue"].value += 1

    def _take(self, item: Item, dropped: bool) -> None:
        if item.channel not in self._places:
            return
        verdict = self._places.judge(item)
        if verdict is Verdict.GAP:
            self._queue.clear()
            self._ask(spread=True)
        elif verdict is Verdict.TAKE:
            self._places.took(item)
            if not dropped:
                self._act(item)

    def _finish(self) -> None:
        """The client has what it is owed, or is gone. Repeatable."""
        if not self.over:
            self._release()
            self._guest.finished()

    def _release(self) -> None:
        """Nothing is held any more."""
        self.over = True
        guest = self._guest
        guest.route.meters.holds.value -= 1
        self._queue.clear()
        for name in self._places:
            guest.services.channels.leave(self, name)
        if self._gone is not None:
            uri = resolve(guest.uri, self._gone.uri)
            if uri is not None:
                guest.services.links.gone(guest.route, guest.uri, uri)
