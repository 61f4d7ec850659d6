"""The backend of the scenarios with several edges: halls to speak in, commands for everything an edge does with Redis.

What reaches it is noted twice: raw, before the SDK looks (``raw``, one entry per event and request), and handled
(the event's own type). Between the two stands the SDK's memory of repeats.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from backend_sdk import App, Close, Gap, Message, Open, Refused, Session, Timer
from backend_sdk.wire import decode_request
from tests.scenarios.halls import GATE_VARIABLE
from tests.support.journal import Journal

hall = App()
_journal = Journal.from_environment()
_gate = Path(os.environ[GATE_VARIABLE]) if GATE_VARIABLE in os.environ else None


@hall.on_open
async def enter(session: Session, event: Open) -> None:
    """The path names the hall; no hall: nothing that needs Redis. ``?offset&epoch``: the last publication seen."""
    session.send(session.id)
    name = event.request.path.strip("/")
    if name:
        query = dict(part.split("=", 1) for part in event.request.query.split("&") if "=" in part)
        session.state["hall"] = name
        session.subscribe(name, since=(int(query["offset"]), query["epoch"]) if "offset" in query else None)


@hall.on_message
async def obey(session: Session, event: Message) -> None:
    command, *words = event.text.split()
    match command, words:
        case "!set", [key, value]:
            session.state[key] = value
            session.send(f"set {key}={value}")
        case "!say", [text, *id]:
            session.publish(session.state["hall"], text, *id)
        case "!others", [text]:
            session.publish(session.state["hall"], text, except_self=True)
        case "!to", [other, text, *id]:
            session.to(other).send(text, id=id[0] if id else None)
        case "!send", [text, id]:
            session.send(text, id=id)
        case "!timer", [name, after_ms, data]:
            session.timer(name, int(after_ms), data)
            session.send(f"set timer {name}")
        case "!cancel", [name]:
            session.cancel_timer(name)
            session.send(f"cancelled {name}")
        case "!tangle", []:
            session.timer("cancelled", 1_500, "x")
            session.timer("moved", 1_500, "early")
            session.send("tangled")
        case "!untangle", []:
            session.cancel_timer("cancelled")
            session.timer("moved", 600, "late")
        case "!close", []:
            session.close(4000, "as asked")
        case _:
            session.send(event.text)


@hall.on_timer
async def rang(session: Session, event: Timer) -> None:
    _journal.note(type="timer", session=session.id, id=event.id, name=event.name, data=event.data)
    session.send(f"timer {event.name} {event.data}")


@hall.on_gap
async def missed(session: Session, event: Gap) -> None:
    session.send(f"gap {event.channel}")


@hall.on_refused
async def refused(session: Session, event: Refused) -> None:
    _journal.note(type="refused", session=session.id, of=event.of, error=event.error)
    session.send("refused")


@hall.on_gone
async def gone(session: str) -> None:
    _journal.note(type="gone", session=session)


@hall.on_close
async def leave(session: Session, event: Close) -> None:
    while _gate is not None and not _gate.exists():
        await asyncio.sleep(0.02)
    _journal.note(
        type="close", session=session.id, id=event.id, cause=event.cause, code=event.code, state=dict(session.state)
    )
    if "hall" in session.state:
        session.publish(session.state["hall"], f"left {session.id}")


class _Tap:
    """Notes the closes of every request before the SDK sees it."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        content_type = dict(scope["headers"]).get(b"content-type", b"").decode()
        batch = decode_request(content_type, body)
        for parcel in batch.parcels:
            for event in parcel.events:
                if isinstance(event, Close):
                    _journal.note(type="raw", session=parcel.session, id=event.id, edge=batch.edge, cause=event.cause)
        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Any:
            return unread.pop() if unread else await receive()

        await self._app(scope, again, send)


app = _Tap(hall)
