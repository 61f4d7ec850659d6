"""What the headers of a WebSocket-over-HTTP answer say."""

from __future__ import annotations

import pytest

from edge.protocol.grip.answer_fields import PLAIN, AnswerFields, answer_fields

TYPE = (b"Content-Type", b"application/websocket-events")


def test_nearly_every_answer_says_nothing_but_that_it_has_events() -> None:
    for name in (b"Content-Type", b"content-type", b"CONTENT-TYPE"):
        assert answer_fields([(b"Date", b"now"), (name, TYPE[1]), (b"X-Odd", b"1"), (b"content-length", b"9")]) is PLAIN


@pytest.mark.parametrize(
    "value", [b"application/websocket-events; charset=utf-8", b"Application/WebSocket-Events", b"text/plain", b""]
)
def test_the_type_must_be_exact(value: bytes) -> None:
    assert answer_fields([(b"Content-Type", value)]) == AnswerFields(events=False)
    assert not answer_fields([]).events


@pytest.mark.parametrize(
    ("value", "interval_s"), [(b"20", 20), (b" 5 ", 5), (b"0", 0), (b"-3", 0), (b"soon", 0), (b"", 0), (b"9" * 30, 0)]
)
def test_an_interval_that_cannot_be_read_turns_polling_off(value: bytes, interval_s: int) -> None:
    assert answer_fields([TYPE, (b"keep-alive-INTERVAL", value)]) == AnswerFields(interval_s=interval_s)


@pytest.mark.parametrize(("value", "accepted"), [(b"0", 0), (b"17", 17), (b"-1", None), (b"x", None)])
def test_an_acceptance_that_cannot_be_read_stands_for_all(value: bytes, accepted: int | None) -> None:
    assert answer_fields([TYPE, (b"Content-Bytes-Accepted", value)]) == AnswerFields(accepted=accepted)


def test_meta_keeps_its_order_and_spelling() -> None:
    fields = answer_fields([(b"Set-Meta-User", b"alice"), TYPE, (b"set-meta-ROOM", b""), (b"Set-Meta-", b"nobody")])
    assert fields == AnswerFields(meta=(("User", "alice"), ("ROOM", "")))


def test_of_a_repeated_field_the_first_counts() -> None:
    fields = answer_fields(
        [TYPE, (b"Keep-Alive-Interval", b"30"), (b"Keep-Alive-Interval", b"0"), (TYPE[0], b"text/html")]
    )
    assert fields == AnswerFields(interval_s=30)
