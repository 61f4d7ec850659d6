"""``holdfast release …``: the table of an app's releases, and every change of it.

Owns flags and the order of calls; how things look is `edge.commands.release_views`'s. What a change means, and when it
is refused, is the edge's to say: its sentences are passed on as they are. Longer than our other rooms: twelve commands,
one after the other, which share what stands below them.
"""

from __future__ import annotations

import argparse
import functools
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from edge.commands.control_client import FAILED, OK, Answer, ControlClient, add_flags, guarded, path, print_json
from edge.commands.parsers import new_command
from edge.commands.refusals import Failed, WrongUsage
from edge.commands.terminal import Palette, duration, parse_duration, parse_percent

if TYPE_CHECKING:
    from edge.commands.parsers import Commands

WAIT_STEP_S = 0.5
"""Between two looks at what is waited for."""
IDLE_DEFAULT = "60s"
_RULES = """\
RULE: header:X-Beta=1, header:X-Beta (is there), cookie:beta=1, query:beta=1, claim:plan=gold (of a JWT; nobody has
verified it when a release is chosen, so a cohort is never a permission), user:ann,bob, percent:5.
"""
_WORK = Callable[[ControlClient, argparse.Namespace], int]


def add_commands(commands: Commands) -> None:
    """``release`` and its own commands."""
    release = new_command(commands, "release", "deploy: add, promote, watch and retire releases", epilog=_EPILOG)
    inner = release.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_reading(inner)
    _add_changes(inner)
    _add_gradual(inner)
    _add_ends(inner)


_EPILOG = """\
A release is a version of an app's backend: a SHA (or any name) and a URL. Each session goes to one of them: the one it
is pinned to, else the newest whose cohort it is in, else one by weight, always the same. Every change is one step in
Redis; all edges follow at once, and no client is disconnected.

Exit codes: 0 done, 1 refused or failed (standard error says why, and what to do), 2 wrong usage.
"""


def _command(
    commands: Commands, name: str, summary: str, work: _WORK, *, sha: bool = True, epilog: str = ""
) -> argparse.ArgumentParser:
    parser = new_command(commands, name, summary, epilog=epilog)
    if sha:
        parser.add_argument("sha", metavar="SHA", help="the release; enough of its beginning to tell it from others")
    add_flags(parser)
    parser.set_defaults(run=functools.partial(_run, work))
    return parser


def _run(work: _WORK, arguments: argparse.Namespace) -> int:
    @guarded
    def run(arguments: argparse.Namespace) -> int:
        with ControlClient.of(arguments) as client:
            return work(client, arguments)

    return run(arguments)


# -- what there is to say


def _add_reading(commands: Commands) -> None:
    _command(commands, "list", "list the releases of an app", _list, sha=False)
    _command(commands, "show", "show one release", _show)


def _add_changes(commands: Commands) -> None:
    add = _command(commands, "add", "add a release; it gets no sessions yet, unless a cohort is its own", _add,
                   epilog=_RULES)  # fmt: skip
    add.add_argument("--url", metavar="URL", required=True, help="where it is; the route's release_urls must allow it")
    add.add_argument("--health", metavar="PATH", default="", help="GET this until it answers 2xx, such as /healthz")
    add.add_argument("--checks", metavar="N", type=int, default=1, help="good health checks in a row (default: 1)")
    add.add_argument("--cohort", metavar="RULE", action="append", default=[], help="it is meant for these; repeatable")
    add.add_argument("--wait", metavar="TIME", help="wait until it is active, this long at most, such as 5m")
    promote = _command(commands, "promote", "send all sessions to a release, but for pinned ones and cohorts", _promote)
    promote.add_argument("--notice", metavar="TEXT", default="", help="send this to clients that change release")
    _command(commands, "rollback", "put the weights back as they were before they were changed last", _rollback,
             sha=False)  # fmt: skip
    weights = _command(commands, "weights", "share the sessions among releases", _weights, sha=False)
    weights.add_argument("weights", metavar="SHA=N", nargs="+", help="those that are not named get 0")


