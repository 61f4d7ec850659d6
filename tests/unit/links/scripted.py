"""An XMPP server that says what a script says, over real sockets; and a listener that writes down what it hears."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Self, TypeVar

from edge.clock import SystemClock
from edge.links.connection import LinkConnection
from edge.protocol.xmpp.credentials import ScramKeys
from edge.protocol.xmpp.stream import XmppStream
from edge.protocol.xmpp.stream_facts import Fact, StreamPlan
from edge.wheel import Wheel
from tests.support.ports import LOOPBACK
from tests.support.waiting import wait_until
from tests.unit.protocol.xmpp.streams import SCRAM_NONCE

T = TypeVar("T")


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def hears(self, end: str) -> bytes:
        """All up to `end`."""
        return await self._reader.readuntil(end.encode())

    async def hears_something(self) -> bytes:
        return await self._reader.read(1)

    async def hears_the_end(self) -> bytes:
        """All that is left; a reset is an end as well."""
        try:
            return await self._reader.read()
        except ConnectionError:
            return b""

    async def says(self, *words: bytes) -> None:
        self._writer.write(b"".join(words))
        await self._writer.drain()

    async def starts_tls(self, context: ssl.SSLContext) -> None:
        await self._writer.start_tls(context)

    def breaks(self) -> None:
        self._writer.transport.abort()


Script = Callable[[Peer], Coroutine[None, None, None]]


class ScriptedServer:
    """Plays `script` with whoever connects. What goes wrong in it fails the test."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._play, LOOPBACK, 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._script(Peer(reader, writer)))
        self._tasks.add(task)
        await asyncio.wait([task])
        writer.transport.abort()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=20)
        if error is None:
            for task in self._tasks:
                assert task.done(), "the script waits"
                task.result()
        for task in self._tasks:
            task.cancel()


class Listening:
    """A `ConnectionListener`. Nothing may be told behind `cut`."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.keys: list[ScramKeys] = []
        self.cuts: list[str] = []

    def __repr__(self) -> str:
        return f"{self.facts}, {self.cuts}"

    def heard(self, facts: Sequence[Fact]) -> None:
        assert not self.cuts
        self.facts += facts

    def keys_made(self, keys: ScramKeys) -> None:
        assert not self.cuts
        self.keys.append(keys)

    def cut(self, reason: str) -> None:
        assert not self.cuts
        self.cuts.append(reason)

    def last(self, kind: type[T]) -> T | None:
        return next((fact for fact in reversed(self.facts) if isinstance(fact, kind)), None)

    async def until_cut(self) -> str:
        await wait_until(lambda: self.cuts, "the connection is cut")
        return self.cuts[0]


async def connect(
    server: ScriptedServer, plan: StreamPlan, listener: Listening, context: ssl.SSLContext | None = None,
    password: str | None = "pencil",
) -> LinkConnection:  # fmt: skip
    """A connection to the server on which the stream of `plan` has begun."""
    loop = asyncio.get_running_loop()
    wheel = Wheel(SystemClock())
    wheel.start(loop)
    _, connection = await loop.create_connection(lambda: LinkConnection(loop, wheel), LOOPBACK, server.port)
    connection.begin(
        lambda now: XmppStream(plan, lambda: SCRAM_NONCE, now),
        listener,
        domain=plan.domain,
        context=context,
        password=password,
    )
    return connection
