"""Where in a TOML file a key stands. `tomllib` gives values without positions; errors should name a line.

Only for text that `tomllib` has accepted: then it is enough to follow headers, keys, strings and brackets.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping

Path = tuple[str | int, ...]
_KEY_PART = re.compile(r"""\s*("(?:\\.|[^"\\])*"|'[^']*'|[A-Za-z0-9_-]+)\s*""")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|' + r"'''.*?'{3,5}|" + r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'",
    re.DOTALL,
)


class KeyLines:
    """Line numbers by path; arrays of tables count from 0: ``("route", 1, "limits", "headers")``."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}
        self._scan()

    def line(self, path: Path) -> int | None:
        """The line where `path` is set, or else that of the nearest table around it; None: nowhere."""
        for length in range(len(path), 0, -1):
            found = self._lines.get(path[:length])
            if found is not None:
                return found
        return None

    def _scan(self) -> None:
        table: Path = ()
        while self._skip_space():
            line = self._text.count("\n", 0, self._at) + 1
            if self._text.startswith("[[", self._at):
                self._at += 2
                table = self._append(self._resolve(self._dotted()))
            elif self._text.startswith("[", self._at):
                self._at += 1
                table = self._resolve(self._dotted(), last=True)
            else:
                path = table + self._dotted()
                self._note(path, line, since=len(table))
                self._skip_value()
                continue
            self._note(table, line, since=0)
            self._skip_value()

    def _note(self, path: Path, line: int, since: int) -> None:
        for length in range(since + 1, len(path) + 1):
            self._lines.setdefault(path[:length], line)

    def _append(self, array: Path) -> Path:
        index = self._counts.get(array, -1) + 1
        self._counts[array] = index
        return (*array, index)

    def _resolve(self, names: Path, *, last: bool = False) -> Path:
        """A header's names with the index of the newest element put in behind each array of tables in it."""
        path: Path = ()
        for position, part in enumerate(names):
            path = (*path, part)
            if path in self._counts and (last or position < len(names) - 1):
                path = (*path, self._counts[path])
        return path

    def _dotted(self) -> Path:
        parts: list[str | int] = []
        while match := _KEY_PART.match(self._text, self._at):
            parts.append(_unquote(match[1]))
            self._at = match.end()
            if not self._text.startswith(".", self._at):
                break
            self._at += 1
        return tuple(parts)

    def _skip_space(self) -> bool:
        """Past white space and comments; False at the end of the text."""
        match = re.compile(r"(?:\s+|#[^\n]*)*").match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._at < len(self._text)

    def _skip_value(self) -> None:
        """Past the rest of a statement: to the first line end outside strings, comments and brackets."""
        depth = 0
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in "\"'" and (match := _STRING.match(self._text, self._at)):
                self._at = match.end()
                continue
            if char == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
                continue
            self._at += 1
            if char in "[{":
                depth += 1
            elif char in "]}":
                depth -= 1
            elif char == "\n" and depth <= 0:
                return


def _unquote(part: str) -> str:
    if part[0] not in "\"'":
        return part
    parsed: Mapping[str, object] = tomllib.loads(f"{part} = 0")
    return next(iter(parsed))
