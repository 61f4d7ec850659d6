"""How releases look on a terminal. Pure: an answer of the control API in, text out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.commands.terminal import Palette, bar, duration, percent, printable, table

BAR_COLUMNS = 12
DIFFERENCES_SHOWN = 5

Answer = Mapping[str, Any]


def table_text(answer: Answer, palette: Palette, now: int) -> str:
    """All releases of an app, and what is under way. `now`: wall ms."""
    heads = ["", "RELEASE", "STATE", "SHARE", "", "SESSIONS", "AGE", "URL", "COHORTS"]
    rows = [_row(release, palette, now) for release in answer["releases"]]
    text = [table(heads, rows, palette, right="SHARE,SESSIONS,AGE")]
    if not answer.get("complete", True):
        text.append(palette.odd("An edge did not answer in time: sessions are not counted. Ask again."))
    if answer.get("canary") is not None:
        text.append(canary_text(answer["canary"], palette, now))
    if answer.get("shadow") is not None:
        text.append(shadow_text(answer["shadow"], palette))
    return "\n".join(text)


def _row(release: Answer, palette: Palette, now: int) -> list[str]:
    share = float(release["share"])
    sessions = release["sessions"]
    return [
        "▶" if release["current"] else "",
        palette.sha(release["sha"]),
        state_text(release, palette, now),
        percent(share),
        palette.sha(release["sha"], bar(share / 100, BAR_COLUMNS)),
        "?" if sessions is None else str(sessions),
        "configured" if release["added_at"] is None else duration(max(0, now - release["added_at"])),
        printable(release["url"]),
        printable(" ".join(release["cohorts"])),
    ]


def state_text(release: Answer, palette: Palette, now: int) -> str:
    """The state, with what it waits for."""
    state = str(release["state"])
    if state == "active":
        return palette.good(state)
    if state == "warming":
        health = release["health"]
        return palette.odd(f"warming {health['passed']}/{health['needed']}")
    retirement = release["retirement"]
    if state == "draining" and retirement is not None:
        until = retirement["until"]
        left = f", {duration(until - now)} left" if until is not None and until > now else ""
        return palette.odd(f"draining {retirement['how']}{left}")
    return palette.dim(printable(state))


def release_text(release: Answer, palette: Palette, now: int) -> str:
    """One release, a line for each thing there is to say."""
    sessions = release["sessions"]
    lines = {
        "release": palette.sha(release["sha"]) + (" (current)" if release["current"] else ""),
        "state": state_text(release, palette, now),
        "url": printable(release["url"]),
        "share": f"{percent(float(release['share']))} (weight {release['weight']})",
        "sessions": "unknown: an edge did not answer in time" if sessions is None else str(sessions),
        "cohorts": printable(", ".join(release["cohorts"])),
        "added": "configured" if release["added_at"] is None else f"{duration(max(0, now - release['added_at']))} ago",
        "health": "" if release["added_at"] is None else _health(release["health"], palette),
        "empty for": duration(max(0, now - release["emptied_at"])) if release["emptied_at"] else "",
    }
    width = max(map(len, lines))
    return "\n".join(f"{palette.dim(name.ljust(width))}  {text}" for name, text in lines.items() if text)


def _health(health: Answer, palette: Palette) -> str:
    checked = f"GET {printable(health['path'])}" if health["path"] else "answers at all"
    said = f"; {palette.bad(printable(health['error']))}" if health["error"] else ""
    return f"{checked}, {health['passed']} of {health['needed']} checks passed{said}"


def canary_text(canary: Answer, palette: Palette, now: int) -> str:
    """Where the canary is, or how it ended."""
    sha, steps = palette.sha(canary["sha"]), ", ".join(f"{step}%" for step in canary["steps"])
    if canary["outcome"] in ("", "running"):
        left = max(0, canary["step_at"] + canary["every_ms"] - now)
        return f"Canary {sha}: {canary['share']}% of {steps}; next look in {duration(left)}."
    paint = palette.good if canary["outcome"] == "done" else palette.bad
    reason = f": {printable(canary['reason'])}" if canary["reason"] else ""
    return f"Canary {sha}: {paint(printable(canary['outcome']))}{reason}."


def shadow_text(shadow: Answer, palette: Palette) -> str:
    """How alike the shadow's answers are."""
    text = f"Shadow {palette.sha(shadow['sha'])}: {percent(float(shadow['share']))} of the sessions"
    if "seen" not in shadow:
        return f"{text}."
    counts = ", ".join(f"{shadow.get(name, 0)} {name}" for name in ("seen", "same", "different", "failed", "dropped"))
    lines = [f"{text}; events: {counts}."]
    for difference in shadow.get("differences", ())[:DIFFERENCES_SHOWN]:
        lines.append(f"  {printable(str(difference['session']))} {printable(str(difference['event']))}")
        lines += [f"    {name:6} {printable(str(difference[name]))}" for name in ("live", "shadow")]
    return "\n".join(lines)
