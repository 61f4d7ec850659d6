"""Conversations over real sockets, with the `websockets` client."""

import asyncio

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from edge.config import RouteSettings
from edge.sessions.connection import Frame
from tests.support.listener import Hall, listening, until


@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize("payload", ["", "hällo", b"", b"\x00\xff", "x" * 200, b"y" * 70_000, "ü" * 400_000])
async def test_messages_there_and_back(payload: str | bytes, compression: bool) -> None:
    async with listening(RouteSettings(compression=compression), hall=Hall(echo=True)) as listener:
        async with connect(listener.url()) as client:
            await client.send(payload)
            assert await client.recv() == payload
            assert bool(client.protocol.extensions) is compression
        guest = await listener.guest()
        assert guest.heard == [payload]
        await until(lambda: guest.ends)
        assert guest.ends == [(1000, "", True, "client")]


async def test_accept_with_subprotocol_and_headers() -> None:
    hall = Hall(
        welcome=lambda guest: guest.connection.accept(
            "b", [("X-One", "1"), ("Connection", "close"), ("X-Bad", "a\r\nb")]
        )
    )
    async with (
        listening(hall=hall) as listener,
        connect(
            listener.url("/p/q?x=1"),
            subprotocols=[Subprotocol("a"), Subprotocol("b")],
            additional_headers={"X-Mine": "m"},
        ) as client,
    ):
        assert client.subprotocol == "b"
        assert client.response is not None
        assert client.response.headers["X-One"] == "1"
        assert "X-Bad" not in client.response.headers
        request = (await listener.guest()).request
        assert (request.method, request.path, request.query) == ("GET", "/p/q", "x=1")
        assert request.subprotocols == ("a", "b")
        assert ("X-Mine", "m") in request.headers
        assert request.scheme == "ws"
        assert request.client.startswith("127.0.0.1:")


async def test_reject_later_with_status_headers_and_body() -> None:
    hall = Hall(welcome=lambda guest: None)
    async with listening(hall=hall) as listener:
        connecting = connect(listener.url())

        async def refuse() -> None:
            guest = await listener.guest()
            guest.connection.reject(402, [("X-Why", "money")], b"pay first")

        refusing = asyncio.ensure_future(refuse())
        with pytest.raises(InvalidStatus) as refused:
            await connecting
        await refusing
        assert refused.value.response.status_code == 402
        assert refused.value.response.headers["X-Why"] == "money"
        assert refused.value.response.body == b"pay first"
        guest = await listener.guest()
        await until(lambda: guest.ends)
        guest.connection.accept(None, [])  # too late: nothing happens
        guest.connection.send(Frame("x"))


async def test_close_by_the_session() -> None:
    async with listening() as listener, connect(listener.url()) as client:
        guest = await listener.guest()
        guest.connection.send(Frame("last words"))
        guest.connection.close(4001, "enough")
        assert await client.recv() == "last words"
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert (client.close_code, client.close_reason) == (4001, "enough")
        await until(lambda: guest.ends)
        assert guest.ends == [(4001, "enough", True, "backend")]
        assert guest.goodbyes == []
        await until(lambda: listener.reception.connections == 0)
