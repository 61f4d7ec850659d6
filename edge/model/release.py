"""Releases: which deployed version of an app a session's next event goes to.

An app has one configured release per route (from the settings) and any number that were added at run time. Exactly
one is *current*: the one promoted last, else the configured one. Others are reachable by a pin until they are retired.

Promotion is one write: an entry carries the number of its promotion, and the highest number wins. So there is no
moment with two current releases or none, whoever reads the table while it changes.

Weights, canaries and cohorts are not here yet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from edge.config.groups import Policy
from edge.errors import Conflict, FieldError, NotFound

ReleaseState = Literal["current", "added", "retired"]

SHA = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names of releases: a git SHA or a tag. Nothing that could change the meaning of a URL it is filled into."""

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ReleaseEntry:
    """One release of an app. `promotion`: 0 never promoted, else its number. `added_at`: wall ms, 0 configured."""

    sha: str
    url: str
    promotion: int = 0
    retired: bool = False
    added_at: int = 0

    @classmethod
    def from_stored(cls, sha: str, fields: Mapping[str, Any]) -> ReleaseEntry:
        """Read what `to_stored` wrote; fields of a newer version are ignored."""
        return cls(
            sha=sha,
            url=str(fields.get("url", "")),
            promotion=int(fields.get("promotion", 0)),
            retired=bool(fields.get("retired", False)),
            added_at=int(fields.get("added_at", 0)),
        )

    def to_stored(self) -> dict[str, Any]:
        return {
            "v": 1,
            "url": self.url,
            "promotion": self.promotion,
            "retired": self.retired,
            "added_at": self.added_at,
        }


@dataclass(frozen=True, slots=True)
class ReleaseTable:
    """All releases of one app, as one route sees them. `configured`: the route's own release, always in `entries`."""

    configured: str
    entries: Mapping[str, ReleaseEntry] = field(default_factory=dict)

    @classmethod
    def of(cls, configured: str, url: str, stored: Mapping[str, Mapping[str, Any]]) -> ReleaseTable:
        """The table of a route with release `configured` at `url`. Its URL is the configuration's, always."""
        entries = {sha: ReleaseEntry.from_stored(sha, fields) for sha, fields in stored.items()}
        own = entries.get(configured, ReleaseEntry(configured, url))
        entries[configured] = replace(own, url=url)
        return cls(configured, {sha: entry for sha, entry in entries.items() if entry.url})

    @property
    def current(self) -> ReleaseEntry:
        """The release promoted last and not retired; the configured one when there is none."""
        promoted = [entry for entry in self.entries.values() if entry.promotion and not entry.retired]
        return max(promoted, key=lambda e: (e.promotion, e.sha), default=self.entries[self.configured])

    def reachable(self, sha: str | None) -> bool:
        """May a session be on `sha`?"""
        entry = self.entries.get(sha) if sha is not None else None
        return entry is not None and (not entry.retired or entry.sha == self.current.sha)

    def state(self, sha: str) -> ReleaseState:
        """`NotFound` when there is no such release."""
        entry = self.entry(sha)
        if entry.sha == self.current.sha:
            return "current"
        return "retired" if entry.retired else "added"

    def entry(self, sha: str) -> ReleaseEntry:
        """`NotFound` when there is no such release."""
        try:
            return self.entries[sha]
        except KeyError:
            raise NotFound(f"there is no release {sha!r}") from None


def choose_release(policy: Policy, pinned: str | None, table: ReleaseTable, held: str | None = None) -> str:
    """The SHA a session's next event goes to.

    `pinned` is what a `pin` action asked for, `held` the release the session is on (None: it is new). A pin is kept,
    and under the policy `pin` the release held, while that release is there and not retired; else the current one.
    """
    if pinned is not None and table.reachable(pinned):
        return pinned
    if policy == "pin" and held is not None and table.reachable(held):
        return held
    return table.current.sha


def add(table: ReleaseTable, sha: str, url: str, now: int) -> ReleaseEntry:
    """The entry to write for a new release, or for one whose URL changes; a retired one becomes reachable again.

    `Conflict`: the configured release belongs to the configuration. `FieldError`: not a name for a release.
    Whether `url` is allowed is `url_allowed`'s question.
    """
    if not SHA.fullmatch(sha):
        raise FieldError("sha", "1 to 64 letters, digits, '.', '_' or '-', the first one a letter or digit")
    if sha == table.configured:
        raise Conflict(f"release {sha!r} comes from the configuration; change it there")
    old = table.entries.get(sha)
    if old is None or old.retired:
        return ReleaseEntry(sha, url, added_at=now)
    return replace(old, url=url)


def promote(table: ReleaseTable, sha: str) -> ReleaseEntry:
    """The entry to write so that `sha` is current. `NotFound`; `Conflict` when it is retired."""
    entry = table.entry(sha)
    if entry.sha == table.current.sha:
        return entry
    if entry.retired and sha != table.configured:
        raise Conflict(f"release {sha!r} is retired; add it again before promoting it")
    newest = max(known.promotion for known in table.entries.values())
    return replace(entry, promotion=newest + 1, retired=False)


def retire(table: ReleaseTable, sha: str) -> ReleaseEntry:
    """The entry to write so that no session goes to `sha` any more. `NotFound`; `Conflict` for the current one."""
    entry = table.entry(sha)
    if entry.sha == table.current.sha:
        raise Conflict(f"release {sha!r} is current; promote another one first")
    return replace(entry, retired=True, promotion=0)


def delete(table: ReleaseTable, sha: str) -> None:
    """Check that `sha` may leave the table. `NotFound`; `Conflict` for the current and for the configured one."""
    entry = table.entry(sha)
    if entry.sha == table.current.sha:
        raise Conflict(f"release {sha!r} is current; promote another one first")
    if sha == table.configured:
        raise Conflict(f"release {sha!r} comes from the configuration; remove it there")


def url_allowed(patterns: Sequence[str], sha: str, url: str) -> bool:
    """May release `sha` be at `url`? `patterns` are the route's `release_urls`.

    A template matches when it is the same URL once ``{sha}`` is filled in; a prefix, when scheme, host and port are
    the same and its path is a leading run of whole segments. URLs with credentials, a query, a fragment or dot
    segments never match.
    """
    wanted = _plain(url)
    if wanted is None:
        return False
    for pattern in patterns:
        allowed = _plain(pattern.replace("{sha}", sha))
        if allowed is None or _origin(allowed) != _origin(wanted):
            continue
        prefix, path = allowed.path.rstrip("/"), wanted.path.rstrip("/")
        if path == prefix or ("{sha}" not in pattern and path.startswith(prefix + "/")):
            return True
    return False


def _plain(url: str) -> SplitResult | None:
    """`url` in parts, or None when it is not a plain absolute HTTP URL."""
    if not url.isascii() or not url.isprintable() or any(c in url for c in " \\%"):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    plain = parts.scheme in _PORTS and parts.hostname and port != 0 and "@" not in parts.netloc
    dots = any(segment in (".", "..") for segment in parts.path.split("/"))
    return parts if plain and not dots and not ("?" in url or "#" in url) else None


def _origin(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]
