"""Bytes on their way to one client, and the one place where they are written.

Everything put into outboxes within one loop tick leaves at the end of that tick: one `call_soon` for all of them, one
`transport.write` for each. What the socket does not take at once is buffered by the loop and counted here.

Writing to thousands of clients takes milliseconds, nearly all of them in the kernel, and costs the same whether one
message leaves or ten. So a flush that took long is followed by a pause of the same length, in which what comes next
gathers: during a burst the loop spends at most half of its time writing, and each write carries more. A flush after
silence, and any small one, leaves at once.
"""

from __future__ import annotations

import asyncio

PACED_FROM_S = 0.002
"""A flush shorter than this is not worth a pause."""
PAUSE_MOST_S = 0.020
"""The longest pause, so that it stays below what people notice."""


class Flusher:
    """Writes out every outbox that got something in this loop tick. One per process."""

    __slots__ = ("_dirty", "_loop", "_not_before")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._dirty: list[Outbox] = []
        self._not_before = 0.0

    def add(self, outbox: Outbox) -> None:
        """`outbox` has something to write. Once per outbox and tick."""
        if not self._dirty:
            self._loop.call_soon(self._flush)
        self._dirty.append(outbox)

    def _flush(self) -> None:
        began = self._loop.time()
        if began < self._not_before:
            self._loop.call_later(self._not_before - began, self._flush)
            return
        dirty, self._dirty = self._dirty, []
        for outbox in dirty:
            outbox.flush()
        if len(dirty) > 1:
            ended = self._loop.time()
            if ended - began > PACED_FROM_S:
                self._not_before = ended + min(ended - began, PAUSE_MOST_S)


class Outbox:
    """A client's frames in order. Owns when they are written, not what happens when there are too many."""

    __slots__ = ("_flusher", "_pending", "_pending_bytes", "_transport", "congested")

    def __init__(self, transport: asyncio.Transport, flusher: Flusher) -> None:
        self._transport = transport
        self._flusher = flusher
        self._pending: list[bytes] | None = None
        self._pending_bytes = 0
        self.congested = False
        """The loop holds bytes that the socket would not take (set by the protocol's pause_writing)."""

    def put(self, wire: bytes) -> None:
        """Add a frame."""
        pending = self._pending
        if pending is None:
            self._pending = [wire]
            self._pending_bytes = len(wire)
            self._flusher.add(self)
        else:
            pending.append(wire)
            self._pending_bytes += len(wire)

    def size(self) -> int:
        """Bytes put but not taken by the socket."""
        return self._pending_bytes + self._transport.get_write_buffer_size()

    def flush(self) -> None:
        """Write now what is pending."""
        pending = self._pending
        if pending is None:
            return
        self._pending = None
        self._pending_bytes = 0
        self._transport.write(pending[0] if len(pending) == 1 else b"".join(pending))
