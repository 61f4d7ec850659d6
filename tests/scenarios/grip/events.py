"""A backend of WebSockets over HTTP by hand: a test writes the bytes of its answers, and of the requests it expects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from tests.support.raw_backend import Answer, Asked

EVENTS = "application/websocket-events"
Handler = Callable[["Asked"], Awaitable["Answer | bytes"]]


def event(kind: str, content: str | bytes | None = None) -> bytes:
    """One event in its wire form."""
    if content is None:
        return f"{kind}\r\n".encode()
    data = content.encode() if isinstance(content, str) else content
    return f"{kind} {len(data):x}\r\n".encode() + data + b"\r\n"


def text(content: str) -> bytes:
    return event("TEXT", content)


def order(**fields: object) -> bytes:
    """A control message."""
    return text("c:" + json.dumps(fields))


def told(*events: bytes, headers: dict[str, str] | None = None) -> Answer:
    """An answer with events."""
    return Answer(headers=[("Content-Type", EVENTS), *(headers or {}).items()], body=b"".join(events))


GRIP = {"Sec-WebSocket-Extensions": "grip"}
OPEN = event("OPEN")
CLOSE_NORMAL = event("CLOSE", b"\x03\xe8")


class Script:
    """Answers by what was asked: OPEN, then `answers` by the whole body of a request; anything else is echoed, but for
    ends, which are taken in silence."""

    def __init__(self, opening: Answer | None = None, answers: dict[bytes, Answer] | None = None) -> None:
        self.opening = opening or told(OPEN)
        self.answers = answers or {}
        self.gate = asyncio.Event()
        """While it is clear, only OPEN is answered."""
        self.gate.set()

    async def __call__(self, asked: Asked) -> Answer | bytes:
        if asked.body == OPEN:
            return self.opening
        await self.gate.wait()
        if asked.body in self.answers:
            return self.answers[asked.body]
        if asked.body.startswith((b"CLOSE", b"DISCONNECT")):
            return told(asked.body) if asked.body.startswith(b"CLOSE") else told()
        return told(asked.body)
