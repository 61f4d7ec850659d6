"""Notices that a file says something else, by looking at it now and then: no library, and it works on every file
system, for editors that put a new file in the old one's place, and for symbolic links that are pointed elsewhere
(Kubernetes' ConfigMaps).
"""

from __future__ import annotations

import os

Print = tuple[int, int, int, int]


class WatchedFile:
    """One file, maybe not there. It is taken for changed when it looks different than it was when it was last taken,
    and the same in two looks: who writes in several steps shall be done first."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._taken: Print | str | None = None
        self._last: Print | str | None = None

    def look(self) -> bool:
        """Whether it has changed; True for each change once, and at the second look, as nobody knows what it was."""
        now = _look_of(self.path)
        settled, self._last = now == self._last, now
        if not settled or now == self._taken:
            return False
        self._taken = now
        return True

    @property
    def trouble(self) -> str:
        """Why it cannot be looked at, in words; empty: it can."""
        return self._taken if isinstance(self._taken, str) else ""


def _look_of(path: str) -> Print | str:
    """What tells one content from another, or why there is none."""
    try:
        found = os.stat(path)
    except OSError as error:
        return error.strerror or type(error).__name__
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev
