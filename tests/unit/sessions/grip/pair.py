"""A `GripSocket` between a client and a backend in memory, on a clock that moves when told to."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edge.backend.http11 import Answer
from edge.backend.origin_base import AnswerListener, Asker, Unanswered, Upstream
from edge.clock import ManualClock
from edge.config import GripRouteSettings, LimitSettings, RouteSettings, TargetSettings
from edge.protocol.callbacks.events import ClientRequest, Headers
from edge.protocol.grip.items import Item, SocketFormat
from edge.sessions.connection import Frame
from edge.sessions.grip.ports import Delivery, Member
from edge.sessions.grip.services import GripServices, HeldClients
from edge.sessions.grip.socket import GripSocket
from edge.sessions.releases import Releases
from edge.sessions.routes import RouteHandle
from edge.telemetry.metrics import Metrics
from edge.wheel import Wheel

EVENTS = b"application/websocket-events"
REQUEST = ClientRequest(
    "GET", "/room", "a=1", (("Host", "chat.example"), ("Cookie", "c=1")), "192.0.2.7:4711", "ws", ()
)


class Client:
    """A `Connection` that writes down what happens to it. `said`: in order, as short words and values."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.paused = False
        self.parting = False
        self.accepted: Headers | None = None
        self.socket: GripSocket
        self.over = False

    def accept(self, subprotocol: str | None, headers: Headers, *, control_frames: bool = False) -> None:
        self.accepted = headers
        self.said.append(("accept", subprotocol, control_frames))

    def reject(self, status: int, headers: Headers, body: bytes) -> None:
        self.said.append(("reject", status, body))
        self.end(1006, clean=False, cause="backend")

    def send(self, frame: Frame, *, owed: bool = False) -> None:
        self.said.append(frame.payload)

    def ping(self, payload: bytes) -> None:
        self.said.append(("ping", payload))

    def pong(self, payload: bytes) -> None:
        self.said.append(("pong", payload))

    def drop(self) -> None:
        self.said.append("drop")
        self.end(1006, clean=False, cause="backend")

    def flush(self) -> None: ...

    def close(self, code: int, reason: str) -> None:
        self.said.append(("close", code, reason))
        self.parting = False

    def finish(self) -> None:
        if self.parting:  # only then it means anything
            self.said.append("finish")
            self.parting = False

    def goodbye(self, code: int, reason: str = "") -> None:
        """The client sends a close frame."""
        self.parting = True
        self.socket.closing(code, reason)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def end(self, code: int = 1006, reason: str = "", *, clean: bool = False, cause: str = "client") -> None:
        if not self.over:
            self.over = True
            self.socket.ended(code, reason, clean=clean, cause=cause)


@dataclass
class Backend:
    """`Origins` and the only `Origin`: keeps what it is asked until the test answers."""

    asked: list[bytes] = field(default_factory=list)
    asker: Asker | None = None
    timeout_s: float = 0.0
    targets: list[str] = field(default_factory=list)

    def of(self, route: RouteSettings, target: TargetSettings) -> Backend:
        self.targets.append(target.url)
        return self

    def close(self) -> None: ...

    def ask(self, request: bytes, asker: Asker, timeout_s: float) -> None:
        assert self.asker is None, "one request at a time"
        self.asked.append(request)
        self.asker, self.timeout_s = asker, timeout_s

    def forget(self, asker: Asker) -> None: ...

    def stream(self, head: bytes, listener: AnswerListener, silence_s: float) -> Upstream:
        raise NotImplementedError

    @property
    def bodies(self) -> list[bytes]:
        return [request.partition(b"\r\n\r\n")[2] for request in self.asked]

    @property
    def quiet(self) -> bool:
        return self.asker is None

    def take(self) -> Asker:
        asker, self.asker = self.asker, None
        assert asker is not None, "nothing is under way"
        return asker

    def answer(self, body: bytes = b"", status: int = 200, /, **headers: str) -> None:
        fields = [(b"Content-Type", EVENTS)] if "Content_Type" not in headers else []
        fields += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        self.take().answered(Answer(status, fields, body))

    def fail(self, kind: str = "reset", *, sent: bool = True) -> None:
        self.take().unanswered(Unanswered(kind, f"it was {kind}", sent))


class Room:
    """`Channels`, where a test decides when a subscription stands."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.filters: dict[str, Sequence[str]] = {}
        self.pending: list[Future[None]] | None = None
        """None: every subscription stands at once."""

    def join(self, member: Member, channel: str, filters: Sequence[str]) -> Future[None] | None:
        known = channel in self.members
        self.members[channel] = member
        self.filters[channel] = filters
        if self.pending is None or known:
            return None
        future: Future[None] = Future()
        self.pending.append(future)
        return future

    def leave(self, member: Member, channel: str) -> None:
        self.members.pop(channel, None)

    def last_id(self, channel: str) -> Future[str | None]:
        raise NotImplementedError

    def publish(self, channel: str, socket: SocketFormat) -> None:
        self.members[channel].deliver(Delivery(Item(channel, socket=socket)))


class Pair:
    """Everything of one connection. Route settings may be given before it begins."""

    def __init__(
        self,
        targets: Sequence[TargetSettings] = (),
        *,
        limits: LimitSettings | None = None,
        begin: bool = True,
        **grip: object,
    ) -> None:
        self.clock = ManualClock()
        self.wheel = Wheel(self.clock, granularity_ms=1)
        self.backend = Backend()
        self.room = Room()
        self.client = Client()
        metrics = Metrics()
        route = RouteSettings(
            protocol="grip",
            backend="http://backend",
            targets=tuple(targets),
            limits=limits or LimitSettings(),
            grip=replace(GripRouteSettings(), **grip),  # type: ignore[arg-type]
        )
        self.handle = RouteHandle(route, metrics.route(route.name, ""))
        self.releases = Releases()
        self.services = GripServices(
            clock=self.clock,
            wheel=self.wheel,
            metrics=metrics,
            origins=self.backend,
            channels=self.room,
            releases=self.releases,
            held=HeldClients(),
            random=lambda: 0.0,
        )
        self.socket = self.client.socket = GripSocket(self.services, self.handle, self.client, REQUEST)
        if begin:
            self.socket.begin()

    def opened(self, *orders: bytes, grip: bool = True, **headers: str) -> Pair:
        """Let the client in; `orders` come with OPEN."""
        if grip:
            headers.setdefault("Sec_WebSocket_Extensions", "grip")
        self.backend.answer(b"OPEN\r\n" + b"".join(orders), **headers)
        assert self.client.accepted is not None, self.client.said
        self.client.said.clear()
        self.backend.asked.clear()
        return self

    def pass_time(self, seconds: float) -> None:
        """In small steps, so that what rings sets its next alarm in time."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(100)
            self.wheel.advance()

    @property
    def forgotten(self) -> bool:
        """Nothing of the connection is left."""
        return len(self.services.held) == 0 and self.handle.meters.sessions.value == 0


def event(kind: str, content: str | bytes | None = None) -> bytes:
    if content is None:
        return kind.encode() + b"\r\n"
    data = content.encode() if isinstance(content, str) else content
    return b"%b %x\r\n%b\r\n" % (kind.encode(), len(data), data)


def text(content: str) -> bytes:
    return event("TEXT", content)
