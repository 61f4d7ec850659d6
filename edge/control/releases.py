"""Releases: the table of an app, and the operator's changes to it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from edge.control import bodies
from edge.control.answers import answer, release_view
from edge.control.context import Context
from edge.model.release import ReleaseTable


def _table_view(app: str, table: ReleaseTable) -> Response:
    shas = sorted(table.entries, key=lambda sha: (table.entries[sha].added_at, sha))
    releases = [release_view(table, sha) for sha in shas]
    return answer({"app": app, "current": table.current.sha, "releases": releases})


async def releases(context: Context, request: Request) -> Response:
    app = bodies.name_in_path(request, "app")
    return _table_view(app, await context.operations.releases(app))


async def release(context: Context, request: Request) -> Response:
    app, sha = bodies.name_in_path(request, "app"), bodies.name_in_path(request, "sha")
    return answer(release_view(await context.operations.releases(app), sha))


async def put(context: Context, request: Request) -> Response:
    app, sha = bodies.name_in_path(request, "app"), bodies.name_in_path(request, "sha")
    url = bodies.release_url(await bodies.read_body(request))
    return answer(release_view(await context.operations.put_release(app, sha, url), sha))


async def promote(context: Context, request: Request) -> Response:
    app, sha = bodies.name_in_path(request, "app"), bodies.name_in_path(request, "sha")
    return answer(release_view(await context.operations.promote_release(app, sha), sha))


async def retire(context: Context, request: Request) -> Response:
    app, sha = bodies.name_in_path(request, "app"), bodies.name_in_path(request, "sha")
    return answer(release_view(await context.operations.retire_release(app, sha), sha))


async def delete(context: Context, request: Request) -> Response:
    app, sha = bodies.name_in_path(request, "app"), bodies.name_in_path(request, "sha")
    return _table_view(app, await context.operations.delete_release(app, sha))
