"""From a command to the right server: deadlines, the bound on waiting commands, and the three kinds of
installation.

`Router` is the door for everything that sends commands. Standalone and sentinel installations have one lane;
a
cluster has one per primary, and commands whose primary is not known yet wait in limbo.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import Future
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from redis.crc import key_slot

from edge.clock import Clock
from edge.config.redis_address import Address
from edge.errors import StoreError, StoreRefused, StoreUnavailable
from edge.store.base import StoreHealth
from edge.store.lane import Command, Lane, backoff_s
from edge.store.scripts import Script
from edge.store.topology import Cluster, Slots, Topology
from edge.store.wire import Reply, Wire, dial, pack
from edge.telemetry.metrics import ProcessMeters

__all__ = ["Router"]


class Router:
    """Commands in, futures out. `meters` counts commands, the pipelines they were written in, and refusals."""

    def __init__(self, address: Address, clock: Clock, *, wait_s: float, queue: int, meters: ProcessMeters) -> None:
        self.address = address
        self.meters = meters
        self.wait_s = wait_s
        self.connect_s = min(wait_s, 5.0)
        self._queue = queue
        self._clock = clock
        self._tls = address.ssl_context()
        self.topology = Topology(address, self._tls, self.connect_s)
        self._lanes: dict[str, Lane] = {}
        self._one: Lane | None = None
        self._slots: Slots = {}
        self._limbo: deque[Command] = deque()
        self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._closed = False
        self._idle: asyncio.Event | None = None
        """Set when nothing waits any more, while closing."""
        self._up = asyncio.Event()
        self._down: dict[str, str] = {}
        """Why which lane is down; the empty name stands for the installation as a whole."""
        self._health = StoreHealth(False, clock.monotonic_ms(), 0, "not connected yet")
        self._watchers: list[Callable[[bool], None]] = []
        self.on_topology: Callable[[], None] = lambda: None
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self.address.kind == "cluster":
            self.refresh()
        else:
            name = str(self.address)
            self._one = self._lanes[name] = Lane(self, name)

    # ------------------------------------------------------------------ commands

    def call(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Any],
        decode: Callable[[Reply], Any] | None = None,
        *,
        repeatable: bool,
    ) -> Future[Any]:
        """Run a script. All `keys` share a hash tag."""
        args = ("EVALSHA", script.sha, len(keys), *keys, *args)
        return self._submit(script.name, args, keys[0], decode, repeatable)

    def send(
        self,
        args: tuple[Any, ...],
        key: str,
        decode: Callable[[Reply], Any] | None = None,
        *,
        repeatable: bool,
    ) -> Future[Any]:
        """Queue one command. `repeatable`: may run twice without harm, so it is sent again when a connection
        broke
        while it was out."""
        return self._submit(args[0], args, key, decode, repeatable)

    def _submit(
        self,
        name: str,
        args: tuple[Any, ...],
        key: str,
        decode: Callable[[Reply], Any] | None,
        repeatable: bool,
    ) -> Future[Any]:
        loop = self._loop
        if self._waiting >= self._queue or self._closed:
            why = "the store is closed" if self._closed else f"{self._waiting} commands are waiting for Redis"
            self.meters.store_refused["closed" if self._closed else "queue"].value += 1
            return self.refused(StoreUnavailable(f"{why}: {self._health.error or 'it is busy'}"))
        try:
            packed = pack(args)
        except (TypeError, ValueError) as error:
            # Text with lone surrogates, for one: refused alone, not with the whole pipeline.
            return self.refused(StoreRefused(f"{name}: cannot be sent: {error}"))
        future: Future[Any] = loop.create_future()
        self._waiting += 1
        self.meters.store_commands.value += 1
        due = loop.time() + self.wait_s
        if self._timer is None:
            self._timer = loop.call_at(due, self._expire)
        one = self._one
        if one is not None:
            one.push(Command(name, packed, future, decode, due, 0, repeatable))
        else:
            slot = key_slot(key.encode())
            self._route(Command(name, packed, future, decode, due, slot, repeatable))
        return future

    def refused(self, error: StoreError) -> Future[Any]:
        """A future that has failed already."""
        future: Future[Any] = self._loop.create_future()
        future.set_exception(error)
        return future

    def same_lane(self, first: str, second: str) -> bool:
        """Commands on these keys are answered in the order they are issued."""
        return self._one is not None or key_slot(first.encode()) == key_slot(second.encode())

    def _route(self, command: Command) -> None:
        name = command.asking or self._slots.get(command.slot, "")
        lane = self._lanes.get(name) or (self._lane(name) if name else None)
        if lane is None:
            self._limbo.append(command)
            self.refresh()
        else:
            lane.push(command)

    def _lane(self, name: str) -> Lane:
        lane = self._lanes[name] = Lane(self, name)
        return lane

    def _expire(self) -> None:
        now = self._loop.time()
        late = [command for command in self._limbo if command.due <= now]
        if late:
            self._limbo = deque(command for command in self._limbo if command.due > now)
            for command in late:
                command.fail(StoreUnavailable(f"Redis stayed away: {self._health.error}"))
            self.meters.store_refused["waited"].value += len(late)
            self.settled(len(late))
        dues = [due for lane in self._lanes.values() if (due := lane.expire(now)) is not None]
        dues.extend(command.due for command in list(self._limbo)[:1])
        self._timer = self._loop.call_at(min(dues), self._expire) if dues else None

    # ------------------------------------------------------------------ what lanes ask (LaneOwner)

    async def connect(self, lane: Lane) -> Wire:
        return await self.dial(lane.name)

    async def dial(self, name: str) -> Wire:
        """A new wire to the server called `name`. Raises StoreUnavailable."""
        endpoint = await self.topology.endpoint(name)
        return await dial(endpoint, self.address.login, self._tls, self.connect_s)

    def reroute(self, commands: Sequence[Command], moved: Sequence[tuple[int, str]]) -> None:
        if moved:
            for slot, server in moved:
                self._slots[slot] = server
            self.refresh()
        for command in commands:
            self._route(command)

    def settled(self, count: int) -> None:
        self._waiting -= count
        if self._idle is not None and not self._waiting:
            self._idle.set()

    def lane_up(self, lane: Lane) -> None:
        self._down.pop(lane.name, None)
        self._down.pop("", None)
        self._judge()

    def lane_down(self, lane: Lane, reason: str) -> None:
        self._down[lane.name] = reason
        self._judge()
        if self.address.kind == "cluster":
            self.refresh()

    # ------------------------------------------------------------------ cluster

    def refresh(self) -> None:
        """Ask the cluster where its slots are; once at a time."""
        if self._closed or self.address.kind != "cluster":
            return
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = self._loop.create_task(self._refresh())

    async def _refresh(self) -> None:
        attempt = 0
        while True:
            try:
                cluster = await self.topology.cluster(list(self._lanes))
            except StoreError as error:
                self._down[""] = str(error)
                self._judge()
            else:
                self._adopt(cluster)
                if all(lane.up for lane in self._lanes.values()) and not self._limbo:
                    return
            # Until every lane is connected a failover may be under way: look again.
            await asyncio.sleep(max(0.05, backoff_s(attempt)))
            attempt += 1

    def _adopt(self, cluster: Cluster) -> None:
        self._slots = dict(cluster.slots)
        self._down.pop("", None)
        homeless: list[Command] = []
        for name, lane in list(self._lanes.items()):
            if name not in cluster.primaries:
                del self._lanes[name]
                self._down.pop(name, None)
                homeless.extend(lane.retire(f"{name} is no primary any more"))
            elif not lane.up:
                homeless.extend(lane.take_waiting())
        for name in cluster.primaries:
            if name not in self._lanes:
                self._lane(name)
        limbo, self._limbo = self._limbo, deque()
        for command in (*homeless, *limbo):
            self._route(command)
        self._judge()
        self.on_topology()

    @property
    def slots(self) -> Slots:
        """Slot → ``host:port`` of its primary, in a cluster."""
        return self._slots

    # ------------------------------------------------------------------ health

    def health(self) -> StoreHealth:
        known = self._health
        return StoreHealth(known.up, known.since_ms, self._waiting, known.error)

    def on_health(self, changed: Callable[[bool], None]) -> None:
        self._watchers.append(changed)

    async def connected(self) -> None:
        """Wait for Redis, `wait_s` at most. Raises StoreUnavailable."""
        try:
            await asyncio.wait_for(self._up.wait(), self.wait_s)
        except TimeoutError:
            raise StoreUnavailable(self._health.error) from None

    def _judge(self) -> None:
        up = not self._down and bool(self._lanes) and all(lane.up for lane in self._lanes.values())
        error = next(iter(self._down.values()), "")
        changed = up != self._health.up
        since = self._clock.monotonic_ms() if changed else self._health.since_ms
        self._health = StoreHealth(up, since, 0, error or self._health.error)
        if up:
            self._up.set()
        else:
            self._up.clear()
        if changed and not self._closed:
            for watcher in self._watchers:
                watcher(up)

    # ------------------------------------------------------------------ the end

    async def close(self) -> None:
        """Let what is queued finish, for `wait_s` at most, then disconnect."""
        if self._waiting and self._health.up:
            self._idle = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), self.wait_s)
        self._closed = True
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        for lane in self._lanes.values():
            await lane.close("the store is closed")
        for command in self._limbo:
            command.fail(StoreUnavailable("the store is closed"))
        self._limbo.clear()
        if self._timer is not None:
            self._timer.cancel()
