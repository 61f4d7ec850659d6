"""(d) Connecting: WebSocket handshakes per second and what one costs, backend's `open` included where there is one.

Waves of connections, each closed before the next is opened; the closing is not in
the window: the next wave waits until the server has done with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmarks.cases.bench import Bench, Window, measured, quiet
from benchmarks.goals import HOLDFAST, NCHAN, PUSHPIN
from benchmarks.load.clients import open_clients
from benchmarks.peers.base import Peer, Task
from benchmarks.stats import Key, percentile


def run(bench: Bench) -> None:
    peers = bench.present(HOLDFAST, NCHAN, PUSHPIN)
    size = bench.plan.connects
    bench.rounds([(Key("connects", peer.name, size), partial(_round, bench, peer, size)) for peer in peers])


def _round(bench: Bench, peer: Peer, size: int, folder: Path) -> Mapping[str, float]:
    plan = bench.plan
    total, opening = Window(), list[int]()
    with peer.run(Task.IDLE, folder, bench.cores) as server:
        # A first, smaller wave: what a server loads or allocates once is not the price of a connection.
        open_clients(server.address, plan.concurrency * 2, server.dialect, bench.sources, plan.concurrency).close()
        while total.elapsed_ns < plan.window_s * 1e9:
            quiet(server)
            with measured(server) as wave:
                clients = open_clients(server.address, size, server.dialect, bench.sources, plan.concurrency)
            with clients:
                opening += clients.opening_ns
            total.add(wave)
    opening.sort()
    return {
        "connects_per_s": len(opening) / total.elapsed_ns * 1e9,
        "p50_us": percentile(opening, 0.5) / 1_000,
        "p99_us": percentile(opening, 0.99) / 1_000,
        **total.costs(len(opening)),
    }
