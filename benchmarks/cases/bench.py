"""What the cases share: the rounds over the servers, the window around what is measured, the scratch folders."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from benchmarks.load.clients import source_addresses
from benchmarks.load.wire import LoadError
from benchmarks.measure import CpuMeter, Memory, machine_busy_ns, memory
from benchmarks.peers.base import Cores, Peer, Pids, Program
from benchmarks.peers.holders import Holder
from benchmarks.peers.process import ServerError
from benchmarks.peers.xmpp_server import XmppServers
from benchmarks.plan import Plan
from benchmarks.stats import Failure, Key, Sample, per

Measure = Callable[[Path], Mapping[str, float]]
"""One round in a fresh scratch folder: starts a server, loads it, returns its numbers."""
_QUIET_S = 10.0
_LOOK_S = 0.2
_SETTLED_BYTES = 64 * 1024
_SETTLED_LOOK_S = 0.5
_SETTLED_PATIENCE_S = 10.0


P = TypeVar("P", bound=Program)


def named(names: Sequence[str], programs: Sequence[P]) -> list[P]:
    """Those of these names, in this order."""
    by_name = {program.name: program for program in programs}
    return [by_name[name] for name in names if name in by_name]


@dataclass(slots=True)
class Bench:
    """One run: its plan, its servers, and what it has found so far."""

    plan: Plan
    cores: Cores
    peers: Sequence[Peer]
    """Those present."""
    holders: Sequence[Holder] = ()
    xmpp_servers: Sequence[XmppServers] = ()
    samples: list[Sample] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    sources: Iterator[str] = field(default_factory=source_addresses)

    def present(self, *names: str) -> list[Peer]:
        """The peers of these names that can run here, in this order."""
        return named(names, self.peers)

    def rounds(self, measures: Sequence[tuple[Key, Measure]]) -> None:
        """Every measure once, then all again: A B C A B C. A failed one is noted and not tried again."""
        given_up: set[Key] = set()
        for number in range(1, self.plan.rounds + 1):
            for key, measure in measures:
                if key in given_up:
                    continue
                began = time.monotonic()
                try:
                    values = self._one(measure)
                except (LoadError, ServerError, RuntimeError, OSError, ValueError) as error:
                    given_up.add(key)
                    self.failures.append(Failure(key, number, f"{type(error).__name__}: {error}"))
                    self._say(key, number, f"FAILED: {error}", began)
                    continue
                self.samples.append(Sample(key, number, values))
                self._say(key, number, "  ".join(f"{name} {value:,.1f}" for name, value in values.items()), began)

    def _one(self, measure: Measure) -> Mapping[str, float]:
        with tempfile.TemporaryDirectory(prefix="hfb-") as folder:  # short: socket paths end at 107 bytes
            return measure(Path(folder))

    def _say(self, key: Key, number: int, text: str, began: float) -> None:
        what = " ".join(filter(None, (key.case, key.variant)))
        print(
            f"{what} {key.size:,} · {key.peer} · round {number}/{self.plan.rounds}"
            f" ({time.monotonic() - began:.1f} s): {text}",
            file=sys.stderr,
            flush=True,
        )


class Metered(Protocol):
    """A set-up, by the processes of its parts."""

    @property
    def pids(self) -> Pids:
        """Of what is compared."""
        ...

    @property
    def backend_pids(self) -> Pids: ...

    @property
    def beside(self) -> Mapping[str, Pids]:
        """Of what else belongs to the set-up, each counted apart under its name."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """A set-up that is nothing but its parts."""

    pids: Pids
    backend_pids: Pids
    beside: Mapping[str, Pids]


@dataclass(slots=True)
class Window:
    """What a measured stretch of time cost. Filled in when `measured` ends."""

    elapsed_ns: int = 0
    server_ns: int = 0
    """CPU time of all the server's processes."""
    backend_ns: int = 0
    load_ns: int = 0
    """CPU time of this process: the load generator."""
    beside_ns: dict[str, int] = field(default_factory=dict)
    """CPU time of what else belongs to the set-up, by name."""
    foreign_ns: int = 0
    """CPU time the machine spent on anything else: other programs, a hypervisor's theft."""

    def add(self, other: Window) -> None:
        """Count another stretch in."""
        self.elapsed_ns += other.elapsed_ns
        self.server_ns += other.server_ns
        self.backend_ns += other.backend_ns
        self.load_ns += other.load_ns
        for name, used in other.beside_ns.items():
            self.beside_ns[name] = self.beside_ns.get(name, 0) + used
        self.foreign_ns += other.foreign_ns

    def costs(self, count: int) -> dict[str, float]:
        """The metrics every case reports for `count` things done in the window."""
        return {
            "cpu_us": per(self.server_ns, count),
            "backend_us": per(self.backend_ns, count),
            "load_us": per(self.load_ns, count),
            **{f"{name}_us": per(used, count) for name, used in self.beside_ns.items()},
            "server_busy": self.server_ns / self.elapsed_ns,
            "load_busy": (self.load_ns + self.backend_ns) / self.elapsed_ns,
            "foreign_busy": self.foreign_ns / self.elapsed_ns,
        }


@contextmanager
def measured(server: Metered) -> Iterator[Window]:
    """Meters around the body: server, backend, generator, and everything else on the machine."""
    window = Window()
    beside = {name: CpuMeter.start(pids()) for name, pids in server.beside.items()}
    ours, behind = CpuMeter.start(server.pids()), CpuMeter.start(server.backend_pids())
    machine, load, began = machine_busy_ns(), time.process_time_ns(), time.perf_counter_ns()
    yield window
    window.elapsed_ns = time.perf_counter_ns() - began
    window.load_ns = time.process_time_ns() - load
    window.server_ns = ours.stop(server.pids())
    window.backend_ns = behind.stop(server.backend_pids())
    window.beside_ns = {name: meter.stop(server.beside[name]()) for name, meter in beside.items()}
    ours_ns = window.load_ns + window.server_ns + window.backend_ns + sum(window.beside_ns.values())
    window.foreign_ns = max(machine_busy_ns() - machine - ours_ns, 0)


def quiet(server: Metered) -> None:
    """Return when the set-up has nothing left to do (under 5 % of a core), or after ten seconds of doing something."""
    deadline = time.monotonic() + _QUIET_S
    while time.monotonic() < deadline:
        with measured(server) as look:
            time.sleep(_LOOK_S)
        if look.server_ns + look.backend_ns + sum(look.beside_ns.values()) < 0.05 * look.elapsed_ns:
            return


def settled(pids: Pids) -> Memory:
    """Memory of processes once it holds still: two looks in a row that agree, or the last one after ten seconds."""
    deadline = time.monotonic() + _SETTLED_PATIENCE_S
    last = memory(pids())
    while True:
        time.sleep(_SETTLED_LOOK_S)
        now = memory(pids())
        if abs(now.pss - last.pss) <= _SETTLED_BYTES or time.monotonic() > deadline:
            return now
        last = now
