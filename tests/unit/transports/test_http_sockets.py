"""The same over TLS, over a unix socket, on several addresses, and when the listener stops."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from edge.clock import SystemClock
from edge.config import EdgeSettings, RouteSettings
from edge.config.addresses import Address
from edge.lifecycle.server import Listener
from edge.sessions.routes import Routes
from edge.telemetry.metrics import Metrics
from edge.transports.http import ClientHttp, no_app
from edge.transports.reception import Reception
from edge.wheel import Wheel
from tests.support.http_hall import HttpHall, get, hold, http_client, post, talking
from tests.support.listener import Hall, listening, until
from tests.support.ports import free_port
from tests.unit.lifecycle.test_server import make_certificate

GRIP = RouteSettings(protocol="grip")


async def test_over_tls(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make_certificate(cert, key, "localhost")
    context = ssl.create_default_context(cafile=str(cert))
    context.check_hostname = False
    hall = HttpHall()
    body = b"x" * 3_000_000
    async with listening(GRIP, http=hall, tls=(str(cert), str(key))) as listener:
        async with talking(*await asyncio.open_connection("127.0.0.1", listener.port, ssl=context)) as client:
            for _ in range(2):
                assert (await client.ask(post("/", body))).body == body
            assert hall.visits[0].request.scheme == "https"
            answer = await client.ask(get("/", "Connection: close"))
            assert answer["connection"] == "close"
            assert await client.eof() == b""
        hall.when_whole = hold
        async with talking(*await asyncio.open_connection("127.0.0.1", listener.port, ssl=context)) as client:
            client.write(get())
            await until(lambda: len(hall.visits) == 4)
            hall.visits[3].client.begin(200, "", [], None)
            hall.visits[3].client.write(b"streamed")
            await client.head()
            assert await client.raw.reader.readexactly(13) == b"8\r\nstreamed\r\n"
        await until(lambda: hall.visits[3].ends)
        assert hall.visits[3].ends == ["client"]


@contextlib.asynccontextmanager
async def serving(hall: HttpHall, ports: list[int], unix: Path) -> AsyncIterator[Listener]:
    """The edge's own listener, as the worker makes it."""
    loop = asyncio.get_running_loop()
    wheel = Wheel(SystemClock())
    wheel.start(loop)
    routes = Routes([GRIP], Metrics())
    reception = Reception(EdgeSettings(), routes, Hall(), http_door=hall, wheel=wheel, clock=SystemClock(), loop=loop)
    reception.start()
    addresses = [Address("127.0.0.1", port) for port in ports]
    listener = Listener(no_app, addresses=addresses, unix=unix, http=functools.partial(ClientHttp, reception))
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop()
        reception.stop()
        wheel.stop()


async def test_several_addresses_and_a_unix_socket() -> None:
    hall = HttpHall()
    ports = [free_port(), free_port()]
    with tempfile.TemporaryDirectory(prefix="hf-") as folder:  # a unix socket's path is short
        path = Path(folder) / "s"
        async with serving(hall, ports, path):
            for port in ports:
                async with http_client(port) as client:
                    assert (await client.ask(post("/", b"tcp"))).body == b"tcp"
            async with talking(*await asyncio.open_unix_connection(str(path))) as client:
                assert (await client.ask(post("/", b"unix"))).body == b"unix"
                assert hall.visits[2].request.client == ":0"
                hall.when_whole = hold
                client.write(get(version="1.0"))
                await until(lambda: len(hall.visits) == 4)
                hall.visits[3].client.begin(200, "", [], None)
                hall.visits[3].client.abort()
                await client.head()
                assert await client.eof() == b""


async def test_stopping_closes_idle_connections_and_cuts_held_ones_in_the_end() -> None:
    hall = HttpHall(when_whole=hold)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="hf-") as folder:
        async with (
            serving(hall, [port], Path(folder) / "s") as listener,
            http_client(port) as held,
            http_client(port) as answered,
            http_client(port) as idle,
        ):
            held.write(get("/held"))
            answered.write(get("/answered"))
            await until(lambda: len(hall.visits) == 2 and len(listener.state.connections) == 3)
            stopping = asyncio.ensure_future(listener.stop())
            assert await idle.eof() == b""
            assert not stopping.done()
            for visit in hall.visits:
                if visit.request.path == "/answered":
                    visit.client.answer(200, "", [], b"last")
            answer = await answered.answer()
            assert (answer.body, answer["connection"]) == (b"last", "close")
            await stopping
            await until(lambda: not listener.state.connections)
            assert sorted(end for visit in hall.visits for end in visit.ends) == ["client"]


async def test_kept_connections_bring_no_new_requests_to_a_listener_that_takes_no_new_clients() -> None:
    hall = HttpHall(when_whole=hold)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="hf-") as folder:
        async with (
            serving(hall, [port], Path(folder) / "s") as listener,
            http_client(port) as busy,
            http_client(port) as idle,
        ):
            busy.write(get())
            await until(lambda: hall.visits and len(listener.state.connections) == 2)
            hall.visits[0].client.begin(200, "", [], None)
            listener.stop_accepting()
            listener.finish_connections()
            assert await idle.eof() == b""
            hall.visits[0].client.write(b"on and on")
            hall.visits[0].client.end()
            assert (await busy.answer()).body == b"on and on"
            busy.write(get("/next"))
            assert await busy.eof() == b""
            assert len(hall.visits) == 1
