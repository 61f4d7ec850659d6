"""Reads settings: a TOML file, then ``HOLDFAST_*`` from the environment, then flags; what comes later wins.

Every wrong setting is reported, not the first only: each with the file and line (or variable, or flag), the
key, the value (never a secret one) and what is allowed. What is accepted is in `edge.config.schema`, the
rules between settings are in `edge.config.crosscheck`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edge.config.crosscheck import contradictions, oddities
from edge.config.groups import (
    ChannelSettings,
    EdgeSettings,
    LimitSettings,
    PoolSettings,
    RouteSettings,
    Secret,
    Settings,
    TimeoutSettings,
)
from edge.config.kinds import Kind, ListOf, SecretValue, Wrong
from edge.config.schema import (
    CHANNEL,
    EDGE,
    FLAGS,
    ROUTE,
    ROUTE_GROUPS,
    TABLES,
    VARIABLES,
    Table,
    kind_of,
)
from edge.config.toml_lines import KeyLines, Path
from edge.config.urls import secrets_in
from edge.errors import ConfigError, ConfigErrors

NO_ROUTE = (
    "give `--backend http://127.0.0.1:8000` to put one backend behind everything, or `--config "
    "holdfast.toml` with at least one [[route]] and its backend"
)
_MISSING = object()


def load(argv_overrides: Mapping[str, object], env: Mapping[str, str], config_path: str | None) -> Settings:
    """All settings, checked. Raises `ConfigErrors` with everything that is wrong.

    `argv_overrides`: dotted key (see `schema.FLAGS`) → text of the flag, or a list of texts for one that may
    be repeated. `env` also answers ``env:NAME`` secrets. Paths are relative to the working directory.
    """
    reading = _Reading(env)
    document = reading.open(config_path) if config_path is not None else {}
    settings = reading.settings(document, argv_overrides)
    reading.compare(settings)
    if reading.errors:
        raise ConfigErrors(reading.errors)
    warnings = (*_strange_variables(env), *oddities(settings, reading.where))
    return replace(settings, sources=reading.sources, warnings=warnings)


def secret_values(settings: Settings) -> tuple[Secret, ...]:
    """Every secret value in `settings`, for the log's mask."""
    found = [*settings.edge.control_tokens, *secrets_in(settings.edge.redis)]
    for route in settings.routes:
        found.extend(route.secrets)
    return tuple(dict.fromkeys(found))


