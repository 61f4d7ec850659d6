"""``holdfast top``: a table of what an edge is doing, drawn anew every few seconds.

On a terminal it takes the alternate screen and gives it back however it ends; through a pipe each look is printed below
the last one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from edge.commands.control_client import OK, Answer, ControlClient, add_flags, guarded, path
from edge.commands.figures import Figures, Rates, Scrape, figures, parse_metrics
from edge.commands.parsers import new_command
from edge.commands.refusals import Failed, WrongUsage
from edge.commands.release_views import BAR_COLUMNS, canary_text, state_text
from edge.commands.terminal import Palette, bar, parse_duration, percent, printable, table

if TYPE_CHECKING:
    from types import FrameType

    from edge.commands.parsers import Commands

EVERY = "2s"
SHORTEST_MS = 100
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""Alternate screen, no cursor, long lines cut off."""
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_HEADS = ("", "RELEASE", "STATE", "SHARE", "", "SESSIONS", "EVENTS/S", "P99", "ERRORS/S")


def add_commands(commands: Commands) -> None:
    """``top``."""
    parser = new_command(
        commands,
        "top",
        "watch connections, releases and rates",
        "Watch connections, releases and rates. Sessions are counted over all edges, rates are those of the edge that "
        "is asked. Ctrl-C ends it.",
    )
    parser.add_argument("--interval", metavar="TIME", default=EVERY, help=f"between two looks (default: {EVERY})")
    parser.add_argument("--once", action="store_true", help="look once, after one interval")
    add_flags(parser)
    parser.set_defaults(run=run)


@guarded
def run(arguments: argparse.Namespace) -> int:
    every_ms = parse_duration(arguments.interval, "--interval")
    if every_ms < SHORTEST_MS:
        raise WrongUsage(f"--interval: {SHORTEST_MS}ms at least")
    palette = Palette.of(sys.stdout, os.environ)
    whole_screen = (
        sys.stdout.isatty() and not arguments.once and not arguments.json and os.environ.get("TERM") != "dumb"
    )
    signal.signal(signal.SIGTERM, _stop)
    with contextlib.suppress(KeyboardInterrupt), ControlClient.of(arguments) as client:
        looks = _looks(client, arguments.app, every_ms / 1_000)
        first = next(looks)  # an error of it is an error of the command, and is told where it can be read
        with _screen(whole_screen):
            for look in _with_first(first, looks):
                if arguments.json:
                    print(json.dumps(look.to_json(), ensure_ascii=False), flush=True)
                else:
                    _draw(look.text(client.url, palette), whole_screen)
                if arguments.once:
                    break
    return OK


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class _Look:
    """One look, or why there is none."""

    def __init__(self, found: Figures | None, tables: Sequence[Answer], problem: str = "") -> None:
        self._at = time.time_ns() // 1_000_000
        self._found = found
        self._tables = tables
        self._problem = problem

    def to_json(self) -> Answer:
        if self._found is None:
            return {"at": self._at, "error": self._problem}
        return self._found.to_json(self._at, self._tables)

    def text(self, url: str, palette: Palette) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(self._at / 1_000))
        lines = [f"{palette.bold('holdfast top')}  {url}  {clock}"]
        if self._found is None:
            return "\n".join([*lines, palette.bad(printable(self._problem))])
        lines.append(_summary(self._found, palette))
        for found in self._tables:
            lines += ["", *_app_lines(found, self._found, palette, self._at)]
        return "\n".join(lines)


def _summary(found: Figures, palette: Palette) -> str:
    missing = f", {palette.bad(f'{found.workers_missing} silent')}" if found.workers_missing else ""
    parts = [
        f"{found.connections:,} connection{'' if found.connections == 1 else 's'}",
        f"{found.whole.events_per_s:,.1f} events/s",
        f"p99 {_p99(found.whole)}",
        _errors(found.whole, palette) + " errors/s",
        "store " + (palette.good("up") if found.store_up else palette.bad("away")),
        f"{found.workers} worker{'' if found.workers == 1 else 's'}{missing}",
    ]
    return " · ".join(parts)


def _app_lines(answer: Answer, found: Figures, palette: Palette, now: int) -> Iterator[str]:
    rows = []
    for release in answer["releases"]:
        sha, share, rates = release["sha"], float(release["share"]), found.of(release["sha"])
        rows.append(
            [
                "▶" if release["current"] else "",
                palette.sha(sha),
                state_text(release, palette, now),
                percent(share),
                palette.sha(sha, bar(share / 100, BAR_COLUMNS)),
                "?" if release["sessions"] is None else f"{release['sessions']:,}",
                f"{rates.events_per_s:,.1f}",
                _p99(rates),
                _errors(rates, palette),
            ]
        )
    yield palette.bold(printable(answer["app"]))
    yield table(_HEADS, rows, palette, right="SHARE,SESSIONS,EVENTS/S,P99,ERRORS/S")
    if answer["canary"] is not None:
        yield canary_text(answer["canary"], palette, now)


def _p99(rates: Rates) -> str:
    return "–" if rates.p99_ms is None else f"{rates.p99_ms:g}ms"


def _errors(rates: Rates, palette: Palette) -> str:
    text = f"{rates.errors_per_s:,.1f}"
    return palette.bad(text) if rates.errors_per_s else text


def _looks(client: ControlClient, app: str | None, every_s: float) -> Iterator[_Look]:
    """A look after each interval. Only the first scrape raises `Failed`; later it is a look that says so."""
    before, at = _scrape(client)
    while True:
        time.sleep(every_s)
        try:
            after, now = _scrape(client)
            tables = _tables(client, app)
        except Failed as error:
            yield _Look(None, (), str(error))
            continue
        yield _Look(figures(before, after, now - at), tables)
        before, at = after, now


def _scrape(client: ControlClient) -> tuple[Scrape, float]:
    return parse_metrics(client.text("/metrics")), time.monotonic()


def _tables(client: ControlClient, app: str | None) -> list[Answer]:
    apps = [app] if app else [str(found["app"]) for found in client.get("/v1/apps")["apps"]]
    return [client.get(path("apps", each, "releases")) for each in apps]


def _with_first(first: _Look, rest: Iterator[_Look]) -> Iterator[_Look]:
    yield first
    yield from rest


@contextlib.contextmanager
def _screen(whole: bool) -> Iterator[None]:
    if not whole:
        yield
        return
    sys.stdout.write(_ENTER)
    try:
        yield
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


def _draw(text: str, whole: bool) -> None:
    if not whole:
        print(text, flush=True)
        return
    lines = text.split("\n")[: max(1, shutil.get_terminal_size().lines)]
    sys.stdout.write(_HOME + f"{_CLEAR_LINE}\r\n".join(lines) + _CLEAR_LINE + _CLEAR_BELOW)
    sys.stdout.flush()
