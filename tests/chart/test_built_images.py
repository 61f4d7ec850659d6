"""The images as an engine builds and runs them: as strictly as the charts have it, and no larger than they must be."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import httpx
import pytest

from tests.support.client import connect
from tests.support.images import HARDENED, Container, Engine, engine
from tests.support.ports import LOOPBACK, free_port
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.chart, pytest.mark.long]

EDGE, CHAT = "holdfast-test", "holdfast-test-chat"
DOCKERFILES = {EDGE: "Dockerfile", CHAT: "backend_sdk/examples/Dockerfile"}
AT_MOST = {EDGE: 110_000_000, CHAT: 30_000_000}
"""Bytes above the base image."""


@pytest.fixture(scope="module")
def images() -> Engine:
    found = engine()
    for tag, dockerfile in DOCKERFILES.items():
        found.build(dockerfile, tag)
    return found


async def until_ready(control: int, *containers: Container) -> None:
    """Return when the edge with this control port is ready; all of these must run."""
    with httpx.Client(trust_env=False) as http:

        def ready() -> bool:
            for container in containers:
                assert container.state()["Running"], container.log()
            try:
                return http.get(f"http://{LOOPBACK}:{control}/readyz").status_code == 200
            except httpx.TransportError:
                return False

        await wait_until(ready, "the edge is ready", 60)


@pytest.mark.parametrize("tag", DOCKERFILES)
def test_an_image_adds_little_to_its_base(images: Engine, tag: str) -> None:
    base = images.inspect("python:3.12-slim")["Size"]
    assert images.inspect(tag)["Size"] - base < AT_MOST[tag]


def test_the_edge_says_what_it_can_do(images: Engine) -> None:
    said = images.call("run", "--rm", *images.run_options, *HARDENED, EDGE)
    assert "usage: holdfast" in said
    assert "serve" in said


async def test_a_chat_runs_in_both_images_as_nobody_and_ends_politely(images: Engine, tmp_path: Path) -> None:
    public, control, backend = free_port(), free_port(), free_port()
    serve = [
        "serve", "--listen", f"{LOOPBACK}:{public}", "--control", f"{LOOPBACK}:{control}",
        "--backend", f"http://{LOOPBACK}:{backend}/edge/",
    ]  # fmt: skip
    uvicorn = ["--host", LOOPBACK, "--port", str(backend), "backend_sdk.examples.chat.app:app"]
    with (
        RedisServer(tmp_path) as redis,
        images.running("holdfast-test-backend", CHAT, *uvicorn) as chat,
        images.running("holdfast-test-edge", EDGE, *serve, "--redis", redis.url) as edge,
    ):
        await until_ready(control, edge, chat)
        async with connect(f"ws://{LOOPBACK}:{public}/") as client:
            await client.send(json.dumps({"do": "enter", "room": "ship", "name": "Ann"}))
            await client.expect_that(lambda seen: any('"entered"' in str(each) for each in seen), "she is in")
            for container in (edge, chat):
                status = Path(f"/proc/{container.state()['Pid']}/status").read_text()
                facts = dict(line.split(":\t", 1) for line in status.splitlines())
                assert facts["Uid"].split() == ["10001"] * 4
                assert int(facts["CapEff"], 16) == 0
                assert facts["NoNewPrivs"] == "1"
                tried = "import os\ntry: open('/opt/x', 'w')\nexcept OSError as why: print(why.errno)"
                assert int(container.exec("python", "-c", tried)) in (errno.EROFS, errno.EACCES)
            assert edge.stop(within_s=40) == 0, edge.log()
            assert (await client.ended()).code == 1012
        assert chat.stop(within_s=20) in (0, 143), chat.log()


async def test_an_edge_without_a_redis_keeps_one_in_its_volume(images: Engine) -> None:
    public, control = free_port(), free_port()
    where = ["--listen", f"{LOOPBACK}:{public}", "--control", f"{LOOPBACK}:{control}"]
    with (
        images.running("holdfast-test-edge", EDGE, "serve", *where, "--backend", f"http://{LOOPBACK}:9") as edge,
    ):
        await until_ready(control, edge)
        assert edge.stop(within_s=40) == 0, edge.log()
