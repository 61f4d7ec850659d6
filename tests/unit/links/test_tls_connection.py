"""A link's connection over real sockets, towards a server that does what its script says."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from edge.clock import SystemClock
from edge.links import connection as connection_module
from edge.links.connection import LinkConnection
from edge.protocol.xmpp.credentials import ScramKeys
from edge.protocol.xmpp.negotiation import Tls
from edge.protocol.xmpp.stream import XmppStream
from edge.protocol.xmpp.stream_facts import Fact, Stream, StreamFailed, TlsWanted
from edge.wheel import Wheel
from tests.support.waiting import wait_until
from tests.unit.links.certificates import make_certificate
from tests.unit.protocol.xmpp import streams

DOMAIN = "chat.example"
BIG = bytes(range(256)) * 4_096
GONE = "the server closed the connection"
Script = Callable[[socket.socket], None]


class Talk:
    """A stream that wants TLS at the first byte, and keeps what it hears over it."""

    live = over = False

    def __init__(self) -> None:
        self.out = b"STARTTLS"
        self.heard = b""
        self.clear = True

    def take(self) -> bytes:
        out, self.out = self.out, b""
        return out

    def receive(self, data: bytes, now: float) -> list[Fact]:
        if self.clear:
            self.clear = False
            return [TlsWanted()]
        self.heard += data
        return []

    def tls_up(self) -> None:
        self.out += b"up"

    def wake_at(self) -> float | None:
        return None


class Listener:
    def __init__(self) -> None:
        self.failures: list[StreamFailed] = []
        self.cuts: list[str] = []

    def heard(self, facts: Sequence[Fact]) -> None:
        assert not self.cuts
        self.failures += [fact for fact in facts if isinstance(fact, StreamFailed)]

    def keys_made(self, keys: ScramKeys) -> None:
        raise AssertionError

    def cut(self, reason: str) -> None:
        self.cuts.append(reason)


class Line:
    """A connection, what it is for, and what the server's script came to."""

    def __init__(self, connection: LinkConnection, script: asyncio.Task[None]) -> None:
        self.connection = connection
        self.listener = Listener()
        self.talk = Talk()
        self.script = script

    @property
    def failure(self) -> tuple[str, str]:
        [failure] = self.listener.failures
        return failure.condition, failure.text

    async def says(self, data: bytes) -> None:
        await wait_until(lambda: len(self.talk.heard) >= len(data), f"{len(data)} bytes are heard")
        assert self.talk.heard == data

    async def cut(self) -> str:
        await wait_until(lambda: self.listener.cuts, "the connection is cut")
        await self.script
        [reason] = self.listener.cuts
        return reason


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    return make_certificate(tmp_path, "server", [DOMAIN])


@asynccontextmanager
async def line(script: Script, trusted: str = "", stream: Stream | None = None) -> AsyncIterator[Line]:
    """Connected to a server that runs `script`, in a thread."""
    loop = asyncio.get_running_loop()
    wheel = Wheel(SystemClock())
    wheel.start(loop)

    def serve(listening: socket.socket) -> None:
        sock, _ = listening.accept()
        sock.settimeout(30)
        with sock:
            script(sock)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        task = asyncio.create_task(asyncio.to_thread(serve, listening))
        _, connection = await loop.create_connection(lambda: LinkConnection(loop, wheel), *listening.getsockname())
        here = Line(connection, task)
        chosen = stream or cast(Stream, here.talk)
        context = ssl.create_default_context(cafile=trusted or None)
        connection.begin(lambda now: chosen, here.listener, domain=DOMAIN, context=context, password=None)
        try:
            yield here
        finally:
            connection.abort()
            await task
            wheel.stop()


def upgraded(sock: socket.socket, certificate: tuple[str, str]) -> ssl.SSLSocket:
    """TLS, as a server; the client has spoken first."""
    assert taken(sock, 8) == b"STARTTLS"
    sock.sendall(b"<proceed/>")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    secret = context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)
    assert taken(secret, 2) == b"up"
    return secret


