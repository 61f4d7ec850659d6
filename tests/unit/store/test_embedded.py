"""The embedded Redis: real, private, one at a time, gone with its parent, and with its data back again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
import redis

from edge.errors import StoreUnavailable
from edge.store.base import HistoryPolicy, Position
from edge.store.embedded import SOCKET_PATH_MOST, EmbeddedRedis, bundled_server, socket_path
from tests.support import proctree
from tests.support.needs import missing
from tests.support.waiting import wait_until, wait_until_blocking
from tests.unit.store.conftest import OpenEdge


@pytest.fixture(autouse=True)
def binary() -> Path:
    try:
        return bundled_server()
    except StoreUnavailable as error:
        missing(str(error))


def client(url: str) -> redis.Redis:
    return redis.Redis(unix_socket_path=unquote(url.removeprefix("unix://")))


async def test_a_store_works_on_it_and_finds_its_data_after_a_restart(tmp_path: Path, open_edge: OpenEdge) -> None:
    policy = HistoryPolicy(10, 60_000)
    async with EmbeddedRedis(tmp_path / "a folder") as server:
        assert server.running
        edge = await open_edge(server.url)
        first = await edge.store.publish("room", "one", policy)
        await edge.store.close()
    assert not server.running
    async with server:
        edge = await open_edge(server.url)
        page = await edge.store.history("room", Position(0, first.position.epoch), 10)
        assert [p.payload for p in page.publications] == ["one"]


def test_only_its_user_may_connect_and_only_through_the_socket(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server, client(server.url) as link:
        assert link.config_get("port") == {"port": "0"}
        assert (tmp_path / "redis.sock").stat().st_mode & 0o077 == 0


def test_a_second_one_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as first:
        with pytest.raises(StoreUnavailable, match=f"in use by another Holdfast .process {os.getpid()}"):
            EmbeddedRedis(tmp_path).start()
        with client(first.url) as link:
            assert link.ping()


def test_starting_again_replaces_a_server_that_was_killed(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        with client(server.url) as link:
            link.config_set("appendfsync", "always")
            link.set("b", "2")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        wait_until_blocking(lambda: not server.running, "the server is dead")
        server.start()
        with client(server.url) as link:
            assert link.get("b") == b"2"


def test_a_leftover_server_is_shut_down_before_ours_starts_on_its_data(tmp_path: Path, binary: Path) -> None:
    leftover = subprocess.Popen(
        [binary, "--port", "0", "--unixsocket", tmp_path / "redis.sock", "--dir", tmp_path, "--appendonly", "yes"],
        stdout=subprocess.DEVNULL,
    )
    url = f"unix://{tmp_path}/redis.sock"

    def written() -> bool:
        try:
            with client(url) as link:
                return bool(link.set("kept", "yes"))
        except redis.RedisError:
            return False

    wait_until_blocking(written, "the leftover answers")
    with EmbeddedRedis(tmp_path) as server:
        assert leftover.wait(timeout=5) == 0
        with client(server.url) as link:
            assert link.get("kept") == b"yes"
            assert link.info("server")["process_id"] == server.pid


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is Linux's")
async def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from edge.store.embedded import EmbeddedRedis\n"
        f"server = EmbeddedRedis({str(tmp_path)!r}); server.start(); print(server.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    assert proctree.is_alive(pid)
    parent.kill()
    parent.wait()
    await wait_until(lambda: not proctree.is_alive(pid), "the embedded Redis has ended with its parent")


def test_a_long_folder_gets_a_short_socket_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 60) / ("y" * 60)
    path = socket_path(folder)
    assert len(os.fsencode(path)) <= SOCKET_PATH_MOST
    assert path != socket_path(tmp_path / ("x" * 60) / ("z" * 60))
    assert path.parent.stat().st_mode & 0o077 == 0
    with EmbeddedRedis(folder) as server, client(server.url) as link:
        assert link.ping()
    path.parent.rmdir()
    socket_path(tmp_path / ("x" * 60) / ("z" * 60)).parent.rmdir()


def test_a_server_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    (tmp_path / "appendonly.aof").write_bytes(b"*1\r\n$7\r\nGARBAGE\r\n*2\r\n$3\r\nSE?")
    server = EmbeddedRedis(tmp_path)
    with pytest.raises(StoreUnavailable, match=r"(?s)ended at once.*redis\.log.*(AOF|append only file|GARBAGE)"):
        server.start()
    assert not server.running
    (tmp_path / "appendonly.aof").unlink()
    with server:
        assert server.running


def test_a_file_that_is_no_program_is_said(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho out of order\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(StoreUnavailable, match=r"(?s)ended at once.*out of order"):
        EmbeddedRedis(tmp_path / "data", binary=broken).start()
