"""(f) XMPP sessions: what logging in costs, what a held session weighs, what a message costs, and what resuming costs.

Every account has a roster of contacts. Whoever logs in gets the roster and says that it is there. Where the contacts
log in as well they hear of it, and it hears of them: all of that is in what a login costs then. The first fifth of the
sessions is not in it, but in the weight: what is loaded once is not the price of a session. The server's own CPU is
counted apart: it is the same program for everybody.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.cases.bench import Bench, Parts, Window, measured, named, quiet, settled
from benchmarks.goals import (
    EJABBERD,
    HOLDFAST,
    PROSODY,
    PROSODY_AWAY,
    PROSODY_BARE,
    PROSODY_SCRAM,
    SLIXMPP,
    SLIXMPP_TUNED,
)
from benchmarks.load.component import Component
from benchmarks.load.wire import LoadError
from benchmarks.peers.holders import Holder, Holding
from benchmarks.peers.xmpp_server import (
    AWAY_DOMAIN,
    COMPONENT_DOMAIN,
    KEYS_DOMAIN,
    PLAIN_DOMAIN,
    SECRET,
    Way,
    XmppServer,
    XmppServers,
)
from benchmarks.stats import Key, per

CASE = "xmpp"
_ECHOES = 10
"""Messages to each session."""
_PATIENCE_S = 120.0
_LOOK_S = 0.002
_ALL, _FAST = (HOLDFAST, SLIXMPP_TUNED, SLIXMPP), (HOLDFAST, SLIXMPP_TUNED)
_SETTINGS = (
    (PROSODY, PROSODY, Way(PLAIN_DOMAIN), _ALL),
    (PROSODY, PROSODY_AWAY, Way(AWAY_DOMAIN), _ALL),
    (PROSODY, PROSODY_BARE, Way(AWAY_DOMAIN, tls=False), _FAST),
    (PROSODY, PROSODY_SCRAM, Way(KEYS_DOMAIN), _FAST),
    (EJABBERD, EJABBERD, Way(PLAIN_DOMAIN), _FAST),
)
"""Server, what the table calls it, how to log in, and who does."""


def run(bench: Bench) -> None:
    for size in bench.plan.xmpp:
        for kind, variant, way, names in _SETTINGS:
            for servers in named([kind], bench.xmpp_servers):
                bench.rounds(
                    [
                        (Key(CASE, holder.name, size, variant), partial(_round, bench, holder, servers, way, size))
                        for holder in named(names, bench.holders)
                    ]
                )


def _round(
    bench: Bench, holder: Holder, servers: XmppServers, way: Way, size: int, folder: Path
) -> Mapping[str, float]:
    at_once = bench.plan.concurrency
    with (
        servers.run(size, folder / "xmpp", bench.cores) as server,
        holder.hold(server, way, at_once, folder / "holder", bench.cores) as holding,
        Component(server.component_port, COMPONENT_DOMAIN, SECRET) as contact,
    ):
        return {
            **_logins(holding, server, size),
            **_echoes(holding, server, contact, [f"u{number}@{way.domain}/bench" for number in range(size)]),
            **_resumes(holding, server, size),
        }


def _logins(holding: Holding, server: XmppServer, size: int) -> Mapping[str, float]:
    parts = Parts(holding.pids, holding.backend_pids, {**holding.beside, "xmpp": server.pids})
    empty, first = settled(holding.pids), size // 5
    holding.log_in(0, first)
    quiet(parts)
    some = settled(holding.pids)
    beside = {name: settled(pids).rss for name, pids in holding.beside.items()}
    with measured(parts) as window:
        took_ns = holding.log_in(first, size - first)
        quiet(parts)
    full = settled(holding.pids)
    return {
        "logins_per_s": (size - first) / took_ns * 1e9,
        **window.costs(size - first),
        "rss_bytes": (full.rss - empty.rss) / size,
        "marginal_bytes": (full.rss - some.rss) / (size - first),
        **{
            f"{name}_bytes": (settled(pids).rss - beside[name]) / (size - first)
            for name, pids in holding.beside.items()
        },
    }


def _echoes(holding: Holding, server: XmppServer, contact: Component, sessions: Sequence[str]) -> Mapping[str, float]:
    """A contact says something to all of them, as fast as the server takes it, and each answers."""
    count = len(sessions) * _ECHOES
    parts = Parts(holding.pids, holding.backend_pids, {**holding.beside, "xmpp": server.pids})
    deadline = time.monotonic() + _PATIENCE_S
    with measured(parts) as window:
        began = time.perf_counter_ns()
        contact.talk(sessions, math.inf, count)
        while contact.arrived < count:
            contact.check()
            if time.monotonic() > deadline:
                raise LoadError(f"{count - contact.arrived} of {count} answers are missing")
            time.sleep(_LOOK_S)
        took_ns = time.perf_counter_ns() - began
        quiet(parts)
    return {"echoes_per_s": count / took_ns * 1e9, **_costs("echo", window, count)}


def _costs(what: str, window: Window, count: int) -> Mapping[str, float]:
    costs = {"cpu": window.server_ns, "backend": window.backend_ns, **window.beside_ns}
    return {f"{what}_{name}_us": per(used, count) for name, used in costs.items()}


def _resumes(holding: Holding, server: XmppServer, size: int) -> Mapping[str, float]:
    parts = Parts(holding.resumed_pids, holding.backend_pids, {**holding.beside, "xmpp": server.pids})
    quiet(parts)
    with measured(parts) as window:
        took_ns = holding.resume()
        quiet(parts)
    return {"resumes_per_s": size / took_ns * 1e9, **_costs("resume", window, size)}
