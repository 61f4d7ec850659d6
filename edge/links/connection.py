"""One connection to an XMPP server: the socket, TLS by upgrade, and the deadlines of the stream that runs over it.

Owns the transport and when bytes are written (once per turn of the loop that had something to say). The stream
(`edge.protocol.xmpp.stream`) decides what they are; what it hears goes to the listener. After an upgrade
`edge.links.tls_layer` is between it and the transport; TLS that comes first is the dialer's, and within the transport.
No task while stanzas flow: one runs for each computing of SCRAM keys, and ends with it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Sequence
from typing import Protocol, cast

from edge.errors import HoldfastError
from edge.links.tls_layer import TlsLayer
from edge.protocol.xmpp.component import ComponentStream
from edge.protocol.xmpp.credentials import ScramKeys
from edge.protocol.xmpp.sasl import KeysNeeded, derive_keys
from edge.protocol.xmpp.stream_facts import Fact, Stream, StreamFailed, TlsWanted
from edge.wheel import Alarm, Wheel

TLS_S = 10.0
"""For the handshake after <proceed/>."""
LINGER_S = 30.0
"""For the server to take what was written before the connection was closed."""


class ConnectionListener(Protocol):
    """Who a connection is for. All calls happen on the loop's thread, and none after `cut`."""

    def heard(self, facts: Sequence[Fact]) -> None:
        """Facts of the stream, in order. What the listener then wants said is written behind them."""
        ...

    def keys_made(self, keys: ScramKeys) -> None:
        """The server's salt was new: worth remembering if the login succeeds."""
        ...

    def cut(self, reason: str) -> None:
        """The connection is gone, or of no use any more. Once, and last. `reason` is for people."""
        ...


