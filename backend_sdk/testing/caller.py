"""Call an ASGI app the way an edge does, in memory: signed POST, either encoding; and serve its lifespan."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgpack
from starlette.types import ASGIApp, Message

from backend_sdk.app import ERRORS_EXTENSION, App
from backend_sdk.signature import HEADER, sign
from backend_sdk.wire import JSON_TYPE, MSGPACK_TYPE, JsonEncoding, MsgpackEncoding, binary_from_json


@dataclass(frozen=True, slots=True)
class Answer:
    """A backend's answer. `results` is empty unless `status` is 200; `errors`: what handlers raised."""

    status: int
    text: str
    results: Sequence[dict[str, Any]]
    errors: Sequence[Exception]


class Caller:
    """One app and how to call it. Without `secrets` an `App`'s own are used."""

    def __init__(
        self, app: ASGIApp, path: str, encoding: Literal["json", "msgpack"], secrets: Sequence[str | bytes] | None
    ) -> None:
        self._app = app
        self._path = path
        self._type = MSGPACK_TYPE if encoding == "msgpack" else JSON_TYPE
        self._pack = (MsgpackEncoding() if encoding == "msgpack" else JsonEncoding()).pack
        self._clock = app.clock if isinstance(app, App) else time.time
        if secrets is None:
            secrets = app.secrets if isinstance(app, App) else ()
        self._secrets = [secret.encode() if isinstance(secret, str) else secret for secret in secrets]

    async def post(self, body: dict[str, Any], release: str) -> Answer:
        """Send one request."""
        packed = self._pack(body)
        headers = {
            "host": "backend",
            "content-type": self._type,
            "content-length": str(len(packed)),
            "accept": self._type,
            "holdfast-edge": body["edge"],
            "holdfast-release": release,
        }
        if self._secrets:
            headers[HEADER.lower()] = sign(self._secrets, int(self._clock()), packed)
        errors: list[Exception] = []
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": self._path,
            "raw_path": self._path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("backend", 80),
            "extensions": {ERRORS_EXTENSION: errors},
        }
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": packed, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        return _answer(sent, errors)

    async def live(self, started: asyncio.Future[None], stop: asyncio.Event) -> None:
        """Serve the app's lifespan until `stop`. An app that does not know the protocol is left alone."""
        first = True

        async def receive() -> Message:
            nonlocal first
            if first:
                first = False
                return {"type": "lifespan.startup"}
            await stop.wait()
            return {"type": "lifespan.shutdown"}

        async def send(message: Message) -> None:
            if not started.done():
                if message["type"] == "lifespan.startup.failed":
                    started.set_exception(RuntimeError(message.get("message", "start-up failed")))
                else:
                    started.set_result(None)

        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        try:
            await self._app(scope, receive, send)
        except Exception:
            if started.done() and started.exception() is None:
                raise
        if not started.done():
            started.set_result(None)


def _answer(sent: Sequence[Message], errors: Sequence[Exception]) -> Answer:
    status = int(sent[0]["status"])
    body = b"".join(message.get("body", b"") for message in sent[1:])
    if status != 200:
        return Answer(status, body.decode("utf-8", "replace").strip(), (), errors)
    content_type = dict(sent[0]["headers"])[b"content-type"].decode("latin-1")
    if content_type == MSGPACK_TYPE:
        return Answer(status, "", msgpack.unpackb(body)["results"], errors)
    return Answer(status, "", [binary_from_json(result) for result in json.loads(body)["results"]], errors)
