"""The reaper with a real edge and a recorded Kubernetes: what is empty goes, what has sessions stays."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.scenarios.release_control import controlling
from tests.support.client import connect
from tests.support.ports import LOOPBACK
from tests.support.processes import Backend, Edge

pytestmark = pytest.mark.scenario

APP = "tests.scenarios.release_app:app"
RECORDED = Path(__file__).resolve().parents[1] / "chart" / "recorded" / "deployments.json"
LIST = "/apis/apps/v1/namespaces/chat/deployments"


@contextmanager
def recorded_kubernetes() -> Iterator[tuple[str, list[str]]]:
    """An API server that answers as one did, and takes down what it is asked besides."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path.startswith(LIST), self.path
            self._answer(json.loads(RECORDED.read_text()))

        def do_PATCH(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            assert self.headers["Content-Type"] == "application/merge-patch+json"
            asked.append(f"PATCH {self.path} {body}")
            self._answer({"kind": "Scale", "spec": {"replicas": 0}})

        def do_DELETE(self) -> None:
            asked.append(f"DELETE {self.path}")
            self._answer({"kind": "Status", "status": "Success"})

        def _answer(self, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Not into the test's output."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def reap(control: str, kubernetes: str, *flags: str) -> tuple[int, dict[str, str], str]:
    """Exit code, what was decided by SHA, and standard error."""
    command = [str(Path(sys.executable).with_name("holdfast")), "reap", "--control", control, "--json"]
    process = await asyncio.create_subprocess_exec(
        *command, "--kubernetes", kubernetes, "--namespace", "chat", *flags,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, error = await asyncio.wait_for(process.communicate(), 60)
    decisions = {row["sha"]: row["what"] for row in json.loads(out)["decisions"]} if out else {}
    return process.returncode or 0, decisions, error.decode()


async def test_the_pods_of_an_empty_release_go_and_later_the_release_and_nothing_that_has_sessions(
    tmp_path: Path,
) -> None:
    async with (
        Backend(tmp_path, APP, name="a") as a,
        Backend(tmp_path, APP, name="b") as b,
        Edge(
            tmp_path,
            routes=[{"backend": a.url, "release": "configured", "release_urls": [a.url, b.url], "policy": "pin"}],
        ) as edge,
        controlling(edge) as control,
    ):
        with recorded_kubernetes() as (kubernetes, asked):
            await control.put("aaaaaaa", a.url)
            await control.put("bbbbbbb", b.url)
            await control.post("/releases/aaaaaaa/promote")
            async with connect(edge.url()) as client:
                await control.until_sessions("aaaaaaa", 1)
                await control.post("/releases/bbbbbbb/promote")
                assert await reap(edge.control_url, kubernetes, "--remove", "--grace", "0s") == (
                    0, {"aaaaaaa": "leave", "bbbbbbb": "leave"}, "",
                )  # fmt: skip
                await control.post("/releases/aaaaaaa/retire", {"how": "at-most", "for_ms": 3_600_000})
                assert (await reap(edge.control_url, kubernetes, "--grace", "0s"))[1]["aaaaaaa"] == "leave"
                assert asked == []
                await control.post("/releases/aaaaaaa/retire")
                await control.until_state("aaaaaaa", "empty")
                assert client.ending is None
                assert (await reap(edge.control_url, kubernetes, "--dry-run"))[1]["aaaaaaa"] == "scale"
                assert asked == []
                assert (await reap(edge.control_url, kubernetes))[1] == {"aaaaaaa": "scale", "bbbbbbb": "leave"}
                assert asked == [f'PATCH {LIST}/chat-aaaaaaa/scale {{"spec":{{"replicas":0}}}}']
                assert (await reap(edge.control_url, kubernetes, "--remove", "--grace", "0s"))[1]["aaaaaaa"] == "remove"
            assert [line.split("?")[0] for line in asked[1:]] == [
                f"DELETE {LIST}",
                "DELETE /api/v1/namespaces/chat/services",
                "DELETE /api/v1/namespaces/chat/secrets",
            ]
            assert "owner%3Dhelm%2Cname%3Dchat-aaaaaaa" in asked[3]
            assert sorted(await control.sessions()) == ["bbbbbbb", "configured"]
        code, decisions, error = await reap(edge.control_url, kubernetes)
        assert (code, decisions) == (1, {})
        assert "Kubernetes does not answer" in error
    with recorded_kubernetes() as (kubernetes, asked):
        code, _, error = await reap(edge.control_url, kubernetes)
        assert code == 1
        assert "no edge answers" in error
        assert asked == []
