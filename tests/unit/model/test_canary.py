"""When a canary goes on and when it is taken back; percentiles out of buckets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model.canary import SECONDS, Figures, Step, decide
from edge.model.release import Canary

CANARY = Canary("new", (10, 100), 60_000, 0.01, 500, 20, 0, 1_000, {"old": 100})


def took(**buckets: int) -> tuple[int, ...]:
    """Events per bucket, by its bound in milliseconds: ``ms5=3``; ``more``: past the last one."""
    counts = [0] * (len(SECONDS) + 1)
    for name, count in buckets.items():
        place = len(SECONDS) if name == "more" else SECONDS.index(int(name.removeprefix("ms")) / 1000)
        counts[place] = count
    return tuple(counts)


@pytest.mark.parametrize(
    ("figures", "now", "what"),
    [
        (Figures(), 1_000, "wait"),
        (Figures(19, 0), 999_999, "wait"),  # too little to tell, however long it takes
        (Figures(0, 19), 2_000, "wait"),
        (Figures(10, 10), 2_000, "take back"),
        (Figures(99, 1), 2_000, "wait"),  # 1 % is not more than 1 %
        (Figures(98, 2), 2_000, "take back"),
        (Figures(20, 0), 60_999, "wait"),
        (Figures(20, 0), 61_000, "go on"),
        (Figures(98, 2), 61_000, "take back"),
        (Figures(100, 0, took(ms250=98, ms1000=2)), 2_000, "take back"),
        (Figures(100, 0, took(ms250=100)), 2_000, "wait"),
    ],
)
def test_a_canary_is_judged_by_its_figures(figures: Figures, now: int, what: str) -> None:
    assert decide(CANARY, figures, now).what == what


def test_a_limit_that_is_not_set_is_none() -> None:
    lenient = replace(CANARY, max_error_rate=None, max_p99_ms=None)
    assert decide(lenient, Figures(0, 100, took(more=100)), 61_000).what == "go on"


def test_reasons_have_numbers() -> None:
    assert decide(CANARY, Figures(95, 5), 0).reason == "5 of 100 events failed: 5.00% is more than 1.00%"
    slow = decide(CANARY, Figures(100, 0, took(ms2500=100)), 0)
    assert slow.reason == "p99 of 2485 ms is more than 500 ms"


def test_the_percentile_lies_on_a_straight_line_within_its_bucket() -> None:
    assert Figures(took=took(ms10=100)).p99_ms() == pytest.approx(5 + 0.99 * 5)
    assert Figures(took=took(ms5=99, ms10=1)).p99_ms() == pytest.approx(5)
    assert Figures(took=took(more=5)).p99_ms() == 30_000
    assert Figures().p99_ms() == 0


@given(st.lists(st.integers(0, 1_000), min_size=len(SECONDS) + 1, max_size=len(SECONDS) + 1))
def test_the_percentile_is_never_past_the_last_bound(counts: list[int]) -> None:
    assert 0 <= Figures(took=counts).p99_ms() <= SECONDS[-1] * 1_000


def test_a_step_counts_what_happened_in_it_over_all_edges() -> None:
    step = Step.begin(CANARY, {"e1": Figures(100, 5, took(ms5=100)), "e2": Figures(7, 0)})
    step.add({"e1": Figures(130, 6, took(ms5=110, ms10=20))})  # e2 is gone: what it said last stands
    step.add({"e3": Figures(10, 1)})  # it came later: all of it counts
    assert (step.figures.answered, step.figures.failed) == (40, 2)
    assert sum(step.figures.took) == 30
    assert step.is_of(CANARY)
    assert not step.is_of(replace(CANARY, step_at=2_000))
