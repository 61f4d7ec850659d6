"""The traceparent header against the W3C recommendation's rules."""

from __future__ import annotations

import pytest

from edge.protocol.callbacks.events import ClientRequest, Headers, Message, Open, Parcel
from edge.protocol.trace import traceparent

FRESH = bytes(range(1, 25))
NEW = f"00-{FRESH[:16].hex()}-{FRESH[16:].hex()}-01"
THEIRS = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"


def opening(*headers: tuple[str, str]) -> Parcel:
    return parcel(Open("s:1", 0, request(headers), "websocket"))


def request(headers: Headers) -> ClientRequest:
    return ClientRequest("GET", "/", "", headers, "127.0.0.1:1", "http", ())


def parcel(event: Open | Message) -> Parcel:
    return Parcel("s", "r", None, {}, 0, 1, [event])


def test_a_handshake_that_travels_alone_goes_on_with_its_trace_and_flags() -> None:
    found = traceparent([opening(("TraceParent", THEIRS))], FRESH)
    assert found == f"00-4bf92f3577b34da6a3ce929d0e0e4736-{FRESH[16:].hex()}-00"


def test_a_message_and_a_batch_begin_a_new_trace() -> None:
    assert traceparent([parcel(Message("s:2", 0, "hi"))], FRESH) == NEW
    assert traceparent([opening(("traceparent", THEIRS))] * 2, FRESH) == NEW


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
    ],
)
def test_a_malformed_trace_is_not_gone_on_with(bad: str) -> None:
    assert traceparent([opening(("traceparent", bad))], FRESH) == NEW


def test_two_traces_are_none() -> None:
    assert traceparent([opening(("traceparent", THEIRS), ("traceparent", THEIRS))], FRESH) == NEW


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    later = THEIRS.replace("00-", "01-", 1) + "-more"
    assert traceparent([opening(("traceparent", later))], FRESH).startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")
