"""A backend that answers each message with its text and its own pid."""

from __future__ import annotations

import os

from backend_sdk import App, Message, Session

app = App()


@app.on_message
async def answer(session: Session, event: Message) -> None:
    session.send(f"{event.text} from {os.getpid()}")
