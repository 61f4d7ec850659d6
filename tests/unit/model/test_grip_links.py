"""Where links lead, who shares an answer, and when they are followed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model.grip_links import (
    RETRIES,
    idle_due_ms,
    last_id_field,
    link_key,
    resolve,
    retry_ms,
    same_service,
)


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("/next?page=2", "http://edge:7999/next?page=2"),
        ("more", "http://edge:7999/a/more"),
        ("?page=2", "http://edge:7999/a/b?page=2"),
        ("../up", "http://edge:7999/up"),
        ("//other/x", "http://other/x"),
        ("https://other.example/x?y=1#z", "https://other.example/x?y=1"),
        ("/with space\r\nX: y", "http://edge:7999/with%20spaceX:%20y"),
        ("/ä%20", "http://edge:7999/%C3%A4%20"),
        ("ftp://other/x", None),
        ("http://[broken/", None),
        ("http://host:99999/", None),
    ],
)
def test_a_link_is_resolved_against_the_address_it_came_from(link: str, expected: str | None) -> None:
    assert resolve("http://edge:7999/a/b?c=d", link) == expected


@pytest.mark.parametrize(
    ("uri", "base", "same"),
    [
        ("http://edge:7999/x", "http://edge:7999/y", True),
        ("http://EDGE/x", "http://edge:80/y", True),
        ("https://edge/x", "http://edge/y", True),
        ("https://edge:8443/x", "http://edge/y", False),
        ("http://edge:8000/x", "http://edge:7999/y", False),
        ("http://other/x", "http://edge/y", False),
    ],
)
def test_a_link_to_the_host_the_client_came_to_stays_on_its_route(uri: str, base: str, same: bool) -> None:
    assert same_service(uri, base) is same


def test_pauses_between_retries_double() -> None:
    assert [retry_ms(attempt, 0.0) for attempt in range(RETRIES)] == [1_000, 2_000, 4_000, 8_000, 16_000]
    assert retry_ms(0, 0.5) == 1_500


@given(st.integers(0, 10**9), st.integers(1, 600), st.text(max_size=20))
def test_a_silent_hold_follows_its_link_after_its_timeout_and_at_most_a_tenth_later(
    now_ms: int, timeout_s: int, query: str
) -> None:
    due_ms = idle_due_ms(now_ms, timeout_s, link_key("r", f"http://edge/x?{query}", ()))
    assert timeout_s * 1_000 <= due_ms - now_ms <= timeout_s * 1_100


def test_holds_with_the_same_link_meet_and_others_are_spread() -> None:
    same = link_key("r", "http://edge/x", ())
    assert len({idle_due_ms(now_ms, 120, same) for now_ms in range(0, 3_000, 100)}) <= 2
    others = [link_key("r", f"http://edge/x?user={number}", ()) for number in range(1_000)]
    dues = [idle_due_ms(5_000, 120, key) for key in others]
    tenths = [sum(1 for due in dues if due // 1_200 == part) for part in {due // 1_200 for due in dues}]
    assert max(tenths) < 300


def test_ids_in_another_order_make_the_same_key() -> None:
    assert link_key("r", "u", [("a", "1"), ("b", "2")]) == link_key("r", "u", [("b", "2"), ("a", "1")])
    assert link_key("r", "u", [("a", "1")]) != link_key("r", "u", [("a", "2")])
    assert link_key("r", "u?a", []) != link_key("r", "u?b", [])


def test_what_grip_last_says_can_be_read_back() -> None:
    assert last_id_field("room", "7") == "room; last-id=7"
    assert last_id_field('a;b"', "x\r\ny") == '"a;b\\""; last-id=xy'
