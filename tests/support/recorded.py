"""An HTTP API that answers what was recorded, and keeps what it was asked. For APIs that take minutes to have for
real."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.ports import LOOPBACK

Call = tuple[str, str, Any]
"""Method, path with its query, body as JSON."""


class Recorded(ThreadingHTTPServer):
    """`answers`: (status, JSON) for "METHOD /path" without the query; a list of them is answered one by one, the last
    for ever. What is not there: 404."""

    daemon_threads = True

    def __init__(self, answers: Mapping[str, Any]) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.answers = dict(answers)
        self.calls: list[Call] = []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}"

    def changes(self) -> list[Call]:
        """The calls that were no questions."""
        return [call for call in self.calls if call[0] != "GET"]

    def next_answer(self, what: str) -> tuple[int, Any]:
        found = self.answers.get(what, (404, {"message": "not found", "error": {"code": "not_found", "message": "no"}}))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        status, content = found
        return status, content


class _Handler(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        server = self.server
        assert isinstance(server, Recorded)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server.calls.append((self.command, self.path, json.loads(body) if body else None))
        server.headers.append({name.lower(): value for name, value in self.headers.items()})
        status, content = server.next_answer(f"{self.command} {self.path.partition('?')[0]}")
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Not on the test's output."""


@contextmanager
def recorded(answers: Mapping[str, Any]) -> Iterator[Recorded]:
    server = Recorded(answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
