"""What `holdfast top` shows, out of two scrapes of /metrics and the release tables. Pure.

Rates are differences of counters over the time between two scrapes, series by series: a worker that was restarted
counts from 0 again. /metrics knows the workers of the edge that is asked; sessions are counted over all edges.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LINE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ERRORS = tuple(
    f"holdfast_{name}_total" for name in ("events_expired", "events_refused", "bad_results", "backend_request_failures")
)
_EVENTS = "holdfast_events_delivered_total"
_BUCKETS = "holdfast_event_seconds_bucket"
QUANTILE = 0.99

Series = tuple[str, tuple[tuple[str, str], ...]]
"""Name and labels."""
Scrape = Mapping[Series, float]


def parse_metrics(text: str) -> Scrape:
    """Prometheus' text format, as far as edges write it."""
    found: dict[Series, float] = {}
    for line in text.splitlines():
        if line.startswith("#") or (match := _LINE.fullmatch(line)) is None:
            continue
        name, labels, value = match.groups()
        found[name, tuple(_LABEL.findall(labels or ""))] = float(value)
    return found


@dataclass(frozen=True, slots=True)
class Rates:
    """Of one release, or of all. None: nothing to judge by."""

    events_per_s: float
    errors_per_s: float
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """One look at an edge."""

    connections: int
    workers: int
    workers_missing: int
    store_up: bool
    whole: Rates
    releases: Mapping[str, Rates]

    def to_json(self, at: int, tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A line for programs. `at`: wall ms."""
        return {
            "at": at,
            "connections": self.connections,
            "workers": self.workers,
            "workers_missing": self.workers_missing,
            "store_up": self.store_up,
            **_rates_json(self.whole),
            "apps": [
                {
                    "app": table["app"],
                    "version": table["version"],
                    "current": table["current"],
                    "complete": table["complete"],
                    "canary": table["canary"],
                    "releases": [self._release_json(release) for release in table["releases"]],
                }
                for table in tables
            ],
        }

    def _release_json(self, release: Mapping[str, Any]) -> dict[str, Any]:
        shown = {name: release[name] for name in ("sha", "state", "current", "weight", "share", "sessions")}
        return {**shown, **_rates_json(self.of(release["sha"]))}

    def of(self, sha: str) -> Rates:
        return self.releases.get(sha, NO_RATES)


NO_RATES = Rates(0.0, 0.0, None)


def _rates_json(rates: Rates) -> dict[str, float | None]:
    return {
        "events_per_s": round(rates.events_per_s, 2),
        "errors_per_s": round(rates.errors_per_s, 2),
        "p99_ms": rates.p99_ms,
    }


def figures(before: Scrape, after: Scrape, seconds: float) -> Figures:
    """What happened between two scrapes, `seconds` apart, and how things stand after it."""
    grown = {series: _growth(before.get(series, 0.0), value) for series, value in after.items()}
    shas = {dict(labels).get("release", "") for _, labels in after} - {""}
    up = _values(after, "holdfast_store_up")
    return Figures(
        connections=round(sum(_values(after, "holdfast_connections"))),
        workers=round(sum(_values(after, "holdfast_workers"))),
        workers_missing=round(sum(_values(after, "holdfast_workers_missing"))),
        store_up=bool(up) and min(up) > 0,
        whole=_rates(grown, seconds, lambda _: True),
        releases={sha: _rates(grown, seconds, lambda found, sha=sha: found == sha) for sha in sorted(shas)},  # type: ignore[misc]
    )


def _growth(before: float, after: float) -> float:
    return after - before if after >= before else after


def _values(scrape: Scrape, name: str) -> list[float]:
    return [value for (found, _), value in scrape.items() if found == name]


def _rates(grown: Scrape, seconds: float, wanted: Callable[[str], bool]) -> Rates:
    ours = [(name, dict(labels), value) for (name, labels), value in grown.items()]
    ours = [(name, labels, value) for name, labels, value in ours if wanted(labels.get("release", ""))]
    events = sum(value for name, _, value in ours if name == _EVENTS)
    errors = sum(value for name, _, value in ours if name in _ERRORS)
    buckets: dict[float, float] = {}
    for name, labels, value in ours:
        if name == _BUCKETS:
            bound = float(labels["le"])
            buckets[bound] = buckets.get(bound, 0.0) + value
    quantile_s = quantile(buckets.items(), QUANTILE)
    p99_ms = None if quantile_s is None else round(quantile_s * 1_000, 1)
    return Rates(events / seconds, errors / seconds, p99_ms)


def quantile(buckets: Iterable[tuple[float, float]], share: float) -> float | None:
    """Of a cumulative histogram (bound, count up to it), as Prometheus' histogram_quantile: between the bounds in
    proportion; past the last finite bound it is that. None: no observations."""
    rows = sorted(buckets)
    if not rows or rows[-1][1] <= 0:
        return None
    rank = rows[-1][1] * share
    low, below = 0.0, 0.0
    for bound, count in rows:
        if count >= rank:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (rank - below) / max(count - below, 1e-9)
        low, below = bound, count
    return low
