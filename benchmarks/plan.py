"""How much is measured: sizes, rounds and window lengths of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.peers.base import Cores


@dataclass(frozen=True, slots=True)
class Plan:
    """One run's sizes. Rounds are interleaved over the servers (A B A B …) and their medians compared."""

    name: str
    rounds: int
    window_s: float
    """Length of a measured window."""
    warm_s: float
    """Load before it, not counted."""
    inbound: Sequence[int]
    """Connections."""
    fanout: Sequence[int]
    """Subscribers."""
    burst: int
    """Publications written at once."""
    idle: Sequence[int]
    """Connections."""
    connects: int
    """Connections in one wave."""
    concurrency: int
    """Handshakes under way at a time."""
    sdk: Sequence[int]
    """Connections."""
    xmpp: Sequence[int]
    """XMPP sessions."""


QUICK = Plan("quick", 1, 1.0, 0.5, (50,), (200,), 100, (500,), 500, 64, (200,), (50,))
NORMAL = Plan("normal", 3, 3.0, 1.0, (50, 1_000, 8_000), (1_000, 5_000), 100, (5_000,), 2_000, 64, (1_000,), (1_000,))
FULL = Plan(
    "full", 5, 5.0, 2.0, (50, 1_000, 8_000), (1_000, 5_000), 100, (5_000, 10_000), 5_000, 64, (1_000,), (1_000,)
)


def split_cores(available: frozenset[int]) -> Cores:
    """One core for the server, one for the load, one for the backend; the last two share when there are only two.

    A server that would use more cores is held to one like the others: what is compared is the cost of an event.
    """
    ordered = sorted(available)
    server, load = ordered[0], ordered[min(1, len(ordered) - 1)]
    backend = ordered[2] if len(ordered) > 2 else load
    return Cores(frozenset({server}), frozenset({backend}), frozenset({load}))


def all_cores(available: frozenset[int]) -> Cores:
    """Everything everywhere, as the scheduler likes."""
    return Cores(available, available, available)


def available_cores() -> frozenset[int]:
    return frozenset(os.sched_getaffinity(0))
