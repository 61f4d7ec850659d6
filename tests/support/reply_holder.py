"""A TCP proxy that can keep back what a server answers, to stop the world between "done" and "known to be done"."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from tests.support.ports import LOOPBACK


class ReplyHolder:
    """Passes connections on to `target_port`. While `holding`, requests go through and answers are kept back; `cut`
    drops all connections, and with them the answers that were kept."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._may_answer = asyncio.Event()
        self._may_answer.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server
        self.port = 0

    @property
    def url(self) -> str:
        """As a Redis."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hold(self) -> None:
        """Keep answers back from now on."""
        self._may_answer.clear()

    def let_go(self) -> None:
        """Answers flow again, the kept ones of connections that still stand first."""
        self._may_answer.set()

    def cut(self) -> None:
        """Reset every connection; new ones are taken."""
        for pair in self._pairs:
            for writer in pair:
                writer.transport.abort()
        self._pairs.clear()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, far_writer)
        self._pairs.add(pair)
        for way in (self._pass(reader, far_writer, held=False), self._pass(far_reader, writer, held=True)):
            task = asyncio.create_task(way)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, held: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if held:
                    await self._may_answer.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
