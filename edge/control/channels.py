"""Channels: publish, look, read history."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from edge.control import bodies
from edge.control.answers import answer, publication_view
from edge.control.context import Context


async def publish(context: Context, request: Request) -> Response:
    channel = bodies.name_in_path(request, "channel")
    order = bodies.publication(channel, await bodies.read_body(request))
    done = await context.operations.publish(channel, order.payload, id=order.id, sender=order.sender)
    return answer({"offset": done.position.offset, "epoch": done.position.epoch, "duplicate": done.duplicate})


async def channel(context: Context, request: Request) -> Response:
    state = await context.operations.channel(bodies.name_in_path(request, "channel"))
    return answer(
        {
            "channel": state.channel,
            "subscribers": state.subscribers,
            "offset": state.position.offset,
            "epoch": state.position.epoch,
        }
    )


async def history(context: Context, request: Request) -> Response:
    channel = bodies.name_in_path(request, "channel")
    page = await context.operations.history(channel, bodies.since(request), bodies.limit(request))
    return answer(
        {
            "publications": [publication_view(publication) for publication in page.publications],
            "whole": page.whole,
            "offset": page.top.offset,
            "epoch": page.top.epoch,
        }
    )
