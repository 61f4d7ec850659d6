"""How releases and lives look on a terminal, and what of the command line is refused without asking anybody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from edge import cli
from edge.commands.release_views import canary_text, release_text, shadow_text, table_text
from edge.commands.sessions import why_text
from edge.commands.terminal import Palette

PLAIN, NOW = Palette(), 1_700_000_600_000
RELEASE: Mapping[str, Any] = {
    "sha": "c0ffee1", "url": "http://a:1", "state": "active", "configured": True, "weight": 90, "share": 90.0,
    "sessions": 12, "cohorts": [], "added_at": None, "health": {"path": "", "passed": 1, "needed": 1, "error": ""},
    "retirement": None, "emptied_at": None, "current": True,
}  # fmt: skip
DRAINING: Mapping[str, Any] = {
    **RELEASE, "sha": "1d0e5c9", "state": "draining", "current": False, "share": 10.0, "sessions": None,
    "cohorts": ["user:ann"], "added_at": NOW - 600_000,
    "retirement": {"how": "over", "since": NOW, "for_ms": 90_000, "until": NOW + 90_000, "notice": ""},
}  # fmt: skip
CANARY: Mapping[str, Any] = {
    "sha": "1d0e5c9", "steps": [1, 5, 100], "step": 1, "share": 5, "every_ms": 60_000, "max_error_rate": 0.01,
    "max_p99_ms": None, "min_events": 20, "step_at": NOW - 20_000, "outcome": "running", "reason": "",
}  # fmt: skip


def test_a_table_of_releases() -> None:
    table = {"app": "chat", "complete": False, "releases": [RELEASE, DRAINING], "canary": CANARY, "shadow": None}
    lines = table_text(table, PLAIN, NOW).splitlines()
    assert lines[0].split() == ["RELEASE", "STATE", "SHARE", "SESSIONS", "AGE", "URL", "COHORTS"]
    assert lines[1].split() == ["▶", "c0ffee1", "active", "90%", "██████████▊", "12", "configured", "http://a:1"]
    assert "draining over, 1m 30s left" in lines[2]
    assert " ? " in lines[2]
    assert "10m" in lines[2]
    assert lines[3].startswith("An edge did not answer in time")
    assert lines[4] == "Canary 1d0e5c9: 5% of 1%, 5%, 100%; next look in 40s."


def test_one_release_says_what_its_health_check_said() -> None:
    health = {"path": "/healthz", "passed": 0, "needed": 3, "error": "GET /healthz was answered 500"}
    text = release_text({**RELEASE, "state": "warming", "health": health, "added_at": NOW}, PLAIN, NOW)
    assert "warming 0/3" in text
    assert "GET /healthz, 0 of 3 checks passed; GET /healthz was answered 500" in text


def test_ends_of_canaries_and_shadows() -> None:
    assert canary_text({**CANARY, "outcome": "rolled-back", "reason": "5% errors"}, PLAIN, NOW) == (
        "Canary 1d0e5c9: rolled-back: 5% errors."
    )
    shadow = {"sha": "x", "share": 5.0, "seen": 10, "same": 8, "different": 1, "failed": 1, "dropped": 0,
              "differences": [{"session": "s", "event": "s:1", "live": "a", "shadow": "b"}]}  # fmt: skip
    assert shadow_text(shadow, PLAIN).splitlines() == [
        "Shadow x: 5% of the sessions; events: 10 seen, 8 same, 1 different, 1 failed, 0 dropped.",
        "  s s:1", "    live   a", "    shadow b",
    ]  # fmt: skip
    assert shadow_text({"sha": "x", "share": 5.0}, PLAIN) == "Shadow x: 5% of the sessions."


def test_why_says_where_the_session_is_and_for_what_reason() -> None:
    life = {"life": [{"at": NOW, "edge": "e", "what": "handshake", "detail": "accepted by release c0ffee1 in 3 ms"}]}
    row = {"opened_at": NOW - 5_000, "edge": "e", "release": "c0ffee1", "pinned": None, "app": "chat"}
    text = why_text(life, row, RELEASE, PLAIN, NOW)
    assert "accepted by release c0ffee1" in text
    assert text.endswith("Now: open for 5s at edge e, on release c0ffee1 (active, 90% of the sessions).")
    assert "to which it is pinned" in why_text(life, {**row, "pinned": "c0ffee1"}, RELEASE, PLAIN, NOW)
    assert "not in the table any more" in why_text(life, row, None, PLAIN, NOW)
    assert why_text({"life": []}, None, None, PLAIN, NOW).endswith("The session is over.")
    assert "\x1b[38;2;" in why_text(life, row, RELEASE, Palette("truecolor"), NOW)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["release", "weights", "c0ffee1"], "SHA=N with a whole number"),
        (["release", "canary"], "either SHA or --stop"),
        (["release", "canary", "c0ffee1", "--steps", "1;5"], "--steps: whole percents with commas"),
        (["release", "canary", "c0ffee1", "--every", "10"], "--every: a duration is needed"),
        (["release", "shadow", "c0ffee1"], "--share is needed"),
        (["release", "pin", "s"], "either SHA or --none"),
        (["release", "list", "--control", "ftp://x"], "--control: http://HOST:PORT is needed"),
        (["top", "--interval", "1ms"], "--interval: 100ms at least"),
        (["doctor", "http://x", "--path", "no"], "--path: a path begins with a slash"),
        (["doctor", "http://x", "-H", "nothing"], "-H 'K: V' is needed"),
    ],
)
def test_wrong_usage_is_told_before_anybody_is_asked(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_CONTROL", "http://127.0.0.1:9")
    assert cli.main(arguments) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""
