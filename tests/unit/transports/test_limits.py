"""Every limit of a route and of the process: refused with a clear code, and counted."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from edge.clock import ManualClock
from edge.config import EdgeSettings, LimitSettings, RouteSettings, TimeoutSettings
from tests.support.listener import Guest, Hall, Listener, listening, until
from tests.support.raw_websocket import client_frame, dial, handshake, raw_websocket


def wait(guest: Guest) -> None:
    """Leave the handshake unanswered."""


async def refused(listener: Listener, request: bytes) -> tuple[int, dict[str, str], bytes]:
    async with dial(listener.port) as client:
        client.write(request)
        answer = await client.answer()
        assert await client.eof() == b""
        return answer


async def test_connections_per_process() -> None:
    async with listening(edge=EdgeSettings(max_connections=2)) as listener:
        async with raw_websocket(listener.port), raw_websocket(listener.port):
            status, headers, _ = await refused(listener, handshake())
            assert status == 503
            assert "retry-after" in headers
        await until(lambda: listener.reception.connections == 0)
        async with raw_websocket(listener.port):
            assert listener.limits_hit() == {"max_connections": 1}


async def test_connections_per_client_address() -> None:
    route = RouteSettings(limits=LimitSettings(connections_per_ip=1))
    edge = EdgeSettings(trusted_proxies=["127.0.0.1"])
    async with listening(route, edge=edge) as listener:
        async with raw_websocket(listener.port, "/", "X-Forwarded-For: 1.2.3.4"):
            assert (await refused(listener, handshake("/", "X-Forwarded-For: 1.2.3.4")))[0] == 429
            async with raw_websocket(listener.port, "/", "X-Forwarded-For: 1.2.3.5"):
                pass
        await until(lambda: listener.reception.connections == 0)
        async with raw_websocket(listener.port, "/", "X-Forwarded-For: 1.2.3.4"):
            assert listener.limits_hit() == {"connections_per_ip": 1}


async def test_handshakes_per_second() -> None:
    clock = ManualClock()
    async with (
        listening(edge=EdgeSettings(handshakes_per_s=2), clock=clock) as listener,
        raw_websocket(listener.port),
        raw_websocket(listener.port),
    ):
        status, headers, _ = await refused(listener, handshake())
        assert (status, headers["retry-after"]) == (503, "1")
        clock.advance(1_000)
        async with raw_websocket(listener.port):
            assert listener.limits_hit() == {"handshakes_per_s": 1}


async def test_origins() -> None:
    async with listening(RouteSettings(origins=["https://chat.example"])) as listener:
        assert (await refused(listener, handshake("/", "Origin: https://evil.example")))[0] == 403
        assert (await refused(listener, handshake()))[0] == 403
        async with raw_websocket(listener.port, "/", "Origin: https://chat.example"):
            assert listener.limits_hit() == {"origins": 2}


async def test_unknown_routes() -> None:
    routes = [RouteSettings(host="chat.example", path="/a")]
    async with listening(*routes) as listener:
        assert (await refused(listener, handshake("/a")))[0] == 404
        assert (await refused(listener, handshake("/b", host="chat.example")))[0] == 404
        async with dial(listener.port) as client:
            client.write(handshake("/a/b", host="CHAT.example:80"))
            assert (await client.answer())[0] == 101


@pytest.mark.parametrize(
    ("extra", "limit"),
    [
        ([f"X-{n}: 1" for n in range(11)], "headers"),
        (["X-Big: " + "x" * 600], "header_bytes"),
    ],
)
async def test_size_of_the_head(extra: list[str], limit: str) -> None:
    strict = RouteSettings(path="/strict", limits=LimitSettings(headers=10, header_bytes=500))
    async with listening(strict, RouteSettings()) as listener:
        assert (await refused(listener, handshake("/strict", *extra)))[0] == 431
        async with raw_websocket(listener.port, "/", *extra):
            assert listener.limits_hit() == {limit: 1}


@pytest.mark.parametrize(
    ("head", "status", "limit"),
    [
        (b"GET / HTTP/1.1\r\nX-Endless: " + b"x" * 40_000, 431, "header_bytes"),
        (b"GET / HTTP/1.1\r\n" + b"X-A: 1\r\n" * 200, 431, "headers"),
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n", 414, "target"),
    ],
)
async def test_an_endless_head_is_refused_before_it_ends(head: bytes, status: int, limit: str) -> None:
    async with listening() as listener:
        assert (await refused(listener, head))[0] == status
        assert listener.limits_hit() == {limit: 1}


@pytest.mark.parametrize("begin", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_request_that_does_not_come_whole(begin: bytes) -> None:
    clock = ManualClock()
    route = RouteSettings(timeouts=TimeoutSettings(handshake_s=10))
    async with listening(route, clock=clock) as listener, dial(listener.port) as client:
        client.write(begin)
        await client.writer.drain()
        await until(lambda: listener.server.server_state.connections)
        clock.advance(10_100)
        listener.wheel.advance()
        assert (await client.answer())[0] == 408
        assert listener.limits_hit() == {"handshake_s": 1}


async def test_a_handshake_the_backend_does_not_answer() -> None:
    clock = ManualClock()
    route = RouteSettings(timeouts=TimeoutSettings(handshake_s=10))
    async with listening(route, clock=clock, hall=Hall(welcome=wait)) as listener, dial(listener.port) as client:
        client.write(handshake())
        guest = await listener.guest()
        clock.advance(10_100)
        listener.wheel.advance()
        assert (await client.answer())[0] == 504
        assert [end[3] for end in guest.ends] == ["limit"]
        guest.connection.accept(None, [])
        assert listener.limits_hit() == {"handshake_s": 1}


async def test_a_client_that_gives_up_waiting() -> None:
    async with listening(hall=Hall(welcome=wait)) as listener:
        async with dial(listener.port) as client:
            client.write(handshake())
            guest = await listener.guest()
        await until(lambda: guest.ends)
        assert guest.ends == [(1006, "", False, "client")]


async def test_frames_before_the_answer_are_kept_but_not_for_ever() -> None:
    async with listening(hall=Hall(welcome=wait)) as listener:
        async with dial(listener.port) as client:
            client.write(handshake() + client_frame(1, b"early"))
            guest = await listener.guest()
            client.write(client_frame(1, b"bird"))
            guest.connection.accept(None, [])
            await until(lambda: len(guest.heard) == 2)
            assert guest.heard == ["early", "bird"]
        async with dial(listener.port) as client:
            client.write(handshake() + client_frame(2, b"x" * 70_000))
            assert (await client.answer())[0] == 400


async def test_message_rate() -> None:
    clock = ManualClock()
    route = RouteSettings(limits=LimitSettings(messages_per_s=2))
    async with (
        listening(route, clock=clock, hall=Hall(echo=True)) as listener,
        raw_websocket(listener.port) as client,
    ):
        client.write(client_frame(1, b"m") * 5)
        assert [await client.frame() for _ in range(4)] == [(0x81, b"m")] * 4
        assert await client.closing() == (1008, "message rate")
        guest = await listener.guest()
        assert guest.ends == [(1008, "message rate", False, "limit")]
        assert listener.limits_hit() == {"messages_per_s": 1}


async def test_byte_rate() -> None:
    clock = ManualClock()
    route = RouteSettings(limits=LimitSettings(bytes_per_s=100))
    async with listening(route, clock=clock) as listener, raw_websocket(listener.port) as client:
        client.write(client_frame(2, b"x" * 200))
        guest = await listener.guest()
        await until(lambda: guest.heard)
        clock.advance(1_000)
        client.write(client_frame(2, b"x" * 100) + client_frame(2, b"x"))
        assert await client.closing() == (1008, "byte rate")
        assert [len(message) for message in guest.heard] == [200, 100]
        assert listener.limits_hit() == {"bytes_per_s": 1}


async def test_a_reload_reaches_live_connections() -> None:
    async with listening() as listener, raw_websocket(listener.port) as client:
        listener.routes.replace([RouteSettings(limits=LimitSettings(message_bytes=3))])
        client.write(client_frame(1, b"four"))
        assert (await client.closing())[0] == 1009


async def test_clients_cannot_forge_edge_headers_nor_addresses() -> None:
    async with listening() as listener:
        forged = [
            "Holdfast-Signature: t=1,v1=00",
            "holdfast_edge: me",
            "X-Forwarded-For: 9.9.9.9",
            "X-Forwarded-Proto: https",
            "x_forwarded_host: evil.example",
            "Forwarded: for=9.9.9.9",
            "X-Real-IP: 9.9.9.9",
        ]
        async with raw_websocket(listener.port, "/", *forged):
            request = (await listener.guest()).request
        names = {name.lower() for name, _ in request.headers}
        assert names == {"host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version"}
        assert request.client.startswith("127.0.0.1:")
        assert request.scheme == "ws"


async def test_the_word_of_a_trusted_proxy() -> None:
    async with (
        listening(edge=EdgeSettings(trusted_proxies=["127.0.0.0/8"])) as listener,
        raw_websocket(listener.port, "/", "X-Forwarded-For: 9.9.9.9, 1.2.3.4", "X-Forwarded-Proto: https"),
    ):
        request = (await listener.guest()).request
        assert (request.client, request.scheme) == ("1.2.3.4:0", "wss")
    assert ("X-Forwarded-For", "9.9.9.9, 1.2.3.4") in request.headers


@pytest.mark.parametrize(
    "request_",
    [
        handshake().replace(b"Version: 13", b"Version: 12"),
        handshake().replace(b"Sec-WebSocket-Key", b"X"),
        handshake().replace(b"GET", b"POST"),
        handshake().replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
async def test_bad_handshakes(request_: bytes) -> None:
    async with listening() as listener:
        status, headers, _ = await refused(listener, request_)
        assert status == 400
        assert (headers.get("sec-websocket-version") == "13") is (b"Version: 12" in request_)
        assert listener.hall.guests == []


async def test_no_http_at_all() -> None:
    async with listening() as listener:
        assert (await refused(listener, b"\x16\x03\x01 hello\r\n\r\n"))[0] == 400


async def test_plain_http() -> None:
    async with listening(RouteSettings(path="/ws")) as listener:
        for path, status in [("/ws", 426), ("/ws/x", 426), ("/", 404)]:
            request = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello".encode()
            found, headers, body = await refused(listener, request)
            assert found == status
            assert b"WebSocket" in body or status == 404
            assert (headers.get("upgrade") == "websocket") is (status == 426)


async def test_many_at_once_leave_nothing_behind() -> None:
    async with listening() as listener:
        async with contextlib.AsyncExitStack() as stack:
            clients = await asyncio.gather(
                *(stack.enter_async_context(raw_websocket(listener.port)) for _ in range(50))
            )
            assert len(clients) == listener.reception.connections == 50
        await until(lambda: listener.reception.connections == 0)
        (route,) = listener.routes
        assert len(route.addresses) == 0
