"""Snapshots of several workers as one, and as the text that Prometheus scrapes.

Every series keeps a ``worker`` label; the sum over the workers is the scraper's, ``sum without (worker) (…)``. Adding
counters up here would be wrong: a worker that restarts (its counters start at 0) or misses one scrape makes such a sum
fall, which Prometheus reads as a reset of the whole and ``rate()`` shows as a burst that never was. As series of its
own, a restarted worker is the plain counter reset that ``rate()`` understands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from edge.telemetry.metrics import PROCESS_SPECS, ROUTE_SPECS, Spec

Snapshot = Mapping[str, Any]
"""What `Metrics.snapshot` returns and `merge` keeps: ``{"workers": {worker: …}, "missing": [worker, …]}``."""

PREFIX = "holdfast_"


def merge(snapshots: Iterable[Snapshot]) -> dict[str, Any]:
    """All workers of all snapshots, in one. A worker that one snapshot has is not missing in the whole."""
    workers: dict[str, Any] = {}
    missing: set[str] = set()
    for snapshot in snapshots:
        workers.update(snapshot["workers"])
        missing.update(snapshot["missing"])
    return {"workers": workers, "missing": sorted(missing - workers.keys())}


def render(snapshot: Snapshot, accept: str = "") -> tuple[bytes, str]:
    """`snapshot` in the format that the ``Accept`` header asks for (Prometheus text, or OpenMetrics), and its type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(snapshot))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Snapshot(Collector):
    """A snapshot as prometheus_client wants to read it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._workers: Mapping[str, Mapping[str, Any]] = snapshot["workers"]
        self._missing: Sequence[str] = snapshot["missing"]

    def collect(self) -> Iterator[Metric]:
        for spec in ROUTE_SPECS:
            family = _family(spec, ["worker", "route", "release"])
            for worker, numbers in self._workers.items():
                for row in numbers["routes"]:
                    if spec.attribute in row["values"]:
                        _add(family, spec, [worker, row["route"], row["release"]], row["values"][spec.attribute])
            yield family
        for spec in PROCESS_SPECS:
            family = _family(spec, ["worker"])
            for worker, numbers in self._workers.items():
                if spec.attribute in numbers["process"]:
                    _add(family, spec, [worker], numbers["process"][spec.attribute])
            yield family
        yield from self._answering()

    def _answering(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            PREFIX + "workers", "Workers whose numbers are in this answer.", value=len(self._workers)
        )
        yield GaugeMetricFamily(
            PREFIX + "workers_missing",
            "Workers that did not give their numbers in time; their series are absent from this answer.",
            value=len(self._missing),
        )


_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily | InfoMetricFamily


def _family(spec: Spec, labels: list[str]) -> _Family:
    """An empty family for one line of a table."""
    name = PREFIX + spec.name
    match spec.kind:
        case "counter":
            return CounterMetricFamily(name, spec.help, labels=labels)
        case "counters":
            return CounterMetricFamily(name, spec.help, labels=[*labels, spec.label])
        case "gauge":
            return GaugeMetricFamily(name, spec.help, labels=labels)
        case "histogram":
            return HistogramMetricFamily(name, spec.help, labels=labels)
        case "info":
            return InfoMetricFamily(name, spec.help, labels=labels)


def _add(family: _Family, spec: Spec, labels: list[str], value: Any) -> None:
    """Put one worker's value into its family."""
    match family:
        case HistogramMetricFamily():
            bounds = [*(_bound(bound) for bound in spec.bounds), "+Inf"]
            family.add_metric(labels, list(zip(bounds, accumulate(value["counts"]), strict=True)), value["sum"])
        case CounterMetricFamily() if spec.kind == "counters":
            for key, number in value.items():
                family.add_metric([*labels, key], number)
        case CounterMetricFamily() | GaugeMetricFamily() | InfoMetricFamily():
            family.add_metric(labels, value)


def _bound(bound: float) -> str:
    """Bounds as floats, always: OpenMetrics wants ``1.0``, not ``1``, for the same series every time."""
    return str(float(bound))
