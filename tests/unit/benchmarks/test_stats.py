from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.stats import Key, Sample, medians, per, percentile, ratio

OURS, THEIRS = Key("inbound", "Holdfast", 50), Key("inbound", "nginx", 50)


def test_the_median_of_the_rounds_is_taken_per_key_and_metric() -> None:
    rounds = [
        Sample(OURS, 1, {"cpu_us": 30.0, "events_per_s": 10.0}),
        Sample(OURS, 2, {"cpu_us": 90.0, "events_per_s": 30.0}),
        Sample(OURS, 3, {"cpu_us": 20.0}),
        Sample(THEIRS, 1, {"cpu_us": 7.0}),
    ]
    assert medians(rounds) == {OURS: {"cpu_us": 30.0, "events_per_s": 20.0}, THEIRS: {"cpu_us": 7.0}}


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.5, 50), (0.99, 99), (0.999, 100), (1, 100), (0.01, 1), (0.001, 1)]
)
def test_percentiles_are_nearest_rank(fraction: float, expected: int) -> None:
    assert percentile(range(1, 101), fraction) == expected


@given(st.lists(st.integers(), min_size=1), st.floats(0.001, 1))
def test_a_percentile_is_one_of_the_values_and_enough_reach_no_further(values: list[int], fraction: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, fraction)
    assert found in ordered
    assert sum(value <= found for value in ordered) >= len(ordered) * fraction - 1e-9


@pytest.mark.parametrize(("values", "fraction"), [([], 0.5), ([1], 0), ([1], 1.1)])
def test_a_percentile_of_nothing_is_refused(values: list[int], fraction: float) -> None:
    with pytest.raises(ValueError, match=r"no values|fraction"):
        percentile(values, fraction)


def test_a_ratio_needs_both_sides() -> None:
    table = medians([Sample(OURS, 1, {"cpu_us": 30.0}), Sample(THEIRS, 1, {"cpu_us": 20.0, "p50_us": 0.0})])
    assert ratio(table, "cpu_us", OURS, THEIRS) == 1.5
    assert ratio(table, "p50_us", OURS, THEIRS) is None
    assert ratio(table, "cpu_us", OURS, Key("inbound", "Pushpin", 50)) is None
    assert ratio({THEIRS: {"x": 0.0}, OURS: {"x": 1.0}}, "x", OURS, THEIRS) is None


def test_cost_is_microseconds_each() -> None:
    assert per(3_000_000, 100) == 30.0
    with pytest.raises(ValueError, match="nothing was counted"):
        per(1, 0)
