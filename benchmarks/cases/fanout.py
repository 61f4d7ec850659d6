"""(b) Fan-out: one publication at a time, and bursts of them, to all subscribers of one channel.

Once on Holdfast's own control API, once as GRIP items, which is what Pushpin takes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmarks.cases.bench import Bench, measured
from benchmarks.goals import GRIP, HOLDFAST, NCHAN, PUSHPIN
from benchmarks.load.clients import open_clients
from benchmarks.load.fanout import FanOut, Publishers, Spread
from benchmarks.load.wire import server_frame
from benchmarks.peers.base import MESSAGE, Peer, Running, Task
from benchmarks.stats import Key, percentile

PUBLISHING_CONNECTIONS = 10
"""A burst is spread over this many keep-alive connections, pipelined on each."""


def run(bench: Bench) -> None:
    for size in bench.plan.fanout:
        for variant, publications in (("single", 1), ("burst", bench.plan.burst)):
            for way, task, peers in (
                (variant, Task.CHANNEL, bench.present(HOLDFAST, NCHAN)),
                (f"{variant} {GRIP}", Task.GRIP_CHANNEL, bench.present(HOLDFAST, PUSHPIN)),
            ):
                bench.rounds(
                    [
                        (Key("fanout", peer.name, size, way), partial(_round, bench, peer, task, size, publications))
                        for peer in peers
                    ]
                )


def _round(bench: Bench, peer: Peer, task: Task, size: int, publications: int, folder: Path) -> Mapping[str, float]:
    with (
        peer.run(task, folder, bench.cores) as server,
        open_clients(server.address, size, server.dialect, bench.sources) as clients,
        Publishers(server.publish_address, PUBLISHING_CONNECTIONS, clients, server.publish_closes) as publishers,
    ):
        fanout = FanOut(clients, publishers, server_frame(MESSAGE))
        _repeat(fanout, server, publications, bench.plan.warm_s)
        with measured(server) as window:
            spreads = _repeat(fanout, server, publications, bench.plan.window_s)
    deliveries = sum(spread.deliveries for spread in spreads)
    last = sorted(spread.last_ns for spread in spreads)
    return {
        "deliveries_per_s": deliveries / window.elapsed_ns * 1e9,
        "last_ms": percentile(last, 0.5) / 1e6,
        "last_p99_ms": percentile(last, 0.99) / 1e6,
        "repeats": len(spreads),
        **window.costs(deliveries),
    }


def _repeat(fanout: FanOut, server: Running, publications: int, seconds: float) -> list[Spread]:
    """One after the other, each when the last is everywhere; at least one."""
    requests = server.publications(publications)
    end = time.monotonic() + seconds
    spreads = [fanout.spread(requests, publications)]
    while time.monotonic() < end:
        spreads.append(fanout.spread(requests, publications))
    return spreads
