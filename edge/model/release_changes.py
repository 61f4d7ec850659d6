"""What operators, and the edge itself, may do to a release table: each is a pure step from one whole table to the next.

Every refusal is an error that says what to do, and changes nothing. Writing the result is one atomic step of the store
(`edge.sessions.release_desk`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import gcd

from edge.errors import Conflict, FieldError
from edge.model.cohort import parse_rules
from edge.model.release import Canary, Outcome, ReleaseEntry, ReleaseState, ReleaseTable, Retirement, Shadow
from edge.model.release_url import SHA

WHOLE = 100
"""Weight of a release that has been promoted."""
WEIGHT_MOST = 1_000_000
STEPS_MOST = 100
RELEASES_MOST = 200
"""Releases of one app at most: every edge reads the whole table at each change."""


def add(
    table: ReleaseTable,
    sha: str,
    url: str,
    now: int,
    *,
    health_path: str = "",
    checks: int = 1,
    cohorts: Sequence[str] | None = None,
) -> ReleaseTable:
    """A new release whose first health check has passed, or one whose URL changes; a retired one begins again.

    `Conflict`: the configured release belongs to the configuration. `FieldError`: not a name for a release, a bad rule.
    Whether `url` is allowed is `url_allowed`'s question.
    """
    checked_sha(sha)
    if sha == table.configured:
        raise Conflict(
            f"release {sha!r} comes from the configuration; change it there, or give the route's `release` a name that "
            "no deploy uses"
        )
    old = table.entries.get(sha)
    if old is None and len(table.entries) >= RELEASES_MOST:
        raise Conflict(f"there are {RELEASES_MOST} releases already; remove empty ones first")
    fresh = old is None or old.state in ("draining", "empty")
    entry = ReleaseEntry(sha, url, state="warming", added_at=now) if old is None or fresh else old
    rules = entry.cohorts if cohorts is None else parse_rules(cohorts)
    passed = 1 if fresh else min(entry.checks_passed + 1, checks)
    state: ReleaseState = "active" if passed >= checks or entry.state == "active" else "warming"
    return _with(
        table,
        replace(
            entry, url=url, health_path=health_path, checks_needed=checks, checks_passed=passed, check_error="",
            cohorts=rules, state=state,
        ),
    )  # fmt: skip


def checked_sha(sha: str) -> None:
    """`FieldError` when `sha` is no name for a release."""
    if not SHA.fullmatch(sha):
        raise FieldError("sha", "1 to 64 letters, digits, '.', '_' or '-', the first one a letter or digit")


def checked(table: ReleaseTable, sha: str, error: str) -> ReleaseTable:
    """A release that is warming was looked at: `error` says what was wrong, empty nothing."""
    entry = table.entry(sha)
    if entry.state != "warming":
        return table
    passed = 0 if error else entry.checks_passed + 1
    state: ReleaseState = "active" if passed >= entry.checks_needed else "warming"
    looked_at = replace(entry, checks_passed=passed, check_error=error, state=state)
    # Nothing new is no new table: every edge reads a new one, and walks its sessions.
    return table if looked_at == entry else _with(table, looked_at)


def promote(table: ReleaseTable, sha: str, notice: str = "") -> ReleaseTable:
    """All sessions that have neither pin nor cohort go to `sha`. `NotFound`; `Conflict` unless it is active."""
    _usable(table, sha, "promoting")
    if table.weights == {sha: WHOLE} and table.notice == notice and not _canary_runs(table):
        return table
    return replace(_weighted(table, {sha: WHOLE}), notice=notice, canary=_ended(table, "another release was promoted"))


def set_weights(table: ReleaseTable, weights: Mapping[str, int]) -> ReleaseTable:
    """Releases that are not named get 0. `NotFound`; `FieldError` when the sum is 0; `Conflict` unless all are active,
    or while a canary runs."""
    for sha, weight in weights.items():
        if not 0 <= weight <= WEIGHT_MOST:
            raise FieldError("weights", f"{sha}: a weight is a whole number from 0 to {WEIGHT_MOST}")
        if weight:
            _usable(table, sha, "giving it a weight")
        else:
            table.entry(sha)
    if not any(weights.values()):
        raise FieldError("weights", "the sum of all weights is 0: no release would get any session")
    _no_canary(table)
    return replace(_weighted(table, weights), notice="")


def roll_back(table: ReleaseTable) -> ReleaseTable:
    """The weights of before the last change of weights. A release that is being emptied comes back to life. `Conflict`
    when there is nothing to go back to."""
    weights = {sha: weight for sha, weight in table.previous.items() if weight and sha in table.entries}
    lost = [sha for sha, weight in table.previous.items() if weight and sha not in weights]
    lost += [sha for sha in weights if table.entries[sha].state in ("warming", "empty")]
    if lost:
        raise Conflict(f"release {', '.join(sorted(lost))} is gone or has no pods any more: add it again first")
    if not weights:
        raise Conflict("there is nothing to go back to: no weights have been changed yet")
    for sha in weights:
        table = _with(table, replace(table.entries[sha], state="active", retirement=None, emptied_at=0))
    return replace(_weighted(table, weights), notice="", canary=_ended(table, "rolled back by hand"))


def set_cohorts(table: ReleaseTable, sha: str, rules: Sequence[str]) -> ReleaseTable:
    """Replace the rules of `sha`. `NotFound`; `FieldError`; `Conflict` while it is being emptied."""
    entry = table.entry(sha)
    parsed = parse_rules(rules)
    if entry.state in ("draining", "empty") and parsed:
        raise Conflict(f"release {sha!r} is {entry.state}; add it again before giving it a cohort")
    return _with(table, replace(entry, cohorts=parsed))


def retire(table: ReleaseTable, sha: str, retirement: Retirement) -> ReleaseTable:
    """No new session goes to `sha`, and those on it leave as `retirement` says. `NotFound`; `Conflict` for the last
    release that gets sessions, and for one of a running canary."""
    entry = table.entry(sha)
    if not any(other != sha for other in table.weights):
        raise Conflict(f"release {sha!r} is the last active release; promote another one first")
    if entry.state == "warming":
        raise Conflict(f"release {sha!r} is warming and has no sessions; remove it")
    if entry.state == "empty":
        return table
    if _canary_runs(table):
        _no_canary(table)
    number = 1 if entry.retirement is None else entry.retirement.number + 1
    entry = replace(entry, weight=0, state="draining", retirement=replace(retirement, number=number))
    shadow = None if table.shadow is not None and table.shadow.sha == sha else table.shadow
    return replace(_with(table, entry), shadow=shadow)


def emptied(table: ReleaseTable, sha: str, now: int) -> ReleaseTable:
    """A release that was being emptied has no sessions any more."""
    entry = table.entries.get(sha)
    if entry is None or entry.state != "draining":
        return table
    return _with(table, replace(entry, state="empty", emptied_at=now))


def remove(table: ReleaseTable, sha: str, sessions: int | None) -> ReleaseTable:
    """Forget a release. `sessions`: how many are on it, None: nobody knows. `NotFound`; `Conflict` for one that is
    configured, gets sessions or has some."""
    entry = table.entry(sha)
    if sha == table.configured:
        raise Conflict(f"release {sha!r} comes from the configuration; remove it there")
    if entry.weight or sha == table.current.sha:
        raise Conflict(f"release {sha!r} has a weight and gets sessions; promote another one and retire it first")
    if _canary_runs(table) and table.canary is not None and sha in (table.canary.sha, *table.canary.before):
        _no_canary(table)
    if sessions is None:
        raise Conflict(f"not every edge has said how many sessions release {sha!r} has; try again")
    if sessions:
        raise Conflict(f"release {sha!r} still has {sessions} sessions; retire it first")
    entries = {other: row for other, row in table.entries.items() if other != sha}
    shadow = None if table.shadow is not None and table.shadow.sha == sha else table.shadow
    return replace(table, entries=entries, shadow=shadow)


# Canary and shadow.


def start_canary(
    table: ReleaseTable,
    sha: str,
    now: int,
    *,
    steps: Sequence[int],
    every_ms: int,
    max_error_rate: float | None = 0.01,
    max_p99_ms: int | None = None,
    min_events: int = 20,
) -> ReleaseTable:
    """Give `sha` its first share. `NotFound`; `FieldError`; `Conflict` unless it is active beside another one."""
    if not steps or len(steps) > STEPS_MOST or any(not 1 <= step <= 100 for step in steps):
        raise FieldError("steps", f"1 to {STEPS_MOST} whole percents from 1 to 100")
    if list(steps) != sorted(set(steps)):
        raise FieldError("steps", "each step must be larger than the one before it")
    if every_ms < 1_000:
        raise FieldError("every_ms", "at least 1000, a second")
    if max_error_rate is not None and not 0 <= max_error_rate <= 1:
        raise FieldError("max_error_rate", "a share from 0 to 1")
    if max_p99_ms is not None and max_p99_ms < 1:
        raise FieldError("max_p99_ms", "at least 1")
    if min_events < 1:
        raise FieldError("min_events", "at least 1")
    _usable(table, sha, "making it a canary")
    _no_canary(table)
    if not any(other != sha for other in table.weights):
        raise Conflict(f"release {sha!r} has all sessions already; there is nothing to try it against")
    canary = Canary(sha, tuple(steps), every_ms, max_error_rate, max_p99_ms, min_events, 0, now, dict(table.weights))
    return replace(_weighted(table, _beside(canary)), canary=canary, notice="")


def next_step(table: ReleaseTable, now: int) -> ReleaseTable:
    """The canary's next share; after its last step it is done, and keeps what it has."""
    canary = table.canary
    if canary is None or not canary.running:
        return table
    if canary.step + 1 == len(canary.steps):
        return replace(table, canary=replace(canary, outcome="done", step_at=now))
    canary = replace(canary, step=canary.step + 1, step_at=now)
    return replace(_weighted(table, _beside(canary), remember=False), canary=canary)


