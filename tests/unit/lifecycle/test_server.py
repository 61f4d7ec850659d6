"""A listener of its own: sockets, dates, certificates, and the ways it stops."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge.config.addresses import Address
from edge.errors import StartError
from edge.lifecycle.server import Listener
from edge.lifecycle.sockets import Reservation, listen_unix


class App:
    """Answers /now at once and /later when told to."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.later = asyncio.Event()
        self.scope: dict[str, Any] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        if scope["path"] == "/later":
            self.waiting.set()
            await self.later.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
async def serve(app: App) -> AsyncIterator[Callable[..., Any]]:
    """Start listeners on a free port; all are stopped afterwards."""
    listeners: list[Listener] = []
    ports = Reservation()

    async def start(**settings: Any) -> tuple[Listener, int]:
        address = ports.take(Address("127.0.0.1", 0), "edge.listen")
        listener = Listener(app, addresses=[address], **settings)
        await listener.start()
        listeners.append(listener)
        return listener, address.port

    yield start
    for listener in listeners:
        await listener.stop()
    ports.release()


async def test_answers_with_a_date_and_no_boast(serve: Any, app: App) -> None:
    _, port = await serve()
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/now", headers={"X-Forwarded-For": "6.6.6.6"})
    assert answer.text == "ok"
    assert parsedate_to_datetime(answer.headers["date"]).tzinfo is not None
    assert "server" not in answer.headers
    assert app.scope["client"][0] == "127.0.0.1"


async def test_stop_accepting_keeps_what_is_connected(serve: Any, app: App) -> None:
    listener, port = await serve()
    async with httpx.AsyncClient() as client:
        under_way = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/later"))
        await asyncio.wait_for(app.waiting.wait(), 5)
        listener.stop_accepting()
        listener.stop_accepting()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        app.later.set()
        assert (await under_way).text == "ok"


async def test_stop_lets_an_answer_finish(serve: Any, app: App) -> None:
    listener, port = await serve()
    async with httpx.AsyncClient() as client:
        under_way = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/later"))
        await asyncio.wait_for(app.waiting.wait(), 5)
        stopping = asyncio.create_task(listener.stop())
        app.later.set()
        assert (await under_way).text == "ok"
        await stopping
    assert not listener.state.connections


async def test_stop_cuts_off_what_never_ends(serve: Any, app: App) -> None:
    listener, port = await serve()
    async with httpx.AsyncClient() as client:
        under_way = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/later"))
        await asyncio.wait_for(app.waiting.wait(), 5)
        await asyncio.wait_for(listener.stop(), 5)
        with pytest.raises(httpx.HTTPError):
            await under_way


async def test_the_unix_socket_is_private_and_goes_with_the_listener(app: App, short: Path) -> None:
    path = short / "worker-0.sock"
    listen_unix(path).close()  # what a dead worker left behind
    listener = Listener(app, unix=path)
    await listener.start()
    assert path.stat().st_mode & 0o777 == 0o600
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path))) as client:
        assert (await client.get("http://worker/now")).text == "ok"
    await listener.stop()
    assert not path.exists()


async def test_an_address_that_cannot_be_had_leaves_nothing_open(app: App) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, Reservations() as ports:
        port = taken.getsockname()[1]
        free = ports.take(Address("127.0.0.1", 0), "edge.listen")
        listener = Listener(app, addresses=[free, Address("127.0.0.1", port)])
        with pytest.raises(StartError, match=f"127.0.0.1:{port}' cannot be listened on: Address already in use"):
            await listener.start()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", free.port)


async def test_tls_and_a_new_certificate_without_a_restart(serve: Any, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make_certificate(cert, key, "first.example")
    listener, port = await serve(tls=(str(cert), str(key)))
    assert await subject(port) == "first.example"
    make_certificate(cert, key, "second.example")
    listener.renew_certificate()
    assert await subject(port) == "second.example"
    cert.write_text("no certificate")
    with pytest.raises(StartError, match="the TLS certificate or key cannot be used"):
        listener.renew_certificate()
    assert await subject(port) == "second.example"


async def test_a_certificate_that_cannot_be_used(app: App, tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("nothing of the kind")
    listener = Listener(app, tls=(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")))
    with pytest.raises(StartError, match="the TLS certificate or key cannot be used"):
        await listener.start()


def test_no_host_means_both_families() -> None:
    with Reservations() as ports:
        port = ports.take(Address("", 0), "edge.listen").port
        for host in ("127.0.0.1", "::1") if has_ipv6() else ("127.0.0.1",):
            # Reserved, so a stranger cannot have it, on either family.
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family) as stranger, pytest.raises(OSError, match="Address already in use"):
                stranger.bind((host, port))


def test_a_reservation_takes_no_connections() -> None:
    with Reservations() as ports:
        port = ports.take(Address("127.0.0.1", 0), "edge.listen").port
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_a_name_that_does_not_resolve() -> None:
    with Reservations() as ports, pytest.raises(StartError, match=r"edge\.listen = 'nowhere\.invalid:80'"):
        ports.take(Address("nowhere.invalid", 80), "edge.listen")


class Reservations(Reservation):
    """A reservation for a `with` block."""

    def __enter__(self) -> Reservations:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def make_certificate(cert: Path, key: Path, name: str) -> None:
    openssl = shutil.which("openssl")
    assert openssl, "the openssl command is needed (package openssl)"
    command = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
    subprocess.run(
        [*command.split(), "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )


async def subject(port: int) -> str:
    """Common name of the certificate a new connection is shown."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
        await writer.wait_closed()
    openssl = subprocess.run(
        ["openssl", "x509", "-inform", "der", "-noout", "-subject", "-nameopt", "multiline"],
        input=der,
        capture_output=True,
        check=True,
    )
    return str(openssl.stdout.decode().rpartition("= ")[2].strip())
