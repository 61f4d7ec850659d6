"""Meters count, snapshots carry the counts, and the exposition shows exactly what was counted."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from edge.model.canary import SECONDS
from edge.telemetry.exposition import merge, render
from edge.telemetry.metrics import PROCESS_SPECS, ROUTE_SPECS, Histogram, Metrics

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples_of(text: bytes) -> Samples:
    """(sample name, labels) → value; a series that stands twice fails."""
    found: Samples = {}
    for family in parse_text(text.decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} stands twice"
            found[key] = sample.value
    return found


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum over all series of `name` with these labels."""
    return sum(
        value for (known, has), value in samples.items() if known == name and labels.items() <= dict(has).items()
    )


def test_meters_of_a_route_and_release_are_the_same_object_every_time() -> None:
    metrics = Metrics()
    assert metrics.route("*/", "a") is metrics.route("*/", "a")
    assert metrics.route("*/", "a") is not metrics.route("*/", "b")


def test_names_follow_the_conventions_of_prometheus() -> None:
    specs = [*ROUTE_SPECS, *PROCESS_SPECS]
    names = [spec.name for spec in specs]
    assert len(set(names)) == len(names)
    for spec in specs:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", spec.name)
        assert not spec.name.endswith(("_total", "_count", "_sum", "_bucket", "_info", "_ms"))
        assert spec.help.endswith(".")
        if "seconds" in spec.attribute:
            assert spec.name.endswith("_seconds")


@given(st.lists(st.one_of(st.floats(0, 100), st.sampled_from(SECONDS)), max_size=50))
def test_a_histogram_counts_each_observation_in_the_first_bucket_that_holds_it(observations: list[float]) -> None:
    histogram = Histogram(SECONDS)
    for value in observations:
        histogram.observe(value)
    assert sum(histogram.counts) == len(observations)
    assert histogram.sum == pytest.approx(sum(observations))
    for index, bound in enumerate(SECONDS):
        assert sum(histogram.counts[: index + 1]) == sum(value <= bound for value in observations)


Step = tuple[str, str, str, str, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["0", "1", "2"]),
        st.sampled_from(["*/", 'quo"te\\host/']),
        st.sampled_from(["abc", "def"]),
        st.sampled_from(["events_delivered", "connections", "connections_closed", "batch_size"]),
        st.integers(1, 300),
    ),
    max_size=40,
)


def count(metrics: Metrics, step: Step) -> None:
    _, route, release, attribute, by = step
    meters = metrics.route(route, release)
    if attribute == "events_delivered":
        meters.events_delivered.value += by
    elif attribute == "connections":
        meters.connections.value += by
    elif attribute == "connections_closed":
        meters.connections_closed["idle" if by % 2 else "slow"].value += by
    else:
        meters.batch_size.observe(by)


@given(steps)
def test_what_workers_counted_adds_up_over_them_after_a_trip_through_json(done: list[Step]) -> None:
    workers = {number: Metrics(number) for number in ("0", "1", "2")}
    for step in done:
        count(workers[step[0]], step)
    snapshots = [json.loads(json.dumps(metrics.snapshot())) for metrics in workers.values()]
    samples = samples_of(render(merge(snapshots))[0])
    expected: dict[tuple[str, str, str], float] = defaultdict(float)
    for _, route, release, attribute, by in done:
        expected[attribute, route, release] += by
    for (attribute, route, release), value in expected.items():
        name = {
            "events_delivered": "holdfast_events_delivered_total",
            "connections": "holdfast_connections",
            "connections_closed": "holdfast_connections_closed_total",
            "batch_size": "holdfast_batch_size_events_sum",
        }[attribute]
        assert total(samples, name, route=route, release=release) == value
    assert total(samples, "holdfast_batch_size_events_count") == sum(step[3] == "batch_size" for step in done)
    assert total(samples, "holdfast_workers") == 3


@given(steps, st.permutations(range(3)))
def test_merging_does_not_depend_on_order_or_grouping(done: list[Step], order: list[int]) -> None:
    workers = [Metrics(number) for number in ("0", "1", "2")]
    for step in done:
        count(workers[int(step[0])], step)
    a, b, c = (workers[index].snapshot() for index in order)
    assert merge([merge([a, b]), c]) == merge([a, merge([b, c])]) == merge([c, b, a])


def test_a_worker_that_is_missing_to_one_and_known_to_another_is_not_missing() -> None:
    known = Metrics("1").snapshot()
    merged = merge([{"workers": {}, "missing": ["1", "2"]}, known])
    assert merged["missing"] == ["2"]
    assert total(samples_of(render(merged)[0]), "holdfast_workers_missing") == 1


def test_every_line_of_both_tables_is_exported_in_both_formats() -> None:
    metrics = Metrics("3", {"version": "1.2"})
    meters = metrics.route("*/", "abc")
    for spec in ROUTE_SPECS:
        if spec.kind == "counters":
            getattr(meters, spec.attribute)["word"].value += 1
    for spec in PROCESS_SPECS:
        if spec.kind == "counters":
            getattr(metrics.process, spec.attribute)["word"].value += 1
    text, text_type = render(metrics.snapshot(), "text/plain")
    openmetrics, openmetrics_type = render(metrics.snapshot(), "application/openmetrics-text; version=1.0.0")
    assert text_type.startswith("text/plain")
    assert openmetrics_type.startswith("application/openmetrics-text")
    again = parse_openmetrics(openmetrics.decode())  # type: ignore[no-untyped-call]
    for families in (parse_text(text.decode()), again):
        shown = {family.name: family for family in families if family.samples}
        for spec in (*ROUTE_SPECS, *PROCESS_SPECS):
            family = shown.get("holdfast_" + spec.name) or shown["holdfast_" + spec.name + "_info"]
            assert family.documentation == spec.help
            assert all(sample.labels["worker"] == "3" for sample in family.samples)
    assert total(samples_of(text), "holdfast_build_info", version="1.2") == 1
    assert total(samples_of(text), "holdfast_connections_closed_total", cause="word", release="abc") == 1


def test_buckets_are_cumulative_and_end_with_all() -> None:
    metrics = Metrics()
    histogram = metrics.route("*/", "abc").request_seconds
    for value in (0.0005, 0.02, 0.02, 99.0):
        histogram.observe(value)
    samples = samples_of(render(metrics.snapshot())[0])
    buckets = {
        dict(labels)["le"]: value
        for (name, labels), value in samples.items()
        if name == "holdfast_backend_request_seconds_bucket"
    }
    assert len(buckets) == len(SECONDS) + 1
    assert {bound: buckets[bound] for bound in ("0.0005", "0.01", "0.025", "30.0", "+Inf")} == {
        "0.0005": 1,
        "0.01": 1,
        "0.025": 3,
        "30.0": 3,
        "+Inf": 4,
    }


def test_memory_and_descriptors_are_the_processs_own() -> None:
    metrics = Metrics()
    before = metrics.snapshot()["workers"]["0"]["process"]
    reading, writing = os.pipe()
    try:
        after = metrics.snapshot()["workers"]["0"]["process"]
    finally:
        os.close(reading)
        os.close(writing)
    assert after["open_fds"] == before["open_fds"] + 2
    assert 1_000_000 < after["rss_bytes"] < 10_000_000_000


def test_gauges_can_be_looked_up_when_somebody_asks() -> None:
    metrics = Metrics()
    asked: list[int] = []

    def sample() -> None:
        asked.append(1)
        metrics.process.channels.value = 7

    metrics.before_snapshot(sample)
    assert metrics.snapshot()["workers"]["0"]["process"]["channels"] == 7
    assert asked == [1]
