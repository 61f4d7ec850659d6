"""The link between the supervisor and one worker: a socket pair that carries orders down and answers up.

It also tells each side of the other's end: a worker whose supervisor is gone reads the end of the stream. Settings
travel here and not through files, so that a worker that is started again after somebody saved a bad file gets the
settings in force.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
from dataclasses import dataclass
from pathlib import Path

from edge.config import Settings
from edge.config.addresses import Address

_LENGTH = 4


@dataclass(frozen=True, slots=True)
class Start:
    """The first order: who you are and what you serve. Ports are real ones, never 0."""

    settings: Settings
    index: int
    run_dir: Path
    listen: tuple[Address, ...]
    control: Address


@dataclass(frozen=True, slots=True)
class Reload:
    """New settings, checked."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class GoDown:
    """Drain and exit; `hurry`: within a second."""

    hurry: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker accepts connections."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker could not start, for this reason; it ends now."""

    reason: str


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """An operator told this worker (control API) that the edge should go down politely."""


Message = Start | Reload | GoDown | Ready | Failed | DrainAsked


class Link:
    """One end. Made by `open_link` inside the loop that uses it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, message: Message) -> None:
        """Never blocks. Lost when the other end is gone: `receive` tells."""
        if self._writer.is_closing():
            return
        body = pickle.dumps(message)
        self._writer.write(len(body).to_bytes(_LENGTH, "big") + body)

    async def receive(self) -> Message | None:
        """The next message; None when the other end is gone."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH), "big")
            body = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        # Parent and child are one program, on a socket pair nobody else holds.
        message: Message = pickle.loads(body)  # noqa: S301
        return message

    async def close(self) -> None:
        """Write what is queued, then close."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return


async def open_link(end: socket.socket) -> Link:
    """Use `end`, one half of a socket pair."""
    end.setblocking(False)
    return Link(*await asyncio.open_unix_connection(sock=end))
