"""Releases: which deployed version of an app a session's next event goes to.

An app has one configured release per route (from the settings) and any number that were added at run time. The table
of an app is one document in the store, and every change of it replaces it whole, under a version: nobody ever sees
half a promotion. What changes there can be is `edge.model.release_changes`'s.

Choice is by cohort rule first, then by weight. Weights are spread over sessions by weighted rendezvous hashing of the
session id (C. Schindelhauer, G. Schomaker: "Weighted Distributed Hash Tables", SPAA 2005): every edge chooses the same,
and a release that gains weight takes sessions from the others without moving any between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import log
from typing import Any, Literal

from edge.config.groups import Policy
from edge.errors import NotFound
from edge.model.cohort import HANDSHAKE_KINDS, Rule, Subject, fraction, meets, parse_rules

ReleaseState = Literal["warming", "active", "draining", "empty"]
Outcome = Literal["running", "done", "rolled-back", "stopped"]
How = Literal["now", "over", "when-idle", "at-most"]

CONFIGURED_WEIGHT = 100
"""Of the configured release, as long as nobody has given weights."""


@dataclass(frozen=True, slots=True)
class Retirement:
    """How a release is emptied, since wall ms `since`.

    `over`: each session leaves at a moment of its own within `for_ms`. `when-idle`: when nothing of it has happened for
    `for_ms`. `at-most`: when it ends, and all that are left after `for_ms`. `at_most_ms`: the latest end of any of
    them, 0: none. `notice`: what clients are sent; ``""``: nothing. `number` tells retirements of a release apart.
    """

    how: How
    since: int
    for_ms: int = 0
    at_most_ms: int = 0
    notice: str = ""
    number: int = 1

    @property
    def until(self) -> int | None:
        """Wall ms when the last session has left; None: nobody can say."""
        ends = [self.since + self.at_most_ms] if self.at_most_ms else []
        if self.how != "when-idle":
            ends.append(self.since + self.for_ms)
        return min(ends, default=None)

    def stays(self, session: str, now: int) -> bool:
        """May `session` be on the release still? Who is idle is not known here: such a session is never held back."""
        if self.how == "now" or (self.at_most_ms and now >= self.since + self.at_most_ms):
            return False
        if self.how == "over":
            return now < self.since + fraction(session, f"retire {self.number}") * self.for_ms
        return self.how == "when-idle" or now < self.since + self.for_ms


@dataclass(frozen=True, slots=True)
class ReleaseEntry:
    """One release of an app. `weight`: share of the sessions, in proportion to the other weights. `added_at`: wall ms,
    0 configured. `checks_needed`, `checks_passed`: health checks in a row before it is active; `check_error`: what the
    last one said. `emptied_at`: wall ms since when it has no sessions, 0 it has."""

    sha: str
    url: str
    weight: int = 0
    state: ReleaseState = "active"
    cohorts: tuple[Rule, ...] = ()
    added_at: int = 0
    health_path: str = ""
    checks_needed: int = 1
    checks_passed: int = 0
    check_error: str = ""
    retirement: Retirement | None = None
    emptied_at: int = 0

    @classmethod
    def from_stored(cls, sha: str, fields: Mapping[str, Any]) -> ReleaseEntry:
        """Read what `to_stored` wrote; fields of a newer version are ignored."""
        retirement = fields.get("retirement")
        return cls(
            sha=sha,
            url=str(fields["url"]),
            weight=int(fields["weight"]),
            state=fields["state"],
            cohorts=parse_rules(fields["cohorts"]),
            added_at=int(fields["added_at"]),
            health_path=str(fields["health_path"]),
            checks_needed=int(fields["checks_needed"]),
            checks_passed=int(fields["checks_passed"]),
            check_error=str(fields["check_error"]),
            retirement=None if retirement is None else Retirement(**known(Retirement, retirement)),
            emptied_at=int(fields["emptied_at"]),
        )

    def to_stored(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in _PLAIN}
        retirement = None if self.retirement is None else fields_of(self.retirement)
        return {**plain, "cohorts": [rule.key for rule in self.cohorts], "retirement": retirement}


_PLAIN = (
    "url", "weight", "state", "added_at", "health_path", "checks_needed", "checks_passed", "check_error", "emptied_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Canary:
    """A release that gets a growing share while its figures are good. `steps`: percents; `step`: the one it is at since
    wall ms `step_at`. `before`: the weights to go back to. `outcome`: how it ended, ``running`` while it has not."""

    sha: str
    steps: tuple[int, ...]
    every_ms: int
    max_error_rate: float | None
    max_p99_ms: int | None
    min_events: int
    step: int
    step_at: int
    before: Mapping[str, int]
    outcome: Outcome = "running"
    reason: str = ""

    @property
    def running(self) -> bool:
        return self.outcome == "running"

    @property
    def percent(self) -> int:
        return self.steps[self.step]


@dataclass(frozen=True, slots=True)
class Shadow:
    """A release that is shown the events of `share` percent of the sessions, and whose answers count for nothing."""

    sha: str
    share: float


@dataclass(frozen=True, slots=True)
class ReleaseCounts:
    """Sessions per SHA. Not `complete`: an edge did not answer in time, and there may be more."""

    sessions: Mapping[str, int]
    complete: bool

    def of(self, sha: str) -> int | None:
        """None: nobody knows."""
        return self.sessions.get(sha, 0) if self.complete else None


@dataclass(frozen=True, slots=True)
class StoredTable:
    """The document of an app as the store has it; version 0: there is none."""

    version: int = 0
    document: Mapping[str, Any] = field(default_factory=dict)


NOTHING_STORED = StoredTable()


@dataclass(frozen=True)
class ReleaseTable:
    """All releases of one app, as one route sees them. `configured`: the route's own release, always in `entries`.
    `previous`: weights that a rollback goes back to. `notice`: what clients that follow to another release are sent.

    What has happened to a configured release is stored with its name, but without its URL: that is the configuration's
    to say, and a route with another configured release does not see it.
    """

    configured: str
    entries: Mapping[str, ReleaseEntry]
    version: int = 0
    previous: Mapping[str, int] = field(default_factory=dict)
    canary: Canary | None = None
    shadow: Shadow | None = None
    notice: str = ""

    @classmethod
    def of(cls, configured: str, url: str, stored: StoredTable = NOTHING_STORED) -> ReleaseTable:
        """The table of a route with release `configured` at `url`. Its URL is the configuration's, always."""
        document = stored.document
        found = {sha: ReleaseEntry.from_stored(sha, row) for sha, row in document.get("releases", {}).items()}
        own = found.pop(configured, ReleaseEntry(configured, url))
        entries = {sha: entry for sha, entry in found.items() if entry.url}
        if own.weight == 0 and not any(entry.weight for entry in entries.values()):
            own = replace(own, weight=CONFIGURED_WEIGHT, state="active", retirement=None, emptied_at=0)
        entries[configured] = replace(own, url=url)
        canary, shadow = document.get("canary"), document.get("shadow")
        return cls(
            configured,
            entries,
            stored.version,
            dict(document.get("previous", {})),
            None if canary is None else Canary(**{**known(Canary, canary), "steps": tuple(canary["steps"])}),
            None if shadow is None else Shadow(**known(Shadow, shadow)),
            str(document.get("notice", "")),
        )

    def to_document(self) -> dict[str, Any]:
        """What the store keeps."""
        rows = {sha: entry.to_stored() for sha, entry in self.entries.items()}
        rows[self.configured]["url"] = ""
        return {
            "v": 2,
            "releases": rows,
            "previous": dict(self.previous),
            "canary": None if self.canary is None else {**fields_of(self.canary), "steps": list(self.canary.steps)},
            "shadow": None if self.shadow is None else fields_of(self.shadow),
            "notice": self.notice,
        }

    @cached_property
    def weights(self) -> Mapping[str, int]:
        """Of the releases that get new sessions by weight."""
        return {sha: entry.weight for sha, entry in self.entries.items() if entry.weight and entry.state == "active"}

    @cached_property
    def current(self) -> ReleaseEntry:
        """The release with the largest weight, of several the newest; the configured one when there is none."""
        weighted = [self.entries[sha] for sha in self.weights]
        return max(weighted, key=lambda e: (e.weight, e.added_at, e.sha), default=self.entries[self.configured])

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """All cohort rules that a handshake is to be asked about."""
        rules = (rule for entry in self.entries.values() for rule in entry.cohorts)
        return tuple(rule for rule in rules if rule.kind in HANDSHAKE_KINDS)

    def share(self, sha: str) -> float:
        """Percent of the sessions that have no cohort which go to `sha`."""
        total = sum(self.weights.values())
        return 100 * self.weights.get(sha, 0) / total if total else 100.0 * (sha == self.configured)

    def reachable(self, sha: str | None, session: str, held: str | None, now: int) -> bool:
        """May `session`, which is on `held`, be on `sha`?"""
        entry = self.entries.get(sha) if sha is not None else None
        if entry is None or entry.state == "active":
            return entry is not None
        staying = entry.state == "draining" and sha == held and entry.retirement is not None
        return staying and entry.retirement is not None and entry.retirement.stays(session, now)

    def entry(self, sha: str) -> ReleaseEntry:
        """`NotFound` when there is no such release."""
        try:
            return self.entries[sha]
        except KeyError:
            raise NotFound(f"there is no release {sha!r}; there are {', '.join(sorted(self.entries))}") from None


