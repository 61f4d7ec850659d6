"""Real processes for scenarios: an edge, backends behind it, and the signals that end them.

Everything here is an async context manager; leaving the block ends the whole process tree, and a failing test
shows the tail of each log (as notes on its exception). Nothing listens anywhere but on loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tests.support import proctree
from tests.support.journal import VARIABLE as JOURNAL_VARIABLE
from tests.support.journal import Journal
from tests.support.ports import LOOPBACK, accepts, free_port
from tests.support.toml import to_toml
from tests.support.waiting import wait_until

_ROOT = Path(__file__).resolve().parents[2]
_TAIL_LINES = 60


class Child:
    """A process we started, its log, and everybody it started in turn."""

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.folder = folder
        self.log_path = folder / f"{name}.log"
        self._token = secrets.token_hex(8)
        self._environment = {
            **os.environ, **(environment or {}), proctree.VARIABLE: self._token, "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        self._process: subprocess.Popen[str] | None = None

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._process is not None, f"{self.name} was not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def spawn(
        self, argv: Sequence[str], *, stdin: int = subprocess.DEVNULL, stdout: int | None = None,
        death_signal: signal.Signals = signal.SIGTERM,
    ) -> None:  # fmt: skip
        """Start `argv` with its output appended to the log."""
        assert not self.running, f"{self.name} is running already"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=log if stdout is None else stdout,
                stderr=log,
                cwd=_ROOT,
                env=self._environment,
                text=True,
                start_new_session=True,
                preexec_fn=proctree.dying_with_parent(death_signal),  # noqa: PLW1509  # one system call
            )

    def members(self) -> list[int]:
        """Pids of the whole living tree, ours included."""
        return proctree.members(self._token)

    async def exit_code(self, deadline_s: float = 30.0) -> int:
        """Wait for the process to end by itself; negative for a signal."""
        await wait_until(lambda: not self.running, f"{self.name} has ended", deadline_s)
        return int(self.process.returncode)

    async def kill_tree(self) -> None:
        """SIGKILL everybody in the tree at once, and whoever was started meanwhile."""
        proctree.kill(self.members())
        if self._process is not None:
            self._process.kill()
            self._process.wait()

        def nobody_left() -> bool:
            proctree.kill(left := self.members())
            return not left

        await wait_until(nobody_left, f"everybody in the tree of {self.name} is dead")

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self) -> str:
        lines = self.log().splitlines()[-_TAIL_LINES:]
        return "\n".join([f"--- the end of {self.log_path} ---", *lines])

    def check_running(self) -> None:
        """Fail at once, with the log, when the process has died unasked."""
        if not self.running:
            code = self.process.returncode
            raise AssertionError(f"{self.name} ended with {code} while starting\n{self.log_tail()}")


class Managed(Child):
    """A child that starts with its block and is gone after it."""

    async def start(self) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            await self.start()
        except BaseException:
            await self.kill_tree()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self.log_tail())
        await self.kill_tree()


class Edge(Managed):
    """`holdfast serve` with a configuration file of its own and ports it keeps over restarts.

    `routes` are `[[route]]` tables; `backend` alone makes one route for everything. `edge` and `channels` are
    laid over the `[edge]` table and give the `[[channel]]` tables, `xmpp` the `[[xmpp]]` ones. Without `redis` the edge
    starts its embedded one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        backend: str = "",
        routes: Sequence[Mapping[str, Any]] = (),
        channels: Sequence[Mapping[str, Any]] = (),
        xmpp: Sequence[Mapping[str, Any]] = (),
        edge: Mapping[str, Any] | None = None,
        redis: str = "",
        workers: int = 1,
        name: str = "edge",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name, folder, environment)
        self.port = free_port()
        self.control_port = free_port()
        self.workers = workers
        self.config_path = folder / f"{name}.toml"
        self.settings: dict[str, Any] = {
            "edge": {
                "listen": [f"{LOOPBACK}:{self.port}"],
                "control": f"{LOOPBACK}:{self.control_port}",
                "redis": redis or None,
                "data_dir": str(folder / f"{name}-data"),
                "workers": workers,
                "drain_delay_s": 0.0,
                "drain_window_s": 0.5,
                **(edge or {}),
            },
            "channel": list(channels),
            "xmpp": list(xmpp),
            "route": list(routes) or [{"backend": backend}],
        }

    def url(self, path: str = "/") -> str:
        """WebSocket URL of `path` on this edge."""
        return f"ws://{LOOPBACK}:{self.port}{path}"

    @property
    def control_url(self) -> str:
        return f"http://{LOOPBACK}:{self.control_port}"

    def write_config(self) -> None:
        """Write `settings` where the edge reads them: at a start and, after `reload`, again."""
        settings = {key: value for key, value in self.settings.items() if value}
        self.config_path.write_text(to_toml(settings))

    async def start(self) -> None:
        """Start and wait until the edge says it is ready and every worker listens."""
        self.write_config()
        self.spawn([str(Path(sys.executable).with_name("holdfast")), "serve", "--config", str(self.config_path)])
        await self.until_ready()

    async def until_ready(self, deadline_s: float = 30.0) -> None:
        async def ready() -> bool:
            self.check_running()
            if await self.status("/readyz") != 200:
                return False
            return len(proctree.listeners(self.port, self.members())) >= self.workers

        await wait_until(ready, f"{self.name} is ready", deadline_s)

    async def status(self, path: str) -> int:
        """Status of a GET on the control port, 0 when nobody answers."""
        return (await self.get(path))[0]

    async def get(self, path: str, token: str = "") -> tuple[int, bytes]:
        """Status and body of a GET on the control port; (0, b"") when nobody answers."""
        return await asyncio.to_thread(_get, self.control_port, path, token)

    def worker_pids(self) -> list[int]:
        """Pids of the processes that serve clients: the supervisor only when it has nobody to do it."""
        serving = proctree.listeners(self.port, self.members())
        return [pid for pid in serving if pid != self.pid] or serving

    def sigterm(self) -> None:
        """Ask for a polite end; `exit_code` waits for it."""
        self.process.terminate()

    def reload(self) -> None:
        """Write `settings` again and send SIGHUP."""
        self.write_config()
        self.process.send_signal(signal.SIGHUP)

    async def sigkill(self) -> None:
        """The machine is gone: supervisor, workers and embedded Redis at once."""
        proctree.stop(self.members())  # none of them may see another one die, and act on it
        await self.kill_tree()

    async def sigkill_supervisor(self) -> None:
        """Kill only the supervisor; what its workers do about that is theirs."""
        self.process.kill()
        await asyncio.to_thread(self.process.wait)

    async def sigkill_worker(self) -> int:
        """Kill one worker and return its pid once it is dead."""
        pid = self.worker_pids()[0]
        os.kill(pid, signal.SIGKILL)
        await wait_until(lambda: not proctree.is_alive(pid), f"worker {pid} of {self.name} is dead")
        return pid


