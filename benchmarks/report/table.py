"""The table: per case one block, per size a group of rows, one per server with its ratio to Holdfast. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.goals import EJABBERD, HOLDFAST, PROSODY, SLIXMPP, SLIXMPP_TUNED, Verdict
from benchmarks.stats import Failure, Key, Medians


@dataclass(frozen=True, slots=True)
class Column:
    """One metric as it is shown: `scale` divides it, `digits` follow the point."""

    metric: str
    title: str
    scale: float = 1
    digits: int = 1


@dataclass(frozen=True, slots=True)
class Block:
    """One case: its heading, its columns, and the metric whose ratio to Holdfast ends each row."""

    case: str
    title: str
    things: str
    """What `size` counts."""
    columns: Sequence[Column]
    ratio_metric: str
    peers: Sequence[str]
    remark: str = ""
    """What a reader must know to compare fairly."""
    surroundings: Sequence[str] = ()
    """What it needs and does not compare."""


_BUSY = (
    Column("server_busy", "server busy", 0.01, 0),
    Column("load_busy", "load busy", 0.01, 0),
    Column("foreign_busy", "others", 0.01, 0),
)
_LATENCY = (Column("p50_us", "p50 ms", 1_000, 2), Column("p99_us", "p99 ms", 1_000, 2))
_EVENTS = (
    Column("events_per_s", "events/s", 1, 0),
    *_LATENCY,
    Column("cpu_us", "CPU µs/event"),
    Column("backend_us", "backend µs"),
    Column("load_us", "load µs"),
    *_BUSY,
)
_BEHIND = (
    Column("backend_us", "backend ms", 1_000, 2),
    Column("redis_us", "Redis ms", 1_000, 2),
    Column("xmpp_us", "XMPP server ms", 1_000, 2),
)
_HOLDERS = (HOLDFAST, SLIXMPP_TUNED, SLIXMPP)
_XMPP_SERVERS = (PROSODY, EJABBERD)
BLOCKS = (
    Block(
        "inbound",
        "(a) inbound: message → POST → answer → message",
        "connections",
        _EVENTS,
        "cpu_us",
        ("Holdfast", "nginx", "Pushpin"),
        "Pushpin gets at most 100 events at a time, whatever the connections: with 200 it closes some of them",
    ),
    Block(
        "fanout",
        "(b) fan-out to all subscribers of a channel",
        "subscribers",
        (
            Column("deliveries_per_s", "deliveries/s", 1, 0),
            Column("last_ms", "last ms"),
            Column("cpu_us", "CPU µs/delivery", 1, 2),
            Column("load_us", "load µs", 1, 2),
            *_BUSY,
        ),
        "cpu_us",
        ("Holdfast", "Nchan", "Pushpin"),
    ),
    Block(
        "idle",
        "(c) idle WebSockets",
        "connections",
        (
            Column("rss_bytes", "RSS bytes/conn", 1, 0),
            Column("marginal_bytes", "each further", 1, 0),
            Column("pss_bytes", "PSS bytes/conn", 1, 0),
            Column("empty_mib", "empty MiB"),
        ),
        "rss_bytes",
        ("Holdfast", "Nchan", "Pushpin"),
    ),
    Block(
        "connects",
        "(d) connecting (Nchan asks no backend)",
        "connections a wave",
        (Column("connects_per_s", "connects/s", 1, 0), *_LATENCY, Column("cpu_us", "CPU µs/connect"), *_BUSY),
        "cpu_us",
        ("Holdfast", "Nchan", "Pushpin"),
    ),
    Block("sdk", "(e) an SDK backend, batching off and on", "connections", _EVENTS, "cpu_us", ("Holdfast",)),
    Block(
        "xmpp",
        "(f) XMPP: logging in over STARTTLS with 20 contacts each, and being held",
        "sessions",
        (
            Column("logins_per_s", "logins/s", 1, 0),
            Column("cpu_us", "CPU ms/login", 1_000, 2),
            *_BEHIND,
            Column("rss_bytes", "RSS KiB/session", 1_024),
            Column("marginal_bytes", "each further", 1_024),
            Column("redis_bytes", "Redis KiB", 1_024),
            Column("foreign_busy", "others", 0.01, 0),
        ),
        "cpu_us",
        _HOLDERS,
        "away: contacts are not logged in; bare: that, and no TLS; SCRAM: no password is sent. slixmpp is one process "
        "with nothing on disk; tuned: with one SSLContext for all, and uvloop",
        _XMPP_SERVERS,
    ),
    Block(
        "xmpp",
        "(f) XMPP: a message in and its echo out (Holdfast: by the backend; slixmpp: in the process)",
        "sessions",
        (
            Column("echoes_per_s", "echoes/s", 1, 0),
            Column("echo_cpu_us", "CPU µs/echo"),
            *(replace(column, metric=f"echo_{column.metric}") for column in _BEHIND),
        ),
        "echo_cpu_us",
        _HOLDERS,
        surroundings=_XMPP_SERVERS,
    ),
    Block(
        "xmpp",
        "(f) XMPP: resuming (Holdfast: its edge is stopped, another takes over; slixmpp: all connections are cut)",
        "sessions",
        (
            Column("resumes_per_s", "resumes/s", 1, 0),
            Column("resume_cpu_us", "CPU ms/resume", 1_000, 2),
            *(replace(column, metric=f"resume_{column.metric}") for column in _BEHIND),
        ),
        "resume_cpu_us",
        _HOLDERS,
        surroundings=_XMPP_SERVERS,
    ),
    Block(
        "xmpp-killed",
        "(g) an edge is killed that holds XMPP sessions, another one takes over",
        "sessions",
        (
            Column("login_ms", "log in s", 1_000, 2),
            Column("since_kill_ms", "since the kill s", 1_000, 2),
            Column("resume_ms", "resume s", 1_000, 2),
            Column("times_faster", "log in ÷ resume"),
            Column("cpu_us", "CPU ms/resume", 1_000, 2),
            *_BEHIND,
            Column("said_in", "said in", 1, 0),
            Column("said_out", "out", 1, 0),
            Column("lost", "lost", 1, 0),
            Column("doubled", "doubled", 1, 0),
            Column("foreign_busy", "others", 0.01, 0),
        ),
        "resume_ms",
        (HOLDFAST,),
        "since the kill: with the wait for the dead edge's lease; resume: from the first new connection on",
        _XMPP_SERVERS,
    ),
)


_DISTURBED = 0.2
"""Cores that others may use before the table warns of it."""


def render(table: Medians, verdicts: Sequence[Verdict], failures: Sequence[Failure], absent: Mapping[str, str]) -> str:
    """The whole report as text: blocks, then what is missing and why, then the goals."""
    failed = {failure.key: failure for failure in failures}
    cases = {key.case for key in [*table, *failed]}
    blocks = [block for block in BLOCKS if block.case in cases]
    firsts = {block.case: block for block in reversed(blocks)}
    parts = []
    for block in blocks:
        notes = [block.remark] if block.remark else []
        if block is firsts[block.case]:  # what is true of all the case's blocks is said once
            notes += _notes(block, table, failed, absent)
        lines = [block.title, *aligned(_rows(block, table, failed)), *(f"  ! {note}" for note in notes)]
        parts.append("\n".join(lines))
    parts.append(_goals(verdicts))
    return "\n\n".join(parts) + "\n"


def _rows(block: Block, table: Medians, failed: Mapping[Key, Failure]) -> Sequence[Sequence[str]]:
    rows = [[block.things, "server", *(column.title for column in block.columns), "÷ Holdfast"]]
    for key in _keys(block, table, failed):
        if key in table:
            rows.append([_label(key), key.peer, *_cells(block, table[key]), _ratio(block, table, key)])
        else:
            rows.append([_label(key), key.peer, *["–"] * len(block.columns), "–"])
    return rows


def _notes(block: Block, table: Medians, failed: Mapping[Key, Failure], absent: Mapping[str, str]) -> Iterator[str]:
    keys = _keys(block, table, failed)
    shown = {key.peer for key in keys}
    for name in [*block.peers, *block.surroundings]:
        if name in absent and name not in shown:
            yield f"{name}: absent: {absent[name]}"
    for key in keys:
        if key in failed:
            yield f"{_label(key)} {key.peer}: round {failed[key].round} failed: {failed[key].reason}"
    disturbed = max((table[key].get("foreign_busy", 0) for key in keys if key in table), default=0)
    if disturbed > _DISTURBED:
        yield f"disturbed: other programs took up to {disturbed:.0%} of a core; ratios may hold, absolutes do not"


def _keys(block: Block, table: Medians, failed: Mapping[Key, Failure]) -> list[Key]:
    """By size and variant as they were measured, the block's peers in their order."""
    tried = [key for key in [*table, *failed] if key.case == block.case]
    groups = dict.fromkeys((key.size, key.variant) for key in tried)
    keys = [Key(block.case, peer, size, variant) for size, variant in groups for peer in block.peers]
    return [key for key in keys if key in tried]


def _label(key: Key) -> str:
    return " ".join(filter(None, (f"{key.size:,}", key.variant)))


def _cells(block: Block, values: Mapping[str, float]) -> list[str]:
    return [
        f"{values[column.metric] / column.scale:,.{column.digits}f}" + ("%" if column.scale == 0.01 else "")
        if column.metric in values
        else "–"
        for column in block.columns
    ]


def _ratio(block: Block, table: Medians, key: Key) -> str:
    ours = table.get(Key(key.case, HOLDFAST, key.size, key.variant), {}).get(block.ratio_metric)
    theirs = table[key].get(block.ratio_metric)
    if not ours or theirs is None:
        return "–"
    return f"{theirs / ours:.2f} ×"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as text: the first two columns to the left, numbers to the right, a rule under the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return ["  " + line.rstrip() for line in [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]]


def _goals(verdicts: Sequence[Verdict]) -> str:
    rows = [["goal", "", "measured", "must be"]]
    for verdict in verdicts:
        measured = "–" if verdict.measured is None else f"{verdict.measured:,.2f}"
        rows.append([verdict.goal.title, verdict.word, measured, f"{verdict.goal.sense} {verdict.goal.bound:g}"])
    return "\n".join(["Goals", *aligned(rows)])
