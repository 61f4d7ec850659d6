"""One socket to one Redis server: bytes out, parsed replies in. It owns the handshake and nothing else.

`asyncio.Protocol` over hiredis's C reader: a reply costs one callback, no task, no stream, no lock. The
client of
redis-py awaits several coroutines for every reply, which this path cannot afford. RESP2, which every server
from
6.2 on speaks on commands and on pub/sub alike.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

from edge.config.redis_address import Endpoint, Login
from edge.errors import StoreRefused, StoreUnavailable

Reply = Any
"""bytes, int, None, a list of replies, or a `hiredis.ReplyError` (as a value)."""

REPLY_ERROR = hiredis.ReplyError


def pack(args: Sequence[Any]) -> bytes:
    """A command (str, bytes, int or float each) in Redis's wire form. Raises TypeError or ValueError."""
    packed: bytes = _pack(args)
    return packed


_pack: Callable[[Any], Any] = hiredis.pack_command


class Wire(asyncio.Protocol):
    """A connected, logged-in socket. `on_replies` gets what one read brought, in order; `on_lost` is called
    once."""

    __slots__ = ("_lost", "_reader", "_transport", "endpoint", "heard_at", "on_lost", "on_replies")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.heard_at = 0.0
        self.on_replies: Callable[[Sequence[Reply]], None] = lambda replies: None
        self.on_lost: Callable[[str], None] = lambda reason: None
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._lost = False

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._lost

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def abort(self, reason: str) -> None:
        """Drop the socket now; `on_lost(reason)` is called before this returns, unless it was already."""
        self._finish(reason)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not an isinstance: uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        if self._lost:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        replies: list[Reply] = []
        try:
            while (reply := reader.gets()) is not False:
                replies.append(reply)
        except hiredis.ProtocolError as error:
            self.on_replies(replies)
            self._finish(f"protocol error from {self.endpoint}: {error}")
            return
        self.heard_at = asyncio.get_running_loop().time()
        if replies:
            self.on_replies(replies)

    def eof_received(self) -> bool:
        self._finish(f"{self.endpoint} closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(f"{self.endpoint}: {exc or 'connection closed'}")

    def _finish(self, reason: str) -> None:
        if self._lost:
            return
        self._lost = True
        if self._transport is not None:
            self._transport.abort()
        self.on_lost(reason)


async def dial(endpoint: Endpoint, login: Login, tls: Any, timeout_s: float) -> Wire:
    """Connect and log in. `tls` is an SSLContext or None. Raises StoreUnavailable, without secrets, when the
    server
    cannot be reached, refuses the login, or is still loading its data."""
    wire = Wire(endpoint)
    try:
        async with asyncio.timeout(timeout_s):
            loop = asyncio.get_running_loop()
            if endpoint.path:
                await loop.create_unix_connection(lambda: wire, endpoint.path)
            else:
                name = endpoint.host if tls is not None else None
                await loop.create_connection(lambda: wire, endpoint.host, endpoint.port, ssl=tls, server_hostname=name)
            await _log_in(wire, login)
    except TimeoutError:
        wire.abort("timeout")
        raise StoreUnavailable(f"{endpoint}: no answer within {timeout_s:g} s") from None
    except OSError as error:
        wire.abort("error")
        raise StoreUnavailable(f"{endpoint}: {error.strerror or error}") from None
    except BaseException:
        wire.abort("given up")
        raise
    return wire


async def _log_in(wire: Wire, login: Login) -> None:
    commands: list[tuple[Any, ...]] = []
    if login.username:
        commands.append(("AUTH", login.username, login.password.value))
    elif login.password.value:
        commands.append(("AUTH", login.password.value))
    if login.db:
        commands.append(("SELECT", login.db))
    commands.append(("CLIENT", "SETNAME", "holdfast"))
    commands.append(("PING",))
    replies = await ask(wire, commands)
    for command, reply in zip(commands, replies, strict=True):
        if isinstance(reply, REPLY_ERROR) and command[0] != "CLIENT":
            # The server's words, never ours: our command may hold the password.
            raise StoreUnavailable(f"{wire.endpoint}: {command[0]} refused: {reply}")


async def ask(wire: Wire, commands: Sequence[tuple[Any, ...]]) -> list[Reply]:
    """Send `commands` on an otherwise idle wire and wait for all replies (errors are values).
    Raises StoreUnavailable when the wire breaks. Takes the wire's callbacks over for that time."""
    done: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
    got: list[Reply] = []

    def replies(batch: Sequence[Reply]) -> None:
        got.extend(batch)
        if len(got) >= len(commands) and not done.done():
            done.set_result(got)

    def lost(reason: str) -> None:
        if not done.done():
            done.set_exception(StoreUnavailable(reason))

    before = wire.on_replies, wire.on_lost
    wire.on_replies, wire.on_lost = replies, lost
    try:
        if not wire.open:
            raise StoreUnavailable(f"{wire.endpoint} closed the connection")
        wire.write(b"".join(map(pack, commands)))
        return await done
    finally:
        wire.on_replies, wire.on_lost = before


async def ask_once(endpoint: Endpoint, login: Login, tls: Any, timeout_s: float, *command: Any) -> Reply:
    """One question on a connection of its own. Raises StoreUnavailable, StoreRefused (an error answer)."""
    wire = await dial(endpoint, login, tls, timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            (reply,) = await ask(wire, [command])
    except TimeoutError:
        raise StoreUnavailable(f"{endpoint}: no answer within {timeout_s:g} s") from None
    finally:
        with contextlib.suppress(RuntimeError):
            wire.abort("done")
    if isinstance(reply, REPLY_ERROR):
        raise StoreRefused(f"{endpoint}: {command[0]} {command[1] if len(command) > 1 else ''}: {reply}")
    return reply
