"""Server processes: started in a scratch folder on chosen cores, found again whatever they fork, stopped by pid."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.measure import descendants, processes_in

_START_S = 60.0
_STOP_S = 10.0
OPEN_FILES = 20_000
"""Open files a server is configured for: 8,000 clients with an upstream connection each, and room."""


class ServerError(Exception):
    """A server did not start, or ended by itself."""


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody listens on, below the range that outgoing connections draw from. Raises ServerError."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        for port in range(20_000 + os.getpid() % 10_000, 32_000):
            sock = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                sock.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
    raise ServerError("no free ports between 20000 and 32000")


def output_of(*command: str) -> str:
    """What a short command prints, both streams; empty when it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except OSError:
        return ""
    return done.stdout + done.stderr


def program(name: str) -> str | None:
    """Path of a program, /usr/sbin included: Debian keeps nginx there, off an ordinary user's PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


class Daemon:
    """One started command and everything it has started. A context manager: leaving it ends them all.

    The command runs in a session of its own with `folder` as working directory; what leaves the family as a daemon
    is found by that directory.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, cores: frozenset[int], environment: Mapping[str, str] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder.resolve()
        self.log = self._folder / f"{Path(command[0]).name}.out"
        self._pids: set[int] = set()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, cores),  # noqa: PLW1509 - this process has one thread
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def pids(self) -> frozenset[int]:
        """The processes alive now."""
        return frozenset(descendants(self._process.pid) | processes_in(self._folder)) - {os.getpid()}

    def wait_for(self, ready: Callable[[], bool], what: str) -> None:
        """Poll until `ready`. Raises ServerError when the command ends first or the time is up."""
        deadline = time.monotonic() + _START_S
        while not ready():
            if self._process.poll() is not None:
                raise ServerError(f"{self._process.args!r} ended before {what}: {self.tail()}")
            if time.monotonic() > deadline:
                raise ServerError(f"{self._process.args!r}: no {what} in {_START_S:g} s: {self.tail()}")
            time.sleep(0.02)

    def wait_for_port(self, port: int) -> None:
        """Until something accepts on 127.0.0.1:`port`."""
        self.wait_for(lambda: _accepts(port), f"listening on {port}")

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-600:]

    def terminate(self) -> None:
        """SIGTERM to the command; returns at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the whole family, as if its machine were gone; returns at once."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM to the command, then SIGKILL to whatever is left of its family."""
        family = self.pids()
        self.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)
        for pid in (family & _alive()) | processes_in(self._folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(_STOP_S)


def _alive() -> set[int]:
    return {int(entry) for entry in os.listdir("/proc") if entry.isdigit()}


def _accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
