"""slixmpp: what Python programs log in to XMPP servers with. One process, as many clients as there are sessions.

`Slixmpp()` is what its documentation leads to: each client makes its TLS context, and reads all of the system's
certificates for it. `Slixmpp(tuned=True)` is the best we know to make of it: one context for all, and uvloop.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from benchmarks.goals import SLIXMPP, SLIXMPP_TUNED
from benchmarks.peers.base import Cores
from benchmarks.peers.holders import Holding
from benchmarks.peers.holdfast import project_folder
from benchmarks.peers.orders import Orders
from benchmarks.peers.process import Daemon
from benchmarks.peers.xmpp_server import Way, XmppServer


class Slixmpp:
    def __init__(self, *, tuned: bool = False) -> None:
        self._tuned = tuned
        self.name = SLIXMPP_TUNED if tuned else SLIXMPP

    def absent(self) -> str | None:
        return None if find_spec("slixmpp") else "slixmpp is not installed (pip install -e '.[bench]')"

    def versions(self) -> Mapping[str, str]:
        return {"slixmpp": version("slixmpp")}

    @contextmanager
    def hold(self, server: XmppServer, way: Way, at_once: int, folder: Path, cores: Cores) -> Iterator[Holding]:
        folder.mkdir(parents=True)
        orders = folder / "orders"
        where = ["--domain", way.domain, "--port", str(server.port), "--certificate", str(server.certificate)]
        how = ["--at-once", str(at_once), *(["--shared", "--uvloop"] if self._tuned else [])]
        how += [] if way.tls else ["--no-tls"]
        command = [sys.executable, "-m", "benchmarks.peers.slixmpp_process", "--orders", str(orders), *where, *how]
        with Daemon(command, folder, cores.server, {"PYTHONPATH": str(project_folder())}) as daemon:
            daemon.wait_for(orders.exists, "taking orders")
            give = Orders(orders).give
            yield Holding(
                pids=daemon.pids,
                log_in=lambda first, count: int(give("log_in", first=first, count=count)["elapsed_ns"]),
                resume=lambda: int(give("resume")["elapsed_ns"]),
                resumed_pids=daemon.pids,
            )
