"""Sessions: look at them, act on them, end them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from edge.control import bodies
from edge.control.answers import answer, link_view, session_view
from edge.control.context import Context
from edge.store.links_base import LinkRow


async def session(context: Context, request: Request) -> Response:
    row = await context.operations.session(bodies.name_in_path(request, "session"))
    return answer(link_view(row) if isinstance(row, LinkRow) else session_view(row))


async def sessions_of_user(context: Context, request: Request) -> Response:
    rows = await context.operations.sessions_of_user(bodies.name_in_query(request, "user"))
    return answer({"sessions": [session_view(row) for row in rows]})


async def act(context: Context, request: Request) -> Response:
    session = bodies.name_in_path(request, "session")
    await context.operations.act(session, bodies.order(await bodies.read_body(request)))
    return answer({"outcome": "delivered"})


async def end(context: Context, request: Request) -> Response:
    session, order = bodies.name_in_path(request, "session"), bodies.closing(request)
    await context.operations.end_session(session, order.code, order.reason)
    return answer({"outcome": "delivered"})
