"""The bus: which channels this process wants, and on which server it listens for each.

`Bus` owns the wishes; a `BusNode` owns one pub/sub socket and makes its server's idea of our subscriptions
follow
them. In a cluster a channel is heard at the primary of its slot, sharded where the server can (7.0), else
classic.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from redis.crc import key_slot

from edge.errors import StoreUnavailable
from edge.store.base import BusListener
from edge.store.bus_node import BusNode
from edge.store.channels import decode
from edge.store.keys import Keys
from edge.store.leases import open_letter
from edge.store.router import Router


class Wish:
    """A channel this process wants to hear. `channel` is None for the edge's own mail."""

    __slots__ = ("channel", "confirmed", "node", "slot", "waiters")

    def __init__(self, channel: str | None, slot: int) -> None:
        self.channel = channel
        self.slot = slot
        self.node: BusNode | None = None
        self.confirmed = False
        self.waiters: list[Future[None]] = []


class Bus:
    """`subscribe` and `unsubscribe` of the store, and everything that arrives."""

    def __init__(self, router: Router, keys: Keys, edge: str) -> None:
        self._router = router
        self._keys = keys
        self._edge = edge
        self.wishes: dict[bytes, Wish] = {}
        self._nodes: dict[str, BusNode] = {}
        self._one: BusNode | None = None
        self._due: deque[tuple[float, Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._listener: BusListener
        self._publication: Callable[[Any], None]
        self._recovering: set[bytes] = set()
        self._recovered: list[str] = []
        self._closed = False
        self._loop: asyncio.AbstractEventLoop

    def start(self, listener: BusListener) -> Future[None]:
        """Connect; ends when mail is heard."""
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._publication = listener.publication
        if self._router.address.kind != "cluster":
            name = str(self._router.address)
            self._one = self._nodes[name] = BusNode(self, self._router, name)
        self._router.on_topology = self._reconcile
        return self._wish(self._keys.mail(self._edge), None)

    def subscribe(self, channel: str) -> Future[None]:
        return self._wish(self._keys.bus(channel), channel)

    def unsubscribe(self, channel: str) -> None:
        name = self._keys.bus(channel).encode()
        wish = self.wishes.pop(name, None)
        if wish is None:
            return
        self._recovering.discard(name)
        for waiter in wish.waiters:
            if not waiter.done():
                # Not a cancellation: that would end the task which awaits it.
                waiter.set_exception(StoreUnavailable("unsubscribed before Redis had confirmed"))
                waiter.exception()  # whoever gave the channel up need not look
        if wish.node is not None:
            wish.node.touch(name)

    def _wish(self, key: str, channel: str | None) -> Future[None]:
        future: Future[None] = self._loop.create_future()
        try:
            name = key.encode()
        except UnicodeEncodeError as error:
            future.set_exception(StoreUnavailable(f"no channel can be called that: {error}"))
            return future
        wish = self.wishes.get(name)
        if wish is None:
            clustered = self._one is None
            wish = self.wishes[name] = Wish(channel, key_slot(name) if clustered else 0)
            self._place(name, wish)
        if wish.confirmed:
            future.set_result(None)
            return future
        wish.waiters.append(future)
        due = self._loop.time() + self._router.wait_s
        self._due.append((due, future))
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._expire)
        return future

    def _place(self, name: bytes, wish: Wish) -> None:
        node = self._one or self._nodes.get(self._router.slots.get(wish.slot, ""))
        wish.node = node
        if node is not None:
            node.touch(name)

    def _expire(self) -> None:
        """Refuse waiters whose time is over; their wishes stay."""
        now = self._loop.time()
        while self._due and (self._due[0][0] <= now or self._due[0][1].done()):
            _, future = self._due.popleft()
            if not future.done():
                future.set_exception(StoreUnavailable("Redis has not confirmed the subscription in time"))
        self._timer = self._loop.call_at(self._due[0][0], self._expire) if self._due else None

    def _reconcile(self) -> None:
        """The cluster's layout is known anew: listen where the channels are now."""
        if self._closed:
            return
        current = set(self._router.slots.values())
        gone = [self._nodes.pop(server) for server in list(self._nodes) if server not in current]
        for server in current - set(self._nodes):
            self._nodes[server] = BusNode(self, self._router, server)
        for node in gone:
            node.retire()
        moved = False
        for name, wish in self.wishes.items():
            before = wish.node
            if self._nodes.get(self._router.slots.get(wish.slot, "")) is before:
                continue
            if wish.confirmed:
                # Publications between the slot's move and our subscription there went past us.
                wish.confirmed = False
                self._recovering.add(name)
                moved = True
            self._place(name, wish)
            if before is not None:
                before.touch(name)
        if moved:
            self._call(self._listener.interrupted)

    # ------------------------------------------------------------------ what nodes tell

    def heard(self, name: bytes, data: bytes) -> None:
        """A message on one of our channels."""
        wish = self.wishes.get(name)
        if wish is None:
            return
        try:
            if wish.channel is not None:
                self._publication(decode(wish.channel, data))
            else:
                self._listener.mail(*open_letter(data))
        except Exception as error:
            # One bad message or a bug in a listener must not cost the others their bus.
            self._report("a message on the bus could not be handled", error)

    def confirmed(self, name: bytes) -> None:
        """The server has confirmed our newest subscription to `name`."""
        wish = self.wishes.get(name)
        if wish is None:
            return
        wish.confirmed = True
        waiters, wish.waiters = wish.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if name in self._recovering:
            self._recovering.discard(name)
            if wish.channel is not None:
                self._recovered.append(wish.channel)

    def lost(self, names: Sequence[bytes]) -> None:
        """A node's socket broke, or its server dropped these subscriptions."""
        for name in names:
            wish = self.wishes.get(name)
            if wish is not None:
                wish.confirmed = False
                self._recovering.add(name)
        if not self._closed:
            self._call(self._listener.interrupted)
            self._router.refresh()

    def caught_up(self, node: BusNode, was_lost: bool) -> None:
        """Every subscription asked of `node` is confirmed."""
        recovered, self._recovered = self._recovered, []
        if was_lost or recovered:
            self._call(lambda: self._listener.restored(recovered))

    def _call(self, what: Callable[[], None]) -> None:
        try:
            what()
        except Exception as error:
            self._report("a bus listener failed", error)

    def _report(self, message: str, error: Exception) -> None:
        self._loop.call_exception_handler({"message": message, "exception": error})

    async def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for wish in self.wishes.values():
            for waiter in wish.waiters:
                if not waiter.done():
                    waiter.set_exception(StoreUnavailable("the store is closed"))
        for node in self._nodes.values():
            node.retire()
        await asyncio.gather(*(node.ended() for node in self._nodes.values()))
