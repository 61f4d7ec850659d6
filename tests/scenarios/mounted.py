"""One SDK app beside other routes, in the frameworks that people have already. Run by tests.support.processes."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from backend_sdk import App, Message, Session

app = App()


@app.on_message
async def shout(session: Session, event: Message) -> None:
    session.send(event.text.upper())


async def page(request: Request) -> Response:
    return PlainTextResponse("a page of the application's own")


in_starlette = Starlette(routes=[Route("/page", page), Mount("/edge", app)])

in_fastapi = FastAPI()
in_fastapi.add_route("/page", page)
in_fastapi.mount("/edge", app)
