from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.goals import design_goals, judge
from benchmarks.peers.grip import websocket_event
from benchmarks.plan import QUICK, split_cores
from benchmarks.report import plots, record
from benchmarks.report.table import render
from benchmarks.stats import Failure, Key, Sample, medians

SAMPLES = [
    Sample(Key("inbound", "Holdfast", 50), 1, {"events_per_s": 30_000.0, "cpu_us": 30.0, "server_busy": 0.9}),
    Sample(Key("inbound", "nginx", 50), 1, {"events_per_s": 40_000.0, "cpu_us": 20.0, "server_busy": 0.9}),
    Sample(Key("fanout", "Nchan", 200, "burst"), 1, {"deliveries_per_s": 1_000.0, "cpu_us": 8.0}),
]
FAILURES = [Failure(Key("fanout", "Pushpin", 200, "burst"), 1, "LoadError: 3 deliveries were missing")]
ABSENT = {"Pushpin": "not installed (Debian: pushpin)"}


def test_the_table_shows_ratios_goals_failures_and_who_is_absent() -> None:
    table = medians(SAMPLES)
    text = render(table, judge(design_goals([50], [200], [], [], []), table), FAILURES, ABSENT)
    lines = text.splitlines()
    (ours,) = [line for line in lines if line.strip().startswith("50") and "Holdfast" in line]
    (nginx,) = [line for line in lines if line.strip().startswith("50") and "nginx" in line]
    assert ours.endswith("1.00 ×")
    assert nginx.endswith("0.67 ×")
    assert "40,000" in nginx
    assert "90%" in nginx
    assert any("Pushpin: absent: not installed" in line for line in lines)
    assert any("200 burst Pushpin: round 1 failed: LoadError: 3 deliveries" in line for line in lines)
    (goal,) = [line for line in lines if "÷ nginx" in line and "GRIP" not in line]
    assert goal.split()[-5:] == ["met", "1.50", "at", "most", "1.6"]
    assert sum("not measured" in line for line in lines) == 4


def test_who_shows_in_a_case_is_not_absent_from_it() -> None:
    """Holdfast's other cases need an nginx that its links do not."""
    table = medians(
        [
            Sample(Key("xmpp", "Holdfast", 50, "Prosody"), 1, {"cpu_us": 900.0, "resume_cpu_us": 400.0}),
            Sample(Key("xmpp", "slixmpp", 50, "Prosody"), 1, {"cpu_us": 9_000.0, "resume_cpu_us": 2_000.0}),
        ]
    )
    absent = {"Holdfast": "nginx is not installed", "ejabberd": "ejabberd is not installed (Debian: ejabberd)"}
    text = render(table, [], [], absent)
    assert "Holdfast: absent" not in text
    assert text.count("! ejabberd: absent: ejabberd is not installed") == 1
    assert [line.split()[-2:] for line in text.splitlines() if line.split()[2:3] == ["slixmpp"]] == [
        ["10.00", "×"],
        ["–", "–"],
        ["5.00", "×"],
    ]


@pytest.mark.parametrize(("others", "warned"), [(0.1, False), (1.3, True)])
def test_a_busy_machine_is_said(others: float, warned: bool) -> None:
    table = medians([Sample(Key("inbound", "nginx", 50), 1, {"cpu_us": 20.0, "foreign_busy": others})])
    assert ("took up to 130% of a core" in render(table, [], [], {})) is warned


def test_the_record_holds_every_round(tmp_path: Path) -> None:
    table = medians(SAMPLES)
    verdicts = judge(design_goals([50], [], [], [], []), table)
    path = tmp_path / "deep" / "results.json"
    record.write(path, record.record({"commit": "abc"}, QUICK, SAMPLES, table, verdicts, FAILURES, ABSENT))
    stored = json.loads(path.read_text())
    assert stored["commit"] == "abc"
    assert stored["plan"]["burst"] == 100
    assert [(entry["peer"], entry["round"]) for entry in stored["rounds"]] == [
        ("Holdfast", 1),
        ("nginx", 1),
        ("Nchan", 1),
    ]
    assert stored["rounds"][0]["values"]["cpu_us"] == 30.0
    assert stored["failures"][0]["reason"].startswith("LoadError")
    assert stored["goals"][0]["verdict"] == "met"
    assert list(path.parent.iterdir()) == [path]


def test_a_plot_is_drawn_for_each_case_that_was_measured(tmp_path: Path) -> None:
    written = plots.draw(SAMPLES, medians(SAMPLES), tmp_path, "a machine")
    assert sorted(path.name for path in written) == ["fanout.png", "inbound.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


@pytest.mark.parametrize(
    ("available", "server", "backend", "load"),
    [({3}, 3, 3, 3), ({0, 1}, 0, 1, 1), ({0, 2, 5, 7}, 0, 5, 2)],
)
def test_cores_are_split_the_same_way_for_everybody(available: set[int], server: int, backend: int, load: int) -> None:
    cores = split_cores(frozenset(available))
    assert [*cores.server, *cores.backend, *cores.load] == [server, backend, load]


def test_a_websocket_event_tells_its_length_in_hexadecimal_bytes() -> None:
    assert websocket_event("OPEN") == "OPEN\r\n"
    assert websocket_event("TEXT", "é" * 10) == "TEXT 14\r\n" + "é" * 10 + "\r\n"
