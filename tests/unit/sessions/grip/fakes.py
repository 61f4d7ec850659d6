"""Recording stand-ins for what a hold touches: its client, its backends, its channels. Time moves when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from edge.backend.origin_base import AnswerHead, AnswerListener, Asker, Origin, Unanswered, Upstream
from edge.clock import ManualClock
from edge.config import GripRouteSettings, RouteSettings, TargetSettings
from edge.protocol.callbacks.events import ClientRequest, Headers
from edge.protocol.grip.items import Item, ResponseFormat, StreamFormat
from edge.sessions.grip.exchange import Exchange
from edge.sessions.grip.ports import Delivery, Member
from edge.sessions.grip.services import GripServices, HeldClients
from edge.sessions.releases import Releases
from edge.sessions.routes import RouteHandle
from edge.telemetry.metrics import Metrics
from edge.wheel import Wheel

REFUSED = Unanswered("connect", "connection refused", sent=False)
RESET = Unanswered("reset", "connection reset", sent=True)


class Client:
    """A `ClientExchange` that keeps what it was told. `status` 0: nothing yet."""

    def __init__(self) -> None:
        self.status = 0
        self.reason = ""
        self.headers: Headers = ()
        self.length: int | None = None
        self.body = b""
        self.ended = False
        self.aborted = False
        self.paused = False
        self.trailers: Headers = ()

    def answer(self, status: int, reason: str, headers: Headers, body: bytes) -> None:
        if not self.ended:
            self.begin(status, reason, headers, len(body))
            self.write(body)
            self.end()

    def begin(self, status: int, reason: str, headers: Headers, length: int | None) -> None:
        assert not self.status, "a second head"
        self.status, self.reason, self.headers, self.length = status, reason, headers, length

    def write(self, data: bytes) -> None:
        assert self.status
        if not self.ended:
            self.body += data

    def end(self, trailers: Headers = ()) -> None:
        self.ended = True
        self.trailers = trailers

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def take(self) -> bytes:
        """The body since the last call."""
        body, self.body = self.body, b""
        return body


class Request(Upstream):
    """One request a backend got; a test answers it."""

    def __init__(self, url: str, head: bytes, listener: AnswerListener) -> None:
        self.url = url
        first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        self.method, self.target, _ = first.split(" ")
        self.fields = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
        self.listener = listener
        self.body = b""
        self.complete_ = False
        self.paused = False
        self.cancelled = False

    def field(self, name: str) -> str | None:
        values = [value for key, value in self.fields if key == name]
        return ", ".join(values) if values else None

    def answer(self, *headers: tuple[str, str], body: bytes = b"", status: int = 200) -> None:
        self.begin(*headers, status=status, length=len(body))
        if body and not self.cancelled:
            self.listener.body(body)
        if not self.cancelled:
            self.listener.ended([])

    def begin(self, *headers: tuple[str, str], status: int = 200, length: int | None = None) -> None:
        raw = [(name.encode(), value.encode()) for name, value in headers]
        self.listener.began(AnswerHead(status, "Sure", raw, length))

    def send(self, data: bytes) -> None:
        self.body += data

    def complete(self) -> None:
        self.complete_ = True

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def cancel(self) -> None:
        self.cancelled = True


class Backends(Origin):
    """All origins at once."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._url = ""

    def of(self, route: RouteSettings, target: TargetSettings) -> Origin:
        self._url = target.url
        return self

    def ask(self, request: bytes, asker: Asker, timeout_s: float) -> None:
        raise NotImplementedError

    def forget(self, asker: Asker) -> None:
        raise NotImplementedError

    def stream(self, head: bytes, listener: AnswerListener, silence_s: float) -> Upstream:
        request = Request(self._url, head, listener)
        self.requests.append(request)
        return request

    def close(self) -> None: ...

    @property
    def last(self) -> Request:
        return self.requests[-1]


@dataclass
class Hub:
    """`Channels`: who is in which, and the newest ids as a test sets them."""

    members: dict[str, dict[Member, Sequence[str]]] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    confirmed: asyncio.Future[None] | None = None

    def join(self, member: Member, channel: str, filters: Sequence[str]) -> asyncio.Future[None] | None:
        self.members.setdefault(channel, {})[member] = filters
        return self.confirmed

    def leave(self, member: Member, channel: str) -> None:
        del self.members[channel][member]
        if not self.members[channel]:
            del self.members[channel]

    def last_id(self, channel: str) -> asyncio.Future[str | None]:
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        answer.set_result(self.ids.get(channel))
        return answer

    def publish(self, item: Item) -> None:
        for member in tuple(self.members.get(item.channel, ())):
            member.deliver(Delivery(item))

    def member(self, channel: str) -> Member:
        (member,) = self.members[channel]
        return member


class House:
    """An edge with nothing around it."""

    def __init__(
        self, grip: GripRouteSettings | None = None, targets: Sequence[TargetSettings] = (), **route: Any
    ) -> None:
        self.clock = ManualClock()
        self.wheel = Wheel(self.clock)
        self.backends = Backends()
        self.hub = Hub()
        metrics = Metrics()
        settings = RouteSettings(
            protocol="grip", backend="http://backend:1", grip=grip or GripRouteSettings(), targets=targets, **route
        )
        self.route = RouteHandle(settings, metrics.route(settings.name, ""))
        self.services = GripServices(
            clock=self.clock,
            wheel=self.wheel,
            metrics=metrics,
            origins=self.backends,
            channels=cast(Any, self.hub),
            releases=Releases(),
            held=HeldClients(),
            random=lambda: 0.5,
        )

    def ask(
        self, path: str = "/x", method: str = "GET", headers: Headers = (), length: int | None = 0
    ) -> tuple[Client, Exchange]:
        """A client asks; its request has no body unless `length` says so."""
        client = Client()
        path, _, query = path.partition("?")
        fields = [("Host", "edge:7999"), *headers]
        request = ClientRequest(method, path, query, fields, "127.0.0.1:5", "http", ())
        exchange = Exchange(self.services, self.route, client, request, length)
        exchange.begin()
        if length == 0:
            exchange.body_ended(())
        return client, exchange

    def hold(self, *headers: tuple[str, str], body: bytes = b"", path: str = "/x") -> tuple[Client, Exchange]:
        """A client asks and is held."""
        client, exchange = self.ask(path)
        self.backends.last.answer(*headers, body=body)
        return client, exchange

    def pass_time(self, ms: int) -> None:
        """Step by step, as a loop would."""
        end = self.clock.monotonic + ms
        while (due := self.wheel.next_due_ms()) is not None and due <= end:
            self.clock.advance(max(0, due - self.clock.monotonic))
            self.wheel.advance()
        self.clock.advance(end - self.clock.monotonic)

    def soon(self) -> None:
        self.pass_time(100)


def response(channel: str, body: bytes = b"", **fields: Any) -> Item:
    """An item for held responses."""
    own = {name: fields.pop(name) for name in ("id", "prev_id") if name in fields}
    return Item(channel, response=ResponseFormat(body=body, **fields), **own)


def stream(channel: str, content: bytes = b"", **fields: Any) -> Item:
    """An item for streams."""
    own = {name: fields.pop(name) for name in ("id", "prev_id") if name in fields}
    return Item(channel, stream=StreamFormat(content=content, **fields), **own)


def as_dict(headers: Headers) -> Mapping[str, str]:
    return dict(headers)
