"""(a) Inbound: message → POST → answer → message, closed loop. For plain nginx: POST → POST → answer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmarks.cases.bench import Bench, measured
from benchmarks.goals import HOLDFAST, NGINX, PUSHPIN
from benchmarks.load.clients import open_clients
from benchmarks.load.closed_loop import ClosedLoop
from benchmarks.peers.base import Peer, Running, Task
from benchmarks.stats import Key, percentile


def run(bench: Bench) -> None:
    peers = bench.present(HOLDFAST, NGINX, PUSHPIN)
    for size in bench.plan.inbound:
        bench.rounds([(Key("inbound", peer.name, size), partial(_round, bench, peer, size)) for peer in peers])


def _round(bench: Bench, peer: Peer, size: int, folder: Path) -> Mapping[str, float]:
    with peer.run(Task.ECHO, folder, bench.cores) as server:
        return closed_loop(bench, server, size)


def closed_loop(bench: Bench, server: Running, size: int) -> Mapping[str, float]:
    """Events per second, latency and cost of a started server under `size` connections' load."""
    with open_clients(server.address, size, server.dialect, bench.sources) as clients:
        loop = ClosedLoop(clients)
        loop.warm(bench.plan.warm_s)
        with measured(server) as window:
            tally = loop.window(bench.plan.window_s)
    count = len(tally.latencies_ns)
    return {
        "events_per_s": count / tally.elapsed_ns * 1e9,
        "p50_us": percentile(tally.latencies_ns, 0.5) / 1_000,
        "p99_us": percentile(tally.latencies_ns, 0.99) / 1_000,
        **window.costs(count),
    }
