"""(g) An edge is killed that holds XMPP sessions: how long until another one has resumed them all, against logging the
same ones in, and whether anything that was said meanwhile is lost.

Two times are told. From the kill on: others may take over only when the dead edge's lease is over, so that they must
wait first, and that would be so for logging in again, too. And from the first new connection to the XMPP server on:
what resuming itself takes. Both end when the backend knows that the last session is there.

From before the kill until somebody is back, a contact talks to the sessions; and the backend has some of them talk to
the contact, by the control API of the edge that survives. Who said it knows what arrived. The contact is silent while
sessions are resumed, because ejabberd (23.01) loses now and then what it gets for one in the moment that it hands it
over, as one sees on its connections.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmarks.cases.bench import Bench, Parts, measured, named, quiet
from benchmarks.goals import EJABBERD, HOLDFAST, PROSODY, PROSODY_OPEN, PROSODY_TUNED
from benchmarks.load.component import Component
from benchmarks.load.wire import LoadError
from benchmarks.measure import connections_to
from benchmarks.peers.holdfast_links import Edges, edges
from benchmarks.peers.xmpp_server import COMPONENT_DOMAIN, PLAIN_DOMAIN, SECRET, Way, XmppServer, XmppServers
from benchmarks.stats import Key

CASE = "xmpp-killed"
_TALK_IN_PER_S = 100.0
_TALK_OUT_PER_S = 5.0
"""Much less than anybody can do: what is measured is not traffic. Out it goes by a request to the control API each,
which costs the one who sends it milliseconds, on a core that may be the XMPP server's: at 20 a second, with all that
has to be asked again while nobody holds the sessions, that was a quarter of it."""
_TALK_BEFORE_S = 1.0
_LOOK_S = 0.02
_PATIENCE_S = 120.0
_SETTINGS = (
    (PROSODY, PROSODY, Way(PLAIN_DOMAIN), False),
    (PROSODY, PROSODY_TUNED, Way(PLAIN_DOMAIN), True),
    (PROSODY, PROSODY_OPEN, Way(PLAIN_DOMAIN, tls=False), False),
    (EJABBERD, EJABBERD, Way(PLAIN_DOMAIN), False),
)
"""Server, what the table calls it, how to log in, whether the server is tuned."""


def run(bench: Bench) -> None:
    if HOLDFAST not in [holder.name for holder in bench.holders]:
        return
    for size in bench.plan.xmpp:
        for kind, variant, way, tuned in _SETTINGS:
            for servers in named([kind], bench.xmpp_servers):
                bench.rounds([(Key(CASE, HOLDFAST, size, variant), partial(_round, bench, servers, way, tuned, size))])


def _round(bench: Bench, servers: XmppServers, way: Way, tuned: bool, size: int, folder: Path) -> Mapping[str, float]:
    with (
        servers.run(size, folder / "xmpp", bench.cores, tuned=tuned) as server,
        edges(server, way, bench.plan.concurrency, folder / "holder", bench.cores) as pair,
        Component(server.component_port, COMPONENT_DOMAIN, SECRET) as contact,
    ):
        login_ns = pair.log_in(0, size)
        parts = Parts(pair.second.pids, pair.backend.pids, {**pair.beside, "xmpp": server.pids})
        quiet(parts)
        contact.talk([f"u{number}@{PLAIN_DOMAIN}/bench" for number in range(size)], _TALK_IN_PER_S)
        pair.orders.give(
            "talk",
            control=pair.second_control,
            to=f"contact@{COMPONENT_DOMAIN}",
            per_s=_TALK_OUT_PER_S,
            count=size // 5,
        )
        time.sleep(_TALK_BEFORE_S)
        with measured(parts) as window:
            killed_ns = time.perf_counter_ns()
            pair.first.kill()
            back_ns = _first_connection(server)
            contact.hush()
            resumed_ns = int(pair.orders.give("resumed", count=size)["last_ns"])
        missing = _missing(pair, contact)
    return {
        "login_ms": login_ns / 1e6,
        "since_kill_ms": (resumed_ns - killed_ns) / 1e6,
        "resume_ms": (resumed_ns - back_ns) / 1e6,
        "times_faster": login_ns / (resumed_ns - back_ns),
        "times_faster_since_kill": login_ns / (resumed_ns - killed_ns),
        **missing,
        **window.costs(size),
    }


def _first_connection(server: XmppServer) -> int:
    """When the XMPP server has a connection again, after the dead edge's are gone."""
    deadline = time.monotonic() + _PATIENCE_S
    for there in (False, True):
        while (connections_to(server.port) > 0) is not there:
            if time.monotonic() > deadline:
                raise LoadError(f"nobody took the sessions over in {_PATIENCE_S:g} s")
            time.sleep(_LOOK_S)
    return time.perf_counter_ns()


def _missing(pair: Edges, contact: Component) -> Mapping[str, float]:
    """Of what was said both ways, how much did not arrive, and how much did so more than once."""
    heard = pair.orders.give("heard", bodies=contact.said)
    said: list[str] = pair.orders.give("hush")["said"]
    deadline = time.monotonic() + _PATIENCE_S
    while any(body not in contact.heard for body in said) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
    lost_out = sum(body not in contact.heard for body in said)
    return {
        "said_in": len(contact.said),
        "said_out": len(said),
        "lost_in": heard["lost"],
        "lost_out": lost_out,
        "lost": heard["lost"] + lost_out,
        "doubled": heard["doubled"] + sum(count > 1 for count in contact.heard.values()),
    }
