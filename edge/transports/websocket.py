"""One client's WebSocket, between its socket and its session.

`WebSocketConnection` is an asyncio protocol (given its socket by `edge.transports.http`) and a `Connection`. It owns
the order of things: handshake, open, farewell, end. Bytes are parsed by `edge.protocol.websocket`, gathered by
`edge.transports.outbox`; silence is watched by `edge.transports.care`. What it knows that would have to survive the
process stands in its own fields and in its `FrameReader`, all plain values.

A connection's life::

    CONNECTING ─accept→ OPEN ─close frame or violation→ PARTING ─finish→ LINGERING → gone
                          └─────────close→ CLOSING ─client's close frame→ LINGERING

PARTING: the client will not be heard any more; answers owed to it still leave, then our close frame. CLOSING: our
close frame is out, the client's is waited for. LINGERING: nothing more to say; our half of the TCP connection is shut
and the client's is read away until it closes, because closing with unread bytes resets the connection, which may
destroy our last frames on their way (RFC 6455 §7.1.1, RFC 9112 §9.6).

Longer than our other rooms because the socket's and the session's side of one connection share its state.
"""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass

from edge.config import LimitSettings
from edge.model.limits import Rates
from edge.model.silence import Step, first_look, judge
from edge.protocol.callbacks.events import Headers
from edge.protocol.websocket import (
    FrameReader,
    Goodbye,
    Heard,
    Pinged,
    Ponged,
    Violation,
    deflate_message,
    encode_close,
    encode_message,
    encode_ping,
    encode_pong,
    payload_bytes,
)
from edge.protocol.websocket_handshake import write_acceptance, write_refusal
from edge.sessions.connection import ConnectionListener, Frame
from edge.sessions.routes import RouteHandle
from edge.transports.handshake import EARLY_BYTES, Handshake, Refusal, RequestHead, admit
from edge.transports.outbox import Outbox
from edge.transports.reception import Reception, count_refusal

OWN_PING = b"\x00holdfast"
"""What the edge's own pings say where a backend has a use for control frames: the pongs to them are not its business.
Elsewhere nobody is told of pongs, and pings are empty."""
RATE_REASONS = {"messages_per_s": "message rate", "bytes_per_s": "byte rate"}


class State(enum.Enum):
    CONNECTING = 1
    OPEN = 2
    PARTING = 3
    CLOSING = 4
    LINGERING = 5


# Enum members looked up once: `State.OPEN` is two dictionary look-ups on the hottest path.
_CONNECTING, _OPEN, _PARTING, _CLOSING, _LINGERING = State


@dataclass(slots=True)
class Farewell:
    """How the connection ends: what the listener will be told, and our close frame if it still has to be sent."""

    code: int
    reason: str
    cause: str
    clean: bool = False
    reply: bytes = b""


