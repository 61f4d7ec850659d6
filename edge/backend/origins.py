"""All backends of GRIP routes in this process: finds the origin of a target, and closes those nobody uses.

Implements `edge.backend.origin_base.Origins`. An origin belongs to one route and one way to reach one URL, so that a
reload that changes a target's settings makes a new one; the old one's connections close as they fall idle.
"""

from __future__ import annotations

import logging
from asyncio import AbstractEventLoop
from collections.abc import Callable
from weakref import WeakSet

from edge.backend.built_in import BuiltInDialer
from edge.backend.dialer import Dialer, Target
from edge.backend.origin import AskConnection, BackendOrigin, Dials, OriginContext
from edge.backend.tls import Tls, TlsContexts, server_name
from edge.clock import Clock
from edge.config import RouteSettings, TargetSettings
from edge.config.groups import TEST_BACKEND
from edge.errors import BackendError, ConfigError
from edge.telemetry.metrics import Metrics
from edge.wheel import Alarm, Wheel

_log = logging.getLogger("holdfast.backend")

UNUSED_MS = 60_000
"""An origin that nobody asked for this long is forgotten. (Whoever still has it can use it all the same.)"""
KNOWN_MOST = 1_024
"""Pairs of route and target objects whose origin is remembered without comparing them."""

Key = tuple[str, str, str, bool, str, str]


class NoDialer:
    """Stands in for a dialer where the target's settings lead nowhere."""

    __slots__ = ("_phrase",)

    def __init__(self, phrase: str) -> None:
        self._phrase = phrase

    async def dial(self, make: Callable[[], AskConnection], connect_s: float) -> AskConnection:
        raise BackendError(self._phrase)


class BackendOrigins:
    """All calls happen on the loop's thread."""

    def __init__(self, clock: Clock, wheel: Wheel, metrics: Metrics, loop: AbstractEventLoop) -> None:
        self._context = OriginContext(clock, wheel, loop, metrics)
        self._origins: dict[Key, BackendOrigin] = {}
        self._known: dict[tuple[int, int], tuple[RouteSettings, TargetSettings, BackendOrigin]] = {}
        """By identity of the settings' objects, which are kept alive here."""
        self._all: WeakSet[BackendOrigin] = WeakSet()
        self._tls = TlsContexts()
        self._closed = False
        self._sweeper: Alarm = wheel.after(UNUSED_MS // 2, self._sweep)

    def of(self, route: RouteSettings, target: TargetSettings) -> BackendOrigin:
        """The origin at `target.url`, made when it is new. Never raises: where the settings are wrong, requests fail
        with what is wrong."""
        known = self._known.get((id(route), id(target)))
        return known[2] if known is not None else self._find(route, target)

    def __len__(self) -> int:
        """Origins that have been used lately."""
        return len(self._origins)

    def close(self) -> None:
        """Close all connections. What is under way fails with kind ``closed``, and so does what is asked later."""
        self._closed = True
        self._sweeper.cancel()
        for origin in list(self._all):
            origin.close()
        self._origins.clear()
        self._known.clear()

    def _find(self, route: RouteSettings, target: TargetSettings) -> BackendOrigin:
        name = target.host or route.grip.host
        how = "insecure" if target.insecure else "verified"
        key = (
            route.name,
            target.url,
            f"{how} {name}",
            target.trust_connect_host,
            target.client_cert,
            target.client_key,
        )
        origin = self._origins.get(key)
        if origin is None:
            origin = self._origins[key] = BackendOrigin(self._context, route, self._dialer(route, target))
            self._all.add(origin)
            if self._closed:
                origin.close()
        else:
            origin.update(route)
        if len(self._known) >= KNOWN_MOST:
            self._known.clear()
        self._known[id(route), id(target)] = (route, target, origin)
        return origin

    def _dialer(self, route: RouteSettings, target: TargetSettings) -> Dials:
        if target.url == TEST_BACKEND:
            return BuiltInDialer()
        try:
            where = Target.parse(target.url)
            tls = Tls(self._tls.of(target), server_name(route, target, where.host)) if where.tls else None
        except (BackendError, ConfigError) as error:
            _log.error("route %s: target %s: %s", route.name, target.url, error)
            return NoDialer(str(error))
        return Dialer(where, self._context.clock, tls)

    def _sweep(self) -> None:
        now = self._context.clock.monotonic_ms()
        for key, origin in list(self._origins.items()):
            if origin.quiet and now - origin.used_ms >= UNUSED_MS:
                origin.hang_up()
                del self._origins[key]
                self._known = {ids: found for ids, found in self._known.items() if found[2] is not origin}
        self._sweeper = self._context.wheel.after(UNUSED_MS // 2, self._sweep)
