"""The smallest ASGI app: answers with its pid and notes each request in the journal."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.support.journal import Journal


async def whoami(request: Request) -> PlainTextResponse:
    Journal.from_environment().note(pid=os.getpid(), path=request.url.path)
    return PlainTextResponse(str(os.getpid()))


app = Starlette(routes=[Route("/{path:path}", whoami)])
