"""The command line: ``holdfast serve | check | publish | release | sessions | why | doctor | top | version``.

Owns the flags of settings, their words, and exit codes: 0, 2 for wrong settings or usage, 1 for everything else. It
imports the settings only, and of `edge.commands` the flags; what a command needs beyond that is imported when it runs,
so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge.commands import doctor, publish, reap, release, sessions, top
from edge.commands.parsers import new_command
from edge.config import EdgeSettings, Settings
from edge.config.loader import load
from edge.config.schema import CONFIG_VARIABLE, FLAGS
from edge.errors import ConfigErrors

OK, FAILED, WRONG_SETTINGS = 0, 1, 2

_HELP: Mapping[str, tuple[str, str]] = {
    "edge.listen": ("HOST:PORT", "where clients connect; [v6]:port and :port too, port 0: any free one; repeatable"),
    "edge.control": ("HOST:PORT", "control API, probes and metrics; anything but loopback needs tokens"),
    "backend": ("URL", "put this one backend behind everything (a route with host * and path /)"),
    "secrets": ("SECRET", "sign requests to --backend with it: the secret, env:NAME or file:/path; repeatable"),
    "grip": ("URL", "the same for a backend written for Pushpin: GRIP and WebSocket-over-HTTP"),
    "grip.sig_key": ("KEY", "sign GRIP requests with it: text, base64:…, a PEM key, env:NAME or file:/path"),
    "edge.grip_routes": ("FILE", "a routes file of Pushpin's; it is read again when it changes"),
    "edge.redis": ("URL", "redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://; env:NAME, file:/path"),
    "edge.data_dir": ("DIR", "the embedded Redis and the workers' sockets live here"),
    "edge.workers": ("N", "worker processes; one per core is a good start"),
    "edge.control_tokens": ("TOKEN", "bearer token of the control API: itself, env:NAME or file:/path; repeatable"),
    "edge.max_connections": ("N", "client connections per worker; more get 503"),
    "edge.handshakes_per_s": ("N", "new handshakes a second per worker; more get 503; 0: no limit"),
    "edge.drain_delay_s": (
        "S",
        "seconds between failing readiness and accepting no more, for load balancers to notice",
    ),
    "edge.drain_window_s": ("S", "seconds over which closing the clients is spread"),
    "edge.lease_s": ("S", "seconds without a sign of life after which other edges take over"),
    "edge.trusted_proxies": ("NET", "networks whose X-Forwarded-For and -Proto are believed; repeatable"),
    "edge.log_level": ("LEVEL", "debug, info, warning or error"),
    "edge.log_format": ("FORMAT", "text or json, on stderr"),
    "edge.tls_cert": ("FILE", "certificate chain (PEM), to speak TLS without a proxy in front"),
    "edge.tls_key": ("FILE", "its private key (PEM)"),
}
_REPEATABLE = frozenset(
    {"edge.listen", "secrets", "edge.control_tokens", "edge.trusted_proxies"},
)
_EPILOG = """\
Settings come from the file (--config), then from the environment (HOLDFAST_LISTEN, HOLDFAST_REDIS, … one for each
flag and each key of [edge]; lists separated by commas), then from flags; what comes later wins. Routes with their
limits and timeouts are set in the file. `holdfast check --show` tells where each value came from.

