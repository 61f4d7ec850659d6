"""Orders to a process that a case has started: one line of JSON each way, over a unix socket."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.load.wire import LoadError

Order = Callable[..., Awaitable[Mapping[str, Any]]]
_LONGEST_LINE = 4_194_304


class Orders:
    """The ordering side. Raises LoadError with what the process says went wrong."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def give(self, order: str, *, deadline_s: float = 300.0, **arguments: object) -> Mapping[str, Any]:
        with closing(socket.socket(socket.AF_UNIX)) as sock:
            sock.settimeout(deadline_s)
            try:
                sock.connect(str(self._path))
                sock.sendall(json.dumps({"order": order, **arguments}).encode() + b"\n")
                with sock.makefile("rb") as answers:
                    line = answers.readline()
            except OSError as error:
                raise LoadError(f"{order}: no answer: {error!r}") from error
        if not line:
            raise LoadError(f"{order}: the process hung up")
        answer: Mapping[str, Any] = json.loads(line)
        if "error" in answer:
            raise LoadError(f"{order}: {answer['error']}")
        return answer


async def take_orders(path: Path, orders: Mapping[str, Order]) -> asyncio.Server:
    """The ordered side: a handler for each order, called with its arguments."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            request = json.loads(await reader.readline())
            try:
                answer = await orders[request.pop("order")](**request)
            except Exception as error:  # said to whoever ordered
                answer = {"error": f"{type(error).__name__}: {error}"}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()

    return await asyncio.start_unix_server(serve, path, limit=_LONGEST_LINE)
