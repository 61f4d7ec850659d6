"""Orders for links, wherever they live now: in order, and each carried out once.

A link moves when its edge dies or goes down. So an order that found nobody, or whose receipt did not come, is given
again to whoever owns the link then, until its time is up; the names of its actions keep it from being done twice. One
order to a link is under way at a time, those behind it wait: they are carried out in the order given.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edge.errors import Conflict, HoldfastError, NotConfirmed, QueueFull, SessionGone, StoreUnavailable
from edge.protocol.callbacks.actions import Result, XmppConnect
from edge.sessions.links.link import Link
from edge.sessions.routes import RouteHandle
from edge.store.links_base import LinkRow

if TYPE_CHECKING:
    from edge.sessions.links.house import House
    from edge.sessions.post import Post

_log = logging.getLogger("holdfast.links")

ORDER_S = 40.0
"""For an order to be carried out: a lease that runs out, and a server that is reached meanwhile."""
WAITING = 1_000
"""Orders of this process that may wait for one link. More are refused."""
AGAIN_S = 0.1


@dataclass(slots=True, eq=False)
class _Order:
    result: Result
    handle: RouteHandle | None
    done: Future[None]
    until: float


class LinkPost:
    """One per process."""

    def __init__(self, house: House, post: Post) -> None:
        self._house = house
        self._post = post
        self._lanes: dict[str, deque[_Order]] = {}
        self._asked: dict[str, int] = {}
        """How many orders links of ours have not answered yet."""

    @property
    def waiting(self) -> int:
        """Orders that are not carried out yet, and would be lost with this process."""
        return sum(map(len, self._lanes.values()))

    def act(self, target: str, result: Result, handle: RouteHandle | None) -> Future[None]:
        """Carry out `result` on link `target`; an order to connect begins it, for the backend of `handle`. Fails with
        `SessionGone`, `Conflict`, `NotConfirmed`, or `StoreError`."""
        loop = self._house.services.loop
        done: Future[None] = loop.create_future()
        order = _Order(result, handle, done, loop.time() + ORDER_S)
        lane = self._lanes.get(target)
        link = self._house.get(target)
        here = lane is None and link is not None and not result.connects
        if (self._asked.get(target, 0) if here else len(lane or ())) >= WAITING:
            done.set_exception(QueueFull(f"{WAITING} orders wait for link {target}: come back later"))
        elif here and link is not None:
            self._ask(link, order)
        else:
            self._queue(target, order)
        return done

    def _ask(self, link: Link, order: _Order) -> None:
        """A link of ours, at once. It answers when Redis has what it did, and Redis may be away for longer than anybody
        waits."""
        target = link.id
        late = NotConfirmed(f"link {target} did not answer within {ORDER_S:g} s; it may yet be carried out")
        alarm = self._house.services.loop.call_at(order.until, _finish, order, late)
        self._asked[target] = self._asked.get(target, 0) + 1

        def answered(error: HoldfastError | None) -> None:
            alarm.cancel()
            self._asked[target] -= 1
            if not self._asked[target]:
                del self._asked[target]
            self._replied(target, order, error)

        link.order(order.result, answered)

    def _queue(self, target: str, order: _Order) -> None:
        """Behind those that wait already, if any do."""
        lane = self._lanes.get(target)
        if lane is None:
            self._lanes[target] = lane = deque()
            self._house.services.loop.create_task(self._run(target, lane), name=f"orders for {target}")
        lane.append(order)

    def _replied(self, target: str, order: _Order, error: HoldfastError | None) -> None:
        """A link of ours has answered. One that leaves takes its orders with it to its next owner."""
        link = self._house.get(target)
        if isinstance(error, SessionGone) and (link is None or link.moving) and not order.done.done():
            self._queue(target, order)
        else:
            _finish(order, error)

    async def _run(self, target: str, lane: deque[_Order]) -> None:
        try:
            while lane:
                order = lane[0]
                try:
                    error = await self._carry_out(target, order)
                except Exception as trouble:
                    _log.exception("an order for link %s failed", target)
                    error = NotConfirmed(str(trouble))
                lane.popleft()
                _finish(order, error)
        finally:
            del self._lanes[target]

    async def _carry_out(self, target: str, order: _Order) -> HoldfastError | None:
        loop = self._house.services.loop
        last: HoldfastError = NotConfirmed(f"link {target} has no owner now")
        while loop.time() < order.until:
            try:
                async with asyncio.timeout_at(order.until):
                    return await self._try(target, order)
            except (StoreUnavailable, NotConfirmed) as error:
                last = error
            except _Moved as moved:
                last = NotConfirmed(str(moved))
            except TimeoutError:
                break
            except HoldfastError as error:
                return error
            await asyncio.sleep(AGAIN_S * (0.5 + self._house.services.random()))
        return NotConfirmed(f"link {target} was not reached within {ORDER_S:g} s: {last}")

    async def _try(self, target: str, order: _Order) -> HoldfastError | None:
        house, store = self._house, self._house.services.shared.store.links
        link = house.get(target)
        if link is None:
            if order.handle is not None and not house.closed and order.result.connects:
                found, begun = await self._connect(target, order.result, order.handle)
                if begun:
                    return None
                row = found if isinstance(found, LinkRow) else None
                link = found if isinstance(found, Link) else None
            else:
                row = await store.load(target)
        if link is None:
            if row is None and order.result.connects:
                if order.handle is not None:
                    return NotConfirmed("this edge is going down and begins no links: ask another one")
                return Conflict("a link is begun by the backend whose events it will be: in an answer to an event")
            if row is None:
                return SessionGone(f"there is no link {target}")
            if row.owner == house.services.shared.edge_id or not row.owner:
                # Given away a moment ago, or just now on its way to us.
                link = await house.claim(target)
                if link is None:
                    raise _Moved(f"link {target} has no owner now")
            else:
                try:
                    await self._post.send_order(row.owner, target, order.result)
                except SessionGone as error:
                    raise _Moved(str(error)) from None
                return None
        return await self._locally(link, order.result)

    async def _locally(self, link: Link, result: Result) -> HoldfastError | None:
        answered: Future[HoldfastError | None] = self._house.services.loop.create_future()
        link.order(result, lambda error: None if answered.done() else answered.set_result(error))
        error = await answered
        if isinstance(error, SessionGone) and (link.moving or self._house.get(link.id) is not link):
            raise _Moved(str(error))
        return error

    async def _connect(self, target: str, result: Result, handle: RouteHandle) -> tuple[Link | LinkRow, bool]:
        """Begin the link, then have it carry out what else was ordered. As `House.connect`."""
        first, action = next(
            (index, action) for index, action in enumerate(result.actions) if isinstance(action, XmppConnect)
        )
        found, begun = await self._house.connect(target, action, handle)
        rest = tuple(other for index, other in enumerate(result.actions) if index != first)
        if begun and isinstance(found, Link) and (rest or result.state_set or result.state_unset):
            error = await self._locally(found, replace(result, actions=rest))
            if error is not None:
                raise error
        return found, begun


class _Moved(Exception):
    """The link is on its way from one owner to the next."""


def _finish(order: _Order, error: HoldfastError | None) -> None:
    if order.done.done():
        return
    if error is None:
        order.done.set_result(None)
    else:
        order.done.set_exception(error)
