"""What a server's processes cost, read from the kernel: CPU time, memory, and who else was busy meanwhile.

CPU time comes from each process's CPU clock (clock_getcpuclockid(3)): nanoseconds, all threads, also those that have
ended. /proc/<pid>/stat counts the same in 10 ms ticks, too coarse for short windows.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_CPUCLOCK_SCHED = 2
"""linux/posix-timers.h: the scheduler's own nanosecond account, as clock_getcpuclockid(3) asks for."""

PROC = Path("/proc")


def cpu_ns(pid: int) -> int:
    """CPU time a process has used so far, user and kernel, all threads. Raises OSError when it is gone."""
    return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)


class CpuMeter:
    """CPU used by a set of processes between `start` and `stop`.

    A process that appears in between counts from its birth. One that ends in between is an error of the
    measurement: `stop` raises RuntimeError, because what it used can no longer be read.
    """

    def __init__(self) -> None:
        self._before: dict[int, int] = {}

    @classmethod
    def start(cls, pids: Iterable[int]) -> Self:
        meter = cls()
        meter._before = {pid: cpu_ns(pid) for pid in pids}
        return meter

    def stop(self, pids: Iterable[int]) -> int:
        """Nanoseconds used since `start` by all of them."""
        after = {pid: cpu_ns(pid) for pid in pids}
        if lost := self._before.keys() - after.keys():
            raise RuntimeError(f"processes {sorted(lost)} ended while they were being measured")
        return sum(used - self._before.get(pid, 0) for pid, used in after.items())


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of memory of some processes: `rss` counts a page once per process, `pss` once altogether."""

    rss: int
    pss: int


def memory(pids: Iterable[int]) -> Memory:
    """Sums over the processes, from /proc/<pid>/smaps_rollup (proc(5))."""
    rss = pss = 0
    for pid in pids:
        fields = _kilobytes((PROC / str(pid) / "smaps_rollup").read_text())
        rss += fields["Rss"]
        pss += fields["Pss"]
    return Memory(rss, pss)


def _kilobytes(rollup: str) -> Mapping[str, int]:
    fields = {}
    for line in rollup.splitlines()[1:]:
        name, value, *_ = line.split()
        fields[name.rstrip(":")] = int(value) * 1024
    return fields


def descendants(root: int) -> set[int]:
    """`root` and everything below it, by the parent column of /proc/<pid>/stat."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        found.add(pid)
        waiting += children.get(pid, [])
    return found


def processes_in(folder: Path) -> set[int]:
    """Processes whose working directory is `folder` or below: finds what has left its family as a daemon."""
    found = set()
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                where = Path(os.readlink(entry / "cwd"))
            except OSError:
                continue
            if where == folder or folder in where.parents:
                found.add(int(entry.name))
    return found


def _parents() -> Iterable[tuple[int, int]]:
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            # The command, in parentheses, may hold spaces and parentheses itself: proc_pid_stat(5).
            state_and_parent = stat.rpartition(")")[2].split()
            if state_and_parent[0] != "Z":
                yield int(entry.name), int(state_and_parent[1])


def command_of(pid: int) -> str:
    """The name of a process, its first 15 bytes."""
    return (PROC / str(pid) / "comm").read_text().strip()


def connections_to(port: int) -> int:
    """TCP connections over IPv4 to a port of this machine that are open or being opened, seen from who opens them."""
    found = 0
    for line in (PROC / "net" / "tcp").read_text().splitlines()[1:]:
        _, _, remote, state, *_ = line.split(None, 4)
        found += state in ("01", "02") and int(remote.rpartition(":")[2], 16) == port
    return found


def machine_busy_ns() -> int:
    """CPU time the whole machine has spent on anything, its host's theft included (/proc/stat, 10 ms ticks)."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    ticks = user + nice + system + irq + softirq + steal
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def machine() -> Mapping[str, str | int | float]:
    """What the numbers depend on."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in (PROC / "cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    total = _kilobytes("\n" + (PROC / "meminfo").read_text())["MemTotal"]
    return {
        "cpu": cpu,
        # Of the machine: this process may have pinned itself to one of them.
        "cores": os.cpu_count() or 1,
        "memory_bytes": total,
        "kernel": platform.release(),
        "python": platform.python_version(),
        # Distributions' builds are about a fifth faster than one without profile-guided optimization (pyenv's default).
        "python_program": os.path.realpath(sys.executable),
        "load_average": os.getloadavg()[0],
    }
