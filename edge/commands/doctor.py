"""``holdfast doctor URL``: talks to a backend as an edge would, and says in sentences what is wrong with its answers.

Owns the course of the examination and what it prints. One request and what is to be said of its answer is
`edge.commands.examination`'s.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from edge.commands.control_client import FAILED, OK, guarded, print_json
from edge.commands.parsers import new_command
from edge.commands.refusals import WrongUsage
from edge.commands.terminal import Palette, parse_duration, printable

if TYPE_CHECKING:
    from edge.commands.ailments import Finding
    from edge.commands.examination import Patient
    from edge.commands.parsers import Commands

SECRETS_VARIABLE = "HOLDFAST_SECRETS"  # the name of a variable
_EPILOG = """\
The backend is sent what an edge would send it: a handshake (`open`), a message and the end (`close`), once in JSON and
once in msgpack, on one connection. With a secret it is also sent handshakes without a signature, with a wrong one, and
with an old one, which it must refuse. Every session that it has accepted is ended again: nothing is left behind, but
for what the backend's own code did meanwhile.

Exit codes: 0 it can stand behind an edge, 1 something is wrong, 2 wrong usage.
"""


def add_commands(commands: Commands) -> None:
    """``doctor``."""
    parser = new_command(
        commands, "doctor", "examine a backend: can it stand behind an edge, and if not, why", epilog=_EPILOG
    )
    parser.add_argument("url", metavar="URL", help="what events are POSTed to: the backend and its callback_path")
    parser.add_argument(
        "--secret",
        metavar="SECRET",
        action="append",
        help=f"sign with it: the secret, env:NAME or file:/path; repeatable (default: ${SECRETS_VARIABLE})",
    )
    parser.add_argument("--path", metavar="PATH", default="/", help="path of the handshake, with query (default: /)")
    parser.add_argument(
        "-H", "--header", metavar="'K: V'", action="append", default=[], help="header of the handshake; repeatable"
    )
    parser.add_argument("--subprotocol", metavar="NAME", action="append", default=[], help="offered; repeatable")
    parser.add_argument("--grip", action="store_true", help="it was written for Pushpin: WebSocket-over-HTTP with GRIP")
    parser.add_argument(
        "--sig-key", metavar="KEY", help="with --grip, sign with it: text, base64:…, env:NAME, file:/path"
    )
    parser.add_argument("--message", metavar="TEXT", default="hello", help="the message (default: hello)")
    parser.add_argument("--release", metavar="SHA", default="doctor", help="the release it is told it is")
    parser.add_argument("--timeout", metavar="TIME", default="10s", help="for each answer (default: 10s, as edges)")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.set_defaults(run=run)


@guarded
def run(arguments: argparse.Namespace) -> int:
    findings: list[Finding] = []
    palette = Palette.of(sys.stdout, os.environ)
    for finding in _found(arguments):
        findings.append(finding)
        if not arguments.json:
            print(_text(finding, palette), flush=True)
    return _conclude(arguments, findings, palette)


def _found(arguments: argparse.Namespace) -> Iterator[Finding]:
    headers = [_header(text) for text in arguments.header]
    timeout_s = parse_duration(arguments.timeout, "--timeout") / 1_000
    if arguments.grip:
        from edge.commands.grip_examination import GripPatient

        key = _followed(arguments.sig_key, "--sig-key") if arguments.sig_key else ""
        with GripPatient.of(arguments.url, key=key, headers=headers, timeout_s=timeout_s) as old_hand:
            yield from old_hand.examine(arguments.message)
        return
    from edge.commands.examination import Patient

    patient = Patient.of(
        arguments.url,
        secrets=_secrets(arguments),
        handshake=arguments.path,
        headers=headers,
        subprotocols=arguments.subprotocol,
        release=arguments.release,
        timeout_s=timeout_s,
    )
    with patient:
        yield from _examine(patient, arguments.message)


def _examine(patient: Patient, message: str) -> Iterator[Finding]:
    """Everything there is to find, in an order in which the first thing is the one to mend first."""
    for encoding in ("json", "msgpack"):
        visit = patient.visit(encoding)
        try:
            yield visit.open()
            if visit.accepted:
                yield visit.message(message)
        finally:
            ending = visit.close()
        if patient.hopeless:
            return  # what else went wrong went wrong for the same reason
        if ending is not None:
            yield ending
    yield patient.kept_alive()
    if patient.secrets:
        yield from patient.forgeries()
    else:
        yield patient.unsigned()


def _conclude(arguments: argparse.Namespace, findings: Sequence[Finding], palette: Palette) -> int:
    wrong = [finding for finding in findings if finding.grade == "wrong"]
    if arguments.json:
        print_json(
            {
                "url": arguments.url,
                "healthy": not wrong,
                "findings": [{"grade": f.grade, "what": f.what, "said": f.said, "advice": f.advice} for f in findings],
            }
        )
    elif wrong:
        print(palette.bad(f"{len(wrong)} of {len(findings)} are wrong: this backend cannot stand behind an edge yet."))
    else:
        print(palette.good("This backend can stand behind an edge."))
    return FAILED if wrong else OK


def _text(finding: Finding, palette: Palette) -> str:
    mark = {"good": palette.good("✓"), "odd": palette.odd("!"), "wrong": palette.bad("✗")}[finding.grade]
    advice = f"\n    → {printable(finding.advice)}" if finding.advice else ""
    return f"{mark} {finding.what}: {printable(finding.said)}{advice}"


def _header(text: str) -> tuple[str, str]:
    name, found, value = text.partition(":")
    if not found or not name.strip():
        raise WrongUsage(f"-H 'K: V' is needed, not {text!r}")
    return name.strip(), value.strip()


def _secrets(arguments: argparse.Namespace) -> list[bytes]:
    given = arguments.secret
    if given is None:
        given = [part.strip() for part in os.environ.get(SECRETS_VARIABLE, "").split(",") if part.strip()]
    secrets = [_followed(text, "--secret").encode() for text in given]
    if not all(secrets):
        raise WrongUsage("--secret: a secret that is not empty is needed")
    return secrets


def _followed(text: str, flag: str) -> str:
    """A secret: itself, ``env:NAME`` or ``file:/path``."""
    from edge.config.kinds import Wrong, dereference

    try:
        return dereference(text, os.environ)
    except Wrong as error:
        raise WrongUsage(f"{flag}: {error.allowed}") from None
