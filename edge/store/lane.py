"""One server's queue of commands: gathered per loop tick, sent as one pipeline, answered in order.

A lane owns the order of commands to one server, over reconnects. What it cannot settle by itself (a slot
that lives
elsewhere, a deadline, which server to connect to) it gives to its `LaneOwner`.
"""

from __future__ import annotations

import asyncio
import random
from asyncio import Future
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from edge.errors import CountTooHigh, FenceRefused, OutOfStep, QueueFull, StoreError, StoreRefused, StoreUnavailable
from edge.store.scripts import ALL
from edge.store.wire import REPLY_ERROR, Reply, Wire, ask, pack
from edge.telemetry.metrics import ProcessMeters

BACKOFF_FIRST_S = 0.05
BACKOFF_MOST_S = 2.0

_MOVED = ("MOVED", "ASK")
_OURS: Mapping[str, type[StoreError]] = {
    "FENCED": FenceRefused, "STEP": OutOfStep, "FULL": QueueFull, "COUNT": CountTooHigh,
}  # fmt: skip
"""How our scripts begin their refusals."""
_TRANSIENT = ("LOADING", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "BUSY")


def backoff_s(attempt: int) -> float:
    """Full jitter: anything from 0 to the doubled step, so that a thousand edges do not come back at once."""
    most = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(attempt, 10))
    return random.uniform(0.0, most)  # noqa: S311 - jitter


class Command:
    """One command on its way: what is sent, and where its answer goes."""

    __slots__ = ("asking", "decode", "due", "future", "name", "packed", "repeatable", "slot")

    def __init__(
        self,
        name: str,
        packed: bytes,
        future: Future[Any],
        decode: Callable[[Reply], Any] | None,
        due: float,
        slot: int,
        repeatable: bool,
    ) -> None:
        self.name = name
        self.packed = packed
        self.future = future
        self.decode = decode
        self.due = due
        self.slot = slot
        self.repeatable = repeatable
        self.asking = ""
        """The server ``host:port`` to ask next, during a slot's migration (ASK)."""

    def fail(self, error: StoreError) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def settle(self, reply: Reply) -> None:
        """End the future with the decoded reply, or with the error it stands for."""
        future = self.future
        if future.done():
            return
        if isinstance(reply, REPLY_ERROR):
            future.set_exception(translate(reply, self.name))
            return
        if self.decode is None:
            future.set_result(reply)
            return
        try:
            value = self.decode(reply)
        except StoreError as error:
            future.set_exception(error)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            future.set_exception(StoreRefused(f"{self.name}: cannot read the answer: {error!r}"))
        else:
            future.set_result(value)


def translate(reply: Exception, name: str) -> StoreError:
    """An error reply as one of ours."""
    text = str(reply)
    code, _, rest = text.partition(" ")
    ours = _OURS.get(code)
    return ours(rest) if ours is not None else StoreRefused(f"{name}: {text}")


class LaneOwner(Protocol):
    """What a lane needs from the router above it."""

    meters: ProcessMeters

    async def connect(self, lane: Lane) -> Wire:
        """A new wire for this lane. Raises StoreUnavailable."""
        ...

    def reroute(self, commands: Sequence[Command], moved: Sequence[tuple[int, str]]) -> None:
        """Queue these again, in order. `moved`: (slot, ``host:port``) learnt from redirections."""
        ...

    def settled(self, count: int) -> None:
        """So many commands have left the lane's books."""
        ...

    def lane_up(self, lane: Lane) -> None: ...

    def lane_down(self, lane: Lane, reason: str) -> None: ...


