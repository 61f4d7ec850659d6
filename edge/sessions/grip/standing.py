"""What a backend has ordered for one connection and what stays in force: subscriptions, subscription meta, a
keep-alive, a message to be sent later. Made with the first order: connections without any carry none of it.
"""

from __future__ import annotations

import logging
from asyncio import Future
from typing import TYPE_CHECKING, Protocol

from edge.protocol.grip.control import (
    Control,
    FlushDelayed,
    SendDelayed,
    SetMeta,
    SocketKeepAlive,
    Subscribe,
    Unsubscribe,
)
from edge.protocol.grip.items import FrameKind
from edge.sessions.grip.ports import Member
from edge.sessions.routes import RouteHandle
from edge.wheel import Alarm

if TYPE_CHECKING:
    from edge.sessions.grip.services import GripServices

_log = logging.getLogger("holdfast.grip")

JITTER_MS = 1_000
"""Keep-alives come up to this much earlier, so that connections made together do not stay together."""
FILTERS_MOST = 5
"""Of one subscription; more end the connection, as behind Pushpin."""
KEEP_ALIVE_S, DELAY_S = 55.0, 1.0
"""What a timeout of 0 stands for, as in Pushpin."""


class Shower(Member, Protocol):
    """The connection the orders are for."""

    def show(self, kind: FrameKind, content: str | bytes) -> None:
        """Send a frame to the client."""
        ...

    def dismiss(self, code: int, reason: str) -> None:
        """End the connection; its backend hears of it."""
        ...


class Standing:
    """Orders in force for one connection."""

    __slots__ = (
        "_client", "_delayed", "_delayed_alarm", "_handle", "_implicit", "_keep", "_keep_alarm", "_limit_told",
        "_sent_ms", "_services", "_shower", "channels", "meta",
    )  # fmt: skip

    def __init__(self, services: GripServices, handle: RouteHandle, shower: Shower, client: str) -> None:
        """`client`: its address, for people."""
        self._services = services
        self._handle = handle
        self._shower = shower
        self._client = client
        self.channels: dict[str, None] = {}
        """Full names."""
        self.meta: dict[str, str] = {}
        self._implicit: frozenset[str] = frozenset()
        self._limit_told = False
        self._keep: SocketKeepAlive | None = None
        self._keep_alarm: Alarm | None = None
        self._sent_ms = 0
        self._delayed: SendDelayed | None = None
        self._delayed_alarm: Alarm | None = None

    def subscribe_implicitly(self, channels: frozenset[str]) -> list[Future[None]]:
        """Channels of the target: without the route's prefix, and for as long as the connection lives."""
        self._implicit = channels
        self.channels = dict.fromkeys(channels)
        joins = [self._services.channels.join(self._shower, channel, ()) for channel in channels]
        return [join for join in joins if join is not None]

    def obey(self, order: Control) -> Future[None] | None:
        """Carry out an order (all but detach). A future: what is behind it has to wait until it ends."""
        match order:
            case Subscribe():
                return self._subscribe(order)
            case Unsubscribe(channel):
                self._unsubscribe(self._handle.settings.grip.prefix + channel)
            case SetMeta(name, None):
                self.meta.pop(name, None)
            case SetMeta(name, str() as value):
                self.meta[name] = value
            case SocketKeepAlive():
                self._keep_alive(order)
            case SendDelayed():
                self._send_later(order)
            case FlushDelayed():
                self.flush()
        return None

    def _subscribe(self, order: Subscribe) -> Future[None] | None:
        settings = self._handle.settings
        channel = settings.grip.prefix + order.channel
        most = settings.limits.subscriptions
        if channel not in self.channels and len(self.channels) >= most > 0:
            self._handle.meters.limits_hit["subscriptions"].value += 1
            if not self._limit_told:
                self._limit_told = True
                _log.warning(
                    "route %s, client %s: its backend subscribes it to more than limits.subscriptions = %d channels; "
                    "%r and those after it are ignored",
                    self._handle.name, self._client, most, order.channel,
                )  # fmt: skip
            return None
        if len(order.filters) > FILTERS_MOST:
            self._shower.dismiss(1011, f"too many filters for channel '{order.channel}'")
            return None
        self.channels[channel] = None
        return self._services.channels.join(self._shower, channel, order.filters)

    def _unsubscribe(self, channel: str) -> None:
        if channel in self.channels and channel not in self._implicit:
            del self.channels[channel]
            self._services.channels.leave(self._shower, channel)

    # Keep-alive.

    def sent(self) -> None:
        """Something was sent to the client: it is not idle. The alarm stays where it is, and looks when it rings."""
        if self._keep is not None:
            self._sent_ms = self._services.clock.monotonic_ms()

    def _keep_alive(self, order: SocketKeepAlive) -> None:
        if self._keep_alarm is not None:
            self._keep_alarm.cancel()
            self._keep_alarm = None
        self._keep = order if order.content is not None else None
        if self._keep is not None:
            self._sent_ms = self._services.clock.monotonic_ms()
            self._arm_keep_alive(order)

    def _arm_keep_alive(self, order: SocketKeepAlive) -> None:
        timeout_s = max(order.timeout_s or KEEP_ALIVE_S, 1.0)
        pause_ms = max(1, int(timeout_s * 1_000) - int(self._services.random() * JITTER_MS))
        self._keep_alarm = self._services.wheel.at(self._sent_ms + pause_ms, lambda: self._keep_alive_due(pause_ms))

    def _keep_alive_due(self, pause_ms: int) -> None:
        self._keep_alarm = None
        order = self._keep
        if order is None or order.content is None:
            return
        now = self._services.clock.monotonic_ms()
        if order.mode == "interval" or now - self._sent_ms >= pause_ms:
            self._shower.show(order.kind, order.content)
            self._sent_ms = now
        self._arm_keep_alive(order)

    # Delayed messages.

    def _send_later(self, order: SendDelayed) -> None:
        self.flush()
        self._delayed = order
        self._delayed_alarm = self._services.wheel.after(int((order.timeout_s or DELAY_S) * 1_000), self.flush)

    def flush(self) -> None:
        """Send now what was to be sent later."""
        order, self._delayed = self._delayed, None
        if order is not None:
            assert self._delayed_alarm is not None
            self._delayed_alarm.cancel()
            self._delayed_alarm = None
            self._shower.show(order.kind, order.content)

    def end(self) -> None:
        """There is nobody left to get anything."""
        for channel in self.channels:
            self._services.channels.leave(self._shower, channel)
        self.channels.clear()
        for alarm in (self._keep_alarm, self._delayed_alarm):
            if alarm is not None:
                alarm.cancel()
        self._keep = self._delayed = None
