"""The wheel: never early, at most one granule late, one loop timer."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import ManualClock, SystemClock
from edge.wheel import Wheel


@given(st.lists(st.integers(0, 5_000), max_size=50), st.integers(1, 400))
def test_alarms_are_never_early_and_at_most_one_granule_late(delays: list[int], step_ms: int) -> None:
    clock = ManualClock()
    wheel = Wheel(clock, granularity_ms=20)
    rang: list[tuple[int, int]] = []
    for delay in delays:
        wheel.after(delay, lambda delay=delay: rang.append((delay, clock.monotonic)))  # type: ignore[misc]
    while len(rang) < len(delays):
        clock.advance(step_ms)
        wheel.advance()
    assert sorted(delay for delay, _ in rang) == sorted(delays)
    assert all(delay <= at < delay + 20 + step_ms for delay, at in rang)
    assert wheel.next_due_ms() is None


def test_a_cancelled_alarm_does_not_ring() -> None:
    clock = ManualClock()
    wheel = Wheel(clock)
    rang: list[str] = []
    kept = wheel.after(10, lambda: rang.append("kept"))
    dropped = wheel.after(10, lambda: rang.append("dropped"))
    dropped.cancel()
    dropped.cancel()
    clock.advance(50)
    wheel.advance()
    assert rang == ["kept"]
    assert not kept.pending


def test_an_alarm_set_by_an_alarm_for_now_rings_in_the_same_or_next_turn() -> None:
    clock = ManualClock()
    wheel = Wheel(clock)
    rang: list[int] = []
    wheel.after(0, lambda: rang.append(wheel.after(0, lambda: rang.append(2)) is not None))
    wheel.advance()
    clock.advance(20)
    wheel.advance()
    assert rang == [True, 2]


def test_a_failing_alarm_is_logged_and_stops_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    wheel = Wheel(clock)
    rang: list[str] = []
    wheel.after(10, lambda: rang.remove("missing"))
    wheel.after(10, lambda: rang.append("second"))
    clock.advance(20)
    with caplog.at_level(logging.ERROR):
        wheel.advance()
    assert rang == ["second"]
    assert "an alarm failed" in caplog.text


async def test_on_a_loop_an_earlier_alarm_overtakes_the_armed_timer() -> None:
    wheel = Wheel(SystemClock(), granularity_ms=5)
    wheel.start(asyncio.get_running_loop())
    order: list[str] = []
    done = asyncio.Event()

    def late() -> None:
        order.append("late")
        done.set()

    wheel.after(60, late)
    wheel.after(5, lambda: order.append("early"))
    await asyncio.wait_for(done.wait(), 10)
    wheel.stop()
    assert order == ["early", "late"]
