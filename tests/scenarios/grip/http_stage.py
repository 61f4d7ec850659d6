"""What the scenarios about HTTP share: a proxy that runs for a whole module, a backend of each test's own behind it,
and a client that sees every byte."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.grip_proxy import GripEdge, GripProxy, http_url, publish
from tests.support.ports import LOOPBACK
from tests.support.raw_backend import Answer, Asked, RawBackend, Respond, raw_backend
from tests.support.scrape import until_counted
from tests.support.waiting import DEADLINE_S, wait_until

Fields = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class HttpStage:
    """A running proxy; its routes lead to `port`, where nobody listens but while a test lets somebody."""

    proxy: GripProxy
    port: int

    def backend(self, respond: Respond) -> contextlib.AbstractAsyncContextManager[RawBackend]:
        return raw_backend(respond, self.port)

    def url(self, path: str = "/") -> str:
        return http_url(self.proxy, path)

    @contextlib.asynccontextmanager
    async def stream(self, path: str = "/", **options: Any) -> AsyncIterator[Stream]:
        """GET `path`, and read what comes."""
        async with (
            httpx.AsyncClient(timeout=DEADLINE_S) as client,
            client.stream(options.pop("method", "GET"), self.url(path), **options) as response,
        ):
            stream = Stream(response)
            reading = asyncio.create_task(stream.read())
            try:
                yield stream
            finally:
                reading.cancel()
                with contextlib.suppress(asyncio.CancelledError, httpx.HTTPError):
                    await reading

    async def until_held(self, count: int) -> None:
        """Wait until an edge of ours holds so many answers."""
        assert isinstance(self.proxy, GripEdge)
        await until_counted(self.proxy, count, "holds")

    async def publish_until(self, arrived: Stream, channel: str, **formats: Any) -> None:
        """Publish the same until it has arrived: nobody says when a subscription is in force. At least once."""
        content = formats["http_stream"]["content"]

        async def seen() -> bool:
            await self.publish(channel, **formats)
            with contextlib.suppress(AssertionError):
                await wait_until(lambda: content.encode() in arrived.body, "it is there", 0.3)
            return content.encode() in arrived.body

        await wait_until(seen, f"a publication to {channel} has arrived")

    async def publish(self, channel: str, *, id: str = "", prev_id: str = "", **formats: Any) -> None:
        """`formats` with underscores in place of hyphens, such as ``http_stream={"content": "x"}``."""
        item: dict[str, Any] = {"channel": channel}
        if id:
            item["id"] = id
        if prev_id:
            item["prev-id"] = prev_id
        item["formats"] = {name.replace("_", "-"): value for name, value in formats.items()}
        await publish(self.proxy, item)

    async def answered(
        self, poll: asyncio.Task[httpx.Response], channel: str, body: Mapping[str, Any]
    ) -> httpx.Response:
        """Publish an answer until `poll` has it."""

        async def done() -> bool:
            await self.publish(channel, http_response=body)
            await asyncio.wait([poll], timeout=0.3)
            return poll.done()

        await wait_until(done, "the poll is answered")
        return poll.result()


@dataclass(eq=False)
class Stream:
    """An answer whose body is still coming."""

    response: httpx.Response
    body: bytes = b""
    ended: bool = False
    error: str = ""

    async def read(self) -> None:
        try:
            async for part in self.response.aiter_raw():
                self.body += part
            self.ended = True
        except httpx.HTTPError as error:
            self.error = repr(error)

    async def until(self, text: bytes) -> None:
        await wait_until(lambda: text in self.body, f"{text!r} has come")

    async def until_end(self) -> None:
        await wait_until(lambda: self.ended or self.error, "the body has ended")


@dataclass
class Script:
    """A backend that answers each path with what stands for it, in turn; the last for all times after."""

    answers: dict[str, list[Answer]]
    asked: list[Asked] = field(default_factory=list)

    async def __call__(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        answers = self.answers[asked.target.partition("?")[0]]
        return answers.pop(0) if len(answers) > 1 else answers[0]


def script(**answers: Answer | Sequence[Answer]) -> Script:
    """``script(poll=…)`` answers /poll."""
    lists = {f"/{path}": [given] if isinstance(given, Answer) else list(given) for path, given in answers.items()}
    return Script(lists)


def held(mode: str, channel: str, *fields: tuple[str, str], body: bytes = b"", status: str = "200 OK") -> Answer:
    """An answer with Grip-Hold."""
    headers = [("Content-Type", "text/plain"), ("Grip-Hold", mode), ("Grip-Channel", channel), *fields]
    return Answer(status, headers, body)


@contextlib.asynccontextmanager
async def talking(port: int, request: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A socket with `request` written to it; cut at the end."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        writer.write(request)
        await writer.drain()
        yield reader, writer
    finally:
        await _cut(writer)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(port: int, serve: Serve) -> AsyncIterator[None]:
    """A backend in full control of its connections, which are cut at the end."""
    writers = []

    async def kept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(kept, LOOPBACK, port)
    try:
        yield
    finally:
        server.close()
        for writer in writers:
            await _cut(writer)
        await server.wait_closed()


async def _cut(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
