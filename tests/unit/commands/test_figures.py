"""Rates out of two scrapes."""

from __future__ import annotations

import pytest

from edge.commands.figures import figures, parse_metrics, quantile

BEFORE = """\
# HELP holdfast_connections Client connections that are open now.
# TYPE holdfast_connections gauge
holdfast_connections{worker="0",route="a \\"b\\"",release=""} 3.0
holdfast_events_delivered_total{worker="0",route="a",release="c0ffee1"} 100.0
holdfast_events_delivered_total{worker="1",route="a",release="c0ffee1"} 500.0
holdfast_event_seconds_bucket{worker="0",route="a",release="c0ffee1",le="0.1"} 100.0
holdfast_event_seconds_bucket{worker="0",route="a",release="c0ffee1",le="+Inf"} 100.0
holdfast_store_up{worker="0"} 1.0
holdfast_store_up{worker="1"} 1.0
"""
AFTER = """\
holdfast_connections{worker="0",route="a",release=""} 3.0
holdfast_connections{worker="1",route="a",release=""} 4.0
holdfast_events_delivered_total{worker="0",route="a",release="c0ffee1"} 120.0
holdfast_events_delivered_total{worker="1",route="a",release="c0ffee1"} 10.0
holdfast_events_expired_total{worker="0",route="a",release="old"} 4.0
holdfast_backend_request_failures_total{worker="0",route="a",release="old",kind="status"} 2.0
holdfast_event_seconds_bucket{worker="0",route="a",release="c0ffee1",le="0.1"} 110.0
holdfast_event_seconds_bucket{worker="0",route="a",release="c0ffee1",le="+Inf"} 110.0
holdfast_store_up{worker="0"} 1.0
holdfast_store_up{worker="1"} 0.0
holdfast_workers 2.0
holdfast_workers_missing 1.0
"""


def test_rates_are_differences_and_a_restarted_worker_counts_from_nothing() -> None:
    found = figures(parse_metrics(BEFORE), parse_metrics(AFTER), 2.0)
    assert (found.connections, found.workers, found.workers_missing, found.store_up) == (7, 2, 1, False)
    assert found.whole.events_per_s == (20 + 10) / 2
    assert found.of("c0ffee1").errors_per_s == 0
    assert found.of("old").errors_per_s == 3
    assert found.of("c0ffee1").p99_ms == pytest.approx(99.0)
    assert found.of("old").p99_ms is None
    assert found.of("never").events_per_s == 0


def test_quantiles_are_read_between_bounds() -> None:
    inf = float("inf")
    assert quantile([(1.0, 50), (2.0, 100), (inf, 100)], 0.99) == pytest.approx(1.98)
    assert quantile([(1.0, 0), (inf, 10)], 0.99) == 1.0
    assert quantile([(1.0, 0), (inf, 0)], 0.99) is None
    assert quantile([], 0.99) is None
