"""A web chat whose users talk to XMPP contacts: the edge holds their WebSockets and their XMPP sessions alike.

This process knows nothing between two calls and may be killed in the middle of anything; so may the edge. Who signs in
gets a *link*, the XMPP session that the edge holds for them and hands on to another edge when it dies. What contacts
say, and what the user says, is history of a channel that all tabs of the user hear; who is in the roster, and who is
there, is the link's state.

The page asks with ``{"do": …}`` and is told ``{"is": …}``. It opens with an address and a password. The password goes
into the order to connect and nowhere else. In its place the page is given a key, made of both and of a secret of this
app: it opens the link that the password opened, as long as that link lives, and nothing else; the password cannot be
found out with it. So the page can forget the password at once, and keep the key for when its WebSocket breaks or
somebody reloads it. The link is named after the key, which makes that check free: a wrong password leads to another
link, which the XMPP server refuses, and a wrong key to one that nobody has.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from html import escape
from pathlib import Path
from xml.sax.saxutils import quoteattr

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from backend_sdk import Gap, Message, Refused, Session
from backend_sdk.examples.xmpp_chat.links import web
from backend_sdk.examples.xmpp_chat.telling import (
    MARKERS,
    NAME_LENGTH,
    is_address,
    is_text,
    pack,
    people,
    talk,
    understand,
)

SECRET = os.environ.get("CHAT_SECRET", "").encode() or secrets.token_bytes(32)
"""Keys are made with it. All processes of the app share one, or two tabs of a user may get a link each."""

SHOWN = 500
"""So many of the last things that happened in a user's conversations are told to a tab. holdfast.toml keeps more."""

KEPT_S = 3_600.0
"""A link without a tab lives on for this long: a closed laptop's lunch break."""

NOWHERE = (0, "nowhere")
"""A place in no channel's history: where a tab stands that was never there."""

PASSWORD_LENGTH, KEY_LENGTH, TEXT_LENGTH, ID_LENGTH = 1_000, 64, 10_000, 64


@web.on_message
async def on_message(session: Session, event: Message) -> None:
    """A tab wants something. Handlers may be repeated, so they only say what shall happen; the edge does it."""
    asked = understand(event.payload)
    if not (take(session, event, asked) if session.user is not None else let_in(session, asked)):
        session.send_json({"is": "refused", "why": "not something this chat can do"})


def let_in(session: Session, asked: object) -> bool:
    """What a tab may ask for that has not said who it is."""
    match asked:
        case {"do": "sign-in", "jid": str(jid), "password": str(password)} if is_text(password, PASSWORD_LENGTH):
            if is_address(jid := jid.strip().lower()):
                sign_in(session, jid, password)
        case {"do": "return", "jid": str(jid), "key": str(key)} if is_address(jid) and is_text(key, KEY_LENGTH):
            come_back(session, jid, key)
    return session.user is not None


def take(session: Session, event: Message, asked: object) -> bool:
    """What a tab of a user may ask for."""
    match asked:
        case {"do": "say", "to": str(to), "text": str(text), "id": str(id)}:
            if good := is_address(to) and is_text(text, TEXT_LENGTH) and is_text(id, ID_LENGTH):
                say(session, event, to, text, id)
            return good
        case {"do": "type", "to": str(to), "on": bool(on)} if is_address(to):
            session.xmpp.send(to, chat_state="composing" if on else "paused")
        case {"do": "read", "with": str(other), "id": str(id)} if is_address(other) and is_text(id, NAME_LENGTH):
            read(session, other, id)
        case {"do": "sign-out"}:
            session.xmpp.disconnect()
        case _:
            return False
    return True


def sign_in(session: Session, jid: str, password: str) -> None:
    """Log in, or find that another tab has. The answer is an event of the link."""
    key = hmac.new(SECRET, f"{jid}\0{password}".encode(), "sha256").hexdigest()
    session.send_json({"is": "key", "jid": jid, "key": key})
    listen(session, jid, key)
    session.xmpp.connect(
        jid,
        password=password,
        roster=True,
        presence="<presence/>",
        keep_after_detach_s=KEPT_S,
        sent=True,
        detached=True,
    )


