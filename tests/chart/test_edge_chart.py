"""charts/edge: whatever the values are, what it renders is valid, and what cannot work is refused with a reason."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.config.loader import load
from edge.model.drain import plan_for
from edge.telemetry.metrics import PROCESS_SPECS, ROUTE_SPECS
from tests.support.helm import HelmRefused, kinds, lint, named, notes, template, validate
from tests.support.processes import Backend, Edge

pytestmark = pytest.mark.chart

CHART = Path(__file__).resolve().parents[2] / "charts" / "edge"
TOKEN = "a-token-of-enough-length-0123456789"
ROUTE = {
    "app": "chat",
    "host": "chat.example",
    "backend": "http://chat:8000",
    "release_urls": ["http://chat-{sha}:8000"],
}
BASE: dict[str, Any] = {
    "routes": [ROUTE],
    "redis": {"enabled": True},
    "secrets": {"values": {"HOLDFAST_TOKEN": TOKEN}},
}
EXISTING = {"secrets": {"existingSecret": "ours"}, "redis": {"enabled": False}}
PEER = {"namespaceSelector": {"matchLabels": {"name": "ingress"}}}

MATRIX: dict[str, dict[str, Any]] = {
    "a trial": BASE,
    "an existing secret with everything in it": BASE | EXISTING,
    "a Redis elsewhere": BASE | EXISTING | {"redis": {"url": "rediss://redis.example:6380/0"}},
    "a Sentinel": BASE | {"redis": {"url": "redis+sentinel://s1:26379,s2:26379/main/0"}},
    "a cluster": BASE | {"redis": {"url": "redis+cluster://r1:6379,r2:6379"}},
    "a Redis that remembers": BASE | {"redis": {"enabled": True, "persistence": {"enabled": True, "size": "2Gi"}}},
    "an ingress": BASE
    | {
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "hosts": [{"host": "chat.example"}, {"host": "b.example", "path": "/ws"}],
            "tls": [{"hosts": ["chat.example"], "secretName": "tls"}],
            "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": "3600"},
        }
    },
    "a gateway": BASE
    | {"gateway": {"enabled": True, "parentRefs": [{"name": "public"}], "hostnames": ["chat.example"]}},
    "an autoscaler": BASE | {"autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 9}},
    "KEDA": BASE | {"keda": {"enabled": True, "prometheus": "http://prometheus:9090"}},
    "monitoring": BASE
    | {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    },
    "closed networks": BASE
    | {
        "networkPolicy": {
            "clients": [PEER],
            "control": [PEER],
            "monitoring": [PEER],
            "egress": [{"to": [PEER], "ports": [{"port": 8000}]}],
        }
    },
    "nothing optional": BASE
    | {
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "topologySpread": {"enabled": False},
        "replicas": 1,
    },
    "everything of the pod": BASE
    | {
        "image": {"repository": "registry.example/holdfast", "tag": "1.2.3"},
        "imagePullSecrets": [{"name": "pull"}],
        "service": {"type": "LoadBalancer", "port": 443, "annotations": {"a": "b"}},
        "serviceAccount": {"annotations": {"a": "b"}},
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "chat"},
        "nodeSelector": {"pool": "edge"},
        "tolerations": [{"key": "edge", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    },
    "everything at once": BASE
    | {
        "ingress": {"enabled": True, "hosts": [{"host": "chat.example"}]},
        "gateway": {"enabled": True, "parentRefs": [{"name": "public"}]},
        "autoscaling": {"enabled": True},
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
        "redis": {"enabled": True, "persistence": {"enabled": True}},
    },
    "XMPP": BASE
    | {
        "edge": {"link_keys": ["env:HOLDFAST_LINK_KEY"]},
        "xmpp": [{"domain": "chat.example"}, {"domain": "b.example", "port": 5333}],
        "secrets": {"values": {"HOLDFAST_TOKEN": TOKEN, "HOLDFAST_LINK_KEY": "a-passphrase-of-enough-length"}},
    },
    "no waiting for answers": BASE
    | {"edge": {"drain_delay_s": None, "drain_window_s": None},
       "routes": [ROUTE | {"timeouts": {"retry_window_s": 7.5}}]},
    "settings of all kinds": BASE
    | {
        "edge": {"workers": 2, "drain_delay_s": 1.5, "drain_window_s": 60, "max_connections": 50_000},
        "routes": [
            ROUTE
            | {
                "secrets": ["env:CHAT_SECRET"],
                "limits": {"message_bytes": 4_194_304},
                "timeouts": {"retry_window_s": 10},
            },
            {"app": "grip", "host": "*", "protocol": "grip", "backend": "http://old:8000"},
        ],
        "channels": [{"prefix": "room-", "history_count": 100}],
        "secrets": {"values": {"HOLDFAST_TOKEN": TOKEN, "CHAT_SECRET": "0123456789abcdef0123456789abcdef"}},
    },
}  # fmt: skip


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_what_is_rendered_is_valid(values: dict[str, Any]) -> None:
    lint(CHART, values)
    objects = template(CHART, values)
    validate(objects)
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_the_edge_accepts_its_configuration_and_can_go_down_in_time(values: dict[str, Any], tmp_path: Path) -> None:
    objects = template(CHART, values)
    config = tmp_path / "holdfast.toml"
    config.write_text(named(objects, "ConfigMap", "x")["data"]["holdfast.toml"])
    secrets = {"HOLDFAST_REDIS": "redis://redis:6379/0", "HOLDFAST_TOKEN": TOKEN} | values["secrets"].get("values", {})
    checked = subprocess.run(
        [str(Path(sys.executable).with_name("holdfast")), "check", "--config", str(config)],
        capture_output=True,
        text=True,
        env={**os.environ, **secrets},
    )
    assert checked.returncode == 0, checked.stderr + config.read_text()
    pod = named(objects, "Deployment")["spec"]["template"]["spec"]
    (sleep, seconds) = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert sleep == "sleep"
    plan = plan_for(load({}, {**os.environ, **secrets}, str(config)))
    assert pod["terminationGracePeriodSeconds"] >= int(seconds) + plan.total_s
    assert pod["terminationGracePeriodSeconds"] <= int(seconds) + plan.total_s + 7


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no token": ({"secrets": {"values": {}}}, "the control port needs a token"),
    "two secrets": ({"secrets": {"existingSecret": "a", "values": {"HOLDFAST_TOKEN": "b"}}}, "exclude each other"),
    "no Redis": ({"redis": {"enabled": False}}, "no Redis: set redis.url"),
    "two Redises": ({"redis": {"enabled": True, "url": "redis://r"}}, "exclude each other"),
    "a password in the open": ({"redis": {"enabled": False, "url": "redis://:pw@r"}}, "stand in a ConfigMap"),
    "no routes": ({"routes": []}, "needs at least one route"),
    "too little grace": ({"terminationGracePeriodSeconds": 30}, "can take 65 s"),
    "two scalers": (
        {"autoscaling": {"enabled": True}, "keda": {"enabled": True, "prometheus": "http://p"}},
        "autoscaling and keda exclude each other",
    ),
    "KEDA without figures": ({"keda": {"enabled": True}}, "needs keda.prometheus"),
    "fewer than the fewest": (
        {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 2}},
        "autoscaling.minReplicas 5 is more than autoscaling.maxReplicas 2",
    ),
    "an ingress to nowhere": ({"ingress": {"enabled": True}}, "needs ingress.hosts"),
    "a route without a gateway": ({"gateway": {"enabled": True}}, "needs gateway.parentRefs"),
    "what the chart sets itself": ({"edge": {"listen": ["0.0.0.0:1"]}}, "edge.listen is the chart's to set"),
    "a secret in the open": ({"routes": [ROUTE | {"secrets": ["in the open"]}]}, "routes.*write env:NAME"),
    "links without a key": ({"xmpp": [{"domain": "chat.example"}]}, "xmpp needs edge.link_keys"),
    "a word nobody knows": ({"replica": 3}, "replica"),
    "no pods": ({"replicas": 0}, "replicas"),
    "a route without a backend": ({"routes": [{"app": "chat"}]}, "backend"),
    "a URL of another kind": ({"redis": {"enabled": False, "url": "http://r"}}, "redis/url|redis.url"),
    "a port that is none": ({"service": {"port": 70_000}}, "port"),
}


@pytest.mark.parametrize(("values", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_with_a_reason(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(HelmRefused) as refused:
        template(CHART, BASE | values)
    assert re.search(reason, str(refused.value)), str(refused.value)


def test_liveness_never_depends_on_redis_and_the_pod_is_restricted() -> None:
    pod = named(template(CHART, BASE), "Deployment")["spec"]["template"]["spec"]
    (edge,) = pod["containers"]
    assert edge["livenessProbe"]["httpGet"]["path"] == edge["startupProbe"]["httpGet"]["path"] == "/livez"
    assert edge["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert edge["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False


def test_what_is_not_named_does_not_flow() -> None:
    values = BASE | EXISTING | {"routes": [ROUTE | {"backend": "https://far.example/x"}]} | {
        key: MATRIX["XMPP"][key] for key in ("edge", "xmpp")
    }  # fmt: skip
    policy = named(template(CHART, values), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert {} not in policy["egress"]
    (named_ports,) = [rule for rule in policy["egress"] if "to" not in rule and rule["ports"][0]["port"] != 53]
    assert {each["port"] for each in named_ports["ports"]} == {443, 8000, 6379, 26379, 5222, 5223, 5333}


def test_neither_services_nor_the_secret_change_the_settings() -> None:
    pod = named(template(CHART, BASE), "Deployment")["spec"]["template"]["spec"]
    assert pod["enableServiceLinks"] is False
    assert {"name": "HOLDFAST_REDIS", "value": "redis://x-redis:6379/0"} in pod["containers"][0]["env"]


def test_a_change_of_the_configuration_rolls_the_pods() -> None:
    def checksum(values: dict[str, Any]) -> str:
        annotations = named(template(CHART, values), "Deployment")["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["checksum/configuration"])

    assert checksum(BASE) == checksum(BASE)
    assert checksum(BASE) != checksum(BASE | {"edge": {"drain_window_s": 21}})


def test_public_control_and_metrics_are_services_of_their_own() -> None:
    services = {o["metadata"]["name"]: o["spec"] for o in template(CHART, BASE) if o["kind"] == "Service"}
    ports = {name: spec["ports"][0]["targetPort"] for name, spec in services.items()}
    assert ports == {"x": "public", "x-control": "control", "x-metrics": "control", "x-redis": "redis"}


def test_rules_dashboard_and_monitor_name_metrics_that_there_are_and_the_token() -> None:
    objects = template(CHART, MATRIX["monitoring"])
    known = {f"holdfast_{spec.name}" for spec in (*ROUTE_SPECS, *PROCESS_SPECS)}
    dashboard = named(objects, "ConfigMap", "x-dashboard")["data"]["holdfast.json"]
    assert len(json.loads(dashboard)["panels"]) == 12
    rules = json.dumps(named(objects, "PrometheusRule"))
    for found in re.findall(r"holdfast_[a-z_]+", dashboard + rules):
        assert re.sub(r"_(total|bucket)$", "", found) in known, found
    (endpoint,) = named(objects, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": "x-secrets", "key": "HOLDFAST_TOKEN"}


def test_objects_of_kinds_that_kubernetes_does_not_have_say_what_these_require() -> None:
    monitoring = template(CHART, MATRIX["monitoring"])
    monitor = named(monitoring, "ServiceMonitor")["spec"]
    service = named(monitoring, "Service", "x-metrics")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    for rule in named(monitoring, "PrometheusRule")["spec"]["groups"][0]["rules"]:
        assert rule["alert"]
        assert rule["expr"]
    scaled = named(template(CHART, MATRIX["KEDA"]), "ScaledObject")["spec"]
    assert scaled["scaleTargetRef"] == {"name": "x"}
    (trigger,) = scaled["triggers"]
    assert trigger["type"] == "prometheus"
    assert trigger["metadata"].keys() >= {"serverAddress", "query", "threshold"}
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    route = named(template(CHART, MATRIX["a gateway"]), "HTTPRoute")["spec"]
    assert route["parentRefs"] == [{"name": "public"}]
    assert route["rules"][0]["backendRefs"] == [{"name": "x", "port": 80}]


def test_a_test_pod_connects_and_publishes_and_may_reach_the_control_port() -> None:
    objects = template(CHART, BASE)
    pod = named(objects, "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert pod["metadata"]["labels"]["holdfast.dev/control"] == "x"
    compile(named(objects, "ConfigMap", "x-test")["data"]["connect.py"], "connect.py", "exec")
    assert "NetworkPolicy" in kinds(objects)


def test_every_value_is_described_and_in_the_readme() -> None:
    rows = dict(re.findall(r"^\| `([\w.]+)` \| `(.*?)` \| ", (CHART / "README.md").read_text(), re.MULTILINE))
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    found: dict[str, str] = {}

    def walk(part: dict[str, Any], value: dict[str, Any], path: str = "") -> None:
        assert part["additionalProperties"] is False, path
        assert set(value) | {"global"} == set(part["properties"]) | {"global"}, path
        for name, inner in part["properties"].items():
            assert inner["description"], path + name
            if inner.get("properties"):
                walk(inner, value[name], f"{path}{name}.")
            elif name != "global":
                found[path + name] = json.dumps(value[name])

    walk(schema, values)
    assert rows == found


async def test_the_test_of_an_installation_passes_at_an_edge_that_works(tmp_path: Path) -> None:
    origins = ["https://*.chat.example"]
    script = tmp_path / "connect.py"
    objects = template(CHART, BASE | {"routes": [ROUTE | {"origins": origins}]})
    script.write_text(named(objects, "ConfigMap", "x-test")["data"]["connect.py"])
    (container,) = named(objects, "Pod")["spec"]["containers"]
    environment = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    async with (
        Backend(tmp_path, "tests.scenarios.backends:pinning", environment={"BACKEND_NAME": "a"}) as backend,
        Edge(
            tmp_path,
            routes=[{"backend": backend.url, "host": "chat.example", "origins": origins}],
            edge={"control_tokens": [TOKEN]},
        ) as edge,
    ):
        running = await asyncio.create_subprocess_exec(
            sys.executable, str(script), edge.url(), edge.control_url, "helm-test",
            env={**os.environ, **environment, "HOLDFAST_TOKEN": TOKEN},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await running.communicate()
    assert running.returncode == 0, said.decode()
    assert b"published to helm-test" in said


def test_who_installs_it_is_told_what_to_do_next() -> None:
    said = notes(CHART, BASE)
    assert "helm test x" in said
    assert "for trials" in said
