"""The scenarios stand on these helpers, so the helpers have tests of their own, on real processes."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support import proctree
from tests.support.journal import Journal
from tests.support.ports import accepts, free_port
from tests.support.processes import Backend, Child
from tests.support.toml import to_toml
from tests.support.waiting import wait_until, wait_until_blocking

APP = "tests.unit.support.echo_app:app"


def ask(port: int, path: str = "/") -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


async def test_a_backend_killed_ten_times_comes_back_on_its_port_as_a_new_process(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    async with Backend(tmp_path, APP, journal=journal) as backend:
        pids = []
        for turn in range(10):
            pids.append(int(ask(backend.port, f"/{turn}")))
            assert pids[-1] == backend.server_pid
            await backend.restart()
            assert not proctree.is_alive(pids[-1])
    assert len(set(pids)) == 10
    assert [entry["path"] for entry in journal.entries()] == [f"/{turn}" for turn in range(10)]
    journal.close()


async def test_a_backend_that_is_asked_to_stop_ends_with_zero_and_its_port_is_free(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    async with Backend(tmp_path, APP, journal=journal) as backend:
        assert await backend.sigterm() == 0
        assert not accepts(backend.port)
        await backend.start()
        assert accepts(backend.port)
    journal.close()


async def test_two_backends_can_stand_behind_one_port(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    async with (
        Backend(tmp_path, APP, journal=journal, name="one") as one,
        Backend(tmp_path, APP, journal=journal, name="two", port=one.port) as two,
    ):
        answered: set[int] = set()

        def both_answered() -> bool:
            answered.add(int(ask(one.port)))
            return answered == {one.server_pid, two.server_pid}

        await wait_until(both_answered, "both have answered")
        await one.sigkill()
        assert int(ask(one.port)) == two.server_pid
    journal.close()


async def test_leaving_the_block_ends_the_whole_tree_and_a_failure_shows_the_log(tmp_path: Path) -> None:
    child = Child("parent", tmp_path)
    program = (
        "import subprocess, sys, time; print('hello from the parent', flush=True)\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "time.sleep(600)"
    )
    child.spawn([sys.executable, "-c", program])
    await wait_until(lambda: len(child.members()) == 2, "parent and daemon run")
    tree = child.members()
    await child.kill_tree()
    assert not any(proctree.is_alive(pid) for pid in tree)
    assert "hello from the parent" in child.log_tail()


async def test_a_backend_that_cannot_start_fails_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="No module named 'nowhere'"):
        async with Backend(tmp_path, "nowhere:app"):
            pass


def test_children_die_with_a_test_process_that_is_killed() -> None:
    program = (
        "import signal, subprocess, sys\n"
        "from tests.support.proctree import dying_with_parent\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],\n"
        "                         preexec_fn=dying_with_parent(signal.SIGKILL))\n"
        "print(child.pid, flush=True); child.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        orphan = int(parent.stdout.readline())
        assert proctree.is_alive(orphan)
        parent.send_signal(signal.SIGKILL)
    wait_until_blocking(lambda: not proctree.is_alive(orphan), "the orphan is dead too")


async def test_waiting_in_vain_says_for_what() -> None:
    with pytest.raises(AssertionError, match="until pigs fly; last answer: 0"):
        await wait_until(lambda: 0, "pigs fly", deadline_s=0.05)


def test_a_free_port_is_free() -> None:
    assert not accepts(free_port())


def test_configuration_survives_toml() -> None:
    settings = {
        "edge": {"listen": ["127.0.0.1:1"], "redis": None, "lease_s": 0.5, "tls": {"on": False}},
        "route": [{"path": '/a"\\b', "limits": {"message_bytes": 10}}, {"path": "/ü"}],
    }
    expected = {**settings, "edge": {"listen": ["127.0.0.1:1"], "lease_s": 0.5, "tls": {"on": False}}}
    assert tomllib.loads(to_toml(settings)) == expected
