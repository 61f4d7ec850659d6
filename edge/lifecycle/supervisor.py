"""The supervisor: one process that owns ports, the embedded Redis and the workers, and no client.

It is the only reader of settings: workers get them over their links, so a worker that is started again gets the
settings in force, whatever the file says by then. Signals: SIGHUP reads the settings again (a wrong file changes
nothing), and so does a routes file that has changed; SIGTERM or SIGINT goes down politely, the second one hurries, the
third one kills.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TextIO

from edge.config import Settings
from edge.config.addresses import Address, parse_address
from edge.config.crosscheck import contradictions
from edge.config.loader import secret_values
from edge.errors import ConfigErrors, HoldfastError, StartError
from edge.lifecycle.link import Reload, Start
from edge.lifecycle.slot import Command, GaveUp, Slot
from edge.lifecycle.sockets import Reservation
from edge.lifecycle.watch import WatchedFile
from edge.model.drain import plan_for
from edge.telemetry.logs import Logs

_log = logging.getLogger("holdfast.supervisor")

FIXED = (
    "listen",
    "control",
    "redis",
    "data_dir",
    "workers",
    "lease_s",
    "store_wait_s",
    "store_queue",
    "log_format",
    "tls_cert",
    "tls_key",
)
"""Settings of [edge] that a reload cannot change."""
MARGIN_S = 10.0
"""Past the longest a drain may take: workers still there then are stuck, and killed."""
LONGEST_SOCKET_PATH = 100
"""Bytes; the kernel's limit for a unix socket is 108 (104 on BSD)."""
REDIS_LOOK_S = 0.25
"""Between two looks whether the embedded Redis still runs."""
ROUTES_LOOK_S = 0.5
"""Between two looks at the routes file; two have to agree."""


