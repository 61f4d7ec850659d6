from __future__ import annotations

import pytest

from benchmarks.goals import Goal, design_goals, judge
from benchmarks.stats import Key


def key(peer: str, size: int = 50, case: str = "inbound", variant: str = "") -> Key:
    return Key(case, peer, size, variant)


@pytest.mark.parametrize(
    ("sense", "ours", "word"),
    [
        ("at most", 1.6, "met"),
        ("at most", 1.7, "missed"),
        ("at least", 1.6, "met"),
        ("at least", 1.5, "missed"),
    ],
)
def test_a_goal_is_met_or_missed_at_its_bound(sense: str, ours: float, word: str) -> None:
    goal = Goal("g", "x", key("Holdfast"), sense, 1.6, key("nginx"))  # type: ignore[arg-type]
    (verdict,) = judge([goal], {key("Holdfast"): {"x": ours}, key("nginx"): {"x": 1.0}})
    assert (verdict.measured, verdict.word) == (ours, word)


def test_what_was_not_measured_is_not_met() -> None:
    goals = [
        Goal("ratio", "x", key("Holdfast"), "at most", 10, key("nginx")),
        Goal("bound", "y", key("Holdfast"), "at most", 10),
    ]
    for verdict in judge(goals, {key("Holdfast"): {"x": 1.0}}):
        assert verdict.met is None
        assert verdict.word == "not measured"


def test_the_design_goals_are_judged_on_one_run() -> None:
    table = {
        key("Holdfast", 50): {"cpu_us": 30.0, "events_per_s": 30_000.0},
        key("Holdfast", 8_000): {"cpu_us": 60.0, "events_per_s": 15_000.0},
        key("nginx", 50): {"cpu_us": 20.0},
        key("nginx", 8_000): {"cpu_us": 30.0},
        key("Holdfast", 50, variant="GRIP"): {"cpu_us": 24.0, "events_per_s": 30_000.0},
        key("nginx", 50, variant="GRIP"): {"cpu_us": 20.0},
        key("Pushpin", 50, variant="GRIP"): {"events_per_s": 1_000.0},
        key("Holdfast", 1_000, "fanout", "single"): {"cpu_us": 9.0},
        key("Nchan", 1_000, "fanout", "single"): {"cpu_us": 8.0},
        key("Holdfast", 1_000, "fanout", "burst"): {"deliveries_per_s": 290.0},
        key("Nchan", 1_000, "fanout", "burst"): {"deliveries_per_s": 100.0},
        key("Holdfast", 5_000, "idle"): {"rss_bytes": 8_192.0},
        key("Holdfast", 1_000, "sdk", "batch=64"): {"events_per_s": 50.0},
        key("Holdfast", 1_000, "sdk", "batch=1"): {"events_per_s": 10.0},
    }
    verdicts = judge(design_goals([50, 8_000], [1_000], [5_000], [1_000], []), table)
    assert [(verdict.word, verdict.measured) for verdict in verdicts] == [
        ("met", 1.5),
        ("met", 1.2),
        ("met", 30.0),
        ("missed", 2.0),
        ("not measured", None),
        ("not measured", None),
        ("missed", 2.0),
        ("met", 1.125),
        ("missed", pytest.approx(2.9)),
        ("met", 8_192.0),
        ("met", 5.0),
    ]


def test_the_goals_of_xmpp_sessions_are_judged() -> None:
    table = {
        key("Holdfast", 1_000, "xmpp", "Prosody"): {"rss_bytes": 30_721.0, "cpu_us": 1.0},
        key("Holdfast", 1_000, "xmpp", "Prosody away"): {"rss_bytes": 1.0, "cpu_us": 1_001.0},
        key("Holdfast", 1_000, "xmpp", "Prosody bare"): {"rss_bytes": 30_720.0, "cpu_us": 999.0},
        key("Holdfast", 1_000, "xmpp-killed", "Prosody"): {"times_faster": 3.5, "lost": 0.0},
        key("Holdfast", 1_000, "xmpp-killed", "Prosody tuned"): {"times_faster": 3.0, "lost": 0.0},
        key("Holdfast", 1_000, "xmpp-killed", "Prosody, no TLS"): {"times_faster": 2.9, "lost": 0.0},
        key("Holdfast", 1_000, "xmpp-killed", "ejabberd"): {"times_faster": 2.5, "lost": 1.0},
    }
    verdicts = judge(design_goals([], [], [], [], [1_000]), table)
    assert [(verdict.word, verdict.measured) for verdict in verdicts] == [
        ("missed", 30_721.0),
        ("met", 30_720.0),
        ("missed", 1_001.0),
        ("met", 999.0),
        ("met", 3.5),
        ("met", 0.0),
        ("met", 3.0),
        ("met", 0.0),
        ("missed", 2.9),
        ("met", 0.0),
        ("missed", 2.5),
        ("missed", 1.0),
    ]
