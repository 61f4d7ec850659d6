"""Releases: the table of an app, and the operator's changes to it."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from edge.control import bodies, release_bodies
from edge.control.answers import answer
from edge.control.context import Context
from edge.control.release_views import release_view, table_view
from edge.model import release_changes as rules
from edge.model.release import ReleaseTable
from edge.sessions.release_desk import Change


async def releases(context: Context, request: Request) -> Response:
    app = _app(request)
    return await _whole(context, app, await context.operations.releases(app))


async def release(context: Context, request: Request) -> Response:
    app, sha = _app(request), _sha(request)
    return await _one(context, app, sha, await context.operations.releases(app))


async def put(context: Context, request: Request) -> Response:
    app, sha = _app(request), _sha(request)
    new = release_bodies.new_release(sha, await bodies.read_body(request))
    return await _one(context, app, sha, await context.operations.put_release(app, new))


async def promote(context: Context, request: Request) -> Response:
    app, sha = _app(request), _sha(request)
    notice = release_bodies.notice(await bodies.read_body(request, optional=True))
    return await _change(context, app, sha, partial(rules.promote, sha=sha, notice=notice))


async def retire(context: Context, request: Request) -> Response:
    app, sha = _app(request), _sha(request)
    retirement = release_bodies.retirement(await bodies.read_body(request, optional=True), context.now_ms())
    return await _change(context, app, sha, partial(rules.retire, sha=sha, retirement=retirement))


async def cohorts(context: Context, request: Request) -> Response:
    app, sha = _app(request), _sha(request)
    texts = release_bodies.cohort_rules(await bodies.read_body(request))
    return await _change(context, app, sha, partial(rules.set_cohorts, sha=sha, rules=texts))


async def delete(context: Context, request: Request) -> Response:
    app, sha = _app(request), _sha(request)
    # Said before the edges are asked: an error in the request, or a release that gets sessions all the time.
    rules.remove(await context.operations.releases(app), sha, 0)
    counts = await context.operations.release_counts(app)
    change = partial(rules.remove, sha=sha, sessions=counts.of(sha))
    return await _whole(context, app, await context.operations.change_releases(app, change))


async def weights(context: Context, request: Request) -> Response:
    app = _app(request)
    wanted = release_bodies.weights(await bodies.read_body(request))
    table = await context.operations.change_releases(app, partial(rules.set_weights, weights=wanted))
    return await _whole(context, app, table)


async def roll_back(context: Context, request: Request) -> Response:
    app = _app(request)
    return await _whole(context, app, await context.operations.change_releases(app, rules.roll_back))


async def start_canary(context: Context, request: Request) -> Response:
    app, sha, now = _app(request), _sha(request), context.now_ms()
    plan = release_bodies.canary(await bodies.read_body(request))

    def change(table: ReleaseTable) -> ReleaseTable:
        return rules.start_canary(
            table, sha, now, steps=plan.steps, every_ms=plan.every_ms, max_error_rate=plan.max_error_rate,
            max_p99_ms=plan.max_p99_ms, min_events=plan.min_events,
        )  # fmt: skip

    return await _whole(context, app, await context.operations.change_releases(app, change))


async def stop_canary(context: Context, request: Request) -> Response:
    app, now = _app(request), context.now_ms()

    def change(table: ReleaseTable) -> ReleaseTable:
        return rules.end_canary(table, "stopped by hand", now, breach=False)

    return await _whole(context, app, await context.operations.change_releases(app, change))


async def start_shadow(context: Context, request: Request) -> Response:
    app, sha = _app(request), _sha(request)
    share = release_bodies.share(await bodies.read_body(request))
    table = await context.operations.change_releases(app, partial(rules.set_shadow, sha=sha, share=share))
    return await _whole(context, app, table)


async def stop_shadow(context: Context, request: Request) -> Response:
    app = _app(request)
    return await _whole(context, app, await context.operations.change_releases(app, rules.end_shadow))


def _app(request: Request) -> str:
    return bodies.name_in_path(request, "app")


def _sha(request: Request) -> str:
    return bodies.name_in_path(request, "sha")


async def _change(context: Context, app: str, sha: str, change: Change) -> Response:
    return await _one(context, app, sha, await context.operations.change_releases(app, change))


async def _one(context: Context, app: str, sha: str, table: ReleaseTable) -> Response:
    return answer(release_view(table, sha, await context.operations.release_counts(app)))


async def _whole(context: Context, app: str, table: ReleaseTable) -> Response:
    operations = context.operations
    figures = None if table.shadow is None else await operations.shadow_figures(app)
    return answer(table_view(app, table, await operations.release_counts(app), figures))
