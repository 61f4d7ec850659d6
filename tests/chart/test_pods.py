"""Both charts on a real node: pods of the real images start, deploy, scale to zero and go as the README says."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chart import test_edge_chart, test_release_chart
from tests.support.client import RecordingClient, connect
from tests.support.helm import HelmRefused, helm, install
from tests.support.images import Engine, engine
from tests.support.kubernetes_node import PAUSE, Node, node
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.chart, pytest.mark.long]

EDGE, RELEASE = test_edge_chart.CHART, test_release_chart.CHART
EDGE_IMAGE, CHAT_IMAGE, REDIS_IMAGE = (f"localhost/holdfast-test{each}" for each in ("", "-chat", "-redis"))
TAG = "1"
"""Not `latest`, which a node wants to pull each time."""
OLD, NEW = "1111111", "2222222"
UP_S = 120.0

IDLE = 'FROM python:3.12-slim\nCMD ["sleep", "infinity"]\n'
"""What holds a pod's network."""
REDIS = """FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends redis-server
EXPOSE 6379
ENTRYPOINT ["redis-server", "--protected-mode", "no"]
"""
"""As the official image has it: a server that takes what the chart tells it."""

TRY = """
import socket, sys, time
host, port, seconds = sys.argv[1:]
ends = time.monotonic() + int(seconds)
while time.monotonic() < ends:
    try:
        sys.exit(socket.create_connection((host, int(port)), timeout=1).close())
    except OSError as why:
        print(why, flush=True)
        time.sleep(0.2)
sys.exit(1)
"""