def come_back(session: Session, jid: str, key: str) -> None:
    """A page whose WebSocket broke, or that was loaded again. Where the link still is, this changes nothing and is
    answered with its state; where it is not, its credentials are asked for, and nobody has them any more."""
    listen(session, jid, key)
    session.xmpp.connect(jid, callback=True, keep_after_detach_s=KEPT_S)


def listen(session: Session, jid: str, key: str) -> None:
    """The link's name goes into logs, so it is not the key itself."""
    mark = hashlib.sha256(f"{jid}\0{key}".encode()).hexdigest()[:16]
    session.identify(f"{jid}:{mark}")
    session.subscribe(people(session.xmpp.id))
    # We cannot know where the history is by now, so we name a place that is not in it. The edge subscribes the tab, and
    # says with a `gap` event where that was; see below.
    session.subscribe(talk(session.xmpp.id), since=NOWHERE)


def say(session: Session, event: Message, to: str, text: str, id: str) -> None:
    """The tab's id is that of the order, of the stanza and of the publication. A tab whose connection was lost before
    it heard its own message sends it again, and the edge takes each of them only once."""
    said = {"is": "said", "id": id, "with": to, "mine": True, "text": text, "at": event.at, "stanza": id}
    session.publish(talk(session.xmpp.id), pack(said), id=id)
    markable = f"<markable xmlns='{MARKERS}'/>"
    session.xmpp.send(to, text, stanza_id=id, chat_state="active", receipt="request", extra=markable, id=f"say {id}")


def read(session: Session, other: str, id: str) -> None:
    """The user has seen everything up to the contact's message `id`: the contact and the other tabs are told."""
    once = f"read {other} {id}"[:NAME_LENGTH]
    session.publish(talk(session.xmpp.id), pack({"is": "read", "with": other, "id": id}), id=once)
    marker = f"<displayed xmlns='{MARKERS}' id={quoteattr(id)}/>"
    session.xmpp.send(other, extra=marker, id=once)


@web.on_gap
async def on_gap(session: Session, event: Gap) -> None:
    """The history does not reach back to where a subscription wanted to start: start a little before now."""
    offset, epoch = event.position
    if offset == 0 or not event.channel.startswith(talk("")):
        return
    # Old entries expire. Should so many not be there any more, ask for half as many, in the end for none.
    reach = SHOWN if event.since.epoch != epoch else (offset - event.since.offset) // 2
    session.subscribe(event.channel, since=(max(0, offset - reach), epoch))


@web.on_refused
async def on_refused(session: Session, event: Refused) -> None:
    """Something a tab wanted was not done, because Redis was away, or because nobody configured a server for the domain
    that it wants to sign in at. It may ask again; ids keep that from being done twice."""
    session.send_json({"is": "again", "why": event.error})


# The page ---------------------------------------------------------------------------------------------------------

PAGE = Path(__file__).with_name("page")


async def show_page(request: Request) -> Response:
    """The page, told where the edge is (CHAT_EDGE_URL, or this host's port 7999), which domain an address without one
    is at (CHAT_DOMAIN), and what to say beside the form (CHAT_HINT)."""
    scheme = "wss" if request.url.scheme == "https" else "ws"
    edge = os.environ.get("CHAT_EDGE_URL") or f"{scheme}://{request.url.hostname}:7999/"
    html = (PAGE / "index.html").read_text()
    told = {"edge": edge, "domain": os.environ.get("CHAT_DOMAIN", ""), "hint": os.environ.get("CHAT_HINT", "")}
    for name, value in told.items():
        html = html.replace(f"{{{{{name}}}}}", escape(value))
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
        Mount("/edge", web),
    ]
)
