"""Waiting for a condition with a deadline: the only place in the tests that sleeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from inspect import isawaitable
from typing import Any, TypeVar, overload

T = TypeVar("T")

DEADLINE_S = 30.0
"""Generous: a loaded machine makes tests slow, never red."""

_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.05


@overload
async def wait_until(
    predicate: Callable[[], Coroutine[Any, Any, T]], why: str, deadline_s: float = DEADLINE_S
) -> T: ...
@overload
async def wait_until(predicate: Callable[[], T], why: str, deadline_s: float = DEADLINE_S) -> T: ...
async def wait_until(predicate: Callable[[], Any], why: str, deadline_s: float = DEADLINE_S) -> Any:
    """Call `predicate` (sync or async) until it answers something true, and return that.

    `why` completes the sentence "waited 30 s until …" of the AssertionError raised at the deadline; the last
    falsy answer is shown with it.
    """
    give_up = time.monotonic() + deadline_s
    pause_s = _FIRST_PAUSE_S
    while True:
        answer = predicate()
        if isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        if time.monotonic() >= give_up:
            raise AssertionError(f"waited {deadline_s:g} s until {why}; last answer: {answer!r}")
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


def wait_until_blocking(predicate: Callable[[], T], why: str, deadline_s: float = DEADLINE_S) -> T:
    """`wait_until` for tests without a loop."""
    give_up = time.monotonic() + deadline_s
    pause_s = _FIRST_PAUSE_S
    while not (answer := predicate()):
        if time.monotonic() >= give_up:
            raise AssertionError(f"waited {deadline_s:g} s until {why}; last answer: {answer!r}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
    return answer
