"""The load generator against real sockets, with a server in a thread that answers in chosen pieces."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from benchmarks.load.clients import Clients, open_clients, source_addresses
from benchmarks.load.closed_loop import ClosedLoop
from benchmarks.load.fanout import FanOut, Publishers
from benchmarks.load.wire import Dialect, LoadError, handshake, server_frame

REQUEST, ANSWER = b"q" * 10, b"HTTP-ish answer ends so"
PLAIN = Dialect(b"", 0, REQUEST, b"ends so")
UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
FRAME = server_frame("published")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextmanager
def serving(each: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    """A listener; `each` gets every connection in a thread of its own and returns when the client is gone."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    threads: list[threading.Thread] = []

    def serve(sock: socket.socket) -> None:
        with sock:
            try:
                each(sock)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(sock,)))
            threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield listener.getsockname()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(5)
        for thread in threads:
            thread.join(5)


def answering(pieces: list[bytes]) -> Callable[[socket.socket], None]:
    def each(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while sock.recv(len(REQUEST), socket.MSG_WAITALL):
            for piece in pieces:
                sock.sendall(piece)

    return each


@pytest.mark.parametrize("pieces", [[ANSWER], [ANSWER[:1], ANSWER[1:9], ANSWER[9:]]], ids=["whole", "in pieces"])
def test_a_closed_loop_times_every_answer(pieces: list[bytes]) -> None:
    with serving(answering(pieces)) as address, open_clients(address, 5, PLAIN, source_addresses()) as clients:
        loop = ClosedLoop(clients, silence_s=5)
        loop.warm(0.05)
        tally = loop.window(0.1)
    assert len(tally.latencies_ns) > 5
    assert tally.latencies_ns == sorted(tally.latencies_ns)
    assert 0 < tally.latencies_ns[0] <= tally.latencies_ns[-1] <= 10 * tally.elapsed_ns
    assert tally.elapsed_ns >= 100_000_000


def test_connections_take_turns_when_fewer_events_may_be_under_way() -> None:
    served: set[int] = set()
    busy, most, lock = 0, 0, threading.Lock()

    def each(sock: socket.socket) -> None:
        nonlocal busy, most
        while sock.recv(len(REQUEST), socket.MSG_WAITALL):
            with lock:
                busy += 1
                most = max(most, busy)
                served.add(sock.fileno())
            with lock:
                busy -= 1
                sock.sendall(ANSWER)

    with (
        serving(each) as address,
        open_clients(address, 9, replace(PLAIN, in_flight=2), source_addresses()) as clients,
    ):
        ClosedLoop(clients, silence_s=5).warm(0.05)
    assert len(served) == 9
    assert most <= 2


def test_a_wrong_answer_is_an_error_not_a_number() -> None:
    def each(sock: socket.socket) -> None:
        good = 3
        while sock.recv(len(REQUEST), socket.MSG_WAITALL):
            good -= 1
            sock.sendall(ANSWER if good > 0 else b"x" * len(ANSWER))

    with (
        serving(each) as address,
        open_clients(address, 2, PLAIN, source_addresses()) as clients,
        pytest.raises(LoadError, match="a wrong answer"),
    ):
        ClosedLoop(clients, silence_s=5).warm(5)


def test_a_server_that_hangs_up_or_falls_silent_is_an_error() -> None:
    def once(sock: socket.socket) -> None:
        sock.recv(len(REQUEST), socket.MSG_WAITALL)
        sock.sendall(ANSWER)
        sock.recv(len(REQUEST), socket.MSG_WAITALL)

    with (
        serving(once) as address,
        open_clients(address, 1, PLAIN, source_addresses()) as clients,
        pytest.raises(LoadError, match="closed a connection"),
    ):
        ClosedLoop(clients, silence_s=5).warm(5)

    def mute(sock: socket.socket) -> None:
        while sock.recv(4_096):
            pass

    with (
        serving(mute) as address,
        open_clients(address, 1, PLAIN, source_addresses()) as clients,
        pytest.raises(LoadError, match="no answer to the first event"),
    ):
        ClosedLoop(clients, silence_s=0.05).warm(5)


def upgrading(greeting: bytes) -> Callable[[socket.socket], None]:
    def each(sock: socket.socket) -> None:
        while not sock.recv(4_096).endswith(b"\r\n\r\n"):
            pass
        sock.sendall(UPGRADED[:20])
        sock.sendall(UPGRADED[20:] + greeting)
        while sock.recv(4_096):
            pass

    return each


def websocket(greeting: int) -> Dialect:
    return Dialect(handshake("/", "h"), greeting, b"", FRAME)


def test_handshakes_wait_for_the_greeting_and_no_more_than_the_allowed_are_under_way() -> None:
    with serving(upgrading(b"hello")) as address:
        with open_clients(address, 20, websocket(5), source_addresses(), concurrency=3) as clients:
            assert len(clients) == len(clients.opening_ns) == 20
        with pytest.raises(LoadError, match="unexpected bytes"):
            open_clients(address, 1, websocket(0), source_addresses())


def test_a_refused_handshake_is_an_error() -> None:
    def each(sock: socket.socket) -> None:
        sock.recv(4_096)
        sock.sendall(b"HTTP/1.1 503 Busy\r\n\r\n")

    with serving(each) as address, pytest.raises(LoadError, match="503 Busy"):
        open_clients(address, 1, websocket(0), source_addresses())


class Hub:
    """A publishing server: what is posted to it goes out to its subscribers `copies` times over."""

    def __init__(self, copies: int, answer: bytes, closes: bool) -> None:
        self.copies, self.answer, self.closes = copies, answer, closes
        self.subscribers: list[socket.socket] = []

    def subscribe(self, sock: socket.socket) -> None:
        self.subscribers.append(sock)
        upgrading(b"")(sock)

    def publish(self, sock: socket.socket) -> None:
        while sock.recv(len(REQUEST), socket.MSG_WAITALL):
            for subscriber in self.subscribers:
                subscriber.sendall(FRAME * self.copies)
            sock.sendall(self.answer)
            if self.closes:
                return

    @contextmanager
    def fanout(self) -> Iterator[FanOut]:
        with serving(self.subscribe) as front, serving(self.publish) as back:
            clients: Clients = open_clients(front, 7, websocket(0), source_addresses())
            with clients, Publishers(back, 2, clients, self.closes) as publishers:
                yield FanOut(clients, publishers, FRAME, deadline_s=0.5)


@pytest.mark.parametrize("closes", [False, True])
def test_a_burst_is_over_when_everybody_has_everything(closes: bool) -> None:
    with Hub(1, OK, closes).fanout() as fanout:
        for _ in range(3):
            spread = fanout.spread([REQUEST] * 5, 5)
            assert spread.deliveries == 35
            assert spread.last_ns > 0


@pytest.mark.parametrize(
    ("hub", "problem"),
    [
        (Hub(0, OK, False), "7 deliveries on 7 connections were missing"),
        (Hub(2, OK, False), "more or less than was published"),
        (Hub(1, b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", False), "publication refused"),
    ],
    ids=["lost", "twice", "refused"],
)
def test_lost_doubled_and_refused_publications_are_errors(hub: Hub, problem: str) -> None:
    with hub.fanout() as fanout, pytest.raises(LoadError, match=problem):
        fanout.spread([REQUEST], 1)
