"""The SDK's publishers against the edge's control API, over real sockets, and against a network that fails."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from backend_sdk import ActionError, AsyncPublisher, Position, Publisher, actions
from backend_sdk.calls import Publication, TimerInfo
from backend_sdk.errors import (
    BadCall,
    ControlError,
    NotConfirmed,
    NotFound,
    SessionGone,
    StateError,
    Unauthorized,
    Unavailable,
)
from edge.config import Secret
from edge.control.app import control_app
from edge.errors import NotConfirmed as EdgeNotConfirmed
from edge.errors import SessionGone as EdgeSessionGone
from edge.errors import StoreUnavailable
from edge.protocol.callbacks.actions import Publish, XmppSend
from edge.protocol.callbacks.actions import Send as SendAction
from edge.protocol.xmpp.outgoing import MessageFields
from tests.support.ports import free_port
from tests.unit.control.memory import ROW, MemoryEdge
from tests.unit.sdk.serving import served

TOKEN = "t0ken"


class Flaky:
    """In front of an app: the next `failing` requests get 503; the next `losing` are carried out, and then the
    connection breaks before the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.failing = 0
        self.losing = 0
        self.requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.requests += 1
        if self.failing:
            self.failing -= 1
            await send({"type": "http.response.start", "status": 503, "headers": [(b"retry-after", b"0")]})
            await send({"type": "http.response.body", "body": b'{"error": {"code": "away", "message": "try again"}}'})
        elif self.losing:
            self.losing -= 1

            async def nowhere(message: Any) -> None:
                pass

            await self.app(scope, receive, nowhere)
            # An answer that breaks off: its length is announced, and the connection closed before it came.
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"99")]})
            await send({"type": "http.response.body", "body": b"{", "more_body": True})
            raise ConnectionAbortedError("lost on purpose")
        else:
            await self.app(scope, receive, send)


@pytest.fixture
def edge() -> MemoryEdge:
    edge = MemoryEdge()
    edge.rows["s1"] = ROW
    return edge


@pytest.fixture
def flaky(edge: MemoryEdge) -> Flaky:
    async def gather() -> Mapping[str, Any]:
        return {}

    return Flaky(control_app(edge, gather, bind="127.0.0.1:1", tokens=lambda: [Secret(TOKEN)]))


@pytest.fixture
def url(flaky: Flaky) -> Iterator[str]:
    with served(flaky) as url:
        yield url


def test_publish_and_history(url: str, edge: MemoryEdge) -> None:
    with Publisher(url, TOKEN) as publisher:
        first = publisher.publish("room:ä/1", "größer", sender="s1")
        assert (first.position, first.duplicate) == (Position(1, "e"), False)
        assert publisher.publish("room:ä/1", b"\x00\xff", id="again").duplicate
        page = publisher.history("room:ä/1", Position(0, "e"), limit=10)
        assert page.publications == [
            Publication(1, "größer", 1_700_000_000_000),
            Publication(2, b"\x00\xff", 1_700_000_000_000),
        ]
        assert (page.whole, page.position) == (True, Position(2, "e"))
        assert publisher.history("room:ä/1", limit=1).publications[0].offset == 1
        info = publisher.channel("room:ä/1")
        assert (info.channel, info.subscribers, info.position) == ("room:ä/1", 3, Position(7, "e"))
    assert edge.published[0].channel == "room:ä/1"
    assert edge.published[0].sender == "s1"


def test_sessions(url: str, edge: MemoryEdge) -> None:
    with Publisher(url, TOKEN) as publisher:
        info = publisher.session("s1")
        assert (info.id, info.user, info.state, info.version, info.edge) == ("s1", "ann", {"room": "a"}, 2, "edge.0.aa")
        assert info.timers == [TimerInfo("t", 1_700_000_001_000, None)]
        assert publisher.sessions(user="ann") == [info]
        assert publisher.sessions(user="bob") == []
        with pytest.raises(NotFound):
            publisher.session("s2")
        publisher.close("s1", 4000, "bye & so on")
        assert edge.ended == [("s1", 4000, "bye & so on")]
        orders: list[actions.Action] = [actions.send(b"\x00", id="mine"), actions.publish("c", "x")]
        assert publisher.act("s1", orders, set={"room": "b"}, unset=["old"]) == "delivered"
        publisher.send("s1", "hi")
    (_, order), (_, hi) = edge.orders
    sent, published = order.actions
    assert isinstance(sent, SendAction)
    assert isinstance(published, Publish)
    assert (sent.payload, sent.id) == (b"\x00", "mine")
    assert published.id
    assert (dict(order.state_set), list(order.state_unset)) == ({"room": "b"}, ["old"])
    assert hi.actions[0].id not in (None, published.id)


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (EdgeSessionGone("s1 has ended"), SessionGone),
        (EdgeNotConfirmed("no answer"), NotConfirmed),
        (StoreUnavailable("away"), Unavailable),
        (RuntimeError("a secret"), ControlError),
    ],
)
async def test_errors_have_types(url: str, edge: MemoryEdge, failure: Exception, raised: type[ControlError]) -> None:
    edge.failure = failure
    async with AsyncPublisher(url, TOKEN, attempts=1) as publisher:
        with pytest.raises(raised) as error:
            await publisher.send("s1", "x")
        assert "a secret" not in str(error.value)
        assert error.value.status >= 400


