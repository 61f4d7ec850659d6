"""The command line as a user meets it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from edge import cli
from edge.config.schema import FLAGS
from tests.unit.lifecycle.conftest import gone, wait_for

BACKEND = ["--backend", "http://127.0.0.1:8000"]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("HOLDFAST_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def holdfast(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "edge", *arguments], capture_output=True, text=True, timeout=60)


def test_every_flag_has_its_words() -> None:
    assert set(cli._HELP) == set(FLAGS)


def test_help_names_every_flag_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(["serve", "--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert all(f"  {flag} " in text for flag in FLAGS.values())
    for default in ("127.0.0.1:7999", "127.0.0.1:5561", ".data", "an embedded one", "(default: 100000)"):
        assert default in text
    assert "SIGHUP" in text
    assert "worker " not in text.split("commands:")[0].split("options:")[0]


def test_help_is_cheap() -> None:
    code = "import sys; from edge.cli import main\ntry: main(['serve', '--help'])\nexcept SystemExit: pass\n"
    heavy = "print([name for name in ('redis', 'uvicorn', 'uvloop', 'starlette', 'asyncio') if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code + heavy], capture_output=True, text=True, timeout=60)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_version() -> None:
    from importlib.metadata import version

    ran = holdfast("version")
    assert (ran.returncode, ran.stdout) == (0, f"holdfast {version('holdfast')}\n")


@pytest.mark.parametrize("command", ["serve", "check"])
def test_wrong_settings_end_with_2_and_all_of_the_words(command: str) -> None:
    ran = holdfast(command, "--workers", "none", "--backend", "8000")
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr == (
        "holdfast: --workers: edge.workers = 'none' is not accepted: a whole number of processes from 1 to 256\n"
        "holdfast: --backend: backend = '8000' is not accepted: "
        "http://host:port/path or https://…, without user name, query or fragment\n"
    )


def test_without_anything_both_ways_on_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve"]) == 2
    error = capsys.readouterr().err
    assert "--backend http://127.0.0.1:8000" in error
    assert "--config holdfast.toml" in error


def test_an_unknown_flag_ends_with_2() -> None:
    ran = holdfast("serve", "--backand", "x")
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr


def test_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", *BACKEND, "--secret", "short"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "the settings are fine: 1 route\n"
    assert captured.err == (
        "holdfast: warning: --secret: route[0].secrets[0] has fewer than 16 characters: use a longer secret\n"
    )


def test_show_is_toml_with_sources_and_without_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("holdfast.toml").write_text('[edge]\nworkers = 2\n[[route]]\nbackend = "http://b"\n[route.pool]\nslots = 3\n')
    monkeypatch.setenv("HOLDFAST_CONFIG", "holdfast.toml")
    monkeypatch.setenv("HOLDFAST_REDIS", "redis://:hush-hush@redis:6379")
    assert cli.main(["check", "--show", "--control-token", "hush-hush-hush-hush", "--log-level", "error"]) == 0
    text = capsys.readouterr().out
    assert "hush" not in text
    shown = tomllib.loads(text)
    assert shown["edge"]["workers"] == 2
    assert shown["route"][0]["pool"]["slots"] == 3
    lines = {line.split(" = ")[0]: line.rpartition("  # ")[2] for line in text.splitlines() if " = " in line}
    assert lines["workers"] == "holdfast.toml:2"
    assert lines["slots"] == "holdfast.toml:6"
    assert lines["redis"] == "HOLDFAST_REDIS"
    assert lines["control_tokens"] == "--control-token"
    assert lines["log_level"] == "--log-level"
    assert lines["path"] == "default"


async def _backend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every event with nothing but success: 204."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
            events = json.loads(await reader.readexactly(int(fields[b"content-length"])))["events"]
            assert events
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


@pytest.mark.scenario
async def test_serve_holds_a_client_and_closes_it_with_1012_when_it_goes_down(tmp_path: Path) -> None:
    backend = await asyncio.start_server(_backend, "127.0.0.1", 0)
    port = backend.sockets[0].getsockname()[1]
    with (tmp_path / "out").open("w") as out, (tmp_path / "log").open("w") as log:
        arguments = ["--backend", f"http://127.0.0.1:{port}", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]
        edge = subprocess.Popen(
            [sys.executable, "-m", "edge", "serve", *arguments, "--drain-delay", "0", "--drain-window", "0"],
            cwd=tmp_path,
            stdout=out,
            stderr=log,
        )
    try:
        ready = await asyncio.to_thread(wait_for, (tmp_path / "out").read_text, "the ready line", 60.0)
        url = next(word for word in ready.split() if word.startswith("ws://"))
        async with connect(url) as client:
            await client.send("hello")
            edge.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(client.recv(), 30)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "service restart")
        assert await asyncio.to_thread(edge.wait, 30) == 0
        redis = int((tmp_path / ".data" / "redis.pid").read_text()) if (tmp_path / ".data/redis.pid").exists() else 0
        assert not redis or gone(redis)
        assert "drained" in (tmp_path / "log").read_text()
    finally:
        edge.kill()
        edge.wait()
        backend.close()
