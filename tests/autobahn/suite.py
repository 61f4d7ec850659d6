"""The Autobahn test suite, as a function: where it gets its Python 2.7 from, how it is run, what it found.

    results = run_suite("ws://127.0.0.1:7999/", SHORT)          # any WebSocket echo
    print(show(results)); assert not failed(results)

The suite needs Python 2.7. Where an interpreter is found (PATH, or pyenv), it is installed once into
``.venv-autobahn/`` in the project's folder.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv-autobahn"
SUITE = "autobahntestsuite==0.8.2"
VIRTUALENV = "virtualenv==20.15.1"
"""The last one that runs under Python 2.7, and makes environments for it."""

PROTOCOL = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*")
"""Everything of RFC 6455, sizes and speeds up to 16 MiB included: half a minute."""
COMPRESSION_SHORT = (
    *(f"12.{group}.{case}" for group in range(1, 6) for case in range(1, 6)),
    *(f"13.{group}.{case}" for group in range(1, 8) for case in range(1, 3)),
)
"""Every kind of content and every offer of RFC 7692, with small messages: half a minute."""
COMPRESSION_LONG = ("12.*", "13.*")
"""Every case, up to 128 KiB a message, 1,000 messages each: many minutes."""

PASSED = frozenset({"OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED"})


class NoPython27(Exception):
    """There is no Python 2.7 on this machine, or it could not be furnished; the message says which."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """`behavior` is about the messages, `behavior_close` about the end; both as the suite names them."""

    case: str
    behavior: str
    behavior_close: str

    @property
    def passed(self) -> bool:
        return self.behavior in PASSED and self.behavior_close in PASSED

    @property
    def plain(self) -> bool:
        return self.behavior == "OK" and self.behavior_close == "OK"


def find_python27() -> str:
    """An interpreter that really runs (pyenv's shims are there even when no version is chosen)."""
    pyenv = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    candidates = [shutil.which("python2.7"), *sorted(glob.glob(f"{pyenv}/versions/2.7*/bin/python"))]
    for candidate in candidates:
        if candidate and subprocess.run([candidate, "-c", "0"], capture_output=True).returncode == 0:
            return candidate
    raise NoPython27("no Python 2.7 found on PATH or in pyenv: the Autobahn suite needs one (pyenv install 2.7.18)")


def furnish() -> Path:
    """The suite's program, installed if it is not yet, by one process at a time. Raises NoPython27."""
    with open(__file__, "rb") as turnstile:  # freed when it is closed
        fcntl.flock(turnstile, fcntl.LOCK_EX)
        return _furnish()


def _furnish() -> Path:
    wstest = VENV / "bin" / "wstest"
    marker = VENV / f"{SUITE}.installed"
    if marker.exists():
        return wstest
    python = find_python27()
    shutil.rmtree(VENV, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        quiet = ["-q", "--disable-pip-version-check"]
        _run([python, "-m", "pip", "install", *quiet, "--target", folder, VIRTUALENV])
        _run([python, "-m", "virtualenv", "-q", str(VENV)], PYTHONPATH=folder)
    _run([str(VENV / "bin" / "python"), "-m", "pip", "install", *quiet, SUITE])
    marker.touch()
    return wstest


def _run(command: Sequence[str], **environment: str) -> None:
    done = subprocess.run(
        command, env={**os.environ, "PYTHONWARNINGS": "ignore", **environment}, capture_output=True, text=True
    )
    if done.returncode:
        raise NoPython27(f"{' '.join(command)} failed: {done.stderr.strip()[-400:]}")


def run_suite(url: str, cases: Sequence[str], *, timeout_s: float = 240.0) -> list[CaseResult]:
    """Run `cases` (the suite's own patterns) against the echo at `url`. Raises NoPython27; TimeoutExpired."""
    wstest = furnish()
    with tempfile.TemporaryDirectory() as folder:
        spec = {
            "outdir": folder,
            "servers": [{"agent": "edge", "url": url}],
            "cases": list(cases),
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        spec_file = Path(folder, "spec.json")
        spec_file.write_text(json.dumps(spec))
        command = [str(VENV / "bin" / "python"), "-W", "ignore", str(wstest)]
        done = subprocess.run(
            [*command, "--mode", "fuzzingclient", "--spec", str(spec_file)],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        index = Path(folder, "index.json")
        if not index.exists():
            raise AssertionError(f"the suite wrote no report: {done.stdout[-500:]} {done.stderr[-1500:]}")
        report = json.loads(index.read_text()).get("edge", {})
    return [CaseResult(case, found["behavior"], found["behaviorClose"]) for case, found in sorted(report.items())]


def failed(results: Sequence[CaseResult]) -> list[CaseResult]:
    """The cases that are worse than non-strict."""
    return [result for result in results if not result.passed]


def show(results: Sequence[CaseResult]) -> str:
    """How many cases ended how, and each that did not end plainly OK."""
    counts = Counter(result.behavior for result in results)
    lines = [f"Autobahn: {len(results)} cases: " + ", ".join(f"{n} {name}" for name, n in counts.most_common())]
    lines += [f"  {r.case}: {r.behavior}, close {r.behavior_close}" for r in results if not r.plain]
    return "\n".join(lines)
