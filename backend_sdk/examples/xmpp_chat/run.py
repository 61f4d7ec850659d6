"""`make run-xmpp`: a private XMPP server, an edge on its embedded Redis and the web chat, until Ctrl-C.

Each is a process of its own and is started again when it ends, so that it can be killed to see what happens: nothing,
but for the XMPP server, whose end the edge has to tell. Everything lives in a temporary folder and is gone afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend_sdk.examples.processes import HOST, LOOK_S, Stop, complain_of_taken, start, stop_when_asked, wait_for
from backend_sdk.examples.xmpp_chat import server

CONFIG = Path(__file__).with_name("holdfast.toml")


@dataclass(frozen=True, slots=True)
class Network:
    """The XMPP server, as the edge and people have to know it. `command` starts it, when it is ours."""

    settings: Mapping[str, str | int]
    hint: str
    command: Sequence[str] = ()

    @property
    def domain(self) -> str:
        return str(self.settings["domain"])

    @property
    def port(self) -> int:
        return int(self.settings["port"])


class Supervisor:
    """Starts processes, and starts them again when they end."""

    def __init__(self, processes: contextlib.ExitStack) -> None:
        self._processes = processes
        self._begin: dict[str, Callable[[], subprocess.Popen[bytes]]] = {}
        self._ready: dict[str, str] = {}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, ready: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Returns at once. `ready`: a URL that answers when it is up."""
        self._begin[name] = lambda: start(command, self._processes, environment)
        self._ready[name] = ready
        self.running[name] = self._begin[name]()

    def all_ready(self) -> bool:
        """Wait until all are up. False: one would not start."""
        return all(self._is_ready(name) for name in self.running)

    def look_after(self) -> bool:
        """Start again what has ended. False: it would not start."""
        for name, process in self.running.items():
            if process.poll() is not None:
                self.running[name] = self._begin[name]()
                print(f"  The {name} is gone; a new one serves: kill -9 {self.running[name].pid}", flush=True)
                return self._is_ready(name)
        return True

    def _is_ready(self, name: str) -> bool:
        if wait_for(self._ready[name], self.running[name]):
            return True
        print(f"The {name} did not start; what it said is above.", file=sys.stderr)
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until stopped. Exit status: 0 stopped, 1 something is missing, a port is taken, or a process cannot start."""
    options = parse(arguments)
    ports = {"edge": options.edge_port, "control": options.control_port, "chat": options.chat_port}
    if complain_of_taken(ports, "run-xmpp"):
        return 1
    stop_when_asked()
    with contextlib.ExitStack() as processes:
        try:
            folder = Path(processes.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-xmpp-")))
            folder.chmod(0o711)  # for the XMPP server, which may be somebody else, to reach its own folder
            network = other_network(options) if options.server else own_network(folder)
            return run(options, network, folder, Supervisor(processes))
        except server.NotInstalled as error:
            print(
                f"This example brings an XMPP server of its own, but {error}\n"
                'Or use a server where you have accounts: make run-xmpp ARGS="--server xmpp.example:5222"',
                file=sys.stderr,
            )
            return 1
        except Stop:
            print("\nStopping.", flush=True)
            return 0


def run(options: argparse.Namespace, network: Network, folder: Path, supervisor: Supervisor) -> int:
    if network.command:
        supervisor.start("XMPP server", f"tcp://{HOST}:{network.port}", network.command, {})
    environment = {
        "CHAT_EDGE_URL": f"ws://{HOST}:{options.edge_port}/",
        "CHAT_DOMAIN": network.domain,
        "CHAT_HINT": network.hint,
        "CHAT_SECRET": secrets.token_hex(),  # the same for all its lives
    }
    chat_url, edge_url = f"http://{HOST}:{options.chat_port}/", f"http://{HOST}:{options.control_port}/readyz"
    supervisor.start("chat", chat_url, chat_command(options), environment)
    supervisor.start("edge", edge_url, edge_command(options, write_config(folder, network), folder), {})
    if not supervisor.all_ready():
        return 1
    explain(options, network, supervisor.running)
    while supervisor.look_after():
        time.sleep(LOOK_S)
    return 1


def explain(options: argparse.Namespace, network: Network, running: Mapping[str, subprocess.Popen[bytes]]) -> None:
    print(
        f"\n  Chat     http://{HOST}:{options.chat_port}/     open it twice, as two people"
        f"\n  Edge     ws://{HOST}:{options.edge_port}/     holds the WebSockets and the XMPP sessions"
        f"\n  Metrics  http://{HOST}:{options.control_port}/metrics"
        f"\n\n  {network.hint}"
    )
    if network.command:
        print(
            f"  Any XMPP client can be one of them: give it the address {server.ACCOUNTS[1]}@{network.domain}, by hand "
            f"the server\n  {HOST} and the port {network.port}, and accept the certificate, which is the server's own."
        )
    edge = running["edge"].pid
    print(
        "\n  Now kill the backend, or the edge with its Redis and all connections, as often as you like:"
        f"\n\n      kill -9 {running['chat'].pid}     the chat's process"
        f"\n      kill -9 {edge} $(pgrep -P {edge})     the edge, all of it"
        "\n\n  They are started again, and no contact notices: nobody goes offline, no message is lost or comes twice."
        "\n  Ctrl-C stops everything.\n",
        flush=True,
    )


def own_network(folder: Path) -> Network:
    prosody = server.prepare(folder / "prosody")
    where: dict[str, str | int] = {"host": HOST, "port": prosody.port, "ca_file": str(prosody.certificate)}
    hint = f"Accounts: {', '.join(server.ACCOUNTS)}, contacts of each other. The password is the name."
    return Network({"domain": server.DOMAIN, **where}, hint, prosody.command)


def other_network(options: argparse.Namespace) -> Network:
    host, _, port = options.server.partition(":")
    settings: dict[str, str | int] = {"domain": options.domain or host}
    if port or options.domain:  # else DNS says where the domain's server is
        settings |= {"host": host, "port": int(port or 0)}
    if options.ca:
        settings["ca_file"] = str(options.ca.absolute())
    return Network(settings, f"Sign in with an address at {settings['domain']}.")


def write_config(folder: Path, network: Network) -> Path:
    """The edge's configuration, with the XMPP server in it. (JSON's strings and numbers are TOML's, too.)"""
    path = folder / "holdfast.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in network.settings.items()]
    path.write_text("\n".join([CONFIG.read_text(), "[[xmpp]]", *lines, ""]))
    return path


def chat_command(options: argparse.Namespace) -> Sequence[str]:
    command = [sys.executable, "-m", "uvicorn", "backend_sdk.examples.xmpp_chat.app:app"]
    return [*command, "--host", HOST, "--port", str(options.chat_port), "--log-level", "warning"]


def edge_command(options: argparse.Namespace, config: Path, folder: Path) -> Sequence[str]:
    command = [str(Path(sys.executable).with_name("holdfast")), "serve", "--config", str(config)]
    command += ["--listen", f"{HOST}:{options.edge_port}", "--control", f"{HOST}:{options.control_port}"]
    return [*command, "--backend", f"http://{HOST}:{options.chat_port}/edge/", "--data", str(folder / "edge")]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make run-xmpp", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--edge-port", type=int, default=7999, metavar="PORT")
    parser.add_argument("--control-port", type=int, default=5561, metavar="PORT")
    parser.add_argument("--chat-port", type=int, default=8000, metavar="PORT")
    parser.add_argument(
        "--server", default="", metavar="HOST[:PORT]", help="use this XMPP server, or the one of this domain"
    )
    parser.add_argument("--domain", default="", help="the domain of its accounts, when it is not HOST")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="certificate to trust, when the system does not")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
