"""The chunked coding: however it is cut, and against h11 as an oracle."""

from __future__ import annotations

import itertools

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.protocol.chunked import BadChunk, ChunkedReader, encode_chunk, encode_end


def read(pieces: list[bytes]) -> tuple[bytes, list[tuple[str, str]], bytes, bool]:
    """Content, trailers, what lay behind the end, and whether the end came."""
    reader = ChunkedReader()
    content = rest = b""
    for piece in pieces:
        if reader.done:
            rest += piece
            continue
        taken, rest = reader.feed(piece)
        content += taken
    return content, reader.trailers, rest, reader.done


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


PLACES = st.lists(st.integers(0, 10_000), max_size=12)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), PLACES, st.booleans())
def test_every_cut_gives_the_same(chunks: list[bytes], places: list[int], trailers: bool) -> None:
    end = encode_end(b"X-A: b\r\nX-C:\t d e \r\n" if trailers else b"")
    data = b"".join(map(encode_chunk, chunks)) + end + b"GET / HTTP/1.1"
    told = [("X-A", "b"), ("X-C", "d e")] if trailers else []
    assert read(cut(data, places)) == (b"".join(chunks), told, b"GET / HTTP/1.1", True)


def h11_reads(data: bytes) -> bytes | None:
    """The content as h11 sees it; None: it refuses."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    server.next_event()
    server.receive_data(data)
    content = b""
    try:
        while True:
            event = server.next_event()
            if isinstance(event, h11.Data):
                content += bytes(event.data)
            else:
                return content
    except h11.RemoteProtocolError:
        return None


JUNK = st.lists(
    st.sampled_from([b"1", b"a", b"F", b"0", b"\r\n", b"\r", b"\n", b";x=y", b" ", b"x", b"-", b"0x", b"\x00", b"g:h"]),
    max_size=14,
).map(b"".join)


@given(JUNK, PLACES)
def test_junk_is_refused_or_read_as_h11_reads_it(data: bytes, places: list[int]) -> None:
    try:
        whole = read([data])
    except BadChunk:
        whole = None
    try:
        pieces = read(cut(data, places))
    except BadChunk:
        pieces = None
    if whole is None or pieces is None:
        assert whole is None
        assert pieces is None
        return
    assert pieces == whole
    content = h11_reads(data)
    assert content is None or content == whole[0]


@pytest.mark.parametrize(
    "data",
    [
        b"g\r\n",
        b"\r\n",
        b"-1\r\n",
        b"0x1\r\na\r\n",
        b" 1\r\na\r\n",
        b"1 \r\na\r\n",
        b"1\na\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"1\r\na0\r\n\r\n",
        b"1" * 16 + b"\r\n",
        b"1;" + b"x" * 2_000,
        b"1;" + b"x" * 2_000 + b"\r\n",
        b"1;\x00\r\n",
        b"1;a\rb\r\n",
        b"0\r\nno field\r\n\r\n",
        b"0\r\nX : y\r\n\r\n",
        b"0\r\n folded: y\r\n\r\n",
        b"0\r\nX: a\x00\r\n\r\n",
        b"0\r\nX: y\n\r\n",
        b"0\r\n" + b"X: yyyyyyyy\r\n" * 2_000,
        (b"1;" + b"x" * 1_000 + b"\r\na\r\n") * 20,
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(BadChunk):
        read([data])


def test_extensions_are_skipped() -> None:
    assert read([b'3;a=b;c="d"\r\nabc\r\n000;x\r\n\r\n'])[0] == b"abc"
