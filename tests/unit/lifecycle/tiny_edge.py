"""A tiny edge in the real frame: the supervisor, and workers that serve a few lines of HTTP.

``python -m tests.unit.lifecycle.tiny_edge CONFIG`` supervises; ``… --link FD`` is one worker. GET /about tells who
answers and with what settings; GET /hold stays open until the drain closes it, and then waits for /let-go if the
environment has TINY_SLOW. TINY_FAIL makes workers fail at their start.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

from edge.config import Settings
from edge.config.loader import load
from edge.errors import StartError
from edge.lifecycle.server import Listener
from edge.lifecycle.supervisor import Program, supervise
from edge.lifecycle.worker import WorkerContext, run_worker


class TinyWorker:
    """Implements `edge.lifecycle.worker.Worker`."""

    def __init__(self, context: WorkerContext) -> None:
        self.context = context
        self.settings = context.settings
        self.reasons: list[str] = []
        self.held: list[asyncio.Event] = []
        self.closing = 0
        self.let_go = asyncio.Event()
        tls = (context.settings.edge.tls_cert, context.settings.edge.tls_key)
        self.public = Listener(self.app, addresses=context.listen, tls=tls if tls[0] else None)
        self.control = Listener(
            self.app, addresses=[context.control], unix=context.run_dir / f"worker-{context.index}.sock"
        )

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        match scope["path"]:
            case "/about":
                about = {
                    "pid": os.getpid(),
                    "index": self.context.index,
                    "backends": [route.backend for route in self.settings.routes],
                    "reasons": self.reasons,
                    "scheme": scope["scheme"],
                }
                await answer(send, json.dumps(about).encode())
            case "/hold":
                await self.hold(send)
            case "/let-go":
                self.let_go.set()
                await answer(send, b"")
            case "/stuck":
                await answer(send, b"")
                asyncio.get_running_loop().call_later(0.1, time.sleep, 3_600)
            case "/drain":
                self.context.ask_drain()
                await answer(send, b"")

    async def hold(self, send: Any) -> None:
        event = asyncio.Event()
        self.held.append(event)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"held\n", "more_body": True})
        await event.wait()
        if os.environ.get("TINY_SLOW"):
            await self.let_go.wait()
        await send({"type": "http.response.body", "body": b"1012\n"})
        self.closing -= 1

    async def start(self) -> None:
        match os.environ.get("TINY_FAIL"):
            case "reason":
                raise StartError("there is no coffee")
            case "bug":
                raise RuntimeError("a bug")
            case "hang":
                await asyncio.Event().wait()
        await self.public.start()
        await self.control.start()

    def reload(self, settings: Settings) -> None:
        self.settings = settings

    def readiness(self) -> list[str]:
        return self.reasons

    def begin_drain(self) -> None:
        self.reasons = ["draining"]

    def stop_accepting(self) -> None:
        self.public.stop_accepting()

    def clients(self) -> int:
        return len(self.held)

    def close_clients(self, count: int) -> None:
        for event in self.held[:count]:
            event.set()
        self.closing += count
        del self.held[:count]

    def unfinished(self) -> int:
        return self.closing

    async def stop(self) -> None:
        await self.public.stop()
        await self.control.stop()


async def answer(send: Any, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def build(context: WorkerContext) -> TinyWorker:
    return TinyWorker(context)


def main() -> int:
    if sys.argv[1] == "--link":
        return run_worker(build, int(sys.argv[2]))

    def read() -> Settings:
        return load({}, {}, sys.argv[1])

    def command(link: int) -> list[str]:
        return [sys.executable, "-m", __spec__.name, "--link", str(link)]

    redis = None
    if os.environ.get("TINY_REDIS"):
        from edge.store.embedded import EmbeddedRedis

        redis = EmbeddedRedis(read().edge.data_dir)
    return supervise(Program(read(), command, read, redis))


if __name__ == "__main__":
    sys.exit(main())
