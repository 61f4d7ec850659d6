"""The edge process: probes, metrics, drain."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from edge.control.answers import answer
from edge.control.context import Context
from edge.telemetry.exposition import render


async def livez(_: Context, request: Request) -> Response:
    """The loop turns: that is all a liveness probe may ask. A missing Redis must not restart the edge."""
    return answer({"alive": True})


async def readyz(context: Context, request: Request) -> Response:
    reasons = list(context.operations.readiness())
    return answer({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


async def metrics(context: Context, request: Request) -> Response:
    text, content_type = render(await context.gather(), request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": content_type})


async def drain(context: Context, request: Request) -> Response:
    context.operations.drain()
    return answer({"draining": True}, 202)
