"""A journal that survives SIGKILL: what a backend process noted before it died can be read afterwards."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

VARIABLE = "TEST_JOURNAL"
"""Environment variable through which `Backend` tells its process where the journal is."""


class Journal:
    """An append-only file of JSON lines, shared by any number of processes.

    A note is one `write` on an O_APPEND descriptor: it is in the file whole or not at all, and once `note`
    has returned no signal can take it back.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    @classmethod
    def from_environment(cls) -> Journal:
        """In a backend process: the journal its test reads."""
        return cls(os.environ[VARIABLE])

    def note(self, **entry: Any) -> None:
        """Append one entry."""
        os.write(self._fd, json.dumps(entry).encode() + b"\n")

    def entries(self) -> list[dict[str, Any]]:
        """Everything noted so far, in order."""
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]

    def close(self) -> None:
        os.close(self._fd)
