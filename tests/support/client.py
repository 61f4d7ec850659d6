"""A WebSocket client that records everything it sees: messages in order, and how the connection ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import websockets.asyncio.client
from websockets.exceptions import ConnectionClosed

from tests.support.waiting import DEADLINE_S

Payload = str | bytes


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection ended: 1006 without a close frame from the other side."""

    code: int
    reason: str


class RecordingClient:
    """One WebSocket. `messages` grows by itself; `ending` is None while the connection is open."""

    def __init__(self, connection: websockets.asyncio.client.ClientConnection) -> None:
        self.messages: list[Payload] = []
        self.ending: Ending | None = None
        self.connection = connection
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @property
    def subprotocol(self) -> str | None:
        return self.connection.subprotocol

    @property
    def response_headers(self) -> dict[str, str]:
        """Headers of the handshake's answer, names in lower case."""
        assert self.connection.response is not None
        return {name.lower(): value for name, value in self.connection.response.headers.raw_items()}

    async def send(self, payload: Payload) -> None:
        await self.connection.send(payload)

    async def expect(self, count: int, deadline_s: float = DEADLINE_S) -> list[Payload]:
        """The first `count` messages, as soon as there are so many."""
        await self.expect_that(lambda messages: len(messages) >= count, f"{count} messages have come", deadline_s)
        return self.messages[:count]

    async def expect_that(
        self, holds: Callable[[Sequence[Payload]], bool], why: str, deadline_s: float = DEADLINE_S
    ) -> None:
        """Return as soon as `holds(messages)`; fail at the deadline, or when the connection ends first."""
        try:
            async with asyncio.timeout(deadline_s):
                while not holds(self.messages):
                    assert self.ending is None, f"closed with {self.ending} before {why}: {self._tail()}"
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"waited {deadline_s:g} s until {why}; have {self._tail()}") from None

    async def ended(self, deadline_s: float = DEADLINE_S) -> Ending:
        """How the connection ended, as soon as it has."""
        try:
            async with asyncio.timeout(deadline_s):
                await asyncio.shield(self._reader)
        except TimeoutError:
            raise AssertionError(f"still open after {deadline_s:g} s; have {self._tail()}") from None
        assert self.ending is not None
        return self.ending

    async def close(self, code: int = 1000, reason: str = "") -> Ending:
        """Say goodbye, and wait for the answer."""
        await self.connection.close(code, reason)
        return await self.ended()

    def abort(self) -> None:
        """Go away without a word, as a client does whose network is gone: a TCP reset, no close frame."""
        self.connection.transport.abort()

    async def _read(self) -> None:
        try:
            while True:
                self.messages.append(await self.connection.recv())
                self._news.set()
        except ConnectionClosed as closed:
            received = closed.rcvd
            self.ending = Ending(received.code, received.reason) if received else Ending(1006, "")
            self._news.set()

    def _tail(self) -> str:
        return f"{len(self.messages)} messages, the last ones {self.messages[-5:]!r}"


@contextlib.asynccontextmanager
async def connect(url: str, **options: Any) -> AsyncIterator[RecordingClient]:
    """Open a WebSocket to `url` and record it until the block ends.

    `options` go to `websockets.connect` (subprotocols, additional_headers, origin …). No keep-alive pings by
    default: a busy machine must not look like a dead edge. Raises `websockets.exceptions.InvalidStatus` when
    refused.
    """
    settings: dict[str, Any] = {
        "ping_interval": None,
        "open_timeout": DEADLINE_S,
        "close_timeout": 5,
        "max_size": None,
        "proxy": None,
        "compression": None,
    }
    async with websockets.asyncio.client.connect(url, **(settings | options)) as connection:
        client = RecordingClient(connection)
        try:
            yield client
        finally:
            await connection.close()
            await client.ended()