class RedisServer(Protocol):
    """The embedded Redis, as the supervisor sees it (`edge.store.embedded`)."""

    @property
    def url(self) -> str:
        """Where it answers; the same after each start."""
        ...

    @property
    def running(self) -> bool: ...

    async def start_async(self) -> None:
        """Start it and wait until it answers. Raises `HoldfastError`."""
        ...

    async def stop_async(self) -> None:
        """Save and end it. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Program:
    """What the supervisor runs, and with what. `reload` reads the settings again (raises `ConfigErrors`)."""

    settings: Settings
    command: Command
    reload: Callable[[], Settings]
    redis: RedisServer | None = None
    """When there is no URL in the settings."""
    out: TextIO = sys.stdout
    """Where the line is printed that says all is ready."""


def supervise(program: Program) -> int:
    """Run until told to go down; returns the exit code: 0, or 1 when it could not start or had to give up."""
    edge = program.settings.edge
    logs = Logs(edge.log_format, "supervisor")
    logs.start(edge.log_level, secret_values(program.settings))
    for warning in program.settings.warnings:
        _log.warning("%s", warning)
    try:
        return asyncio.run(_Supervisor(program, logs).run())
    except HoldfastError as error:
        _log.error("%s", error)  # the words are the whole of it
        return 1


class _Supervisor:
    def __init__(self, program: Program, logs: Logs) -> None:
        self._program = program
        self._logs = logs
        self._settings = program.settings
        self._ports = Reservation()
        self._slots: list[Slot] = []
        self._listen: tuple[Address, ...] = ()
        self._control = Address("", 0)
        self._run_dir = Path()
        self._stop_requests = 0
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.go_down)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        try:
            self._reserve()
            self._run_dir = _make_run_dir(Path(self._settings.edge.data_dir))
            await self._start_redis()
            return await self._work()
        finally:
            self._ports.release()
            if self._program.redis is not None:
                await self._program.redis.stop_async()
            if self._run_dir.name:
                shutil.rmtree(self._run_dir, ignore_errors=True)

    def go_down(self) -> None:
        """Each call is more urgent than the one before: drain, hurry, kill."""
        self._stop_requests += 1
        self._stopping.set()
        for slot in self._slots:
            if self._stop_requests > 2:
                slot.kill()
            else:
                slot.go_down(hurry=self._stop_requests == 2)
        match self._stop_requests:
            case 1:
                _log.info("going down; once more to hurry, twice more to kill")
                _notify("STOPPING=1")
            case 2:
                _log.warning("hurrying")
            case _:
                _log.warning("killing the workers")

    def reload(self, *, changed: bool = True) -> None:
        """Read the settings again. Wrong ones are logged and change nothing. `changed`: take them over even when they
        say nothing new."""
        try:
            new = _merged(self._settings, self._program.reload(), embedded=self._program.redis is not None)
        except HoldfastError as error:
            _log.error("the settings were not reloaded, the old ones stay in force:\n%s", error)
            return
        if not changed and new == self._settings:
            return
        self._logs.start(new.edge.log_level, (*secret_values(self._settings), *secret_values(new)))
        for warning in new.warnings:
            _log.warning("%s", warning)
        self._settings = new
        for slot in self._slots:
            slot.send(Reload(new))
        _log.info("settings read again", extra={"routes": len(new.routes)})

    def _reserve(self) -> None:
        edge = self._settings.edge
        self._listen = tuple(self._ports.take(parse_address(text), "edge.listen") for text in edge.listen)
        self._control = self._ports.take(parse_address(edge.control), "edge.control")

    async def _start_redis(self) -> None:
        if self._program.redis is None:
            return
        await self._program.redis.start_async()
        self._settings = replace(self._settings, edge=replace(self._settings.edge, redis=self._program.redis.url))
        _log.info("no Redis is configured: using an embedded one", extra={"data_dir": self._settings.edge.data_dir})

    async def _work(self) -> int:
        self._slots = [
            Slot(index, self._program.command, self._order, self.go_down)
            for index in range(self._settings.edge.workers)
        ]
        keeping = [asyncio.create_task(slot.keep()) for slot in self._slots]
        jobs = (self._announce(), self._enforce_end(), self._watch_routes())
        helpers = [asyncio.create_task(job) for job in jobs]
        if self._program.redis is not None:
            helpers.append(asyncio.create_task(self._keep_redis(self._program.redis)))
        if self._stopping.is_set():  # told to before there was anybody to tell
            for slot in self._slots:
                slot.go_down(hurry=False)
        try:
            await asyncio.gather(*keeping)
        except GaveUp as error:
            _log.error("%s; giving up", error)
            self.go_down()
            await asyncio.gather(*keeping, return_exceptions=True)
            return 1
        finally:
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
        _log.info("all workers are down")
        return 0

    def _order(self, index: int) -> Start:
        return Start(self._settings, index, self._run_dir, self._listen, self._control)

    async def _announce(self) -> None:
        for slot in self._slots:
            await slot.ready.wait()
        secure = "s" if self._settings.edge.tls_cert else ""
        proxied = any(route.protocol == "grip" for route in self._settings.routes)
        schemes = ("ws", "http") if proxied else ("ws",)
        public = " ".join(f"{scheme}{secure}://{address.for_url}/" for address in self._listen for scheme in schemes)
        # One write: somebody may be reading line by line.
        self._program.out.write(f"holdfast is ready: {public} control http://{self._control.for_url}/\n")
        self._program.out.flush()
        _notify("READY=1")

    async def _enforce_end(self) -> None:
        """Kill what is left long after every drain should be over."""
        await self._stopping.wait()
        plan = plan_for(self._settings)
        await asyncio.sleep(plan.total_s + self._settings.edge.store_wait_s + MARGIN_S)
        for slot in self._slots:
            if slot.pid is not None:
                _log.error("worker %d does not end; killing it", slot.index)
                slot.kill()

    async def _keep_redis(self, redis: RedisServer) -> None:
        while True:
            await asyncio.sleep(REDIS_LOOK_S)
            if redis.running:
                continue
            _log.error("the embedded Redis died; starting it again")
            try:
                await redis.start_async()
            except HoldfastError as error:
                _log.error("the embedded Redis does not start: %s", error)
            else:
                _log.info("the embedded Redis is back")

    async def _watch_routes(self) -> None:
        """Read the settings again when the routes file has changed; and once at first: it may have since the start."""
        file = WatchedFile("")
        while True:
            path = self._settings.edge.grip_routes
            if path != file.path:
                file = WatchedFile(path)
            if path and file.look():
                if file.trouble:
                    _log.error("the routes file %s: %s; the routes read last stay in force", path, file.trouble)
                else:
                    self._reload_routes()
            await asyncio.sleep(ROUTES_LOOK_S)

    def _reload_routes(self) -> None:
        try:
            self.reload(changed=False)
        except Exception:  # or nobody would look at the file any more
            _log.exception("the routes file could not be taken over")


def _merged(old: Settings, new: Settings, *, embedded: bool) -> Settings:
    """`new`, with what only a restart can change taken from `old`. Raises `ConfigErrors` when that does not fit.

    `embedded`: the Redis in force is ours, and its URL nobody's setting.
    """
    kept = {name: getattr(old.edge, name) for name in FIXED}
    # With the embedded Redis the URL in force is not one of the file's.
    changed = [name for name in FIXED if name != "redis" and getattr(new.edge, name) != kept[name]]
    if new.edge.redis and new.edge.redis != kept["redis"]:
        changed.append("redis")
    for name in changed:
        _log.warning("edge.%s has changed, which takes effect at the next start only", name)
    merged = replace(new, edge=replace(new.edge, **kept))
    judged = replace(merged, edge=replace(merged.edge, redis="")) if embedded else merged
    wrong = [error for error, _ in contradictions(judged, lambda key: new.sources.get(key, "default"))]
    if wrong:
        raise ConfigErrors(wrong)
    return merged


def _make_run_dir(data_dir: Path) -> Path:
    """A folder of our own, in `data_dir` where a unix socket's short path allows it. Raises `StartError`.

    Folders of edges that were killed are removed: they are named for the process that made them.
    """
    try:
        (data_dir / "run").mkdir(parents=True, exist_ok=True)
        for stale in (data_dir / "run").iterdir():
            if stale.name.isdigit() and not _alive(int(stale.name)):
                shutil.rmtree(stale, ignore_errors=True)
        run_dir = (data_dir / "run" / str(os.getpid())).absolute()
        if len(os.fsencode(run_dir)) > LONGEST_SOCKET_PATH - len("/worker-999.sock"):
            return Path(tempfile.mkdtemp(prefix="holdfast-"))
        shutil.rmtree(run_dir, ignore_errors=True)
        run_dir.mkdir(mode=0o700)
    except OSError as error:
        raise StartError(f"edge.data_dir = {str(data_dir)!r} cannot be written: {error.strerror or error}") from None
    return run_dir


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _notify(state: str) -> None:
    """Tell systemd (sd_notify(3)): a datagram to the socket named in NOTIFY_SOCKET, @ for the abstract namespace."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place.startswith(("/", "@")):
        return
    address = "\0" + place[1:] if place.startswith("@") else place
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(state.encode(), address)
        except OSError as error:
            _log.warning("the service manager could not be told %s: %s", state, error)
