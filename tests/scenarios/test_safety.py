"""What clients cannot forge, where the edge never goes, and what nobody gets to read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from backend_sdk.errors import BadSignature
from backend_sdk.signature import HEADER, verify
from tests.support.client import connect
from tests.support.journal import Journal
from tests.support.ports import LOOPBACK, free_port
from tests.support.processes import Backend, Edge
from tests.support.proctree import is_alive
from tests.support.raw_websocket import raw_websocket
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario

HOLDFAST = str(Path(sys.executable).with_name("holdfast"))
FORGED = (
    "Holdfast-Signature: t=1,v1=00",
    "holdfast_edge: me",
    "Holdfast-Release: evil",
    "X-Forwarded-For: 9.9.9.9",
    "X-Forwarded-Proto: https",
    "Forwarded: for=9.9.9.9;proto=https",
)


async def seen_request(edge: Edge, *headers: str) -> dict[str, Any]:
    """The request of a handshake with these headers, as the backend saw it."""
    async with raw_websocket(edge.port, "/", *headers) as client:
        _, payload = await client.frame()
    request: dict[str, Any] = json.loads(payload)
    return request


async def test_clients_cannot_speak_in_the_name_of_the_edge_or_of_a_proxy(tmp_path: Path) -> None:
    async with Backend(tmp_path, "tests.scenarios.telling:curious") as backend:
        async with Edge(tmp_path, backend=backend.url) as edge:
            request = await seen_request(edge, *FORGED, "X-Mine: yes")
        names = {name.lower() for name, _ in request["headers"]}
        assert "x-mine" in names
        assert not [name for name in names if name.startswith(("holdfast", "x-forwarded", "forwarded"))]
        assert request["client"].startswith("127.0.0.1:")
        assert request["scheme"] == "ws"
        async with Edge(
            tmp_path, backend=backend.url, edge={"trusted_proxies": ["127.0.0.0/8"]}, name="behind"
        ) as edge:
            request = await seen_request(edge, *FORGED)
        assert (request["client"], request["scheme"]) == ("9.9.9.9:0", "wss")
        assert not [name for name, _ in request["headers"] if name.lower().startswith("holdfast")]


async def test_redirects_of_a_backend_are_not_followed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    async with contextlib.AsyncExitStack() as stack:
        trap = await stack.enter_async_context(
            Backend(tmp_path, "tests.scenarios.telling:noting", name="trap", journal=journal)
        )
        environment = {"BACKEND_REDIRECT": f"{trap.url}/stolen", "BACKEND_NAME": "asked"}
        backend = await stack.enter_async_context(
            Backend(tmp_path, "tests.scenarios.telling:elsewhere", journal=journal, environment=environment)
        )
        edge = await stack.enter_async_context(Edge(tmp_path, backend=backend.url))
        with pytest.raises(InvalidStatus) as refused:
            async with connect(edge.url()):
                pass
        assert refused.value.response.status_code == 502
        assert "Location" not in refused.value.response.headers
        assert {entry["by"] for entry in journal.entries()} == {"asked"}
        assert "redirect" in edge.log()
    journal.close()


SECRETS = {
    "route secret": "route-secret-7c1f",
    "old route secret": "old-route-secret-22ab",
    "control token": "control-token-91d0",
    "Redis password": "redis-password-55e3",
}


def check_nothing_leaked(text: str, where: str) -> None:
    for what, secret in SECRETS.items():
        assert secret not in text, f"the {what} stands in {where}"


async def test_secrets_are_nowhere_to_be_read(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer(tmp_path / "redis", password=SECRETS["Redis password"]))
        secrets = [SECRETS["route secret"], SECRETS["old route secret"]]
        backend = await stack.enter_async_context(
            Backend(tmp_path, "tests.scenarios.telling:curious", environment={"BACKEND_SECRETS": secrets[0]})
        )
        wrong = f"{SECRETS['control token']}x"
        edge = await stack.enter_async_context(
            Edge(
                tmp_path,
                routes=[{"backend": backend.url, "secrets": secrets}],
                redis=redis.url,
                edge={"control_tokens": [SECRETS["control token"]], "log_level": "debug"},
            )
        )
        # Everything that may be logged happens: traffic, orders right and wrong, a reload, Redis gone and back.
        async with connect(edge.url()) as client:
            await client.send("!subscribe 3")
            await client.expect(2)
            async with httpx.AsyncClient(base_url=edge.control_url) as http:
                for token in (SECRETS["control token"], wrong):
                    headers = {"Authorization": f"Bearer {token}"}
                    for path in ("/v1/sessions/none", "/openapi.json", "/v1/nothing"):
                        check_nothing_leaked((await http.get(path, headers=headers)).text, f"the answer to {path}")
            edge.reload()
            await wait_until(lambda: "new settings are in force" in edge.log(), "the edge has read its file again")
            redis.kill()
            await wait_until_status(edge, 503)
            check_nothing_leaked((await edge.get("/readyz"))[1].decode(), "/readyz")
            redis.start()
            await wait_until_status(edge, 200)
        for pid in edge.members():
            check_nothing_leaked(Path(f"/proc/{pid}/cmdline").read_text(), "a command line")
        shown = await run("check", "--show", "--config", str(edge.config_path))
        assert shown.returncode == 0
        check_nothing_leaked(shown.stdout + shown.stderr, "holdfast check --show")
        # Errors about secret settings name the key only.
        edge.settings["edge"]["redis"] = f"redis://:{SECRETS['Redis password']}@nowhere:port/0"
        edge.settings["edge"]["control_tokens"] = [SECRETS["control token"], 7]
        edge.settings["route"][0]["secrets"] = [*secrets, ""]
        edge.reload()
        await wait_until(lambda: "not reloaded" in edge.log(), "the edge has refused its file")
        broken = await run("check", "--config", str(edge.config_path))
        assert broken.returncode == 2
        for key in ("edge.redis", "edge.control_tokens", "secrets"):
            assert key in broken.stderr
        check_nothing_leaked(broken.stdout + broken.stderr, "the errors of holdfast check")
        edge.sigterm()
        assert await edge.exit_code() == 0
        assert "DEBUG" in edge.log()
        check_nothing_leaked(edge.log(), "the log")


async def wait_until_status(edge: Edge, status: int) -> None:
    async def answered() -> bool:
        return await edge.status("/readyz") == status

    await wait_until(answered, f"/readyz answers {status}")


async def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    return await asyncio.to_thread(
        subprocess.run, [HOLDFAST, *arguments], capture_output=True, text=True, timeout=60, env=environment
    )


@pytest.mark.parametrize("control", ["0.0.0.0", "[::]", ""])
async def test_without_a_token_the_control_port_is_for_this_machine_only(tmp_path: Path, control: str) -> None:
    port = free_port()
    arguments = [
        "serve", "--listen", f"{LOOPBACK}:{free_port()}", "--control", f"{control}:{port}",
        "--backend", "http://127.0.0.1:1", "--data", str(tmp_path),
    ]  # fmt: skip
    refused = await run(*arguments)
    assert refused.returncode == 2
    assert "edge.control_tokens" in refused.stderr
    assert "loopback" in refused.stderr
    with socket.socket() as probe:
        assert probe.connect_ex((LOOPBACK, port)) != 0


def signed_by(entry: dict[str, Any], secret: str) -> bool:
    """Whether the request the backend noted verifies with `secret`."""
    header = {name.lower(): value for name, value in entry["headers"].items()}.get(HEADER.lower())
    try:
        verify([secret.encode()], header, bytes.fromhex(entry["body"]), time.time(), 300)
    except BadSignature:
        return False
    return True


async def test_requests_are_signed_with_each_secret_and_secrets_rotate_under_live_connections(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    old, new = "the-old-secret-31a", "the-new-secret-92b"
    async with contextlib.AsyncExitStack() as stack:
        backend = await stack.enter_async_context(Backend(tmp_path, "tests.scenarios.telling:noting", journal=journal))
        edge = await stack.enter_async_context(
            Edge(tmp_path, routes=[{"backend": backend.url, "secrets": [old]}], workers=2)
        )
        client = await stack.enter_async_context(connect(edge.url()))

        async def signatures() -> tuple[bool, bool]:
            """Whether a message sent now verifies with the old secret, and with the new one."""
            before = len(journal.entries())
            await client.send("ping")
            await wait_until(lambda: len(journal.entries()) > before, "the backend has noted it")
            last = journal.entries()[-1]
            return signed_by(last, old), signed_by(last, new)

        assert await signatures() == (True, False)
        for secrets, expected in (([new, old], (True, True)), ([new], (False, True))):
            edge.settings["route"][0]["secrets"] = secrets
            edge.reload()

            async def rotated(expected: tuple[bool, bool] = expected) -> bool:
                return await signatures() == expected

            await wait_until(rotated, f"signatures verify with old and new: {expected}")
        assert client.ending is None
    journal.close()


async def test_a_backend_with_another_secret_refuses_and_the_operator_reads_why(tmp_path: Path) -> None:
    async with (
        Backend(
            tmp_path, "tests.scenarios.telling:curious", environment={"BACKEND_SECRETS": "mine-is-different"}
        ) as backend,
        Edge(tmp_path, routes=[{"backend": backend.url, "secrets": ["the-edges-own-one"]}]) as edge,
    ):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(edge.url()):
                pass
        assert refused.value.response.status_code == 401
        await wait_until(lambda: " 401" in edge.log(), "the log says what the backend answered")


async def test_a_secret_that_stops_being_right_closes_with_the_documented_verdict(tmp_path: Path) -> None:
    secret = "the-right-secret-1"
    async with (
        Backend(tmp_path, "tests.scenarios.telling:curious", environment={"BACKEND_SECRETS": secret}) as backend,
        Edge(tmp_path, routes=[{"backend": backend.url, "secrets": [secret]}]) as edge,
        connect(edge.url()) as client,
    ):
        edge.settings["route"][0]["secrets"] = ["the-wrong-secret-2"]
        edge.reload()
        await wait_until(lambda: "new settings are in force" in edge.log(), "the wrong secret is in force")
        await client.send("hello")
        ending = await client.ended()
        assert (ending.code, ending.reason) == (1011, "backend answered 401")
        assert is_alive(edge.pid)
