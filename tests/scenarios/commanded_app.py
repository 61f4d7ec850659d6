"""The backend of test_command_line: says each client its session, refuses those at /no, and notes who came and went."""

from __future__ import annotations

import os

from backend_sdk import App, Close, Message, Open, Session
from tests.support.journal import VARIABLE, Journal

SECRETS = [secret for secret in os.environ.get("BACKEND_SECRETS", "").split(",") if secret]
NAME = os.environ.get("BACKEND_NAME", "first")

app = App(secrets=SECRETS)


def _note(what: str, session: Session) -> None:
    if VARIABLE in os.environ:
        journal = Journal.from_environment()
        journal.note(what=what, session=session.id)
        journal.close()


@app.on_open
async def on_open(session: Session, event: Open) -> None:
    _note("open", session)
    if event.request.path == "/no":
        session.reject(403, "not in these shoes")
        return
    session.accept()
    session.identify(event.request.path.strip("/") or None)
    session.send(session.id)


@app.on_message
async def on_message(session: Session, event: Message) -> None:
    session.send(f"{NAME} {event.payload!s}")


@app.on_close
async def on_close(session: Session, event: Close) -> None:
    _note("close", session)
