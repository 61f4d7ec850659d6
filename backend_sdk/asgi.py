"""The few pieces of ASGI the SDK needs: reading a bounded body, answering, the lifespan protocol.

Source: asgi.readthedocs.io, "HTTP & WebSocket" and "Lifespan".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager

from starlette.types import Receive, Scope, Send

from backend_sdk.errors import HoldfastError, RequestError


class Disconnected(HoldfastError):
    """The caller went away before its request was whole."""


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of that (lower-case) name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value).decode("latin-1")
    return None


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The request's body, of at most `limit` bytes. Raises `RequestError` 413, `Disconnected`."""
    announced = header(scope, b"content-length")
    if announced is not None and announced.isdigit() and int(announced) > limit:
        raise RequestError(413, f"the body is larger than {limit} bytes (App(max_body_bytes=…))")
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise RequestError(413, f"the body is larger than {limit} bytes (App(max_body_bytes=…))")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def answer(
    send: Send,
    status: int,
    content_type: str,
    body: bytes,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """A whole response."""
    fields = [
        (b"content-type", content_type.encode("latin-1")),
        (b"content-length", b"%d" % len(body)),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def answer_text(send: Send, status: int, text: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """A short answer for people."""
    await answer(send, status, "text/plain; charset=utf-8", f"{text}\n".encode(), headers)


async def lifespan(receive: Receive, send: Send, context: Callable[[], AbstractAsyncContextManager[object]]) -> None:
    """Serve the lifespan protocol: enter `context` at start-up, leave it at shutdown."""
    await receive()
    started = False
    try:
        async with context():
            await send({"type": "lifespan.startup.complete"})
            started = True
            await receive()
    except BaseException as error:
        kind = "shutdown" if started else "startup"
        await send({"type": f"lifespan.{kind}.failed", "message": repr(error)})
        raise
    await send({"type": "lifespan.shutdown.complete"})
