"""Frames: any cut of a stream is heard alike, and as the `websockets` library hears it."""

from __future__ import annotations

import itertools
import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, SERVER, Protocol

from edge.config import LimitSettings
from edge.protocol.websocket import (
    FrameReader,
    Goodbye,
    Heard,
    Pinged,
    Ponged,
    Violation,
    deflate_message,
    encode_close,
    encode_message,
    encode_ping,
    encode_pong,
    payload_bytes,
)
from tests.support.raw_websocket import client_frame

LIMITS = LimitSettings()


def deflated(payload: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def hear(*chunks: bytes, limits: LimitSettings = LIMITS, compression: bool = False) -> list[Heard]:
    reader = FrameReader(compression)
    return [item for chunk in chunks for item in reader.feed(chunk, limits)]


def bytewise(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


TEXTS = st.text("a\x00ü€😀", max_size=300).map(lambda text: (1, text.encode()))
BINARIES = st.binary(max_size=300).map(lambda data: (2, data))


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, bool]:
    """Bytes of a client that mostly behaves: messages in fragments, compressed or not, control frames between."""
    compression = draw(st.booleans())
    stream = bytearray()
    masks = st.binary(min_size=4, max_size=4)
    for _ in range(draw(st.integers(0, 5))):
        opcode, payload = draw(st.one_of(TEXTS, BINARIES))
        packed = compression and draw(st.booleans())
        data = deflated(payload) if packed else payload
        cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=3)))
        edges = [0, *cuts, len(data)]
        for number, (start, stop) in enumerate(itertools.pairwise(edges)):
            stream += client_frame(
                opcode if number == 0 else 0,
                data[start:stop],
                fin=stop == len(data) and number == len(edges) - 2,
                rsv=0x40 if packed and number == 0 else 0,
                mask=draw(masks),
            )
            if draw(st.booleans()):
                stream += client_frame(draw(st.sampled_from([9, 10])), draw(st.binary(max_size=125)), mask=draw(masks))
    ending = draw(st.sampled_from(["", "close", "garbage", "cut"]))
    if ending == "close":
        stream += client_frame(8, draw(st.sampled_from([b"", b"\x03\xe8", b"\x03\xe8bye", b"\x03", b"\x00\x00"])))
    elif ending == "garbage":
        stream += draw(st.binary(max_size=40))
    elif ending == "cut":
        stream = stream[: draw(st.integers(0, len(stream)))]
    return bytes(stream), compression


@given(streams(), st.lists(st.integers(1, 60), max_size=60), st.sampled_from([0, 7, 100, 1_000_000]))
def test_any_cut_of_a_stream_is_heard_alike(stream: tuple[bytes, bool], sizes: list[int], limit: int) -> None:
    data, compression = stream
    limits = LimitSettings(message_bytes=limit)
    whole = hear(data, limits=limits, compression=compression)
    assert hear(*bytewise(data), limits=limits, compression=compression) == whole
    chunks, at = [], 0
    for size in sizes:
        chunks.append(data[at : at + size])
        at += size
    assert hear(*chunks, data[at:], limits=limits, compression=compression) == whole


@given(streams())
def test_it_is_heard_as_the_library_hears_it(stream: tuple[bytes, bool]) -> None:
    data, compression = stream
    oracle = Protocol(SERVER, max_size=None)
    if compression:
        oracle.extensions = [PerMessageDeflate(True, True, 15, 15)]
    oracle.receive_data(data)
    expected: list[Heard] = []
    parts: list[bytes] = []
    kind = Opcode.TEXT
    for frame in oracle.events_received():
        assert isinstance(frame, Frame)
        if frame.opcode is Opcode.PING:
            expected.append(Pinged(bytes(frame.data)))
        elif frame.opcode is Opcode.PONG:
            expected.append(Ponged(bytes(frame.data)))
        elif frame.opcode is Opcode.CLOSE:
            assert oracle.close_rcvd is not None
            expected.append(Goodbye(oracle.close_rcvd.code, oracle.close_rcvd.reason))
        else:
            if frame.opcode is not Opcode.CONT:
                kind, parts = frame.opcode, []
            parts.append(bytes(frame.data))
            if frame.fin:
                joined = b"".join(parts)
                try:
                    expected.append(joined.decode() if kind is Opcode.TEXT else joined)
                except UnicodeDecodeError:
                    break  # the library leaves that to its user; we must stop here
    heard = hear(data, limits=LimitSettings(message_bytes=0, frame_bytes=0), compression=compression)
    wanted = [item for item in heard if not isinstance(item, Violation)]
    if oracle.close_rcvd is not None and not any(isinstance(item, Goodbye) for item in expected):
        assert isinstance(heard[-1], Violation | Goodbye)  # a goodbye within a message: it says so, we part
        wanted = [item for item in wanted if not isinstance(item, Goodbye)]
    assert wanted == expected