class Backend(Managed):
    """An ASGI app (``module:app``) under uvicorn, in a process of its own on a port it keeps.

    Killing and starting it again takes milliseconds: see `tests.support.backend_host`. Give two backends the
    same `port` to put both behind one URL (SO_REUSEPORT). With a `journal` the app finds it by
    `Journal.from_environment()`.
    """

    def __init__(
        self,
        folder: Path,
        app: str,
        *,
        port: int | None = None,
        journal: Journal | None = None,
        name: str = "backend",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        extra = {JOURNAL_VARIABLE: str(journal.path)} if journal else {}
        super().__init__(name, folder, {**extra, **(environment or {})})
        self.app = app
        self.port = port or free_port()
        self.server_pid = 0

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    async def start(self) -> None:
        """Start serving; returns when the port accepts connections."""
        if not self.running:
            self.spawn(
                [sys.executable, "-m", "tests.support.backend_host", self.app, str(self.port)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, death_signal=signal.SIGKILL,
            )  # fmt: skip
        answer = await self._order("start")
        self.server_pid = int(answer.removeprefix("started "))

        def listening() -> bool:
            if not proctree.is_alive(self.server_pid):
                raise AssertionError(f"{self.name} ended while starting\n{self.log_tail()}")
            return bool(proctree.listeners(self.port, [self.server_pid])) and accepts(self.port)

        await wait_until(listening, f"{self.name} accepts connections")

    async def sigkill(self) -> None:
        """Kill the serving process and return when it is dead; connections to it are reset."""
        await self._end(signal.SIGKILL)

    async def sigterm(self) -> int:
        """Ask it to finish what it has in hand; returns its exit code when it has."""
        return await self._end(signal.SIGTERM)

    async def _end(self, how: signal.Signals) -> int:
        await self._order(f"signal {int(how)}")
        answer = await self._order("wait")
        self.server_pid = 0
        return int(answer.removeprefix("ended "))

    def freeze(self) -> None:
        """Stop the serving process in its tracks: connections stay open, nothing is answered."""
        proctree.stop([self.server_pid])

    def thaw(self) -> None:
        os.kill(self.server_pid, signal.SIGCONT)

    async def restart(self) -> None:
        """SIGKILL, then start on the same port."""
        await self.sigkill()
        await self.start()

    async def _order(self, order: str) -> str:
        """Tell the host something and wait for its one line of answer."""
        orders, answers = self.process.stdin, self.process.stdout
        assert orders is not None
        assert answers is not None
        answer = await asyncio.to_thread(_ask, orders, answers, order)
        if not answer:
            await self.exit_code()
            raise AssertionError(f"{self.name} is gone\n{self.log_tail()}")
        return answer

    async def kill_tree(self) -> None:
        await super().kill_tree()
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()


def _ask(orders: IO[str], answers: IO[str], order: str) -> str:
    try:
        orders.write(f"{order}\n")
        orders.flush()
        return answers.readline().strip()
    except OSError:
        return ""


def _get(port: int, path: str, token: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()
