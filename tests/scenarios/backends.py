"""Backends for the scenarios, written with the SDK as a user would write them. Run by tests.support.processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from backend_sdk import App, Close, Gap, Message, Open, Refused, Session, Timer
from tests.support.journal import VARIABLE, Journal

NAME = os.environ.get("BACKEND_NAME", "backend")


def _note(**entry: Any) -> None:
    """Into the journal, when the test gave one."""
    if VARIABLE in os.environ:
        journal = Journal.from_environment()
        journal.note(by=NAME, **entry)
        journal.close()


counting = App()
"""Answers each message with itself, how many this session has sent (kept in its state), and who answered."""


@counting.on_message
async def count(session: Session, event: Message) -> None:
    session.state["count"] = session.state.get("count", 0) + 1
    session.send(f"{event.text} {session.state['count']} {NAME}")


@counting.on_open
async def note_open(session: Session, event: Open) -> None:
    _note(type="open", session=session.id)


@counting.on_close
async def note_close(session: Session, event: Close) -> None:
    _note(type="close", session=session.id, id=event.id, cause=event.cause, code=event.code, state=dict(session.state))


plain = App()
"""Echo: touches Redis for nothing."""


@plain.on_message
async def echo(session: Session, event: Message) -> None:
    session.send(event.payload)


rooms = App()
"""One room per path. The query may hold ``offset`` and ``epoch`` of the last publication seen. ``!timer``, ``!state``,
``!flood <n>`` are commands; any other message is published to the room."""


@rooms.on_open
async def enter(session: Session, event: Open) -> None:
    query = dict(part.split("=", 1) for part in event.request.query.split("&") if "=" in part)
    since = (int(query["offset"]), query["epoch"]) if "offset" in query else None
    session.state["room"] = event.request.path.strip("/")
    session.identify(query.get("user", "nobody"))
    session.subscribe(session.state["room"], since=since)
    session.send(f"welcome {session.id}")


@rooms.on_message
async def speak(session: Session, event: Message) -> None:
    text = event.text
    match text.split():
        case ["!timer", name, after]:
            session.timer(name, int(after), {"asked": name})
        case ["!whisper", other, word]:
            session.to(other).send(f"whisper {word}")
        case ["!flood", number]:
            for n in range(int(number)):
                session.send(f"{n} " + "x" * 10_000)
        case ["!close", code]:
            session.close(int(code), "as asked")
        case _:
            session.publish(session.state["room"], text)


@rooms.on_timer
async def rang(session: Session, event: Timer) -> None:
    session.send(f"timer {event.name} {event.data['asked']}")


@rooms.on_gap
async def gap(session: Session, event: Gap) -> None:
    session.send(f"gap {event.channel}")


@rooms.on_gone
async def gone(session: str) -> None:
    _note(type="gone", session=session)


@rooms.on_close
async def left(session: Session, event: Close) -> None:
    _note(type="close", session=session.id, id=event.id, cause=event.cause, code=event.code)
    session.publish(session.state["room"], f"left {session.user}")


_moods: dict[str, Any] = {"mood": "well", "seen": 0}


async def set_mood(request: Request) -> Response:
    _moods.update(mood=request.path_params["mood"], seen=0)
    return JSONResponse(_moods)


async def get_mood(request: Request) -> Response:
    return JSONResponse(_moods)


class _Moody:
    """An ASGI app that misbehaves on command before it lets the real one answer."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        _moods["seen"] += 1
        match _moods["mood"]:
            case "500":
                await Response("broken", 500)(scope, receive, send)  # type: ignore[arg-type]
            case "429":
                await Response("slow down", 429, {"Retry-After": "0"})(scope, receive, send)  # type: ignore[arg-type]
            case "403":
                await Response("not you", 403)(scope, receive, send)  # type: ignore[arg-type]
            case "garbage":
                garbage = Response(b"\x93garbage", media_type="application/vnd.holdfast.v1+json")
                await garbage(scope, receive, send)  # type: ignore[arg-type]
            case "hang":
                await receive()
                while (await receive())["type"] != "http.disconnect":
                    pass
            case "bad-action":
                bad = {"results": [{"actions": [{"type": "send", "text": 7}]}]}
                await JSONResponse(bad, media_type="application/vnd.holdfast.v1+json")(scope, receive, send)  # type: ignore[arg-type]
            case _:
                await self._app(scope, receive, send)


moody = Starlette(
    routes=[
        Route("/mood", get_mood),
        Route("/mood/{mood}", set_mood, methods=["POST"]),
        Mount("/", _Moody(plain)),
    ]
)


insistent = App()
"""Says "once" under one idempotency key: when asked, and again whenever it hears that this could not be done."""


@insistent.on_message
async def say_once(session: Session, event: Message) -> None:
    session.state["asked"] = event.text
    session.send("once", id="only-once")
    session.send(f"heard {event.text}")


@insistent.on_refused
async def insist(session: Session, event: Refused) -> None:
    _note(type="refused", of=event.of, error=event.error)
    session.state["insisted"] = True
    session.send("once", id="only-once")
    session.send("sorry for the delay")


pinning = App()
"""Says who answers; ``pin <release>`` pins the session, ``pin`` takes that back, ``identify <user>`` names its user."""


@pinning.on_message
async def pin(session: Session, event: Message) -> None:
    match event.text.split():
        case ["pin", release]:
            session.pin(release)
        case ["pin"]:
            session.pin(None)
        case ["identify", user]:
            session.identify(user)
    session.send(f"{NAME} {session.release}")
