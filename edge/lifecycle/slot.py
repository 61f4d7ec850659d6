"""One place for a worker process: starts it, hears it, and starts another one in its place when it dies."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Sequence
from contextlib import suppress

from edge.lifecycle.link import DrainAsked, Failed, GoDown, Link, Message, Ready, Start, open_link

_log = logging.getLogger("holdfast.supervisor")

YOUNG_S = 10.0
"""A worker that dies before this age did not get over its start."""
YOUNG_DEATHS = 5
"""So many in a row, and starting it once more is pointless."""
BACKOFF_S = (0.1, 5.0)
"""First and longest wait before a worker that died young is started again; doubled each time."""

Command = Callable[[int], Sequence[str]]
"""The program of a worker, given the number of the file descriptor of its link."""


class GaveUp(Exception):
    """A worker dies over and over; the text says which and of what."""


class Slot:
    """Worker number `index`. `keep` runs until `go_down` or `kill` was called and the process is gone."""

    def __init__(self, index: int, command: Command, order: Callable[[int], Start], drain: Callable[[], None]) -> None:
        self.index = index
        self.ready = asyncio.Event()
        """The worker has been ready at least once."""
        self._command = command
        self._order = order
        self._ask_drain = drain
        self._stopping = asyncio.Event()
        self._link: Link | None = None
        self._process: Process | None = None
        self._failure = ""
        self._going_down: GoDown | None = None
        self._killed = False

    async def keep(self) -> None:
        """Raises `GaveUp` after `YOUNG_DEATHS` early deaths in a row."""
        loop = asyncio.get_running_loop()
        young = 0
        while not self._stopping.is_set():
            born = loop.time()
            code = await self._live()
            if self._stopping.is_set():
                return
            # Who says that it could not start is young however long it took to find out.
            died_young = loop.time() - born < YOUNG_S or bool(self._failure)
            if code == 0:
                wait_s = BACKOFF_S[0] if died_young else 0.0
                _log.info("worker %d went down when it was told to; starting another", self.index)
            else:
                young = young + 1 if died_young else 0
                cause = self._failure or _cause(code)
                if young >= YOUNG_DEATHS:
                    raise GaveUp(f"worker {self.index} died {young} times within its first {YOUNG_S:g} s: {cause}")
                wait_s = min(BACKOFF_S[0] * 2 ** (young - 1), BACKOFF_S[1]) if young else 0.0
                _log.error("worker %d died (%s); starting another in %g s", self.index, cause, wait_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stopping.wait()

    def send(self, message: Message) -> None:
        """Pass an order on; lost when no process is running (the next one starts with what is current)."""
        if self._link is not None:
            self._link.send(message)

    def go_down(self, *, hurry: bool) -> None:
        """Drain the running process, and start no other one."""
        self._going_down = GoDown(hurry)
        self._stopping.set()
        self.send(self._going_down)

    def kill(self) -> None:
        """End the process now, and start no other one."""
        self._killed = True
        self._stopping.set()
        self._end()

    def _end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _live(self) -> int:
        """From the birth of a process to its end; returns its exit code, negative for a signal."""
        ours, theirs = socket.socketpair()
        self._failure = ""
        with theirs:
            # A session of its own: Ctrl-C reaches the supervisor only, which tells the workers in its own time.
            self._process = await asyncio.create_subprocess_exec(
                *self._command(theirs.fileno()), stdin=DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
            )
        link = await open_link(ours)
        try:
            link.send(self._order(self.index))
            self._link = link
            # The supervisor may have been told to stop while the process was being made.
            if self._going_down is not None:
                link.send(self._going_down)
            if self._killed:
                self._end()
            await self._hear(link)
            return await self._process.wait()
        finally:
            self._link = None
            self._end()
            await link.close()

    async def _hear(self, link: Link) -> None:
        while (message := await link.receive()) is not None:
            match message:
                case Ready():
                    self.ready.set()
                    _log.info("worker %d is up", self.index, extra={"worker_pid": self.pid})
                case Failed(reason):
                    self._failure = reason
                case DrainAsked():
                    self._ask_drain()
                case _:
                    _log.error("worker %d sent what workers do not send", self.index)

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
