"""A client's bytes mean the same however they are cut: the same exchanges, the same answers."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any

import h11
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from edge.clock import ManualClock
from edge.config import EdgeSettings, RouteSettings
from edge.sessions.routes import Routes
from edge.telemetry.metrics import Metrics
from edge.transports.http import ClientHttp
from edge.transports.reception import Reception
from edge.wheel import Wheel
from tests.support.http_hall import HttpHall, Visit, echo
from tests.support.listener import Hall


class Wire(asyncio.Transport):
    """A transport that keeps what is written to it, and takes everything."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def abort(self) -> None:
        self.ended = True


@dataclass
class Heard:
    whole: list[Any]
    """The facts of each request that was complete, in order."""
    ends: list[str]
    written: bytes


def serve(pieces: list[bytes], *, later: bool) -> Heard:
    """Feed `pieces` to a connection whose door echoes, at once or `later`."""

    async def run() -> Heard:
        loop = asyncio.get_running_loop()

        def answer(visit: Visit) -> None:
            if later:
                loop.call_soon(echo, visit)
            else:
                echo(visit)

        hall = HttpHall(when_whole=answer)
        clock = ManualClock()
        routes = Routes([RouteSettings(protocol="grip")], Metrics())
        reception = Reception(
            EdgeSettings(), routes, Hall(), http_door=hall, wheel=Wheel(clock), clock=clock, loop=loop
        )
        connection, wire = ClientHttp(reception, None, ServerState(), {}), Wire()
        connection.connection_made(wire)
        for piece in pieces:
            if not wire.ended:
                connection.data_received(piece)
            await asyncio.sleep(0)
        for _ in range(60):
            await asyncio.sleep(0)
        whole = [visit.facts for visit in hall.visits if visit.trailers]
        return Heard(whole, [end for visit in hall.visits for end in visit.ends], wire.written)

    return asyncio.run(run())


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request, written by h11."""
    client = h11.Connection(h11.CLIENT)
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE"]))
    target = "/" + draw(st.text("ab/%2?=&.", max_size=8))
    headers = [("Host", "x"), ("X-Any", draw(st.text("abc: ;,\xfc", max_size=20)).strip())]
    headers = [(name, value.encode("latin-1")) for name, value in headers]  # type: ignore[misc]
    chunks = draw(st.lists(st.binary(min_size=1, max_size=30), max_size=3))
    trailers: list[tuple[str, str]] = []
    says_zero = draw(st.booleans())
    if draw(st.booleans()):
        headers.append(("Transfer-Encoding", "chunked"))
        trailers = draw(st.sampled_from([[], [("X-Sum", "1")]]))
    elif chunks or says_zero:
        headers.append(("Content-Length", str(sum(map(len, chunks)))))
    data = client.send(h11.Request(method=method, target=target, headers=headers)) or b""
    for chunk in chunks:
        data += client.send(h11.Data(chunk)) or b""
    return data + (client.send(h11.EndOfMessage(headers=trailers)) or b"")


PLACES = st.lists(st.integers(0, 5_000), max_size=15)


def h11_serves(stream: bytes) -> list[tuple[str, bytes]]:
    """Method and body of each request as h11 reads them."""
    found: list[tuple[str, bytes]] = []
    server = h11.Connection(h11.SERVER)
    server.receive_data(stream)
    while True:
        event = server.next_event()
        if isinstance(event, h11.Request):
            found.append((event.method.decode(), b""))
        elif isinstance(event, h11.Data):
            found[-1] = (found[-1][0], found[-1][1] + bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            server.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            server.send(h11.EndOfMessage())
            server.start_next_cycle()
        else:
            return found


@given(st.lists(requests(), min_size=1, max_size=4), PLACES, st.booleans())
def test_every_cut_of_a_stream_gives_the_same_exchanges(parts: list[bytes], places: list[int], later: bool) -> None:
    stream = b"".join(parts)
    whole = serve([stream], later=later)
    assert serve(cut(stream, places), later=not later) == whole
    assert [(method, body) for method, _, _, body, _ in whole.whole] == h11_serves(stream)
    assert whole.ends == []
    assert whole.written.count(b"HTTP/1.1 200 OK\r\n") == len(parts)


@given(st.lists(requests(), min_size=1, max_size=3), st.integers(0, 5_000), st.integers(0, 255), PLACES, st.booleans())
def test_a_broken_stream_is_broken_at_the_same_place(
    parts: list[bytes], at: int, byte: int, places: list[int], later: bool
) -> None:
    stream = bytearray(b"".join(parts))
    stream[at % len(stream)] = byte
    whole = serve([bytes(stream)], later=later)
    pieces = serve(cut(bytes(stream), places), later=not later)
    assert (pieces.whole, pieces.written) == (whole.whole, whole.written)


def test_byte_by_byte() -> None:
    stream = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
    stream += b"\r\nPUT /b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nde"
    heard = serve([bytes([byte]) for byte in stream], later=True)
    assert heard.whole == [("POST", "/a", "", b"abc", [("X-Sum", "1")]), ("PUT", "/b", "", b"de", [])]
