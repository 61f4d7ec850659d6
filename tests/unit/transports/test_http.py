"""HTTP requests of GRIP routes, over real sockets: what reaches the door, and what reaches the client."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import httpx
import pytest

from edge.config import EdgeSettings, LimitSettings, RouteSettings
from tests.support.http_hall import HttpHall, Visit, echo, get, hold, http_client, http_connections, post, post_chunked
from tests.support.listener import Hall, listening, until
from tests.support.raw_websocket import client_frame, handshake

GRIP = RouteSettings(protocol="grip")


def answering(
    status: int, reason: str = "", headers: list[tuple[str, str]] | None = None, body: bytes = b""
) -> Callable[[Visit], None]:
    def answer(visit: Visit) -> None:
        visit.client.answer(status, reason, headers or [], body)

    return answer


async def visit_of(hall: HttpHall, number: int) -> Visit:
    """The request that came as this number; waits for it."""
    await until(lambda: len(hall.visits) > number, "a request reached the door")
    return hall.visits[number]


async def test_a_request_and_its_answer() -> None:
    hall = HttpHall()
    async with listening(GRIP, http=hall) as listener, http_client(listener.port) as client:
        answer = await client.ask(post("/a/b%2Fc?x=%20&y", b"hello", "X-Mine: \xfc m "))
        assert (answer.status, answer.reason, answer.body) == (200, "OK", b"hello")
        assert answer["content-length"] == "5"
        assert answer["date"].endswith(" GMT")
        assert "connection" not in answer
        (visit,) = hall.visits
        assert visit.facts == ("POST", "/a/b%2Fc", "x=%20&y", b"hello", [])
        assert visit.length == 5
        assert ("X-Mine", "\xfc m") in visit.request.headers
        assert visit.request.scheme == "http"
        assert visit.request.client.startswith("127.0.0.1:")
        assert visit.ends == []
        (route,) = listener.routes
        assert (len(route.addresses), listener.reception.exchanges, route.meters.connections.value) == (0, 0, 0)


async def test_httpx_agrees() -> None:
    hall = HttpHall()
    async with listening(GRIP, http=hall) as listener, httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{listener.port}"

        async def chunks() -> AsyncIterator[bytes]:
            for number in range(5):
                yield b"%d" % number * 1_000

        for _ in range(3):
            assert (await client.put(url + "/x", content=chunks())).content == b"".join([c async for c in chunks()])
            assert (await client.get(url + "/y?a=b")).content == b""
            assert (await client.head(url)).status_code == 200
            assert (await client.post(url, content=b"x" * 300_000)).content == b"x" * 300_000
        assert [visit.request.method for visit in hall.visits] == ["PUT", "GET", "HEAD", "POST"] * 3


async def test_a_streamed_answer() -> None:
    hall = HttpHall(when_whole=hold)
    async with listening(GRIP, http=hall) as listener, http_client(listener.port) as client:
        client.write(get())
        await until(lambda: hall.visits)
        exchange = hall.visits[0].client
        exchange.begin(201, "Made", [("X-One", "1"), ("Transfer-Encoding", "gzip"), ("Content-Length", "7")], None)
        head = (await client.head()).decode()
        assert head.startswith("HTTP/1.1 201 Made\r\nX-One: 1\r\nDate: ")
        assert head.endswith(" GMT\r\nTransfer-Encoding: chunked\r\n\r\n")
        exchange.write(b"a" * 26)
        exchange.write(b"")
        exchange.write(b"b")
        exchange.end([("X-Sum", "1"), ("Bad", "1\r\n2")])
        rest = b"1a\r\n" + b"a" * 26 + b"\r\n1\r\nb\r\n0\r\nX-Sum: 1\r\n\r\n"
        assert await client.raw.reader.readexactly(len(rest)) == rest
        exchange.write(b"too late")
        exchange.answer(500, "", [], b"too late")
        exchange.abort()
        client.write(get("/next"))
        await until(lambda: len(hall.visits) == 2)
        hall.visits[1].client.begin(200, "", [], 3)
        hall.visits[1].client.write(b"ab")
        hall.visits[1].client.write(b"cdef")  # more than was announced
        hall.visits[1].client.end()
        answer = await client.answer()
        assert (answer.body, answer["content-length"]) == (b"abc", "3")


async def test_everything_of_one_tick_leaves_together() -> None:
    hall = HttpHall(when_whole=hold)
    async with listening(GRIP, http=hall) as listener, http_client(listener.port) as client:
        client.write(get())
        await until(lambda: hall.visits)
        exchange = hall.visits[0].client
        exchange.begin(200, "", [], None)
        for _ in range(10):
            exchange.write(b"x")
        (connection,) = http_connections(listener)
        assert connection.outbox.size() == 60
        exchange.end()
        assert (await client.answer()).body == b"x" * 10


@pytest.mark.parametrize(
    ("method", "status", "length"),
    [("HEAD", 200, "2"), ("GET", 304, "77"), ("HEAD", 304, "77"), ("GET", 204, None), ("HEAD", 404, "2")],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_answers_without_a_body(method: str, status: int, length: str | None, streamed: bool) -> None:
    headers = [("Content-Length", length)] if length else []

    def answer(visit: Visit) -> None:
        if streamed:
            visit.client.begin(status, "", headers, None)
            visit.client.write(b"ab")
            visit.client.end()
        else:
            visit.client.answer(status, "", headers, b"ab" if method == "HEAD" else b"")

    async with listening(GRIP, http=HttpHall(when_whole=answer)) as listener, http_client(listener.port) as client:
        for _ in range(2):  # the second shows that nothing followed the first
            found = await client.ask(get(method=method), method)
            assert (found.status, found.body) == (status, b"")
            assert ("content-length" in found) is (length is not None)
            assert length is None or found["content-length"] == length


async def test_http_1_0() -> None:
    hall = HttpHall()
    async with listening(GRIP, http=hall) as listener:
        async with http_client(listener.port) as client:
            answer = await client.ask(get(version="1.0"))
            assert answer["connection"] == "close"
            assert await client.eof() == b""
        async with http_client(listener.port) as client:
            for _ in range(2):
                answer = await client.ask(get("/", "Connection: Keep-Alive", version="1.0"))
                assert answer["connection"] == "keep-alive"
        hall.when_whole = hold
        async with http_client(listener.port) as client:
            client.write(get("/", "Connection: keep-alive", version="1.0"))
            await until(lambda: len(hall.visits) == 4)
            exchange = hall.visits[3].client
            exchange.begin(200, "", [], None)
            exchange.write(b"until the ")
            exchange.write(b"close")
            exchange.end()
            head = await client.head()
            assert b"chunked" not in head
            assert b"Connection: close" in head
            assert await client.eof() == b"until the close"


async def test_the_client_asks_for_the_close() -> None:
    async with listening(GRIP, http=HttpHall()) as listener, http_client(listener.port) as client:
        answer = await client.ask(get("/", "Connection: close"))
        assert answer["connection"] == "close"
        assert await client.eof() == b""


async def test_pipelined_requests_are_answered_one_after_the_other() -> None:
    hall = HttpHall(when_whole=hold)
    async with listening(GRIP, http=hall) as listener, http_client(listener.port) as client:
        client.write(post("/1", b"one") + post_chunked("/2", b"two") + get("/3") + post("/4", b"four"))
        for number in range(4):
            visit = await visit_of(hall, number)
            await until(functools.partial(len, visit.trailers))
            assert len(hall.visits) == number + 1
            echo(visit)
        assert [(await client.answer()).body for _ in range(4)] == [b"one", b"two", b"", b"four"]
        hall.when_whole = echo
        client.write(b"\r\n".join(post(f"/{number}", b"x") for number in range(300)))
        assert [(await client.answer()).body for _ in range(300)] == [b"x"] * 300


async def test_what_is_sent_ahead_is_bounded() -> None:
    hall = HttpHall(when_whole=hold)
    async with listening(GRIP, http=hall) as listener, http_client(listener.port) as client:
        client.write(get("/first"))
        await until(lambda: hall.visits)
        hall.when_whole = echo
        for _ in range(100):
            client.write(post("/more", b"x" * 100_000))
        await until(lambda: client.raw.writer.transport.get_write_buffer_size() > 1_000_000)
        (connection,) = http_connections(listener)
        await until(lambda: connection._paused)
        assert len(connection._rest) < 600_000
        assert len(hall.visits) == 1
        echo(hall.visits[0])
        assert (await client.answer()).body == b""
        for _ in range(100):
            assert len((await client.answer()).body) == 100_000


async def test_bodies_come_with_backpressure() -> None:
    hall = HttpHall(welcome=lambda visit: visit.client.pause_reading())
    async with listening(GRIP, http=hall) as listener, http_client(listener.port) as client:
        size = 10_000_000
        client.write(get("/", f"Content-Length: {size}", method="POST") + b"x" * size)
        await until(lambda: hall.visits)
        await until(lambda: client.raw.writer.transport.get_write_buffer_size() > 1_000_000)
        before = len(hall.visits[0].body_)
        assert before < 600_000
        hall.visits[0].client.resume_reading()
        assert (await client.answer()).body == b"x" * size


async def test_trailers_of_requests() -> None:
    hall = HttpHall()
    async with listening(GRIP, http=hall) as listener, http_client(listener.port) as client:
        end = b"0\r\nX-Sum: 7 \r\nContent-Length: 5\r\nHoldfast-Id: me\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"
        await client.ask(post_chunked("/", b"abc", b"d" * 70, end=end))
        assert hall.visits[0].length is None
        assert hall.visits[0].facts == ("POST", "/", "", b"abc" + b"d" * 70, [("X-Sum", "7")])


async def test_100_continue() -> None:
    hall = HttpHall(welcome=lambda visit: visit.client.pause_reading())
    head = get("/", "Content-Length: 3", "Expect: 100-Continue", method="POST")
    async with listening(GRIP, http=hall) as listener:
        async with http_client(listener.port) as client:
            client.write(head)
            await until(lambda: hall.visits)
            hall.visits[0].client.resume_reading()
            assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.write(b"abc")
            assert (await client.answer()).body == b"abc"
        hall.welcome = hold
        async with http_client(listener.port) as client:
            client.write(head)
            assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        async with http_client(listener.port) as client:  # it does not wait after all: no need to tell it
            answer = await client.ask(head + b"abc")
            assert answer.body == b"abc"
        hall.welcome = answering(401)
        async with http_client(listener.port) as client:
            answer = await client.ask(head)
            assert (answer.status, answer["connection"]) == (401, "close")
            assert await client.eof() == b""


async def test_an_answer_before_the_request_is_whole() -> None:
    hall = HttpHall(welcome=answering(413, body=b"enough"))
    async with listening(GRIP, http=hall) as listener, http_client(listener.port) as client:
        client.write(get("/", "Content-Length: 5000000", method="POST") + b"x" * 1_000_000)
        answer = await client.answer()
        assert (answer.status, answer.body, answer["connection"]) == (413, b"enough", "close")
        client.write(b"x" * 1_000_000)
        assert await client.eof() == b""
        (visit,) = hall.visits
        assert (bytes(visit.body_), visit.trailers, visit.ends) == (b"", [], [])


async def test_both_ways_at_once() -> None:
    hall = HttpHall(welcome=lambda visit: visit.client.begin(200, "", [], None), when_whole=lambda v: v.client.end())
    async with listening(GRIP, http=hall) as listener, http_client(listener.port) as client:
        client.write(get("/", "Transfer-Encoding: chunked", method="POST"))
        assert b"Connection: close" in await client.head()
        client.write(b"3\r\nabc\r\n")
        await until(lambda: hall.visits[0].body_ == b"abc")
        hall.visits[0].client.write(b"so far")
        assert await client.raw.reader.readexactly(11) == b"6\r\nso far\r\n"
        client.write(b"0\r\n\r\n")
        assert await client.eof() == b"0\r\n\r\n"


async def test_a_client_that_goes_is_noticed_at_once() -> None:
    hall = HttpHall(when_whole=hold)
    async with listening(GRIP, http=hall) as listener:
        for number in range(2):
            async with http_client(listener.port) as client:
                client.write(get())
                visit = await visit_of(hall, number)
                if number:
                    visit.client.begin(200, "", [], None)
            await until(functools.partial(len, visit.ends))
            assert visit.ends == ["client"]
            visit.client.write(b"too late")
            visit.client.end()
            visit.client.answer(200, "", [], b"")
        await until(lambda: not listener.server.server_state.connections)
        (route,) = listener.routes
        assert (len(route.addresses), listener.reception.exchanges) == (0, 0)


async def test_a_client_that_goes_within_its_request() -> None:
    hall = HttpHall()
    async with listening(GRIP, http=hall) as listener:
        async with http_client(listener.port) as client:
            client.write(post("/", b"x" * 50)[:-10])
            await until(lambda: hall.visits and hall.visits[0].body_)
        await until(lambda: hall.visits[0].ends)
        assert (hall.visits[0].ends, hall.visits[0].trailers) == (["client"], [])


async def test_shutting_the_sending_half_counts_as_going_but_not_before_an_answer_is_out() -> None:
    hall = HttpHall()
    async with listening(GRIP, http=hall) as listener:
        async with http_client(listener.port) as client:
            client.write(post("/", b"x" * 3_000_000))
            client.raw.writer.write_eof()
            assert len((await client.answer()).body) == 3_000_000
            assert await client.eof() == b""
        hall.when_whole = hold
        async with http_client(listener.port) as client:
            client.write(get("/"))
            client.raw.writer.write_eof()
            assert await client.eof() == b""
            assert hall.visits[1].ends == ["client"]


async def test_an_answer_that_cannot_be_completed() -> None:
    hall = HttpHall(when_whole=hold)
    async with listening(GRIP, http=hall) as listener:
        async with http_client(listener.port) as client:
            client.write(get())
            await until(lambda: hall.visits)
            exchange = hall.visits[0].client
            exchange.begin(200, "", [], None)
            exchange.write(b"abc")
            exchange.abort()
            exchange.write(b"def")
            await client.head()
            assert await client.eof() == b"3\r\nabc\r\n"
        async with http_client(listener.port) as client:
            client.write(get(version="1.0"))
            await until(lambda: len(hall.visits) == 2)
            exchange = hall.visits[1].client
            exchange.begin(200, "", [], None)
            await client.head()
            exchange.abort()
            with pytest.raises(ConnectionResetError):
                await client.eof()
        async with http_client(listener.port) as client:
            client.write(get())
            await until(lambda: len(hall.visits) == 3)
            exchange = hall.visits[2].client
            exchange.begin(200, "", [], 10)
            exchange.write(b"less")
            exchange.end()
            await client.head()
            assert await client.eof() == b"less"
        assert [visit.ends for visit in hall.visits] == [[], [], []]


@pytest.mark.parametrize(
    ("name", "value"),
    [("X-A", "b\r\nSet-Cookie: evil=1"), ("X-A\r\nSet-Cookie", "x"), ("X A", "b"), ("X-A", "\x00"), ("", "x")],
)
async def test_no_backend_can_add_lines_to_an_answer(name: str, value: str) -> None:
    headers = [(name, value), ("X-Good", "\xfcber \u20ac".encode().decode("latin-1")), ("X-Wide", "\u20ac")]
    hall = HttpHall(when_whole=answering(200, "Fine\r\nSet-Cookie: evil=1", headers, b"ok"))
    async with listening(GRIP, http=hall) as listener, http_client(listener.port) as client:
        answer = await client.ask(get())
        assert (answer.reason, answer.body) == ("OK", b"ok")
        assert [key for key, _ in answer.headers] == ["x-good", "x-wide", "date", "content-length"]
        assert answer["x-wide"].encode("latin-1").decode() == "\u20ac"


async def test_fields_of_one_connection_stay_with_it() -> None:
    headers = [
        *[("Connection", "X-Hop, close"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5"), ("Upgrade", "h2c")],
        *[
            ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("Set-Cookie", "a"),
            ("Set-Cookie", "b"),
            ("Transfer-Encoding", "x"),
        ],
    ]
    hall = HttpHall(when_whole=answering(200, "", headers, b""))
    async with listening(GRIP, http=hall) as listener, http_client(listener.port) as client:
        answer = await client.ask(get())
        assert [key for key, _ in answer.headers] == ["date", "set-cookie", "set-cookie", "content-length"]
        assert (await client.ask(get())).status == 200


async def test_absolute_targets() -> None:
    hall = HttpHall()
    routes = [GRIP, replace(GRIP, host="other.example", path="/x")]
    async with listening(*routes, http=hall) as listener, http_client(listener.port) as client:
        for target, path, query in [
            ("http://OTHER.example:80/x/y?z", "/x/y", "z"),
            ("https://localhost", "/", ""),
            ("HTTP://localhost?q", "/", "q"),
        ]:
            assert (await client.ask(get(target))).status == 200
            visit = hall.visits.pop()
            assert (visit.request.path, visit.request.query) == (path, query)
            assert [value for name, value in visit.request.headers if name.lower() == "host"] == [
                target.split("/")[2].split("?")[0]
            ]


async def test_what_callbacks_routes_and_others_answer() -> None:
    hall = HttpHall()
    routes = [RouteSettings(path="/ws"), replace(GRIP, path="/grip")]
    async with listening(*routes, http=hall) as listener:
        for method in ("GET", "HEAD", "POST", "PROPFIND"):
            for path, status in [("/ws", 426), ("/nowhere", 404), ("/grip", 200)]:
                async with http_client(listener.port) as client:
                    answer = await client.ask(get(path, method=method), method)
                    assert answer.status == status
                    assert ("upgrade" in answer) is (status == 426)
                    assert bool(answer.body) is (method != "HEAD" and status != 200)


async def test_websockets_of_grip_routes_go_through_the_other_door() -> None:
    http, hall = HttpHall(), Hall(echo=True)
    async with listening(GRIP, http=http, hall=hall) as listener, http_client(listener.port) as client:
        await client.ask(get("/before"))
        client.write(get("/between") + handshake("/ws") + client_frame(1, b"early"))
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        assert await client.raw.frame() == (0x81, b"early")
        client.write(client_frame(1, b"late"))
        assert await client.raw.frame() == (0x81, b"late")
        assert listener.server.server_state.connections == set()


async def test_a_handshake_that_is_refused_does_not_overtake_the_answer_before_it() -> None:
    async with listening(GRIP, http=HttpHall()) as listener, http_client(listener.port) as client:
        client.write(post("/", b"first") + handshake("/ws").replace(b"Version: 13", b"Version: 12"))
        assert (await client.answer()).body == b"first"
        assert (await client.answer()).status == 400


async def test_other_upgrades_are_not_taken() -> None:
    async with listening(GRIP, http=HttpHall()) as listener, http_client(listener.port) as client:
        for _ in range(2):
            answer = await client.ask(post("/", b"x", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"))
            assert (answer.status, answer.body) == (200, b"x")


async def test_no_door_for_http() -> None:
    async with listening(GRIP) as listener, http_client(listener.port) as client:
        assert (await client.ask(get())).status == 502
        assert (await client.ask(get())).status == 502


async def test_limits_of_a_route_and_of_the_process() -> None:
    limits = LimitSettings(connections_per_ip=1, headers=5, header_bytes=300)
    hall = HttpHall(when_whole=hold)
    edge = EdgeSettings(trusted_proxies=["127.0.0.1"], max_connections=2)
    async with listening(replace(GRIP, limits=limits), RouteSettings(path="/x"), http=hall, edge=edge) as listener:

        async def status(*extra: str) -> int:
            async with http_client(listener.port) as client:
                return (await client.ask(get("/", *extra))).status

        assert await status(*[f"X-{number}: 1" for number in range(5)]) == 431
        assert await status("X-Big: " + "x" * 400) == 431
        async with http_client(listener.port) as one, http_client(listener.port) as two:
            one.write(get("/", "X-Forwarded-For: 1.2.3.4"))
            await until(lambda: hall.visits)
            assert hall.visits[0].request.client == "1.2.3.4:0"
            assert await status("X-Forwarded-For: 1.2.3.4") == 429
            two.write(get("/", "X-Forwarded-For: 1.2.3.5", "X-Forwarded-Proto: https"))
            await until(lambda: len(hall.visits) == 2)
            assert hall.visits[1].request.scheme == "https"
            assert await status("X-Forwarded-For: 1.2.3.6") == 503
        await until(lambda: listener.reception.exchanges == 0)
        assert listener.limits_hit() == {"headers": 1, "header_bytes": 1, "connections_per_ip": 1, "max_connections": 1}


async def test_clients_cannot_speak_for_proxies_nor_for_the_edge() -> None:
    hall = HttpHall()
    async with listening(GRIP, http=hall) as listener, http_client(listener.port) as client:
        forged = ["Holdfast-Edge: me", "X-Forwarded-For: 9.9.9.9", "X_Forwarded_Proto: https", "X-Real-IP: 9.9.9.9"]
        await client.ask(get("/", *forged, "X-Mine: 1"))
        assert [name for name, _ in hall.visits[0].request.headers] == ["Host", "X-Mine"]


async def test_going_down_waits_for_answers_under_way() -> None:
    hall = HttpHall(when_whole=hold)
    async with (
        listening(GRIP, http=hall) as listener,
        http_client(listener.port) as busy,
        http_client(listener.port) as idle,
    ):
        await until(lambda: len(listener.server.server_state.connections) == 2)
        busy.write(get())
        await until(lambda: hall.visits)
        for connection in list(listener.server.server_state.connections):
            connection.shutdown()
        assert await idle.eof() == b""
        hall.visits[0].client.answer(200, "", [], b"last")
        answer = await busy.answer()
        assert (answer.body, answer["connection"]) == (b"last", "close")
        assert await busy.eof() == b""
