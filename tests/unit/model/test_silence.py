"""What silence means, by the rule and over whole lives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.config import TimeoutSettings
from edge.model.silence import LOOK_AGAIN_S, Step, first_look, judge

SETTINGS = TimeoutSettings(ping_s=25, pong_s=20, idle_s=60)


def test_one_rule_after_the_other() -> None:
    assert judge(100, 90, 90, 0, False, SETTINGS) == (Step.NONE, 116)
    assert judge(116, 90, 90, 0, False, SETTINGS) == (Step.PING, 137)
    assert judge(120, 90, 90, 116, False, SETTINGS) == (Step.NONE, 137)
    assert judge(136, 90, 90, 116, False, SETTINGS) == (Step.NONE, 137)
    assert judge(137, 90, 90, 116, False, SETTINGS) == (Step.DEAD, 0)
    assert judge(137, 117, 90, 116, False, SETTINGS) == (Step.NONE, 143)
    assert judge(150, 149, 90, 116, False, SETTINGS) == (Step.NONE, 151)
    assert judge(151, 149, 90, 116, False, SETTINGS) == (Step.IDLE, 0)
    assert judge(137, 90, 90, 116, True, SETTINGS)[0] is Step.NONE


def test_what_is_off_is_off() -> None:
    off = TimeoutSettings(ping_s=0, idle_s=0)
    assert judge(100_000, 0, 0, 0, False, off) == (Step.NONE, 100_000 + LOOK_AGAIN_S)
    assert first_look(off) == LOOK_AGAIN_S
    assert first_look(SETTINGS) == 25
    assert first_look(TimeoutSettings(ping_s=25, idle_s=0.5)) == 1


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 30), st.integers(1, 30))
def test_who_speaks_in_time_is_never_dropped_and_who_falls_silent_always_is(
    gaps: list[int], ping_s: int, pong_s: int
) -> None:
    timeouts = TimeoutSettings(ping_s=ping_s, pong_s=pong_s)
    spoken = [0]
    for gap in gaps:
        spoken.append(spoken[-1] + min(gap, ping_s + pong_s))
    now, pinged = 0, 0
    while True:
        heard = max(moment for moment in spoken if moment <= now)
        step, look_at = judge(now, heard, heard, pinged, False, timeouts)
        if step is Step.DEAD:
            break
        if step is Step.PING:
            pinged = now
        assert look_at > now
        now = look_at
    # Looked at lazily: a sign of life while a pong is waited for is noticed at the end of that wait.
    assert spoken[-1] + ping_s + pong_s < now <= spoken[-1] + ping_s + 2 * pong_s + 3
