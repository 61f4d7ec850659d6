"""Serve an ASGI app with a real uvicorn on a real socket, in a thread of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

DEADLINE_S = 20.0


@contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """The URL of `app` while the block runs."""
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="error", ws="none", loop="asyncio", timeout_graceful_shutdown=5)
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + DEADLINE_S
        while not server.started:
            assert thread.is_alive(), "uvicorn did not start"
            assert time.monotonic() < deadline, "uvicorn did not start in time"
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(DEADLINE_S)
            assert not thread.is_alive(), "uvicorn did not stop"
