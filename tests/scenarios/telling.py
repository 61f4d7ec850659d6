"""Backends that tell what they see: the request of a handshake, the signatures of the edge. Run like `backends`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from starlette.responses import PlainTextResponse, RedirectResponse

from backend_sdk import App, Message, Open, Session
from tests.support.journal import Journal

NAME = os.environ.get("BACKEND_NAME", "backend")

curious = App(secrets=[secret for secret in os.environ.get("BACKEND_SECRETS", "").split(",") if secret])
"""The first message to a client is its own request as the backend sees it. ``!subscribe <n>`` subscribes to so many
channels, ``!big <n>`` sends so many bytes; anything else is answered with the backend's name and itself."""


@curious.on_open
async def show_request(session: Session, event: Open) -> None:
    session.send(json.dumps(asdict(event.request)))


@curious.on_message
async def do(session: Session, event: Message) -> None:
    match str(event.payload).split():
        case ["!subscribe", number]:
            for n in range(int(number)):
                session.subscribe(f"channel-{n}")
            session.send("subscribed")
        case _:
            session.send(f"{NAME} {event.payload!s}")


class Noting:
    """Notes each POST's headers and body in the journal, then lets `app` answer."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        parts = []

        async def listen() -> Any:
            message = await receive()
            parts.append(message.get("body", b""))
            return message

        await self._app(scope, listen, send)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        journal = Journal.from_environment()
        journal.note(by=NAME, path=scope["path"], headers=headers, body=b"".join(parts).hex())
        journal.close()


noting = Noting(App())
"""Accepts everybody and answers nothing."""

elsewhere = Noting(RedirectResponse(os.environ.get("BACKEND_REDIRECT", "/"), 307))
"""Sends everybody away with a redirect that keeps the method."""

secretive = PlainTextResponse("no", 401)
"""Wants another secret from everybody."""
