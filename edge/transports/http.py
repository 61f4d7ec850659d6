"""HTTP/1.1 on the listener: one client's socket, the requests it brings one after the other, and how long they take.

`ClientHttp` is what uvicorn's `Config` is given as its HTTP protocol, and called like one; nothing of uvicorn's own
protocol is inherited. That one is made for ASGI: a task, an event and a dictionary of scope for each request, which a
held request would keep for minutes, a timer for each idle connection, and no way to see a client go but to await it.
Here a held request is two objects and a place in a table. What `edge.lifecycle.server` relies on is kept: a connection
stands in ``server_state.connections`` while it is ours, has a `transport`, and goes when `shutdown` asks it to.

Owned here: the order of things, what is read and when, silence. The head is `edge.transports.request_reader`'s, framing
`edge.protocol.http_request`'s and `chunked`'s, the answer `edge.transports.exchange`'s. WebSocket handshakes are handed
over with their sockets, and with what came behind them.

A connection's life::

    HEAD ─request→ BODY ─its end→ WAITING ─answer's end→ HEAD
      └────refused, or the last answer's end────→ LINGERING → gone

WAITING goes on reading, since that is how a client's going is noticed, also for hours; what it sends meanwhile is
kept as bytes up to `AHEAD_BYTES`. A client that shuts its half of the connection while an answer is under way counts
as gone, as it does to nginx, Node and Go: closing looks the same from here, and a hold must not outlive its client.
LINGERING: our half is shut, the client's is read away until it closes, because closing with unread bytes resets the
connection, which may destroy our last answer on its way (RFC 9112 §9.6).

The module is long because a connection's states meet in every one of its callbacks: apart, each half would have to
know the other's fields.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import socket
import struct
from typing import Any, cast

import uvicorn

from edge.model.silence import seconds
from edge.protocol.callbacks.events import Headers
from edge.protocol.http_answer import Asked, Body, body_of, write_head
from edge.protocol.http_request import BadRequest, Framing, read_framing, split_target
from edge.transports.exchange import HttpExchange
from edge.transports.handshake import Refusal, RequestHead, admit_request, believable
from edge.transports.outbox import Outbox
from edge.transports.reception import Reception, count_refusal
from edge.transports.request_reader import BodyReader, HeadReader, HeadTooLarge
from edge.transports.websocket import WebSocketConnection
from edge.wheel import Alarm

SPARE_SOCKETS = 1_000
"""Sockets beyond `max_connections` that may be open for as long as it takes to be told so."""
AHEAD_BYTES = 65_536
"""Kept of what a client sends before it has the answer to what it sent first; past it nothing more is read."""
KEEP_ALIVE_S = 75
"""A connection without a request is closed after this long: longer than the 60 s for which common load balancers keep
theirs, so that they close first and send no request into a connection that is being closed."""
BODY_SILENCE_S = 60
"""A request's body may pause for this long: as nginx has it."""
SEND_SILENCE_S = 60
"""A client may take nothing of what waits for it for this long: as nginx has it."""
LINGER_S = 5
"""For the other half of the connection to close after the last answer."""


_TEXT = ("Content-Type", "text/plain; charset=utf-8")


class State(enum.Enum):
    HEAD = 1
    BODY = 2
    WAITING = 3
    LINGERING = 4


# Looked up once, see `edge.transports.websocket`.
_HEAD, _BODY, _WAITING, _LINGERING = State


