"""Rates, counts and origins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model.limits import AddressCounts, TokenBucket, origin_allowed


@given(
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 5)), max_size=60),
    st.integers(1, 20),
)
def test_a_bucket_never_gives_more_than_rate_and_burst(steps: list[tuple[int, int]], rate: int) -> None:
    bucket, now, given_out = TokenBucket(0), 0, 0
    for wait, amount in steps:
        now += wait
        if bucket.take(amount, now, rate):
            given_out += amount
        assert given_out <= rate * (2 + now / 1000) + 5  # one amount may overdraw a full bucket


@given(st.integers(1, 100))
def test_a_client_at_the_rate_is_never_refused(rate: int) -> None:
    bucket = TokenBucket(0)
    assert all(bucket.take(1, second * 1000, rate) for second in range(20) for _ in range(rate))


def test_burst_then_refusal_then_recovery() -> None:
    bucket = TokenBucket(1_000)
    assert [bucket.take(1, 1_000, 2.0) for _ in range(5)] == [True] * 4 + [False]
    assert not bucket.take(1, 1_400, 2.0)
    assert bucket.take(1, 1_500, 2.0)


def test_an_amount_larger_than_the_bucket_passes_when_it_is_full_and_is_paid_off() -> None:
    bucket = TokenBucket(0)
    assert bucket.take(1_000, 0, 100)
    assert not bucket.take(1, 7_900, 100)
    assert bucket.take(1, 8_020, 100)


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=40), st.integers(0, 5))
def test_addresses_are_counted_apart_and_forgotten(arrivals: list[str], limit: int) -> None:
    counts, inside = AddressCounts(), []
    for address in arrivals:
        if counts.enter(address, limit):
            inside.append(address)
        assert not limit or inside.count(address) <= limit
    assert len(counts) == len(set(inside))
    for address in inside:
        counts.leave(address)
    assert len(counts) == 0


@pytest.mark.parametrize(
    ("origin", "allowed", "verdict"),
    [
        (None, [], True),
        ("https://any.example", [], True),
        (None, ["https://chat.example"], False),
        ("https://chat.example", ["https://chat.example"], True),
        ("https://chat.example:443", ["https://chat.example"], True),
        ("HTTPS://Chat.Example", ["https://chat.example"], True),
        ("http://chat.example", ["https://chat.example"], False),
        ("https://chat.example:8443", ["https://chat.example"], False),
        ("https://eu.chat.example", ["https://*.chat.example"], True),
        ("https://chat.example", ["https://*.chat.example"], False),
        ("https://evilchat.example", ["https://*.chat.example"], False),
        ("https://chat.example.evil.org", ["https://chat.example"], False),
        ("null", ["https://chat.example"], False),
        ("null", ["*"], True),
        (None, ["*"], False),
        ("https://x:bad", ["https://x"], False),
    ],
)
def test_origins(origin: str | None, allowed: list[str], verdict: bool) -> None:
    assert origin_allowed(origin, allowed) is verdict
