"""Counts: right on both sides of 2^32, and never taken on trust."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.protocol.xmpp.stream_management import (
    MODULUS,
    CountError,
    SavedStream,
    StreamManagement,
    ahead,
    read_count,
)

COUNTS = st.integers(0, 40) | st.integers(MODULUS - 40, MODULUS - 1) | st.integers(0, MODULUS - 1)


@given(COUNTS, st.integers(0, MODULUS - 1))
def test_ahead(base: int, steps: int) -> None:
    assert ahead((base + steps) % MODULUS, base) == steps


@given(COUNTS, COUNTS, st.lists(st.tuples(st.sampled_from(["hear", "send", "ack", "confirm"]), st.integers(0, 5))))
def test_counts_follow_a_model_without_end(received: int, base: int, steps: list[tuple[str, int]]) -> None:
    """Beside it: the same with numbers that do not wrap."""
    counts = StreamManagement(SavedStream("s", received, base, ()))
    heard = told = received
    queue: list[bytes] = []
    sent = confirmed = base
    for step, number in steps:
        match step:
            case "hear":
                for _ in range(number):
                    heard += 1
                    assert counts.hear() == heard % MODULUS
            case "send":
                for _ in range(number):
                    sent += 1
                    queue.append(b"%d" % sent)
                    counts.send(b"%d" % sent)
            case "ack":
                number = min(number, len(queue))
                confirmed += number
                del queue[:number]
                assert counts.acknowledge(confirmed % MODULUS) == number
            case _:
                told = min(told + number, heard)
                counts.confirm(told % MODULUS)
        assert counts.received == heard % MODULUS
        assert counts.confirmed == told % MODULUS
        assert counts.base == confirmed % MODULUS
        assert list(counts.unacked) == queue
        assert counts.waiting == len(queue)
        with pytest.raises(CountError):
            counts.acknowledge((sent + 1) % MODULUS)
        with pytest.raises(CountError):
            counts.confirm((heard + 1) % MODULUS)
        if told > received:
            with pytest.raises(CountError):
                counts.confirm((told - 1) % MODULUS)


@given(COUNTS, COUNTS, st.lists(st.binary(max_size=3), max_size=6), st.integers(0, 3))
def test_what_is_saved_goes_on_where_it_was(received: int, base: int, stanzas: list[bytes], news: int) -> None:
    counts = StreamManagement(SavedStream("id", received, base, (), 300, "h:1"))
    for stanza in stanzas:
        counts.send(stanza)
    for _ in range(news):
        counts.hear()
    saved = counts.save(durable=received)
    assert saved == SavedStream("id", received, base, tuple(stanzas), 300, "h:1")
    again = StreamManagement(saved)
    assert again.received == received  # what was not durable is sent again by the server
    assert again.save(received) == saved


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", " 1", "4294967296", "99999999999", "٣", "0x1"])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(CountError):
        read_count(text)


def test_counts_are_read() -> None:
    assert [read_count(text) for text in ("0", "007", "4294967295")] == [0, 7, MODULUS - 1]


def test_ids_and_stanzas_are_not_shown() -> None:
    assert "secret" not in repr(SavedStream("secret-id", 0, 0, (b"secret",)))
