"""A routes file of Pushpin's: the edge starts from it alone, and follows it under live connections."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.support.client import RecordingClient, connect
from tests.support.grip_proxy import http_url, publish, ws_url
from tests.support.ports import LOOPBACK
from tests.support.processes import Edge
from tests.support.raw_backend import Answer, Asked, RawBackend, raw_backend
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario

EVENTS = "application/websocket-events"
IN_FORCE = "new settings are in force"


class RoutedEdge(Edge):
    """An edge that is given a routes file and flags, and no other file."""

    def __init__(self, folder: Path, routes: str) -> None:
        super().__init__(folder, backend="http://unused", name="holdfast")
        self.routes = folder / "routes"
        self.routes.write_text(routes)

    async def start(self) -> None:
        self.spawn(
            [
                str(Path(sys.executable).with_name("holdfast")), "serve", "--grip-routes", str(self.routes),
                "--listen", f"{LOOPBACK}:{self.port}", "--control", f"{LOOPBACK}:{self.control_port}",
                "--data", str(self.folder / "data"), "--drain-delay", "0", "--drain-window", "0.5",
            ]
        )  # fmt: skip
        await self.until_ready()

    async def follows(self, replace: str) -> None:
        """Put a new file in the place of the old one, as editors do, and wait until its routes are in force."""
        before = self.log().count(IN_FORCE)
        new = self.routes.with_name("routes.new")
        new.write_text(replace)
        new.rename(self.routes)
        await wait_until(lambda: self.log().count(IN_FORCE) > before, "the new routes are in force")


async def echo(asked: Asked) -> Answer:
    """Opens WebSockets, echoes what comes over them, and says its host to others."""
    if not asked.body:
        return Answer(body=f"{asked.header('host')} {asked.target}".encode())
    return Answer(headers=[("Content-Type", EVENTS)], body=asked.body)


async def ask(client: RecordingClient, text: str) -> str:
    expected = len(client.messages) + 1
    await client.send(text)
    return str((await client.expect(expected))[-1])


async def get(edge: Edge, path: str) -> tuple[int, str]:
    async with httpx.AsyncClient() as client:
        response = await client.get(http_url(edge, path))
        return response.status_code, response.text


def place(backend: RawBackend) -> str:
    return backend.url.removeprefix("http://")


async def test_connections_stay_when_the_routes_file_changes(tmp_path: Path) -> None:
    async with (
        raw_backend(echo) as one,
        raw_backend(echo) as two,
        RoutedEdge(tmp_path, f"# all of it\n*,path_beg=/chat {place(one)},over_http\n") as edge,
        connect(ws_url(edge, "/chat")) as client,
    ):
        assert await ask(client, "hello") == "hello"
        assert (await get(edge, "/news"))[0] == 404

        # A route is added, one goes to another backend.
        await edge.follows(
            f"*,path_beg=/chat {place(two)},over_http\n*,path_beg=/news,as_host=news.example {place(one)}\n"
        )
        assert await get(edge, "/news/today") == (200, "news.example /news/today")
        before = len(two.asked)
        assert await ask(client, "and now") == "and now"
        assert len(two.asked) > before

        # A file with mistakes changes nothing, and each of them is in the log with its line.
        edge.routes.write_text(f"*,path_beg=/chat {place(two)},over_http\nx.example\n*,sockjs=/x a:1\n")
        await wait_until(lambda: "the old ones stay in force" in edge.log(), "the mistakes are found")
        assert f"{edge.routes}:2: target is missing" in edge.log()
        assert f"{edge.routes}:3: sockjs is not supported" in edge.log()
        assert (await get(edge, "/news"))[0] == 200
        assert await ask(client, "still here") == "still here"

        # So does one that is gone.
        edge.routes.unlink()
        await wait_until(lambda: "the routes read last stay in force" in edge.log(), "it is missed")
        assert (await get(edge, "/news"))[0] == 200
        assert await ask(client, "and here") == "and here"

        # The next good one is taken over; who is connected stays, also where no route is any more.
        await edge.follows(f"*,path_beg=/other {place(one)}\n")
        assert (await get(edge, "/news"))[0] == 404
        with pytest.raises(InvalidStatus):
            async with connect(ws_url(edge, "/chat")):
                pass
        assert await ask(client, "to the end") == "to the end"
        assert client.ending is None


async def test_a_link_that_is_pointed_to_another_folder_is_noticed(tmp_path: Path) -> None:
    for version, path in (("v1", "/one"), ("v2", "/two")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "routes").write_text(f"*,path_beg={path} test\n")
    (tmp_path / "data-now").symlink_to("v1")
    edge = RoutedEdge(tmp_path, "")
    edge.routes.unlink()
    edge.routes.symlink_to(tmp_path / "data-now" / "routes")
    async with edge:
        assert (await get(edge, "/one/"))[0] == 200
        (tmp_path / "data-next").symlink_to("v2")
        os.replace(tmp_path / "data-next", tmp_path / "data-now")
        await wait_until(lambda: IN_FORCE in edge.log(), "the new routes are in force")
        assert (await get(edge, "/one/"))[0] == 404
        assert (await get(edge, "/two/"))[0] == 200


async def test_the_test_backend_shows_that_holds_and_websockets_work(tmp_path: Path) -> None:
    async with RoutedEdge(tmp_path, "*,path_beg=/try test\n") as edge:
        assert await get(edge, "/try/") == (200, "Hello from the Holdfast test handler!\n")
        assert (await get(edge, "/try/nowhere"))[0] == 404
        async with httpx.AsyncClient() as http, http.stream("GET", http_url(edge, "/try/stream")) as response:
            lines = response.aiter_lines()
            assert await anext(lines) == "[stream opened]"
            await publish(edge, {"channel": "test", "formats": {"http-stream": {"content": "hello\n"}}})
            assert await anext(lines) == "hello"
        async with connect(ws_url(edge, "/try/ws?channel=mine")) as client:
            assert await ask(client, "echo") == "echo"
            await publish(edge, {"channel": "mine", "formats": {"ws-message": {"content": "to you"}}})
            assert (await client.expect(2))[-1] == "to you"
