"""What the reaper decides: a release with sessions, or one that nobody can count, is never touched."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.commands.reap import Workload, decide

HOUR = 3_600_000
NOW = 100 * HOUR
YOUNG, OLD = NOW - 60_000, NOW - 50 * HOUR


def workload(replicas: int = 2, created: int = OLD) -> Workload:
    return Workload("chat-a", "a", "chat-a", replicas, created)


def table(complete: bool = True, **release: Any) -> dict[str, Any]:
    row = {"sha": "a", "state": "empty", "sessions": 0, "emptied_at": NOW - 2 * HOUR} | release
    return {"complete": complete, "releases": [row, row | {"sha": "b", "sessions": 5}]}


@pytest.mark.parametrize(
    ("of", "said", "remove", "what", "reason"),
    [
        (workload(), table(), False, "scale", "empty for 2h"),
        (workload(), table(), True, "remove", "empty for 2h"),
        (workload(), table(emptied_at=NOW - 60_000), True, "scale", "empty for 1m"),
        (workload(replicas=0), table(emptied_at=NOW - 60_000), True, "leave", "has no pods"),
        (workload(replicas=0), table(), True, "remove", "empty for 2h"),
        (workload(), table(complete=False), True, "leave", "not every edge"),
        (workload(), table(sessions=3), True, "leave", "3 sessions"),
        (workload(), table(state="draining"), True, "leave", "draining"),
        (workload(), table(state="active"), True, "leave", "active"),
        (workload(), table(state="warming"), True, "leave", "warming"),
        (workload(created=YOUNG), table(sha="c"), True, "leave", "younger than the grace time"),
        (workload(), table(sha="c"), False, "scale", "do not know it"),
        (workload(), table(sha="c"), True, "remove", "do not know it"),
        (workload(), table(complete=False, sha="c"), True, "leave", "not every edge"),
    ],
)
def test_what_becomes_of_a_release(of: Workload, said: dict[str, Any], remove: bool, what: str, reason: str) -> None:
    decision = decide(of, said, NOW, HOUR, remove=remove)
    assert decision.what == what
    assert reason in decision.reason


@given(
    st.integers(0, 5), st.integers(0, NOW), st.booleans(), st.sampled_from(["warming", "active", "draining", "empty"]),
    st.none() | st.integers(0, 3), st.booleans(),
)  # fmt: skip
def test_a_release_with_sessions_or_an_unknown_number_is_never_touched(
    replicas: int, created: int, complete: bool, state: str, sessions: int | None, remove: bool
) -> None:
    said = table(complete, state=state, sessions=sessions)
    if decide(workload(replicas, created), said, NOW, HOUR, remove=remove).what != "leave":
        assert (complete, sessions, state) == (True, 0, "empty")
