"""One listener of one worker: sockets, and uvicorn's protocols on them.

uvicorn's `Config` and protocol classes are used as they are; its `Server` is not, because the frame around it is
ours: signals, draining and the order of going down belong to `edge.lifecycle.worker`, and its loop wakes ten times a
second for things we do not use. What is left of it is a Date header that has to be renewed once a second.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from edge.config.addresses import Address
from edge.errors import StartError
from edge.lifecycle.sockets import BACKLOG, listen, listen_unix

_log = logging.getLogger("holdfast.server")

ProtocolFactory = Callable[..., asyncio.Protocol]

STOP_S = 1.0
"""For answers under way when `stop` is called; what is not done then is cut off."""


class Listener:
    """Serves `app` on `addresses` (shared with the other workers) and on the unix socket `unix`.

    `http` and `ws` are protocol classes, or functions, called the way uvicorn calls its own: ``http(config=…,
    server_state=…, app_state=…)``, and `ws` by `http` when a client asks for the upgrade; ``ws="none"`` refuses it.
    `tls` is (certificate file, key file). Access logs, proxy headers and the server header are off.
    """

    def __init__(
        self,
        app: Any,
        *,
        addresses: Sequence[Address] = (),
        unix: Path | None = None,
        http: ProtocolFactory | str = "httptools",
        ws: ProtocolFactory | str = "none",
        tls: tuple[str, str] | None = None,
        keep_alive_s: int = 5,
    ) -> None:
        self.state = ServerState()
        """Shared by all connections: `connections`, `tasks`, `default_headers`."""
        self._addresses = addresses
        self._unix = unix
        self._tls = tls
        self._servers: list[asyncio.AbstractServer] = []
        self._clock: asyncio.TimerHandle | None = None
        self._config = uvicorn.Config(
            app,
            http=cast(Any, http),
            ws=cast(Any, ws),
            interface="asgi3",  # uvicorn's guess is wrong for bound methods
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=keep_alive_s,
            ssl_certfile=tls[0] if tls else None,
            ssl_keyfile=tls[1] if tls else None,
        )

    async def start(self) -> None:
        """Listen. Raises `StartError` when an address or the certificate cannot be used; nothing is left open then."""
        try:
            self._config.load()
        except (ssl.SSLError, OSError) as error:
            raise StartError(f"the TLS certificate or key cannot be used: {error}") from None
        self._renew_date()
        sockets: list[socket.socket] = []
        try:
            sockets.extend(map(listen, self._addresses))
            if self._unix is not None:
                sockets.append(listen_unix(self._unix))
        except StartError:
            for sock in sockets:
                sock.close()
            self._stop_clock()
            raise
        loop = asyncio.get_running_loop()
        for sock in sockets:
            # The unix socket is for this user's own processes: no TLS there.
            context = None if sock.family == socket.AF_UNIX else self._config.ssl
            create = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
            server = await create(self._protocol, sock=sock, ssl=context, backlog=BACKLOG)
            self._servers.append(server)

    def _protocol(self) -> asyncio.Protocol:
        build: Callable[..., asyncio.Protocol] = self._config.http_protocol_class
        return build(config=self._config, server_state=self.state, app_state={})

    def renew_certificate(self) -> None:
        """Read certificate and key again, for connections from now on. Raises `StartError`; the old ones stay then."""
        if self._tls is None or self._config.ssl is None:
            return
        try:
            # A context of its own first: a failed load into the one in use would leave a mixture behind.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._tls)
            self._config.ssl.load_cert_chain(*self._tls)
        except (ssl.SSLError, OSError) as error:
            raise StartError(f"the TLS certificate or key cannot be used: {error}") from None

    def stop_accepting(self) -> None:
        """Close the listening sockets; connections stay. Idempotent."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    def finish_connections(self) -> None:
        """Close HTTP connections that wait for a request, and the others after the answer that is under way: kept
        alive they would bring their next request here, where nobody new is to come."""
        for connection in list(self.state.connections):
            connection.shutdown()

    async def stop(self) -> None:
        """Stop accepting, let answers under way finish for `STOP_S`, then close what is left. Idempotent."""
        self.stop_accepting()
        self.finish_connections()
        deadline = asyncio.get_running_loop().time() + STOP_S
        # uvicorn's sets have no event to wait for.
        while (self.state.connections or self.state.tasks) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # uvicorn's sets have no event to wait for
        for task in list(self.state.tasks):
            task.cancel()
        for connection in list(self.state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        self._stop_clock()
        if self._unix is not None:
            self._unix.unlink(missing_ok=True)

    def _renew_date(self) -> None:
        date = (b"date", formatdate(usegmt=True).encode())
        self.state.default_headers = [date, *self._config.encoded_headers]
        self._clock = asyncio.get_running_loop().call_later(1.0, self._renew_date)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
