"""Turns are even, and a server that cannot be reached is left in peace."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from edge.model.pacing import CATCH_UP_MS, FAILURES_TO_OPEN, PROBE_MS, Circuit, Phase, Turns


def mean() -> float:
    return 0.5


def test_turns_come_one_by_one_at_the_rate_with_gaps_that_differ() -> None:
    turns, random = Turns(), Random(1).random
    times = []
    for now in range(100_000, 110_000):
        while turns.free(now):
            turns.take(now, 50, random)
            times.append(now)
    assert len(times) == pytest.approx(500, rel=0.05)
    gaps = [after - before for before, after in pairwise(times[5:])]  # the first make up for the past
    assert min(gaps) >= 9
    assert max(gaps) <= 31
    assert len(set(gaps)) > 10


def test_after_a_long_pause_there_is_no_burst() -> None:
    turns = Turns()
    turns.take(0, 200, mean)
    taken = 0
    while turns.free(1_000_000):
        turns.take(1_000_000, 200, mean)
        taken += 1
    assert taken == CATCH_UP_MS // 5 + 1


def test_late_looks_do_not_lower_the_rate() -> None:
    turns, taken = Turns(), 0
    for now in range(0, 10_000, 20):
        while turns.free(now):
            turns.take(now, 200, mean)
            taken += 1
    assert taken == pytest.approx(2_000, rel=0.01)


def test_a_rate_of_0_is_no_limit_and_rates_may_change() -> None:
    turns = Turns()
    turns.take(1_000, 0, mean)
    assert turns.free(1_000)
    turns.take(1_000, 1, mean)
    assert turns.next_ms == 1_950
    assert not turns.free(1_949)


def opened(now_ms: int = 0) -> Circuit:
    circuit = Circuit()
    for _ in range(FAILURES_TO_OPEN):
        circuit.unreachable(now_ms, mean)
    return circuit


def test_some_failures_in_a_row_open_it() -> None:
    circuit = Circuit()
    for _ in range(FAILURES_TO_OPEN - 1):
        circuit.unreachable(0, mean)
    circuit.reached()
    for _ in range(FAILURES_TO_OPEN - 1):
        circuit.unreachable(0, mean)
        assert circuit.free(0)
    circuit.unreachable(0, mean)
    assert circuit.phase is Phase.OPEN
    assert (circuit.free(500), circuit.free(501), circuit.next_ms) == (False, True, 501)


def test_one_probe_decides() -> None:
    circuit = opened()
    circuit.enter(501)
    assert (circuit.phase, circuit.free(502)) == (Phase.PROBING, False)
    circuit.unreachable(502, mean)
    assert (circuit.phase, circuit.next_ms) == (Phase.OPEN, 502 + 1_001)
    circuit.enter(2_000)
    circuit.reached()
    assert (circuit.phase, circuit.free(2_000), circuit.next_ms) == (Phase.CLOSED, True, 0)
    circuit.unreachable(2_001, mean)
    assert circuit.phase is Phase.CLOSED


def test_pauses_grow_up_to_a_minute_and_begin_anew_after_a_success() -> None:
    circuit, now, pauses = opened(), 0, []
    for _ in range(9):
        pauses.append(circuit.next_ms - now)
        now = circuit.next_ms
        circuit.enter(now)
        circuit.unreachable(now, mean)
    assert pauses == [501, 1_001, 2_001, 4_001, 8_001, 16_001, 30_001, 30_001, 30_001]
    circuit.reached()
    for _ in range(FAILURES_TO_OPEN):
        circuit.unreachable(now, mean)
    assert circuit.next_ms - now == 501


def test_failures_of_tries_that_began_before_say_nothing_new() -> None:
    circuit = opened()
    for _ in range(100):
        circuit.unreachable(400, mean)
    assert circuit.next_ms == 501


def test_a_permanent_failure_opens_at_once_and_for_long() -> None:
    circuit = Circuit()
    circuit.unreachable(0, mean, permanent=True)
    assert (circuit.phase, circuit.next_ms) == (Phase.OPEN, 30_001)


def test_a_probe_that_is_never_heard_of_again_does_not_hold_the_others_up_for_ever() -> None:
    circuit = opened()
    circuit.enter(501)
    assert not circuit.free(501 + PROBE_MS - 1)
    assert circuit.free(501 + PROBE_MS)


def test_a_probe_that_is_withdrawn_makes_room_for_another() -> None:
    circuit = opened()
    circuit.enter(501)
    circuit.withdraw(502)
    assert (circuit.phase, circuit.free(502)) == (Phase.OPEN, True)
    circuit = Circuit()
    circuit.enter(0)
    circuit.withdraw(0)
    assert circuit.phase is Phase.CLOSED
