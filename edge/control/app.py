"""The control API as one ASGI app: the table of endpoints behind the guard."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from edge.config import PublisherSettings, Secret
from edge.control.answers import answer, internal_problem, problem, problem_of
from edge.control.context import Context, Endpoint, Gather
from edge.control.endpoints import ENDPOINTS
from edge.control.guard import Guard
from edge.control.openapi import document, page
from edge.errors import HoldfastError
from edge.sessions.operations_port import Operations

_log = logging.getLogger("holdfast.control")


def control_app(
    operations: Operations,
    gather: Gather,
    *,
    bind: str,
    tokens: Callable[[], Sequence[Secret]],
    publishers: Callable[[], Sequence[PublisherSettings]] = lambda: (),
    publish_bytes: Callable[[], int] = lambda: 1_000_000,
) -> ASGIApp:
    """The API over `operations`; `gather` collects all workers' metrics.

    `bind` is the ``host:port`` it is served on. Raises ConfigError when that is not loopback and there is no token.
    `tokens`, `publishers` and `publish_bytes` are asked at every request, so that a reload takes effect.
    """
    endpoints = (*ENDPOINTS, *_described())
    context = Context(operations, gather, publish_bytes)
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        for path in _paths(endpoint):
            by_path.setdefault(path, {})[endpoint.method] = endpoint
    app = Starlette(
        routes=[_route(context, path, methods) for path, methods in by_path.items()],
        exception_handlers={HTTPException: _http_problem, HoldfastError: _our_problem, Exception: _internal},
    )
    app.router.redirect_slashes = False
    return Guard(
        app,
        bind,
        tokens,
        frozenset(endpoint.path for endpoint in endpoints if endpoint.open),
        publishers,
        frozenset(path for endpoint in endpoints if endpoint.publishing for path in _paths(endpoint)),
    )


def _paths(endpoint: Endpoint) -> Sequence[str]:
    return (endpoint.path, endpoint.also) if endpoint.also else (endpoint.path,)


def _described() -> Sequence[Endpoint]:
    """The endpoints that show the table, themselves included."""

    async def openapi(_: Context, request: Request) -> Response:
        return answer(described)

    async def index(_: Context, request: Request) -> Response:
        return HTMLResponse(
            listing, headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        )

    own = (
        Endpoint("GET", "/openapi.json", "This API, described.", openapi, {200: "OpenAPI"}, open=True),
        Endpoint("GET", "/", "This list.", index, {200: "text/html"}, open=True),
    )
    release = version("holdfast")
    described = document((*ENDPOINTS, *own), release)
    listing = page((*ENDPOINTS, *own), release)
    return own


def _route(context: Context, path: str, methods: Mapping[str, Endpoint]) -> Route:
    async def dispatch(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await methods[method].handler(context, request)

    return Route(path, dispatch, methods=list(methods))


async def _http_problem(request: Request, error: Exception) -> Response:
    """What Starlette's router refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return problem(405, "method_not_allowed", "this path has other methods; see Allow", headers=error.headers)
    return problem(error.status_code, "not_found", "there is no such endpoint; see / or /openapi.json")


async def _our_problem(request: Request, error: Exception) -> Response:
    if (answered := problem_of(error)).status_code == 500:
        _log.error("request %s failed: %s: %s", request.scope["request_id"], type(error).__name__, error)
    return answered


async def _internal(request: Request, error: Exception) -> Response:
    """Starlette answers with this and raises the error again; the guard logs it, with the request's id."""
    return internal_problem()
