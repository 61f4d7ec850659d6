"""A real Kubernetes API on loopback: kube-apiserver over etcd, with its admission, schemas, RBAC and service accounts.

There are no nodes and no controllers: what is created is judged and kept, and nothing of it runs.
"""

from __future__ import annotations

import os
import secrets
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from tests.support.needs import missing, needs_program
from tests.support.ports import LOOPBACK, free_port
from tests.support.threaded import QuietHandler, ThreadedServer

ROOT = Path(__file__).resolve().parents[2]
UP_S = 120.0


def api_server_binary() -> str:
    """HOLDFAST_KUBE_APISERVER, or what `make .tools/kube-apiserver` built; the test is skipped without."""
    built = ROOT / ".tools" / "kube-apiserver"
    found = os.environ.get("HOLDFAST_KUBE_APISERVER") or (str(built) if built.exists() else "")
    if not found:
        missing("kube-apiserver (make .tools/kube-apiserver)")
    return found


class Cluster:
    """The API, as its administrator sees it."""

    def __init__(self, folder: Path, port: int, token: str) -> None:
        self.folder, self.port, self._token = folder, port, token
        self.url = f"https://{LOOPBACK}:{port}"
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(self._config()))
        self._http = self._client(token)
        self._known: dict[str, Mapping[str, str]] = {}
        """Paths of collections, by API version and kind."""

    def ask(self, method: str, path: str, body: Any = None, code: int | tuple[int, ...] = (200, 201, 202)) -> Any:
        """As the administrator; JSON both ways. Another status than `code` fails the test."""
        answer = self._http.request(method, path, json=body)
        allowed = (code,) if isinstance(code, int) else code
        assert answer.status_code in allowed, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

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
        trust = ssl.create_default_context(cafile=str(self.folder / "apiserver.crt"))
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, verify=trust, timeout=30, trust_env=False)

    def _config(self) -> Mapping[str, Any]:
        cluster = {"server": self.url, "certificate-authority": str(self.folder / "apiserver.crt")}
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
def cluster(folder: Path) -> Iterator[Cluster]:
    """An empty one, while the block runs."""
    api_server, etcd = api_server_binary(), needs_program("etcd", "the Kubernetes API keeps its objects there")
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
            api_server, f"--etcd-servers={where}", f"--bind-address={LOOPBACK}", f"--secure-port={port}",
            f"--cert-dir={folder}", f"--token-auth-file={folder / 'tokens.csv'}", "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={key}.pub",
            f"--service-account-signing-key-file={key}", "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount", "--feature-gates=HPAScaleToZero=true",
        ],
    }  # fmt: skip
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name, command in commands.items():
            with (folder / f"{name}.log").open("wb") as log:
                running.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        _wait_for((folder / "apiserver.crt").exists, folder, running)
        with Cluster(folder, port, token) as found:
            _wait_for(found.ready, folder, running)
            yield found
    finally:
        for process in reversed(running):
            process.kill()
            process.wait()


def _wait_for(there: Callable[[], bool], folder: Path, running: list[subprocess.Popen[bytes]]) -> None:
    give_up = time.monotonic() + UP_S
    while not there():
        logs = "".join((folder / f"{name}.log").read_text()[-2_000:] for name in ("etcd", "kube-apiserver"))
        assert all(process.poll() is None for process in running), logs
        assert time.monotonic() < give_up, f"the Kubernetes API is not up after {UP_S:g} s: {logs}"
        time.sleep(0.2)
