"""`make run`: an edge on its embedded Redis and the chat behind it, each in a process of its own, until Ctrl-C.

The chat's process is started again when it ends, so that it can be killed to see what happens: nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from backend_sdk.examples.processes import HOST, LOOK_S, Stop, complain_of_taken, start, stop_when_asked, wait_for

CONFIG = Path(__file__).with_name("holdfast.toml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until stopped. Exit status: 0 stopped, 1 a port is taken or the edge has ended."""
    options = parse(arguments)
    ports = {"edge": options.edge_port, "control": options.control_port, "chat": options.chat_port}
    if complain_of_taken(ports, "run"):
        return 1
    stop_when_asked()
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


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make run", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--edge-port", type=int, default=7999, metavar="PORT")
    parser.add_argument("--control-port", type=int, default=5561, metavar="PORT")
    parser.add_argument("--chat-port", type=int, default=8000, metavar="PORT")
    parser.add_argument("--data", type=Path, default=Path(".data"), help="where the embedded Redis keeps its data")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
