"""A backend whose releases can be bad: it fails, is slow, or answers other things than the one before. It answers with
what it was told and the session's release; ``pin <release>`` pins the session."""

from __future__ import annotations

import asyncio
import os

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from backend_sdk import App, Message, Session

NAME = os.environ.get("BACKEND_NAME", "backend")
SLOW_S = float(os.environ.get("BACKEND_SLOW_S", "0"))
FAILS = "BACKEND_FAILS" in os.environ
SAYS = os.environ.get("BACKEND_SAYS", "")
"""Instead of its release, so that a shadow can answer the same."""
OTHER = "BACKEND_OTHER" in os.environ
HEALTHY_AFTER = int(os.environ.get("BACKEND_HEALTHY_AFTER", "0"))

talking = App()


@talking.on_message
async def answer(session: Session, event: Message) -> None:
    await asyncio.sleep(SLOW_S)
    match event.text.split():
        case ["pin", release]:
            session.pin(release)
    session.send(f"{event.text} {SAYS or session.release}" + ("?" if OTHER else ""))


class Release:
    """`talking`, with what ails it. ``/healthz`` answers 503 so many times first."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._asked = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            reply = self._reply(Request(scope))
            if reply is not None:
                await reply(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _reply(self, request: Request) -> Response | None:
        if request.url.path == "/healthz":
            self._asked += 1
            return PlainTextResponse("", 200 if self._asked > HEALTHY_AFTER else 503)
        return PlainTextResponse("broken", 500) if FAILS and request.method == "POST" else None


app = Release(talking)