@given(
    st.one_of(
        st.text("aü😀", max_size=1_000).map(lambda text: text * 100),
        st.binary(max_size=700).map(lambda data: data * 100),
    ),
    st.booleans(),
    st.integers(9, 15),
)
def test_what_we_write_the_library_reads(payload: str | bytes, compress: bool, bits: int) -> None:
    wire = deflate_message(payload, bits) if compress else encode_message(payload)
    client = Protocol(CLIENT, max_size=None)
    client.extensions = [PerMessageDeflate(True, True, bits, 15)]
    client.receive_data(wire)
    (frame,) = client.events_received()
    assert isinstance(frame, Frame)
    assert frame.fin
    assert bytes(frame.data) == (payload.encode() if isinstance(payload, str) else payload)
    assert frame.opcode is (Opcode.TEXT if isinstance(payload, str) else Opcode.BINARY)
    if not compress:
        assert payload_bytes(wire) == len(frame.data)


def test_compression_is_used_where_it_helps() -> None:
    assert len(deflate_message("a" * 1_000)) < 100
    noise = os.urandom(1_000)
    assert deflate_message(noise) == encode_message(noise)
    assert deflate_message("short") == encode_message("short")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (client_frame(1, b"a")[:1] + b"\x01a", 1002),  # not masked
        (client_frame(3, b""), 1002),
        (client_frame(11, b""), 1002),
        (client_frame(1, b"a", rsv=0x40), 1002),
        (client_frame(1, b"a", rsv=0x20), 1002),
        (client_frame(1, b"a", rsv=0x10), 1002),
        (client_frame(9, b"a" * 126), 1002),
        (client_frame(9, b"a", fin=False), 1002),
        (client_frame(0, b"a"), 1002),
        (client_frame(1, b"a", fin=False) + client_frame(1, b"b"), 1002),
        (client_frame(8, b"\x03"), 1002),
        (client_frame(8, b"\x03\xed"), 1002),  # 1005 must not be sent
        (client_frame(8, b"\x03\xe8\xff"), 1007),
        (client_frame(1, b"\xff"), 1007),
        (client_frame(1, "ü".encode()[:1]), 1007),
        (client_frame(1, b"ok\xce", fin=False) + client_frame(0, b"x", fin=False), 1007),
        (b"\x82\xff" + b"\xff" * 8 + b"mask", 1002),
        (b"\x82\xff" + (1 << 30).to_bytes(8, "big") + b"mask", 1009),
    ],
)
def test_violations(data: bytes, code: int) -> None:
    for heard in (hear(data), hear(*bytewise(data))):
        assert isinstance(heard[-1], Violation)
        assert heard[-1].code == code


def test_invalid_text_is_noticed_before_its_frame_is_whole() -> None:
    frame = client_frame(1, b"fine so far \xff" + b"x" * 1_000)
    assert hear(frame[:30]) == [Violation(1007, "invalid UTF-8")]


def test_what_follows_an_end_is_ignored() -> None:
    goodbye = client_frame(8, b"\x03\xe8bye")
    assert hear(client_frame(1, b"a") + goodbye + client_frame(1, b"b"), client_frame(1, b"c")) == [
        "a",
        Goodbye(1000, "bye"),
    ]
    assert hear(client_frame(8, b"")) == [Goodbye(1005, "")]


def test_messages_before_a_violation_are_heard() -> None:
    assert hear(client_frame(1, b"a") + client_frame(3, b"")) == ["a", Violation(1002, "unknown opcode")]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("pieces", [1, 3])
def test_message_size_is_exact(compressed: bool, pieces: int) -> None:
    limits = LimitSettings(message_bytes=1_000)

    def message(size: int) -> bytes:
        payload = deflated(b"z" * size) if compressed else b"z" * size
        step = -(-len(payload) // pieces)
        parts = [payload[start : start + step] for start in range(0, len(payload), step)]
        return b"".join(
            client_frame(
                2 if number == 0 else 0,
                part,
                fin=number == len(parts) - 1,
                rsv=0x40 if compressed and number == 0 else 0,
            )
            for number, part in enumerate(parts)
        )

    assert hear(message(1_000), limits=limits, compression=True) == [b"z" * 1_000]
    too_big = Violation(1009, "message too big", "message_bytes")
    assert hear(message(1_001), limits=limits, compression=True) == [too_big]


def test_a_zip_bomb_is_not_blown_up() -> None:
    bomb = client_frame(2, deflated(b"\0" * 50_000_000), rsv=0x40)
    assert len(bomb) < 100_000
    assert hear(bomb, compression=True) == [Violation(1009, "message too big", "message_bytes")]


def test_frame_size() -> None:
    limits = LimitSettings(frame_bytes=10)
    assert hear(client_frame(2, b"x" * 10), limits=limits) == [b"x" * 10]
    assert hear(client_frame(2, b"x" * 11), limits=limits) == [Violation(1009, "frame too big", "frame_bytes")]
    fragments = client_frame(2, b"x" * 10, fin=False) + client_frame(0, b"x" * 10)
    assert hear(fragments, limits=limits) == [b"x" * 20]


def test_garbage_instead_of_deflate() -> None:
    assert hear(client_frame(2, b"\xff\xff\xff", rsv=0x40), compression=True) == [
        Violation(1007, "decompression failed")
    ]


def test_control_frames() -> None:
    assert encode_ping(b"hi") == b"\x89\x02hi"
    assert encode_pong(b"hi") == b"\x8a\x02hi"
    assert encode_close(1000, "bye") == b"\x88\x05\x03\xe8bye"
    assert encode_close(1005) == b"\x88\x00"
    long = encode_close(1000, "ü" * 100)
    assert len(long) <= 127
    assert long[4:].decode() == "ü" * 61