def _add_gradual(commands: Commands) -> None:
    canary = new_command(
        commands,
        "canary",
        "give a release a growing share while its figures are good",
        "Give a release a growing share of the sessions; take it back by itself when its figures are not good.",
    )
    canary.add_argument("sha", metavar="SHA", nargs="?", help="the release")
    canary.add_argument("--stop", action="store_true", help="stop the canary that is running: the weights go back")
    canary.add_argument("--steps", metavar="P,P,…", default="1,5,25,100", help="percents (default: 1,5,25,100)")
    canary.add_argument("--every", metavar="TIME", default="10m", help="time on each step (default: 10m)")
    canary.add_argument(
        "--max-error-rate", metavar="P", default="1%", help="errors among its events; or none (default: 1%%)"
    )
    canary.add_argument("--max-p99", metavar="TIME", help="99th percentile of its answers, such as 500ms")
    canary.add_argument("--min-events", metavar="N", type=int, default=20, help="judge by fewer never (default: 20)")
    canary.add_argument("--wait", action="store_true", help="wait for its end; exit code 1 when it was rolled back")
    add_flags(canary)
    canary.set_defaults(run=functools.partial(_run, _canary))
    cohort = _command(commands, "cohort", "say which sessions a release is meant for, whatever the weights", _cohort,
                      epilog=_RULES)  # fmt: skip
    cohort.add_argument("rules", metavar="RULE", nargs="*", help="in the place of those it has; none: no cohort")
    pin = _command(commands, "pin", "keep one session on a release", _pin, sha=False)
    pin.add_argument("session", metavar="SESSION")
    pin.add_argument("sha", metavar="SHA", nargs="?")
    pin.add_argument("--none", action="store_true", help="in the place of SHA: it follows the table again")
    shadow = new_command(
        commands,
        "shadow",
        "show a release real events, and compare its answers, which count for nothing",
    )
    shadow.add_argument("sha", metavar="SHA", nargs="?", help="the release")
    shadow.add_argument("--share", metavar="P", help="percent of the sessions whose events it is shown, such as 5%%")
    shadow.add_argument("--stop", action="store_true", help="no shadow any more")
    add_flags(shadow)
    shadow.set_defaults(run=functools.partial(_run, _shadow))


def _add_ends(commands: Commands) -> None:
    retire = _command(commands, "retire", "let no new session go to a release, and those on it leave", _retire)
    how = retire.add_mutually_exclusive_group()
    how.add_argument("--now", action="store_true", help="all of them at once (when nothing else is said)")
    how.add_argument("--over", metavar="TIME", help="each at a moment of its own within this time, such as 30m")
    how.add_argument(
        "--when-idle",
        metavar="TIME",
        nargs="?",
        const=IDLE_DEFAULT,
        help=f"when nothing of it has happened for this long (default: {IDLE_DEFAULT})",
    )
    retire.add_argument(
        "--at-most",
        metavar="TIME",
        help="when they end by themselves, and what is left after this time; a limit to --when-idle and --over",
    )
    retire.add_argument("--notice", metavar="TEXT", default="", help="send this to clients that leave it")
    retire.add_argument("--wait", metavar="TIME", help="wait until it has no sessions, this long at most")
    _command(commands, "remove", "forget a release that has no sessions", _remove)


# -- reading


def _list(client: ControlClient, arguments: argparse.Namespace) -> int:
    return _show_table(client.get(_table(client)), arguments)


def _show(client: ControlClient, arguments: argparse.Namespace) -> int:
    sha = _whole_sha(client, arguments.sha)
    return _show_release(client.get(_one(client, sha)), arguments)


# -- changes


def _add(client: ControlClient, arguments: argparse.Namespace) -> int:
    wait_ms = _wait_ms(arguments)
    body: dict[str, Any] = {"url": arguments.url, "health": arguments.health, "checks": arguments.checks}
    if arguments.cohort:
        body["cohorts"] = arguments.cohort
    release = _put(client, arguments.sha, body, wait_ms or 0)
    if wait_ms is not None and release["state"] == "warming":
        release = _until(
            client,
            arguments.sha,
            wait_ms,
            lambda found: found["state"] != "warming",
            lambda found: (
                f"it is still warming: {found['health']['passed']} of {found['health']['needed']} health "
                f"checks passed{_why(found['health']['error'])}"
            ),
        )
    return _show_release(release, arguments)


def _put(client: ControlClient, sha: str, body: Mapping[str, Any], wait_ms: int) -> Answer:
    """Add it; one that does not answer yet is tried again for `wait_ms`. Until it is added, nothing has changed."""
    ends = time.monotonic() + wait_ms / 1_000
    while True:
        try:
            return client.put(_one(client, sha), body)
        except Failed as error:
            if error.code != "unhealthy" or time.monotonic() >= ends:
                raise
        time.sleep(WAIT_STEP_S)


