"""``holdfast reap`` against what a real kube-apiserver has answered (tests/chart/test_real_cluster.py records it; other
versions of the API may differ), and a table of releases in the form that the edge gives it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edge import cli
from edge.commands.reap_rules import REMOVING, Deployment, decide, objects
from tests.support.ports import LOOPBACK, free_port
from tests.support.recorded import Recorded, recorded

RECORDED = Path(__file__).resolve().parents[2] / "chart" / "recorded"
TABLE, LIST = "GET /v1/apps/chat/releases", "GET /apis/apps/v1/namespaces/apps/deployments"
OLD, CURRENT = "app-3f2a1c0", "app-7e41b02"
PLACE = "/apis/apps/v1/namespaces/apps/deployments/" + OLD
PATCH, FORGET = f"PATCH {PLACE}", "DELETE /v1/apps/chat/releases/3f2a1c0"
NOW, HOUR = 1_800_000_000_000, 3_600_000


def load(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text())


def table(**changes: Any) -> dict[str, Any]:
    """The recorded one; `changes` are made to the empty release."""
    found: dict[str, Any] = load("releases")
    found["releases"][0] |= changes
    return found


@pytest.fixture
def edge() -> Iterator[Recorded]:
    with recorded({TABLE: (200, table()), FORGET: (200, table())}) as server:
        yield server


@pytest.fixture
def cluster() -> Iterator[Recorded]:
    with recorded({LIST: (200, load("deployments")), PATCH: (200, {})}) as server:
        yield server


def reap(edge: Recorded, cluster: Recorded, *more: str) -> int:
    where = ["--control", edge.url, "--token", "t", "--kubernetes", cluster.url]
    return cli.main(["reap", "--app", "chat", "--namespace", "apps", *where, *more])


# -- the command


def test_an_empty_release_goes_to_zero_and_the_current_one_stays(
    edge: Recorded, cluster: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    version = load("deployments")["items"][0]["metadata"]["resourceVersion"]
    assert reap(edge, cluster) == 0
    assert cluster.changes() == [
        ("PATCH", PLACE, {"metadata": {"resourceVersion": version}, "spec": {"replicas": 0}}),
    ]
    assert edge.changes() == []
    assert cluster.calls[0][1].endswith("?labelSelector=holdfast.dev%2Fapp%3Dchat")
    assert edge.headers[0]["authorization"] == "Bearer t"
    assert "authorization" not in cluster.headers[0]
    assert capsys.readouterr().out.splitlines() == [
        f"scale  {OLD} (release 3f2a1c0): its release is empty",
        f"keep   {CURRENT} (release 7e41b02): its release has 12 sessions",
    ]


def test_removal_marks_asks_the_edge_to_forget_and_deletes_the_deployment_last(
    edge: Recorded, cluster: Recorded
) -> None:
    cluster.answers[f"DELETE {PLACE}"] = (200, {})
    assert reap(edge, cluster, "--remove") == 0
    assert edge.changes() == [("DELETE", "/v1/apps/chat/releases/3f2a1c0", None)]
    (method, place, patch), *deletions = cluster.changes()
    assert (method, place, patch["spec"]) == ("PATCH", PLACE, {"replicas": 0})
    assert REMOVING in patch["metadata"]["annotations"]
    paths = [path for method, path, _ in deletions if method == "DELETE"]
    assert len(paths) == len(deletions)
    assert [path for path in paths if "/secrets/" in path] == [
        f"/api/v1/namespaces/apps/secrets/sh.helm.release.v1.{OLD}.v{number}" for number in (1, 2, 3)
    ]
    assert f"/api/v1/namespaces/apps/services/{OLD}" in paths
    assert paths[-1] == PLACE
    assert not [path for path in paths if CURRENT in path]


def test_a_dry_run_changes_nothing(edge: Recorded, cluster: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    assert reap(edge, cluster, "--remove", "--dry-run", "--json") == 0
    assert cluster.changes() == edge.changes() == []
    said = json.loads(capsys.readouterr().out)
    assert [(one["action"], one["result"]) for one in said["decisions"]] == [
        ("remove", "would be done"),
        ("keep", "kept"),
    ]


def test_a_release_that_is_deployed_again_in_between_stays(
    edge: Recorded, cluster: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    edge.answers[TABLE] = [(200, table()), (200, table(state="active", weight=100, current=True, emptied_at=None))]
    assert reap(edge, cluster, "--remove") == 0
    assert cluster.changes() == edge.changes() == []
    assert "its release gets sessions" in capsys.readouterr().out


def test_a_deployment_that_changes_in_between_is_left_to_the_next_run(
    edge: Recorded, cluster: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.answers[PATCH] = (409, load("conflict"))
    assert reap(edge, cluster, "--remove") == 0
    assert edge.changes() == []
    assert [call[0] for call in cluster.changes()] == ["PATCH"]
    assert "changed meanwhile" in capsys.readouterr().out


def test_what_the_edge_will_not_forget_is_put_back(
    edge: Recorded, cluster: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    edge.answers[FORGET] = (409, {"error": {"code": "conflict", "message": "it still has 3 sessions"}})
    assert reap(edge, cluster, "--remove") == 0
    assert [call[0] for call in cluster.changes()] == ["PATCH", "PATCH"]
    assert cluster.changes()[-1][2] == {"metadata": {"annotations": {REMOVING: None}}, "spec": {"replicas": 2}}
    assert "it still has 3 sessions [changed meanwhile]" in capsys.readouterr().out


def test_without_the_edge_nobody_asks_the_cluster(cluster: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    away = f"http://{LOOPBACK}:{free_port()}"
    where = ["--control", away, "--kubernetes", cluster.url]
    assert cli.main(["reap", "--app", "chat", "--namespace", "apps", "--remove", *where]) == 1
    assert cluster.calls == []
    assert "no edge answers" in capsys.readouterr().err


def test_a_role_that_is_too_small_is_said(
    edge: Recorded, cluster: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.answers[LIST] = (403, load("forbidden"))
    assert reap(edge, cluster) == 1
    assert "the reaper's Role must allow it" in capsys.readouterr().err


def test_one_that_fails_does_not_stop_the_others(
    edge: Recorded, cluster: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    content = load("deployments")
    twin = copy.deepcopy(content["items"][0])
    twin["metadata"]["name"] = "app-twin"
    content["items"].append(twin)
    cluster.answers |= {
        LIST: (200, content),
        PATCH: (500, {"message": "etcd is away"}),
        PATCH.replace(OLD, "app-twin"): (200, {}),
    }
    assert reap(edge, cluster) == 1
    out = capsys.readouterr().out
    assert "etcd is away [failed]" in out
    assert "scale  app-twin (release 3f2a1c0): its release is empty\n" in out


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reap", "--namespace", "apps"]) == 2
    assert cli.main(["reap", "--app", "chat", "--namespace", "../x"]) == 2
    assert cli.main(["reap", "--app", "chat", "--namespace", "apps", "--grace", "5"]) == 2
    said = capsys.readouterr().err
    assert "--app APP is needed" in said
    assert "no name of a namespace" in said


# -- the rules


def deployment(**changes: Any) -> Deployment:
    fields: dict[str, Any] = {
        "name": OLD, "release": "3f2a1c0", "replicas": 2, "created_ms": NOW - 9 * HOUR, "resource_version": "1",
    }  # fmt: skip
    return Deployment(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sessions": None}, "nobody knows"),
        ({"sessions": 1}, "1 sessions"),
        ({"configured": True}, "configuration"),
        ({"current": True}, "gets sessions"),
        ({"weight": 1}, "gets sessions"),
        ({"state": "active"}, "not retired"),
        ({"state": "draining"}, "not called it empty"),
        ({"state": "warming"}, "warming"),
    ],
)
def test_a_release_in_use_is_left_alone(changes: dict[str, Any], reason: str) -> None:
    decision = decide(deployment(), table(**changes), NOW, grace_ms=0, removal=True)
    assert decision.action == "keep"
    assert reason in decision.reason


@pytest.mark.parametrize("complete", [False, None])
def test_an_incomplete_count_leaves_everything_alone(complete: bool | None) -> None:
    for sha in ("3f2a1c0", "unknown"):
        answer = table() | {"complete": complete}
        assert decide(deployment(release=sha), answer, NOW, grace_ms=0, removal=True).action == "keep"


@pytest.mark.parametrize(
    ("replicas", "empty_ms", "removal", "action"),
    [
        (2, 0, False, "scale"),
        (2, HOUR - 1, True, "scale"),
        (0, HOUR - 1, True, "keep"),
        (0, HOUR, True, "remove"),
        (2, HOUR, True, "remove"),
        (0, HOUR, False, "keep"),
    ],
)
def test_an_empty_release_loses_its_pods_at_once_and_the_rest_after_the_grace_time(
    replicas: int, empty_ms: int, removal: bool, action: str
) -> None:
    answer = table(emptied_at=NOW - empty_ms)
    assert decide(deployment(replicas=replicas), answer, NOW, grace_ms=HOUR, removal=removal).action == action


@pytest.mark.parametrize(
    ("age_ms", "replicas", "removing", "removal", "action"),
    [
        (HOUR - 1, 2, False, True, "keep"),
        (HOUR, 2, False, True, "scale"),
        (HOUR, 0, False, True, "keep"),
        (0, 0, True, True, "remove"),
        (HOUR, 0, True, False, "keep"),
    ],
)
def test_one_whose_release_the_edge_does_not_know_is_never_removed_unless_that_had_begun(
    age_ms: int, replicas: int, removing: bool, removal: bool, action: str
) -> None:
    one = deployment(release="unknown", created_ms=NOW - age_ms, replicas=replicas, removing=removing)
    assert decide(one, table(), NOW, grace_ms=HOUR, removal=removal).action == action


def test_a_deployment_that_is_not_helms_has_no_secrets_deleted() -> None:
    assert not [path for path in objects(deployment(helm_revision=3), "apps") if "/secrets/" in path]
    hostile = deployment(helm_name="../x", helm_revision=10**9)
    secrets = [path for path in objects(hostile, "apps") if "/secrets/" in path]
    assert len(secrets) < 300
    assert not [path for path in secrets if "/../" in path]


def test_a_deployment_is_read_as_the_cluster_writes_it() -> None:
    recorded = load("deployments")["items"][0]
    one = Deployment.of(recorded)
    assert (one.name, one.release, one.replicas, one.helm_name, one.helm_revision) == (OLD, "3f2a1c0", 2, OLD, 2)
    created = datetime.strptime(recorded["metadata"]["creationTimestamp"], "%Y-%m-%dT%H:%M:%SZ")
    assert one.created_ms == int(created.replace(tzinfo=UTC).timestamp() * 1_000)
