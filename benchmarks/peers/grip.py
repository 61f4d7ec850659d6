"""What everybody shares who speaks GRIP: the static backend, its requests, and what publishers send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load.wire import post
from benchmarks.peers.base import ANSWER, CHANNEL, MESSAGE, Cores, Task
from benchmarks.peers.nginx import static_backend
from benchmarks.peers.process import Daemon

EVENTS_TYPE = "application/websocket-events"


def websocket_event(kind: str, content: str | None = None) -> str:
    """One event of WebSocket-over-HTTP: type, and content behind its length in hexadecimal bytes."""
    if content is None:
        return f"{kind}\r\n"
    return f"{kind} {len(content.encode()):x}\r\n{content}\r\n"


@contextmanager
def grip_backend(task: Task, folder: Path, cores: Cores) -> Iterator[tuple[Daemon, int]]:
    """Static answers, told apart by length: six bytes are `OPEN` and its line end, twelve `DISCONNECT` and its."""
    opened = websocket_event("OPEN")
    extension = ""
    if task is Task.GRIP_CHANNEL:
        opened += websocket_event("TEXT", "c:" + json.dumps({"type": "subscribe", "channel": CHANNEL}))
        extension = "add_header Sec-WebSocket-Extensions grip;"
    answers = {"default": websocket_event("TEXT", ANSWER), "6": opened, "12": ""}
    lines = "".join(f"{key} '{_quoted(body)}';" for key, body in answers.items())
    location = f"default_type {EVENTS_TYPE}; {extension} return 200 $answer;"
    with static_backend(folder, cores.backend, location, f"map $content_length $answer {{ {lines} }}") as started:
        yield started


def _quoted(body: str) -> str:
    return body.replace("\r", "\\r").replace("\n", "\\n")


def event_request(port: int) -> bytes:
    """The POST of one message, with the headers that Pushpin sends to a backend (seen of 1.36)."""
    headers = {
        "Origin": f"http://127.0.0.1:{port}",
        "User-Agent": "Mozilla/5.0 (holdfast benchmark)",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Extensions": "grip",
        "Grip-Sig": "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3NjQwMDAwMDAsImlzcyI6InB1c2hwaW4ifQ." + "x" * 43,
        "Grip-Feature": "status, session, link:next, filter:skip-self, filter:skip-users, filter:require-sub, "
        "filter:build-id, filter:var-subst",
        "Connection-Id": "026eee57-d8d9-44b0-bed4-e7a69dd65fea",
    }
    body = websocket_event("TEXT", MESSAGE).encode()
    return post("/", f"127.0.0.1:{port}", EVENTS_TYPE, body, headers, accept=EVENTS_TYPE)


def publish_items(port: int, count: int) -> bytes:
    """One POST with all of them, as the libraries batch."""
    item = {"channel": CHANNEL, "formats": {"ws-message": {"content": MESSAGE}}}
    return post("/publish/", f"127.0.0.1:{port}", "application/json", json.dumps({"items": [item] * count}).encode())
