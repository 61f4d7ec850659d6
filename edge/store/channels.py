"""Channels: publishing, history, and the form of a publication on the bus.

A publication is stored and sent as ``<offset> <epoch> <wall ms> <kind><sender> <payload>``; the server
writes the first
three, kind is ``t`` (text) or ``b`` (bytes). Splitting it costs one call, whatever the payload.
"""

from __future__ import annotations

import secrets
from asyncio import Future
from itertools import count
from urllib.parse import quote, unquote

from edge.errors import StoreRefused
from edge.store.base import (
    NO_POSITION,
    HistoryPage,
    HistoryPolicy,
    Position,
    Publication,
    Published,
)
from edge.store.keys import Keys
from edge.store.router import Router
from edge.store.scripts import HISTORY, PUBLISH
from edge.store.wire import Reply


class Channels:
    """`ChannelStore` without the subscriptions, over a router."""

    def __init__(self, router: Router, keys: Keys) -> None:
        self._router = router
        self._keys = keys
        self._seed = secrets.token_urlsafe(3)
        self._boot = secrets.token_urlsafe(6)
        self._numbers = count()
        # Any repeat of ours leaves within the deadline; twice that leaves room for a clock that is not ours.
        self._repeat_ms = int(router.wait_s * 2_000)
        self._sharded = int(router.address.kind == "cluster")

    def publish(
        self,
        channel: str,
        payload: str | bytes,
        policy: HistoryPolicy,
        sender: str | None,
        id: str | None,
        id_ttl_ms: int,
    ) -> Future[Published]:
        keys = self._keys
        try:
            body = encode(payload, sender)
        except UnicodeEncodeError as error:
            return self._router.refused(StoreRefused(f"publish: {error}"))
        if id is None:
            # A publication that nobody named gets a name for as long as we may have to send it again.
            id, id_ttl_ms = f"~{self._boot}{next(self._numbers):x}", 0
        names = (keys.channel(channel), keys.history(channel), keys.publication(channel, id))
        ttl_ms = max(id_ttl_ms, self._repeat_ms)
        args = (self._sharded, keys.bus(channel), body, policy.count, policy.age_ms, self._seed, ttl_ms)
        return self._router.call(PUBLISH, names, args, _published, repeatable=True)

    def history(self, channel: str, since: Position | None, limit: int) -> Future[HistoryPage]:
        names = (self._keys.channel(channel), self._keys.history(channel))
        args = (limit, -1, "") if since is None else (limit, since.offset, since.epoch)

        def page(reply: Reply) -> HistoryPage:
            found = tuple(decode(channel, message) for message in reply[3:])
            return HistoryPage(found, reply[0] == 1, _position(reply[1], reply[2]))

        return self._router.call(HISTORY, names, args, page, repeatable=True)

    def position(self, channel: str) -> Future[Position]:
        key = self._keys.channel(channel)
        return self._router.send(
            ("HMGET", key, "offset", "epoch"),
            key,
            lambda reply: _position(int(reply[0] or 0), reply[1] or b""),
            repeatable=True,
        )


def encode(payload: str | bytes, sender: str | None) -> bytes:
    """The part of a publication that the publisher writes. Raises UnicodeEncodeError for lone surrogates."""
    kind, data = ("t", payload.encode()) if isinstance(payload, str) else ("b", payload)
    if sender is None:
        return f"{kind} ".encode() + data
    return f"{kind}{quote(sender, safe=':')} ".encode() + data


def decode(channel: str, message: bytes) -> Publication:
    """A whole message. Raises ValueError for anything else."""
    offset, epoch, at, head, payload = message.split(b" ", 4)
    sender = unquote(head[1:].decode()) if len(head) > 1 else None
    position = Position(int(offset), epoch.decode()) if epoch else NO_POSITION
    return Publication(channel, payload.decode() if head[:1] == b"t" else payload, position, sender, int(at))


def _position(offset: int, epoch: bytes) -> Position:
    return Position(offset, epoch.decode()) if offset else NO_POSITION


def _published(reply: Reply) -> Published:
    return Published(_position(reply[0], reply[1]), bool(reply[2]))
