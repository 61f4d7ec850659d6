"""What was answered to which event, so that an event that comes again is not handled again.

An edge repeats an event under the same id when it could not read the answer. This memory belongs to one process and
is bounded: it catches the common case (a lost answer, a timeout), not every case (another process, a restart). An
effect that must not happen twice in any case carries `event.id` as idempotency key to where it happens.
"""

from __future__ import annotations

import asyncio

from backend_sdk.wire import Encoding

_ENTRY_OVERHEAD = 250  # bytes an entry costs beside its id and answer: dict slot, tuple, two object headers

Answer = tuple[Encoding, bytes]
"""A packed result and what it is packed with."""


class Repeats:
    """Bounded memory of answers, least recently used first out, and of the events that are being handled now.

    `max_events` and `max_bytes` bound it, 0 of either turns remembering off. For one event loop.
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.bytes = 0
        self._answers: dict[str, Answer] = {}
        self._running: dict[str, asyncio.Future[None] | None] = {}
        self._waiting: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, id: str) -> Answer | None:
        """The answer given before, which counts as used now."""
        answer = self._answers.pop(id, None)
        if answer is not None:
            self._answers[id] = answer
        return answer

    def claim(self, id: str) -> bool:
        """Whether the caller may handle the event now; then `release` must follow. False: somebody is at it."""
        if id in self._running:
            return False
        self._running[id] = None
        return True

    def release(self, id: str) -> None:
        """The claim's end, with or without an answer."""
        waiting = self._running.pop(id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def released(self, id: str) -> None:
        """Wait until nobody handles the event any more."""
        if id not in self._running:
            return
        waiting = self._running[id]
        if waiting is None:
            waiting = self._running[id] = asyncio.get_running_loop().create_future()
        self._waiting[id] = self._waiting.get(id, 0) + 1
        try:
            await asyncio.shield(waiting)
        finally:
            left = self._waiting.pop(id) - 1
            if left:
                self._waiting[id] = left

    def waiting(self, id: str) -> int:
        """How many requests wait for the event that is being handled elsewhere."""
        return self._waiting.get(id, 0)

    def keep(self, id: str, encoding: Encoding, packed: bytes) -> None:
        """Remember an answer, at the cost of the oldest ones."""
        size = len(packed) + len(id) + _ENTRY_OVERHEAD
        if size > self.max_bytes or not self.max_events:
            return
        answers = self._answers
        replaced = answers.pop(id, None)
        if replaced is not None:
            self.bytes -= len(replaced[1]) + len(id) + _ENTRY_OVERHEAD
        answers[id] = (encoding, packed)
        self.bytes += size
        while self.bytes > self.max_bytes or len(answers) > self.max_events:
            oldest = next(iter(answers))
            self.bytes -= len(answers.pop(oldest)[1]) + len(oldest) + _ENTRY_OVERHEAD
