"""Which origin a target has, how it is reached over TLS, and when it is forgotten."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.backend.heads import HEAD_BYTES, KNOWN_MOST, KnownHead, KnownHeads
from edge.backend.http11 import Answer
from edge.backend.origin_base import Unanswered
from edge.backend.origins import UNUSED_MS, BackendOrigins
from edge.backend.tls import server_name
from edge.clock import ManualClock
from edge.config import TargetSettings
from edge.telemetry.metrics import Metrics
from edge.wheel import Wheel
from tests.support.waiting import wait_until
from tests.unit.backend.raw import OK, REQUEST, ROUTE, Line, RawServer, Scene, Told, answers, scene

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_one_origin_for_each_route_and_way_to_reach_it() -> None:
    async with scene(answers) as s:
        origins, route, target = s.origins, s.route, s.target
        origin = origins.of(route, target)
        assert origins.of(route, target) is origin
        assert origins.of(replace(route), replace(target)) is origin
        assert origins.of(route, replace(target, subscribe=["a"], one_event=True)) is origin
        changed: list[dict[str, Any]] = [
            {"url": "http://127.0.0.1:1"},
            {"insecure": True},
            {"host": "a"},
            {"client_cert": "/nowhere"},
        ]
        for change in changed:
            assert origins.of(route, replace(target, **change)) is not origin
        assert origins.of(replace(route, path="/other"), target) is not origin


async def test_a_reload_changes_limits_of_the_same_origin() -> None:
    async def serve(line: Line) -> None:
        await answers(line, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100)

    async with scene(serve) as s:
        origin = s.origin
        for _ in range(3):
            assert len((await s.ask().answer()).body) == 100
        s.route = replace(s.route, grip=replace(s.route.grip, answer_bytes=50))
        assert s.origin is origin
        assert (await s.ask().failure()).phrase == "the answer is too large"


async def test_origins_nobody_uses_are_forgotten_with_their_connections_and_still_work() -> None:
    server = RawServer(answers)
    await server.start()
    clock = ManualClock()
    wheel = Wheel(clock)
    origins = BackendOrigins(clock, wheel, Metrics(), asyncio.get_running_loop())
    target = TargetSettings(f"http://127.0.0.1:{server.port}")
    origin = origins.of(ROUTE, target)
    asker = Told()
    origin.ask(REQUEST, asker, 10)
    await asker.answer()
    clock.advance(UNUSED_MS // 2)
    wheel.advance()
    assert len(origins) == 1
    clock.advance(UNUSED_MS)
    wheel.advance()
    assert len(origins) == 0
    await wait_until(lambda: server.open == 0, "the connection is closed")
    assert origins.of(ROUTE, target) is not origin
    asker = Told()
    origin.ask(REQUEST, asker, 10)
    await asker.answer()
    origins.close()
    await wait_until(lambda: server.open == 0, "the connection of the forgotten origin is closed too")
    await server.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=chat.example", "-addext", "subjectAltName=DNS:chat.example"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


@asynccontextmanager
async def over_tls(certificate: tuple[Path, Path], *, client: bool = False) -> AsyncIterator[Scene]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificate[0])
    async with scene(answers) as s:
        await s.server.stop()
        await s.server.start(ssl=context)
        s.target = TargetSettings(f"https://127.0.0.1:{s.server.port}")
        yield s


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({"host": "chat.example"}, True),
        ({"host": "chat.example:8443"}, True),
        ({}, False),
        ({"host": "other.example"}, False),
        ({"host": "chat.example", "trust_connect_host": True}, False),
        ({"insecure": True}, True),
        ({"insecure": True, "host": "other.example"}, True),
    ],
)
async def test_certificates_are_verified_against_the_host_that_is_sent(
    change: dict[str, Any], good: bool, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    async with over_tls(certificate) as s:
        s.target = replace(s.target, **change)
        outcome = await s.ask().outcome()
        if good:
            assert isinstance(outcome, Answer)
            for _ in range(5):
                await s.stream(GET).whole()
                await s.stream(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n", b"h", b"i").whole()
                assert (await s.ask().answer()).body == b"ok"
            assert len(s.server.lines) == 1
        else:
            assert isinstance(outcome, Unanswered)
            assert (outcome.kind, outcome.sent) == ("connect", False)
            assert outcome.phrase.startswith("TLS: ")


async def test_a_client_certificate_is_shown(certificate: tuple[Path, Path]) -> None:
    async with over_tls(certificate, client=True) as s:
        s.target = replace(s.target, insecure=True)
        assert isinstance(await s.ask().outcome(), Unanswered)
        s.target = replace(s.target, client_cert=str(certificate[0]), client_key=str(certificate[1]))
        assert (await s.ask().answer()).body == b"ok"


async def test_large_bodies_both_ways_over_tls(certificate: tuple[Path, Path]) -> None:
    async with over_tls(certificate) as s:

        async def serve(line: Line) -> None:
            body = (await line.request()).partition(b"\r\n\r\n")[2]
            await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body)
            await answers(line)

        s.server.serve = serve
        s.target = replace(s.target, insecure=True)
        heard = s.stream(b"POST / HTTP/1.1\r\nContent-Length: 5000000\r\n\r\n", *[b"x" * 50_000] * 100)
        await heard.whole()
        assert len(heard.data) == 5_000_000
        assert (await s.ask().answer()).body == b"ok"
        assert len(s.server.lines) == 1


async def test_an_encrypted_key_is_refused_not_asked_for(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    locked = tmp_path / "locked.pem"
    command = ["openssl", "pkcs8", "-topk8", "-in", str(certificate[1]), "-out", str(locked), "-passout", "pass:abc"]
    subprocess.run(command, check=True, capture_output=True)
    async with scene(answers) as s:
        s.target = TargetSettings("https://localhost:1", client_cert=str(certificate[0]), client_key=str(locked))
        failure = await s.ask().failure()
        assert failure.kind == "connect"
        assert "encrypted" in failure.phrase


@pytest.mark.parametrize(
    ("target", "route_host", "name"),
    [
        (TargetSettings("https://u"), "", "u"),
        (TargetSettings("https://u"), "r.example", "r.example"),
        (TargetSettings("https://u", host="t.example:1"), "r.example", "t.example"),
        (TargetSettings("https://u", host="[2001:db8::1]:1"), "", "2001:db8::1"),
        (TargetSettings("https://u", host="t.example", trust_connect_host=True), "", "u"),
    ],
)
def test_server_names(target: TargetSettings, route_host: str, name: str) -> None:
    assert server_name(replace(ROUTE, grip=replace(ROUTE.grip, host=route_host)), target, "u") == name


def test_heads_are_known_only_when_they_say_where_the_answer_ends() -> None:
    heads = KnownHeads()
    heads.learn(OK, 200, [], b"ok")
    assert heads == {OK[:-2]: KnownHead(200, [], 2)}
    heads.learn(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, [], b"ok")
    heads.learn(b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, [], b"ok")
    heads.learn(b"HTTP/1.1 204 OK\r\nX: " + b"x" * HEAD_BYTES + b"\r\n\r\n", 204, [], b"")
    assert len(heads) == 1
    for n in range(KNOWN_MOST):
        heads.learn(b"HTTP/1.1 204 OK\r\nX: %d\r\n\r\n" % n, 204, [], b"")
    assert len(heads) <= KNOWN_MOST


async def test_answers_with_the_same_head_share_it() -> None:
    async def serve(line: Line) -> None:
        for body in (b"ab", b"cd", b"efg"):
            await line.request()
            await line.say(b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with scene(serve, connections=1) as s:
        first, second, third = [await s.ask().answer() for _ in range(3)]
        assert [first.body, second.body, third.body] == [b"ab", b"cd", b"efg"]
        assert first.headers is second.headers
        assert first.headers != third.headers
