"""(c) Idle memory: what a WebSocket costs that is open and silent.

Two figures: all connections against none, and the last four fifths against the first. The second is not flattered by
memory that was free already in the empty server.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmarks.cases.bench import Bench
from benchmarks.goals import HOLDFAST, NCHAN, PUSHPIN
from benchmarks.load.clients import open_clients
from benchmarks.measure import Memory, memory
from benchmarks.peers.base import Peer, Running, Task
from benchmarks.stats import Key

_SETTLED_BYTES = 64 * 1024
_LOOK_S = 0.5
_PATIENCE_S = 10.0


def run(bench: Bench) -> None:
    peers = bench.present(HOLDFAST, NCHAN, PUSHPIN)
    for size in bench.plan.idle:
        bench.rounds([(Key("idle", peer.name, size), partial(_round, bench, peer, size)) for peer in peers])


def _round(bench: Bench, peer: Peer, size: int, folder: Path) -> Mapping[str, float]:
    with peer.run(Task.IDLE, folder, bench.cores) as server:
        empty = _settled(server)
        first = size // 5
        with open_clients(server.address, first, server.dialect, bench.sources):
            some = _settled(server)
            with open_clients(server.address, size - first, server.dialect, bench.sources):
                full = _settled(server)
    return {
        "rss_bytes": (full.rss - empty.rss) / size,
        "marginal_bytes": (full.rss - some.rss) / (size - first),
        "pss_bytes": (full.pss - empty.pss) / size,
        "empty_mib": empty.pss / 2**20,
    }


def _settled(server: Running) -> Memory:
    """The server's memory once it holds still: two looks in a row that agree, or the last one after ten seconds."""
    deadline = time.monotonic() + _PATIENCE_S
    last = memory(server.pids())
    while True:
        time.sleep(_LOOK_S)
        now = memory(server.pids())
        if abs(now.pss - last.pss) <= _SETTLED_BYTES or time.monotonic() > deadline:
            return now
        last = now
