"""Processes of the examples: started, waited for, ended in order, and what Ctrl-C means to whoever runs them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from types import FrameType

HOST = "127.0.0.1"
START_S = 60.0
"""A first start unpacks and compiles; a slow laptop needs some of this."""
STOP_S = 5.0
"""How long a process may take to end before it is asked less politely."""
LOOK_S = 0.2
"""How often the processes are looked after."""


class Stop(Exception):
    """Somebody pressed Ctrl-C, or asked politely."""


def stop_when_asked() -> None:
    """From now on SIGINT, SIGTERM and SIGHUP raise Stop, once."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    for again in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(again, signal.SIG_IGN)
    raise Stop


def start(
    command: Sequence[str], processes: contextlib.ExitStack, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a process that ends when `processes` is closed. In a session of its own: Ctrl-C reaches only us, and we
    stop the others in order."""
    process = subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True)
    processes.callback(end, process)
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask for the end, ask again to hurry it up, then insist."""
    for ask in (process.terminate, process.terminate, process.kill):
        ask()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
            return


def wait_for(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Whether `url` answers before its process ends or START_S are over: with 200, or, for tcp://host:port, at all."""
    give_up = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < give_up:
        try:
            if url.startswith("tcp://"):
                host, _, port = url.removeprefix("tcp://").rpartition(":")
                socket.create_connection((host, int(port)), timeout=2).close()
            else:
                urllib.request.urlopen(url, timeout=2).close()
        except OSError:
            time.sleep(LOOK_S)
        else:
            return True
    return False


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what the last run left behind is no hindrance
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def complain_of_taken(ports: Mapping[str, int], verb: str) -> bool:
    """Whether one of `ports` is taken; says so, and what to do."""
    taken = {name: port for name, port in ports.items() if not is_free(port)}
    for name, port in taken.items():
        print(
            f"Port {port} on {HOST} is taken by another program. Choose another for the {name}: "
            f"make {verb} {name.upper()}_PORT={port + 1000}",
            file=sys.stderr,
        )
    return bool(taken)
