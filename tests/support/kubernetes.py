"""A real Kubernetes API on loopback: kube-apiserver over etcd, with its admission, schemas, RBAC and service accounts.

There are no nodes and no controllers: what is created is judged and kept, and nothing of it runs. `kubernetes_node`
adds what runs it.
"""

from __future__ import annotations

import os
import secrets
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from tests.support import proctree
from tests.support.needs import missing, needs_program
from tests.support.ports import LOOPBACK, free_port
from tests.support.threaded import QuietHandler, ThreadedServer

ROOT = Path(__file__).resolve().parents[2]
UP_S = 120.0
SERVICES = "10.0.0.0/24"
CERTIFICATE = "apiserver.crt"
"""Self-signed, and so its own authority."""


def binary(name: str) -> str:
    """One of Kubernetes' programs, in the folder HOLDFAST_KUBERNETES or where `make .tools/kubernetes` built them; the
    test is skipped without."""
    found = Path(os.environ.get("HOLDFAST_KUBERNETES") or ROOT / ".tools" / "kubernetes") / name
    if not found.exists():
        missing(f"{name} (make .tools/kubernetes)")
    return str(found)


class Cluster:
    """The API, as its administrator sees it."""

    def __init__(self, folder: Path, host: str, port: int, token: str) -> None:
        self.folder, self._token = folder, token
        self.url = f"https://{host}:{port}"
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(self._config()))
        self._http = self._client(token)
        self._known: dict[str, Mapping[str, str]] = {}
        """Paths of collections, by API version and kind."""

    def ask(self, method: str, path: str, body: Any = None, code: int | tuple[int, ...] = (200, 201, 202)) -> Any:
        """As the administrator; JSON both ways. Another status than `code` fails the test."""
        allowed = (code,) if isinstance(code, int) else code
        answer = self._http.request(method, path, json=body)
        assert answer.status_code in allowed, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def text(self, path: str) -> str:
        """What is no JSON: logs."""
        answer = self._http.get(path)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
        return answer.text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ready(self) -> bool:
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def judge(self, thing: Mapping[str, Any], namespace: str) -> list[str]:
        """Have an object created, but not kept. What is wrong with it, unknown fields included, and the cluster's
        warnings; nothing, as a rule."""
        place = self._places(thing["apiVersion"])[thing["kind"]]
        path = place.format(namespace=thing["metadata"].get("namespace", namespace))
        answer = self._http.post(path, params={"dryRun": "All", "fieldValidation": "Strict"}, json=dict(thing))
        wrong = [] if answer.is_success else [answer.json()["message"]]
        return wrong + answer.headers.get_list("warning")

    def has(self, version: str, kind: str) -> bool:
        """The cluster knows objects of that kind."""
        return self._places(version).get(kind) is not None

    def _places(self, version: str) -> Mapping[str, str]:
        if version not in self._known:
            root = f"/apis/{version}" if "/" in version else f"/api/{version}"
            answer = self._http.get(root)
            found = answer.json()["resources"] if answer.is_success else []
            self._known[version] = {
                each["kind"]: f"{root}/namespaces/{{namespace}}/{each['name']}" if each["namespaced"]
                else f"{root}/{each['name']}"
                for each in found if "/" not in each["name"]
            }  # fmt: skip
        return self._known[version]

    def names(self, path: str) -> list[str]:
        """Of all objects of a kind, by the path of their collection."""
        return [item["metadata"]["name"] for item in self.ask("GET", path)["items"]]

    def token_of(self, namespace: str, account: str) -> str:
        """What a pod of that service account would have."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        return str(self.ask("POST", path, asked)["status"]["token"])

    @contextmanager
    def proxy(self, token: str) -> Iterator[Proxy]:
        """As `kubectl proxy` would be run with that token."""
        with self._client(token) as http, Proxy(http).serving() as server:
            yield server

    def _client(self, token: str) -> httpx.Client:
        trust = ssl.create_default_context(cafile=str(self.folder / CERTIFICATE))
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, verify=trust, timeout=30, trust_env=False)

    def _config(self) -> Mapping[str, Any]:
        cluster = {"server": self.url, "certificate-authority": str(self.folder / CERTIFICATE)}
        return {
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": cluster}],
            "users": [{"name": "it", "user": {"token": self._token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }  # fmt: skip


class Proxy(ThreadedServer):
    """Passes everything on with a token. `seen`: (method, path without query, status, JSON) of all that passed."""

    def __init__(self, http: httpx.Client) -> None:
        super().__init__(_Passing)
        self.http = http
        self.seen: list[tuple[str, str, int, Any]] = []


class _Passing(QuietHandler):
    def _pass_on(self) -> None:
        server = self.server
        assert isinstance(server, Proxy)
        kept = {name: value for name, value in self.headers.items() if name.lower() in ("accept", "content-type")}
        answer = server.http.request(self.command, self.path, content=self.body(), headers=kept)
        told = answer.json() if answer.headers["content-type"] == "application/json" else None
        server.seen.append((self.command, self.path.partition("?")[0], answer.status_code, told))
        self.answer(answer.status_code, answer.headers["content-type"], answer.content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on


@contextmanager
def cluster(folder: Path, host: str = LOOPBACK, *, controllers: bool = False) -> Iterator[Cluster]:
    """An empty one, while it lasts. With `controllers` to come, pods have the service accounts that those make."""
    api_server, etcd = binary("kube-apiserver"), needs_program("etcd", "the Kubernetes API keeps its objects there")
    folder.mkdir(parents=True, exist_ok=True)
    client_port, peer_port, port = free_port(), free_port(), free_port()
    token, key = secrets.token_hex(16), folder / "accounts.key"
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    for order in (["genrsa", "-out", str(key), "2048"], ["rsa", "-in", str(key), "-pubout", "-out", f"{key}.pub"]):
        subprocess.run([needs_program("openssl", "makes keys"), *order], check=True, capture_output=True)
    where = f"http://{LOOPBACK}:{client_port}"
    commands = {
        "etcd": [
            etcd, "--data-dir", str(folder / "etcd"), "--listen-client-urls", where, "--advertise-client-urls", where,
            "--listen-peer-urls", f"http://{LOOPBACK}:{peer_port}",
        ],
        "kube-apiserver": [
            api_server, f"--etcd-servers={where}", f"--bind-address={host}", f"--secure-port={port}",
            f"--cert-dir={folder}", f"--token-auth-file={folder / 'tokens.csv'}", "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={key}.pub",
            f"--service-account-signing-key-file={key}", f"--service-cluster-ip-range={SERVICES}",
            "--feature-gates=HPAScaleToZero=true", "--kubelet-preferred-address-types=InternalIP",
            *([] if controllers else ["--disable-admission-plugins=ServiceAccount"]),
        ],
    }  # fmt: skip
    with running(folder, commands) as up:
        up.wait_for((folder / CERTIFICATE).exists, "the Kubernetes API has made a certificate")
        with Cluster(folder, host, port, token) as found:
            up.wait_for(found.ready, "the Kubernetes API is ready")
            yield found


class Running:
    """Programs of a cluster."""

    def __init__(self, folder: Path, processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
        self._folder, self._processes = folder, processes

    def wait_for(self, there: Callable[[], bool], what: str) -> None:
        """Fails after `UP_S`, or when one of the programs has ended, with the ends of their logs."""
        give_up = time.monotonic() + UP_S
        while not there():
            ended = [name for name, process in self._processes.items() if process.poll() is not None]
            assert not ended, f"{ended[0]} has ended: {self.log(ended[0])}"
            assert time.monotonic() < give_up, (
                f"not after {UP_S:g} s: {what}: {''.join(map(self.log, self._processes))}"
            )
            time.sleep(0.2)

    def log(self, name: str) -> str:
        """Its last lines."""
        return (self._folder / f"{name}.log").read_text()[-3_000:]


@contextmanager
def running(folder: Path, commands: Mapping[str, Sequence[str]]) -> Iterator[Running]:
    """Programs by name, each with a log in `folder`; killed at the end, the last one first."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            with (folder / f"{name}.log").open("wb") as log:
                processes[name] = subprocess.Popen(
                    command,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=proctree.dying_with_parent(signal.SIGKILL),  # noqa: PLW1509  # one system call
                )
        yield Running(folder, processes)
    finally:
        for process in reversed(processes.values()):
            process.kill()
            process.wait()
