"""Run the parcels of one request at once, without a task for each where none is needed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from backend_sdk.events import Parcel


async def spread(parcels: Sequence[Parcel], handle: Callable[[Parcel], Awaitable[None]]) -> None:
    """`handle` every parcel; one that waits for something does not hold up the others.

    Handlers that never wait run one after the other in the caller's task, and that is all. The loop getting a turn
    while parcels are left means that a handler waits: then, and only then, each parcel left gets a task of its own.
    Every handler runs in one task from start to end, so timeouts and cancel scopes work in it. (Starting coroutines
    by hand and moving those that wait into a task would be simpler, and would break exactly that.)
    """
    if len(parcels) == 1:
        await handle(parcels[0])
        return
    waiting = deque(parcels)
    helpers: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()

    async def work() -> None:
        while waiting:
            await handle(waiting.popleft())

    def hire() -> None:
        helpers.extend([loop.create_task(work()) for _ in range(len(waiting))])

    turn = loop.call_soon(hire)
    try:
        await work()
        if helpers:
            await asyncio.gather(*helpers)
    finally:
        turn.cancel()
        for helper in helpers:
            helper.cancel()
