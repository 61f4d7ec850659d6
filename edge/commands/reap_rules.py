"""What is to become of the Deployments of an app's releases. Pure: no cluster, no edge, no clock.

A Deployment is touched only when the edge says that its release is empty, and every edge was counted. All doubt means:
leave it alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

APP_LABEL, RELEASE_LABEL = "holdfast.dev/app", "holdfast.dev/release"
REMOVING = "holdfast.dev/removing"
"""Annotation: its removal has begun. A reaper that dies in the middle is gone on with by the next one."""
REVISION = "holdfast.dev/helm-revision"
HELM_NAME = "meta.helm.sh/release-name"
REVISIONS_MOST = 200
"""An annotation is anyone's to write: no run sends thousands of requests for one."""

Action = Literal["keep", "scale", "remove"]


@dataclass(frozen=True, slots=True)
class Deployment:
    """One Deployment as the cluster has it. `created_ms`: wall clock."""

    name: str
    release: str
    replicas: int
    created_ms: int
    resource_version: str
    removing: bool = False
    helm_name: str = ""
    helm_revision: int = 0

    @classmethod
    def of(cls, thing: Mapping[str, Any]) -> Deployment:
        """From the Kubernetes API (apps/v1). No replicas said means one there."""
        metadata = thing["metadata"]
        annotations = metadata.get("annotations") or {}
        revision = str(annotations.get(REVISION, ""))
        created = datetime.fromisoformat(metadata["creationTimestamp"])
        return cls(
            name=metadata["name"],
            release=(metadata.get("labels") or {}).get(RELEASE_LABEL, ""),
            replicas=(thing.get("spec") or {}).get("replicas", 1),
            created_ms=int(created.timestamp() * 1_000),
            resource_version=metadata["resourceVersion"],
            removing=REMOVING in annotations,
            helm_name=annotations.get(HELM_NAME, ""),
            helm_revision=int(revision) if revision.isascii() and revision.isdigit() else 0,
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a Deployment, and why."""

    deployment: Deployment
    action: Action
    reason: str


def decide(deployment: Deployment, table: Mapping[str, Any], now_ms: int, *, grace_ms: int, removal: bool) -> Decision:
    """`table`: an answer of ``GET /v1/apps/{app}/releases``."""

    def keep(reason: str) -> Decision:
        return Decision(deployment, "keep", reason)

    if not deployment.release:
        return keep(f"it has no label {RELEASE_LABEL}")
    if table.get("complete") is not True:
        return keep("not every edge has said how many sessions it has")
    release = next((row for row in table["releases"] if row["sha"] == deployment.release), None)
    if release is None:
        return _unknown(deployment, now_ms, grace_ms, removal=removal)
    if reason := _in_use(release):
        return keep(reason)
    waited = now_ms - (release.get("emptied_at") or now_ms)
    if removal and waited >= grace_ms:
        return Decision(deployment, "remove", "its release is empty, and the grace time is over")
    if deployment.replicas:
        return Decision(deployment, "scale", "its release is empty")
    if removal:
        return keep("at zero already; its release is empty, and the grace time is not over")
    return keep("at zero already; its release is empty, and removal is not enabled")


def _in_use(release: Mapping[str, Any]) -> str:
    """Why its pods are needed; empty when they are not."""
    sessions = release.get("sessions")
    if sessions is None:
        return "nobody knows how many sessions its release has"
    if sessions:
        return f"its release has {sessions} sessions"
    if release.get("configured"):
        return "its release comes from the edge's configuration"
    if release.get("current") or release.get("weight"):
        return "its release gets sessions"
    match release.get("state"):
        case "empty":
            return ""
        case "active":
            # It may be promoted, rolled back to or given a cohort at any time.
            return "its release has no sessions, and is not retired"
        case "draining":
            return "its release has no sessions, and the edge has not called it empty yet"
        case state:
            return f"its release is {state}"


def _unknown(deployment: Deployment, now_ms: int, grace_ms: int, *, removal: bool) -> Decision:
    """The edge does not know its release.

    Its hook may not have registered it yet, hence the grace time. After that no session can be on it, so it needs no
    pods; but it stays, since the table may have been lost with its Redis, and whoever mends that wants it back. Only a
    removal that has begun, for which the edge has forgotten the release, is brought to its end.
    """
    if deployment.removing and removal:
        return Decision(deployment, "remove", "its removal has begun, and the edge has forgotten its release")
    if now_ms - deployment.created_ms < grace_ms:
        return Decision(deployment, "keep", "the edge does not know its release (yet), and the grace time is not over")
    if deployment.replicas:
        return Decision(deployment, "scale", "the edge does not know its release, and the grace time is over")
    return Decision(deployment, "keep", "at zero already; the edge does not know its release, so it is not removed")


def scale_patch(deployment: Deployment) -> Mapping[str, Any]:
    """A merge patch; 409 when somebody else has changed the Deployment since it was read."""
    return {"metadata": {"resourceVersion": deployment.resource_version}, "spec": {"replicas": 0}}


def removal_patch(deployment: Deployment, now_ms: int) -> Mapping[str, Any]:
    """The same, with a mark that the removal has begun."""
    patch = scale_patch(deployment)
    return {**patch, "metadata": {**patch["metadata"], "annotations": {REMOVING: str(now_ms)}}}


def undo_patch(deployment: Deployment) -> Mapping[str, Any]:
    """The mark and the zero taken back: the edge wants to keep the release."""
    return {"metadata": {"annotations": {REMOVING: None}}, "spec": {"replicas": deployment.replicas}}


def objects(deployment: Deployment, namespace: str) -> list[str]:
    """Paths of all that the chart made for a release, in the order of deletion.

    All have the Deployment's name, so none is searched for, and no Secret is read. The Deployment comes last: as
    long as it is there, the next run finds the rest.
    """
    of_kind = [
        f"/apis/keda.sh/v1alpha1/namespaces/{namespace}/scaledobjects",
        f"/apis/keda.sh/v1alpha1/namespaces/{namespace}/triggerauthentications",
        f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers",
        f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets",
        f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
        f"/api/v1/namespaces/{namespace}/services",
    ]
    secrets = []
    if deployment.helm_name:
        # One beyond what the Deployment knows: an upgrade that failed before it reached the Deployment.
        helm_name = quote(deployment.helm_name, safe="")
        secrets = [
            f"/api/v1/namespaces/{namespace}/secrets/sh.helm.release.v1.{helm_name}.v{number}"
            for number in range(1, min(deployment.helm_revision, REVISIONS_MOST) + 2)
        ]
    return [
        *(f"{kind}/{deployment.name}" for kind in of_kind),
        *secrets,
        f"/apis/apps/v1/namespaces/{namespace}/deployments/{deployment.name}",
    ]
