"""The deliverer against a real HTTP server that does as it is told."""

from __future__ import annotations

from edge.protocol.callbacks.actions import Result, Send
from tests.unit.backend.scripted import desk_and_backend


async def test_an_event_is_delivered_and_its_answer_settled() -> None:
    async with desk_and_backend() as (desk, backend):
        box = desk.box()
        box.put()
        await desk.all_done()
        assert box.outcomes == [("s0:1", Result((Send("s0:1"),)))]
        request = backend.requests[0]
        assert request.line == "POST / HTTP/1.1"
        assert request.headers["holdfast-edge"] == "edge-1"
        assert request.headers["holdfast-release"] == "sha1"
        assert await desk.client.drain(1) == 0


async def test_many_mailboxes_share_requests_and_keep_their_order() -> None:
    async with desk_and_backend() as (desk, backend):
        boxes = [desk.box() for _ in range(200)]
        for _ in range(20):
            for box in boxes:
                box.put()
        await desk.all_done()
        for box in boxes:
            assert [id for id, _ in box.outcomes] == [f"{box.session}:{n}" for n in range(1, 21)]
        assert desk.meters.events_delivered.value == 4000
        assert len(backend.requests) < 4000 / 4
        assert backend.connections <= desk.route.pool.slots