def taken(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece
        data += piece
    return data


async def test_much_is_said_both_ways(certificate: tuple[str, str]) -> None:
    def script(sock: socket.socket) -> None:
        with upgraded(sock, certificate) as secret:
            secret.sendall(BIG)
            secret.sendall(taken(secret, len(BIG)))

    async with line(script, certificate[0]) as here:
        await here.says(BIG)
        here.talk.out = BIG
        here.connection.write_soon()
        await here.says(BIG + BIG)
        assert await here.cut() == GONE
        assert not here.listener.failures


async def test_close_notify_ends_it(certificate: tuple[str, str]) -> None:
    def script(sock: socket.socket) -> None:
        with upgraded(sock, certificate) as secret:
            secret.sendall(b"bye")
            secret.unwrap()  # returns when the client has said it, too

    async with line(script, certificate[0]) as here:
        assert await here.cut() == GONE
        assert here.talk.heard == b"bye"


async def test_a_record_that_is_not_the_servers_ends_it(certificate: tuple[str, str]) -> None:
    def script(sock: socket.socket) -> None:
        with upgraded(sock, certificate) as secret:
            secret.sendall(b"right")
            os.write(secret.fileno(), b"\x17\x03\x03\x00\x20" + b"wrong" * 6 + b"!!")
            with pytest.raises(ssl.SSLError, match="alert bad record mac"):
                secret.recv(1)

    async with line(script, certificate[0]) as here:
        assert (await here.cut()).startswith("TLS failed: decryption failed or bad record mac")
        assert here.talk.heard == b"right"


async def test_a_certificate_that_nobody_vouches_for(certificate: tuple[str, str]) -> None:
    def script(sock: socket.socket) -> None:
        with pytest.raises(ssl.SSLError, match="alert unknown ca"):
            upgraded(sock, certificate)

    async with line(script) as here:
        assert await here.cut() == "TLS failed: self-signed certificate"
        assert here.failure == ("certificate-invalid", f"TLS with {DOMAIN}: self-signed certificate")
    assert not here.talk.out


async def test_a_certificate_for_another_domain(tmp_path: Path) -> None:
    other = make_certificate(tmp_path, "other", ["else.example"])

    def script(sock: socket.socket) -> None:
        with pytest.raises(ssl.SSLError, match="alert"):
            upgraded(sock, other)

    async with line(script, other[0]) as here:
        await here.cut()
        condition, text = here.failure
        assert condition == "certificate-invalid"
        assert "Hostname mismatch, certificate is not valid for 'chat.example'" in text


@pytest.mark.parametrize(
    ("answer", "phrase"), [(b"<what/>" * 100, "wrong version number"), (b"", "the server closed the connection")]
)
async def test_a_server_that_does_not_shake_hands(answer: bytes, phrase: str) -> None:
    def script(sock: socket.socket) -> None:
        taken(sock, 8)
        sock.sendall(b"<proceed/>")
        assert sock.recv(65_536)
        sock.sendall(answer)

    async with line(script) as here:
        assert await here.cut() == f"TLS failed: {phrase}"
        assert here.failure == ("tls-failed", f"TLS with {DOMAIN}: {phrase}")


async def test_a_handshake_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "TLS_S", 0.05)

    def script(sock: socket.socket) -> None:
        taken(sock, 8)
        sock.sendall(b"<proceed/>")
        while sock.recv(65_536):
            pass

    async with line(script) as here:
        assert await here.cut() == "TLS failed: no handshake in 0.05 s"
        assert here.failure == ("tls-failed", f"TLS with {DOMAIN}: no handshake in 0.05 s")


async def test_a_handshake_in_time_has_no_deadline_any_more(
    monkeypatch: pytest.MonkeyPatch, certificate: tuple[str, str]
) -> None:
    def script(sock: socket.socket) -> None:
        with upgraded(sock, certificate) as secret:
            assert secret.recv(1) == b""

    async with line(script, certificate[0]) as here:
        await wait_until(lambda: not here.talk.clear and not here.connection._tls_alarm, "hands are shaken")
        here.connection.leave()
        await here.script
    assert not here.listener.cuts


async def test_leaving_says_what_is_left_and_close_notify(certificate: tuple[str, str]) -> None:
    heard = b""

    def script(sock: socket.socket) -> None:
        nonlocal heard
        with upgraded(sock, certificate) as secret:
            secret.sendall(b"go")
            heard = taken(secret, len(BIG))
            assert secret.recv(1) == b""  # an end without close_notify would raise

    async with line(script, certificate[0]) as here:
        await here.says(b"go")
        here.talk.out = BIG
        here.connection.leave()
        await here.script
    assert heard == BIG
    assert not here.listener.cuts


async def test_a_server_that_takes_nothing_is_not_waited_for_when_leaving(
    monkeypatch: pytest.MonkeyPatch, certificate: tuple[str, str]
) -> None:
    monkeypatch.setattr(connection_module, "LINGER_S", 0.05)
    read_on = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(sock: socket.socket) -> None:
        with upgraded(sock, certificate) as secret:
            secret.sendall(b"go")
            asyncio.run_coroutine_threadsafe(read_on.wait(), loop).result(30)

    async with line(script, certificate[0]) as here:
        await here.says(b"go")
        transport = here.connection._transport
        assert transport is not None
        here.talk.out = BIG * 32
        here.connection.leave()
        assert transport.get_write_buffer_size() > 0
        await wait_until(lambda: transport.get_extra_info("socket").fileno() == -1, "the socket is closed")
        read_on.set()


async def test_aborting_says_nothing(certificate: tuple[str, str]) -> None:
    def script(sock: socket.socket) -> None:
        with upgraded(sock, certificate) as secret:
            secret.sendall(b"go")
            with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
                secret.recv(1)

    async with line(script, certificate[0]) as here:
        await here.says(b"go")
        here.talk.out = b"never"
        here.connection.abort()
        await here.script
    assert here.talk.out == b"never"
    assert not here.listener.cuts


async def test_nothing_is_read_while_it_is_paused(certificate: tuple[str, str]) -> None:
    def script(sock: socket.socket) -> None:
        with upgraded(sock, certificate) as secret:
            secret.sendall(b"go")
            assert secret.recv(4) == b"more"
            secret.sendall(BIG)

    async with line(script, certificate[0]) as here:
        await here.says(b"go")
        here.talk.out = b"more"
        here.connection.pause()
        here.connection.flush()
        for _ in range(100):
            await asyncio.sleep(0)
        assert here.talk.heard == b"go"
        here.connection.go_on()
        await here.says(b"go" + BIG)


async def test_bytes_in_the_clear_behind_proceed_are_refused() -> None:
    def script(sock: socket.socket) -> None:
        sock.recv(4_096)
        sock.sendall(streams.HEADER + streams.OFFER_TLS)
        sock.recv(4_096)
        sock.sendall(streams.PROCEED + streams.HEADER)
        while sock.recv(4_096):
            pass

    plan = replace(streams.PLAN, tls=Tls.STARTTLS)
    now = asyncio.get_running_loop().time()
    async with line(script, stream=XmppStream(plan, lambda: "n", now)) as here:
        await here.cut()
        assert here.failure == ("policy-violation", "bytes in the clear after <proceed/>")
