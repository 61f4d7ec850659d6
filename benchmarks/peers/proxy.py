"""nginx as a plain reverse proxy: the least that any server can do with an event of a client."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load.wire import Dialect, post
from benchmarks.peers.base import ANSWER, MESSAGE, Cores, Running, Task
from benchmarks.peers.grip import event_request, grip_backend, websocket_event
from benchmarks.peers.nginx import JSON_CALLBACK, fixed_answer, holdfast_answer, nginx, static_backend
from benchmarks.peers.process import OPEN_FILES, Daemon, free_ports, output_of, program


def one_event() -> bytes:
    """The request body of one message event, as the edge sends it in JSON."""
    event = {
        "id": "s-0123456789abcdefghij:12345",
        "session": "s-0123456789abcdefghij",
        "type": "message",
        "attempt": 1,
        "at": 1_764_000_000_000,
        "release": "default",
        "user": None,
        "state": {},
        "version": 0,
        "text": MESSAGE,
    }
    return json.dumps({"edge": "e-0123456789abcdefghij", "events": [event]}, separators=(",", ":")).encode()


class Proxy:
    """nginx as a plain reverse proxy of the POST that an edge makes of an event: the least any such server can do."""

    name = "nginx"

    def absent(self) -> str | None:
        return None if program("nginx") else "nginx is not installed (Debian: nginx)"

    def versions(self) -> Mapping[str, str]:
        return {"nginx": output_of(program("nginx") or "nginx", "-v").partition("/")[2].strip()}

    @contextmanager
    def run(self, task: Task, folder: Path, cores: Cores) -> Iterator[Running]:
        with _backend(task, folder / "backend", cores) as (behind, upstream, answer):
            (port,) = free_ports(1)
            http = (
                f"upstream backend {{ server 127.0.0.1:{upstream}; keepalive {OPEN_FILES // 2};"
                " keepalive_requests 1000000000; keepalive_timeout 3600s; }\n"
                f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://backend;"
                ' proxy_http_version 1.1; proxy_set_header Connection ""; } }'
            )
            with nginx(folder / "proxy", cores.server, http) as daemon:
                daemon.wait_for_port(port)
                if task is Task.GRIP_ECHO:
                    request = event_request(port)
                else:
                    request = post("/", f"127.0.0.1:{port}", JSON_CALLBACK, one_event())
                yield Running(
                    address=("127.0.0.1", port),
                    dialect=Dialect(b"", 0, request, answer.encode()),
                    pids=daemon.pids,
                    backend_pids=behind.pids,
                )


@contextmanager
def _backend(task: Task, folder: Path, cores: Cores) -> Iterator[tuple[Daemon, int, str]]:
    """The backend of a task, its port, and what it answers to an event."""
    if task is Task.GRIP_ECHO:
        with grip_backend(task, folder, cores) as (daemon, port):
            yield daemon, port, websocket_event("TEXT", ANSWER)
    elif task is Task.ECHO:
        body = holdfast_answer({"type": "send", "text": ANSWER})
        with static_backend(folder, cores.backend, fixed_answer(JSON_CALLBACK, body)) as (daemon, port):
            yield daemon, port, body
    else:
        raise ValueError("a reverse proxy has neither channels nor idle WebSockets of its own")
