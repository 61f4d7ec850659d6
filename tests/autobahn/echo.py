"""An echo behind the real transport, as a process of its own: ``python -m tests.autobahn.echo``.

Prints the URL it serves and runs until its standard input closes.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from edge.config import LimitSettings, RouteSettings
from tests.support.listener import Hall, listening

LARGEST = 64 * 1024 * 1024
"""Autobahn's section 9 sends messages of 16 MiB."""


class EchoHall(Hall):
    """Keeps nothing of what it heard: the suite opens hundreds of connections with megabytes each."""

    def open(self, *args: object) -> object:  # type: ignore[override]
        guest = super().open(*args)  # type: ignore[arg-type]
        self.guests.clear()
        guest.heard = _Nothing()
        return guest


class _Nothing(list[str | bytes]):
    def append(self, item: str | bytes) -> None:
        pass


async def main() -> None:
    limits = LimitSettings(message_bytes=LARGEST, frame_bytes=LARGEST, outbox_bytes=2 * LARGEST)
    route = RouteSettings(limits=limits, compression=True)
    async with listening(route, hall=EchoHall(echo=True)) as listener:
        print(listener.url(), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())
