"""The drain's rules, without a clock of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import EdgeSettings, RouteSettings, Settings, TimeoutSettings
from edge.model.drain import (
    TICK_MS,
    CloseClients,
    Drain,
    DrainPlan,
    Over,
    Phase,
    StopAccepting,
    closes_due,
    plan_for,
)


def closings(drain: Drain, clients: int, now_ms: int = 0) -> list[tuple[int, int]]:
    """Run a drain whose clients go as soon as they are told; returns (when, how many)."""
    made = []
    while drain.phase is not Phase.OVER:
        for order in drain.step(now_ms, clients, 0):
            if isinstance(order, CloseClients):
                made.append((now_ms, order.count))
                clients -= order.count
        now_ms = max(drain.wake_at(now_ms), now_ms)
    return made


def test_the_order_of_things() -> None:
    drain = Drain(DrainPlan(delay_s=3, window_s=1, finish_s=5), now_ms=1_000)
    assert drain.step(1_000, 2, 0) == []
    assert drain.wake_at(1_000) == 4_000
    assert drain.step(4_000, 2, 0) == [StopAccepting(), CloseClients(1)]
    assert drain.step(5_000, 1, 1) == [CloseClients(1)]
    assert drain.step(5_100, 0, 2) == []
    assert drain.step(5_200, 0, 0) == [Over(0)]
    assert drain.phase is Phase.OVER


def test_closing_is_even_over_the_window() -> None:
    made = closings(Drain(DrainPlan(0, 10, 5), 0), 1_000)
    assert sum(count for _, count in made) == 1_000
    assert {count for _, count in made} <= {9, 10}
    assert made[-1][0] == 10_000


def test_few_clients_are_spread_as_well() -> None:
    assert closings(Drain(DrainPlan(0, 10, 5), 0), 3) == [(0, 1), (3_300, 1), (6_700, 1)]


def test_no_window_closes_all_at_once() -> None:
    assert closings(Drain(DrainPlan(0, 0, 5), 0), 1_000) == [(0, 1_000)]


def test_without_clients_the_window_is_not_waited_for() -> None:
    drain = Drain(DrainPlan(0, 60, 5), 0)
    assert drain.step(0, 0, 0) == [StopAccepting()]
    assert drain.step(100, 0, 0) == [Over(0)]


def test_clients_that_left_by_themselves_leave_gaps_not_crowds() -> None:
    drain = Drain(DrainPlan(0, 10, 5), 0)
    drain.step(0, 100, 0)
    assert drain.step(5_000, 40, 0) == []  # 51 should be gone by now, and 60 are


def test_handshakes_answered_late_are_closed_too() -> None:
    drain = Drain(DrainPlan(0, 0, 5), 0)
    assert drain.step(0, 1, 0) == [StopAccepting(), CloseClients(1)]
    assert drain.step(100, 1, 1) == [CloseClients(1)]
    assert drain.step(200, 0, 0) == [Over(0)]


def test_what_does_not_finish_is_given_up_at_the_deadline() -> None:
    drain = Drain(DrainPlan(0, 0, 5), 0)
    drain.step(0, 1, 0)
    assert drain.step(4_999, 0, 7) == []
    assert drain.step(5_000, 0, 7) == [Over(7)]


@pytest.mark.parametrize("phase_ms", [0, 3_000, 5_000, 9_500])
def test_a_hurry_ends_within_a_second_from_any_phase(phase_ms: int) -> None:
    drain = Drain(DrainPlan(3, 6, 30), 0)
    for now_ms in range(0, phase_ms + 1, TICK_MS):
        drain.step(now_ms, 10, 1)
    drain.hurry(phase_ms)
    drain.hurry(phase_ms + 900)  # once more changes nothing
    drain.step(phase_ms, 10, 1)
    assert drain.phase is Phase.FINISHING
    drain.step(phase_ms + 999, 0, 1)
    assert drain.phase is Phase.FINISHING
    assert drain.step(phase_ms + 1_000, 0, 1) == [Over(1)]


def test_the_plan_follows_the_settings() -> None:
    edge = EdgeSettings(drain_delay_s=1, drain_window_s=2)
    route = RouteSettings(timeouts=TimeoutSettings(retry_window_s=20))
    settings = Settings(edge, [route, RouteSettings(timeouts=TimeoutSettings(retry_window_s=10))])
    assert plan_for(settings) == DrainPlan(1, 2, 20)
    assert plan_for(replace(settings, routes=())).finish_s == 5
    long = RouteSettings(timeouts=TimeoutSettings(retry_window_s=600))
    assert plan_for(replace(settings, routes=[long])).finish_s == 30


@given(
    total=st.integers(0, 10_000), window_ms=st.integers(0, 60_000), ticks=st.lists(st.integers(1, 500), max_size=200)
)
def test_every_client_is_closed_once_and_never_before_its_share(total: int, window_ms: int, ticks: list[int]) -> None:
    closed = elapsed = 0
    for tick in [0, *ticks]:
        elapsed += tick
        due = closes_due(total, closed, elapsed, window_ms)
        closed += due
        assert due >= 0
        assert closed <= total
        share = min((elapsed + TICK_MS) / (window_ms + TICK_MS), 1.0)
        assert abs(closed - total * share) < 1
    closed += closes_due(total, closed, max(elapsed, window_ms), window_ms)
    assert closed == total


@given(
    clients=st.integers(0, 500),
    plan=st.builds(DrainPlan, st.floats(0, 5), st.floats(0, 5), st.floats(0, 5)),
    stuck=st.integers(0, 3),
    hurry_at=st.none() | st.integers(0, 16_000),
)
def test_a_drain_always_ends_in_time(clients: int, plan: DrainPlan, stuck: int, hurry_at: int | None) -> None:
    drain = Drain(plan, 0)
    now_ms, stops, steps = 0, 0, 0
    while drain.phase is not Phase.OVER:
        if hurry_at is not None and now_ms >= hurry_at:
            drain.hurry(now_ms)
        for order in drain.step(now_ms, clients, stuck):
            match order:
                case StopAccepting():
                    stops += 1
                case CloseClients(count):
                    assert stops == 1
                    clients -= count
        now_ms = max(drain.wake_at(now_ms), now_ms)
        steps += 1
        assert steps < 500
    assert clients == 0
    assert stops == 1
    assert now_ms <= plan.total_s * 1_000 + 2 * TICK_MS
