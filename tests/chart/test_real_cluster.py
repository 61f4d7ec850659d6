"""A real Kubernetes API takes what the charts render, and the reaper does its work there with no more than its Role.

With HOLDFAST_RECORD=1 the answers that tests without a cluster use (`recorded/`) are written anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from edge.commands.kubernetes import Changed
from edge.commands.kubernetes import Cluster as Reaping
from edge.commands.refusals import Failed
from tests.chart import test_edge_chart, test_release_chart
from tests.scenarios.test_reaper import NEW, Place, place
from tests.support.client import connect
from tests.support.helm import install, template
from tests.support.kubernetes import Cluster, cluster
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.chart, pytest.mark.long]

RECORDED = Path(__file__).parent / "recorded"
EDGE, RELEASE = test_edge_chart.CHART, test_release_chart.CHART
NAMESPACE = "apps"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
APP, REAPER = f"app-{NEW}", "chat-reaper"
MADE = [
    DEPLOYMENTS,
    f"/api/v1/namespaces/{NAMESPACE}/services",
    f"/api/v1/namespaces/{NAMESPACE}/secrets",
    f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets",
    f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies",
    f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers",
]


@pytest.fixture(scope="module")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("kubernetes")) as found:
        for name in ("judged", "edge"):
            # What the strictest standard has against a pod comes as a warning of whatever makes the pod.
            labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
            found.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        yield found


@pytest.fixture
def apps(kube: Cluster) -> Iterator[Cluster]:
    """Namespace `NAMESPACE`, as new."""
    kube.ask("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}}, code=(201, 409))
    yield kube
    for collection in MADE:
        kube.ask("DELETE", collection)


@pytest.mark.parametrize(
    ("chart", "values"),
    [(EDGE, values) for values in test_edge_chart.MATRIX.values()]
    + [(RELEASE, values) for values in test_release_chart.MATRIX.values()],
    ids=[
        *(f"edge: {name}" for name in test_edge_chart.MATRIX),
        *(f"release: {name}" for name in test_release_chart.MATRIX),
    ],
)
def test_the_cluster_has_nothing_against_what_is_rendered(
    kube: Cluster, chart: Path, values: Mapping[str, Any]
) -> None:
    objects = template(chart, values, namespace="judged")
    known = [each for each in objects if kube.has(each["apiVersion"], each["kind"])]
    assert known
    for each in known:
        assert kube.judge(each, "judged") == [], each["metadata"]["name"]


def test_the_edge_is_installed_and_upgraded(kube: Cluster) -> None:
    for replicas in (2, 3):
        values = {**test_edge_chart.BASE, "replicas": replicas}
        said = install(EDGE, values, name="holdfast", namespace="edge", kubeconfig=kube.kubeconfig)
        assert "warning" not in said.lower(), said
        [deployment] = kube.ask("GET", "/apis/apps/v1/namespaces/edge/deployments")["items"]
        assert deployment["spec"]["replicas"] == replicas


def installed(kube: Cluster, sha: str, times: int = 2) -> None:
    """A release of app `chat`, upgraded as often."""
    values = {
        **test_release_chart.BASE,
        "sha": sha,
        "networkPolicy": {"enabled": True, "from": [test_release_chart.PEER]},
    }
    for _ in range(times):
        install(RELEASE, values, name=f"app-{sha}", namespace=NAMESPACE, kubeconfig=kube.kubeconfig)


def reaper(kube: Cluster, **settings: bool) -> str:
    """Its chart, installed so; the token that its pods have."""
    values = {**test_release_chart.REAPER, "reaper": settings}
    install(RELEASE, values, name=REAPER, namespace=NAMESPACE, kubeconfig=kube.kubeconfig)
    return kube.token_of(NAMESPACE, REAPER)


def test_the_roles_allow_what_is_needed_and_nothing_else(apps: Cluster) -> None:
    installed(apps, NEW)
    installed(apps, "7e41b02")
    secrets, pods = f"/api/v1/namespaces/{NAMESPACE}/secrets", f"/api/v1/namespaces/{NAMESPACE}/pods"
    with apps.proxy(reaper(apps, dryRun=True)) as looking:
        with Reaping(looking.url) as reaping:
            found = reaping.deployments(NAMESPACE, "holdfast.dev/app=chat")
            assert sorted(each["metadata"]["name"] for each in found) == ["app-3f2a1c0", "app-7e41b02"]
            with pytest.raises(Failed, match="the reaper's Role must allow it"):
                reaping.patch(f"{DEPLOYMENTS}/{APP}", {})
            with pytest.raises(Failed, match="the reaper's Role must allow it"):
                reaping.delete(f"{DEPLOYMENTS}/{APP}")
        keep("deployments", looking.seen[0][3])
        keep("forbidden", looking.seen[1][3])
    with apps.proxy(reaper(apps, remove=True)) as removing, Reaping(removing.url) as reaping:
        version = found[0]["metadata"]["resourceVersion"]
        reaping.patch(f"{DEPLOYMENTS}/{APP}", {"metadata": {"resourceVersion": version}, "spec": {"replicas": 0}})
        with pytest.raises(Changed):
            reaping.patch(f"{DEPLOYMENTS}/{APP}", {"metadata": {"resourceVersion": version}, "spec": {"replicas": 1}})
        keep("conflict", removing.seen[-1][3])
        for where in (secrets, pods, f"{DEPLOYMENTS}/{APP}/scale"):
            assert removing.http.get(where).status_code == 403, where
        assert removing.http.delete(secrets).status_code == 403
        assert removing.http.delete("/api/v1/namespaces/edge/services/holdfast").status_code == 403


async def test_the_reaper_scales_an_empty_release_and_removes_all_that_its_chart_made(
    apps: Cluster, tmp_path: Path
) -> None:
    installed(apps, NEW)
    installed(apps, "7e41b02")
    with apps.proxy(reaper(apps, remove=True)) as there:
        async with place(tmp_path, app="chat") as here, connect(here.edge.url()) as client:
            await here.register()
            await here.release("promote", NEW)
            await client.send("hello")
            assert await client.expect(1) == [f"hello {NEW}"]
            assert await reaped(here, there.url) == "keep"
            await here.release("rollback")
            await here.release("retire", NEW, "--wait", "30s")

            async def empty() -> bool:
                return bool((await here.table())[NEW]["state"] == "empty")

            await wait_until(empty, "the edge calls the release empty", 30)
            assert await reaped(here, there.url, remove=False) == "scale"
            assert apps.ask("GET", f"{DEPLOYMENTS}/{APP}")["spec"]["replicas"] == 0
            assert await reaped(here, there.url) == "remove"
            assert NEW not in await here.table()
    left = [name for collection in MADE for name in apps.names(collection)]
    assert [name for name in left if NEW in name] == []
    assert len([name for name in left if "7e41b02" in name]) == 6, left


async def reaped(here: Place, url: str, *, remove: bool = True) -> str:
    """What is done with the Deployment of NEW."""
    flags = ["--remove", "--grace", "0s"] if remove else []
    where = ["--app", "chat", "--namespace", NAMESPACE, "--kubernetes", url, "--json", *flags]
    said = json.loads(await here.run("-m", "edge", "reap", *where))
    [found] = [each for each in said["decisions"] if each["release"] == NEW]
    assert found["result"] in ("kept", "done"), found
    return str(found["action"])


def keep(name: str, answer: Any) -> None:
    """Write it down, if that is what we are here for."""
    if os.environ.get("HOLDFAST_RECORD"):
        (RECORDED / f"{name}.json").write_text(json.dumps(answer, indent=1) + "\n")
