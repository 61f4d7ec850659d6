"""``holdfast sessions`` and ``holdfast why SESSION``: who is connected, and how it came to be as it is."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge.commands.control_client import OK, Answer, ControlClient, add_flags, guarded, path, print_json
from edge.commands.parsers import new_command
from edge.commands.refusals import Failed
from edge.commands.terminal import Palette, duration, printable, table

if TYPE_CHECKING:
    from edge.commands.parsers import Commands

LIMIT = 100
_GOOD, _BAD = frozenset({"handshake", "resume"}), frozenset({"refused", "drop", "moved", "inherited"})


def add_commands(commands: Commands) -> None:
    """``sessions`` and ``why``."""
    listing = new_command(commands, "sessions", "list sessions, over all edges")
    listing.add_argument("--user", metavar="USER", help="of this user, as set by `identify`")
    listing.add_argument("--release", metavar="SHA", help="on this release")
    listing.add_argument("--limit", metavar="N", type=int, default=LIMIT, help=f"at most (default: {LIMIT})")
    add_flags(listing)
    listing.set_defaults(run=sessions)
    why = new_command(
        commands,
        "why",
        "tell what has happened to a session, also when it has ended",
        "Tell what has happened to a session: its handshake, changes of release, retries, refusals and its end. Also "
        "when it has ended, as long as the edges that held it live and remember it (setting edge.life_entries).",
    )
    why.add_argument("session", metavar="SESSION")
    add_flags(why, app=False)
    why.set_defaults(run=tell_why)


@guarded
def sessions(arguments: argparse.Namespace) -> int:
    query = {
        "user": arguments.user,
        "release": arguments.release,
        "app": arguments.app,
        "limit": arguments.limit,
    }
    with ControlClient.of(arguments) as client:
        answer = client.get("/v1/sessions", query)
    if arguments.json:
        print_json(answer)
        return OK
    print(sessions_text(answer["sessions"], Palette.of(sys.stdout, os.environ), _now()))
    if len(answer["sessions"]) == arguments.limit:
        print(f"holdfast: there may be more; --limit was {arguments.limit}", file=sys.stderr)
    if not answer["complete"]:
        print("holdfast: an edge did not answer in time: its sessions are not in the list", file=sys.stderr)
    return OK


def sessions_text(rows: Sequence[Answer], palette: Palette, now: int) -> str:
    """A line for each session."""
    heads = ["SESSION", "APP", "RELEASE", "PIN", "USER", "CLIENT", "AGE", "EDGE"]
    lines = [
        [
            printable(row["session"]),
            printable(row["app"]),
            palette.sha(row["release"]),
            "pinned" if row["pinned"] else "",
            printable(row["user"] or ""),
            printable(row["client"]),
            duration(max(0, now - row["opened_at"])),
            printable(row["edge"]),
        ]
        for row in rows
    ]
    return table(heads, lines, palette, right="AGE")


@guarded
def tell_why(arguments: argparse.Namespace) -> int:
    with ControlClient.of(arguments) as client:
        life = client.get(path("sessions", arguments.session, "life"))
        try:
            row: Answer | None = client.get(path("sessions", arguments.session))
        except Failed as error:
            if error.status not in (404, 410):
                raise
            row = None
        release = None if row is None else _release_of(client, row)
    if arguments.json:
        print_json({**life, "now": row})
        return OK
    print(why_text(life, row, release, Palette.of(sys.stdout, os.environ), _now()))
    if not life["complete"]:
        print("holdfast: an edge did not answer in time: what it remembers is not told", file=sys.stderr)
    return OK


def _release_of(client: ControlClient, row: Answer) -> Answer | None:
    """What the table says of the session's release, if it is there."""
    try:
        return client.get(path("apps", row["app"], "releases", row["release"]))
    except Failed as error:
        if error.status == 404:
            return None
        raise


def why_text(life: Answer, row: Answer | None, release: Answer | None, palette: Palette, now: int) -> str:
    """The facts in order, and where the session is now."""
    lines = []
    for fact in life["life"]:
        what = printable(fact["what"])
        paint = palette.bad if what in _BAD else palette.good if what in _GOOD else palette.bold
        if what == "handshake" and str(fact["detail"]).startswith("rejected"):
            paint = palette.bad
        lines.append(
            [_clock(fact["at"], now), paint(what), _coloured(fact["detail"], palette), printable(fact["edge"])]
        )
    text = [table(["WHEN", "WHAT", "", "EDGE"], lines, palette)] if lines else ["Nothing is remembered of its life."]
    text.append(_present(row, release, palette, now))
    return "\n".join(text)


def _coloured(detail: str, palette: Palette) -> str:
    """`detail` with the names of releases in their colours."""
    words = printable(detail).split(" ")
    before = ["", *words]
    return " ".join(
        palette.sha(word) if previous in ("release", "from", "to") else word
        for previous, word in zip(before, words, strict=False)
    )


def _present(row: Answer | None, release: Answer | None, palette: Palette, now: int) -> str:
    if row is None:
        return "The session is over."
    age = duration(max(0, now - row["opened_at"]))
    text = f"Now: open for {age} at edge {printable(row['edge'])}, on release {palette.sha(row['release'])}"
    if row["pinned"]:
        return f"{text}, to which it is pinned (holdfast release pin SESSION --none ends that)."
    if release is None:
        return f"{text}, which is not in the table any more; its next event goes elsewhere."
    cohorts = f"; meant for {printable(', '.join(release['cohorts']))}" if release["cohorts"] else ""
    return f"{text} ({release['state']}, {release['share']:g}% of the sessions{cohorts})."


def _clock(at: int, now: int) -> str:
    """The time, in this machine's zone; with the date when it was not today."""
    then = time.localtime(at / 1_000)
    form = "%H:%M:%S" if time.localtime(now / 1_000)[:3] == then[:3] else "%Y-%m-%d %H:%M:%S"
    return f"{time.strftime(form, then)}.{at % 1_000:03}"


def _now() -> int:
    return time.time_ns() // 1_000_000
