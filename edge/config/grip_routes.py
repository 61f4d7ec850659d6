"""Pushpin's routes file: each rule becomes the `RouteSettings` that would say the same in TOML.

Owns what the words of such a file mean (their syntax is in `edge.config.routes_file`), which of them are not for
Holdfast, and what to do instead. All that is wrong with a file is reported at once, each with its line.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge.config.grip_kinds import HEADER_LINE, HOST_HEADER, check_signing_key
from edge.config.groups import (
    GRIP_DEFAULTS,
    TEST_BACKEND,
    GripRouteSettings,
    LimitSettings,
    RouteSettings,
    Secret,
    TargetSettings,
    TimeoutSettings,
)
from edge.config.kinds import FILE, HIDDEN, ROUTE_ID, Kind, Number, Wrong
from edge.config.routes_file import LineError, Section, parse_line
from edge.config.urls import BACKEND, CALLBACK_PATH, ROUTE_HOST, ROUTE_PATH
from edge.errors import ConfigError

APP = "grip-routes"
"""The app of all routes of a file. Their releases are named after their first targets."""

_JSONP = "JSON-P is not made here: let the backend answer CORS requests instead"
_SOCKJS = "SockJS is not spoken here: let clients use WebSockets, or take streams where those do not pass"
CONDITION_REFUSED: Mapping[str, str] = {
    "aco": "answer CORS requests in the backend, or add the headers in a proxy before the edge",
    **dict.fromkeys(("jsonp_mode", "jsonp_cb", "jsonp_body", "jsonp_defcb", "jsonp_defmethod"), _JSONP),
    "sockjs": _SOCKJS,
    "sockjs_as_path": _SOCKJS,
    "session": "there is no service for logical sessions: use Grip-Channel with prev-id and a next link to recover",
    "orig_headers": "headers renamed by a proxy before the edge have to be named back there",
    "no_grip": "all routes of this file speak GRIP: let a proxy before the edge take this one to its backend",
}
"""Options of a condition that would change what clients or backends see, and what to do instead."""
CONDITION_IGNORED: Mapping[str, str] = {
    "log_level": "the level of the log is that of the process, edge.log_level",
}
"""Options of a condition that change nothing that clients or backends see."""
CONDITION_KNOWN = (
    "proto", "ssl", "path_beg", "id", "path_rem", "replace_beg", "as_host", "sig_iss", "sig_key", "prefix", "header",
    "debug",
)  # fmt: skip
TARGET_IGNORED: Mapping[str, str] = {
    "untrusted": "there is no list of denied addresses; where the backend may be, the network's rules say",
    "ipc_file_mode": "it is about ZeroMQ backends",
}
TARGET_KNOWN = (
    "ssl", "insecure", "trust_connect_host", "client_cert", "client_key", "host", "over_http", "one_event", "sub",
)  # fmt: skip
_REPEATABLE = ("header", "sub")
_ZHTTP = "ZeroMQ backends are not called: give the backend an HTTP port, and write host:port"
_NO_SOCKETS = (
    "no target has over_http, and the edge does not speak WebSocket to backends: add over_http to targets that "
    "understand WebSocket-over-HTTP"
)


@dataclass(slots=True)
class GripRoutes:
    """What a routes file says. `lines` and `given` (names of settings that were not left to their defaults) are by
    route."""

    routes: list[RouteSettings] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    given: list[Sequence[str]] = field(default_factory=list)
    errors: list[ConfigError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Rule:
    """A line that was understood."""

    line: int
    route: RouteSettings
    given: Sequence[str]
    anywhere: bool
    """It has no path_beg."""


def read_grip_routes(path: str, sig_key: Secret, sig_iss: str) -> GripRoutes:
    """The routes of the file at `path`. `sig_key` and `sig_iss` are for those that have none of their own."""
    found = GripRoutes()
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        found.errors.append(ConfigError(path, "routes file", "", reason, problem="cannot be read"))
        return found
    except UnicodeDecodeError:
        found.errors.append(ConfigError(path, "routes file", "", "it must be UTF-8 text", problem="cannot be read"))
        return found
    signing = GripRouteSettings(sig_key=sig_key, sig_iss=sig_iss)
    rules = []
    for number, line in enumerate(text.split("\n"), 1):
        reader = _LineReader(path, number, found)
        rule = reader.rule(line.rstrip("\r"), signing)
        if rule is not None:
            rules.append(rule)
    for rule in _reachable(rules, path, found):
        found.routes.append(rule.route)
        found.lines.append(rule.line)
        found.given.append(rule.given)
    _warn_of_sockets(path, found)
    return found


def _reachable(rules: Sequence[_Rule], path: str, found: GripRoutes) -> list[_Rule]:
    """`rules` without those that never get a request. Two that ask for the same are an error."""
    kept: dict[tuple[str, ...], _Rule] = {}
    for rule in rules:
        twin = kept.setdefault(rule.route.claim, rule)
        if twin is rule:
            continue
        if twin.anywhere == rule.anywhere:
            allowed = f"line {twin.line} takes the same requests: remove one of them, or tell them apart"
            error = ConfigError(f"{path}:{rule.line}", "condition", "", allowed, problem="is there twice")
            found.errors.append(error)
            continue
        # path_beg=/ is longer than no path_beg, so it gets every request.
        idle, busy = (twin, rule) if twin.anywhere else (rule, twin)
        kept[rule.route.claim] = busy
        found.warnings.append(
            f"{path}:{idle.line}: this route gets no requests: line {busy.line} with path_beg=/ takes them all"
        )
    return list(kept.values())


def _warn_of_sockets(path: str, found: GripRoutes) -> None:
    plain = [
        str(line)
        for line, route in zip(found.lines, found.routes, strict=True)
        if route.scheme == "" and not any(target.over_http for target in route.targets)
    ]
    if plain:
        lines = f"line {plain[0]}" if len(plain) == 1 else f"lines {', '.join(plain)}"
        found.warnings.append(
            f"{path}: {lines}: WebSocket handshakes are refused: {_NO_SOCKETS}, or say proto=http if there are none"
        )


def _release(url: str) -> str:
    """A name for the release at `url`: another one for each URL."""
    return re.sub("[^A-Za-z0-9._-]", "_", re.sub(r"[\[\]]", "", url.replace("://", "-")))


class _LineReader:
    """Reads one line; what is wrong or not used is noted in `found`."""

    def __init__(self, path: str, number: int, found: GripRoutes) -> None:
        self._folder = os.path.dirname(path)
        self._line = number
        self._source = f"{path}:{number}"
        self._found = found
        self._wrong = False

    def rule(self, text: str, signing: GripRouteSettings) -> _Rule | None:
        """None: an empty line, or one that is no route; why was noted."""
        try:
            sections = parse_line(text)
        except LineError as error:
            self._refuse("line", str(error), "cannot be read")
            return None
        if not sections:
            return None
        condition, *places = sections
        if not places:
            self._refuse("target", "after the condition comes at least one host:port", "is missing")
            return None
        options = self._options(condition, CONDITION_KNOWN, CONDITION_REFUSED, CONDITION_IGNORED)
        targets = [self._target(place) for place in places]
        if not condition.value:
            if "id" in options and not self._wrong:
                self._warn("a condition without domain gets no requests; write * for any domain")
                return None
            self._refuse("domain", "a host name, or * for any", "is missing")
            return None
        fields = self._condition(condition.value, options)
        grip = self._grip(options, fields.get("path", ""), signing)
        if self._wrong:
            return None
        fields["targets"] = tuple(target for target in targets if target is not None)
        if fields.get("scheme") == "ws" and not any(target.over_http for target in fields["targets"]):
            self._refuse("over_http", _NO_SOCKETS, "is missing")
            return None
        return self._built(fields, grip, signing)

    def _built(self, fields: dict[str, Any], grip: Mapping[str, Any], signing: GripRouteSettings) -> _Rule:
        backend = fields["targets"][0].url
        route = RouteSettings(
            app=APP,
            protocol="grip",
            whole_segments=False,
            backend=backend,
            release=_release(backend),
            limits=LimitSettings(**GRIP_DEFAULTS["limits"]),  # type: ignore[arg-type]
            timeouts=TimeoutSettings(**GRIP_DEFAULTS["timeouts"]),
            grip=GripRouteSettings(**{"sig_key": signing.sig_key, "sig_iss": signing.sig_iss, **grip}),
            **fields,
        )
        given = ["app", "protocol", "whole_segments", "release", *fields, *(f"grip.{name}" for name in grip)]
        given += [f"target[{at}].url" for at in range(len(route.targets))]
        return _Rule(self._line, route, given, "path" not in fields)

    def _condition(self, domain: str, options: Mapping[str, list[str]]) -> dict[str, Any]:
        """Fields of the route that say which requests it takes."""
        fields: dict[str, Any] = {"host": self._read(ROUTE_HOST, "domain", domain)}
        for name, key, words in (("proto", "scheme", ("http", "ws")), ("ssl", "tls", ("yes", "no"))):
            if name in options:
                fields[key] = self._word(name, options[name][-1], words)
        if "path_beg" in options:
            fields["path"] = self._read(ROUTE_PATH, "path_beg", options["path_beg"][-1])
        if options.get("id", [""])[-1]:
            fields["id"] = self._read(ROUTE_ID, "id", options["id"][-1])
        return fields

    def _grip(self, options: Mapping[str, list[str]], path: str | None, signing: GripRouteSettings) -> dict[str, Any]:
        """Fields of ``[route.grip]``. `path`: the rule's path_beg, or empty."""
        grip: dict[str, Any] = {}
        if "path_rem" in options:
            grip["path_remove"] = self._number("path_rem", options["path_rem"][-1])
        if "replace_beg" in options:
            grip.pop("path_remove", None)  # it is about the same characters, and wins
            put = self._read(CALLBACK_PATH, "replace_beg", options["replace_beg"][-1])
            if not put:
                grip["path_remove"] = len(path or "")
            else:
                # Without path_beg it is put before the whole path, whose slash is the route's.
                grip["path_replace"] = put if path else f"{put}/"
        if options.get("as_host", [""])[-1]:
            grip["host"] = self._read(HOST_HEADER, "as_host", options["as_host"][-1])
        if options.get("sig_iss", [""])[-1]:
            grip["sig_iss"] = options["sig_iss"][-1]
        if options.get("sig_key", [""])[-1]:
            grip["sig_key"] = self._sig_key(options["sig_key"][-1])
        if options.get("prefix", [""])[-1]:
            grip["prefix"] = options["prefix"][-1]
        if "debug" in options:
            grip["debug"] = True
        if "header" in options:
            grip["request_headers"] = self._headers(options["header"])
        return grip

    def _target(self, section: Section) -> TargetSettings | None:
        if section.value.startswith(("zhttp/", "zhttpreq/")):
            self._refuse(section.value, _ZHTTP, "is not supported")
            return None
        options = self._options(section, TARGET_KNOWN, {}, TARGET_IGNORED)
        over_tls = "ssl" in options and section.value != TEST_BACKEND
        url = self._url(section.value, over_tls)
        files: dict[str, str] = {}
        for name in ("client_cert", "client_key"):
            if name in options and over_tls:
                files[name] = self._read(FILE, name, options[name][-1]) or ""
        if files.get("client_key") and not files.get("client_cert"):
            self._refuse("client_cert", "client_key is the key of a client_cert", "is missing")
            return None
        host = self._read(HOST_HEADER, "host", options["host"][-1]) if "host" in options else ""
        if url is None or host is None:
            return None
        return TargetSettings(
            url,
            over_http="over_http" in options or url == TEST_BACKEND,
            one_event="one_event" in options,
            host=host,
            insecure=over_tls and "insecure" in options,
            trust_connect_host=over_tls and "trust_connect_host" in options,
            subscribe=tuple(channel for channel in options.get("sub", []) if channel),
            **files,
        )

    def _url(self, place: str, over_tls: bool) -> str | None:
        if place == TEST_BACKEND:
            return place
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/@?#]+):([0-9]{1,5})", place, re.ASCII)
        if match is None or not 0 < int(match[2]) < 65_536:
            self._refuse("target", f"host:port, [v6 address]:port, or {TEST_BACKEND}", f"= {place!r} is none")
            return None
        url: str | None = self._read(BACKEND, "target", f"http{'s' if over_tls else ''}://{place}")
        return url

    def _options(
        self, section: Section, known: Sequence[str], refused: Mapping[str, str], ignored: Mapping[str, str]
    ) -> dict[str, list[str]]:
        """The known ones by name. The others are noted."""
        options: dict[str, list[str]] = {}
        for name, value in section.options:
            if name in refused:
                self._refuse(name, refused[name], "is not supported")
            elif name in ignored:
                self._warn(f"{name} is not used: {ignored[name]}")
            elif name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                self._warn(
                    f"{name} is not a known option and not used" + (f"; did you mean {close[0]}?" if close else "")
                )
            else:
                if name in options and name not in _REPEATABLE:
                    self._warn(f"{name} is there twice; the last one counts")
                options.setdefault(name, []).append(value)
        return options

    def _headers(self, lines: Sequence[str]) -> tuple[str, ...]:
        headers: dict[str, str] = {}
        for line in lines:
            name = line.partition(":")[0].lower()
            if name == "host":
                self._warn("header=Host is not used, the Host header is written last; use as_host")
                continue
            read = self._read(HEADER_LINE, "header", line)
            if read is not None:
                headers.setdefault(name, read)  # as in Pushpin, the first of a name counts
        return tuple(headers.values())

    def _sig_key(self, text: str) -> Secret | None:
        """``file:`` of a PEM key or of hexadecimal digits, relative to the routes file; ``base64:``; or text."""
        try:
            if text.startswith("file:"):
                text = self._key_file(os.path.join(self._folder, text[5:]))
            elif text.startswith("base64:"):
                text += "=" * (-len(text.removeprefix("base64:")) % 4)
            check_signing_key(text)
        except Wrong as wrong:
            self._refuse("sig_key", wrong.allowed, f"= {HIDDEN!r} is not accepted")
            return None
        return Secret(text)

    def _key_file(self, path: str) -> str:
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            raise Wrong(f"the file {path} must be readable ({error.strerror or type(error).__name__})") from None
        if data.startswith(b"-----BEGIN"):
            return data.decode("ascii", "replace").strip()
        try:
            key = binascii.unhexlify(data.strip())
        except (binascii.Error, ValueError):
            raise Wrong(f"the file {path} must hold a PEM private key, or a key in hexadecimal digits") from None
        return f"base64:{base64.b64encode(key).decode()}"

    def _number(self, name: str, text: str) -> int | None:
        kind = Number(0, 8_192, "characters", whole=True)
        try:
            return int(str(kind.read(kind.from_text(text), {})))
        except Wrong as wrong:
            self._refuse(name, wrong.allowed, f"= {text!r} is not accepted")
            return None

    def _word(self, name: str, value: str, words: Sequence[str]) -> str:
        if value not in words:
            self._refuse(name, "one of " + ", ".join(words), f"= {value!r} is not accepted")
        return value

    def _read(self, kind: Kind, name: str, value: str) -> Any:
        try:
            return kind.read(value, {})
        except Wrong as wrong:
            shown = value if wrong.shown is None else wrong.shown
            self._refuse(name, wrong.allowed, f"= {shown!r} is not accepted")
            return None

    def _refuse(self, key: str, allowed: str, problem: str) -> None:
        self._wrong = True
        self._found.errors.append(ConfigError(self._source, key, "", allowed, problem=problem))

    def _warn(self, text: str) -> None:
        self._found.warnings.append(f"{self._source}: {text}")
