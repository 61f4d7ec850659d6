"""Thousands of WebSockets held by one process: a few hundred bytes each, no task, no stream."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.support.raw_websocket import client_frame, close_frame, handshake

PER_ADDRESS = 2_500
"""Connections from one source address to one port: far under the ephemeral ports (28,000), so none is waited for."""


class Member(asyncio.Protocol):
    """One WebSocket: answers pings and closes as a browser does, and counts what it sees."""

    __slots__ = ("_buffer", "closed", "messages", "opened", "pings", "pongs", "transport")

    def __init__(self) -> None:
        self._buffer = b""
        self.opened: asyncio.Future[None] | None = asyncio.get_running_loop().create_future()
        self.messages: list[bytes] = []
        self.pings = 0
        self.pongs = 0
        self.closed: int | None = None
        """The close frame's code; 1006 when the connection ended without one."""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(handshake())

    def send(self, text: str) -> None:
        self.transport.write(client_frame(1, text.encode()))

    def ping(self) -> None:
        self.transport.write(client_frame(9, b"there?"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self.opened is not None and not self._open():
            return
        while (frame := self._next_frame()) is not None:
            self._take(*frame)

    def _open(self) -> bool:
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return False
        assert self.opened is not None
        if head.startswith(b"HTTP/1.1 101"):
            self.opened.set_result(None)
        else:
            self.opened.set_exception(ConnectionError(head.decode("latin-1")))
        self.opened, self._buffer = None, rest
        return True

    def _next_frame(self) -> tuple[int, bytes] | None:
        """Small frames only (RFC 6455 §5.2): nobody here is sent more than 125 bytes."""
        buffer = self._buffer
        if len(buffer) < 2 or len(buffer) < 2 + buffer[1]:
            return None
        assert buffer[1] < 126
        self._buffer = buffer[2 + buffer[1] :]
        return buffer[0], buffer[2 : 2 + buffer[1]]

    def _take(self, head: int, payload: bytes) -> None:
        match head & 0x0F:
            case 8:
                self.closed = struct.unpack("!H", payload[:2])[0] if payload else 1005
                self.transport.write(close_frame(self.closed))
                self.transport.close()
            case 9:
                self.pings += 1
                self.transport.write(client_frame(10, payload))
            case 10:
                self.pongs += 1
            case _:
                self.messages.append(payload)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.closed is None:
            self.closed = 1006
        if self.opened is not None:
            self.opened.set_exception(exc or ConnectionError("closed during the handshake"))
            self.opened = None


@dataclass
class Crowd:
    """Opens and holds members. `abandon` drops those who are left."""

    port: int
    members: list[Member] = field(default_factory=list)

    async def grow(self, count: int, at_once: int = 100) -> None:
        """`count` more members, at most `at_once` handshakes under way."""
        gate = asyncio.Semaphore(at_once)
        first = len(self.members)
        await asyncio.gather(*(self._join(first + number, gate) for number in range(count)))

    async def _join(self, number: int, gate: asyncio.Semaphore) -> None:
        source = f"127.0.0.{2 + number // PER_ADDRESS}"
        async with gate:
            _, member = await asyncio.get_running_loop().create_connection(
                Member, "127.0.0.1", self.port, local_addr=(source, 0)
            )
            assert member.opened is not None
            opened = member.opened
            await opened
        self.members.append(member)

    def all(self, holds: Callable[[Member], bool]) -> bool:
        return all(map(holds, self.members))

    def sample(self, every: int) -> Sequence[Member]:
        return self.members[::every]

    def abandon(self) -> None:
        for member in self.members:
            member.transport.abort()
