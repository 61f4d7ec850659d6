"""charts/release: whatever the values are, what it renders is valid, and what cannot work is refused with a reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.cli import _parser
from edge.commands.reap_rules import Deployment, objects
from tests.support.helm import HelmRefused, kinds, lint, named, notes, template, validate

pytestmark = pytest.mark.chart

CHART = Path(__file__).resolve().parents[2] / "charts" / "release"
SHA = "3f2a1c0"
BASE: dict[str, Any] = {
    "app": "chat",
    "sha": SHA,
    "image": {"repository": "registry.example/chat"},
    "edge": {"control": "http://holdfast-control:5561", "existingSecret": "holdfast-control"},
}
OPEN = BASE | {"edge": {"control": "http://holdfast-control:5561"}}
REAPER: dict[str, Any] = {"mode": "reaper", "app": "chat", "edge": BASE["edge"]}
PEER = {"namespaceSelector": {"matchLabels": {"name": "edge"}}}

MATRIX: dict[str, dict[str, Any]] = {
    "a release": BASE,
    "no token": OPEN,
    "a whole SHA": BASE | {"sha": "3f2a1c0d9e8b7a6f5e4d3c2b1a0f9e8d7c6b5a49"},
    "a SHA of digits": BASE | {"sha": 1234567},
    "a tag": BASE | {"sha": "v1.2.3-rc_1"},
    "KEDA": BASE | {"keda": {"enabled": True}},
    "KEDA without a token": OPEN | {"keda": {"enabled": True}},
    "KEDA and Prometheus": BASE
    | {"keda": {"enabled": True, "trigger": "prometheus", "prometheus": {"serverAddress": "http://prometheus:9090"}}},
    "an HPA": BASE | {"hpa": {"enabled": True, "minReplicas": 0}},
    "closed networks": BASE | {"networkPolicy": {"enabled": True, "from": [PEER]}},
    "nothing optional": OPEN
    | {"podDisruptionBudget": {"enabled": False}}
    | {f"{kind}Probe": {"enabled": False} for kind in ("liveness", "readiness", "startup")},
    "everything of the pod": BASE
    | {
        "image": {"repository": "registry.example/chat", "digest": "sha256:" + "0" * 64, "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "pull"}],
        "command": ["gunicorn"],
        "args": ["chat:app"],
        "env": [{"name": "A", "value": "b"}],
        "envFrom": [{"secretRef": {"name": "chat"}}],
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "chat"},
        "nodeSelector": {"pool": "chat"},
        "tolerations": [{"key": "chat", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"},
        ],
        "serviceAccountName": "chat",
        "register": {"cohorts": ["header:X-Beta=1", "user:ann"]},
        "retire": {"how": "now", "for": ""},
    },
    "a reaper": REAPER,
    "a reaper that removes": REAPER | {"reaper": {"remove": True}},
    "a reaper that only says": REAPER | {"reaper": {"dryRun": True}},
}


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_what_is_rendered_is_valid(values: dict[str, Any]) -> None:
    lint(CHART, values)
    found = template(CHART, values)
    validate(found)
    names = [(each["kind"], each["metadata"]["name"]) for each in found]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_pods_are_restricted(values: dict[str, Any]) -> None:
    for pod in pods(template(CHART, values)):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


def pods(found: list[dict[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for each in found:
        if each["kind"] in ("Deployment", "Job"):
            yield each["spec"]["template"]["spec"]
        if each["kind"] == "CronJob":
            yield each["spec"]["jobTemplate"]["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"app": ""}, "app is required"),
        ({"app": "a/b"}, "cannot be a label"),
        ({"sha": ""}, "sha is required"),
        ({"sha": "-x"}, "no git SHA and no tag"),
        ({"sha": "a" * 64}, "no git SHA and no tag"),
        ({"sha": 1.5}, "--set-string sha="),
        ({"image": {}}, "image.repository is required"),
        ({"edge": {}}, "edge.control is required"),
        ({"edge": {"control": "holdfast:5561"}}, "http://HOST:PORT is needed"),
        ({"edge": {"control": "http://a:b@holdfast:5561"}}, "edge.existingSecret"),
        ({"keda": {"enabled": True}, "hpa": {"enabled": True}}, "one of them only"),
        ({"keda": {"enabled": True, "trigger": "prometheus"}}, "keda.prometheus.serverAddress is required"),
        ({"networkPolicy": {"enabled": True}}, "networkPolicy.from is required"),
        ({"retire": {"how": "over", "for": ""}}, "retire.for is required"),
        ({"retire": {"how": "soon"}}, "retire"),
        ({"replica": 3}, "replica"),
        ({"port": 0}, "port"),
        ({"runAsUser": 0}, "runAsUser"),
        ({"reaper": {"grace": "soon"}}, "grace"),
    ],
)
def test_what_cannot_work_is_refused_with_a_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(HelmRefused, match=re.escape(reason)):
        template(CHART, BASE | changes)


@pytest.mark.parametrize("name", ["app.x", "3f2a1c0", "a" * 53])
def test_a_name_that_no_service_can_have_is_refused(name: str) -> None:
    with pytest.raises(HelmRefused, match="the Helm release's name"):
        template(CHART, BASE, name=name)


@pytest.mark.parametrize(("given", "sha"), [(1234567, "1234567"), ("0123456", "0123456"), ("1e23456", "1e23456")])
def test_a_sha_keeps_its_digits(given: object, sha: str) -> None:
    deployment = named(template(CHART, BASE | {"sha": given}), "Deployment")
    assert deployment["metadata"]["labels"]["holdfast.dev/release"] == sha
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == f"registry.example/chat:{sha}"


def test_no_object_of_a_release_is_left_by_the_reaper() -> None:
    values = BASE | {"keda": {"enabled": True}, "networkPolicy": {"enabled": True, "from": [PEER]}}
    found = [one for one in template(CHART, values, name="app-1") if one["kind"] != "Job"]
    found += [one for one in template(CHART, BASE | {"hpa": {"enabled": True}}, name="app-1") if one["kind"] != "Job"]
    ours = {f"{one['apiVersion']} {one['kind'].lower()}" for one in found}
    assert {one["metadata"]["name"] for one in found} == {"app-1"}
    deployment = Deployment.of(_as_made(next(one for one in found if one["kind"] == "Deployment")))
    reaped = {_kind(path) for path in objects(deployment, "default") if "/secrets/" not in path}
    assert reaped == ours


def _as_made(thing: dict[str, Any]) -> dict[str, Any]:
    """As the cluster has it, once Helm has made it."""
    metadata = thing["metadata"] | {"creationTimestamp": "2026-11-20T10:00:00Z", "resourceVersion": "1"}
    metadata["annotations"] = metadata["annotations"] | {"meta.helm.sh/release-name": "app-1"}
    return thing | {"metadata": metadata}


def _kind(path: str) -> str:
    parts = path.split("/")
    version = "/".join(parts[2 : parts.index("namespaces")])
    return f"{version} {parts[-2].removesuffix('s') if parts[-2] != 'networkpolicies' else 'networkpolicy'}"


def test_the_reaper_may_do_what_its_values_say_and_no_more() -> None:
    def role(**reaper: bool) -> dict[str, list[str]]:
        rules = named(template(CHART, REAPER | {"reaper": reaper}), "Role")["rules"]
        return {resource: rule["verbs"] for rule in rules for resource in rule["resources"]}

    assert role() == {"deployments": ["list", "patch"]}
    assert role(dryRun=True) == {"deployments": ["list"]}
    removing = role(remove=True)
    assert removing.pop("deployments") == ["list", "patch", "delete"]
    assert set(removing) == {
        "services", "secrets", "poddisruptionbudgets", "networkpolicies", "horizontalpodautoscalers",
        "scaledobjects", "triggerauthentications",
    }  # fmt: skip
    assert all(verbs == ["delete"] for verbs in removing.values())


def test_a_reaper_is_all_that_mode_reaper_makes() -> None:
    assert kinds(template(CHART, REAPER)) == ["CronJob", "Role", "RoleBinding", "ServiceAccount"]
    assert "CronJob" not in kinds(template(CHART, BASE))


def test_the_pods_that_ask_the_edge_carry_the_label_its_network_policy_wants() -> None:
    asking = [one["spec"]["template"] for one in template(CHART, BASE) if one["kind"] == "Job"]
    asking.append(named(template(CHART, REAPER), "CronJob")["spec"]["jobTemplate"]["spec"]["template"])
    assert len(asking) == 3
    assert {pod["metadata"]["labels"]["holdfast.dev/control"] for pod in asking} == {"edge"}


def test_the_commands_of_hooks_and_reaper_exist() -> None:
    found = template(CHART, BASE | {"register": {"cohorts": ["user:ann"]}})
    register = named(found, "Job", "x-register")["spec"]["template"]["spec"]["containers"][0]
    added = _parser().parse_args(["release", *register["args"][3:]])
    assert (added.sha, added.app, added.cohort) == (SHA, "chat", ["user:ann"])
    assert added.url == "http://x.default.svc:8000"
    retire = named(found, "Job", "x-retire")["spec"]["template"]["spec"]["containers"][0]
    _, sha, app, wait, *how = retire["args"]
    retired = _parser().parse_args(["release", "retire", sha, "--app", app, *how, "--wait", wait])
    assert (retired.sha, retired.when_idle, retired.wait) == (SHA, "60s", "240s")
    cron = named(template(CHART, MATRIX["a reaper that removes"]), "CronJob")
    reaper = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert reaper["command"] == ["python3", "-m", "edge", "reap"]
    reaped = _parser().parse_args(["reap", *reaper["args"]])
    assert (reaped.app, reaped.namespace, reaped.remove, reaped.dry_run) == ("chat", "default", True, False)


def test_pods_spread_by_a_selector_that_is_theirs_unless_another_is_given() -> None:
    given = {"maxSkew": 2, "topologyKey": "host", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
    plain = {key: value for key, value in given.items() if key != "labelSelector"}
    deployment = named(template(CHART, BASE | {"topologySpreadConstraints": [given, plain]}), "Deployment")["spec"]
    constraints = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert constraints == [given, plain | {"labelSelector": deployment["selector"]}]


def test_an_autoscaler_owns_the_replicas() -> None:
    assert named(template(CHART, BASE), "Deployment")["spec"]["replicas"] == 2
    for scaler in ("keda", "hpa"):
        assert "replicas" not in named(template(CHART, BASE | {scaler: {"enabled": True}}), "Deployment")["spec"]


def test_keda_keeps_a_pod_for_a_release_with_a_weight_and_scales_by_sessions() -> None:
    scaled = named(template(CHART, BASE | {"keda": {"enabled": True}}), "ScaledObject")["spec"]
    assert scaled["minReplicaCount"] == 0
    assert [trigger["metadata"]["valueLocation"] for trigger in scaled["triggers"]] == ["sessions", "weight"]
    url = f"http://holdfast-control:5561/v1/apps/chat/releases/{SHA}"
    assert {trigger["metadata"]["url"] for trigger in scaled["triggers"]} == {url}


def test_notes_say_how_to_deploy() -> None:
    said = notes(CHART, BASE)
    assert f"holdfast release promote {SHA} --app chat" in said
    assert "holdfast release rollback --app chat" in said
    assert "empty ones go to zero pods" in notes(CHART, REAPER)


def test_the_readme_names_every_value() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    readme = (CHART / "README.md").read_text()
    assert set(schema["properties"]) == {*values, "global"}
    for name, value in values.items():
        nested = isinstance(value, dict) and name not in ("resources", "hookResources")
        wanted = [f"`{name}.{key}`" for key in value] if nested and value else [f"`{name}`"]
        assert [row for row in wanted if row not in readme] == []
