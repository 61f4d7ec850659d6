"""``holdfast reap``: scale Deployments of empty releases to zero, and remove them after a grace time.

Owns flags and the order of calls; what is to be done, and why, is `edge.commands.reap_rules`'s. It is meant for a
CronJob: one run looks at everything once, and what a run could not do the next one does.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commands.control_client import FAILED, OK, ControlClient, add_flags, guarded, path, print_json
from edge.commands.kubernetes import ACCOUNT, Changed, Cluster
from edge.commands.parsers import new_command
from edge.commands.reap_rules import (
    APP_LABEL,
    Decision,
    Deployment,
    decide,
    objects,
    removal_patch,
    scale_patch,
    undo_patch,
)
from edge.commands.refusals import Failed, WrongUsage
from edge.commands.terminal import parse_duration

if TYPE_CHECKING:
    from edge.commands.parsers import Commands

_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_EPILOG = f"""\
It looks at the Deployments with the label {APP_LABEL}=APP (charts/release sets it), and asks the edge about their
releases. One whose release is empty goes to zero replicas; with --remove it is deleted when its release has been empty
for the grace time, with its Service and what else the chart made, and the edge forgets the release. Left alone:
releases that have sessions, get some, or are not retired, and everything as long as one edge does not say what it
holds. Deployments whose release the edge does not know go to zero after the grace time since they were made.

Exit codes: 0 done, 1 something failed (the edge away: nothing was changed), 2 wrong usage.
"""


def add_commands(commands: Commands) -> None:
    """``reap``."""
    parser = new_command(commands, "reap", "clean up behind empty releases in Kubernetes", epilog=_EPILOG)
    parser.add_argument("--namespace", metavar="NS", help="namespace of the Deployments (default: the pod's own)")
    parser.add_argument("--selector", metavar="LABELS", default="", help="only those that have these labels too")
    parser.add_argument("--grace", metavar="TIME", default="1h", help="before something is removed (default: 1h)")
    parser.add_argument("--remove", action="store_true", help="remove what has been empty for the grace time")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--kubernetes", metavar="URL", help="Kubernetes API (default: of the cluster this runs in)")
    add_flags(parser)
    parser.set_defaults(run=run)


@dataclasses.dataclass(frozen=True, slots=True)
class _Outcome:
    """`result`: "kept", "done", "would be done", "changed meanwhile" or "failed"."""

    decision: Decision
    result: str

    def line(self) -> str:
        deployment = self.decision.deployment
        about = f"{deployment.name} (release {deployment.release or '?'})"
        result = "" if self.result in ("kept", "done") else f" [{self.result}]"
        return f"{self.decision.action:<6} {about}: {self.decision.reason}{result}"

    def view(self) -> Mapping[str, Any]:
        deployment = self.decision.deployment
        return {
            "deployment": deployment.name,
            "release": deployment.release,
            "action": self.decision.action,
            "reason": self.decision.reason,
            "result": self.result,
        }


@guarded
def run(arguments: argparse.Namespace) -> int:
    """Look at everything once; returns the exit code."""
    if not arguments.app:
        raise WrongUsage("--app APP is needed")
    namespace = _namespace(arguments.namespace)
    grace_ms = parse_duration(arguments.grace, "--grace")
    with ControlClient.of(arguments) as edge, Cluster(arguments.kubernetes or "") as cluster:
        reaper = _Reaper(edge, cluster, namespace, grace_ms, removal=arguments.remove)
        outcomes = []
        for decision in reaper.decisions(arguments.selector):
            outcome = reaper.act(decision, dry=arguments.dry_run)
            outcomes.append(outcome)
            if not arguments.json:
                print(outcome.line(), flush=True)
    if arguments.json:
        print_json(
            {"app": arguments.app, "dry_run": arguments.dry_run, "decisions": [outcome.view() for outcome in outcomes]}
        )
    elif not outcomes:
        print(f"there are no Deployments with {APP_LABEL}={arguments.app} in {namespace}")
    return FAILED if any(outcome.result == "failed" for outcome in outcomes) else OK


def _namespace(given: str | None, account: Path = ACCOUNT) -> str:
    try:
        namespace = given or (account / "namespace").read_text().strip()
    except OSError:
        raise WrongUsage("--namespace NS is needed outside of a pod") from None
    if not _NAMESPACE.fullmatch(namespace):
        raise WrongUsage(f"--namespace: {namespace!r} is no name of a namespace")
    return namespace


class _Reaper:
    """One run."""

    def __init__(self, edge: ControlClient, cluster: Cluster, namespace: str, grace_ms: int, *, removal: bool) -> None:
        self._edge = edge
        self._cluster = cluster
        self._namespace = namespace
        self._grace_ms = grace_ms
        self._removal = removal

    def decisions(self, selector: str) -> list[Decision]:
        """The edge is asked first: when it is away, nobody asks the cluster."""
        table = self._table()
        labels = f"{APP_LABEL}={self._edge.app}" + (f",{selector}" if selector else "")
        found = [Deployment.of(thing) for thing in self._cluster.deployments(self._namespace, labels)]
        return [self._decide(deployment, table) for deployment in sorted(found, key=lambda one: one.name)]

    def act(self, decision: Decision, *, dry: bool) -> _Outcome:
        """Do it. What fails is told, and the others go on."""
        if decision.action == "keep":
            return _Outcome(decision, "kept")
        if dry:
            return _Outcome(decision, "would be done")
        try:
            # Time has passed since the first question: the release may have been promoted.
            decision = self._decide(decision.deployment, self._table())
            match decision.action:
                case "keep":
                    return _Outcome(decision, "kept")
                case "scale":
                    self._cluster.patch(self._place(decision.deployment), scale_patch(decision.deployment))
                case "remove":
                    self._remove(decision.deployment)
        except Changed:
            reason = "somebody else has changed it just now; the next run looks again"
            return _Outcome(dataclasses.replace(decision, reason=reason), "changed meanwhile")
        except Failed as error:
            result = "changed meanwhile" if error.status == 409 else "failed"
            return _Outcome(dataclasses.replace(decision, reason=str(error)), result)
        return _Outcome(decision, "done")

    def _remove(self, deployment: Deployment) -> None:
        """Pods and mark, the edge's entry, the objects: what dies in between is found by the next run."""
        if not deployment.removing or deployment.replicas:
            self._cluster.patch(self._place(deployment), removal_patch(deployment, _now_ms()))
        try:
            self._edge.delete(path("apps", self._edge.app, "releases", deployment.release))
        except Failed as error:
            if error.status != 404:
                self._cluster.patch(self._place(deployment), undo_patch(deployment))
                raise
        for where in objects(deployment, self._namespace):
            self._cluster.delete(where)

    def _decide(self, deployment: Deployment, table: Mapping[str, Any]) -> Decision:
        return decide(deployment, table, _now_ms(), grace_ms=self._grace_ms, removal=self._removal)

    def _table(self) -> Mapping[str, Any]:
        return self._edge.get(path("apps", self._edge.app, "releases"))

    def _place(self, deployment: Deployment) -> str:
        return f"/apis/apps/v1/namespaces/{self._namespace}/deployments/{deployment.name}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