def choose_release(
    policy: Policy,
    pinned: str | None,
    table: ReleaseTable,
    subject: Subject,
    held: str | None = None,
    now: int = 0,
    *,
    stay: bool = True,
) -> str:
    """The SHA a session's next event goes to.

    `pinned` is what a `pin` action asked for, `held` the release the session is on (None: it is new), `now` wall ms. A
    pin is kept, and under the policy `pin` the release held, while that release may be reached; so is, under either
    policy, one that is being emptied and lets the session stay. Not `stay`: it is this session's turn to leave it.
    """
    entry = table.entries.get(held) if held is not None else None
    emptying = entry is not None and entry.state == "draining"
    if emptying and not stay:
        held = entry = None
    if pinned is not None and table.reachable(pinned, subject.id, held, now):
        return pinned
    if held is not None and (policy == "pin" or emptying) and table.reachable(held, subject.id, held, now):
        return held
    return _by_cohort(table, subject) or _by_weight(table, subject.id)


def _by_cohort(table: ReleaseTable, subject: Subject) -> str | None:
    """The newest release that one of its rules means the session for."""
    found: ReleaseEntry | None = None
    for entry in table.entries.values():
        newer = entry.state == "active" and (found is None or entry.added_at > found.added_at)
        if newer and any(meets(rule, subject, entry.sha) for rule in entry.cohorts):
            found = entry
    return None if found is None else found.sha


def _by_weight(table: ReleaseTable, session: str) -> str:
    weights = table.weights
    if len(weights) < 2:
        return next(iter(weights), table.configured)
    # Uniform numbers u: -w / ln(u) is largest for each release with the probability of its share.
    return max(weights, key=lambda sha: (-weights[sha] / log(fraction(session, sha) or 5e-324), sha))


def fields_of(row: Any) -> dict[str, Any]:
    """A dataclass with slots as a map."""
    return {name: getattr(row, name) for name in row.__dataclass_fields__}


def known(kind: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `fields` that `kind` has; a newer version may have written more."""
    return {name: value for name, value in fields.items() if name in kind.__dataclass_fields__}