Signals: SIGHUP reads routes, secrets and limits again, and so does a change of the routes file; SIGTERM or SIGINT
goes down politely, a second one hurries, a third one kills. Exit codes: 0, 2 for wrong settings, 1 for any other
failure.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return command(arguments)
    except ConfigErrors as wrong:
        for error in wrong.errors:
            print(f"holdfast: {error}", file=sys.stderr)
        return WRONG_SETTINGS
    except KeyboardInterrupt:
        return FAILED
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in ("edge", "backend_sdk"):
            raise
        print(f"holdfast: {error.name} is not installed: pip install 'holdfast[edge]'", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="holdfast", description="Holds client connections, so that backends need not.", allow_abbrev=False
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    serve = new_command(commands, "serve", "run the edge", epilog=_EPILOG)
    check = new_command(
        commands,
        "check",
        "check the settings without starting",
        "Check the settings as `serve` would, without starting.",
        _EPILOG,
    )
    check.add_argument("--show", action="store_true", help="show every value and where it came from; secrets masked")
    for command in (serve, check):
        _add_settings(command)
    serve.set_defaults(run=_serve)
    check.set_defaults(run=_check)
    for group in (publish, release, reap, sessions, doctor, top):
        group.add_commands(commands)
    version = commands.add_parser("version", help="print the version")
    version.set_defaults(run=_version)
    # For the supervisor only: no help, so it is not listed.
    worker = commands.add_parser("worker")
    worker.add_argument("--link", type=int, required=True)
    worker.set_defaults(run=_worker)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(EdgeSettings)}
    parser.add_argument("--config", metavar="FILE", help=f"settings file (TOML); also {CONFIG_VARIABLE}")
    for key, (metavar, help_text) in _HELP.items():
        default = defaults.get(key.removeprefix("edge."), ()) if key.startswith("edge.") else ()
        shown = ", ".join(default) if isinstance(default, tuple) else f"{default:g}" if _number(default) else default
        if key == "edge.redis":
            shown = "an embedded one in --data"
        parser.add_argument(
            FLAGS[key],
            dest=key,
            metavar=metavar,
            action="append" if key in _REPEATABLE else "store",
            default=argparse.SUPPRESS,
            help=help_text.replace("%", "%%") + (f" (default: {shown})" if shown not in ("", ()) else ""),
        )


def _number(value: object) -> bool:
    return isinstance(value, int | float)


def _loader(arguments: argparse.Namespace) -> Callable[[], Settings]:
    """Reads the settings anew at each call, from the file as it is then."""
    flags = {key: value for key, value in vars(arguments).items() if key in FLAGS}
    config = arguments.config or os.environ.get(CONFIG_VARIABLE) or None
    return functools.partial(load, flags, dict(os.environ), config)


def _serve(arguments: argparse.Namespace) -> int:
    read = _loader(arguments)
    settings = read()
    from edge.lifecycle.supervisor import Program, RedisServer, supervise

    redis: RedisServer | None = None
    if not settings.edge.redis:
        from edge.store.embedded import EmbeddedRedis

        redis = EmbeddedRedis(settings.edge.data_dir)
    return supervise(Program(settings, _worker_command, read, redis))


def _worker_command(link: int) -> Sequence[str]:
    """The program of a worker, started afresh: no state of the supervisor is forked into it."""
    # Without -P a folder called `edge` in the working directory would be imported instead of us.
    ours = Path(__file__).resolve().parent.parent
    safe = [] if ours == Path.cwd() else ["-P"]
    return [sys.executable, *safe, "-m", "edge", "worker", "--link", str(link)]


def _worker(arguments: argparse.Namespace) -> int:
    from edge.app import build
    from edge.lifecycle.worker import run_worker

    return run_worker(build, arguments.link)


def _check(arguments: argparse.Namespace) -> int:
    settings = _loader(arguments)()
    for warning in settings.warnings:
        print(f"holdfast: warning: {warning}", file=sys.stderr)
    if arguments.show:
        from edge.commands.settings_text import settings_lines

        lines = list(settings_lines(settings))
        width = max(len(line) for line, _ in lines)
        for line, source in lines:
            print(f"{line:<{width}}  # {source}" if source else line)
    else:
        count = len(settings.routes)
        print(f"the settings are fine: {count} route{'s' if count != 1 else ''}")
    return OK


def _version(_: argparse.Namespace) -> int:
    from importlib.metadata import version

    print(f"holdfast {version('holdfast')}")
    return OK
