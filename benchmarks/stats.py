"""Arithmetic over measurements: medians of rounds, percentiles, ratios. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Key:
    """What was measured: all rounds with the same key are repetitions of one measurement."""

    case: str
    peer: str
    size: int
    """Connections or subscribers."""
    variant: str = ""
    """`single`, `burst`, `batch=64` …; empty where a case has one way only."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One round. `values` maps a metric, its unit in its name, to a number."""

    key: Key
    round: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Failure:
    """A round that gave no numbers, and why. It is shown in the table, never hidden."""

    key: Key
    round: int
    reason: str


Medians = Mapping[Key, Mapping[str, float]]


def medians(samples: Iterable[Sample]) -> Medians:
    """Per key and metric, the median over rounds. A metric that some rounds lack counts where it stands."""
    gathered: dict[Key, dict[str, list[float]]] = {}
    for sample in samples:
        metrics = gathered.setdefault(sample.key, {})
        for name, value in sample.values.items():
            metrics.setdefault(name, []).append(value)
    return {key: {name: median(values) for name, values in metrics.items()} for key, metrics in gathered.items()}


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The nearest-rank percentile of an ascending sequence: the smallest value that `fraction` of all reach.

    Raises ValueError when there is nothing to rank or `fraction` is outside (0, 1].
    """
    if not ordered:
        raise ValueError("no values to take a percentile of")
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1], not {fraction}")
    rank = -(-len(ordered) * fraction // 1)
    return ordered[max(int(rank), 1) - 1]


def ratio(table: Medians, metric: str, above: Key, below: Key) -> float | None:
    """`above` ÷ `below` of one metric's medians; None when either was not measured or `below` is 0."""
    numerator = table.get(above, {}).get(metric)
    denominator = table.get(below, {}).get(metric)
    if numerator is None or not denominator:
        return None
    return numerator / denominator


def per(total_ns: float, count: int) -> float:
    """Nanoseconds spent on `count` things as microseconds each.

    Raises ValueError when nothing was counted: a cost without a count is no measurement.
    """
    if count <= 0:
        raise ValueError("nothing was counted in the window")
    return total_ns / count / 1_000
