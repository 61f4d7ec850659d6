"""A node for the cluster of `kubernetes`: containerd, kubelet, kube-proxy, DNS, scheduler and controllers on this
machine, in whose network pods have addresses of their own.

Needs root. The network is a bridge; kube-router sees to NetworkPolicies, which this machine itself is above.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.support.images import Engine
from tests.support.kubernetes import CERTIFICATE, SERVICES, Cluster, binary, cluster, running
from tests.support.needs import missing, needs_program
from tests.support.ports import LOOPBACK, free_port
from tests.support.waiting import wait_until_blocking

NAME = "node"
PAUSE = "localhost/holdfast-test-pause:latest"
_FOLDER = "holdfast-test-node"
"""Of everything of a node; containers are known by it."""
_BRIDGE = "hftest0"
_PODS = "10.213.0.0/24"
_GATEWAY = "10.213.0.1"
"""This machine, for pods: the API and names are served here, and nowhere that another machine could reach."""
_PLUGINS = Path("/usr/lib/cni")


class Node:
    """Where pods run. `load` images before anything asks for them."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self._folder = cluster, folder

    def load(self, engine: Engine, *tags: str) -> None:
        for tag in tags:
            archive = self._folder / "image.tar"
            engine.export(tag, archive)
            self._containerd("images", "import", str(archive))
            archive.unlink()

    def pods(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        """Those that are not being deleted."""
        found = self.cluster.ask("GET", f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def log(self, namespace: str, pod: str) -> str:
        """What its only container has printed."""
        return self.cluster.text(f"/api/v1/namespaces/{namespace}/pods/{pod}/log")

    def troubles(self, namespace: str) -> str:
        """What a failing test should show: the state of all pods, and what happened."""
        told = []
        for pod in self.cluster.ask("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]:
            name, states = pod["metadata"]["name"], pod["status"].get("containerStatuses", [])
            told.append(f"{name}: {pod['status']['phase']} {[each['state'] for each in states]}")
            with contextlib.suppress(AssertionError):
                told.append(self.log(namespace, name)[-1_500:])
        events = self.cluster.ask("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
        told += [f"{event['type']} {event['involvedObject']['name']}: {event.get('message')}" for event in events[-40:]]
        return "\n".join(told)

    def emptied(self, namespace: str) -> None:
        """Delete a namespace, and wait until the node has room again for what comes next."""
        self.cluster.ask("DELETE", f"/api/v1/namespaces/{namespace}")
        pods = f"/api/v1/namespaces/{namespace}/pods"
        self.cluster.ask("DELETE", f"{pods}?gracePeriodSeconds=1")
        wait_until_blocking(lambda: not self.cluster.names(pods), f"the pods of {namespace} have ended", 60)

    def _containerd(self, *arguments: str) -> str:
        command = ["ctr", "--address", str(self._folder / "containerd.sock"), "--namespace", "k8s.io", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def node(folder: Path) -> Iterator[Node]:
    """A cluster of one node, while the block runs."""
    if os.geteuid() != 0:
        missing("a Kubernetes node needs root")
    for program in ("containerd", "runc", "iptables", "ipset", "ip", "conntrack"):
        needs_program(program, "a Kubernetes node needs it")
    if not (_PLUGINS / "bridge").exists():
        missing("no CNI plugins (Debian: apt install containernetworking-plugins)")
    if any(command.startswith(b"kubelet\0") or b"/kubelet\0" in command for _, command in _processes()):
        missing("this machine is a node of another Kubernetes, whose rules of the network must stay")
    folder = folder / _FOLDER
    folder.mkdir(parents=True)
    # What a run that was killed has left; the addresses of its pods will be given away again.
    _end_containers()
    _clean_rules()
    with _network(), cluster(folder / "api", _GATEWAY, controllers=True) as found:
        commands, policing = _commands(folder, found), _policing(found)
        here = Node(found, folder)
        try:
            with running(folder, commands) as up:
                up.wait_for(lambda: _is_ready(found), "the node is ready")
                with running(folder, policing):  # which looks for its node when it starts
                    yield here
        finally:
            _end_containers()
            _clean_rules()


def _end_containers() -> None:
    """Kill what still runs in containers of such nodes, and take away what containerd has mounted for them."""
    for pid, command in _processes():
        if b"containerd-shim" in command and f"/{_FOLDER}/".encode() in command:
            _kill_tree(pid)
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        place = line.split()[1]
        if f"/{_FOLDER}/" in place:
            subprocess.run(["umount", "--lazy", place], capture_output=True)


def _clean_rules() -> None:
    """Take Kubernetes' chains out of this machine's packet filter; others' rules stay."""
    for suffix in ("", "6"):
        saved = subprocess.run([f"ip{suffix}tables-save"], capture_output=True, text=True).stdout
        kept = [line for line in saved.splitlines() if not any(its in line for its in ("KUBE-", "CNI-"))]
        subprocess.run([f"ip{suffix}tables-restore"], input="\n".join(kept) + "\n", text=True, capture_output=True)
    sets = subprocess.run(["ipset", "list", "-name"], capture_output=True, text=True).stdout.split()
    for name in sets:
        if "KUBE-" in name:
            subprocess.run(["ipset", "destroy", name], capture_output=True)


def _is_ready(found: Cluster) -> bool:
    nodes = found.ask("GET", "/api/v1/nodes")["items"]
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for each in nodes
        for condition in each["status"]["conditions"]
    )


@contextmanager
def _network() -> Iterator[None]:
    """The bridge that pods are on; its address is there before the API is."""
    _ip("link", "add", _BRIDGE, "type", "bridge", check=False)
    _ip("addr", "replace", f"{_GATEWAY}/24", "dev", _BRIDGE)
    _ip("link", "set", _BRIDGE, "up")
    try:
        yield
    finally:
        _ip("link", "delete", _BRIDGE, check=False)


def _ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True)


def _commands(folder: Path, found: Cluster) -> Mapping[str, list[str]]:
    access = f"--kubeconfig={found.kubeconfig}"
    key, ca = found.folder / "accounts.key", found.folder / CERTIFICATE
    sock = folder / "containerd.sock"
    (folder / "containerd.toml").write_text(_containerd_settings(folder, sock))
    (folder / "cni").mkdir(exist_ok=True)
    (folder / "cni" / "10-bridge.conflist").write_text(_cni_settings(folder))
    (folder / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet_settings(folder, sock)))
    (folder / "proxy.yaml").write_text(yaml.safe_dump(_proxy_settings(found)))
    (folder / "Corefile").write_text(
        f".:53 {{\n  bind {_GATEWAY}\n  errors\n"
        f"  kubernetes cluster.local {{\n    kubeconfig {found.kubeconfig}\n    pods insecure\n  }}\n}}\n"
    )
    no_ports = [f"--bind-address={LOOPBACK}", "--leader-elect=false"]
    return {
        "containerd": ["containerd", "--config", str(folder / "containerd.toml")],
        "kube-controller-manager": [
            binary("kube-controller-manager"), access, *no_ports, f"--secure-port={free_port()}",
            f"--cert-dir={folder / 'controllers'}", f"--service-account-private-key-file={key}",
            f"--root-ca-file={ca}", "--use-service-account-credentials=false",
            "--pvclaimbinder-sync-period=5s", "--kube-api-qps=100", "--kube-api-burst=100",
        ],
        "kube-scheduler": [
            binary("kube-scheduler"), access, *no_ports, f"--secure-port={free_port()}",
            f"--cert-dir={folder / 'scheduler'}",
        ],
        "kubelet": [
            binary("kubelet"), access, f"--config={folder / 'kubelet.yaml'}", f"--node-ip={_GATEWAY}",
            f"--hostname-override={NAME}", f"--root-dir={folder / 'kubelet'}", f"--cert-dir={folder / 'kubelet-pki'}",
        ],
        "kube-proxy": [binary("kube-proxy"), f"--config={folder / 'proxy.yaml'}", f"--hostname-override={NAME}"],
        "coredns": [binary("coredns"), "-conf", str(folder / "Corefile")],
    }  # fmt: skip


def _policing(found: Cluster) -> Mapping[str, list[str]]:
    return {
        "kube-router": [
            binary("kube-router"), f"--kubeconfig={found.kubeconfig}", f"--hostname-override={NAME}",
            "--run-firewall=true", "--run-router=false", "--run-service-proxy=false",
            f"--service-cluster-ip-range={SERVICES}", "--health-port=0",
        ],
    }  # fmt: skip


def _containerd_settings(folder: Path, sock: Path) -> str:
    return f"""
version = 2
root = "{folder}/containerd"
state = "{folder}/run"
oom_score = 0
[grpc]
  address = "{sock}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{_PLUGINS}"
    conf_dir = "{folder}/cni"
"""


def _cni_settings(folder: Path) -> str:
    return json.dumps(
        {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge", "bridge": _BRIDGE, "isGateway": True, "ipMasq": True, "hairpinMode": True,
                    "ipam": {
                        "type": "host-local", "ranges": [[{"subnet": _PODS, "rangeStart": "10.213.0.10"}]],
                        "routes": [{"dst": "0.0.0.0/0"}], "dataDir": str(folder / "addresses"),
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }
    )  # fmt: skip


def _kubelet_settings(folder: Path, sock: Path) -> Mapping[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "address": _GATEWAY, "port": free_port(), "healthzPort": 0, "readOnlyPort": 0,
        "containerRuntimeEndpoint": f"unix://{sock}", "cgroupDriver": "cgroupfs", "failSwapOn": False,
        "oomScoreAdj": 0, "makeIPTablesUtilChains": False, "enforceNodeAllocatable": [],
        "podLogsDir": str(folder / "pods"),
        "clusterDomain": "cluster.local", "clusterDNS": [_GATEWAY], "resolvConf": "/etc/resolv.conf",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        # A disk that is fuller than a kubelet likes is none of a test's business.
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "50Mi"},
        "imageGCHighThresholdPercent": 100, "imageMaximumGCAge": "0s",
        "syncFrequency": "5s", "nodeStatusUpdateFrequency": "2s",
    }  # fmt: skip


def _proxy_settings(found: Cluster) -> Mapping[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(found.kubeconfig)}, "mode": "iptables", "clusterCIDR": _PODS,
        "healthzBindAddress": f"{LOOPBACK}:{free_port()}", "metricsBindAddress": f"{LOOPBACK}:{free_port()}",
        "nodePortAddresses": [f"{LOOPBACK}/32"],
        # Tables of this machine's own size.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "0s", "localhostNodePorts": False},
    }  # fmt: skip


def _processes() -> Iterator[tuple[int, bytes]]:
    """Pids and command lines of all that run; one may be gone by the time it is told."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(process.name), (process / "cmdline").read_bytes()


def _kill_tree(pid: int) -> None:
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task").glob("*/children"):
            for each in child.read_text().split():
                _kill_tree(int(each))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