def end_canary(table: ReleaseTable, reason: str, now: int, *, breach: bool) -> ReleaseTable:
    """Put the weights back as they were before the canary. `Conflict` when none runs."""
    canary = table.canary
    if canary is None or not canary.running:
        raise Conflict("no canary is running")
    outcome: Outcome = "rolled-back" if breach else "stopped"
    return replace(
        _weighted(table, canary.before, remember=False),
        canary=replace(canary, outcome=outcome, reason=reason, step_at=now),
    )


def set_shadow(table: ReleaseTable, sha: str, share: float) -> ReleaseTable:
    """Show `sha` the events of `share` percent of the sessions. `NotFound`; `FieldError`; `Conflict` unless active."""
    if not 0 < share <= 100:
        raise FieldError("share", "a percentage above 0 and up to 100")
    _usable(table, sha, "making it a shadow")
    return replace(table, shadow=Shadow(sha, share))


def end_shadow(table: ReleaseTable) -> ReleaseTable:
    return replace(table, shadow=None)


def _beside(canary: Canary) -> Mapping[str, int]:
    """Weights that give the canary its percentage exactly, and the others the rest as they shared before."""
    others = {sha: weight for sha, weight in canary.before.items() if sha != canary.sha}
    if canary.percent == 100:
        return {canary.sha: WHOLE}
    weights = {sha: weight * (100 - canary.percent) for sha, weight in others.items()}
    weights[canary.sha] = canary.percent * sum(others.values())
    common = gcd(*weights.values())
    return {sha: weight // common for sha, weight in weights.items()}


def _weighted(table: ReleaseTable, weights: Mapping[str, int], *, remember: bool = True) -> ReleaseTable:
    entries = {sha: replace(entry, weight=weights.get(sha, 0)) for sha, entry in table.entries.items()}
    changed = dict(table.weights) != {sha: weight for sha, weight in weights.items() if weight}
    previous = dict(table.weights) if remember and changed else table.previous
    return replace(table, entries=entries, previous=previous)


def _with(table: ReleaseTable, entry: ReleaseEntry) -> ReleaseTable:
    return replace(table, entries={**table.entries, entry.sha: entry})


def _usable(table: ReleaseTable, sha: str, before: str) -> None:
    """`Conflict` unless `sha` may get sessions."""
    entry = table.entry(sha)
    if entry.state == "warming":
        wrong = f": {entry.check_error}" if entry.check_error else ""
        checks = f"{entry.checks_passed} of {entry.checks_needed} health checks have passed"
        raise Conflict(f"release {sha!r} is warming, {checks}{wrong}; wait before {before}")
    if entry.state != "active":
        raise Conflict(f"release {sha!r} is {entry.state}; add it again before {before}")


def _canary_runs(table: ReleaseTable) -> bool:
    return table.canary is not None and table.canary.running


def _no_canary(table: ReleaseTable) -> None:
    if table.canary is not None and table.canary.running:
        raise Conflict(f"a canary is running with release {table.canary.sha!r}; stop it, or promote a release")


def _ended(table: ReleaseTable, reason: str) -> Canary | None:
    if table.canary is None or not table.canary.running:
        return table.canary
    return replace(table.canary, outcome="stopped", reason=reason)
