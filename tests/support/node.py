"""Node programs with packages from npm, as processes of a test."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support.needs import needs_program
from tests.support.ports import LOOPBACK, accepts, free_port
from tests.support.processes import Managed
from tests.support.waiting import wait_until

_INSTALLED = Path(__file__).resolve().parents[2] / ".node"
"""Ignored by git. One folder for each state of a program's files, kept over test runs."""
_INSTALL_S = 240


class NodeBackend(Managed):
    """``node app.js PORT`` from the folder `source`, which has a package.json and a package-lock.json."""

    def __init__(
        self, folder: Path, source: Path, *, port: int | None = None, environment: Mapping[str, str] | None = None,
        name: str = "node",
    ) -> None:  # fmt: skip
        super().__init__(name, folder, environment)
        self.port = port or free_port()
        self._source = source

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    async def start(self) -> None:
        node = needs_program("node", "the application to run (Debian: nodejs)")
        program = await asyncio.to_thread(_installed, self._source)
        self.spawn([node, str(program / "app.js"), str(self.port)])

        def listening() -> bool:
            self.check_running()
            return accepts(self.port)

        await wait_until(listening, f"{self.name} accepts connections")


def _installed(source: Path) -> Path:
    """A copy of `source` with its dependencies beside it: Node looks for them only there."""
    npm = needs_program("npm", "the package manager of the application (Debian: npm)")
    files = sorted(path for path in source.iterdir() if path.is_file())
    state = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    folder = _INSTALLED / state
    _INSTALLED.mkdir(exist_ok=True)
    with (_INSTALLED / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may want it at once
        if folder.exists():
            return folder
        unfinished = _INSTALLED / f"{state}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for path in files:
            shutil.copy(path, unfinished)
        done = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund"],
            cwd=unfinished, env={**os.environ, "CI": "true"}, capture_output=True, text=True, timeout=_INSTALL_S,
        )  # fmt: skip
        assert done.returncode == 0, f"npm ci failed:\n{done.stdout}\n{done.stderr}"
        unfinished.rename(folder)
        return folder
