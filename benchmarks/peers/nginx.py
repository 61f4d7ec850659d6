"""nginx: any of them, the static backend behind everybody, and Nchan."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load.wire import Dialect, handshake, post, server_frame
from benchmarks.peers.base import CHANNEL, MESSAGE, Cores, Running, Task
from benchmarks.peers.process import OPEN_FILES, Daemon, free_ports, output_of, program

JSON_CALLBACK = "application/vnd.holdfast.v1+json"
_FOREVER = "keepalive_requests 1000000000; keepalive_timeout 3600s;"
"""nginx closes a keep-alive connection after 1,000 requests by default; a benchmark of connections must not."""


@contextmanager
def nginx(
    folder: Path, cores: frozenset[int], http: str, modules: str = "", files: int = OPEN_FILES
) -> Iterator[Daemon]:
    """An nginx with one worker and `http` as its http block."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # As root, workers would become `nobody` and could not write into the scratch folder.
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{modules}\n{user}\ndaemon off; worker_processes 1; worker_rlimit_nofile {files};\n"
        f"pid {folder}/nginx.pid; error_log {folder}/error.log warn;\n"
        f"events {{ worker_connections {files}; }}\n"
        f"http {{ access_log off; {_FOREVER} {temporary}\n{http}\n}}\n"
    )
    command = [program("nginx") or "nginx", "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
    with Daemon(command, folder, cores) as daemon:
        yield daemon


@contextmanager
def static_backend(folder: Path, cores: frozenset[int], location: str, http: str = "") -> Iterator[tuple[Daemon, int]]:
    """A backend that is one `location` of nginx: its cost is small, the same for everybody, and counted apart."""
    (port,) = free_ports(1)
    server = f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ {location} }} }}"
    with nginx(folder, cores, f"{http}\n{server}") as daemon:
        daemon.wait_for_port(port)
        yield daemon, port


def holdfast_answer(*actions: Mapping[str, str]) -> str:
    """The body of a callback answer with these actions. It names no event: a request with one event needs none."""
    return json.dumps({"results": [{"actions": actions}]}, separators=(",", ":"))


def fixed_answer(content_type: str, body: str) -> str:
    """A location that always answers 200 with `body` (which holds no single quote, dollar or backslash)."""
    return f"default_type {content_type}; return 200 '{body}';"


class Nchan:
    """Nchan, the pub/sub module in C. It needs no backend: a subscriber's channel stands in its location."""

    name = "Nchan"

    def absent(self) -> str | None:
        if not program("nginx"):
            return "nginx is not installed (Debian: nginx)"
        return None if _nchan_module() else "the Nchan module is not installed (Debian: libnginx-mod-nchan)"

    def versions(self) -> Mapping[str, str]:
        package = output_of("dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-nchan")
        return {"Nchan": package or "unknown"}

    @contextmanager
    def run(self, task: Task, folder: Path, cores: Cores) -> Iterator[Running]:
        if task not in (Task.CHANNEL, Task.IDLE):
            raise ValueError("Nchan calls no backend")
        subscribe, publish = free_ports(2)
        http = (
            "nchan_shared_memory_size 256m;\n"
            f"server {{ listen 127.0.0.1:{subscribe} backlog=4096;"
            f" location / {{ nchan_subscriber websocket; nchan_channel_id {CHANNEL};"
            " nchan_message_buffer_length 200; nchan_message_timeout 60s; nchan_subscriber_first_message newest; } }\n"
            f"server {{ listen 127.0.0.1:{publish}; location / {{ nchan_publisher http; nchan_channel_id {CHANNEL};"
            " nchan_message_buffer_length 200; nchan_message_timeout 60s; } }"
        )
        module = f"load_module {_nchan_module()};"
        with nginx(folder / "nchan", cores.server, http, module) as daemon:
            daemon.wait_for_port(subscribe)
            publication = post("/", f"127.0.0.1:{publish}", "text/plain", MESSAGE.encode())
            yield Running(
                address=("127.0.0.1", subscribe),
                dialect=Dialect(handshake("/", f"127.0.0.1:{subscribe}"), 0, b"", server_frame(MESSAGE)),
                pids=daemon.pids,
                backend_pids=frozenset,
                publish_address=("127.0.0.1", publish),
                publications=lambda count: [publication] * count,
            )


def _nchan_module() -> str | None:
    for line in output_of("dpkg", "-L", "libnginx-mod-nchan").splitlines():
        if line.endswith("ngx_nchan_module.so"):
            return line
    usual = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
    return str(usual) if usual.exists() else None
