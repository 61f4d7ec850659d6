"""The chat's backend: everything it knows about a client comes with the request and leaves with the answer.

There is no connection here, no list of clients and no memory between two calls, so that this process may be killed in
the middle of anything. What a client is (room, name) is session state, what was said is channel history, and both are
kept by the edge. Run two copies, or none for a while: the WebSockets stay where they are.

The page asks with ``{"do": …}`` and is told ``{"is": …}``; each answer names the process and release that gave it.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from backend_sdk import App
from backend_sdk.events import Close, Gap, Message
from backend_sdk.session import Session

SHOWN = 50
"""So many of a room's last messages greet a newcomer. holdfast.toml lets the edge keep more than that."""

NOWHERE = (0, "nowhere")
"""A place in no channel's history: where a client stands that was never there."""

ROOM = re.compile(r"[a-z0-9-]{1,32}")
NAME_LENGTH, TEXT_LENGTH = 32, 2_000

chat = App()


@chat.on_message
async def on_message(session: Session, event: Message) -> None:
    """A client wants something. Handlers may be repeated, so they only say what shall happen; the edge does it."""
    match understand(event.payload):
        case {"do": "enter", "room": str(room), "name": str(name)} if ROOM.fullmatch(room) and is_name(name):
            enter(session, room, name)
        case {"do": "say", "text": str(text), "id": str(id)} if in_room(session) and is_text(text, id):
            said = {"is": "said", "id": id, "text": text, "at": event.at, **who(session)}
            # The client's id is the publication's, too. Should the client send a message again, because its
            # connection was lost before the answer came, the edge takes it only once.
            session.publish(talk(session.state["room"]), pack(said), id=id)
        case {"do": "rename", "name": str(name)} if in_room(session) and is_name(name):
            session.state["name"] = name
            tell_people(session, "here")
        case {"do": "here", "to": str(newcomer)} if in_room(session) and newcomer:
            # Nobody keeps a list of who is in a room. Whoever is there says so to the newcomer, one to one.
            session.to(newcomer).send_json({"is": "here", **who(session)})
        case _:
            session.send_json({"is": "refused", "why": "not something this chat can do"})


def enter(session: Session, room: str, name: str) -> None:
    if in_room(session):
        leave(session)
    session.state.update(room=room, name=name)
    session.send_json({"is": "entered", **who(session)})
    session.subscribe(people(room))
    tell_people(session, "new")
    # We cannot know where the room's history is by now, so we name a place that is not in it. The edge subscribes the
    # client, and says with a `gap` event where that was; see below.
    session.subscribe(talk(room), since=NOWHERE)


@chat.on_gap
async def on_gap(session: Session, event: Gap) -> None:
    """The history does not reach back to where a subscription wanted to start: start a little before now."""
    offset, epoch = event.position
    if offset == 0:
        return  # nothing was ever said here
    # Old messages expire. Should so many not be there any more, ask for half as many, in the end for none.
    reach = SHOWN if event.since.epoch != epoch else (offset - event.since.offset) // 2
    session.subscribe(event.channel, since=(max(0, offset - reach), epoch))


@chat.on_close
async def on_close(session: Session, event: Close) -> None:
    """A client is gone: closed the page, lost its network, or was on an edge that died."""
    if in_room(session):
        tell_people(session, "left")


def leave(session: Session) -> None:
    tell_people(session, "left")
    session.unsubscribe(people(session.state["room"]))
    session.unsubscribe(talk(session.state["room"]))


def tell_people(session: Session, what: str) -> None:
    session.publish(people(session.state["room"]), pack({"is": what, **who(session)}))


def who(session: Session) -> dict[str, Any]:
    """Whom a message is about, and who answered: the only thing here that differs from process to process."""
    return {
        "session": session.id,
        "room": session.state["room"],
        "name": session.state["name"],
        "release": session.release,
        "process": os.getpid(),
    }


def talk(room: str) -> str:
    """The channel of what is said in a room; holdfast.toml gives its prefix a history."""
    return f"talk:{room}"


def people(room: str) -> str:
    """The channel of who comes and goes: without history, who left an hour ago is nobody's news."""
    return f"people:{room}"


def in_room(session: Session) -> bool:
    return "room" in session.state


def is_name(name: str) -> bool:
    return bool(name.strip()) and len(name) <= NAME_LENGTH


def is_text(text: str, id: str) -> bool:
    return bool(text.strip()) and len(text) <= TEXT_LENGTH and 0 < len(id) <= 64


def pack(message: dict[str, Any]) -> str:
    return json.dumps(message, ensure_ascii=False)


def understand(payload: str | bytes) -> object:
    """What the client sent, or None. Never raise about input: an exception means "try again later" to the edge."""
    try:
        return json.loads(payload)
    except ValueError:
        return None


# The page ---------------------------------------------------------------------------------------------------------

PAGE = Path(__file__).with_name("page")


async def show_page(request: Request) -> Response:
    """The page, told where the edge is: CHAT_EDGE_URL, or this host's port 7999."""
    scheme = "wss" if request.url.scheme == "https" else "ws"
    edge = os.environ.get("CHAT_EDGE_URL") or f"{scheme}://{request.url.hostname}:7999/"
    html = (PAGE / "index.html").read_text().replace("{{edge}}", edge.replace('"', "%22"))
    policy = f"default-src 'self'; connect-src {edge.replace(';', '%3B')}; base-uri 'none'; form-action 'none'"
    return HTMLResponse(html, headers={"Content-Security-Policy": policy, "Cache-Control": "no-cache"})


async def show_icon(request: Request) -> Response:
    return FileResponse(PAGE / "icon.svg", media_type="image/svg+xml")


app = Starlette(
    routes=[
        Route("/", show_page),
        Route("/favicon.ico", show_icon),
        Mount("/page", StaticFiles(directory=PAGE)),
        # The edge POSTs to /edge/, with the slash: Starlette would redirect a POST to /edge, edges follow no redirects.
        Mount("/edge", chat),
    ]
)