def _why(error: str) -> str:
    return f"; the last one said: {error}" if error else ""


def _promote(client: ControlClient, arguments: argparse.Namespace) -> int:
    sha = _whole_sha(client, arguments.sha)
    body = {"notice": arguments.notice} if arguments.notice else {}
    return _show_release(client.post(_one(client, sha, "promote"), body), arguments)


def _rollback(client: ControlClient, arguments: argparse.Namespace) -> int:
    return _show_table(client.post(path("apps", client.app, "rollback")), arguments)


def _weights(client: ControlClient, arguments: argparse.Namespace) -> int:
    given = [_weight(text) for text in arguments.weights]
    known = _known(client)
    weights: dict[str, int] = {}
    for prefix, weight in given:
        sha = _match(prefix, known)
        if sha in weights:
            raise WrongUsage(f"{sha} is named twice")
        weights[sha] = weight
    return _show_table(client.post(path("apps", client.app, "weights"), {"weights": weights}), arguments)


def _weight(text: str) -> tuple[str, int]:
    sha, found, number = text.rpartition("=")
    number = number.removesuffix("%")
    if not found or not sha or not number.isascii() or not number.isdecimal():
        raise WrongUsage(f"SHA=N with a whole number from 0 on is needed, such as c0ffee1=90, not {text!r}")
    return sha, int(number)


def _cohort(client: ControlClient, arguments: argparse.Namespace) -> int:
    sha = _whole_sha(client, arguments.sha)
    return _show_release(client.post(_one(client, sha, "cohorts"), {"rules": arguments.rules}), arguments)


def _pin(client: ControlClient, arguments: argparse.Namespace) -> int:
    if (arguments.sha is None) != arguments.none:
        raise WrongUsage("either SHA or --none is needed")
    release = arguments.sha
    if release is not None:
        arguments.app = arguments.app or str(client.get(path("sessions", arguments.session))["app"])
        client.use_app(arguments.app)
        release = _whole_sha(client, release)
    answer = client.post(
        path("sessions", arguments.session, "actions"), {"actions": [{"type": "pin", "release": release}]}
    )
    if arguments.json:
        print_json(answer)
    elif release is None:
        print(f"session {arguments.session} follows the table again")
    else:
        print(f"session {arguments.session} is pinned to {_palette().sha(release)}")
    return OK


def _retire(client: ControlClient, arguments: argparse.Namespace) -> int:
    wait_ms = _wait_ms(arguments)
    body = _retirement(arguments)
    sha = _whole_sha(client, arguments.sha)
    release = client.post(_one(client, sha, "retire"), body)
    if wait_ms is not None:
        release = _until(
            client,
            sha,
            wait_ms,
            lambda found: found["sessions"] == 0,
            lambda found: (
                "it still has sessions" if found["sessions"] is None else f"it still has {found['sessions']} sessions"
            ),
        )
    return _show_release(release, arguments)


def _retirement(arguments: argparse.Namespace) -> Mapping[str, Any]:
    at_most_ms = None if arguments.at_most is None else parse_duration(arguments.at_most, "--at-most")
    if arguments.now and at_most_ms is not None:
        raise WrongUsage("--now leaves nothing for --at-most to limit")
    body: dict[str, Any] = {"how": "now"} if at_most_ms is None else {"how": "at-most", "for_ms": at_most_ms}
    limit = {} if at_most_ms is None else {"at_most_ms": at_most_ms}
    for how, flag, text in (("over", "--over", arguments.over), ("when-idle", "--when-idle", arguments.when_idle)):
        if text is not None:
            body = {"how": how, "for_ms": parse_duration(text, flag), **limit}
    return {**body, "notice": arguments.notice} if arguments.notice else body


def _remove(client: ControlClient, arguments: argparse.Namespace) -> int:
    sha = _whole_sha(client, arguments.sha)
    return _show_table(client.delete(_one(client, sha)), arguments)


# -- canary and shadow


def _canary(client: ControlClient, arguments: argparse.Namespace) -> int:
    _sha_or_stop(arguments)
    if arguments.stop:
        return _show_table(client.delete(path("apps", client.app, "canary")), arguments)
    body: dict[str, Any] = {
        "steps": _steps(arguments.steps),
        "every_ms": parse_duration(arguments.every, "--every"),
        "max_error_rate": _rate(arguments.max_error_rate),
        "min_events": arguments.min_events,
    }
    if arguments.max_p99 is not None:
        body["max_p99_ms"] = parse_duration(arguments.max_p99, "--max-p99")
    sha = _whole_sha(client, arguments.sha)
    table = client.post(_one(client, sha, "canary"), body)
    if not arguments.wait:
        return _show_table(table, arguments)
    return _canary_end(client, arguments, table)


