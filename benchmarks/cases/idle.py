"""(c) Idle memory: what a WebSocket costs that is open and silent.

Two figures: all connections against none, and the last four fifths against the first. The second is not flattered by
memory that was free already in the empty server.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmarks.cases.bench import Bench, settled
from benchmarks.goals import HOLDFAST, NCHAN, PUSHPIN
from benchmarks.load.clients import open_clients
from benchmarks.peers.base import Peer, Task
from benchmarks.stats import Key


def run(bench: Bench) -> None:
    peers = bench.present(HOLDFAST, NCHAN, PUSHPIN)
    for size in bench.plan.idle:
        bench.rounds([(Key("idle", peer.name, size), partial(_round, bench, peer, size)) for peer in peers])


def _round(bench: Bench, peer: Peer, size: int, folder: Path) -> Mapping[str, float]:
    with peer.run(Task.IDLE, folder, bench.cores) as server:
        empty = settled(server.pids)
        first = size // 5
        with open_clients(server.address, first, server.dialect, bench.sources):
            some = settled(server.pids)
            with open_clients(server.address, size - first, server.dialect, bench.sources):
                full = settled(server.pids)
    return {
        "rss_bytes": (full.rss - empty.rss) / size,
        "marginal_bytes": (full.rss - some.rss) / (size - first),
        "pss_bytes": (full.pss - empty.pss) / size,
        "empty_mib": empty.pss / 2**20,
    }
