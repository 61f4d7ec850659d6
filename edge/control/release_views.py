"""How a release table looks from outside."""

from __future__ import annotations

from typing import Any

from edge.backend.shadow import COUNTS, ShadowFigures
from edge.model.release import Canary, ReleaseCounts, ReleaseEntry, ReleaseTable, Retirement, Shadow


def table_view(app: str, table: ReleaseTable, counts: ReleaseCounts, figures: ShadowFigures | None) -> dict[str, Any]:
    """All releases, oldest first."""
    shas = sorted(table.entries, key=lambda sha: (table.entries[sha].added_at, sha))
    return {
        "app": app,
        "version": table.version,
        "current": table.current.sha,
        "complete": counts.complete,
        "releases": [release_view(table, sha, counts) for sha in shas],
        "canary": None if table.canary is None else _canary_view(table.canary),
        "shadow": None if table.shadow is None else _shadow_view(table.shadow, figures or ShadowFigures()),
    }


def release_view(table: ReleaseTable, sha: str, counts: ReleaseCounts) -> dict[str, Any]:
    """`NotFound` when `sha` is not in `table`."""
    entry = table.entry(sha)
    return {
        "sha": entry.sha,
        "url": entry.url,
        "state": entry.state,
        "current": entry.sha == table.current.sha,
        "configured": entry.sha == table.configured,
        "weight": entry.weight,
        "share": round(table.share(sha), 3),
        "sessions": counts.of(sha),
        "cohorts": [rule.key for rule in entry.cohorts],
        "added_at": entry.added_at or None,
        "health": _health_view(entry),
        "retirement": None if entry.retirement is None else _retirement_view(entry.retirement),
        "emptied_at": entry.emptied_at or None,
    }


def _health_view(entry: ReleaseEntry) -> dict[str, Any]:
    return {
        "path": entry.health_path,
        "passed": entry.checks_passed,
        "needed": entry.checks_needed,
        "error": entry.check_error,
    }


def _retirement_view(retirement: Retirement) -> dict[str, Any]:
    return {
        "how": retirement.how,
        "since": retirement.since,
        "for_ms": retirement.for_ms,
        "at_most_ms": retirement.at_most_ms,
        "until": retirement.until,
        "notice": retirement.notice,
    }


def _canary_view(canary: Canary) -> dict[str, Any]:
    return {
        "sha": canary.sha,
        "steps": list(canary.steps),
        "step": canary.step,
        "share": canary.percent,
        "every_ms": canary.every_ms,
        "max_error_rate": canary.max_error_rate,
        "max_p99_ms": canary.max_p99_ms,
        "min_events": canary.min_events,
        "step_at": canary.step_at,
        "outcome": canary.outcome,
        "reason": canary.reason,
    }


def _shadow_view(shadow: Shadow, figures: ShadowFigures) -> dict[str, Any]:
    names = ("session", "event", "live", "shadow")
    differences = [dict(zip(names, each, strict=True)) for each in figures.differences]
    counts = {name: getattr(figures, name) for name in COUNTS}
    return {"sha": shadow.sha, "share": shadow.share, **counts, "differences": differences}
