from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.measure import CpuMeter, connections_to, descendants, machine, memory, processes_in
from benchmarks.peers.process import Daemon, ServerError, free_ports

BURN = "import time\nwhile time.process_time() < {}: pass\n"


def test_cpu_time_of_another_process_is_what_it_used(tmp_path: Path) -> None:
    meter = CpuMeter.start([])
    script = BURN.format(0.2) + "print('done', flush=True)\ninput()\n"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        used = meter.stop([process.pid])
        process.communicate(b"\n")
    assert 0.2e9 <= used < 0.3e9


def test_a_process_that_ended_meanwhile_spoils_the_measurement() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        meter = CpuMeter.start([process.pid, os.getpid()])
        process.communicate(b"\n")
    with pytest.raises(RuntimeError, match="ended while"):
        meter.stop([os.getpid()])


def test_memory_sees_an_allocation() -> None:
    before = memory([os.getpid()])
    # From the kernel, not from what the allocator has left over from other tests.
    with mmap.mmap(-1, 32 << 20) as block:
        block.write(b"x" * (32 << 20))
        after = memory([os.getpid()])
    assert after.rss - before.rss >= 30 << 20
    assert after.pss - before.pss >= 30 << 20


def test_connections_are_counted_from_the_side_that_opens_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert connections_to(port) == 0
        with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
            assert connections_to(port) == 2


def test_the_machine_is_described() -> None:
    about = machine()
    assert about["cores"] == os.cpu_count()
    assert int(about["memory_bytes"]) > 1 << 20


def test_a_daemons_family_is_found_and_ended_even_what_has_left_it(tmp_path: Path) -> None:
    # The grandchild starts a session of its own and loses its parent, as a daemonised Redis does.
    leave = (
        "import os, subprocess, sys\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        print('left', os.getpid(), flush=True)\n"
        "        input_, _ = os.pipe()\n"
        "        os.read(input_, 1)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "import signal; signal.pause()\n"
    )
    with Daemon([sys.executable, "-c", leave], tmp_path, frozenset(os.sched_getaffinity(0))) as daemon:
        daemon.wait_for(lambda: "left" in daemon.tail(), "the grandchild")
        gone = int(daemon.tail().split()[1])
        assert gone in daemon.pids()
        assert gone in processes_in(tmp_path)
        assert len(daemon.pids()) == 2
    deadline = time.monotonic() + 5
    while processes_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not processes_in(tmp_path)


def test_a_daemon_that_ends_at_once_says_what_it_said(tmp_path: Path) -> None:
    script = "import sys; sys.exit('no such setting')"
    with (
        Daemon([sys.executable, "-c", script], tmp_path, frozenset(os.sched_getaffinity(0))) as daemon,
        pytest.raises(ServerError, match="no such setting"),
    ):
        daemon.wait_for_port(free_ports(1)[0])


def test_free_ports_are_different_ones() -> None:
    assert len(set(free_ports(5))) == 5


def test_descendants_include_the_root() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert {os.getpid(), process.pid} <= descendants(os.getpid())
        process.communicate(b"\n")
