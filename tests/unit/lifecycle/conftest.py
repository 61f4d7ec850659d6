"""Starts tiny edges as real processes and watches them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
DEADLINE_S = 20.0


def wait_for(what: Callable[[], Any], why: str, deadline_s: float = DEADLINE_S) -> Any:
    """Ask `what` until it is true; fails with `why` at the deadline."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if found := what():
                return found
        time.sleep(0.01)
    raise AssertionError(f"waited {deadline_s:g} s in vain: {why}")


def gone(pid: int) -> bool:
    """No such process any more; a zombie that waits for its parent counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class TinyEdge:
    """One supervisor and its workers."""

    def __init__(self, folder: Path, edge: str = "", routes: str = "", **env: str) -> None:
        self.folder = folder
        self.config = folder / "holdfast.toml"
        # A unix socket's path is short; pytest's folders are not.
        self.data = Path(tempfile.mkdtemp(prefix="hf-"))
        self.write(edge, routes)
        self._held: list[http.client.HTTPConnection | http.client.HTTPResponse] = []
        self._log = (folder / "log").open("w+")
        self._out = (folder / "out").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.lifecycle.tiny_edge", str(self.config)],
            cwd=ROOT,
            env={**os.environ, **env},
            stdout=self._out,
            stderr=self._log,
        )

    def write(self, edge: str = "", routes: str = "") -> None:
        """Write the settings file. Later lines of `edge` replace the defaults here."""
        given = {line.split("=")[0].strip() for line in edge.splitlines()}
        defaults = {
            "listen": '["127.0.0.1:0"]',
            "control": '"127.0.0.1:0"',
            "data_dir": f'"{self.data}"',
            "drain_delay_s": "0.1",
            "drain_window_s": "0.1",
        }
        lines = [f"{key} = {value}" for key, value in defaults.items() if key not in given]
        route = routes or '[[route]]\nbackend = "http://127.0.0.1:1"\n'
        self.config.write_text("\n".join(["[edge]", *lines, edge, route]))

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    def wait_log(self, pattern: str) -> re.Match[str]:
        found = wait_for(lambda: re.search(pattern, self.log), f"{pattern!r} in the log")
        assert isinstance(found, re.Match)
        return found

    def wait_ready(self) -> TinyEdge:
        wait_for(lambda: self.out or self.process.poll() is not None, "the line that says it is ready")
        assert self.process.poll() is None, self.log
        return self

    @property
    def ports(self) -> tuple[int, int]:
        """Public and control port."""
        match = re.fullmatch(
            r"holdfast is ready: wss?://127\.0\.0\.1:(\d+)/ control http://127\.0\.0\.1:(\d+)/\n", self.out
        )
        assert match, self.out
        return int(match[1]), int(match[2])

    def get(self, path: str, port: int = 0) -> Any:
        """GET from one of the workers, on the public port or the one given."""
        link = http.client.HTTPConnection("127.0.0.1", port or self.ports[0], timeout=5)
        try:
            link.request("GET", path)
            body = link.getresponse().read()
        finally:
            link.close()
        return json.loads(body) if body else None

    def hold(self) -> http.client.HTTPResponse:
        """A client whose answer stays open."""
        link = http.client.HTTPConnection("127.0.0.1", self.ports[0], timeout=DEADLINE_S)
        link.request("GET", "/hold")
        response = link.getresponse()
        self._held += [link, response]
        assert response.readline() == b"held\n"
        return response

    def worker_pids(self) -> list[int]:
        """Of the workers that are ready, in the order they became it."""
        return [int(pid) for pid in re.findall(r"is up worker_pid=(\d+)", self.log)]

    def kill(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        for client in self._held:
            client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.close()
        shutil.rmtree(self.data, ignore_errors=True)
        self._out.close()
        for pid in self.worker_pids():
            wait_for(partial(gone, pid), f"worker {pid} to end")


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Callable[..., TinyEdge]]:
    """Starts tiny edges; ends them all after the test, and checks that no worker is left."""
    edges: list[TinyEdge] = []

    def start(edge: str = "", routes: str = "", **env: str) -> TinyEdge:
        folder = tmp_path / str(len(edges))
        folder.mkdir()
        edges.append(TinyEdge(folder, edge, routes, **env))
        return edges[-1]

    yield start
    for edge in edges:
        edge.close()


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a path short enough for unix sockets."""
    with tempfile.TemporaryDirectory(prefix="hf-") as folder:
        yield Path(folder)
