"""``holdfast reap``: pods of releases that are empty go to zero, and after a grace time the release goes altogether.

Meant for a CronJob beside the releases (charts/release, ``mode: reaper``). What it does is decided by `decide`, out of
what the edges say of a release and how old its Deployment is; everything else here asks and acts. A release is touched
only when every edge has answered, it was retired, and nobody is on it; that is asked again right before acting. When
the edges or Kubernetes do not answer, nothing is done.
"""

from __future__ import annotations

import argparse
import os
import ssl
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edge.commands.control_client import (
    FAILED,
    OK,
    Answer,
    ControlClient,
    Failed,
    WrongUsage,
    add_flags,
    guarded,
    path,
    print_json,
)
from edge.commands.parsers import new_command
from edge.commands.terminal import duration, parse_duration

if TYPE_CHECKING:
    import httpx

    from edge.commands.parsers import Commands

APP_LABEL, RELEASE_LABEL, INSTANCE_LABEL = "holdfast.dev/app", "holdfast.dev/release", "app.kubernetes.io/instance"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT_S = 20.0
What = Literal["leave", "scale", "remove"]
KINDS = (
    "apis/apps/v1/namespaces/{namespace}/deployments",
    "api/v1/namespaces/{namespace}/services",
    "api/v1/namespaces/{namespace}/secrets",
)
"""What is deleted of a release; the Secrets are Helm's own records of it."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment of a release. `created`: wall ms."""

    name: str
    sha: str
    instance: str
    replicas: int
    created: int

    @classmethod
    def of(cls, deployment: Mapping[str, Any]) -> Workload:
        meta = deployment["metadata"]
        labels = meta["labels"]
        created = datetime.fromisoformat(meta["creationTimestamp"].replace("Z", "+00:00"))
        replicas = deployment["spec"].get("replicas", 1)
        instance = labels.get(INSTANCE_LABEL, "")
        return cls(meta["name"], labels[RELEASE_LABEL], instance, replicas, int(created.timestamp() * 1_000))


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason`: for people."""

    what: What
    reason: str


def decide(workload: Workload, table: Answer, now: int, grace_ms: int, *, remove: bool) -> Decision:
    """What to do with a Deployment, `table` being what the edges say of the app's releases. `now`: wall ms."""
    if not table["complete"]:
        return Decision("leave", "not every edge has said how many sessions it has")
    release = next((row for row in table["releases"] if row["sha"] == workload.sha), None)
    if release is None:
        # Installed a moment ago and not registered yet, or forgotten long since: its age tells them apart. Nothing can
        # be sent to it either way, and what was registered before it was removed was empty then.
        if now - workload.created < grace_ms:
            return Decision("leave", "the edges do not know it, and it is younger than the grace time")
        return _down(workload, "the edges do not know it", removable=remove)
    if release["sessions"] != 0:
        return Decision("leave", f"it has {release['sessions']} sessions")
    if release["state"] != "empty":
        return Decision("leave", f"it is {release['state']}, not retired and empty")
    since = now - int(release["emptied_at"] or now)
    reason = f"it has been empty for {duration(since)}"
    return _down(workload, reason, removable=remove and since >= grace_ms)


def _down(workload: Workload, reason: str, *, removable: bool) -> Decision:
    if removable:
        return Decision("remove", reason)
    if workload.replicas:
        return Decision("scale", reason)
    return Decision("leave", f"{reason}, and has no pods")


class Kubernetes:
    """The few calls that are needed, with a service account's token. `Failed` when one is refused."""

    def __init__(self, client: httpx.Client, namespace: str) -> None:
        self._client = client
        self.namespace = namespace

    def workloads(self, app: str) -> Sequence[Workload]:
        """Of all releases of `app`."""
        found = self._call("GET", KINDS[0], {"labelSelector": f"{APP_LABEL}={app},{RELEASE_LABEL}"})
        return [Workload.of(each) for each in found["items"]]

    def scale_to_zero(self, workload: Workload) -> None:
        self._call("PATCH", f"{KINDS[0]}/{workload.name}/scale", body={"spec": {"replicas": 0}})

    def remove(self, workload: Workload) -> None:
        """Everything of its Helm release. What is gone already is as good."""
        if not workload.instance:
            raise Failed(f"Deployment {workload.name} has no label {INSTANCE_LABEL}: nobody knows what else is of it")
        for kind in KINDS:
            label = f"owner=helm,name={workload.instance}" if kind == KINDS[2] else self._mine(workload)
            self._call("DELETE", kind, {"labelSelector": label})

    @staticmethod
    def _mine(workload: Workload) -> str:
        return f"{INSTANCE_LABEL}={workload.instance},{RELEASE_LABEL}={workload.sha}"

    def _call(
        self, method: str, where: str, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> Any:
        import httpx

        url = "/" + where.format(namespace=self.namespace)
        headers = {"Content-Type": "application/merge-patch+json"} if body else {}
        try:
            answer = self._client.request(method, url, params=query, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise Failed(f"Kubernetes does not answer: {error or type(error).__name__}") from None
        if answer.status_code == 404 and method == "DELETE":
            return {}
        if answer.is_success:
            return answer.json()
        hint = "; does the service account's Role allow it?" if answer.status_code == 403 else ""
        raise Failed(f"Kubernetes refused {method} {url}: {answer.status_code} {_said(answer)}{hint}")


def _said(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]


# -- the command


def add_commands(commands: Commands) -> None:
    parser = new_command(
        commands,
        "reap",
        "take down the pods of releases that are retired and empty (Kubernetes)",
        "Scale Deployments of releases that are retired and have no sessions to zero, and with --remove delete what\n"
        "their Helm releases made, once they have been empty for the grace time. Runs in the cluster, as a CronJob.",
    )
    parser.add_argument("--namespace", metavar="NAME", help="of the releases (default: the pod's own)")
    parser.add_argument("--grace", metavar="TIME", default="1h", help="how long a release is kept empty (default: 1h)")
    parser.add_argument("--remove", action="store_true", help="also delete releases, not only their pods")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--kubernetes", metavar="URL", help="another API server than the pod's own")
    add_flags(parser)
    parser.set_defaults(run=_run)


@guarded
def _run(arguments: argparse.Namespace) -> int:
    grace_ms = parse_duration(arguments.grace, "--grace")
    with ControlClient.of(arguments) as edges, _kubernetes_client(arguments.kubernetes) as http:
        kubernetes = Kubernetes(http, arguments.namespace or _own_namespace())
        reports, failed = [], False
        for workload in kubernetes.workloads(edges.app):
            decision, problem = _see_to(workload, edges, kubernetes, grace_ms, arguments)
            failed = failed or bool(problem)
            reports.append(_report(workload, decision, problem))
            if not arguments.json:
                outcome = f"FAILED: {problem}" if problem else decision.reason
                print(f"{decision.what:<7}{workload.name}  {workload.sha}  {outcome}", file=sys.stdout)
        if arguments.json:
            print_json({"dry_run": arguments.dry_run, "decisions": reports})
    return FAILED if failed else OK


def _report(workload: Workload, decision: Decision, problem: str) -> Mapping[str, Any]:
    return {
        "deployment": workload.name,
        "sha": workload.sha,
        "what": decision.what,
        "reason": decision.reason,
        "problem": problem,
    }


def _see_to(
    workload: Workload, edges: ControlClient, kubernetes: Kubernetes, grace_ms: int, arguments: argparse.Namespace
) -> tuple[Decision, str]:
    """One Deployment: the edges are asked about it right before anything is done. One that fails stops no other."""
    table = edges.get(path("apps", edges.app, "releases"))
    decision = decide(workload, table, time.time_ns() // 1_000_000, grace_ms, remove=arguments.remove)
    if decision.what == "leave" or arguments.dry_run:
        return decision, ""
    try:
        if decision.what == "scale":
            kubernetes.scale_to_zero(workload)
            return decision, ""
        if any(row["sha"] == workload.sha for row in table["releases"]):
            # First: the edges refuse when anybody has come to it meanwhile, and then its pods stay.
            edges.delete(path("apps", edges.app, "releases", workload.sha))
        kubernetes.remove(workload)
    except Failed as error:
        return decision, str(error)
    return decision, ""


def _own_namespace() -> str:
    try:
        return (ACCOUNT / "namespace").read_text().strip()
    except OSError:
        raise WrongUsage("--namespace is needed outside of a cluster") from None


def _kubernetes_client(url: str | None) -> httpx.Client:
    import httpx

    if url:
        return httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False)
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    try:
        token = (ACCOUNT / "token").read_text().strip()
        trusted = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    except OSError:
        token = ""
    if not host or not token:
        raise WrongUsage("this is no pod with a service account; run it in one, or say --kubernetes URL")
    host = f"[{host}]" if ":" in host else host
    return httpx.Client(
        base_url=f"https://{host}:{port}",
        headers={"Authorization": f"Bearer {token}"},
        verify=trusted,
        timeout=TIMEOUT_S,
        trust_env=False,
    )