class _Reading:
    """One attempt to load settings: what was found wrong so far, and where each value came from."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.errors: list[ConfigError] = []
        self.sources: dict[str, str] = {}
        self._env = env
        self._file = ""
        self._lines: KeyLines | None = None

    def open(self, config_path: str) -> Mapping[str, Any]:
        """The parsed file; empty, with an error noted, when it cannot be read or is not TOML."""
        self._file = config_path
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
        return self._in_file(_path(key))

    def _in_file(self, path: Path) -> str:
        line = self._lines.line(path) if self._lines else None
        return f"{self._file}:{line}" if line is not None else self._file or "default"

    def compare(self, settings: Settings) -> None:
        """Note contradictions between settings, but for those that rest on a setting already found wrong."""
        wrong = [error.key for error in self.errors]
        for error, rests_on in contradictions(settings, self.where):
            if not any(_touches(key, other) for key in wrong for other in rests_on):
                self.errors.append(error)

    def settings(self, document: Mapping[str, Any], flags: Mapping[str, object]) -> Settings:
        self._refuse_unknown(document, TABLES, ())
        edge = self._table(self._section(document.get("edge", {}), ("edge",)), EDGE, ("edge",))
        routes = [
            self._route(table, ("route", index))
            for index, table in enumerate(self._sections(document.get("route", []), "route"))
        ]
        channels = [
            self._channel(table, ("channel", index))
            for index, table in enumerate(self._sections(document.get("channel", []), "channel"))
        ]
        catch_all: dict[str, tuple[object, str]] = {}
        for key, text, source in _texts(self._env, flags):
            value = self._from_text(key, text, source)
            if value is _MISSING:
                continue
            if key.startswith("edge."):
                edge[key.removeprefix("edge.")] = value
                self.sources[key] = source
            else:
                catch_all[key] = (value, source)
        self._catch_all(routes, catch_all)
        built = self._routes(routes)
        return Settings(EdgeSettings(**edge), built, tuple(ChannelSettings(**fields) for fields in channels))

    def _from_text(self, key: str, text: object, source: str) -> object:
        """The value of a flag or variable, or `_MISSING` with an error noted."""
        kind = kind_of(key)
        try:
            if isinstance(text, str):
                raw = kind.from_text(text)
            else:
                raw = [part for item in _list(text) for part in _list(kind.from_text(item))]
        except Wrong as wrong:
            self.errors.append(ConfigError(source, key, text, wrong.allowed))
            return _MISSING
        return self._read(kind, raw, key, source, given=text)

    def _read(self, kind: Kind, raw: object, key: str, source: str, given: object = None) -> object:
        """The checked value, or `_MISSING` with an error noted for it or for each wrong element of a list."""
        if isinstance(kind, ListOf) and isinstance(raw, list) and len(raw) >= kind.least:
            values = [self._read(kind.item, item, f"{key}[{index}]", source) for index, item in enumerate(raw)]
            return _MISSING if any(value is _MISSING for value in values) else tuple(values)
        try:
            return kind.read(raw, self._env)
        except Wrong as wrong:
            shown = next(value for value in (wrong.shown, given, raw) if value is not None)
            if isinstance(kind, ListOf) and isinstance(kind.item, SecretValue) and wrong.shown is None:
                shown = Secret("")
            self.errors.append(ConfigError(source, key, shown, wrong.allowed))
            return _MISSING

    def _table(self, table: Mapping[str, Any], known: Table, path: Path) -> dict[str, Any]:
        """The fields that are set and right. Unknown ones and wrong ones are noted."""
        fields: dict[str, Any] = {}
        for field, raw in table.items():
            if field not in known:
                continue
            key, source = _dotted((*path, field)), self._in_file((*path, field))
            self.sources[key] = source
            value = self._read(known[field], raw, key, source)
            if value is not _MISSING:
                fields[field] = value
        if path[0] != "route" or len(path) > 2:
            self._refuse_unknown(table, known, path)
        return fields

    def _route(self, table: Mapping[str, Any], path: Path) -> dict[str, Any]:
        fields = self._table(table, ROUTE, path)
        groups: Mapping[str, type] = {
            "limits": LimitSettings,
            "timeouts": TimeoutSettings,
            "pool": PoolSettings,
        }
        for group, shape in groups.items():
            inner = self._section(table.get(group, {}), (*path, group))
            fields[group] = shape(**self._table(inner, ROUTE_GROUPS[group], (*path, group)))
        self._refuse_unknown(table, {**ROUTE, **ROUTE_GROUPS}, path)
        if "backend" not in table:
            fields["backend"] = _MISSING
        return fields

    def _channel(self, table: Mapping[str, Any], path: Path) -> dict[str, Any]:
        fields = self._table(table, CHANNEL, path)
        if "prefix" not in table:
            self._missing(path, "prefix", 'the beginning of the channels\' names; "" for all channels')
        fields.setdefault("prefix", "")
        return fields

    def _catch_all(self, routes: list[dict[str, Any]], given: Mapping[str, tuple[object, str]]) -> None:
        """`--backend` and its variable make, or change, the route that takes everything."""
        if not given:
            return
        places = [(fields.get("host", "*"), fields.get("path", "/")) for fields in routes]
        if ("*", "/") not in places:
            if "backend" not in given:
                source = given["secrets"][1]
                allowed = "it signs for the route of --backend; a route of the file has its own `secrets`"
                self.errors.append(ConfigError(source, "secrets", Secret(""), allowed))
                return
            places.append(("*", "/"))
            routes.append({})
        index = places.index(("*", "/"))
        for key, (value, source) in given.items():
            routes[index][key] = value
            self.sources[f"route[{index}].{key}"] = source

    def _routes(self, routes: Sequence[dict[str, Any]]) -> tuple[RouteSettings, ...]:
        built = []
        for index, fields in enumerate(routes):
            if fields.get("backend") is _MISSING:
                self._missing(("route", index), "backend", "the URL of the backend, such as http://127.0.0.1:8000")
                fields = {**fields, "backend": ""}
            built.append(RouteSettings(**fields))
        if not routes and not self.errors:
            where = self._file or "settings"
            self.errors.append(ConfigError(where, "route", "", NO_ROUTE, problem="is missing"))
        return tuple(built)

    def _missing(self, path: Path, field: str, allowed: str) -> None:
        key = _dotted((*path, field))
        self.errors.append(ConfigError(self._in_file(path), key, "", allowed, problem="is missing"))

    def _section(self, value: object, path: Path) -> Mapping[str, Any]:
        if isinstance(value, dict):
            return value
        self.errors.append(ConfigError(self._in_file(path), _dotted(path), value, "a table of settings"))
        return {}

    def _sections(self, value: object, name: str) -> Sequence[Mapping[str, Any]]:
        if isinstance(value, list):
            return [self._section(table, (name, index)) for index, table in enumerate(value)]
        self.errors.append(ConfigError(self._in_file((name,)), name, value, f"tables, each under {TABLES[name]}"))
        return []

    def _refuse_unknown(self, table: Mapping[str, Any], known: Mapping[str, object], path: Path) -> None:
        for field in table:
            if field in known:
                continue
            key = _dotted((*path, field))
            close = difflib.get_close_matches(field, known, n=1, cutoff=0.5)
            allowed = f"did you mean {_dotted((*path, close[0]))}?" if close else "known are " + ", ".join(known)
            self.errors.append(
                ConfigError(
                    self._in_file((*path, field)),
                    key,
                    table[field],
                    allowed,
                    problem="is not a known setting",
                )
            )


def _texts(env: Mapping[str, str], flags: Mapping[str, object]) -> list[tuple[str, object, str]]:
    """(key, text, source) of variables and flags, those that win last. An empty variable counts as not set,
    as charts and compose files produce them for "no value"."""
    found: list[tuple[str, object, str]] = [
        (key, env[variable], variable) for variable, key in VARIABLES.items() if env.get(variable)
    ]
    found.extend((key, text, FLAGS.get(key, key)) for key, text in flags.items())
    return found


def _touches(wrong: str, key: str) -> bool:
    """`wrong` is `key`, an element of it, or something around it."""
    return wrong == key or wrong.startswith((f"{key}[", f"{key}.")) or key.startswith((f"{wrong}[", f"{wrong}."))


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _dotted(path: Path) -> str:
    """``("route", 0, "limits", "headers")`` → ``route[0].limits.headers``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + part
    return text


def _path(key: str) -> Path:
    """The way back from `_dotted`, for keys of known settings."""
    return tuple(int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", key))


def _strange_variables(env: Mapping[str, str]) -> list[str]:
    """Variables that look like a slip of the pen. Others are left alone: secrets have names of their own, and
    Kubernetes adds HOLDFAST_PORT and the like for a service called holdfast."""
    known = [*VARIABLES, "HOLDFAST_CONFIG"]
    found = []
    for variable in sorted(env):
        if not variable.startswith("HOLDFAST_") or variable in known:
            continue
        close = difflib.get_close_matches(variable, known, n=1, cutoff=0.93)
        if close:
            found.append(f"the environment variable {variable} is not used; did you mean {close[0]}?")
    return found
