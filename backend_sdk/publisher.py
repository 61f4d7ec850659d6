"""Speak to an edge from anywhere: publish, look at sessions, give them orders, with or without asyncio.

`AsyncPublisher` and its twin `Publisher` carry out `backend_sdk.calls` over HTTP and own what goes wrong on the way: a
call that may be repeated (all of them, for publications and actions get an idempotency key when they have none) is
tried again after a lost connection or a 503, with full-jitter backoff, honouring Retry-After up to 5 s.

Errors of all methods: `Unauthorized`, `BadCall`, `Unavailable` (after the last attempt), `ControlError`; and what the
method names. `ActionError` for bad arguments, before anything is sent.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from backend_sdk import actions, calls
from backend_sdk.actions import Action
from backend_sdk.calls import Call, ChannelInfo, HistoryPage, Published, SessionInfo
from backend_sdk.errors import SessionGone, Unavailable
from backend_sdk.events import Position

T = TypeVar("T")

_LONGEST_PAUSE_S = 5.0
# Nothing reached the edge, so even what must not happen twice may be tried again.
_NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class _Retry:
    """When to try again, and how long to wait before. `attempts` in all."""

    attempts: int
    backoff_s: float

    def pause_s(self, call: Call[Any], attempt: int, failure: httpx.Response | httpx.TransportError) -> float | None:
        """Seconds until the next attempt; None: there is none."""
        if attempt >= self.attempts:
            return None
        ceiling = min(self.backoff_s * 2.0 ** (attempt - 1), _LONGEST_PAUSE_S)
        if isinstance(failure, httpx.TransportError):
            if not call.repeatable and not isinstance(failure, _NOTHING_SENT):
                return None
        elif failure.status_code != 503 or not call.repeatable:
            return None
        else:
            asked = failure.headers.get("retry-after", "")
            if asked.isdigit():
                return min(float(asked), _LONGEST_PAUSE_S)
        return random.uniform(0.0, ceiling)  # noqa: S311 (spreads retries; nothing secret)

    def outcome(self, call: Call[T], attempt: int, last: httpx.Response | httpx.TransportError) -> T:
        """What the last attempt means. Raises `ControlError`."""
        if isinstance(last, httpx.TransportError):
            text = f"{call.method} {call.path}: {type(last).__name__}: {last} (attempt {attempt} of {self.attempts})"
            raise Unavailable(0, "no_answer", text) from last
        if last.is_success:
            return calls.read(call, last.status_code, last.content)
        error = calls.error(last.status_code, last.content)
        if call.ending and attempt > 1 and isinstance(error, SessionGone):
            return call.read({})  # the first attempt did it, and its answer was lost
        raise error


def _settings(control_url: str, token: str | None, timeout_s: float) -> dict[str, Any]:
    """Shared by both clients. Environment proxies are not for the control port."""
    headers = {"accept": "application/json", "content-type": "application/json"}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    return {"base_url": control_url, "headers": headers, "timeout": timeout_s, "trust_env": False}


class AsyncPublisher:
    """The control API for asyncio. Keeps connections open: make one, use it everywhere, close it (``async with``).

    control_url
        ``http://127.0.0.1:5561``; any edge of the deployment will do, they share everything.
    token
        One of the edge's `control_tokens`; None where the edge has none (loopback only).
    timeout_s
        For each attempt: connecting, sending, and each wait for more of the answer.
    attempts, backoff_s
        Tries in all; the pause before the n-th retry is random between 0 and ``backoff_s * 2**(n-1)``.
    transport
        An httpx transport, say for tests (`httpx.ASGITransport`) or a Unix socket.
    """

    def __init__(
        self,
        control_url: str,
        token: str | None = None,
        *,
        timeout_s: float = 5.0,
        attempts: int = 4,
        backoff_s: float = 0.1,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._retry = _Retry(attempts, backoff_s)
        self._client = httpx.AsyncClient(**_settings(control_url, token, timeout_s), transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def publish(
        self, channel: str, payload: str | bytes, *, id: str | None = None, sender: str | None = None
    ) -> Published:
        """Publish to all subscribers. `id` de-duplicates per channel for 24 h; `sender`: a session to leave out."""
        return await self._run(calls.publish(channel, payload, id, sender))

    async def channel(self, name: str) -> ChannelInfo:
        """How many are subscribed, and the newest position."""
        return await self._run(calls.channel(name))

    async def history(self, channel: str, since: Position | None = None, limit: int = 100) -> HistoryPage:
        """Publications after `since` (None: the newest), oldest first, at most `limit`."""
        return await self._run(calls.history(channel, since, limit))

    async def session(self, id: str) -> SessionInfo:
        """A session as it is now. Raises `SessionGone` or `NotFound`."""
        return await self._run(calls.session(id))

    async def sessions(self, *, user: str) -> list[SessionInfo]:
        """The user's sessions over all edges."""
        return await self._run(calls.sessions(user))

    async def close(self, session: str, code: int = 1000, reason: str = "") -> None:
        """Close a session's connection. Raises `SessionGone` or `NotFound`."""
        await self._run(calls.close(session, code, reason))

    async def act(
        self,
        session: str,
        orders: Sequence[Action],
        *,
        set: Mapping[str, Any] | None = None,
        unset: Sequence[str] = (),
        app: str | None = None,
    ) -> str:
        """Give orders (made by `backend_sdk.actions`) to a session and change its state, all or nothing. Returns the
        outcome: ``delivered``. Raises `SessionGone`, `NotConfirmed`, `StateError`. `actions.xmpp_connect` begins a link
        whose events go to the backend of `app`, which need not be said where the edge has one app only."""
        return await self._run(calls.act(session, orders, set or {}, unset, app))

    async def send(self, session: str, payload: str | bytes) -> None:
        """Send one message to a session's client. Raises as `act` does."""
        await self.act(session, [actions.send(payload)])

    async def _run(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            attempt += 1
            last: httpx.Response | httpx.TransportError
            try:
                last = await self._client.request(call.method, call.path, params=dict(call.params), content=call.body)
            except httpx.TransportError as failure:
                last = failure
            pause_s = self._retry.pause_s(call, attempt, last)
            if pause_s is None:
                return self._retry.outcome(call, attempt, last)
            await asyncio.sleep(pause_s)


class Publisher:
    """The control API for code without an event loop; `AsyncPublisher`'s twin in everything. Several threads may share
    one."""

    def __init__(
        self,
        control_url: str,
        token: str | None = None,
        *,
        timeout_s: float = 5.0,
        attempts: int = 4,
        backoff_s: float = 0.1,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._retry = _Retry(attempts, backoff_s)
        self._client = httpx.Client(**_settings(control_url, token, timeout_s), transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut()

    def shut(self) -> None:
        """Close the connections (`close` closes sessions)."""
        self._client.close()

    def publish(
        self, channel: str, payload: str | bytes, *, id: str | None = None, sender: str | None = None
    ) -> Published:
        """Publish to all subscribers. `id` de-duplicates per channel for 24 h; `sender`: a session to leave out."""
        return self._run(calls.publish(channel, payload, id, sender))

    def channel(self, name: str) -> ChannelInfo:
        """How many are subscribed, and the newest position."""
        return self._run(calls.channel(name))

    def history(self, channel: str, since: Position | None = None, limit: int = 100) -> HistoryPage:
        """Publications after `since` (None: the newest), oldest first, at most `limit`."""
        return self._run(calls.history(channel, since, limit))

    def session(self, id: str) -> SessionInfo:
        """A session as it is now. Raises `SessionGone` or `NotFound`."""
        return self._run(calls.session(id))

    def sessions(self, *, user: str) -> list[SessionInfo]:
        """The user's sessions over all edges."""
        return self._run(calls.sessions(user))

    def close(self, session: str, code: int = 1000, reason: str = "") -> None:
        """Close a session's connection. Raises `SessionGone` or `NotFound`."""
        self._run(calls.close(session, code, reason))

    def act(
        self,
        session: str,
        orders: Sequence[Action],
        *,
        set: Mapping[str, Any] | None = None,
        unset: Sequence[str] = (),
        app: str | None = None,
    ) -> str:
        """Give orders (made by `backend_sdk.actions`) to a session and change its state, all or nothing. Returns the
        outcome: ``delivered``. Raises `SessionGone`, `NotConfirmed`, `StateError`. `actions.xmpp_connect` begins a link
        whose events go to the backend of `app`, which need not be said where the edge has one app only."""
        return self._run(calls.act(session, orders, set or {}, unset, app))

    def send(self, session: str, payload: str | bytes) -> None:
        """Send one message to a session's client. Raises as `act` does."""
        self.act(session, [actions.send(payload)])

    def _run(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            attempt += 1
            last: httpx.Response | httpx.TransportError
            try:
                last = self._client.request(call.method, call.path, params=dict(call.params), content=call.body)
            except httpx.TransportError as failure:
                last = failure
            pause_s = self._retry.pause_s(call, attempt, last)
            if pause_s is None:
                return self._retry.outcome(call, attempt, last)
            time.sleep(pause_s)
