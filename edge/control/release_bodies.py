"""Bodies of what operators say about releases, checked field by field (`FieldError` names the field)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from edge.control.bodies import Body, only
from edge.errors import FieldError
from edge.model.release import How, Retirement
from edge.sessions.release_desk import NewRelease

URL_CHARS = 2_048
NOTICE_BYTES = 65_536
CHECKS_MOST = 1_000
YEAR_MS = 366 * 86_400_000
HOWS = ("now", "over", "when-idle", "at-most")


@dataclass(frozen=True, slots=True)
class CanaryPlan:
    """As `release_changes.start_canary` takes it."""

    steps: Sequence[int]
    every_ms: int
    max_error_rate: float | None
    max_p99_ms: int | None
    min_events: int


def new_release(sha: str, body: Body) -> NewRelease:
    """``{"url", "health"?, "checks"?, "cohorts"?}``."""
    only(body, {"url", "health", "checks", "cohorts"})
    health = _text(body, "health", "", URL_CHARS)
    if health and (not health.startswith("/") or not health.isascii() or not health.isprintable() or " " in health):
        raise FieldError("health", "a path that begins with a slash is needed, such as /healthz")
    checks = _whole(body, "checks", 1, 1, CHECKS_MOST)
    cohorts = None if "cohorts" not in body.fields else _texts(body, "cohorts")
    return NewRelease(sha, _needed_text(body, "url", URL_CHARS), health, checks, cohorts)


def notice(body: Body) -> str:
    """``{"notice"?}``."""
    only(body, {"notice"})
    return _text(body, "notice", "", NOTICE_BYTES)


def retirement(body: Body, now: int) -> Retirement:
    """``{"how"?, "for_ms"?, "at_most_ms"?, "notice"?}``; at once when it does not say how."""
    only(body, {"how", "for_ms", "at_most_ms", "notice"})
    how = body.fields.get("how", "now")
    if how not in HOWS:
        raise FieldError("how", f"one of {', '.join(HOWS)}")
    if how == "now" and "for_ms" in body.fields:
        raise FieldError("for_ms", "is not for the way now; over, when-idle and at-most have it")
    if how != "now" and "for_ms" not in body.fields:
        raise FieldError("for_ms", f"is missing: how long, for the way {how}")
    for_ms = 0 if how == "now" else _whole(body, "for_ms", 0, 0, YEAR_MS)
    at_most_ms = _whole(body, "at_most_ms", 0, 0, YEAR_MS)
    return Retirement(cast(How, how), now, for_ms, at_most_ms, _text(body, "notice", "", NOTICE_BYTES))


def cohort_rules(body: Body) -> Sequence[str]:
    """``{"rules": [text]}``."""
    only(body, {"rules"})
    return _texts(body, "rules")


def weights(body: Body) -> dict[str, int]:
    """``{"weights": {sha: whole number}}``."""
    only(body, {"weights"})
    given = body.fields.get("weights")
    if not isinstance(given, dict) or not given:
        raise FieldError("weights", "a map from release to weight is needed")
    for sha, weight in given.items():
        if type(sha) is not str or type(weight) is not int:
            raise FieldError("weights", "a map from release to weight, a whole number, is needed")
    return given


def canary(body: Body) -> CanaryPlan:
    """``{"steps", "every_ms", "max_error_rate"?, "max_p99_ms"?, "min_events"?}``; the rules check the ranges."""
    only(body, {"steps", "every_ms", "max_error_rate", "max_p99_ms", "min_events"})
    steps = body.fields.get("steps")
    if not isinstance(steps, list) or any(type(step) is not int for step in steps):
        raise FieldError("steps", "a list of whole percents is needed, such as [1, 5, 25, 100]")
    rate = body.fields.get("max_error_rate", 0.01)
    if rate is not None and type(rate) not in (int, float):
        raise FieldError("max_error_rate", "a share from 0 to 1 is needed, or null")
    p99 = body.fields.get("max_p99_ms")
    if p99 is not None:
        p99 = _whole(body, "max_p99_ms", 0, 1, YEAR_MS)
    every_ms = _whole(body, "every_ms", None, 0, YEAR_MS)
    return CanaryPlan(steps, every_ms, rate, p99, _whole(body, "min_events", 20, 1, 1_000_000_000))


def share(body: Body) -> float:
    """``{"share": percent}``."""
    only(body, {"share"})
    percent: Any = body.fields.get("share")
    if type(percent) not in (int, float):
        raise FieldError("share", "a percentage is needed")
    return float(percent)


def _whole(body: Body, name: str, default: int | None, least: int, most: int) -> int:
    value: Any = body.fields.get(name, default)
    if type(value) is not int or not least <= value <= most:
        raise FieldError(name, f"a whole number from {least} to {most} is needed")
    return value


def _text(body: Body, name: str, default: str, most: int) -> str:
    value: Any = body.fields.get(name, default)
    if type(value) is not str or len(value.encode()) > most:
        raise FieldError(name, f"must be text of at most {most} bytes")
    return value


def _needed_text(body: Body, name: str, most: int) -> str:
    if body.fields.get(name) is None:
        raise FieldError(name, "is missing")
    text = _text(body, name, "", most)
    if not text:
        raise FieldError(name, "must not be empty")
    return text


def _texts(body: Body, name: str) -> Sequence[str]:
    value: Any = body.fields.get(name)
    if not isinstance(value, list) or any(type(each) is not str for each in value):
        raise FieldError(name, "a list of texts is needed")
    return cast(Sequence[str], value)
