"""`make run`: an edge on its embedded Redis and the chat behind it, each in a process of its own, until Ctrl-C.

The chat's process is started again when it ends, so that it can be killed to see what happens: nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

HOST = "127.0.0.1"
CONFIG = Path(__file__).with_name("holdfast.toml")
START_S = 60.0
"""A first start unpacks and compiles; a slow laptop needs some of this."""
STOP_S = 5.0
"""How long a process may take to end before it is asked less politely."""
LOOK_S = 0.2
"""How often the processes are looked after."""


class Stop(Exception):
    """Somebody pressed Ctrl-C, or asked politely."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until stopped. Exit status: 0 stopped, 1 a port is taken or the edge has ended."""
    options = parse(arguments)
    ports = {"edge": options.edge_port, "control": options.control_port, "chat": options.chat_port}
    taken = {name: port for name, port in ports.items() if not is_free(port)}
    for name, port in taken.items():
        print(
            f"Port {port} on {HOST} is taken by another program. Choose another for the {name}: "
            f"make run {name.upper()}_PORT={port + 1000}",
            file=sys.stderr,
        )
    if taken:
        return 1
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    with contextlib.ExitStack() as processes:
        try:
            return run(options, processes)
        except Stop:
            print("\nStopping.", flush=True)
            return 0


def run(options: argparse.Namespace, processes: contextlib.ExitStack) -> int:
    chat = start_chat(options, processes)
    edge = start_edge(options, processes)
    control = f"http://{HOST}:{options.control_port}"
    for what, process, url in [
        ("chat", chat, f"http://{HOST}:{options.chat_port}/"),
        ("edge", edge, f"{control}/readyz"),
    ]:
        if not wait_for(url, process):
            print(f"The {what} did not start; what it said is above.", file=sys.stderr)
            return 1
    print(
        f"\n  Chat     http://{HOST}:{options.chat_port}/     open it twice"
        f"\n  Edge     ws://{HOST}:{options.edge_port}/     holds the WebSockets"
        f"\n  Metrics  {control}/metrics"
        f"\n\n  Now kill the chat's process, as often as you like: kill -9 {chat.pid}"
        "\n  It is started again, and no browser notices. Ctrl-C stops everything.\n",
        flush=True,
    )
    while edge.poll() is None:
        if chat.poll() is not None:
            chat = start_chat(options, processes)
            print(f"  The chat's process is gone; a new one serves: kill -9 {chat.pid}", flush=True)
        time.sleep(LOOK_S)
    print(f"The edge has ended with status {edge.returncode}; what it said is above.", file=sys.stderr)
    return 1


def start_chat(options: argparse.Namespace, processes: contextlib.ExitStack) -> subprocess.Popen[bytes]:
    environment = {"CHAT_EDGE_URL": f"ws://{HOST}:{options.edge_port}/"}
    command = [sys.executable, "-m", "uvicorn", "backend_sdk.examples.chat.app:app"]
    command += ["--host", HOST, "--port", str(options.chat_port), "--log-level", "warning"]
    return start(command, processes, environment)


def start_edge(options: argparse.Namespace, processes: contextlib.ExitStack) -> subprocess.Popen[bytes]:
    command = [str(Path(sys.executable).with_name("holdfast")), "serve", "--config", str(CONFIG)]
    command += ["--listen", f"{HOST}:{options.edge_port}", "--control", f"{HOST}:{options.control_port}"]
    command += ["--backend", f"http://{HOST}:{options.chat_port}/edge/", "--data", str(options.data)]
    return start(command, processes, {})


def start(
    command: Sequence[str], processes: contextlib.ExitStack, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start a process that ends when `processes` is closed. In a session of its own: Ctrl-C reaches only us, and we
    stop the others in order."""
    process = subprocess.Popen(command, env=os.environ | environment, start_new_session=True)
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
    """Whether `url` answers 200 before its process ends or START_S are over."""
    give_up = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < give_up:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except OSError:
            time.sleep(LOOK_S)
    return False


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what the last run left behind is no hindrance
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def stop(number: int, frame: FrameType | None) -> None:
    for again in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(again, signal.SIG_IGN)
    raise Stop


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make run", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--edge-port", type=int, default=7999, metavar="PORT")
    parser.add_argument("--control-port", type=int, default=5561, metavar="PORT")
    parser.add_argument("--chat-port", type=int, default=8000, metavar="PORT")
    parser.add_argument("--data", type=Path, default=Path(".data"), help="where the embedded Redis keeps its data")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
