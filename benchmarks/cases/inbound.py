"""(a) Inbound: message → POST → answer → message, closed loop. For plain nginx: POST → POST → answer.

Once with Holdfast's own callbacks, once with WebSocket-over-HTTP, which is what Pushpin speaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmarks.cases.bench import Bench, measured
from benchmarks.goals import GRIP, HOLDFAST, NGINX, PUSHPIN
from benchmarks.load.clients import open_clients
from benchmarks.load.closed_loop import ClosedLoop
from benchmarks.peers.base import Peer, Running, Task
from benchmarks.stats import Key, percentile


def run(bench: Bench) -> None:
    ways = [
        *(("", Task.ECHO, peer) for peer in bench.present(HOLDFAST, NGINX)),
        *((GRIP, Task.GRIP_ECHO, peer) for peer in bench.present(HOLDFAST, NGINX, PUSHPIN)),
    ]
    for size in bench.plan.inbound:
        bench.rounds(
            [
                (Key("inbound", peer.name, size, variant), partial(_round, bench, peer, task, size))
                for variant, task, peer in ways
            ]
        )


def _round(bench: Bench, peer: Peer, task: Task, size: int, folder: Path) -> Mapping[str, float]:
    with peer.run(task, folder, bench.cores) as server:
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
