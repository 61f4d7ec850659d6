"""Random lives of a WebSocket over HTTP: whatever happens in whatever order, nobody is asked twice at once, messages
keep their order, and in the end nothing is left."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config import TargetSettings
from edge.protocol.grip.items import SocketFormat
from tests.unit.sessions.grip.pair import Pair, event, text

SUBSCRIBE = text('c:{"type": "subscribe", "channel": "a"}')
ORDERS = [
    b"",
    SUBSCRIBE,
    text('c:{"type": "unsubscribe", "channel": "a"}'),
    text('c:{"type": "detach"}'),
    text('c:{"type": "keep-alive", "content": "k", "timeout": 1}'),
    text('c:{"type": "send-delayed", "content": "d"}'),
    text('c:{"type": "flush-delayed"}'),
    text('c:{"type": "subscribe", "channel": "b", "filters": ["1", "2", "3", "4", "5", "6"]}'),
    text("c:{nonsense"),
    text("m:said"),
    text("unmarked"),
    event("TEXT", b"m:\xff"),
    event("PING"),
    event("PONG", "x"),
    event("CLOSE"),
    event("CLOSE", b"\x0f\xa0why"),
    event("DISCONNECT"),
    event("NEWS"),
    b"OPEN\r\n",
    b"no line end",
]
HEADERS: list[dict[str, str]] = [
    {},
    {"Sec_WebSocket_Extensions": "grip"},
    {"Keep_Alive_Interval": "20"},
    {"Content_Bytes_Accepted": "1"},
    {"Content_Bytes_Accepted": "0"},
    {"Content_Type": "text/plain"},
    {"Set_Meta_User": "alice"},
]
KINDS = ["connect", "reset", "timeout", "garbage", "full", "closed"]


class Failures(logging.Handler):
    """Alarms that raised: the wheel logs them, and goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Life:
    """One connection, and what can happen to it. A transport tells nothing that could not happen: after a close of
    ours or the client's no messages, after the end nothing."""

    def __init__(self, one_event: bool) -> None:
        self.pair = Pair([TargetSettings("http://one", one_event=one_event)], buffer_bytes=500)
        self.said = 0

    def _hears(self) -> bool:
        client = self.pair.client
        closed = any(isinstance(said, tuple) and said[0] == "close" for said in client.said)
        return client.accepted is not None and not (client.over or client.parting or closed)

    def say(self, draw: int) -> None:
        if self._hears() and not self.pair.client.paused:
            self.said += 1
            self.pair.socket.received(f"{self.said}" if draw % 3 else "")

    def ping(self, draw: int) -> None:
        if self._hears():
            self.pair.socket.pinged(b"p" * (draw % 2))

    def goodbye(self, draw: int) -> None:
        if self._hears():
            self.pair.client.goodbye([1000, 1005, 4000, 1002][draw % 4], "")

    def end(self, draw: int) -> None:
        self.pair.client.end(1006, clean=bool(draw % 2))

    def answer(self, draw: int) -> None:
        if not self.pair.backend.quiet:
            opening = b"OPEN\r\n" if self.pair.backend.bodies[-1] == b"OPEN\r\n" and draw % 7 else b""
            body = opening + ORDERS[draw % len(ORDERS)] + ORDERS[draw // 31 % len(ORDERS)]
            status = [200, 200, 200, 200, 500, 503][draw // 7 % 6]
            self.pair.backend.answer(body, status, **HEADERS[draw // 3 % len(HEADERS)])

    def agree(self, draw: int) -> None:
        """A plain, good answer: without them few lives are long."""
        if not self.pair.backend.quiet:
            body = b"OPEN\r\n" + SUBSCRIBE if self.pair.backend.bodies[-1] == b"OPEN\r\n" else b""
            self.pair.backend.answer(body, Sec_WebSocket_Extensions="grip")

    def fail(self, draw: int) -> None:
        if not self.pair.backend.quiet:
            self.pair.backend.fail(KINDS[draw % len(KINDS)], sent=bool(draw // 7 % 2))

    def publish(self, draw: int) -> None:
        if "a" in self.pair.room.members:
            action = ["send", "send", "close", "refresh"][draw % 4]
            self.pair.room.publish("a", SocketFormat(action, content="published"))  # type: ignore[arg-type]

    def congest(self, draw: int) -> None:
        if not self.pair.client.over:
            self.pair.socket.congested(bool(draw % 2))

    def wait(self, draw: int) -> None:
        self.pair.pass_time([0.1, 2.0, 25.0][draw % 3])

    def leave(self, draw: int) -> None:
        if draw % 2:
            self.pair.socket.leave(1012, "service restart", "drain")
        else:
            self.pair.socket.leave_now()

    def finish(self) -> None:
        """The client goes, and the backend answers until it is told nothing more."""
        self.pair.client.end()
        for _ in range(100):
            if self.pair.backend.quiet:
                self.pair.pass_time(20)
                if self.pair.backend.quiet:
                    break
            self.agree(0)
        assert self.pair.backend.quiet
        assert self.pair.forgotten
        assert self.pair.room.members == {}
        assert self.pair.handle.meters.reading_paused.value == 0


HAPPENINGS: list[Callable[[Life, int], None]] = [
    Life.say, Life.say, Life.say, Life.agree, Life.agree, Life.agree, Life.answer, Life.ping, Life.goodbye, Life.end,
    Life.fail, Life.publish, Life.congest, Life.wait, Life.leave,
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.booleans(), st.lists(st.tuples(st.integers(0, len(HAPPENINGS) - 1), st.integers(0, 100_000)), max_size=40))
def test_every_life_comes_to_its_end(one_event: bool, happenings: list[tuple[int, int]]) -> None:
    failed = Failures()
    wheel = logging.getLogger("holdfast.wheel")
    wheel.addHandler(failed)
    try:
        life = Life(one_event)
        for which, draw in happenings:
            HAPPENINGS[which](life, draw)
        life.finish()
    finally:
        wheel.removeHandler(failed)
    assert failed.records == []


@pytest.mark.parametrize("one_event", [False, True])
def test_a_long_conversation_keeps_its_order(one_event: bool) -> None:
    life = Life(one_event)
    life.agree(0)
    for round in range(200):
        life.say(1)
        if round % 3 == 0:
            life.agree(0)
        if round % 50 == 7:
            life.fail(0)
            life.wait(1)
    life.finish()
    told = b"".join(dict.fromkeys(body for body in life.pair.backend.bodies if body.startswith(b"TEXT")))
    assert told == b"".join(text(str(number)) for number in range(1, life.said + 1))