class WebSocketConnection(asyncio.Protocol):
    """See the module. `requested` starts it."""

    __slots__ = (
        "_address",
        "_control_frames",
        "_farewell",
        "_handshake",
        "_last_message",
        "_last_seen",
        "_listener",
        "_opened",
        "_outbox",
        "_paused",
        "_peer_eof",
        "_pinged",
        "_rates",
        "_reader",
        "_reception",
        "_route",
        "_state",
        "_transport",
        "_window_bits",
        "due",
    )

    def __init__(self, reception: Reception) -> None:
        self._reception = reception
        self._state = _CONNECTING
        self._listener: ConnectionListener | None = None
        self._handshake: Handshake | None = None
        self._reader: FrameReader | None = None
        self._farewell: Farewell | None = None
        self._rates: Rates | None = None
        self._address = ""
        self._window_bits = 0
        self._control_frames = False
        self._opened = False
        self._paused = False
        self._peer_eof = False
        self._last_seen = self._last_message = reception.care.now
        self._pinged = 0
        self.due = 0
        self._transport: asyncio.Transport
        self._outbox: Outbox
        self._route: RouteHandle | None = None

    # Handshake

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        # Without a buffer of its own the transport tells us at once when the socket does not take all.
        transport.set_write_buffer_limits(high=0)
        self._outbox = Outbox(transport, self._reception.flusher)
        self._reception.connections += 1

    def requested(self, head: RequestHead) -> None:
        """The client asks for a WebSocket: refuse it here, or take it to the sessions."""
        reception = self._reception
        outcome = admit(reception, head)
        if isinstance(outcome, Refusal):
            self._refuse(outcome.status, outcome.headers, outcome.text.encode())
            return
        self._handshake = outcome
        self._route = outcome.route
        self._address = outcome.address
        due_ms = head.began_ms + int(outcome.route.settings.timeouts.handshake_s * 1000)
        outcome.alarm = reception.wheel.at(due_ms, self._handshake_late)
        listener = reception.door.open(self, outcome.route, outcome.request, "websocket")
        self._listener = listener
        if self._state is _LINGERING:  # refused before the door had even closed behind it
            self._end()

    def accept(self, subprotocol: str | None, headers: Headers, *, control_frames: bool = False) -> None:
        handshake = self._answer()
        if handshake is None:
            return
        self._outbox.put(write_acceptance(handshake.negotiated, subprotocol, headers))
        self._window_bits = handshake.negotiated.window_bits
        self._reader = FrameReader(compression=self._window_bits > 0)
        self._control_frames = control_frames
        self._state = _OPEN
        self._opened = True
        meters = handshake.route.meters
        meters.connections.value += 1
        meters.connections_opened.value += 1
        self._last_seen = self._last_message = self._reception.care.now
        self._reception.care.see(self, first_look(handshake.route.settings.timeouts))
        if handshake.early:
            # Not from inside the session's own call, but before anything that is read from now on.
            self._transport.pause_reading()
            self._reception.loop.call_soon(self._hear_early, bytes(handshake.early))

    def _hear_early(self, data: bytes) -> None:
        if not self._paused and not self._transport.is_closing():
            self._transport.resume_reading()
        self.data_received(data)

    def reject(self, status: int, headers: Headers, body: bytes) -> None:
        handshake = self._answer()
        if handshake is not None:
            count_refusal(handshake.route.meters, "backend")
            self._refuse(status, headers, body)

    def _answer(self) -> Handshake | None:
        """The handshake, if it still waits for its answer; it does so no longer."""
        handshake, self._handshake = self._handshake, None
        if handshake is not None and handshake.alarm is not None:
            handshake.alarm.cancel()
        return handshake

    def _refuse(self, status: int, headers: Headers, body: bytes, cause: str = "backend") -> None:
        self._farewell = Farewell(1006, f"handshake refused with {status}", cause)
        self._outbox.put(write_refusal(status, headers, body))
        self._linger()

    def _handshake_late(self) -> None:
        handshake = self._answer()
        if handshake is not None:
            count_refusal(handshake.route.meters, "handshake_s", "handshake_s")
            self._refuse(504, [], b"The backend has not answered in time.\n", "limit")

    # Hearing

    def data_received(self, data: bytes) -> None:
        self._last_seen = self._reception.care.now
        reader, route = self._reader, self._route
        if reader is None or route is None:
            self._unheard(data)
            return
        limits = route.settings.limits
        heard = reader.feed(data, limits)
        if limits.messages_per_s or limits.bytes_per_s:
            heard = self._within_rates(heard, limits)
        for item in heard:
            kind = type(item)
            if kind is str or kind is bytes:
                if self._state is _OPEN and self._listener is not None:
                    self._last_message = self._last_seen
                    meters = route.meters
                    meters.messages_in.value += 1
                    meters.bytes_in.value += _size(item)  # type: ignore[arg-type]
                    self._listener.received(item)  # type: ignore[arg-type]
            else:
                self._hear(item)

    def _hear(self, item: Heard) -> None:
        """Everything but messages."""
        match item:
            case Pinged(payload):
                if self._state is _OPEN and self._control_frames and self._listener is not None:
                    self._listener.pinged(payload)
                elif self._state is _OPEN:
                    self._put(encode_pong(payload))
            case Ponged(payload):
                told = self._state is _OPEN and self._control_frames and payload != OWN_PING
                if told and self._listener is not None:
                    self._listener.ponged(payload)
            case Goodbye(code, reason):
                if self._state is _CLOSING:
                    assert self._farewell is not None
                    self._farewell.clean = True
                    self._linger()
                else:
                    self._part(Farewell(code, reason, "client", True, encode_close(code, reason)))
            case Violation(code, reason, limit):
                if limit:
                    self._count_limit(limit)
                if self._state is _CLOSING:
                    self._linger()
                else:
                    cause = "limit" if limit else "client"
                    self._part(Farewell(code, reason, cause, False, encode_close(code, reason)))

    def _within_rates(self, heard: list[Heard], limits: LimitSettings) -> list[Heard]:
        """As much of `heard` as the rates allow, and a violation in place of the rest."""
        now = self._reception.clock.monotonic_ms()
        if self._rates is None:
            self._rates = Rates(now)
        for index, item in enumerate(heard):
            if self._control_frames and isinstance(item, Pinged | Ponged):
                payload: str | bytes = item.payload  # costs its backend as much as a message
            elif isinstance(item, str | bytes):
                payload = item
            else:
                continue
            limit = self._rates.exceeded(_size(payload), now, limits)
            if limit:
                return [*heard[:index], Violation(1008, RATE_REASONS[limit], limit)]
        return heard

    def _unheard(self, data: bytes) -> None:
        """Bytes outside of a conversation: too early, or too late."""
        if self._handshake is not None:
            self._handshake.early += data
            if len(self._handshake.early) > EARLY_BYTES:
                self._answer()
                self._refuse(400, [], b"Wait for the handshake's answer.\n", "client")

    def eof_received(self) -> bool:
        self._peer_eof = True
        self._outbox.flush()
        # A client that said goodbye may shut its half at once; ours stays open until it has its last answers.
        return self._state is _PARTING and self._transport.can_write_eof()

    def pause_reading(self) -> None:
        if not self._paused and self._state is _OPEN:
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            # Its pongs may be waiting among what we did not read.
            self._last_seen = self._reception.care.now
            self._transport.resume_reading()

    # Sending

    def send(self, frame: Frame, *, owed: bool = False) -> None:
        if self._state is not _OPEN and self._state is not _PARTING:
            return
        if self._window_bits:
            wire = self._deflated(frame)
        else:
            wire = frame.wire  # type: ignore[assignment]
            if wire is None:
                wire = frame.wire = encode_message(frame.payload)
                frame.size = payload_bytes(wire)
        route = self._route
        assert route is not None
        self._last_message = self._reception.care.now
        meters = route.meters
        meters.messages_out.value += 1
        meters.bytes_out.value += frame.size or payload_bytes(wire)
        outbox = self._outbox
        outbox.put(wire)
        if outbox.congested and not owed:
            self._check_backlog()

    def _deflated(self, frame: Frame) -> bytes:
        if self._window_bits < 15:  # a client with little memory: compressed for it alone
            return deflate_message(frame.payload, self._window_bits)
        if frame.deflated is None:
            frame.deflated = deflate_message(frame.payload)
        return frame.deflated

    def ping(self, payload: bytes) -> None:
        if self._state is _OPEN or self._state is _PARTING:
            self._put(encode_ping(payload))

    def pong(self, payload: bytes) -> None:
        if self._state is _OPEN or self._state is _PARTING:
            self._put(encode_pong(payload))

    def _put(self, wire: bytes) -> None:
        """A control frame; a client cannot make us hoard pongs either."""
        self._outbox.put(wire)
        if self._outbox.congested:
            self._check_backlog()

    def _check_backlog(self) -> None:
        """Slow is who has not taken what was written before. What one loop tick brings to a client that has taken
        everything so far (one large message, the answers to a batch of its own) may pass, however much it is."""
        assert self._route is not None
        limit = self._route.settings.limits.outbox_bytes
        if self._outbox.size() > limit > 0:
            self._count_limit("outbox_bytes")
            self._close(Farewell(1008, "slow consumer", "slow"))

    def pause_writing(self) -> None:
        self._outbox.congested = True
        if self._listener is not None:
            self._listener.congested(True)

    def resume_writing(self) -> None:
        self._outbox.congested = False
        if self._listener is not None:
            self._listener.congested(False)

    def flush(self) -> None:
        self._outbox.flush()

    # Farewell

    def close(self, code: int, reason: str) -> None:
        if self._state is _CONNECTING:
            if self._answer() is not None:
                self._refuse(503, [("Retry-After", "1")], reason.encode())
        elif self._state is _OPEN:
            self._close(Farewell(code, reason, "backend"))
        elif self._state is _PARTING:
            assert self._farewell is not None
            self._farewell.reply = encode_close(code, reason)
            self.finish()

    def finish(self) -> None:
        if self._state is _PARTING:
            assert self._farewell is not None
            self._outbox.put(self._farewell.reply)
            self._linger()

    def drop(self) -> None:
        if self._state is _LINGERING:
            return
        if self._state is _CONNECTING and self._answer() is None:
            return
        if self._farewell is None:
            self._farewell = Farewell(1006, "dropped", "backend")
        self._linger()

    def _close(self, farewell: Farewell) -> None:
        """Our goodbye comes first; the client's is waited for."""
        self._farewell = farewell
        self._state = _CLOSING
        self._outbox.put(encode_close(farewell.code, farewell.reason))
        self.resume_reading()
        self._see_in_close_s()

    def _part(self, farewell: Farewell) -> None:
        """The client's goodbye, or its mistake, comes first: whatever it is owed may still leave."""
        self._farewell = farewell
        self._state = _PARTING
        self._reader = None
        self._see_in_close_s()
        if self._listener is not None:
            self._listener.closing(farewell.code, farewell.reason)

    def _linger(self) -> None:
        """All is said: shut our half, and read away what the client still sends."""
        self._state = _LINGERING
        self._reader = None
        self._outbox.flush()
        self.resume_reading()
        self._see_in_close_s()
        if self._peer_eof or not self._transport.can_write_eof():
            self._transport.close()
        elif not self._transport.is_closing():
            self._transport.write_eof()
        self._end()

    def _see_in_close_s(self) -> None:
        self._reception.care.see(self, self._route.settings.timeouts.close_s if self._route else 5.0)

    def _end(self) -> None:
        """Tell the listener, once; count the end of what was once open."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        farewell = self._farewell or Farewell(1006, "", "client")
        if self._opened:
            assert self._route is not None
            self._route.meters.connections.value -= 1
        listener.ended(farewell.code, farewell.reason, clean=farewell.clean, cause=farewell.cause)

    def connection_lost(self, exc: Exception | None) -> None:
        reception = self._reception
        reception.connections -= 1
        reception.care.leave(self)
        self._answer()
        self._end()
        if self._route is not None:
            self._route.addresses.leave(self._address)
        self._reader = None
        self._state = _LINGERING

    # Care

    def look(self, now: int) -> int:
        """Called by `Care` when its second has come."""
        if self._state is _OPEN:
            return self._look_open(now)
        if self._state is _PARTING:
            self.finish()
        elif self._state is _CLOSING:
            # Its half did not come. What we sent may still leave, but not for ever.
            self._linger()
        else:
            self._transport.abort()
        return 0

    def _look_open(self, now: int) -> int:
        assert self._route is not None
        timeouts = self._route.settings.timeouts
        step, look_at = judge(now, self._last_seen, self._last_message, self._pinged, self._paused, timeouts)
        match step:
            case Step.PING:
                self._pinged = now
                self._put(encode_ping(OWN_PING if self._control_frames else b""))
            case Step.IDLE:
                self._count_limit("idle_s")
                self._close(Farewell(1000, "idle", "idle"))
            case Step.DEAD:
                self._count_limit("pong_s")
                self._farewell = Farewell(1006, "ping timeout", "client")
                self._transport.abort()
        return look_at if self._state is _OPEN else 0

    def _count_limit(self, limit: str) -> None:
        assert self._route is not None
        self._route.meters.limits_hit[limit].value += 1


def _size(payload: str | bytes) -> int:
    """Bytes of a message. `isascii` is a flag, so that most text need not be encoded to be measured."""
    if isinstance(payload, bytes) or payload.isascii():
        return len(payload)
    return len(payload.encode())
