"""The backend of test_control_api: says each client its session, its user is in the path, its channel in the query."""

from __future__ import annotations

import os

from backend_sdk import App
from backend_sdk.events import Message, Open
from backend_sdk.session import Session

app = App()

NAME = os.environ.get("BACKEND_NAME", "first")


@app.on_open
async def on_open(session: Session, event: Open) -> None:
    session.accept()
    session.identify(event.request.path.strip("/") or None)
    if event.request.query:
        session.subscribe(event.request.query)
    session.state["name"] = NAME
    session.send(session.id)


@app.on_message
async def on_message(session: Session, event: Message) -> None:
    session.send(f"{NAME}: {event.payload!r}")
