"""Sessions: look at them, act on them, end them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from edge.control import bodies
from edge.control.answers import answer, link_view, parked_view, session_view
from edge.control.context import Context
from edge.sessions.inquiries import SessionFilter
from edge.store.links_base import LinkRow


async def session(context: Context, request: Request) -> Response:
    row = await context.operations.session(bodies.name_in_path(request, "session"))
    return answer(link_view(row) if isinstance(row, LinkRow) else session_view(row))


async def sessions(context: Context, request: Request) -> Response:
    app, release, user = (bodies.optional_name(request, field) for field in ("app", "release", "user"))
    limit = bodies.limit(request) if user is None or "limit" in request.query_params else bodies.HISTORY_LIMIT
    rows, complete = await context.operations.sessions(SessionFilter(app, release, user, limit))
    return answer({"sessions": [session_view(row) for row in rows], "complete": complete})


async def life(context: Context, request: Request) -> Response:
    session = bodies.name_in_path(request, "session")
    facts, complete = await context.operations.life(session)
    return answer({"session": session, "complete": complete, "life": facts})


async def parked(context: Context, request: Request) -> Response:
    link = bodies.name_in_path(request, "session")
    events = await context.operations.parked(link)
    return answer({"session": link, "parked": [parked_view(event) for event in events]})


async def apps(context: Context, request: Request) -> Response:
    found = context.operations.apps()
    return answer({"apps": [{"app": app.app, "routes": app.routes, "policy": app.policy} for app in found]})


async def act(context: Context, request: Request) -> Response:
    session = bodies.name_in_path(request, "session")
    order, app = bodies.order(await bodies.read_body(request))
    await context.operations.act(session, order, app)
    return answer({"outcome": "delivered"})


async def end(context: Context, request: Request) -> Response:
    session, order = bodies.name_in_path(request, "session"), bodies.closing(request)
    await context.operations.end_session(session, order.code, order.reason)
    return answer({"outcome": "delivered"})
