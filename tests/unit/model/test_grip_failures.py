"""The failure table of WebSocket-over-HTTP, cell by cell."""

from __future__ import annotations

import pytest

from edge.model.grip_failures import Again, GiveUp, NextTarget, Reject, refused, unanswered, unanswered_open

KINDS = ("connect", "reset", "timeout", "garbage", "full", "closed", "something new")


@pytest.mark.parametrize(
    ("kind", "status"),
    [("connect", 502), ("reset", 502), ("timeout", 504), ("garbage", 502), ("full", 503), ("closed", 503)],
)
def test_a_handshake_goes_to_the_next_target_unless_this_one_may_have_acted_on_it(kind: str, status: int) -> None:
    verdict = unanswered_open(kind, sent=False)
    assert isinstance(verdict, NextTarget)
    assert verdict.otherwise.status == status
    if kind in ("connect", "full"):  # it met a closed connection first, then nobody
        assert unanswered_open(kind, sent=True) == verdict
    else:
        assert unanswered_open(kind, sent=True) == Reject(status, verdict.otherwise.text)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("retry_unanswered", [True, False])
def test_what_did_not_leave_whole_is_sent_again(kind: str, retry_unanswered: bool) -> None:
    verdict = unanswered(kind, sent=False, failures=0, retry_unanswered=retry_unanswered, random=lambda: 0.5)
    assert verdict == Again(1_500)


@pytest.mark.parametrize("kind", KINDS)
def test_what_left_whole_is_sent_again_only_when_its_connection_broke(kind: str) -> None:
    verdict = unanswered(kind, sent=True, failures=0, retry_unanswered=True, random=lambda: 0.0)
    if kind in ("reset", "closed", "connect", "full"):
        assert verdict == Again(1_000)
    else:
        assert isinstance(verdict, GiveUp)
        assert verdict.code == 1011


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_sent_twice_where_that_is_not_wanted(kind: str) -> None:
    verdict = unanswered(kind, sent=True, failures=0, retry_unanswered=False, random=lambda: 0.0)
    assert isinstance(verdict, GiveUp)


def test_retries_come_after_growing_pauses_and_end() -> None:
    pauses = []
    for failures in range(6):
        verdict = unanswered("connect", sent=False, failures=failures, retry_unanswered=True, random=lambda: 0.999)
        pauses.append(verdict.after_ms if isinstance(verdict, Again) else verdict)
    assert pauses == [1_999, 2_999, 4_999, 8_999, 16_999, GiveUp(1013, "backend cannot be reached")]


@pytest.mark.parametrize("status", [100, 201, 204, 301, 400, 403, 404, 500, 502, 504])
def test_another_status_ends_the_connection_and_is_named(status: int) -> None:
    assert refused(status, failures=0, retry_after_ms=0) == GiveUp(1011, f"backend answered {status}")


@pytest.mark.parametrize("status", [429, 503])
def test_a_backend_may_say_when_to_come_again(status: int) -> None:
    assert refused(status, failures=0, retry_after_ms=2_500) == Again(2_500)
    assert refused(status, failures=4, retry_after_ms=0) == Again(0)
    for failures, pause in ((5, 0), (0, None), (0, 60_001)):
        assert refused(status, failures=failures, retry_after_ms=pause) == GiveUp(1013, f"backend answered {status}")


def test_reasons_fit_into_a_close_frame() -> None:
    for kind in KINDS:
        verdict = unanswered(kind, sent=True, failures=5, retry_unanswered=True, random=lambda: 0.0)
        assert isinstance(verdict, GiveUp)
        assert len(verdict.reason.encode()) <= 123
