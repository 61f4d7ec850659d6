"""Subscriptions of WebSockets behind Pushpin, which passes on what a backend says to a client before it has carried out
the subscriptions that came with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.support.client import RecordingClient
from tests.support.waiting import wait_until


async def subscribed(client: RecordingClient, say: Callable[[str], Awaitable[None]]) -> None:
    """Return when the client hears what `say` publishes; nothing of that is left among its messages."""

    async def heard() -> bool:
        await say("heard?")
        return "heard?" in client.messages

    await wait_until(heard, "the client hears what is published")
    await say("heard.")
    await client.expect_that(lambda messages: "heard." in messages, "no more of that comes")
    client.messages[:] = [each for each in client.messages if each not in ("heard?", "heard.")]
