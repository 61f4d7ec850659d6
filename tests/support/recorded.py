"""An HTTP API that answers what was recorded, and keeps what it was asked. For APIs that take minutes to have for
real."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from tests.support.threaded import QuietHandler, ThreadedServer

Call = tuple[str, str, Any]
"""Method, path with its query, body as JSON."""


class Recorded(ThreadedServer):
    """`answers`: (status, JSON) for "METHOD /path" without the query; a list of them is answered one by one, the last
    for ever. What is not there: 404."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        super().__init__(_Handler)
        self.answers = dict(answers)
        self.calls: list[Call] = []
        self.headers: list[dict[str, str]] = []

    def changes(self) -> list[Call]:
        """The calls that were no questions."""
        return [call for call in self.calls if call[0] != "GET"]

    def next_answer(self, what: str) -> tuple[int, Any]:
        found = self.answers.get(what, (404, {"message": "not found", "error": {"code": "not_found", "message": "no"}}))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        status, content = found
        return status, content


class _Handler(QuietHandler):
    def _answer(self) -> None:
        server = self.server
        assert isinstance(server, Recorded)
        body = self.body()
        server.calls.append((self.command, self.path, json.loads(body) if body else None))
        server.headers.append({name.lower(): value for name, value in self.headers.items()})
        status, content = server.next_answer(f"{self.command} {self.path.partition('?')[0]}")
        self.answer(status, "application/json", json.dumps(content).encode())

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer


def recorded(answers: Mapping[str, Any]) -> AbstractContextManager[Recorded]:
    return Recorded(answers).serving()
