"""(e) An SDK backend with batching on and off: the same handler, the same load, the same edge."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmarks.cases.bench import Bench
from benchmarks.cases.inbound import closed_loop
from benchmarks.goals import HOLDFAST
from benchmarks.peers.holdfast import HoldfastWithSdk
from benchmarks.stats import Key

BATCHES = (1, 64)


def run(bench: Bench) -> None:
    if not bench.present(HOLDFAST):
        return
    for size in bench.plan.sdk:
        bench.rounds(
            [
                (Key("sdk", HOLDFAST, size, f"batch={events}"), partial(_round, bench, events, size))
                for events in BATCHES
            ]
        )


def _round(bench: Bench, batch_events: int, size: int, folder: Path) -> Mapping[str, float]:
    with HoldfastWithSdk(batch_events).run(folder, bench.cores) as server:
        return closed_loop(bench, server, size)
