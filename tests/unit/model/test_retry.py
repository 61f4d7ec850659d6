"""The rules of retrying, without sockets."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model.health import AWAY_AFTER, Health
from edge.model.retry import Throttle, Verdict, backoff_ms, judge, pieces, retry_after_ms

NOW_MS = 1_790_000_000_000


def test_every_status_has_a_verdict() -> None:
    verdicts = {status: judge(status) for status in range(200, 600)}
    assert {s for s, v in verdicts.items() if v is Verdict.ANSWER} == {200, 204}
    assert {s for s, v in verdicts.items() if v is Verdict.THROTTLED} == {429}
    assert {s for s, v in verdicts.items() if v is Verdict.REDIRECT} == set(range(300, 400))
    assert {s for s, v in verdicts.items() if v is Verdict.REFUSED} == set(range(400, 500)) - {408, 425, 429}
    assert all(verdicts[s] is Verdict.RETRY for s in (201, 206, 408, 425, *range(500, 600)))


def test_backoff_is_full_jitter_under_a_doubling_cap() -> None:
    most = [backoff_ms(n, lambda: 0.999_999) for n in range(1, 12)]
    assert most == [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000]
    assert backoff_ms(10_000, lambda: 0.5) == 2501
    assert backoff_ms(5, lambda: 0.0) == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0),
        (" 7 ", 7000),
        ("9" * 400, 100_000_000_000),
        (formatdate(NOW_MS / 1000 + 30, usegmt=True), 30_000),
        (formatdate(NOW_MS / 1000 - 30, usegmt=True), 0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("Mon, 99 Foo 2026 25:61:61 GMT", None),
    ],
)
def test_retry_after(value: str, expected: int | None) -> None:
    assert retry_after_ms(value, NOW_MS) == expected


@given(st.text())
def test_retry_after_never_raises(value: str) -> None:
    found = retry_after_ms(value, NOW_MS)
    assert found is None or found >= 0


def test_a_batch_is_halved_unless_the_window_is_too_short_for_that() -> None:
    assert pieces(1, 30_000, 0) == 1
    assert pieces(64, 30_000, 0) == 2
    assert pieces(64, 60_000, 10_000) == 2
    assert pieces(64, 29_000, 10_000) == 64
    assert pieces(2, 10_000, 10_000) == 2


def test_429_halves_once_per_round_and_recovers_one_by_one() -> None:
    throttle = Throttle(16)
    for number in range(1, 17):
        throttle.throttled(number, newest=16)
    assert throttle.limit == 8
    throttle.throttled(17, newest=20)
    assert throttle.limit == 4
    for expected in (5, 6, 7):
        for _ in range(expected - 1):
            assert throttle.limit == expected - 1
            throttle.answered()
        assert throttle.limit == expected
    for number in range(100, 200):
        throttle.throttled(number, newest=number)
    assert throttle.limit == 1
    for _ in range(1_000):
        throttle.answered()
    assert throttle.limit == 16
    throttle.most = 4
    assert throttle.limit == 4


def test_a_release_without_connections_is_away_at_once_and_probed_at_growing_distances() -> None:
    health = Health(lambda: 0.999)
    assert health.unreachable("connection refused", 1_000)
    assert health.away
    waits = []
    now = 1_000
    for _ in range(9):
        waits.append(health.probe_ms - now)
        assert not health.may_probe(health.probe_ms - 1)
        now = health.probe_ms
        assert health.may_probe(now)
        assert not health.unreachable("connection refused", now)
        assert not health.unreachable("connection refused", now)  # dialled together: counted once
    assert waits == [50, 100, 200, 400, 800, 1599, 3197, 4996, 4996]
    assert health.answered(now + 5) == now + 5 - 1_000
    assert not health.away
    assert not health.failing
    assert health.answered(now + 6) is None


def test_only_first_tries_that_fail_in_a_row_make_a_release_away() -> None:
    health = Health(lambda: 0.5)
    for _ in range(100):
        assert not health.failed("status 500", 0, fresh=False)
    for _ in range(AWAY_AFTER - 1):
        assert not health.failed("status 500", 0, fresh=True)
    health.answered(0)
    for _ in range(AWAY_AFTER - 1):
        assert not health.failed("status 500", 0, fresh=True)
    assert health.failed("status 500", 0, fresh=True)
    assert health.last_error == "status 500"


def test_a_release_is_tried_several_times_within_a_short_retry_window() -> None:
    health = Health(lambda: 0.999, window_ms=1_000)
    now = 0
    for _ in range(20):
        health.unreachable("connection refused", now)
        assert health.probe_ms - now <= 250
        now = health.probe_ms
