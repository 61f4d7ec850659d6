"""A backend as its authors write it: the SDK's App and one handler. Case `sdk` serves it with uvicorn."""

from __future__ import annotations

from backend_sdk import App
from benchmarks.peers.base import ANSWER

app = App()


@app.on_message
async def answer(session: object, event: object) -> None:
    session.send(ANSWER)  # type: ignore[attr-defined]
