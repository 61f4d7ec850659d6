"""Process trees as Linux shows them in /proc: who belongs to a child we started, and who listens on a port.

Belonging goes by an environment variable that every descendant inherits: parents die and daemons change their
session in these tests, the environment a process was started with stays.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

VARIABLE = "TEST_TREE"
STOP_S = 10.0

_PR_SET_PDEATHSIG = 1


def dying_with_parent(death_signal: signal.Signals) -> Callable[[], None]:
    """For `preexec_fn`: have the kernel send `death_signal` to the new process when the thread that started
    it ends.

    Tests that are killed leave no processes behind. Only the direct child is covered; a supervisor gets
    SIGTERM, so that it takes its own children with it.
    """
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up here: after the fork only the call itself is safe

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, int(death_signal))

    return ask_kernel


def members(token: str) -> list[int]:
    """Living processes that were started, directly or not, with ``TEST_TREE=token``."""
    needle = f"{VARIABLE}={token}".encode()
    return [pid for pid in _pids() if needle in _read(pid, "environ").split(b"\0") and not is_zombie(pid)]


def is_zombie(pid: int) -> bool:
    """Whether the process has ended and only waits to be noticed by its parent."""
    status = _read(pid, "stat").rpartition(b")")[2].split()
    return bool(status) and status[0] == b"Z"


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").exists() and not is_zombie(pid)


def listeners(port: int, among: list[int]) -> list[int]:
    """Those of `among` that hold a listening TCP socket on `port`."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    return [pid for pid in among if not sockets.isdisjoint(_open_files(pid))]


def resident_bytes(pid: int) -> int:
    """Resident set size of a process."""
    return int(_read(pid, "statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def kill(pids: list[int], how: signal.Signals = signal.SIGKILL) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)


def stop(pids: list[int]) -> None:
    """SIGSTOP, and return when none of their threads runs any more: on a busy machine one thread has to run to take the
    signal, and the others go on until it has."""
    kill(pids, signal.SIGSTOP)
    give_up = time.monotonic() + STOP_S
    while running := [pid for pid in pids if not _stands_still(pid)]:
        assert time.monotonic() < give_up, f"processes {running} did not stop within {STOP_S:g} s"
        time.sleep(0.002)


def _stands_still(pid: int) -> bool:
    """All its threads are stopped, or it is gone."""
    with contextlib.suppress(FileNotFoundError):
        threads = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
        states = [_read(pid, f"task/{thread}/stat").rpartition(b")")[2].split()[:1] for thread in threads]
        return all(state in ([b"T"], [b"Z"], [b"X"], []) for state in states)
    return True


def _pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def _read(pid: int, name: str) -> bytes:
    """A file of the process, empty when it is gone or not ours."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _open_files(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                yield os.readlink(f"/proc/{pid}/fd/{entry}")