class ClientHttp(asyncio.Protocol):
    """See the module. A `Carrier` of exchanges and a `Patient` of `Care`."""

    __slots__ = (
        "_alarm",
        "_body",
        "_connections",
        "_exchange",
        "_expected",
        "_heeded",
        "_last",
        "_least",
        "_paused",
        "_peer_eof",
        "_reader",
        "_reception",
        "_rest",
        "_since",
        "_state",
        "_wanted",
        "due",
        "outbox",
        "transport",
    )

    def __init__(self, reception: Reception, config: Any, server_state: Any, app_state: Any, _loop: Any = None):
        """`config`, `server_state` and `app_state` are uvicorn's; only the connections in the second are needed."""
        self._reception = reception
        self._connections: set[Any] = server_state.connections
        self._state = _HEAD
        self._reader: HeadReader | None = None
        self._alarm: Alarm | None = None
        self._exchange: HttpExchange | None = None
        self._body: BodyReader | None = None
        self._rest = b""
        self._expected = False
        """The client waits to be told that its body is wanted."""
        self._wanted = True
        """The sessions take more of the body."""
        self._paused = False
        self._heeded = False
        """`_advance` is at work."""
        self._last = False
        """There will be no request after this one."""
        self._peer_eof = False
        self._since = 0
        """When the state began, or something came of a body, or was taken of what had waited; in `Care.now`."""
        self._least = 0
        self.due = 0
        self.transport: asyncio.Transport
        self.outbox: Outbox

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        reception = self._reception
        self.outbox = Outbox(transport, reception.flusher)
        self._connections.add(self)
        if reception.connections + len(self._connections) > reception.settings.max_connections + SPARE_SOCKETS:
            reception.routes.nowhere.limits_hit["max_connections"].value += 1
            transport.abort()
            return
        # Without a buffer of its own the transport tells us at once when the socket does not take all.
        transport.set_write_buffer_limits(high=0)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._reception.care.leave(self)
        self._head_came()
        self._state = _LINGERING
        self._rest = b""
        self._body = None
        self._lose("client")

    def eof_received(self) -> bool:
        self._peer_eof = True
        self._state = _LINGERING
        self._lose("client")
        self.outbox.flush()
        # The loop closes once everything is written; that may wait for a client which does not read.
        self._care_for_the_end()
        return False

    def _lose(self, cause: str) -> None:
        exchange = self._leave_exchange()
        if exchange is not None:
            exchange.gone(cause)

    def _leave_exchange(self) -> HttpExchange | None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._reception.exchanges -= 1
            exchange.route.meters.connections.value -= 1
            exchange.route.addresses.leave(exchange.address)
        return exchange

    def shutdown(self) -> None:
        """uvicorn's: go, after the answer that is under way."""
        self._last = True
        if self._exchange is None and self._state is not _LINGERING:
            self._linger()

    # Reading

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data, self._rest = self._rest + data, b""
        self._advance(data)

    def _advance(self, data: bytes) -> None:
        """Make of `data` whatever can be made of it now."""
        self._heeded = True
        try:
            while data and not self.transport.is_closing():
                if self._state is _HEAD:
                    data = self._read_head(data)
                elif self._state is _BODY:
                    data = self._read_body(data)
                elif self._state is _WAITING:
                    self._rest, data = data, b""
                else:
                    return
        finally:
            self._heeded = False
        self._mind_reading()
        if self._exchange is not None:
            self._since = self._reception.care.now
            idle_s = self._exchange.route.settings.timeouts.idle_s
            if self._state is _BODY or idle_s:
                self._watch(BODY_SILENCE_S if self._state is _BODY else seconds(idle_s))

    def _go_on(self) -> None:
        """The answer is out: the next request, if it is there already."""
        if self._rest and self._state is _HEAD:
            data, self._rest = self._rest, b""
            self._advance(data)

    def _mind_reading(self) -> None:
        """Read, or do not, as our state wants it."""
        pause = (self._state is _BODY and not self._wanted) or len(self._rest) > AHEAD_BYTES
        if pause is not self._paused and not self.transport.is_closing():
            self._paused = pause
            if pause:
                self.transport.pause_reading()
            else:
                self._since = self._reception.care.now
                self.transport.resume_reading()

    # The head

    def _await_head(self) -> None:
        reception = self._reception
        due_ms = reception.clock.monotonic_ms() + int(reception.routes.bounds.handshake_s * 1000)
        self._alarm = reception.wheel.at(due_ms, self._head_late)

    def _head_came(self) -> None:
        self._reader = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _head_late(self) -> None:
        count_refusal(self._reception.routes.nowhere, "handshake_s", "handshake_s")
        self._refuse(408, "The request did not come in time.\n")

    def _read_head(self, data: bytes) -> bytes:
        reader = self._reader
        if reader is None:
            data = data.lstrip(b"\r\n")  # RFC 9112 §2.2
            if not data:
                return data
            if self._alarm is None:
                self._await_head()
            reader = self._reader = HeadReader(self._reception.routes.bounds, self._reception.clock.monotonic_ms())
        try:
            used = reader.feed(data)
            if not reader.complete:
                return b""
            self._head_came()
            framing = read_framing(reader.method, reader.version, reader.fields)
            path, query, headers = split_target(reader.target, reader.fields)
        except BadRequest as bad:
            limit = bad.limit if isinstance(bad, HeadTooLarge) else ""
            count_refusal(self._reception.routes.nowhere, limit or "bad_request", limit)
            self._refuse(bad.status, bad.text)
            return b""
        head = RequestHead(
            method=reader.method,
            target=f"{path}?{query}" if query else path,
            version=reader.version,
            headers=headers,
            peer=_peer(self.transport),
            secure=self.transport.get_extra_info("sslcontext") is not None,
            began_ms=reader.began_ms,
        )
        if framing.upgrade == "websocket":
            self._upgrade(head, data[used:])
            return b""
        self._asked(head, framing)
        return data[used:]

    def _upgrade(self, head: RequestHead, rest: bytes) -> None:
        """Give the socket away. What came behind the request goes with it."""
        self.outbox.flush()  # answers to earlier requests go before anything of its
        self._connections.discard(self)
        self._reception.care.leave(self)
        connection = WebSocketConnection(self._reception)
        connection.connection_made(self.transport)
        self.transport.set_protocol(connection)
        self._state = _LINGERING
        connection.requested(head)
        if rest:
            connection.data_received(rest)

    # A request

    def _asked(self, head: RequestHead, framing: Framing) -> None:
        reception = self._reception
        outcome = admit_request(reception, head)
        if isinstance(outcome, Refusal):
            self._refuse(outcome.status, outcome.text, outcome.headers, head.method)
            return
        route = outcome.route
        exchange = HttpExchange(self, route, outcome.address, Asked(head.method, head.version, framing.keep))
        self._exchange = exchange
        reception.exchanges += 1
        route.meters.connections.value += 1
        route.meters.connections_opened.value += 1
        self._body = None if framing.length == 0 else BodyReader(framing.length)
        self._state = _WAITING if self._body is None else _BODY
        self._wanted = True
        self._expected = framing.expects and self._body is not None
        if reception.http_door is None:
            exchange.answer(502, "", [_TEXT], b"This route proxies HTTP, and nobody is there to do it.\n")
            return
        listener = reception.http_door.exchange(exchange, route, outcome.request, framing.length)
        if exchange.over:
            return
        exchange.listener = listener
        if self.outbox.congested:
            exchange.congested(True)
        if self._state is _WAITING:
            exchange.heard_all(())
        elif self._wanted:
            self._invite()

    def _invite(self) -> None:
        """Tell a client which waits for it that its body is wanted (RFC 9110 §10.1.1)."""
        if self._expected and self._exchange is not None and not self._exchange.begun:
            self.outbox.put(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.outbox.flush()
        self._expected = False

    def _read_body(self, data: bytes) -> bytes:
        self._expected = False  # it does not wait
        body = self._body
        assert body is not None
        try:
            content, data = body.feed(data)
        except BadRequest as bad:
            self._give_up(bad.status, bad.text, "client")
            return b""
        if body.done:
            self._body = None
            self._state = _WAITING
        exchange = self._exchange
        if exchange is not None:
            if content:
                exchange.heard(content)
            if body.done:
                exchange.heard_all(believable(body.trailers, from_proxy=False) if body.trailers else ())
        return data

    def _give_up(self, status: int, text: str, cause: str) -> None:
        """It comes to nothing: say so if that can still be said, and go."""
        exchange = self._exchange
        begun = exchange is not None and exchange.begun
        self._lose(cause)
        if begun:
            self.cut(reset=True)
        else:
            self._refuse(status, text)

    def _refuse(self, status: int, text: str, headers: Headers = (), method: str = "GET") -> None:
        """An answer of our own, and the last: what comes behind a request that was not taken cannot be read."""
        self._head_came()
        if self.transport.is_closing() or self._state is _LINGERING:
            return
        asked = Asked(method, "1.1", False)
        body = text.encode()
        framed = body_of(asked, status, len(body))
        # RFC 9110 §15.5.22: 426 says what to upgrade to.
        own = "Upgrade: websocket\r\nConnection: Upgrade\r\n" if status == 426 else ""
        head = write_head(asked, status, "", [_TEXT, *headers], framed, len(body), self.date(), own)
        self.outbox.put(head + body if framed is Body.LENGTH else head)
        self._linger()

    # What exchanges ask for: `Carrier`.

    def keeps(self, wished: bool) -> bool:
        # What is left of a body would have to be read away before the next request: that is no saving.
        return wished and self._state is _WAITING and not self._last

    def date(self) -> str:
        return self._reception.date()

    def now(self) -> int:
        return self._reception.care.now

    def answered(self, exchange: HttpExchange) -> None:
        self._leave_exchange()
        if not exchange.keep or self._last:
            self._linger()
        else:
            self._state = _WAITING
            if self.outbox.size() > AHEAD_BYTES:
                self.outbox.flush()  # shows if it is taken
            if not self.outbox.congested:
                self._next()

    def _next(self) -> None:
        """The answer is out, or on its way: the next request's turn."""
        self._state = _HEAD
        self._since = self._reception.care.now
        self._watch(KEEP_ALIVE_S)
        if self._heeded:
            return
        if self._rest:
            # Not from inside the sessions' own call.
            self._reception.loop.call_soon(self._go_on)
        else:
            self._mind_reading()

    def cut(self, *, reset: bool) -> None:
        if reset:
            self._state = _LINGERING
            _reset_when_closed(self.transport)
            self.transport.abort()
        else:
            self._linger()

    def want_body(self, exchange: HttpExchange, yes: bool) -> None:
        if exchange is not self._exchange or self._state is not _BODY:
            return
        self._wanted = yes
        if yes:
            self._invite()
        if not self._heeded:
            self._mind_reading()
            self._watch(BODY_SILENCE_S)

    # Writing

    def pause_writing(self) -> None:
        self.outbox.congested = True
        self._least = self.outbox.size()
        self._since = self._reception.care.now
        self._watch(SEND_SILENCE_S)
        if self._exchange is not None:
            self._exchange.congested(True)
        elif self._state is _HEAD and self._reader is None:
            self._state = _WAITING  # for the client to take its answer

    def resume_writing(self) -> None:
        self.outbox.congested = False
        if self._exchange is not None:
            self._exchange.congested(False)
        elif self._state is _WAITING:
            self._next()

    def _linger(self) -> None:
        """All is said: shut our half, and read away what the client still sends."""
        self._state = _LINGERING
        self._rest = b""
        self.outbox.flush()
        if self.transport.is_closing():
            return
        self._mind_reading()
        self._care_for_the_end()
        if self._peer_eof or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()

    # Care

    def _care_for_the_end(self) -> None:
        self._since = self._reception.care.now
        self._least = self.outbox.size()
        self._reception.care.see(self, LINGER_S)

    def _watch(self, in_s: int) -> None:
        """See that `look` is called some time: it finds out itself what is due when."""
        if not self.due:
            self._reception.care.see(self, in_s)

    def look(self, now: int) -> int:
        """Called by `Care` when its second has come. A held exchange that may be silent for ever needs no look: 0."""
        size = self.outbox.size() if self.outbox.congested or self._state is _LINGERING else 0
        if size and size < self._least:
            self._least = size
            self._since = now
        silence = now - self._since
        if self._state is _LINGERING:
            patience = SEND_SILENCE_S if size else LINGER_S
            if silence >= patience:
                self.transport.abort()
        elif self.outbox.congested:
            patience = SEND_SILENCE_S
            if silence > patience:
                self._stuck()
        elif self._state is _BODY:
            patience = BODY_SILENCE_S
            if self._paused:  # it could not have sent
                self._since = now
            elif silence > patience:
                self._body_late()
        elif self._state is _HEAD:
            patience = KEEP_ALIVE_S
            if silence > patience and self._reader is None and self._alarm is None:
                self.transport.close()
        elif self._exchange is not None and self._exchange.route.settings.timeouts.idle_s:
            patience = seconds(self._exchange.route.settings.timeouts.idle_s)
            self._since = max(self._since, self._exchange.spoke)
            if now - self._since > patience:
                self._idle(self._exchange)
        else:
            return 0
        return 0 if self.transport.is_closing() else max(now, self._since + patience) + 1

    def _stuck(self) -> None:
        if self._exchange is not None:
            self._exchange.slow()
        else:
            self.cut(reset=True)

    def _idle(self, exchange: HttpExchange) -> None:
        exchange.route.meters.limits_hit["idle_s"].value += 1
        self._give_up(504, "There was no answer in time.\n", "limit")

    def _body_late(self) -> None:
        if self._exchange is not None:
            self._exchange.route.meters.limits_hit["body_silence"].value += 1
        self._give_up(408, "The request's body did not come in time.\n", "limit")


def _peer(transport: asyncio.Transport) -> tuple[str, int]:
    """Address and port of the other end; empty for a unix socket."""
    name = transport.get_extra_info("peername")
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) > 1 else ("", 0)


def _reset_when_closed(transport: asyncio.Transport) -> None:
    """Let the closing of the socket be a reset: no end that could be taken for one of the answer, and nothing left for
    the kernel to deliver."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def no_app(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application that uvicorn's configuration asks for; `ClientHttp` calls none."""
    raise RuntimeError("the listener of client connections serves no ASGI application")


def listener_config(reception: Reception, **options: Any) -> uvicorn.Config:
    """uvicorn's configuration for a listener of client connections; `options` (ssl_certfile, …) go to uvicorn."""
    return uvicorn.Config(
        cast(Any, no_app),
        http=cast(Any, functools.partial(ClientHttp, reception)),
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        **{"loop": "uvloop", **options},
    )
