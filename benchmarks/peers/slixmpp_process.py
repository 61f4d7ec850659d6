"""One process full of slixmpp clients, as an author of a bot would write it. `benchmarks.peers.slixmpp` starts it.

A client is logged in when it has its roster, its presence is sent and carbons are on: what a link of Holdfast does.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import slixmpp

from benchmarks.load.clients import allow_files
from benchmarks.peers.orders import take_orders
from benchmarks.peers.process import OPEN_FILES
from benchmarks.peers.xmpp_server import PASSWORD

_PATIENCE_S = 120.0


class Client:
    """One session."""

    def __init__(self, jid: str, port: int, certificate: Path, context: ssl.SSLContext | None, tls: bool) -> None:
        self._port = port
        plain = {"feature_mechanisms": {"unencrypted_plain": not tls}}
        self._client: Any = slixmpp.ClientXMPP(jid, PASSWORD, plugin_config=plain, ssl_context=context)
        if context is None:
            self._client.ca_certs = certificate
        self._client.enable_direct_tls = False
        self._client.enable_starttls, self._client.enable_plaintext = tls, not tls
        self._client.register_plugin("xep_0198")
        self._client.register_plugin("xep_0280")
        self._client.add_event_handler("message", self._answer)

    async def log_in(self) -> None:
        started = self._next("session_start")
        self._client.connect("127.0.0.1", self._port)
        await started
        self._client.send_presence()
        await asyncio.gather(self._client.get_roster(), self._client.plugin["xep_0280"].enable())

    def cut(self) -> Awaitable[object]:
        """The connection is gone, as its network or its server would end it."""
        gone = self._next("disconnected")
        self._client.transport.abort()
        return gone

    async def resume(self) -> None:
        """Raises RuntimeError when it has to begin anew."""
        resumed, anew = self._next("session_resumed"), self._next("session_start")
        self._client.connect("127.0.0.1", self._port)
        await asyncio.wait([resumed, anew], return_when=asyncio.FIRST_COMPLETED)
        anew.cancel()
        if not resumed.done():
            raise RuntimeError("a session was not resumed but made anew")

    def _next(self, event: str) -> asyncio.Task[Any]:
        return asyncio.ensure_future(self._client.wait_until(event, _PATIENCE_S))

    def _answer(self, message: Any) -> None:
        message.reply(message["body"]).send()


class Crowd:
    """All of them."""

    def __init__(self, options: argparse.Namespace) -> None:
        context = ssl.create_default_context(cafile=str(options.certificate)) if options.shared else None
        self._make: Callable[[int], Client] = lambda number: Client(
            f"u{number}@{options.domain}/bench", options.port, options.certificate, context, options.tls
        )
        self._at_once = options.at_once
        self._clients: list[Client] = []

    async def log_in(self, first: int, count: int) -> Mapping[str, Any]:
        clients: list[Client] = []

        async def one(number: int) -> None:
            client = self._make(number)
            clients.append(client)
            await client.log_in()

        took = await self._timed([partial(one, number) for number in range(first, first + count)])
        self._clients += clients
        return took

    async def resume(self) -> Mapping[str, Any]:
        """Their time is counted from when all are cut."""
        await asyncio.gather(*(client.cut() for client in self._clients))
        return await self._timed([client.resume for client in self._clients])

    async def _timed(self, things: Sequence[Callable[[], Awaitable[None]]]) -> Mapping[str, Any]:
        room = asyncio.Semaphore(self._at_once)

        async def one(thing: Callable[[], Awaitable[None]]) -> None:
            async with room:
                await thing()

        began = time.perf_counter_ns()
        await asyncio.gather(*map(one, things))
        return {"count": len(things), "elapsed_ns": time.perf_counter_ns() - began}


async def main(options: argparse.Namespace) -> None:
    crowd = Crowd(options)
    server = await take_orders(options.orders, {"log_in": crowd.log_in, "resume": crowd.resume})
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=Path, required=True)
    parser.add_argument("--domain", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", type=Path, required=True)
    parser.add_argument("--at-once", type=int, required=True)
    parser.add_argument("--shared", action="store_true", help="one SSLContext for all")
    parser.add_argument("--no-tls", dest="tls", action="store_false")
    parser.add_argument("--uvloop", action="store_true")
    chosen = parser.parse_args()
    allow_files(OPEN_FILES)
    if chosen.uvloop:
        import uvloop

        uvloop.run(main(chosen))
    else:
        asyncio.run(main(chosen))
