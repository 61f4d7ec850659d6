"""The frame of a worker process: from the supervisor's first order to the exit code.

The wiring gives `run_worker` a function that builds the edge from a `WorkerContext`; the frame starts it, says so to
the supervisor, passes new settings on, and takes it down: start → ready → wait → drain → stop → exit 0.

Only the supervisor hurries a worker. SIGTERM sent to a worker begins its drain and, repeated, changes nothing: some
service managers signal every process of a service, and the supervisor passes the same signal on. SIGINT and SIGHUP
are the supervisor's alone. A worker whose supervisor is gone hurries down by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import uvloop

from edge.config import Settings
from edge.config.addresses import Address
from edge.config.loader import secret_values
from edge.errors import HoldfastError
from edge.lifecycle.drain import Drainable, Draining
from edge.lifecycle.link import DrainAsked, Failed, GoDown, Link, Ready, Reload, Start, open_link
from edge.model.drain import plan_for
from edge.telemetry.logs import Logs

_log = logging.getLogger("holdfast.worker")

STOP_S = 5.0
"""For `Worker.stop`, on top of `store_wait_s`."""
HURRIED_STOP_S = 1.0
"""For `Worker.stop` in a hurry."""
ORPHAN_S = 3.0
"""For a worker whose supervisor is gone, until it is ended whatever it is doing; its hurried drain takes about one."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What a worker is told about itself. Ports are real ones. `run_dir` is private to this edge's workers; the unix
    socket of worker i is ``run_dir/worker-<i>.sock``. `ask_drain` makes the whole edge go down, as SIGTERM does."""

    settings: Settings
    index: int
    run_dir: Path
    listen: tuple[Address, ...]
    control: Address
    ask_drain: Callable[[], None]


class Worker(Drainable, Protocol):
    """The edge of one process, as its frame sees it."""

    async def start(self) -> None:
        """Listen and serve. `HoldfastError`: it cannot, for a reason people can act on."""
        ...

    def reload(self, settings: Settings) -> None:
        """Use `settings` from now on, without touching a connection. What raises leaves the old ones in force."""
        ...

    def readiness(self) -> list[str]:
        """Why this worker should get no connections, in short phrases; empty: ready."""
        ...

    async def stop(self) -> None:
        """After the drain, or after a start that failed: flush the store, close what is left. Bounded by the frame."""
        ...


Build = Callable[[WorkerContext], Awaitable[Worker]]


def run_worker(build: Build, link_fd: int) -> int:
    """Run one worker on the supervisor's link; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    parent = os.getppid()
    _die_with_parent()
    if os.getppid() != parent:  # it died before we asked to be told
        return 1
    threading.Thread(target=_end_when_orphaned, args=(os.dup(link_fd),), name="orphan", daemon=True).start()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Frame(build).run(socket.socket(fileno=link_fd)))


def _die_with_parent() -> None:
    """Linux: SIGTERM when the supervisor dies. Elsewhere the end of the link is the only sign of it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end_when_orphaned(link_fd: int) -> None:
    """Sleeps until the supervisor hangs up. A loop that is stuck could neither see that nor obey a signal, and would
    hold the port for ever."""
    link = select.poll()
    link.register(link_fd, 0)  # hang-up is reported unasked
    link.poll()
    time.sleep(ORPHAN_S)
    os._exit(1)


class _Frame:
    def __init__(self, build: Build) -> None:
        self._build = build
        self._going_down = asyncio.Event()
        self._hurried = False
        self._worker: Worker | None = None
        self._draining: Draining | None = None
        self._stopping: asyncio.Timeout | None = None
        self._started = False
        self._newer: Settings | None = None

    async def run(self, end: socket.socket) -> int:
        link = await open_link(end)
        order = await link.receive()
        if not isinstance(order, Start):
            return 1
        self._settings = order.settings
        self._logs = Logs(order.settings.edge.log_format, f"worker-{order.index}")
        self._logs.start(order.settings.edge.log_level, secret_values(order.settings))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._going_down.set)
        listening = asyncio.create_task(self._obey(link))
        try:
            return await self._serve(order, link)
        finally:
            listening.cancel()
            await link.close()

    async def _serve(self, order: Start, link: Link) -> int:
        starting = asyncio.create_task(self._start(order, link))
        told = asyncio.create_task(self._going_down.wait())
        await asyncio.wait((starting, told), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            reason = starting.result()
            if reason:
                told.cancel()
                await self._stop()
                link.send(Failed(reason))
                return 1
            self._started = True
            if self._newer is not None:
                self._reload(self._newer)
            link.send(Ready())
            await told
            await self._drain()
        else:
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
        await self._stop()
        return 0

    async def _start(self, order: Start, link: Link) -> str:
        """Build and start the edge. Returns why that failed, or nothing."""
        context = WorkerContext(
            order.settings,
            order.index,
            order.run_dir,
            order.listen,
            order.control,
            ask_drain=lambda: link.send(DrainAsked()),
        )
        try:
            self._worker = await self._build(context)
            await self._worker.start()
        except HoldfastError as error:
            return str(error)
        except Exception as error:
            _log.exception("the worker could not start")
            return f"{type(error).__name__}: {error}"
        if reasons := self._worker.readiness():
            _log.warning("started, but not ready: %s", ", ".join(reasons))
        return ""

    async def _obey(self, link: Link) -> None:
        """Take orders until the supervisor is gone."""
        while (order := await link.receive()) is not None:
            match order:
                case Reload(settings):
                    self._reload(settings)
                case GoDown(hurry):
                    self._go_down(hurry=hurry)
                case _:
                    _log.error("an order that is not for workers: %s", type(order).__name__)
        _log.warning("the supervisor is gone; going down")
        self._go_down(hurry=True)

    def _go_down(self, *, hurry: bool) -> None:
        self._going_down.set()
        if hurry:
            self._hurried = True
            if self._draining is not None:
                self._draining.hurry()
            if self._stopping is not None:
                self._stopping.reschedule(asyncio.get_running_loop().time() + HURRIED_STOP_S)

    def _reload(self, settings: Settings) -> None:
        if self._worker is None or not self._started:
            self._newer = settings
            return
        # Old secrets stay masked: what was queued with them may still be logged.
        masked = (*secret_values(self._settings), *secret_values(settings))
        self._logs.start(settings.edge.log_level, masked)
        try:
            self._worker.reload(settings)
        except HoldfastError as error:
            _log.error("the settings were not taken over, the old ones stay in force: %s", error)
            return
        except Exception:
            _log.exception("the new settings could not be taken over")
            return
        self._settings = settings
        _log.info("new settings are in force", extra={"routes": len(settings.routes)})

    async def _drain(self) -> None:
        assert self._worker is not None
        self._draining = Draining(self._worker, plan_for(self._settings))
        if self._hurried:
            self._draining.hurry()
        await self._draining.run()

    async def _stop(self) -> None:
        if self._worker is None:
            return
        bound_s = HURRIED_STOP_S if self._hurried else STOP_S + self._settings.edge.store_wait_s
        try:
            async with asyncio.timeout(bound_s) as self._stopping:
                await self._worker.stop()
        except TimeoutError:
            _log.warning("stopping took too long; cutting it off")
        except Exception:
            _log.exception("stopping failed")