async def test_bad_calls_and_tokens(url: str) -> None:
    async with AsyncPublisher(url, "wrong") as publisher:
        with pytest.raises(Unauthorized):
            await publisher.publish("c", "x")
    async with AsyncPublisher(url, TOKEN) as publisher:
        with pytest.raises(BadCall, match="limit"):
            await publisher.history("c", limit=-1)
        with pytest.raises(ActionError, match="channel"):
            await publisher.publish("", "x")
        with pytest.raises(ActionError, match="code"):
            await publisher.close("s1", 1006)
        with pytest.raises(StateError, match="is a set"):
            await publisher.act("s1", [], set={"a": {1}})


Do = Callable[[AsyncPublisher], Awaitable[object]]
REPEATABLE: list[tuple[str, Do]] = [
    ("publish", lambda publisher: publisher.publish("c", "x")),
    ("act", lambda publisher: publisher.send("s1", "x")),
    ("session", lambda publisher: publisher.session("s1")),
    ("close", lambda publisher: publisher.close("s1")),
]


@pytest.mark.parametrize("do", [case[1] for case in REPEATABLE], ids=[case[0] for case in REPEATABLE])
async def test_lost_answers_and_503_are_tried_again(url: str, flaky: Flaky, edge: MemoryEdge, do: Do) -> None:
    async with AsyncPublisher(url, TOKEN, backoff_s=0.001) as publisher:
        flaky.failing, flaky.losing = 1, 1
        await do(publisher)
        assert flaky.requests == 3
        flaky.failing = 4
        with pytest.raises(Unavailable, match="503 away: try again"):
            await do(publisher)
        assert flaky.requests == 7


async def test_repeats_carry_the_same_id(url: str, flaky: Flaky, edge: MemoryEdge) -> None:
    async with AsyncPublisher(url, TOKEN, backoff_s=0.001) as publisher:
        flaky.losing = 1
        await publisher.send("s1", "x")
    ids = [order.actions[0].id for _, order in edge.orders]
    assert len(ids) == 2
    assert ids[0] == ids[1] is not None


def test_the_twin_tries_again_too(url: str, flaky: Flaky, edge: MemoryEdge) -> None:
    with Publisher(url, TOKEN, backoff_s=0.001) as publisher:
        flaky.failing, flaky.losing = 1, 1
        assert publisher.publish("c", "x").position.offset == 2
    assert flaky.requests == 3


async def test_closing_a_session_whose_answer_was_lost_is_no_error(url: str, flaky: Flaky, edge: MemoryEdge) -> None:
    async with AsyncPublisher(url, TOKEN, backoff_s=0.001) as publisher:
        flaky.failing = 1
        edge.failure = EdgeSessionGone("s1 has ended")
        await publisher.close("s1")
        with pytest.raises(SessionGone):
            await publisher.close("s1")


async def test_nobody_there() -> None:
    async with AsyncPublisher(f"http://127.0.0.1:{free_port()}", attempts=2, backoff_s=0.001) as publisher:
        with pytest.raises(
            Unavailable, match=r"no_answer: POST /v1/channels/c/publications: ConnectError.*attempt 2 of 2"
        ):
            await publisher.publish("c", "x")


async def test_an_edge_that_hangs_is_given_up_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel takes the connection, nobody answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with AsyncPublisher(url, attempts=1, timeout_s=0.05) as publisher:
            with pytest.raises(Unavailable, match="ReadTimeout"):
                await publisher.channel("c")


def test_links_are_given_orders_like_sessions(url: str, edge: MemoryEdge) -> None:
    edge.rows["x:u42"] = ROW
    with Publisher(url, TOKEN) as publisher:
        publisher.act("x:u42", [actions.xmpp_send("bob@x", "hi", id="a-1"), actions.xmpp_get()])
    ((link, order),) = edge.orders
    assert (link, order.actions[0]) == ("x:u42", XmppSend(MessageFields("bob@x", body="hi"), id="a-1"))
    assert order.actions[1].id