def _steps(text: str) -> list[int]:
    steps = [part.strip().removesuffix("%") for part in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,3}", step) for step in steps):
        raise WrongUsage(f"--steps: whole percents with commas are needed, such as 1,5,25,100, not {text!r}")
    return [int(step) for step in steps]


def _rate(text: str) -> float | None:
    return None if text == "none" else parse_percent(text, "--max-error-rate") / 100


def _canary_end(client: ControlClient, arguments: argparse.Namespace, table: Answer) -> int:
    """Tell its steps on standard error until it has ended."""
    told: object = None
    while (canary := table["canary"]) is not None and canary["outcome"] in ("", "running"):
        if told != canary["step"]:
            told = canary["step"]
            every = duration(canary["every_ms"])
            print(f"canary {canary['sha']}: {canary['share']}% of the sessions, for {every}", file=sys.stderr)
        time.sleep(WAIT_STEP_S)
        table = client.get(_table(client))
    _show_table(table, arguments)
    if canary is None:
        raise Failed("the canary is gone from the table: somebody else changed it")
    return OK if canary["outcome"] == "done" else FAILED


def _shadow(client: ControlClient, arguments: argparse.Namespace) -> int:
    _sha_or_stop(arguments)
    if arguments.stop:
        return _show_table(client.delete(path("apps", client.app, "shadow")), arguments)
    if arguments.share is None:
        raise WrongUsage("--share is needed, such as --share 5%")
    share = parse_percent(arguments.share, "--share")
    sha = _whole_sha(client, arguments.sha)
    return _show_table(client.post(_one(client, sha, "shadow"), {"share": share}), arguments)


def _sha_or_stop(arguments: argparse.Namespace) -> None:
    if (arguments.sha is None) != arguments.stop:
        raise WrongUsage("either SHA or --stop is needed")


# -- names, places and waiting


def _table(client: ControlClient) -> str:
    return path("apps", client.app, "releases")


def _one(client: ControlClient, sha: str, *more: str) -> str:
    return path("apps", client.app, "releases", sha, *more)


def _known(client: ControlClient) -> list[str]:
    return [str(release["sha"]) for release in client.get(_table(client))["releases"]]


def _whole_sha(client: ControlClient, prefix: str) -> str:
    """The release that is called `prefix`, or the only one that begins so."""
    return _match(prefix, _known(client))


def _match(prefix: str, known: list[str]) -> str:
    if prefix in known:
        return prefix
    found = [sha for sha in known if sha.startswith(prefix)]
    if len(found) == 1 and prefix:
        return found[0]
    if found:
        raise Failed(f"{prefix!r} is the beginning of several releases: {', '.join(found)}; say more of it")
    raise Failed(f"there is no release {prefix!r}; there are {', '.join(known)} (holdfast release list)")


def _wait_ms(arguments: argparse.Namespace) -> int | None:
    return None if arguments.wait is None else parse_duration(arguments.wait, "--wait")


def _until(
    client: ControlClient,
    sha: str,
    wait_ms: int,
    reached: Callable[[Answer], bool],
    short_of: Callable[[Answer], str],
) -> Answer:
    """Look at the release until `reached`. `Failed` with `short_of` when that takes longer than `wait_ms`."""
    ends = time.monotonic() + wait_ms / 1_000
    while True:
        release = client.get(_one(client, sha))
        if reached(release):
            return release
        if time.monotonic() >= ends:
            raise Failed(f"release {sha}, after {duration(wait_ms)}: {short_of(release)}")
        time.sleep(WAIT_STEP_S)


# -- showing


def _palette() -> Palette:
    return Palette.of(sys.stdout, os.environ)


def _show_table(answer: Answer, arguments: argparse.Namespace) -> int:
    if arguments.json:
        print_json(answer)
    else:
        from edge.commands.release_views import table_text

        print(table_text(answer, _palette(), time.time_ns() // 1_000_000))
    return OK


def _show_release(answer: Answer, arguments: argparse.Namespace) -> int:
    if arguments.json:
        print_json(answer)
    else:
        from edge.commands.release_views import release_text

        print(release_text(answer, _palette(), time.time_ns() // 1_000_000))
    return OK
