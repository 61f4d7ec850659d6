"""Kinds of values a setting can have: how each is read, and how its rule is put into words.

A kind takes what TOML gave (or, for flags and the environment, text turned into the same by `from_text`) and
returns the value the settings hold, or raises `Wrong` with what would be allowed. Nothing here knows keys or
files.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edge.config.addresses import parse_address
from edge.config.groups import Secret

Environment = Mapping[str, str]
HIDDEN = Secret("")
"""Stands in for a value that must not be shown."""


class Wrong(ValueError):
    """The value is not accepted. `allowed` says what is; `shown`, when given, replaces the value in the
    message."""

    def __init__(self, allowed: str, shown: object = None) -> None:
        self.allowed = allowed
        self.shown = shown
        super().__init__(allowed)


class Kind(Protocol):
    """One kind of value."""

    @property
    def allowed(self) -> str:
        """What is accepted, as the end of a sentence: ``a whole number from 1 to 256``."""
        ...

    def from_text(self, text: str) -> object:
        """Text from a flag or the environment, as TOML would have given it. Raises `Wrong`."""
        ...

    def read(self, raw: object, env: Environment) -> object:
        """The checked value. `env` answers ``env:NAME`` references. Raises `Wrong`."""
        ...


@dataclass(frozen=True, slots=True)
class Number:
    """A whole or decimal number within bounds, both included."""

    low: float
    high: float
    unit: str = ""
    whole: bool = False
    zero: str = ""
    """What 0 means, when it means something."""
    above_low: bool = False
    """The lower bound itself is excluded."""

    @property
    def allowed(self) -> str:
        noun = "a whole number" if self.whole else "a number"
        of = f" of {self.unit}" if self.unit else ""
        bounds = (
            f"above {self.low:g} and up to {self.high:_.15g}"
            if self.above_low
            else f"from {self.low:g} to {self.high:_.15g}"
        )
        return f"{noun}{of} {bounds}" + (f" (0: {self.zero})" if self.zero else "")

    def from_text(self, text: str) -> object:
        try:
            return int(text) if self.whole else float(text)
        except ValueError:
            raise Wrong(self.allowed) from None

    def read(self, raw: object, env: Environment) -> object:
        if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
            raise Wrong(self.allowed)
        if self.whole and not isinstance(raw, int):
            raise Wrong(self.allowed)
        if raw < self.low or raw > self.high or (self.above_low and raw == self.low):
            raise Wrong(self.allowed)
        return raw if self.whole else float(raw)


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of some words."""

    words: Sequence[str]

    @property
    def allowed(self) -> str:
        return "one of " + ", ".join(self.words)

    def from_text(self, text: str) -> object:
        return text

    def read(self, raw: object, env: Environment) -> object:
        if raw not in self.words:
            raise Wrong(self.allowed)
        return raw


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""

    allowed: str = "true or false"

    def from_text(self, text: str) -> object:
        word = text.strip().lower()
        if word in ("true", "yes", "on", "1"):
            return True
        if word in ("false", "no", "off", "0"):
            return False
        raise Wrong(self.allowed)

    def read(self, raw: object, env: Environment) -> object:
        if not isinstance(raw, bool):
            raise Wrong(self.allowed)
        return raw


@dataclass(frozen=True, slots=True)
class Text:
    """A string that passes `check`, which returns it in its normal form or raises `ValueError`."""

    allowed: str
    check: Callable[[str], str]

    def from_text(self, text: str) -> object:
        return text

    def read(self, raw: object, env: Environment) -> object:
        if not isinstance(raw, str):
            raise Wrong(self.allowed)
        try:
            return self.check(raw)
        except Wrong:
            raise
        except ValueError:
            raise Wrong(self.allowed) from None


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list; a single value stands for a list of one. In flags and the environment: separated by commas."""

    item: Kind
    least: int = 0

    @property
    def allowed(self) -> str:
        return f"a list, each {self.item.allowed}"

    def from_text(self, text: str) -> object:
        return [self.item.from_text(part.strip()) for part in text.split(",") if part.strip()]

    def read(self, raw: object, env: Environment) -> object:
        values = [raw] if isinstance(raw, str) else raw
        if not isinstance(values, list):
            raise Wrong(self.allowed)
        if len(values) < self.least:
            raise Wrong(f"at least {self.least}, each {self.item.allowed}")
        return tuple(self.item.read(value, env) for value in values)


@dataclass(frozen=True, slots=True)
class SecretValue:
    """A secret: itself, or ``env:NAME``, or ``file:/path`` (surrounding white space of the file is
    dropped)."""

    allowed: str = "a secret that is not empty: itself, env:NAME, or file:/path"

    def from_text(self, text: str) -> object:
        return text

    def read(self, raw: object, env: Environment) -> Secret:
        if not isinstance(raw, str):
            raise Wrong(self.allowed, shown=HIDDEN)
        value = dereference(raw, env)
        if not value:
            raise Wrong(self.allowed, shown=HIDDEN)
        return Secret(value)


def dereference(raw: str, env: Environment) -> str:
    """Follow ``env:NAME`` or ``file:/path``; anything else is itself. Raises `Wrong` when there is nothing
    there."""
    if raw.startswith("env:"):
        name = raw[4:]
        value = env.get(name, "")
        if not value:
            raise Wrong(f"the environment variable {name} must be set and not empty", shown=raw)
        return value
    if raw.startswith("file:"):
        path = raw[5:]
        try:
            with open(path, encoding="utf-8") as file:
                value = file.read().strip()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise Wrong(f"the file {path} must be readable ({reason})", shown=raw) from None
        except (UnicodeDecodeError, ValueError):
            raise Wrong(f"the file {path} must be UTF-8 text", shown=raw) from None
        if not value:
            raise Wrong(f"the file {path} must not be empty", shown=raw)
        return value
    return raw


def name(most: int) -> Text:
    """A name for people and metrics labels."""
    pattern = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{most - 1}}}", re.ASCII)

    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(text)
        return text

    return Text(f"a name of at most {most} letters, digits, dots, dashes and underscores", check)


def _address(text: str) -> str:
    parse_address(text)
    return text


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text, strict=False))


def _file(text: str) -> str:
    if text and not (os.path.isfile(text) and os.access(text, os.R_OK)):
        raise ValueError(text)
    return text


def _folder(text: str) -> str:
    if not text or "\0" in text or (os.path.exists(text) and not os.path.isdir(text)):
        raise ValueError(text)
    return text


def _any_text(text: str) -> str:
    return text


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


def _route_id(text: str) -> str:
    if len(text) > 200 or not text.isprintable():
        raise ValueError(text)
    return text


ADDRESS = Text("host:port, [v6 address]:port or :port, the port from 0 to 65535 (0: any free one)", _address)
NETWORK = Text("an IP address or network such as 10.0.0.0/8", _network)
FILE = Text("the path of a readable file", _file)
FOLDER = Text("the path of a folder (it is made when it is missing)", _folder)
ANY_TEXT = Text("a string", _any_text)
NOT_EMPTY = Text("a string that is not empty", _not_empty)
ROUTE_ID = Text("at most 200 printable characters", _route_id)
