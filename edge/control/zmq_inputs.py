"""ZeroMQ inputs for items, as Pushpin has them: a PULL socket (one part: the item), and a SUB socket (two: channel,
item). For publishers that speak nothing else; the control port does the same, and answers.

One worker binds for all of them: what it takes goes to every edge by way of Redis. The SUB socket subscribes to
everything, because it speaks for all workers and edges, and what those want is known to none of them alone. What comes
in waits in ZeroMQ's own bounded queue while a batch is on its way to Redis, and then in the publisher's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge.clock import Clock
from edge.config import GripSettings
from edge.errors import HoldfastError, StartError, WireError
from edge.protocol.grip.items import Item
from edge.protocol.grip.zmq import parse_payload
from edge.sessions.grip.publisher import ItemPublisher
from edge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    import zmq.asyncio

_log = logging.getLogger("holdfast.zmq")

WAITING = 1_000
"""Messages that wait in the queue of each publisher's connection; past it they wait at the publisher, or a PUB socket
drops them there."""
BATCH = 500
"""Messages in one batch to Redis."""
TELL_MS = 1_000
"""Messages that are no items are told in the log at most this often."""


class ZmqInputs:
    """The sockets that `settings` name. Raises StartError when there are any and pyzmq is not installed."""

    def __init__(self, settings: GripSettings, publisher: ItemPublisher, metrics: Metrics, clock: Clock) -> None:
        self._settings = settings
        self._publisher = publisher
        self._malformed = metrics.process.items_dropped["malformed"]
        self._clock = clock
        self._context: zmq.asyncio.Context | None = None
        self._sockets: list[zmq.asyncio.Socket] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._told_ms = -TELL_MS
        self._untold = 0
        if settings.zmq_pull or settings.zmq_sub:
            _require_zmq()

    def start(self) -> None:
        """Bind. Raises StartError when an address cannot be had."""
        settings = self._settings
        if not settings.zmq_pull and not settings.zmq_sub:
            return
        import zmq
        import zmq.asyncio

        self._context = zmq.asyncio.Context()
        for key, kind, address in (("zmq_pull", zmq.PULL, settings.zmq_pull), ("zmq_sub", zmq.SUB, settings.zmq_sub)):
            if not address:
                continue
            socket = self._context.socket(kind)
            self._sockets.append(socket)
            socket.setsockopt(zmq.RCVHWM, WAITING)
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.IPV6, 1)
            socket.setsockopt(zmq.MAXMSGSIZE, settings.publish_bytes)
            if kind == zmq.SUB:
                socket.setsockopt(zmq.SUBSCRIBE, b"")
            try:
                socket.bind(address)
            except zmq.ZMQError as error:
                self._close()
                raise StartError(f"grip.{key} = {address!r} cannot be listened on: {error.strerror}") from None
            parts = 2 if kind == zmq.SUB else 1
            self._tasks.append(asyncio.get_running_loop().create_task(self._serve(socket, key, parts)))
            _log.info("items are taken from ZeroMQ on %s (grip.%s)", address, key)

    async def stop(self) -> None:
        """Take nothing more. What was taken is published."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._close()

    def _close(self) -> None:
        for socket in self._sockets:
            socket.close(linger=0)
        self._sockets.clear()
        if self._context is not None:
            self._context.term()
            self._context = None

    async def _serve(self, socket: zmq.asyncio.Socket, key: str, parts: int) -> None:
        while True:
            messages = [await socket.recv_multipart()]
            messages += await _more(socket)
            items = [item for message in messages for item in self._items(message, key, parts)]
            # A batch that was taken is seen through, also by `stop`.
            publishing = asyncio.ensure_future(self._publish(items))
            try:
                await asyncio.shield(publishing)
            except asyncio.CancelledError:
                await publishing
                raise

    def _items(self, message: Sequence[bytes], key: str, parts: int) -> Sequence[Item]:
        """The items of one message; none when it has something wrong, and the log says what."""
        try:
            return _parse(message, parts)
        except WireError as error:
            self._malformed.value += 1
            self._tell(key, error)
        except Exception:
            # A bug of ours in reading one message must not cost everybody their input.
            self._malformed.value += 1
            _log.exception("a message on grip.%s could not be read", key)
        return ()

    def _tell(self, key: str, error: WireError) -> None:
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._told_ms < TELL_MS:
            self._untold += 1
            return
        more = f" ({self._untold} more were left out before it)" if self._untold else ""
        self._told_ms, self._untold = now_ms, 0
        _log.warning("a message on grip.%s is no item and was left out: %s%s", key, error, more)

    async def _publish(self, items: Sequence[Item]) -> None:
        try:
            await self._publisher.publish(items)
        except HoldfastError as error:
            _log.error("items from ZeroMQ are lost: %s", error)
        except Exception:
            _log.exception("items from ZeroMQ are lost")


async def _more(socket: zmq.asyncio.Socket) -> list[list[bytes]]:
    """What else is there already."""
    import zmq

    found: list[list[bytes]] = []
    while len(found) < BATCH - 1:
        try:
            found.append(await socket.recv_multipart(zmq.NOBLOCK))
        except zmq.Again:
            break
    return found


def _parse(message: Sequence[bytes], parts: int) -> Sequence[Item]:
    if len(message) != parts:
        raise WireError(f"it has {len(message)} parts instead of {parts}")
    if parts == 1:
        return parse_payload(message[0])
    return parse_payload(message[1], _channel(message[0]))


def _channel(part: bytes) -> str:
    try:
        channel = part.decode()
    except UnicodeDecodeError:
        raise WireError("its channel is not UTF-8") from None
    if not channel:
        raise WireError("its channel is empty")
    return channel


def _require_zmq() -> None:
    try:
        import zmq.asyncio  # noqa: F401
    except ModuleNotFoundError:
        raise StartError("grip.zmq_pull and grip.zmq_sub need pyzmq: pip install 'holdfast[zmq]'") from None
