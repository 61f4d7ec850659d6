"""Helm, as a program: templates with values to objects, which the real schemas of Kubernetes then judge."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from tests.support.needs import missing

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = "1.33.0"
"""The version that templates are rendered for, and validated against."""

Object = dict[str, Any]

BUILT_IN = ("v1", "apps/", "autoscaling/", "batch/", "networking.k8s.io/", "policy/", "rbac.authorization.k8s.io/")
"""API groups whose schemas Kubernetes itself has."""


class HelmRefused(Exception):
    """Helm did not render it; the text is what it said."""


def helm_binary() -> str:
    """HOLDFAST_HELM, the one in PATH, or what `make .tools/helm` built; the test is skipped without."""
    built = ROOT / ".tools" / "helm"
    found = os.environ.get("HOLDFAST_HELM") or shutil.which("helm") or (str(built) if built.exists() else "")
    if not found:
        missing("helm (make .tools/helm)")
    return found


def template(chart: Path, values: Mapping[str, Any], *, name: str = "x", namespace: str = "default") -> list[Object]:
    """The objects of a release, hooks included. `HelmRefused`."""
    options = ["--namespace", namespace, "--kube-version", KUBERNETES]
    text = _helm(["template", name, str(chart), *options], values)
    return [found for found in yaml.safe_load_all(text) if found]


def notes(chart: Path, values: Mapping[str, Any]) -> str:
    """What people read after installing it as ``x``. `HelmRefused`.

    Helm renders notes where there is a cluster only; as a template among the others they are rendered anywhere.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "chart")
        shutil.copytree(chart, copy)
        written = (copy / "templates" / "NOTES.txt").rename(copy / "templates" / "notes.yaml")
        lines = "".join(f"  {line}\n" for line in written.read_text().splitlines())
        written.write_text(f"kind: Notes\napiVersion: x\nmetadata: {{name: notes}}\ndata: |\n{lines}")
        return str(named(template(copy, values), "Notes")["data"])


def lint(chart: Path, values: Mapping[str, Any]) -> None:
    """`HelmRefused` for a warning too."""
    _helm(["lint", "--strict", str(chart), "--kube-version", KUBERNETES], values)


def validate(objects: Sequence[Object]) -> None:
    """Hold every object of Kubernetes' own kinds to its schema, strictly."""
    for each in objects:
        if each["apiVersion"].startswith(BUILT_IN):
            kubernetes_validate.validate(each, KUBERNETES.rpartition(".")[0], strict=True)


def install(
    chart: Path, values: Mapping[str, Any], *, name: str, namespace: str, kubeconfig: Path, pods: bool = False
) -> str:
    """Install or upgrade, in the cluster of `kubeconfig`. What helm said, warnings of the cluster included.
    `HelmRefused`. With `pods` it runs hooks, which are pods, and waits until all is ready."""
    where = ["--namespace", namespace, "--kubeconfig", str(kubeconfig)]
    how = ["--wait", "--timeout", "3m"] if pods else ["--no-hooks"]
    return _helm(["upgrade", "--install", name, str(chart), *where, *how], values)


def helm(*arguments: str, namespace: str, kubeconfig: Path) -> str:
    """Another of its commands, such as ``test`` and ``uninstall``. `HelmRefused`."""
    return _helm([*arguments, "--namespace", namespace, "--kubeconfig", str(kubeconfig)])


def named(objects: Sequence[Object], kind: str, name: str | None = None) -> Object:
    """The one object of a kind, and a name."""
    found = [o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    assert len(found) == 1, (
        f"{len(found)} objects of kind {kind} {name or ''}: {[o['metadata']['name'] for o in found]}"
    )
    return found[0]


def kinds(objects: Sequence[Object]) -> list[str]:
    return sorted(each["kind"] for each in objects)


def _helm(arguments: Sequence[str], values: Mapping[str, Any] | None = None) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "values.yaml")
        file.write_text(yaml.safe_dump(dict(values or {})))
        homes = {f"HELM_{what}_HOME": folder for what in ("CACHE", "CONFIG", "DATA")}
        ended = subprocess.run(
            [helm_binary(), *arguments, *([] if values is None else ["--values", str(file)])],
            capture_output=True,
            text=True,
            timeout=360,
            env={**os.environ, **homes},
        )
    if ended.returncode:
        raise HelmRefused(ended.stderr + ended.stdout)
    return ended.stdout + ended.stderr
