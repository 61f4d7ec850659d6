"""Cohorts: which sessions a release is meant for, whatever the weights say.

A rule has one text form, which is also its identity: ``header:X-Beta=1``, ``header:X-Beta`` (there, with any value),
``cookie:beta=1``, ``query:beta=1``, ``claim:plan=gold``, ``user:ann,bob``, ``percent:5``. What a handshake said is kept
as the texts of the rules it met: a rule that moves to another release takes its sessions along, and a rule that is new
sees only sessions that begin after it. Users and percentages are known at any time.

A claim is read from a JSON Web Token (RFC 7519) that came with the handshake and is **not verified** here: the backend
does that. A cohort says who sees which release, never what anybody may do.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from http.cookies import CookieError, SimpleCookie
from typing import Literal, cast
from urllib.parse import parse_qsl

from edge.errors import FieldError

Kind = Literal["header", "cookie", "query", "claim", "user", "percent"]

HANDSHAKE_KINDS = frozenset({"header", "cookie", "query", "claim"})
KINDS = ("header", "cookie", "query", "claim", "user", "percent")
RULE_CHARS = 4_096
RULES_MOST = 64
TOKEN_BYTES = 16_384
"""A token longer than this is not looked into."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2, token
_FORM = "header:NAME[=VALUE], cookie:NAME[=VALUE], query:NAME[=VALUE], claim:NAME[=VALUE], user:NAME,… or percent:N"


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition. `name`: of the header (lower case), cookie, parameter or claim; `value` None: any.
    `users`, `percent` (0 to 100): of their kinds."""

    kind: Kind
    name: str = ""
    value: str | None = None
    users: frozenset[str] = frozenset()
    percent: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read the text form. `FieldError` (field ``rules``)."""
        kind, found, rest = text.partition(":")
        if not found or kind not in KINDS or not rest or len(text) > RULE_CHARS or not text.isprintable():
            raise FieldError("rules", f"{text[:80]!r} is no cohort rule: {_FORM}")
        if kind == "user":
            users = frozenset(name.strip() for name in rest.split(",") if name.strip())
            if not users:
                raise FieldError("rules", f"{text[:80]!r} names no user")
            return cls("user", users=users)
        if kind == "percent":
            return cls("percent", percent=_percent(text, rest))
        name, equals, value = rest.partition("=")
        if kind == "header":
            if not _HEADER_NAME.fullmatch(name):
                raise FieldError("rules", f"{text[:80]!r}: {name[:40]!r} is no header's name")
            name = name.lower()
        if not name:
            raise FieldError("rules", f"{text[:80]!r} has no name")
        return cls(cast(Kind, kind), name, value if equals else None)

    @property
    def key(self) -> str:
        """The text form; equal for equal rules."""
        if self.kind == "user":
            return "user:" + ",".join(sorted(self.users))
        if self.kind == "percent":
            return f"percent:{self.percent:g}"
        return f"{self.kind}:{self.name}" + ("" if self.value is None else f"={self.value}")


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a release is chosen for. `matched`: texts of the rules that the handshake met."""

    id: str
    user: str | None = None
    matched: frozenset[str] = frozenset()


def parse_rules(texts: Sequence[str]) -> tuple[Rule, ...]:
    """Rules in order, each once. `FieldError`."""
    if len(texts) > RULES_MOST:
        raise FieldError("rules", f"{len(texts)} rules; a release may have {RULES_MOST}")
    return tuple({rule.key: rule for rule in map(Rule.parse, texts)}.values())


def meets(rule: Rule, subject: Subject, salt: str) -> bool:
    """Is `subject` meant by `rule`? `salt` keeps the percentages of different releases apart."""
    if rule.kind == "user":
        return subject.user is not None and subject.user in rule.users
    if rule.kind == "percent":
        return fraction(subject.id, salt) * 100 < rule.percent
    return rule.key in subject.matched


def match_handshake(rules: Iterable[Rule], headers: Sequence[tuple[str, str]], query: str) -> frozenset[str]:
    """The texts of those `rules` that a handshake meets. `headers` with names in any case, `query` without ``?``."""
    asked = [rule for rule in rules if rule.kind in HANDSHAKE_KINDS]
    if not asked:
        return _NONE
    request = _Request(headers, query)
    return frozenset(rule.key for rule in asked if request.meets(rule)) or _NONE


def fraction(id: str, salt: str) -> float:
    """A number in [0, 1) that depends on both texts and looks random."""
    digest = blake2b(f"{salt}\0{id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53


_NONE: frozenset[str] = frozenset()


class _Request:
    """What a handshake says, taken apart when a rule asks for it."""

    def __init__(self, headers: Sequence[tuple[str, str]], query: str) -> None:
        self._headers = headers
        self._query = query
        self._claims: dict[str, object] | None = None

    def meets(self, rule: Rule) -> bool:
        values = list(self._values(rule))
        return bool(values) if rule.value is None else rule.value in values

    def _values(self, rule: Rule) -> Iterator[str]:
        if rule.kind == "header":
            yield from self._header(rule.name)
        elif rule.kind == "cookie":
            for line in self._header("cookie"):
                yield from _cookie(line, rule.name)
        elif rule.kind == "query":
            yield from self._parameter(rule.name)
        else:
            yield from _texts(self._claim_values().get(rule.name))

    def _header(self, name: str) -> Iterator[str]:
        for given, value in self._headers:
            if given.lower() == name:
                yield value.strip()

    def _parameter(self, name: str) -> Iterator[str]:
        try:
            pairs = parse_qsl(self._query, keep_blank_values=True, max_num_fields=1_000)
        except ValueError:
            return
        for given, value in pairs:
            if given == name:
                yield value

    def _claim_values(self) -> dict[str, object]:
        if self._claims is None:
            self._claims = {}
            for token in self._tokens():
                self._claims = _claims(token)
                if self._claims:
                    break
        return self._claims

    def _tokens(self) -> Iterator[str]:
        for value in self._header("authorization"):
            scheme, _, token = value.partition(" ")
            if scheme.lower() == "bearer":
                yield token.strip()
        yield from self._parameter("access_token")
        yield from self._parameter("token")


def _cookie(line: str, name: str) -> Iterator[str]:
    try:
        jar = SimpleCookie(line)
    except CookieError:
        return
    if name in jar:
        yield jar[name].value


def _claims(token: str) -> dict[str, object]:
    """The claims of an unverified JSON Web Token; none of anything else."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > TOKEN_BYTES:
        return {}
    try:
        claims = json.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _texts(value: object) -> Iterator[str]:
    """A claim's value as rules write it; a list has several."""
    if isinstance(value, list):
        for each in value:
            yield from _texts(each) if not isinstance(each, list) else ()
    elif isinstance(value, bool):
        yield "true" if value else "false"
    elif isinstance(value, str | int | float):
        yield str(value)


def _percent(text: str, rest: str) -> float:
    try:
        percent = float(rest.removesuffix("%"))
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        raise FieldError("rules", f"{text[:80]!r}: a percentage from 0 to 100 is needed")
    return percent
