"""SIGHUP: what the file says now is in force, for new connections and for live ones, and none of them is touched."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.support.client import RecordingClient, connect
from tests.support.needs import needs_program
from tests.support.processes import Backend, Edge
from tests.support.scrape import counted
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario


async def reload(edge: Edge) -> None:
    """Reload, and wait until every worker has taken the settings over."""
    done = "new settings are in force"
    goal = edge.log().count(done) + edge.workers
    edge.reload()
    await wait_until(lambda: edge.log().count(done) >= goal, "all workers have the new settings")


async def status_of(edge: Edge, path: str) -> int:
    """101 for a handshake that is accepted."""
    try:
        async with connect(edge.url(path)):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


async def ask(client: RecordingClient, text: str) -> str:
    """The answer to one message; the client must have nothing else to hear."""
    expected = len(client.messages) + 1
    await client.send(text)
    return str((await client.expect(expected))[-1])


def named(folder: Path, name: str) -> Backend:
    return Backend(folder, "tests.scenarios.backends:counting", name=name, environment={"BACKEND_NAME": name})


@pytest.mark.parametrize("workers", [1, 2])
async def test_routes_backends_and_limits_change_under_live_connections(tmp_path: Path, workers: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(named(tmp_path, name)) for name in ("one", "two")]
        first: dict[str, Any] = {"path": "/chat", "backend": one.url}
        edge = await stack.enter_async_context(Edge(tmp_path, routes=[first], workers=workers))
        clients = [await stack.enter_async_context(connect(edge.url("/chat"))) for _ in range(4 * workers)]
        for client in clients:
            assert await ask(client, "hello") == "hello 1 one"

        # A new route appears.
        assert await status_of(edge, "/news") == 404
        news = {"path": "/news", "backend": two.url, "app": "news"}
        edge.settings["route"] = [first, news]
        await reload(edge)
        assert await status_of(edge, "/news") == 101

        # The route's backend is another one now, also for those who were connected before; their state goes along.
        edge.settings["route"] = [{**first, "backend": two.url}, news]
        await reload(edge)
        for client in clients:
            assert await ask(client, "again") == "again 2 two"

        # A limit is tighter now: for a new connection, and for one that was there before.
        tight = {**first, "backend": two.url, "limits": {"message_bytes": 100}}
        edge.settings["route"] = [tight, news]
        await reload(edge)
        for client in clients:
            assert await ask(client, "x" * 100) == f"{'x' * 100} 3 two"
        await clients[0].send("x" * 101)
        assert (await clients[0].ended()).code == 1009

        # A route that is gone takes nobody new and keeps whom it has.
        edge.settings["route"] = [news]
        await reload(edge)
        assert await status_of(edge, "/chat") == 404
        for client in clients[1:]:
            assert await ask(client, "still here") == "still here 4 two"
        assert await counted(edge, "connections") == len(clients) - 1


async def test_a_broken_file_changes_nothing_and_the_log_says_why(tmp_path: Path) -> None:
    async with (
        named(tmp_path, "one") as one,
        Edge(tmp_path, backend=one.url) as edge,
        connect(edge.url()) as client,
    ):
        assert await ask(client, "hello") == "hello 1 one"
        good = dict(edge.settings["route"][0])
        refusals = 0
        for broken, why in (
            ({**good, "backend": "ftp://nowhere"}, "route[0].backend = 'ftp://nowhere' is not accepted"),
            ({**good, "limits": {"message_bytes": -1}}, "route[0].limits.message_bytes = -1 is not accepted"),
            ({**good, "colour": "blue"}, "route[0].colour"),
        ):
            edge.settings["route"] = [broken]
            edge.reload()
            refusals += 1
            await wait_until(
                lambda number=refusals: edge.log().count("the old ones stay in force") == number,  # type: ignore[misc]
                "the settings are refused",
            )
            assert why in edge.log()
            assert f"{edge.config_path}:" in edge.log()  # and the line
        edge.config_path.write_text("this is [ no TOML")
        edge.process.send_signal(signal.SIGHUP)
        await wait_until(lambda: edge.log().count("the old ones stay in force") == refusals + 1, "refused as well")
        assert "is not TOML" in edge.log()
        edge.config_path.unlink()
        edge.process.send_signal(signal.SIGHUP)
        await wait_until(lambda: edge.log().count("the old ones stay in force") == refusals + 2, "refused as well")
        assert "cannot be read" in edge.log()
        # As before, for who was there and for who comes.
        assert await ask(client, "again") == "again 2 one"
        assert await status_of(edge, "/") == 101
        assert await edge.status("/readyz") == 200
        # And the next good file is taken.
        edge.settings["route"] = [good, {"path": "/news", "backend": one.url}]
        await reload(edge)
        assert await status_of(edge, "/news") == 101
        assert client.ending is None


async def test_what_takes_a_restart_is_said_and_the_rest_is_taken_over(tmp_path: Path) -> None:
    async with (
        named(tmp_path, "one") as one,
        Edge(tmp_path, backend=one.url) as edge,
        connect(edge.url()) as client,
    ):
        edge.settings["edge"] |= {"workers": 3, "handshakes_per_s": 1}
        await reload(edge)
        assert "edge.workers has changed, which takes effect at the next start only" in edge.log()
        statuses = await asyncio.gather(*(status_of(edge, "/") for _ in range(20)))
        assert set(statuses) == {101, 503}
        assert await ask(client, "hello") == "hello 1 one"
        assert len(edge.worker_pids()) == 1


def make_certificate(folder: Path, name: str) -> None:
    """A self-signed certificate for `name` in ``cert.pem`` and ``key.pem``."""
    openssl = needs_program("openssl", "certificates are made with it")
    command = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
    subprocess.run(
        [
            *command.split(), "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
            "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip


def trusting(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(folder / "cert.pem"))


async def test_wss_with_a_certificate_that_a_reload_renews(tmp_path: Path) -> None:
    make_certificate(tmp_path, "first.example")
    tls = {"tls_cert": str(tmp_path / "cert.pem"), "tls_key": str(tmp_path / "key.pem")}
    async with named(tmp_path, "one") as one, Edge(tmp_path, backend=one.url, edge=tls) as edge:
        url = edge.url().replace("ws://", "wss://")
        async with connect(url, ssl=trusting(tmp_path), server_hostname="first.example") as client:
            assert await ask(client, "hello") == "hello 1 one"
            big = "x" * 500_000
            assert await ask(client, big) == f"{big} 2 one"
            with pytest.raises(ssl.SSLCertVerificationError):
                async with connect(url, ssl=trusting(tmp_path), server_hostname="second.example"):
                    pass
            make_certificate(tmp_path, "second.example")
            await reload(edge)
            async with connect(url, ssl=trusting(tmp_path), server_hostname="second.example") as renewed:
                assert await ask(renewed, "hello") == "hello 1 one"
            # A broken one is refused, and the log says so; the renewed one stays, and so does everything else.
            context = trusting(tmp_path)
            (tmp_path / "cert.pem").write_text("no certificate")
            edge.settings["route"][0]["limits"] = {"message_bytes": 10}
            edge.reload()
            await wait_until(lambda: "the TLS certificate or key cannot be used" in edge.log(), "the log says why")
            async with connect(url, ssl=context, server_hostname="second.example") as still:
                assert await ask(still, "hello") == "hello 1 one"
            assert await ask(client, "same connection") == "same connection 3 one"
            assert "Traceback" not in edge.log()
