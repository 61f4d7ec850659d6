"""WebSocket-over-HTTP events, byte by byte."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import WireError
from edge.protocol.grip.socket_events import (
    SocketEvent,
    close_content,
    decode_events,
    encode_events,
    read_close,
    sendable_code,
)

MESSAGES = st.builds(SocketEvent, st.sampled_from(("TEXT", "BINARY")), st.binary(max_size=40))
CONTROLS = st.builds(
    SocketEvent, st.sampled_from(("PING", "PONG", "CLOSE")), st.one_of(st.none(), st.binary(min_size=1, max_size=40))
)
SIGNALS = st.builds(SocketEvent, st.sampled_from(("OPEN", "DISCONNECT")))
EVENTS = st.lists(st.one_of(MESSAGES, CONTROLS, SIGNALS), max_size=8)


@pytest.mark.parametrize(
    ("event", "wire"),
    [
        (SocketEvent("OPEN"), b"OPEN\r\n"),
        (SocketEvent("DISCONNECT"), b"DISCONNECT\r\n"),
        (SocketEvent("TEXT", "hé".encode()), b"TEXT 3\r\nh\xc3\xa9\r\n"),
        (SocketEvent("TEXT", b"0123456789"), b"TEXT a\r\n0123456789\r\n"),
        (SocketEvent("TEXT", b""), b"TEXT 0\r\n\r\n"),
        (SocketEvent("BINARY", None), b"BINARY 0\r\n\r\n"),
        (SocketEvent("PING", b""), b"PING\r\n"),
        (SocketEvent("PONG", b"x"), b"PONG 1\r\nx\r\n"),
        (SocketEvent("CLOSE", close_content(1001, "bye")), b"CLOSE 5\r\n\x03\xe9bye\r\n"),
        (SocketEvent("CLOSE", close_content(None, "")), b"CLOSE\r\n"),
    ],
)
def test_written_form(event: SocketEvent, wire: bytes) -> None:
    assert encode_events([event]) == wire


def test_events_stand_one_after_the_other() -> None:
    assert encode_events([]) == b""
    assert encode_events([SocketEvent("TEXT", b"a"), SocketEvent("CLOSE")]) == b"TEXT 1\r\na\r\nCLOSE\r\n"


@given(EVENTS)
def test_what_was_written_is_read(events: list[SocketEvent]) -> None:
    assert decode_events(encode_events(events)) == events


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"", []),
        (b"TEXT\r\n", [SocketEvent("TEXT")]),
        (b"TEXT 0A\r\n0123456789\r\n", [SocketEvent("TEXT", b"0123456789")]),
        (b"TEXT 2 \r\nab\r\n", [SocketEvent("TEXT", b"ab")]),
        (b"TEXT 0x2\r\nab\r\n", [SocketEvent("TEXT", b"ab")]),
        (b"JUMP 2\r\nab\r\nOPEN\r\n", [SocketEvent("JUMP", b"ab"), SocketEvent("OPEN")]),
        (b"open\r\n", [SocketEvent("open")]),
        # cut short: delivered as far as it came
        (b"OPEN\r\nTEXT 5\r\nab", [SocketEvent("OPEN"), SocketEvent("TEXT", b"ab")]),
        (b"TEXT 5\r\n", [SocketEvent("TEXT", b"")]),
        (b"TEXT 2\r\nab", [SocketEvent("TEXT", b"ab")]),
        (b"TEXT 2\r\nab\r", [SocketEvent("TEXT", b"ab")]),
        # content may look like anything
        (b"BINARY 8\r\n\r\nOPEN\r\n\r\n", [SocketEvent("BINARY", b"\r\nOPEN\r\n")]),
    ],
)
def test_read_form(body: bytes, events: list[SocketEvent]) -> None:
    assert decode_events(body) == events


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"OPEN", "byte 0: no CRLF after the type line of event 1"),
        (b"OPEN\r\nTEXT 2", "byte 6: no CRLF after the type line of event 2"),
        (b"OPEN\n", "no CRLF"),
        (b"TEXT x\r\n", "length of event 1"),
        (b"TEXT \r\n", "length of event 1"),
        (b"TEXT -1\r\nab\r\n", "length of event 1"),
        (b"TEXT +1\r\na\r\n", "length of event 1"),
        (b"TEXT 1_0\r\na\r\n", "length of event 1"),
        (b"TEXT 80000000\r\na\r\n", "length of event 1"),
        (b"TEXT 1\r\nab\r\nOPEN\r\n", "counted in bytes"),
    ],
)
def test_malformed_bodies(body: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        decode_events(body)


GARBAGE = st.lists(
    st.one_of(st.sampled_from([b"TEXT", b" ", b"\r\n", b"5", b"ff", b"OPEN", b"\r", b"-"]), st.binary(max_size=4)),
    max_size=12,
).map(b"".join)


@given(st.one_of(st.binary(max_size=60), GARBAGE))
def test_garbage_is_refused_or_read(body: bytes) -> None:
    with contextlib.suppress(WireError):
        decode_events(body)


@given(EVENTS.filter(bool), st.data())
def test_a_cut_body_never_invents(events: list[SocketEvent], data: st.DataObject) -> None:
    body = encode_events(events)
    cut = data.draw(st.integers(0, len(body)))
    try:
        found = decode_events(body[:cut])
    except WireError:
        return
    for original, read in zip(events, found, strict=False):
        assert read.kind == original.kind
        assert (original.content or b"").startswith(read.content or b"")


@pytest.mark.parametrize(
    ("content", "meant"),
    [
        (None, (1000, "")),
        (b"", (1000, "")),
        (b"\x03", (1000, "")),
        (b"\x03\xe9bye", (1001, "bye")),
        (b"\x00\x00", (1000, "")),
        (b"\x03\xed", (1000, "")),
        (b"\x0f\xa0", (4000, "")),
        (b"\x03\xe8" + "é".encode() * 100, (1000, "é" * 61)),
    ],
)
def test_close_as_backends_write_it(content: bytes | None, meant: tuple[int, str]) -> None:
    assert read_close(content) == meant


def test_codes_no_close_frame_carries() -> None:
    assert [sendable_code(code) for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)] == [1000] * 8
    assert [sendable_code(code) for code in (1000, 1011, 1014, 3000, 4999)] == [1000, 1011, 1014, 3000, 4999]