class Place:
    """A namespace with an edge, and the names and addresses of what is in it."""

    def __init__(self, node: Node, namespace: str) -> None:
        self.node, self.namespace, self._tries = node, namespace, itertools.count()
        self._where: dict[str, Any] = {"namespace": namespace, "kubeconfig": node.cluster.kubeconfig}
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        node.cluster.ask("POST", "/api/v1/namespaces", {"metadata": {"name": namespace, "labels": labels}})

    async def edge(self, **values: Any) -> None:
        """Install or upgrade it, and wait until its pods are ready."""
        route = {
            "app": "chat", "backend": self.url(OLD), "release_urls": [self.url("{sha}")],
            "timeouts": {"retry_window_s": 10},
        }  # fmt: skip
        given = {
            "image": {"repository": EDGE_IMAGE, "tag": TAG},
            "routes": [route],
            "edge": {"drain_delay_s": 1, "drain_window_s": 2},
            "preStopSeconds": 1,
            "redis": {"enabled": True, "image": f"{REDIS_IMAGE}:{TAG}"},
            "secrets": {"values": {"HOLDFAST_TOKEN": test_edge_chart.TOKEN}},
        }
        await self._installed(EDGE, given | values, "edge")

    async def release(self, sha: str, **values: Any) -> None:
        """Deploy it: pods, and the hook that registers them."""
        await self._installed(RELEASE, self._values(sha=sha, replicas=1, **values), f"app-{sha}")

    async def reaper(self) -> None:
        settings = {"schedule": "0 0 1 1 *", "grace": "0s", "remove": True}
        await self._installed(RELEASE, self._values(mode="reaper", reaper=settings), "chat-reaper")

    def _values(self, **values: Any) -> dict[str, Any]:
        image = {"repository": CHAT_IMAGE, "tag": TAG}
        edge_image = {"repository": EDGE_IMAGE, "tag": TAG}
        control = {"control": "http://edge-control:5561", "existingSecret": "edge-secrets", "image": edge_image}
        retire = {"how": "now", "waitSeconds": 60}
        return {"app": "chat", "path": "/edge/", "image": image, "edge": control, "retire": retire, **values}

    async def _installed(self, chart: Path, values: dict[str, Any], name: str) -> None:
        said = await self._tried(lambda: install(chart, values, name=name, pods=True, **self._where))
        assert "warning" not in said.lower(), said

    async def helm(self, *arguments: str) -> str:
        return await self._tried(lambda: helm(*arguments, **self._where))

    async def _tried(self, what: Callable[[], str]) -> str:
        try:
            return await asyncio.to_thread(what)
        except HelmRefused as refused:
            refused.add_note(self.node.troubles(self.namespace))
            raise

    async def holdfast(self, *arguments: str) -> Any:
        """The command line of an operator who can reach the control port."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "edge", *arguments, "--json",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={
                **os.environ, "HOLDFAST_TOKEN": test_edge_chart.TOKEN,
                "HOLDFAST_CONTROL": f"http://{self.address('edge-control')}:5561",
            },
        )  # fmt: skip
        async with asyncio.timeout(UP_S):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return json.loads(out)

    async def table(self) -> dict[str, dict[str, Any]]:
        return {row["sha"]: row for row in (await self.holdfast("release", "list"))["releases"]}

    def url(self, sha: str) -> str:
        return f"http://app-{sha}.{self.namespace}.svc:8000/edge/"

    def address(self, service: str) -> str:
        return str(self.ask("GET", f"/api/v1/namespaces/{self.namespace}/services/{service}")["spec"]["clusterIP"])

    @property
    def clients_url(self) -> str:
        return f"ws://{self.address('edge')}:80/"

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return self.node.cluster.ask(method, path, body)

    def replicas(self, sha: str) -> int:
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/app-{sha}"
        return int(self.ask("GET", path)["spec"]["replicas"])

    def pods(self, instance: str) -> list[str]:
        """Names of those of a Helm release."""
        found = self.node.pods(self.namespace, f"app.kubernetes.io/instance={instance}")
        return [pod["metadata"]["name"] for pod in found]

    async def run_reaper(self, name: str) -> None:
        """Have the CronJob's Job run now, as a Job of that name."""
        jobs = f"/apis/batch/v1/namespaces/{self.namespace}"
        template = self.ask("GET", f"{jobs}/cronjobs/chat-reaper")["spec"]["jobTemplate"]
        self.ask("POST", f"{jobs}/jobs", {"metadata": {"name": name}, "spec": template["spec"]})

        def ended() -> bool:
            status = self.ask("GET", f"{jobs}/jobs/{name}")["status"]
            assert not status.get("failed"), self.node.troubles(self.namespace)
            return bool(status.get("succeeded"))

        await wait_until(ended, "the reaper has run", UP_S)

    async def reaches(self, address: str, within_s: int, **labels: str) -> bool:
        """Could a pod with these labels connect to ``host:port`` in that time?"""
        host, port = address.split(":")
        name = f"try-{next(self._tries)}"
        container = {
            "name": "try", "image": f"{EDGE_IMAGE}:{TAG}", "command": ["python", "-c", TRY],
            "args": [host, port, str(within_s)],
            "securityContext": {
                "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
            },
        }  # fmt: skip
        spec = {
            "containers": [container], "restartPolicy": "Never", "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        }  # fmt: skip
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        self.ask("POST", pods, {"metadata": {"name": name, "labels": labels}, "spec": spec})
        phase = ""

        def ended() -> bool:
            nonlocal phase
            phase = str(self.ask("GET", f"{pods}/{name}")["status"]["phase"])
            return phase in ("Succeeded", "Failed")

        await wait_until(ended, f"{name} has tried", UP_S)
        return phase == "Succeeded"


@pytest.fixture(scope="module")
def images() -> Engine:
    found = engine()
    for tag, dockerfile in ((EDGE_IMAGE, "Dockerfile"), (CHAT_IMAGE, "backend_sdk/examples/Dockerfile")):
        found.build(dockerfile, f"{tag}:{TAG}")
    for tag, text in ((PAUSE, IDLE), (f"{REDIS_IMAGE}:{TAG}", REDIS)):
        found.build_text(text, tag)
    return found


@pytest.fixture(scope="module")
def machine(images: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with node(tmp_path_factory.mktemp("node")) as found:
        found.load(images, PAUSE, *(f"{tag}:{TAG}" for tag in (EDGE_IMAGE, CHAT_IMAGE, REDIS_IMAGE)))
        yield found


@pytest.fixture
def place(machine: Node) -> Iterator[Callable[[str], Place]]:
    """Places by the names of their namespaces, gone afterwards."""
    made: list[str] = []

    def make(namespace: str) -> Place:
        made.append(namespace)
        return Place(machine, namespace)

    yield make
    for namespace in made:
        machine.emptied(namespace)


async def says(client: RecordingClient, text: str) -> dict[str, Any]:
    """Say it in the room; what the chat answered to it, and to nothing else."""
    await client.send(json.dumps({"do": "say", "text": text, "id": text}))
    return await heard(client, text)


async def heard(client: RecordingClient, text: str) -> dict[str, Any]:
    def those() -> list[dict[str, Any]]:
        told = [json.loads(each) for each in client.messages]
        return [each for each in told if each["is"] == "said" and each["text"] == text]

    await client.expect_that(lambda _: bool(those()), f"{text!r} was heard", UP_S)
    [found] = those()
    return found


async def enter(client: RecordingClient, name: str) -> None:
    await client.send(json.dumps({"do": "enter", "room": "ship", "name": name}))
    await client.expect_that(lambda seen: any('"entered"' in str(each) for each in seen), f"{name} is in", UP_S)


async def test_two_releases_are_deployed_under_a_client_that_notices_nothing(place: Callable[[str], Place]) -> None:
    here = place("deploys")
    await here.edge()
    assert len(here.pods("edge")) == 3, "two edges and a Redis"
    await here.release(OLD)
    await here.holdfast("release", "promote", OLD, "--app", "chat")
    await here.helm("test", "edge")
    await here.reaper()
    async with connect(here.clients_url) as ann, connect(here.clients_url) as bob:
        await enter(ann, "Ann")
        await enter(bob, "Bob")
        assert (await says(ann, "first"))["release"] == OLD
        await here.release(NEW)
        assert (await here.table())[NEW]["state"] == "active"
        assert (await says(ann, "second"))["release"] == OLD
        await here.holdfast("release", "promote", NEW, "--app", "chat")

        async def moved() -> bool:
            table = await here.table()
            return bool(table[OLD]["sessions"] == 0 and table[NEW]["sessions"] == 2)

        await wait_until(moved, "all sessions are with the new release", UP_S)
        assert (await says(ann, "third"))["release"] == NEW
        await here.run_reaper("reaped-too-early")
        assert here.replicas(OLD) == 1, "the release of before may be rolled back to"
        await here.holdfast("release", "retire", OLD, "--app", "chat", "--now")

        async def empty() -> bool:
            return bool((await here.table())[OLD]["state"] == "empty")

        await wait_until(empty, "the old release is empty", UP_S)
        await here.run_reaper("reaped")
        await wait_until(lambda: not here.pods(f"app-{OLD}"), "the old release's pods are gone", UP_S)
        assert OLD not in await here.table()
        assert (await says(bob, "fourth"))["release"] == NEW
        for text in ("first", "second", "third", "fourth"):
            await heard(ann, text)
            await heard(bob, text)
        assert (ann.ending, bob.ending) == (None, None)


async def test_edges_are_rolled_without_refusing_a_client_or_cutting_one(place: Callable[[str], Place]) -> None:
    here = place("rolls")
    await here.edge()
    await here.release(OLD)
    old = here.pods("edge")
    async with connect(here.clients_url) as client:
        await enter(client, "Ann")
        rolling = asyncio.create_task(here.edge(podAnnotations={"rolled": "yes"}))
        attempts = 0
        while not rolling.done():
            async with connect(here.clients_url) as newcomer:
                await enter(newcomer, "Bob")
            attempts += 1
        await rolling
        assert attempts > 3
        assert (await client.ended(UP_S)).code == 1012
    edges = [name for name in here.pods("edge") if "redis" not in name]
    assert len(edges) == 2
    assert not set(edges) & set(old)


async def test_a_release_is_uninstalled_once_its_sessions_have_left(place: Callable[[str], Place]) -> None:
    here = place("uninstalls")
    await here.edge(replicas=1)
    await here.release(OLD)
    await here.holdfast("release", "promote", OLD, "--app", "chat")
    async with connect(here.clients_url) as client:
        await enter(client, "Ann")
        with pytest.raises(HelmRefused):
            await here.helm("uninstall", f"app-{OLD}", "--timeout", "90s")
        assert here.pods(f"app-{OLD}"), "the release that serves all clients was not uninstalled"
        assert (await says(client, "still here"))["release"] == OLD
        await here.release(NEW)
        await here.holdfast("release", "promote", NEW, "--app", "chat")
        await here.helm("uninstall", f"app-{OLD}", "--timeout", "90s")
        await wait_until(lambda: not here.pods(f"app-{OLD}"), "its pods are gone", UP_S)
        assert set(await here.table()) == {"default", NEW}
        assert (await says(client, "and on"))["release"] == NEW


async def test_policies_let_through_whom_they_name_and_nobody_else(place: Callable[[str], Place]) -> None:
    here = place("policies")
    await here.edge(replicas=1, networkPolicy={"clients": [{"podSelector": {"matchLabels": {"may": "connect"}}}]})
    edges = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "holdfast-edge"}}}
    await here.release(OLD, networkPolicy={"enabled": True, "from": [edges]})
    await here.holdfast("release", "promote", OLD, "--app", "chat")
    async with connect(here.clients_url) as client:
        await enter(client, "Ann")
        assert (await says(client, "through"))["release"] == OLD
    assert await here.reaches("edge:80", 60, may="connect")
    assert await here.reaches("edge-control:5561", 60, **{"holdfast.dev/control": "edge"})
    for address in ("edge:80", "edge-control:5561", "edge-redis:6379", f"app-{OLD}:8000"):
        assert not await here.reaches(address, 6), address
    assert not await here.reaches("edge-control:5561", 6, may="connect")
