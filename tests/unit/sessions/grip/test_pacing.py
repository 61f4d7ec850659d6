"""The rate of a route's deliveries, on a clock that moves when told to."""

from __future__ import annotations

import logging

import pytest

from edge.clock import ManualClock
from edge.config import GripRouteSettings
from edge.sessions.grip.pacing import Pacer
from edge.telemetry.metrics import Counter
from edge.wheel import Wheel


class Stage:
    """A pacer, its clock, and what it did."""

    def __init__(self, settings: GripRouteSettings) -> None:
        self.clock = ManualClock()
        self.wheel = Wheel(self.clock)
        self.dropped = Counter()
        self.pacer = Pacer("slow", settings, self.wheel, self.clock, self.dropped)
        self.done: list[int] = []

    def put(self, number: int, size: int = 1) -> bool:
        return self.pacer.put(size, lambda: self.done.append(number))

    def pass_ms(self, ms: int, step_ms: int = 10) -> None:
        for _ in range(0, ms, step_ms):
            self.clock.advance(step_ms)
            self.wheel.advance()


def test_a_few_go_at_once_and_the_others_at_the_rate_in_order() -> None:
    stage = Stage(GripRouteSettings(message_rate=100))
    for number in range(300):
        assert stage.put(number)
    assert len(stage.done) == 10  # a tenth of a second's worth
    stage.pass_ms(1_000)
    assert 100 <= len(stage.done) <= 112
    stage.pass_ms(1_000)
    assert 200 <= len(stage.done) <= 212
    stage.pass_ms(1_000)
    assert stage.done == list(range(300))
    assert stage.dropped.value == 0


def test_a_rate_below_one_a_batch_is_kept_too() -> None:
    stage = Stage(GripRouteSettings(message_rate=2))
    for number in range(10):
        stage.put(number)
    stage.pass_ms(3_000)
    assert 6 <= len(stage.done) <= 7


def test_large_deliveries_cost_a_turn_for_each_begun_block() -> None:
    stage = Stage(GripRouteSettings(message_rate=100, message_block_bytes=1_000))
    for number in range(20):
        stage.put(number, size=9_500)
    stage.pass_ms(1_000)
    assert 10 <= len(stage.done) <= 13
    small = Stage(GripRouteSettings(message_rate=100, message_block_bytes=1_000))
    for number in range(20):
        small.put(number, size=0)
    small.pass_ms(1_000)
    assert len(small.done) == 20


def test_what_the_queue_does_not_hold_is_dropped_and_told_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(GripRouteSettings(message_rate=10, message_queue=5))
    with caplog.at_level(logging.WARNING, "holdfast.grip"):
        assert [stage.put(number) for number in range(9)] == [True] * 6 + [False] * 3
        assert len(stage.pacer) == 5
        stage.pass_ms(1_100)
        assert stage.done == list(range(6))
        for number in range(9, 30):
            stage.put(number)
        stage.pass_ms(2_000)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert told[0].startswith("route slow: 3 deliveries were dropped in the last second")
    assert stage.dropped.value == 3 + 21 - 6


def test_a_reload_that_takes_the_rate_away_lets_everything_go() -> None:
    stage = Stage(GripRouteSettings(message_rate=1))
    for number in range(50):
        stage.put(number)
    stage.pacer.settings = GripRouteSettings()
    stage.pass_ms(100)
    assert stage.done == list(range(50))


def test_nothing_goes_on_the_strength_of_a_moment() -> None:
    stage = Stage(GripRouteSettings(message_rate=0.001))
    stage.put(0)
    stage.pass_ms(10)
    stage.put(1)
    stage.pass_ms(1_000)
    assert stage.done == [0]
