"""One connection, against a socket that writes exactly what the test says."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edge.backend.dialer import Dialer, Target
from edge.backend.http11 import Answer, AnswerLimits, Failure, HttpConnection
from edge.clock import ManualClock, SystemClock
from edge.errors import BackendError, ConfigError
from edge.wheel import Wheel

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"


class Owner:
    """Keeps what the connection reports."""

    def __init__(self) -> None:
        self.outcomes: asyncio.Queue[Answer | Failure] = asyncio.Queue()
        self.over = asyncio.Event()
        self.made_count = 0

    def made(self, connection: HttpConnection) -> None:
        self.made_count += 1

    def answered(self, connection: HttpConnection, answer: Answer) -> None:
        self.outcomes.put_nowait(answer)

    def failed(self, connection: HttpConnection, failure: Failure) -> None:
        self.outcomes.put_nowait(failure)

    def lost(self, connection: HttpConnection) -> None:
        self.over.set()


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


@asynccontextmanager
async def connected(
    *answers: bytes, host: str = "127.0.0.1", limits: AnswerLimits | None = None, close: bool = False
) -> AsyncIterator[tuple[HttpConnection, Owner]]:
    """A connection to a server that gives `answers` one after the other, and then closes if `close`."""
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readexactly(len(REQUEST))
            for part in answer.split(b"|"):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
        if not close:
            await over.wait()
        writer.close()

    server = await asyncio.start_server(serve, host, 0)
    clock, owner = SystemClock(), Owner()
    wheel = Wheel(clock)
    wheel.start(asyncio.get_running_loop())
    shown = f"[{host}]" if ":" in host else host
    dialer = Dialer(Target.parse(f"http://{shown}:{server.sockets[0].getsockname()[1]}"), clock)
    connection = await dialer.dial(lambda: HttpConnection(owner, clock, wheel, limits or AnswerLimits()), 5)
    try:
        yield connection, owner
    finally:
        over.set()
        connection.close()
        await owner.over.wait()
        server.close()
        await server.wait_closed()
        wheel.stop()


async def ask(connection: HttpConnection, owner: Owner) -> Answer | Failure:
    now = SystemClock().monotonic_ms()
    connection.send(REQUEST, now, now + 5_000)
    return await asyncio.wait_for(owner.outcomes.get(), 10)


@pytest.mark.parametrize(
    ("octets", "status", "body", "keeps"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True),
        (b"HT|TP/1.1 200 OK\r\nCont|ent-Length: 2\r|\n\r\no|k", 200, b"ok", True),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no|\r\n1;x=y\r\nk\r\n0\r\nT: r\r\n\r\n",
            200,
            b"ok",
            True,
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", 200, b"ok", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
        (
            b"HTTP/1.1 100 Continue\r\n\r\n|HTTP/1.1 103 Early\r\nLink: a\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            200,
            b"ok",
            True,
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad",
            200,
            b"ok",
            False,
        ),
    ],
)
async def test_answers(octets: bytes, status: int, body: bytes, keeps: bool) -> None:
    async with connected(octets, octets) as (connection, owner):
        answer = await ask(connection, owner)
        assert isinstance(answer, Answer)
        assert (answer.status, answer.body) == (status, body)
        assert not any(name == b"Link" for name, _ in answer.headers)
        assert connection.usable is keeps
        if keeps:
            again = await ask(connection, owner)
            assert isinstance(again, Answer)
            assert again.body == body


async def test_a_body_without_length_ends_with_the_connection() -> None:
    async with connected(b"HTTP/1.1 200 OK\r\n\r\nsome|thing", close=True) as (connection, owner):
        answer = await ask(connection, owner)
        assert isinstance(answer, Answer)
        assert answer.body == b"something"
        assert not connection.usable


@pytest.mark.parametrize(
    ("octets", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "reset"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok", "reset"),
        (b"HTTP/1.1 200 OK\r\nContent-", "reset"),
        (b"", "reset"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "garbage"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001, "garbage"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nT: " + b"x" * 600_000, "garbage"),
        (b"<html>", "garbage"),
    ],
)
async def test_failures(octets: bytes, kind: str) -> None:
    limits = AnswerLimits(body_bytes=1000, header_bytes=1000)
    async with connected(octets, limits=limits, close=True) as (connection, owner):
        failure = await ask(connection, owner)
        assert isinstance(failure, Failure)
        assert failure.kind == kind
        assert not connection.usable


async def test_an_idle_connection_that_the_server_closes_is_reported() -> None:
    async with connected(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", close=True) as (connection, owner):
        assert isinstance(await ask(connection, owner), Answer)
        await asyncio.wait_for(owner.over.wait(), 5)
        assert not connection.usable
        assert owner.outcomes.empty()


async def test_an_answer_before_the_request_is_out_is_taken_and_the_connection_is_not_used_again() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await done.wait()
        writer.transport.abort()

    done = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    clock, owner = SystemClock(), Owner()
    wheel = Wheel(clock)
    dialer = Dialer(Target.parse(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), clock)
    connection = await dialer.dial(lambda: HttpConnection(owner, clock, wheel, AnswerLimits()), 5)
    now = clock.monotonic_ms()
    connection.send(b"x" * 50_000_000, now, now + 5_000)
    answer = await asyncio.wait_for(owner.outcomes.get(), 10)
    assert isinstance(answer, Answer)
    assert answer.status == 413
    assert not connection.usable
    await owner.over.wait()
    done.set()
    server.close()
    await server.wait_closed()


async def test_deadlines_and_idle_time_come_from_the_wheel() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    clock = ManualClock()
    wheel, owner = Wheel(clock), Owner()
    dialer = Dialer(Target.parse(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), clock)

    def make() -> HttpConnection:
        return HttpConnection(owner, clock, wheel, AnswerLimits())

    asked = await dialer.dial(make, 5)
    idle = await dialer.dial(make, 5)
    asked.send(REQUEST, 0, 10_000)
    for _ in range(9):
        clock.advance(1_000)
        wheel.advance()
    assert asked.busy
    assert not idle.usable
    clock.advance(1_100)
    wheel.advance()
    failure = owner.outcomes.get_nowait()
    assert isinstance(failure, Failure)
    assert failure.kind == "timeout"
    await owner.over.wait()
    server.close()
    await server.wait_closed()


async def test_ipv6() -> None:
    try:
        async with connected(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", host="::1") as (connection, owner):
            assert isinstance(await ask(connection, owner), Answer)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


@pytest.mark.parametrize("trusted", [True, False])
async def test_tls_is_verified_against_the_standard_environment(
    trusted: bool, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(REQUEST))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.read()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    clock, owner = SystemClock(), Owner()
    target = Target.parse(f"https://localhost:{server.sockets[0].getsockname()[1]}")
    dialer = Dialer(target, clock)

    def make() -> HttpConnection:
        return HttpConnection(owner, clock, Wheel(clock), AnswerLimits())

    if trusted:
        connection = await dialer.dial(make, 5)
        assert isinstance(await ask(connection, owner), Answer)
        assert names == ["localhost"]
        connection.close()
        await owner.over.wait()
    else:
        with pytest.raises(BackendError, match=r"TLS|refused"):
            await dialer.dial(make, 5)
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    ("url", "callback_path", "authority", "path"),
    [
        ("http://127.0.0.1:8000", "", "127.0.0.1:8000", "/"),
        ("http://127.0.0.1:8000/", "/cb", "127.0.0.1:8000", "/cb"),
        ("http://Backend.Example/base/", "", "backend.example", "/base/"),
        ("https://backend.example:443/base", "/cb", "backend.example", "/base/cb"),
        ("https://[2001:db8::1]:8443", "cb", "[2001:db8::1]:8443", "/cb"),
        ("http://bücher.example/größe x", "", "xn--bcher-kva.example", "/gr%C3%B6%C3%9Fe%20x"),
    ],
)
def test_targets(url: str, callback_path: str, authority: str, path: str) -> None:
    target = Target.parse(url, callback_path)
    assert (target.authority, target.path) == (authority, path)


@pytest.mark.parametrize(
    "url", ["", "backend", "ftp://x", "http://", "http://x:99999", "http://u:p@x", "http://x/?a=b", "http://[::1"]
)
def test_urls_that_no_backend_can_have(url: str) -> None:
    with pytest.raises(ConfigError):
        Target.parse(url)


async def test_a_name_that_leads_nowhere() -> None:
    clock = SystemClock()
    dialer = Dialer(Target.parse("http://nowhere.invalid"), clock)
    with pytest.raises(BackendError, match="name not found"):
        await dialer.dial(lambda: HttpConnection(Owner(), clock, Wheel(clock), AnswerLimits()), 5)
