"""A backend of WebSockets over HTTP as a process of its own: it echoes, with its pid, and can be killed at any time.

Written by hand against the specification, with nothing of ours: what it takes and gives are bytes.
"""

from __future__ import annotations

import os
from typing import Any

from tests.support.journal import VARIABLE, Journal

EVENTS = b"application/websocket-events"


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        part = await receive()
        body += part.get("body", b"")
        more = part.get("more_body", False)
    answer = b"".join(_answer(kind, content) for kind, content in _events(body))
    _note(scope, body)
    headers = [(b"content-type", EVENTS), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def _answer(kind: str, content: bytes) -> bytes:
    if kind in ("OPEN", "CLOSE"):
        return kind.encode() + b"\r\n"
    if kind == "TEXT":
        said = content + b" from %d" % os.getpid()
        return b"TEXT %x\r\n%b\r\n" % (len(said), said)
    return b""


def _events(body: bytes) -> list[tuple[str, bytes]]:
    events = []
    while body:
        line, _, body = body.partition(b"\r\n")
        kind, _, length = line.partition(b" ")
        content = b""
        if length:
            size = int(length, 16)
            content, body = body[:size], body[size + 2 :]
        events.append((kind.decode(), content))
    return events


def _note(scope: dict[str, Any], body: bytes) -> None:
    if VARIABLE in os.environ and body.startswith((b"OPEN", b"CLOSE", b"DISCONNECT")):
        ids = [value.decode() for name, value in scope["headers"] if name == b"connection-id"]
        journal = Journal.from_environment()
        journal.note(type=body.split()[0].decode(), connection=ids[0])
        journal.close()