class LinkConnection(asyncio.Protocol):
    """See the module's docstring. Made by the dialer's factory; `begin` starts the stream."""

    __slots__ = (
        "_alarm", "_context", "_domain", "_listener", "_live", "_loop", "_password", "_paused", "_tasks", "_tls",
        "_tls_alarm", "_transport", "_wake_at", "_wheel", "_writing", "stream",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, wheel: Wheel) -> None:
        self._loop = loop
        self._wheel = wheel
        self._transport: asyncio.Transport | None = None
        self._listener: ConnectionListener | None = None
        self._context: ssl.SSLContext | None = None
        self._tls: TlsLayer | None = None
        self._tls_alarm: Alarm | None = None
        """Set while hands are shaken."""
        self._domain = ""
        self._password: str | None = None
        self._alarm: Alarm | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._live = False
        self._paused = False
        self._writing = False
        self._wake_at = float("inf")
        self.stream: Stream

    def begin(
        self,
        make_stream: Callable[[float], Stream],
        listener: ConnectionListener,
        *,
        domain: str,
        context: ssl.SSLContext | None,
        password: str | None,
    ) -> None:
        """Start the stream. `context` is for TLS by upgrade, `password` for making SCRAM keys; both are let go of when
        the stream is live."""
        self._domain, self._context, self._password = domain, context, password
        self._listener = listener
        self.stream = make_stream(self._loop.time())
        self._watch()
        if self._transport is None:
            self._gone("the connection broke at once")
        else:
            self.flush()

    # -- what the listener does

    def flush(self) -> None:
        """Write what the stream has to say, now."""
        self._writing = False
        said = self.stream.take()
        if self._transport is None:
            return
        if out := said if self._tls is None else self._tls.send(said):
            self._transport.write(out)
        if said:
            at = self.stream.wake_at()
            if at is not None and at < self._wake_at:  # a component waits for an answer to what it has just asked
                self._watch()
        if self._tls is not None and self._tls.over:
            self._end_tls(self._tls)

    def write_soon(self) -> None:
        """Write what the stream has to say at the end of this turn of the loop."""
        if not self._writing:
            self._writing = True
            self._loop.call_soon(self.flush)

    def pause(self) -> None:
        """Read no more: TCP makes the server wait. It is not asked meanwhile whether it is there."""
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def go_on(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
            self._watch()

    @property
    def paused(self) -> bool:
        return self._paused

    def finish(self) -> bool:
        """A component's: end its stream, and hear what the server had to say before it knew. `cut` follows. False: it
        is none, or cannot be heard now."""
        stream = self.stream
        if not isinstance(stream, ComponentStream) or not stream.live or self._paused:
            return False
        stream.finish(self._loop.time())
        self.flush()
        self._watch()
        return True

    def leave(self) -> None:
        """Close the connection behind what was written, without another word to the listener. Without `stream.close`
        before it the session stays at the server, to be resumed."""
        self._let_go()
        if self._transport is not None:
            self.flush()
            self._close()

    def abort(self) -> None:
        """Cut the connection: nothing that is not in the kernel yet may leave."""
        self._let_go()
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none to isinstance

    def data_received(self, data: bytes) -> None:
        if self._listener is None:
            return
        if self._tls is None:
            self._tell(self.stream.receive(data, self._loop.time()))
        else:
            self._decrypt(self._tls, data)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        reason = str(error) if error else "the server closed the connection"
        if self._tls_alarm is not None:
            self._fail_tls("tls-failed", reason)
        else:
            self._gone(reason)

    # -- inside

    def _tell(self, facts: Sequence[Fact]) -> None:
        listener = self._listener
        if listener is None:
            return
        for fact in facts:
            if isinstance(fact, TlsWanted) and not self.stream.over:
                self._start_tls()
            elif isinstance(fact, KeysNeeded):
                self._do(self._make_keys(fact))
        if self._listener is None:
            return
        if facts:
            listener.heard(facts)
        self.flush()
        if self.stream.over:
            self._gone("the stream is over")
        elif self.stream.live and not self._live:
            self._live = True
            self._context = self._password = None
            self._watch()  # silence may be noticed sooner than a negotiation that takes too long

    def _do(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- TLS by upgrade

    def _start_tls(self) -> None:
        self.flush()
        if self._context is None:
            return
        try:
            self._tls = TlsLayer(self._context, self._domain)
        except ValueError as error:
            self._fail_tls("tls-failed", str(error))
            return
        self._tls_alarm = self._wheel.after(round(TLS_S * 1_000), self._tls_late)

    def _decrypt(self, tls: TlsLayer, data: bytes) -> None:
        heard = tls.receive(data)
        if self._tls_alarm is not None and tls.up:
            self._tls_alarm.cancel()
            self._tls_alarm = None
            self.stream.tls_up()
        if heard:
            self._tell(self.stream.receive(heard, self._loop.time()))
        else:
            self.flush()

    def _end_tls(self, tls: TlsLayer) -> None:
        match tls.failure:
            case None:
                self._gone("the server closed the connection")
            case ssl.SSLCertVerificationError() as error if not tls.up:
                self._fail_tls("certificate-invalid", error.verify_message)
            case error if not tls.up:
                self._fail_tls("tls-failed", _phrase(error))
            case error:
                self._gone(f"TLS failed: {_phrase(error)}")

    def _tls_late(self) -> None:
        self._fail_tls("tls-failed", f"no handshake in {TLS_S:g} s")

    def _fail_tls(self, condition: str, said: str) -> None:
        if self._listener is not None:
            self._listener.heard([StreamFailed(condition, f"TLS with {self._domain}: {said}")])
        self._gone(f"TLS failed: {said}")

    async def _make_keys(self, needed: KeysNeeded) -> None:
        """In a thread: it takes milliseconds."""
        password = self._password
        assert password is not None
        try:
            keys = await self._loop.run_in_executor(None, derive_keys, password, needed)
        except HoldfastError as error:
            if self._listener is not None:
                self._listener.heard([StreamFailed("malformed-request", f"the password cannot be used: {error}")])
            self._gone("the password cannot be used")
            return
        if self._listener is not None:
            self.stream.use_keys(keys)
            self._listener.keys_made(keys)
            self.flush()

    def _watch(self) -> None:
        """One alarm for each connection, moved only when it rings: traffic costs nothing."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        at = self.stream.wake_at()
        if at is not None and not self._paused and self._listener is not None:
            self._wake_at = at
            self._alarm = self._wheel.after(max(0, round((at - self._loop.time()) * 1_000)), self._wake)

    def _wake(self) -> None:
        self._alarm = None
        if self._listener is None or self._paused:
            return
        self._tell(self.stream.wake(self._loop.time()))
        if self._listener is not None:
            self._watch()

    def _gone(self, reason: str) -> None:
        listener = self._listener
        self._let_go()
        self._close()
        if listener is not None:
            listener.cut(reason)

    def _close(self) -> None:
        """Behind what was written, and at the latest after `LINGER_S`."""
        transport, self._transport = self._transport, None
        if transport is not None:
            if self._tls is not None and (out := self._tls.close()):
                transport.write(out)
            transport.close()
            self._alarm = self._wheel.after(round(LINGER_S * 1_000), transport.abort)

    def _let_go(self) -> None:
        self._listener = None
        self._context = self._password = None
        for alarm in (self._alarm, self._tls_alarm):
            if alarm is not None:
                alarm.cancel()
        self._alarm = self._tls_alarm = None
        for task in self._tasks:
            if task is not asyncio.current_task(self._loop):
                task.cancel()


def _phrase(error: ssl.SSLError) -> str:
    return (error.reason or "handshake failed").lower().replace("_", " ")
