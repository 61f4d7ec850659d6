"""What charts/release runs, against a running edge: the hooks of a release, and the reaper behind it.

The cluster answers what a real one has answered; tests/chart/test_real_cluster.py has a real one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import connect
from tests.support.processes import Backend, Edge
from tests.support.recorded import Recorded, recorded
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario

APP = "tests.scenarios.release_app:app"
ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "charts" / "release" / "files"
RECORDED = ROOT / "tests" / "chart" / "recorded"
OLD, NEW = "0ddc0de", "3f2a1c0"
LIST = "GET /apis/apps/v1/namespaces/apps/deployments"
PLACE = "/apis/apps/v1/namespaces/apps/deployments/app-" + NEW


@dataclass(frozen=True)
class Place:
    """An edge with release OLD configured, and the pods of NEW."""

    edge: Edge
    new: Backend
    app: str

    async def run(self, *command: str, code: int = 0) -> str:
        """What a pod runs, told where the edge is by its environment. Returns all that it said."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "HOLDFAST_CONTROL": self.edge.control_url, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        async with asyncio.timeout(60):
            out, _ = await process.communicate()
        assert process.returncode == code, out.decode()
        return out.decode()

    async def release(self, *arguments: str) -> str:
        return await self.run("-m", "edge", "release", *arguments)

    async def table(self) -> dict[str, Any]:
        return {row["sha"]: row for row in json.loads(await self.release("list", "--json"))["releases"]}

    async def register(self, seconds: int = 30, code: int = 0, url: str = "") -> str:
        """The hook after an install."""
        add = ["add", NEW, "--app", self.app, "--url", self.new.url, "--health", "/healthz", "--checks", "2"]
        health = url or f"{self.new.url}/healthz"
        return await self.hook("wait_and_add", health, str(seconds), *add, "--wait", f"{seconds}s", code=code)

    async def uninstall(self, *how: str, wait: str = "30s", code: int = 0) -> str:
        """The hook before an uninstall."""
        return await self.hook("retire_and_remove", NEW, self.app, wait, *(how or ("--now",)), code=code)

    async def hook(self, name: str, *arguments: str, code: int) -> str:
        return await self.run("-c", (FILES / f"{name}.py").read_text(), *arguments, code=code)

    async def reap(self, cluster: Recorded, *more: str) -> list[tuple[str, str]]:
        """Action and reason for the Deployment of NEW."""
        where = ["--app", self.app, "--namespace", "apps", "--kubernetes", cluster.url, "--json", *more]
        said = json.loads(await self.run("-m", "edge", "reap", *where))
        return [(one["action"], one["reason"]) for one in said["decisions"]]


@asynccontextmanager
async def place(tmp_path: Path, app: str = "default") -> AsyncIterator[Place]:
    slow_to_start = {"BACKEND_NAME": "new", "BACKEND_HEALTHY_AFTER": "2"}
    async with (
        Backend(tmp_path, APP, name="old", environment={"BACKEND_NAME": "old"}) as old,
        Backend(tmp_path, APP, name="new", environment=slow_to_start) as new,
        Edge(tmp_path, routes=[{"app": app, "backend": old.url, "release": OLD, "release_urls": [new.url]}]) as edge,
    ):
        yield Place(edge, new, app)


async def test_the_hooks_register_a_release_keep_the_current_one_and_take_a_retired_one_away(tmp_path: Path) -> None:
    async with place(tmp_path) as here, connect(here.edge.url()) as client:
        await here.register()
        assert (await here.table())[NEW]["state"] == "active"
        await here.register()
        assert (await here.table())[NEW]["state"] == "active", "an upgrade changes nothing"

        await here.release("promote", NEW)
        await client.send("who?")
        await client.expect(1)
        said = await here.uninstall(code=1)
        assert f"release {NEW} is the current one of app default, so it stays" in said
        assert (await here.table())[NEW]["weight"] == 100

        await here.release("rollback")
        await here.uninstall()
        assert NEW not in await here.table()
        await client.send("and now?")
        assert (await client.expect(2))[-1] == f"and now? {OLD}"
        assert "nothing to retire" in await here.uninstall()


async def test_an_uninstall_that_would_take_sessions_along_fails(tmp_path: Path) -> None:
    async with place(tmp_path) as here, connect(here.edge.url()) as client:
        await here.register()
        await client.send(f"pin {NEW}")
        await client.expect(1)
        await client.send("there?")
        assert (await client.expect(2))[-1] == f"there? {NEW}"
        said = await here.uninstall("--at-most", "1h", wait="1s", code=1)
        assert "is not empty, so it is not uninstalled" in said
        assert (await here.table())[NEW]["sessions"] == 1


async def test_a_release_that_does_not_come_up_is_not_registered(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        said = await here.register(1, code=1, url=f"{here.new.url}/nothing-there")
        assert "does not answer at" in said
        assert NEW not in await here.table()


async def test_the_reaper_waits_for_the_edge_to_call_a_release_empty_and_then_takes_it_away(tmp_path: Path) -> None:
    deployments = json.loads((RECORDED / "deployments.json").read_text())
    deployments["items"] = deployments["items"][:1]
    answers = {LIST: (200, deployments), f"PATCH {PLACE}": (200, {}), f"DELETE {PLACE}": (200, {})}
    async with place(tmp_path) as here:
        with recorded(answers) as cluster:
            await here.register()
            assert await here.reap(cluster, "--remove", "--grace", "0s") == [
                ("keep", "its release has no sessions, and is not retired")
            ]
            await here.release("retire", NEW, "--wait", "30s")

            async def empty() -> bool:
                return bool((await here.table())[NEW]["state"] == "empty")

            await wait_until(empty, "the edge calls the release empty", 30)
            assert await here.reap(cluster) == [("scale", "its release is empty")]
            assert NEW in await here.table()
            assert await here.reap(cluster, "--remove", "--grace", "0s") == [
                ("remove", "its release is empty, and the grace time is over")
            ]
            assert NEW not in await here.table()
            assert cluster.changes()[-1][:2] == ("DELETE", PLACE)
