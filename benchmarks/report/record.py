"""The record of a run: every round of everything, the machine, the versions, as JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.goals import Verdict
from benchmarks.plan import Plan
from benchmarks.stats import Failure, Medians, Sample

FORMAT = 1


def commit(folder: Path) -> str:
    """The commit the working tree stands on, `-dirty` when it has changes; empty outside a repository."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except OSError:
        return ""
    return done.stdout.strip()


def record(
    about: Mapping[str, Any],
    plan: Plan,
    samples: Sequence[Sample],
    table: Medians,
    verdicts: Sequence[Verdict],
    failures: Sequence[Failure],
    absent: Mapping[str, str],
) -> dict[str, Any]:
    """Everything a reader needs to judge or redraw a run. `about`: time, machine, versions, commit, pinning."""
    return {
        "format": FORMAT,
        **about,
        "plan": asdict(plan),
        "absent": dict(absent),
        "rounds": [{**asdict(sample.key), "round": sample.round, "values": sample.values} for sample in samples],
        "medians": [{**asdict(key), "values": values} for key, values in table.items()],
        "failures": [{**asdict(failure.key), "round": failure.round, "reason": failure.reason} for failure in failures],
        "goals": [
            {
                "title": verdict.goal.title,
                "must_be": f"{verdict.goal.sense} {verdict.goal.bound:g}",
                "measured": verdict.measured,
                "verdict": verdict.word,
            }
            for verdict in verdicts
        ],
    }


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Replace the file at once, so that a run that is cut short leaves the last whole record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    draft.replace(path)
