"""charts/release: one Helm release per SHA, its hooks are commands that there are, and a reaper of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from edge.cli import _parser
from tests.support.helm import HelmRefused, kinds, lint, named, notes, template, validate

pytestmark = pytest.mark.chart

CHART = Path(__file__).resolve().parents[2] / "charts" / "release"
BASE: dict[str, Any] = {
    "app": "chat",
    "sha": "3f2a1c0",
    "image": {"repository": "registry.example/chat"},
    "edge": {"control": "http://edge-control:5561", "existingSecret": "edge-secrets"},
}
REAPER = {key: BASE[key] for key in ("app", "edge")} | {"mode": "reaper"}
MATRIX: dict[str, dict[str, Any]] = {
    "the least": BASE,
    "a whole SHA": BASE | {"sha": "3f2a1c0" + "0" * 33},
    "a tag": BASE | {"sha": "v1.2.3-rc.1"},
    "cohorts and a health path": BASE | {"hooks": {"health": "/up", "cohorts": ["header:X-Beta=1", "user:ann,bob"]}},
    "a slow goodbye": BASE | {"hooks": {"retire": {"how": "over", "time": "30m", "wait": "45m"}}},
    "an idle goodbye": BASE | {"hooks": {"retire": {"how": "when-idle", "time": "60s"}}},
    "KEDA": BASE | {"keda": {"enabled": True, "prometheus": "http://prometheus:9090"}},
    "an autoscaler": BASE | {"hpa": {"enabled": True, "minReplicas": 0}},
    "no hooks": BASE | {"hooks": {"enabled": False}},
    "all of the pod": BASE
    | {
        "image": {"repository": "r", "tag": "latest", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "pull"}],
        "command": ["uvicorn"],
        "args": ["app:app"],
        "port": 9000,
        "path": "/events",
        "env": [{"name": "A", "value": "b"}],
        "envFrom": [{"secretRef": {"name": "s"}}],
        "probe": {"path": "/healthz"},
        "networkPolicy": {"enabled": True},
        "podDisruptionBudget": {"enabled": False},
    },
    "a reaper": REAPER,
    "a reaper that removes": REAPER | {"reaper": {"remove": True, "grace": "2h", "dryRun": True}},
}
NAME = "chat-3f2a1c0"


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_what_is_rendered_is_valid(values: dict[str, Any]) -> None:
    lint(CHART, values)
    objects = template(CHART, values, name=NAME)
    validate(objects)
    assert objects


def commands(values: dict[str, Any]) -> dict[str, list[str]]:
    """What the Jobs and the CronJob run, by name."""
    pods = {}
    for each in template(CHART, values, name=NAME):
        if each["kind"] in ("Job", "CronJob"):
            spec = each["spec"]["jobTemplate"]["spec"] if each["kind"] == "CronJob" else each["spec"]
            pods[each["metadata"]["name"]] = spec["template"]["spec"]["containers"][0]["args"]
    return pods


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_every_command_is_one_that_the_command_line_knows(values: dict[str, Any]) -> None:
    for arguments in commands(values).values():
        assert _parser().parse_args(arguments).run


def test_hooks_register_retire_and_remove_the_release() -> None:
    found = commands(MATRIX["cohorts and a health path"])
    url = f"http://{NAME}.default:8000"
    assert found[f"{NAME}-register"] == [
        "release", "add", "3f2a1c0", "--app", "chat", "--url", url, "--checks", "3", "--wait", "5m",
        "--health", "/up", "--cohort", "header:X-Beta=1", "--cohort", "user:ann,bob",
    ]  # fmt: skip
    assert commands(MATRIX["a slow goodbye"])[f"{NAME}-retire"] == [
        "release", "retire", "3f2a1c0", "--app", "chat", "--over", "30m", "--wait", "45m",
    ]  # fmt: skip
    hooks = {o["metadata"]["name"]: o["metadata"].get("annotations", {}) for o in template(CHART, BASE, name=NAME)}
    assert hooks[f"{NAME}-register"]["helm.sh/hook"] == "post-install,post-upgrade,post-rollback"
    assert hooks[f"{NAME}-retire"]["helm.sh/hook"] == hooks[f"{NAME}-remove"]["helm.sh/hook"] == "pre-delete"
    assert hooks[f"{NAME}-retire"]["helm.sh/hook-weight"] < hooks[f"{NAME}-remove"]["helm.sh/hook-weight"]


def test_the_reaper_may_do_no_more_than_it_needs() -> None:
    def rules(values: dict[str, Any]) -> set[tuple[str, str]]:
        role = named(template(CHART, values), "Role")
        return {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}

    assert rules(REAPER) == {("deployments", "list"), ("deployments/scale", "patch")}
    removing = rules(MATRIX["a reaper that removes"])
    assert {verb for resource, verb in removing if resource == "secrets"} == {"deletecollection"}
    assert kinds(template(CHART, REAPER)) == ["CronJob", "Role", "RoleBinding", "ServiceAccount"]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no app": ({"app": ""}, "app is missing"),
    "no SHA": ({"sha": ""}, "sha is missing"),
    "a SHA that is none": ({"sha": "-3f2"}, "sha"),
    "a SHA that YAML made a number of": ({"sha": 1234567}, "sha"),
    "a SHA with a slash": ({"sha": "feature/x"}, "sha"),
    "no image": ({"image": {"repository": ""}}, "image.repository is missing"),
    "no edge": ({"edge": {"existingSecret": "s"}}, "edge.control is missing"),
    "an edge that is no URL": ({"edge": {"control": "edge:5561", "existingSecret": "s"}}, "control"),
    "no token": ({"edge": {"control": "http://e"}}, "edge.existingSecret is missing"),
    "two scalers": (
        {"keda": {"enabled": True, "prometheus": "http://p"}, "hpa": {"enabled": True}},
        "keda and hpa exclude each other",
    ),
    "KEDA without figures": ({"keda": {"enabled": True}}, "needs keda.prometheus"),
    "a way without a time": ({"hooks": {"retire": {"how": "over"}}}, "hooks.retire.time is missing"),
    "a time without a way": ({"hooks": {"retire": {"time": "5m"}}}, "is not for the way now"),
    "a rule that is none": ({"hooks": {"cohorts": ["beta"]}}, "cohorts"),
    "a word nobody knows": ({"shaa": "3f2a1c0"}, "shaa"),
}


@pytest.mark.parametrize(("values", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_with_a_reason(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(HelmRefused) as refused:
        template(CHART, BASE | values)
    assert re.search(reason, str(refused.value)), str(refused.value)


def test_who_installs_it_is_told_how_to_promote_and_to_go_back() -> None:
    said = notes(CHART, BASE)
    assert "holdfast release promote 3f2a1c0 --app chat" in said
    assert "holdfast release rollback --app chat" in said
    assert "lose their pods" in notes(CHART, REAPER)
