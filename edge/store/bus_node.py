"""One pub/sub socket, and a server's idea of our subscriptions kept equal to ours."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from redis.crc import key_slot

from edge.errors import StoreError
from edge.store.lane import backoff_s
from edge.store.router import Router
from edge.store.wire import REPLY_ERROR, Reply, Wire, ask, pack

_MESSAGES = (b"message", b"smessage")
_SUBSCRIBED = (b"subscribe", b"ssubscribe")
_UNSUBSCRIBED = (b"unsubscribe", b"sunsubscribe")
_RETRY_S = 0.1


class BusOwner(Protocol):
    """What a node needs from the bus above it."""

    @property
    def wishes(self) -> Mapping[bytes, Any]:
        """Pub/sub name → wish, whose `node` says where it is to be heard."""
        ...

    def heard(self, name: bytes, data: bytes) -> None: ...

    def confirmed(self, name: bytes) -> None: ...

    def lost(self, names: Sequence[bytes]) -> None: ...

    def caught_up(self, node: BusNode, was_lost: bool) -> None: ...


class BusNode:
    """Subscriptions at one server. Changes of one loop tick leave in one write."""

    def __init__(self, bus: BusOwner, router: Router, name: str) -> None:
        self.name = name
        self._bus = bus
        self._router = router
        self._loop = asyncio.get_running_loop()
        self._wire: Wire | None = None
        self._sharded = False
        self._sent: set[bytes] = set()
        """Names the server will count as subscribed once it has read all we wrote."""
        self._asked: deque[set[bytes]] = deque()
        """Names of each SUBSCRIBE that is out; replies come in this order."""
        self._leaving: dict[bytes, int] = {}
        """Name → UNSUBSCRIBEs that are out."""
        self._dirty: set[bytes] = set()
        self._flush_due = False
        self._was_lost = False
        self._retired = False
        self._ping: asyncio.TimerHandle | None = None
        self._connecting = self._loop.create_task(self._connect())

    def touch(self, name: bytes) -> None:
        """The wish for `name` has changed."""
        self._dirty.add(name)
        if not self._flush_due and self._wire is not None:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _wanted(self, name: bytes) -> bool:
        wish = self._bus.wishes.get(name)
        return wish is not None and wish.node is self

    def _flush(self) -> None:
        self._flush_due = False
        wire = self._wire
        if wire is None or not self._dirty:
            return
        dirty, self._dirty = self._dirty, set()
        joining: list[bytes] = []
        leaving: list[bytes] = []
        for name in dirty:
            if self._wanted(name):
                if name not in self._sent:
                    joining.append(name)
                elif not self._awaited(name):
                    self._bus.confirmed(name)  # given up and wanted again before we wrote a word of it
            elif name in self._sent:
                leaving.append(name)
        parts: list[bytes] = []
        for names in self._commands(leaving):
            parts.append(pack((b"SUNSUBSCRIBE" if self._sharded else b"UNSUBSCRIBE", *names)))
            for name in names:
                self._leaving[name] = self._leaving.get(name, 0) + 1
        for names in self._commands(joining):
            parts.append(pack((b"SSUBSCRIBE" if self._sharded else b"SUBSCRIBE", *names)))
            self._asked.append(set(names))
        self._sent.difference_update(leaving)
        self._sent.update(joining)
        if parts:
            wire.write(b"".join(parts))

    def _awaited(self, name: bytes) -> bool:
        """A SUBSCRIBE to `name` is out."""
        return any(name in names for names in self._asked)

    def _commands(self, names: list[bytes]) -> list[list[bytes]]:
        """Sharded channels of one command must share a slot."""
        if not self._sharded:
            return [names] if names else []
        by_slot: dict[int, list[bytes]] = {}
        for name in names:
            by_slot.setdefault(key_slot(name), []).append(name)
        return list(by_slot.values())

    # ------------------------------------------------------------------ replies

    def _replies(self, replies: Sequence[Reply]) -> None:
        heard = self._bus.heard
        for reply in replies:
            if type(reply) is list:
                kind = reply[0]
                if kind in _MESSAGES:
                    heard(reply[1], reply[2])
                elif kind in _SUBSCRIBED:
                    self._joined(reply[1])
                elif kind in _UNSUBSCRIBED:
                    self._left(reply[1])
            elif isinstance(reply, REPLY_ERROR):
                self._refused()

    def _joined(self, name: bytes) -> None:
        names = self._asked[0]
        names.discard(name)
        if not names:
            self._asked.popleft()
        if name in self._sent and not self._awaited(name):
            self._bus.confirmed(name)
        self._settle()

    def _left(self, name: bytes) -> None:
        out = self._leaving.get(name, 0)
        if out > 1:
            self._leaving[name] = out - 1
        elif out:
            del self._leaving[name]
        elif name in self._sent:
            # Not asked for: the slot has moved to another server (Redis 7, SUNSUBSCRIBE as a push).
            self._sent.discard(name)
            self._bus.lost([name])
            self._again([name])

    def _refused(self) -> None:
        """An error is the one answer of a whole SUBSCRIBE: the slot is elsewhere, or the cluster is down."""
        if self._asked:
            names = self._asked.popleft()
            self._sent.difference_update(names)
            self._router.refresh()
            self._again(list(names))

    def _again(self, names: Sequence[bytes]) -> None:
        def touch() -> None:
            for name in names:
                if self._wanted(name):
                    self.touch(name)

        self._loop.call_later(_RETRY_S, touch)

    def _settle(self) -> None:
        if not self._asked and not self._dirty:
            was_lost, self._was_lost = self._was_lost, False
            self._bus.caught_up(self, was_lost)

    # ------------------------------------------------------------------ the socket

    async def _connect(self) -> None:
        attempt = 0
        while True:
            try:
                wire = await self._router.dial(self.name)
                if self._router.address.kind == "cluster":
                    (info,) = await ask(wire, [("COMMAND", "INFO", "SSUBSCRIBE")])
                    self._sharded = isinstance(info, list) and bool(info and info[0])
            except StoreError:
                self._router.refresh()
                await asyncio.sleep(max(0.02, backoff_s(attempt)))
                attempt += 1
                continue
            if wire.open:
                break
        self._wire = wire
        wire.on_replies = self._replies
        wire.on_lost = self._lost
        self._dirty = {name for name in self._bus.wishes if self._wanted(name)}
        self._flush()
        self._settle()
        self._ping = self._loop.call_later(self._router.wait_s, self._keep_alive)

    def _keep_alive(self) -> None:
        """A socket nobody writes to does not notice that its peer is gone."""
        wire = self._wire
        if wire is None:
            return
        silent_s = self._loop.time() - wire.heard_at
        if silent_s > 2.5 * self._router.wait_s:
            wire.abort(f"{self.name} has fallen silent")
            return
        wire.write(pack((b"PING",)))
        self._ping = self._loop.call_later(self._router.wait_s, self._keep_alive)

    def _lost(self, reason: str) -> None:
        self._wire = None
        if self._ping is not None:
            self._ping.cancel()
        names = [*self._sent]
        self._sent.clear()
        self._asked.clear()
        self._leaving.clear()
        self._dirty.clear()
        if self._retired:
            return
        self._was_lost = True
        self._bus.lost(names)
        self._connecting = self._loop.create_task(self._connect())

    def retire(self) -> None:
        """Hang up for good."""
        self._retired = True
        self._connecting.cancel()
        if self._wire is not None:
            self._wire.abort("retired")

    async def ended(self) -> None:
        await asyncio.gather(self._connecting, return_exceptions=True)
