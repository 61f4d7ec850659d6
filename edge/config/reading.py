"""Reads tables of settings as their schema says, and notes for each what is wrong and where it came from.

Owns errors, sources and line numbers of one attempt to load settings. Which tables there are, and what they are built
into, is `edge.config.loader`'s.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from edge.config.groups import Secret
from edge.config.kinds import Kind, ListOf, SecretValue, Wrong
from edge.config.schema import TABLES, Table, kind_of
from edge.config.toml_lines import KeyLines, Path
from edge.errors import ConfigError

MISSING = object()
"""In the place of a value that is not there, or that was refused with an error noted."""


class Reading:
    """One attempt to load settings: what was found wrong so far, and where each value came from."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.errors: list[ConfigError] = []
        self.sources: dict[str, str] = {}
        self.file = ""
        self.variables: set[str] = set()
        """Named by ``env:NAME``."""
        self._env = env
        self._lines: KeyLines | None = None

    def open(self, config_path: str) -> Mapping[str, Any]:
        """The parsed file; empty, with an error noted, when it cannot be read or is not TOML."""
        self.file = config_path
        try:
            with open(config_path, "rb") as file:
                text = file.read().decode("utf-8")
            document = tomllib.loads(text)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            self.errors.append(ConfigError(config_path, "--config", config_path, reason, problem="cannot be read"))
        except UnicodeDecodeError:
            self.errors.append(ConfigError(config_path, "file", "", "it must be UTF-8 text", problem="is not TOML"))
        except tomllib.TOMLDecodeError as error:
            self.errors.append(ConfigError(config_path, "file", "", str(error), problem="is not TOML"))
        else:
            # TOML takes \r\n for a line end too; the scanner need only know \n.
            self._lines = KeyLines(text.replace("\r\n", "\n"))
            return document
        return {}

    def where(self, key: str) -> str:
        """Where the value of a dotted key came from; for a default, where the table around it is."""
        if key in self.sources:
            return self.sources[key]
        route = key[: key.find("]") + 1]
        if route in self.sources:  # the whole route comes from one line of a routes file, or from a flag
            return self.sources[route]
        return self._in_file(_path(key))

    def _in_file(self, path: Path) -> str:
        line = self._lines.line(path) if self._lines else None
        return f"{self.file}:{line}" if line is not None else self.file or "default"

    def from_text(self, key: str, text: object, source: str) -> object:
        """The value of a flag or variable, or `MISSING` with an error noted."""
        kind = kind_of(key)
        try:
            if isinstance(text, str):
                raw = kind.from_text(text)
            else:
                raw = [part for item in _list(text) for part in _list(kind.from_text(item))]
        except Wrong as wrong:
            self.errors.append(ConfigError(source, key, text, wrong.allowed))
            return MISSING
        return self.read(kind, raw, key, source, given=text)

    def read(self, kind: Kind, raw: object, key: str, source: str, given: object = None) -> object:
        """The checked value, or `MISSING` with an error noted for it or for each wrong element of a list."""
        if isinstance(kind, ListOf) and isinstance(raw, list) and len(raw) >= kind.least:
            values = [self.read(kind.item, item, f"{key}[{index}]", source) for index, item in enumerate(raw)]
            return MISSING if any(value is MISSING for value in values) else tuple(values)
        if isinstance(raw, str) and raw.startswith("env:"):
            self.variables.add(raw.removeprefix("env:"))
        try:
            return kind.read(raw, self._env)
        except Wrong as wrong:
            shown = next(value for value in (wrong.shown, given, raw) if value is not None)
            if isinstance(kind, ListOf) and isinstance(kind.item, SecretValue) and wrong.shown is None:
                shown = Secret("")
            self.errors.append(ConfigError(source, key, shown, wrong.allowed))
            return MISSING

    def table(self, table: Mapping[str, Any], known: Table, path: Path, *, closed: bool = True) -> dict[str, Any]:
        """The fields that are set and right. Wrong ones are noted, and unknown ones when the table is `closed`."""
        fields: dict[str, Any] = {}
        for field, raw in table.items():
            if field not in known:
                continue
            key, source = dotted((*path, field)), self._in_file((*path, field))
            self.sources[key] = source
            value = self.read(known[field], raw, key, source)
            if value is not MISSING:
                fields[field] = value
        if closed:
            self.refuse_unknown(table, known, path)
        return fields

    def missing(self, path: Path, field: str, allowed: str) -> None:
        key = dotted((*path, field))
        self.errors.append(ConfigError(self._in_file(path), key, "", allowed, problem="is missing"))

    def section(self, value: object, path: Path) -> Mapping[str, Any]:
        """A table; empty, with an error noted, for anything else."""
        if isinstance(value, dict):
            return value
        self.errors.append(ConfigError(self._in_file(path), dotted(path), value, "a table of settings"))
        return {}

    def sections(self, value: object, path: Path) -> Sequence[tuple[Mapping[str, Any], Path]]:
        """The tables of an array of tables, with their paths."""
        if isinstance(value, list):
            return [(self.section(table, (*path, index)), (*path, index)) for index, table in enumerate(value)]
        header = TABLES[".".join(part for part in path if isinstance(part, str))]
        self.errors.append(ConfigError(self._in_file(path), dotted(path), value, f"tables, each under {header}"))
        return []

    def refuse_unknown(self, table: Mapping[str, Any], known: Mapping[str, object], path: Path) -> None:
        for field in table:
            if field in known:
                continue
            key = dotted((*path, field))
            close = difflib.get_close_matches(field, known, n=1, cutoff=0.5)
            allowed = f"did you mean {dotted((*path, close[0]))}?" if close else "known are " + ", ".join(known)
            source = self._in_file((*path, field))
            self.errors.append(ConfigError(source, key, table[field], allowed, problem="is not a known setting"))


def dotted(path: Path) -> str:
    """``("route", 0, "limits", "headers")`` → ``route[0].limits.headers``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + part
    return text


def _path(key: str) -> Path:
    """The way back from `dotted`, for keys of known settings."""
    return tuple(int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", key))


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