class Lane:
    """Commands to one server. `waiting` have not been sent; `_out` have, and are answered in order."""

    def __init__(self, owner: LaneOwner, name: str) -> None:
        self.name = name
        self.waiting: deque[Command] = deque()
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._out: deque[Command | None] = deque()
        """None stands for the reply of an ASKING."""
        self._again: list[Command] = []
        self._moved: list[tuple[int, str]] = []
        self._wire: Wire | None = None
        self._flush_due = False
        self._pause = False
        self._reload = False
        self._closed = False
        self._connecting: asyncio.Task[None] | None = None
        self.reconnect()

    @property
    def up(self) -> bool:
        return self._wire is not None

    @property
    def idle(self) -> bool:
        return not (self.waiting or self._out or self._again)

    def push(self, command: Command) -> None:
        """Queue a command; it leaves with everything else of this tick."""
        self.waiting.append(command)
        if not self._flush_due and not self._out and self._wire is not None and not self._pause:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        wire = self._wire
        if wire is None or self._out or self._pause or not self.waiting:
            return
        parts: list[bytes] = []
        out = self._out
        if self._reload:
            # NOSCRIPT: somebody flushed the scripts. The commands that suffered stand first, in order.
            self._reload = False
            parts.extend(pack(("SCRIPT", "LOAD", script.source)) for script in ALL)
            out.extend([None] * len(ALL))
        for command in self.waiting:
            if command.asking:
                command.asking = ""
                parts.append(pack(("ASKING",)))
                out.append(None)
            parts.append(command.packed)
            out.append(command)
        self.waiting.clear()
        self._owner.meters.store_round_trips.value += 1
        wire.write(b"".join(parts))

    def _replies(self, replies: Sequence[Reply]) -> None:
        out = self._out
        done = 0
        for reply in replies:
            command = out.popleft()
            if command is None:
                continue
            if isinstance(reply, REPLY_ERROR) and self._retry(command, str(reply)):
                continue
            command.settle(reply)
            done += 1
        if done:
            self._owner.settled(done)
        if not out:
            self._drained()

    def _retry(self, command: Command, error: str) -> bool:
        """Keep a command that the server did not run for a reason that passes. Its order is kept: see
        `_drained`."""
        code, _, rest = error.partition(" ")
        if code == "NOSCRIPT":
            self._reload = True
        elif code in _MOVED:
            slot, _, server = rest.partition(" ")
            if not slot.isdigit() or not server:
                return False
            if code == "ASK":
                command.asking = server
            else:
                self._moved.append((int(slot), server))
        elif code == "READONLY":
            # The master became a replica: this connection is of no more use.
            self._pause = True
            self._loop.call_soon(self._abort, f"{self.name} is read-only now")
        elif code in _TRANSIENT:
            self._pause = True
            self._loop.call_later(0.1, self._resume)
        else:
            return False
        self._again.append(command)
        return True

    def _drained(self) -> None:
        """Nothing is out. Put back what must run again, before everything that came later."""
        if self._again:
            again, self._again = self._again, []
            moved, self._moved = self._moved, []
            if moved or any(command.asking for command in again):
                again.extend(self.waiting)
                self.waiting.clear()
                self._owner.reroute(again, moved)
            else:
                self.waiting.extendleft(reversed(again))
        if self.waiting and not self._flush_due and not self._pause:
            # What is waiting gathered while the last pipeline was out; callbacks of its answers may add more.
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _resume(self) -> None:
        self._pause = False
        self._flush()

    def _abort(self, reason: str) -> None:
        if self._wire is not None:
            self._wire.abort(reason)

    def _lost(self, reason: str) -> None:
        self._wire = None
        self._pause = False
        self._reload = False
        kept = self._again
        self._again = []
        self._moved = []
        failed = 0
        for command in self._out:
            if command is None or command.future.done():
                failed += command is not None
            elif command.repeatable:
                kept.append(command)
            else:
                failed += 1
                self._owner.meters.store_refused["lost"].value += 1
                command.fail(StoreUnavailable(f"{reason}; the command was out and may have run"))
        self._out.clear()
        self.waiting.extendleft(reversed(kept))
        self._owner.settled(failed)
        if not self._closed:
            self._owner.lane_down(self, reason)
            self.reconnect()

    def reconnect(self) -> None:
        """Start connecting, unless that is under way."""
        if self._closed or self._wire is not None:
            return
        if self._connecting is None or self._connecting.done():
            self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        attempt = 0
        while True:
            try:
                wire = await self._owner.connect(self)
                for reply in await ask(wire, [("SCRIPT", "LOAD", script.source) for script in ALL]):
                    if isinstance(reply, REPLY_ERROR):
                        raise StoreUnavailable(f"{self.name}: {reply}")
            except StoreError as error:
                self._owner.lane_down(self, str(error))
                await asyncio.sleep(backoff_s(attempt))
                attempt += 1
                continue
            if not wire.open:
                continue
            self._wire = wire
            wire.on_replies = self._replies
            wire.on_lost = self._lost
            self._owner.lane_up(self)
            self._flush()
            return

    def take_waiting(self) -> list[Command]:
        """Give up everything that has not been sent, in order."""
        commands = [*self._again, *self.waiting] if not self._out else list(self.waiting)
        if not self._out:
            self._again = []
        self.waiting.clear()
        return commands

    def expire(self, now: float) -> float | None:
        """Refuse what has waited too long; the next deadline, or None. A server that holds the oldest
        command past
        its deadline is taken for dead."""
        out = next((c for c in self._out if c is not None), None)
        if out is not None and out.due <= now:
            self._abort(f"{self.name} did not answer in time")
        if any(command.due <= now for command in self.waiting):
            self.waiting, late = _split(self.waiting, now)
            for command in late:
                command.fail(StoreUnavailable(f"Redis stayed away: {self.name}"))
            self._owner.meters.store_refused["waited"].value += len(late)
            self._owner.settled(len(late))
        dues = [c.due for c in (next((c for c in self._out if c is not None), None),) if c is not None]
        dues.extend(command.due for command in list(self.waiting)[:1])
        return min(dues, default=None)

    def retire(self, reason: str) -> list[Command]:
        """Disconnect for good; what was not settled and may run elsewhere is handed back, in order."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        self._abort(reason)
        return self.take_waiting()

    async def close(self, reason: str) -> None:
        """Disconnect; what is left is refused."""
        left = self.retire(reason)
        for command in left:
            command.fail(StoreUnavailable(reason))
        self._owner.settled(len(left))
        if self._connecting is not None:
            await asyncio.gather(self._connecting, return_exceptions=True)


def _split(commands: Iterable[Command], now: float) -> tuple[deque[Command], list[Command]]:
    kept: deque[Command] = deque()
    late: list[Command] = []
    for command in commands:
        (late if command.due <= now else kept).append(command)
    return kept, late
