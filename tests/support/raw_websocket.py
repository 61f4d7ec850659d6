"""A WebSocket client that sends whatever bytes a test wants, and reads frames without judging them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
DEADLINE_S = 60.0
"""Only a broken edge reaches it."""
MASK = b"\x01\x80\x33\xfe"


def handshake(path: str = "/", *extra: str, host: str = "localhost") -> bytes:
    """A handshake request; `extra` are more header lines."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *extra,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def client_frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, mask: bytes = MASK) -> bytes:
    """One masked frame, straight from RFC 6455 §5.2, with any head one wants."""
    head = (0x80 if fin else 0) | rsv | opcode
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = bytes([0x80 | 126]) + struct.pack("!H", size)
    else:
        length = bytes([0x80 | 127]) + struct.pack("!Q", size)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload)) if any(mask) else payload
    return bytes([head]) + length + mask + masked


def close_frame(code: int, reason: str = "") -> bytes:
    return client_frame(8, struct.pack("!H", code) + reason.encode())


@dataclass
class RawClient:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body of an HTTP answer."""
        async with asyncio.timeout(DEADLINE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in head[1:] if line}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(head[0].split(" ")[1]), headers, body

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: its first byte and its payload."""
        async with asyncio.timeout(DEADLINE_S):
            head, length = await self.reader.readexactly(2)
            if length == 126:
                (length,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return head, await self.reader.readexactly(length)

    async def closing(self) -> tuple[int, str]:
        """Read up to the close frame: its code and reason."""
        while True:
            head, payload = await self.frame()
            if head == 0x88:
                return (struct.unpack("!H", payload[:2])[0], payload[2:].decode()) if payload else (1005, "")

    async def eof(self) -> bytes:
        """Everything up to the end of the server's half."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.read(-1)


@contextlib.asynccontextmanager
async def dial(port: int, receive_bytes: int = 0) -> AsyncIterator[RawClient]:
    """A TCP connection; `receive_bytes` makes its receive buffer (and the stream's) small."""
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=receive_bytes or 65536)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def raw_websocket(port: int, path: str = "/", *extra: str, receive_bytes: int = 0) -> AsyncIterator[RawClient]:
    """The same, after a handshake that was accepted."""
    async with dial(port, receive_bytes) as client:
        client.write(handshake(path, *extra))
        status, _, body = await client.answer()
        assert status == 101, (status, body)
        yield client
