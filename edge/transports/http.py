"""HTTP on the listener: uvicorn's protocol with a guard before it, and what plain requests are told.

uvicorn parses requests; the guard bounds what one may cost before anybody has looked at it (header count and size,
URL length, time to come whole), and hands WebSocket requests over as they were parsed, with their sockets.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any, cast

import httptools
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edge.protocol.websocket_handshake import write_refusal
from edge.sessions.routes import Routes
from edge.transports.handshake import RequestHead
from edge.transports.reception import Reception, count_refusal
from edge.transports.websocket import WebSocketConnection
from edge.wheel import Alarm

TARGET_BYTES = 8_192
"""Longest request target (RFC 9112 §3 recommends at least 8,000 octets)."""
SPARE_SOCKETS = 1_000
"""Sockets beyond `max_connections` that may be open for as long as it takes to be told so."""
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class _HeadTooLarge(Exception):
    pass


class GuardedHttp(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol for requests whose heads are small and come in time.

    Its bounds are the widest of all routes; those of the request's own route are checked when it is known.
    """

    def __init__(
        self,
        reception: Reception,
        config: uvicorn.Config,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._reception = reception
        self._alarm: Alarm | None = None
        self._began_ms = 0
        self._head_bytes = 0
        self._in_head = True
        self._too_large = ""
        self._original: list[tuple[str, str]] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        reception = self._reception
        if reception.connections + len(self.connections) > reception.settings.max_connections + SPARE_SOCKETS:
            reception.routes.nowhere.limits_hit["max_connections"].value += 1
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_came()
        self._in_head = True
        self._head_bytes = 0
        self._began_ms = self._reception.clock.monotonic_ms()
        longest = max((route.settings.timeouts.handshake_s for route in self._reception.routes), default=30.0)
        self._alarm = self._reception.wheel.at(self._began_ms + int(longest * 1000), self._late)

    def _head_came(self) -> None:
        self._in_head = False
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _late(self) -> None:
        count_refusal(self._reception.routes.nowhere, "handshake_s", "handshake_s")
        self._refuse(408, "The request did not come in time.\n")

    def _refuse(self, status: int, text: str) -> None:
        self._head_came()
        if not self.transport.is_closing():
            self.transport.write(write_refusal(status, [], text.encode()))
            self.transport.close()

    # httptools calls these while it parses; an exception stops it.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._original = []
        if not self._in_head:  # another request on a kept-alive connection
            self._await_head()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > TARGET_BYTES:
            self._too_large = "target"
            raise _HeadTooLarge

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._original.append((name.decode("latin-1"), value.decode("latin-1")))
        bound = max((route.settings.limits.headers for route in self._reception.routes), default=100)
        if len(self._original) > bound > 0:
            self._too_large = "headers"
            raise _HeadTooLarge

    def on_headers_complete(self) -> None:
        if not (self.parser.should_upgrade() and self._should_upgrade()):
            self._head_came()
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self.transport.is_closing():
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self._upgrade(data[upgrade.args[0] :])
            else:
                self._refuse(400, "This upgrade is not spoken here.\n")
            return
        except httptools.HttpParserError:
            if self._too_large:
                self._refuse_head(self._too_large)
            else:
                self._refuse(400, "This is no HTTP request.\n")
            return
        if self._in_head:
            self._head_bytes += len(data)
            bound = max((route.settings.limits.header_bytes for route in self._reception.routes), default=16_384)
            if bound and self._head_bytes > bound + TARGET_BYTES:
                self._refuse_head("header_bytes")

    def _refuse_head(self, what: str) -> None:
        count_refusal(self._reception.routes.nowhere, what, what)
        if what == "target":
            self._refuse(414, "The request target is too long.\n")
        else:
            self._refuse(431, "The header fields are too many or too large.\n")

    def _upgrade(self, rest: bytes) -> None:
        """Give the socket away. What came behind the request goes with it."""
        self._head_came()
        self.connections.discard(self)
        head = RequestHead(
            method=self.scope["method"],
            target=self.url.decode("latin-1"),
            version=self.parser.get_http_version(),
            headers=self._original,
            peer=self.client or ("", 0),
            secure=self.scheme == "https",
            began_ms=self._began_ms,
        )
        transport = self.transport
        # The parser holds this object and is held by it; nobody will call connection_lost to part them.
        self.parser = cast(Any, None)
        make = cast(Any, self.ws_protocol_class)
        connection: WebSocketConnection = make(
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        connection.connection_made(transport)
        transport.set_protocol(connection)
        connection.requested(head)
        if rest:
            connection.data_received(rest)


def plain_http(routes: Routes) -> Starlette:
    """What requests that are no WebSocket handshakes are told: 426 where a WebSocket would be taken, else 404."""

    async def answer(request: Request) -> Response:
        # An unread body would be taken for the next request's trouble: every answer closes.
        if routes.find(request.headers.get("host", ""), request.url.path) is None:
            return PlainTextResponse("There is nothing here.\n", 404, {"Connection": "close"})
        return PlainTextResponse(
            "This is a WebSocket address: connect to it with a WebSocket client, "
            "for example new WebSocket(url) in a browser.\n",
            426,
            {"Upgrade": "websocket", "Connection": "Upgrade, close"},
        )

    return Starlette(routes=[Route("/{path:path}", answer, methods=_METHODS)])


def listener_config(reception: Reception, **options: Any) -> uvicorn.Config:
    """uvicorn's configuration for a listener of client connections; `options` (ssl_certfile, …) go to uvicorn."""
    return uvicorn.Config(
        cast(Any, plain_http(reception.routes)),
        http=cast(Any, functools.partial(GuardedHttp, reception)),
        ws=cast(Any, functools.partial(WebSocketConnection, reception)),
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        **{"loop": "uvloop", **options},
    )
