"""`python -m benchmarks`: Holdfast and its peers, side by side in one run."""

from __future__ import annotations

import argparse
import datetime
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.cases import connects, fanout, idle, inbound, sdk, xmpp, xmpp_killed
from benchmarks.cases.bench import Bench
from benchmarks.goals import Verdict, design_goals, judge
from benchmarks.load.clients import allow_files
from benchmarks.measure import machine
from benchmarks.peers.base import Peer, Program
from benchmarks.peers.holders import Holder
from benchmarks.peers.holdfast import Holdfast, project_folder
from benchmarks.peers.holdfast_links import HoldfastLinks
from benchmarks.peers.nginx import Nchan
from benchmarks.peers.process import OPEN_FILES
from benchmarks.peers.proxy import Proxy
from benchmarks.peers.pushpin import Pushpin
from benchmarks.peers.slixmpp import Slixmpp
from benchmarks.peers.xmpp_server import Ejabberd, Prosody, XmppServers
from benchmarks.plan import FULL, NORMAL, QUICK, Plan, all_cores, available_cores, split_cores
from benchmarks.report import plots, record
from benchmarks.report.table import render
from benchmarks.stats import Medians, medians

CASES: Mapping[str, tuple[str, Callable[[Bench], None]]] = {
    "a": ("inbound events", inbound.run),
    "b": ("fan-out", fanout.run),
    "c": ("idle memory", idle.run),
    "d": ("connects", connects.run),
    "e": ("SDK backend, batching off and on", sdk.run),
    "f": ("XMPP logins, memory and resumes", xmpp.run),
    "g": ("an edge killed that holds XMPP sessions", xmpp_killed.run),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for. 0: every round gave numbers (goals missed or not); 1: some failed; 2: wrong usage."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that the servers are stopped
    allowed = allow_files(OPEN_FILES)
    if allowed < OPEN_FILES:
        print(f"only {allowed} open files are allowed; the large sizes need {OPEN_FILES}", file=sys.stderr)
    peers, holders, servers = _all_peers(), _all_holders(), _all_xmpp_servers()
    absent = _absent([*peers, *holders], options.peers) | _absent(servers, options.xmpp)
    cores = all_cores(available_cores()) if options.no_pin else split_cores(available_cores())
    os.sched_setaffinity(0, cores.load)
    bench = Bench(
        _plan(options),
        cores,
        [peer for peer in peers if peer.name not in absent],
        [holder for holder in holders if holder.name not in absent],
        [server for server in servers if server.name not in absent],
    )
    about = _about(options, [*bench.peers, *bench.holders, *bench.xmpp_servers])
    for letter in options.only:
        CASES[letter][1](bench)
        _save(options.out, about, bench, absent)
    table, verdicts = _judged(bench)
    text = render(table, verdicts, bench.failures, absent)
    (options.out / "table.txt").write_text(text)
    print(text)
    _draw(options.out, about, bench, table)
    return 1 if bench.failures else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Holdfast and its peers (nginx, Nchan, Pushpin from Debian; slixmpp) side by side in one run.",
        epilog="Cases: "
        + "; ".join(f"{letter}: {title}" for letter, (title, _) in CASES.items())
        + ". XMPP alone: --only f,g; in a minute or two: --quick --only f,g --xmpp prosody."
        + " What is not installed is left out, and said.",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small sizes, one round: does it work? (minutes)")
    size.add_argument("--full", action="store_true", help="more and longer rounds, and 10,000 idle connections")
    parser.add_argument("--only", type=_letters, default=list(CASES), metavar="a,b,…", help="these cases only")
    parser.add_argument("--peers", type=_names, metavar="NAME,…", help="compare these only, such as Holdfast,nginx")
    parser.add_argument("--xmpp", type=_servers, metavar="NAME,…", help="these XMPP servers only: prosody, ejabberd")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds per measurement")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of a measured window")
    parser.add_argument("--no-pin", action="store_true", help="let the scheduler choose cores")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", metavar="DIR", help="where results go"
    )
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    return options


def _letters(text: str) -> list[str]:
    letters = [part.strip() for part in text.split(",") if part.strip()]
    if unknown := [letter for letter in letters if letter not in CASES]:
        raise argparse.ArgumentTypeError(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    return sorted(set(letters))


def _names(text: str) -> list[str]:
    return _known(text, _names_of([*_all_peers(), *_all_holders()]))


def _servers(text: str) -> list[str]:
    return _known(text, _names_of(_all_xmpp_servers()))


def _names_of(programs: Sequence[Program]) -> list[str]:
    return list(dict.fromkeys(program.name for program in programs))


def _known(text: str, names: Sequence[str]) -> list[str]:
    known = {name.lower(): name for name in names}
    asked = [part.strip().lower() for part in text.split(",") if part.strip()]
    if unknown := [name for name in asked if name not in known]:
        raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}; there are {', '.join(known.values())}")
    return [known[name] for name in asked]


def _all_peers() -> list[Peer]:
    return [Holdfast(), Proxy(), Nchan(), Pushpin()]


def _all_holders() -> list[Holder]:
    return [HoldfastLinks(), Slixmpp(tuned=True), Slixmpp()]


def _all_xmpp_servers() -> list[XmppServers]:
    return [Prosody(), Ejabberd()]


def _absent(programs: Sequence[Program], asked: Sequence[str] | None) -> dict[str, str]:
    """Why those that cannot run here cannot. Where some are asked for, the others are left out."""
    absent = {}
    for program in programs:
        reason = "left out" if asked is not None and program.name not in asked else program.absent()
        if reason is not None:
            absent[program.name] = reason
            print(f"{program.name}: {reason}", file=sys.stderr)
    return absent


def _plan(options: argparse.Namespace) -> Plan:
    plan = QUICK if options.quick else FULL if options.full else NORMAL
    if options.rounds is not None:
        plan = replace(plan, rounds=options.rounds)
    if options.seconds is not None:
        plan = replace(plan, window_s=options.seconds)
    return plan


def _about(options: argparse.Namespace, present: Sequence[Program]) -> dict[str, Any]:
    return {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": record.commit(project_folder()),
        "machine": machine(),
        "pinned": not options.no_pin,
        "versions": {name: found for peer in present for name, found in peer.versions().items()},
    }


def _judged(bench: Bench) -> tuple[Medians, list[Verdict]]:
    plan, table = bench.plan, medians(bench.samples)
    tried = {key.case for key in [*table, *(failure.key for failure in bench.failures)]}
    goals = design_goals(plan.inbound, plan.fanout, plan.idle, plan.sdk, plan.xmpp)
    return table, judge([goal for goal in goals if goal.subject.case in tried], table)


def _save(out: Path, about: Mapping[str, Any], bench: Bench, absent: Mapping[str, str]) -> None:
    table, verdicts = _judged(bench)
    document = record.record(about, bench.plan, bench.samples, table, verdicts, bench.failures, absent)
    record.write(out / "results.json", document)


def _draw(out: Path, about: Mapping[str, Any], bench: Bench, table: Medians) -> None:
    subtitle = f"{about['machine']['cpu']}, {about['machine']['cores']} cores · {about['commit']} · {about['at']}"
    try:
        written = plots.draw(bench.samples, table, out, subtitle)
    except ImportError:
        print("no plots: matplotlib is not installed (pip install -e '.[bench]')", file=sys.stderr)
        return
    print("wrote", ", ".join(str(path) for path in [out / "results.json", out / "table.txt", *written]))


if __name__ == "__main__":
    sys.exit(main())
