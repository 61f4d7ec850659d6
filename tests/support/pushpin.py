"""Pushpin itself, as Debian ships it: the measure for everything that is called compatible.

It runs in a scratch folder on free ports with its default settings; only its logs say more. Its parts find each other
over ZeroMQ some time after its ports accept, so `start` goes on until a request has come through all of them.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import socket
import tempfile
from pathlib import Path

from tests.support.grip_proxy import GripRoute
from tests.support.needs import missing, needs_program
from tests.support.ports import LOOPBACK, free_port
from tests.support.processes import Managed
from tests.support.raw_websocket import handshake
from tests.support.waiting import wait_until

_LIBRARY = Path("/usr/lib/pushpin")
_HELD = "held.invalid"
"""A host whose route is Pushpin's built-in test backend: proxy and handler are up when it holds."""
_NOWHERE = "nowhere.invalid"
"""A host whose backend nobody can reach: zurl is up when that is the answer."""


class Pushpin(Managed):
    """A Pushpin with routes of its own. Absent: the calling test is skipped, or fails under ``CI=true``.

    `settings` are lines for a section of its configuration, such as ``{"handler": ["message_wait=500"]}``.
    """

    def __init__(
        self, folder: Path, *routes: GripRoute, settings: dict[str, list[str]] | None = None, name: str = "pushpin"
    ) -> None:
        super().__init__(name, folder)
        for program in ("pushpin", "zurl", "condure"):
            needs_program(program, "the proxy to compare with (Debian: pushpin, zurl)")
        if not (_LIBRARY / "internal.conf").exists():
            missing(f"{_LIBRARY}/internal.conf is missing: Pushpin is installed in a way this test does not know")
        self.port = free_port()
        self.publish_port = free_port()
        self.pull_port, self.sub_port = free_port(), free_port()
        self._command_port = free_port()
        self._routes = routes
        self._settings = settings or {}
        # Short: the path of a Unix socket ends at 107 bytes, and pytest's folders are long.
        self.scratch = Path(tempfile.mkdtemp(prefix="hfp-"))
        self._zurl = _Zurl(folder, self.scratch)

    @property
    def control_url(self) -> str:
        return f"http://{LOOPBACK}:{self.publish_port}"

    async def start(self) -> None:
        self._configure()
        await self._zurl.__aenter__()
        self.spawn([needs_program("pushpin", ""), f"--config={self.scratch}/pushpin.conf", "--merge-output"])
        await wait_until(self._ready, f"{self.name} is ready")

    async def kill_tree(self) -> None:
        await super().kill_tree()
        await self._zurl.kill_tree()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def log_tail(self) -> str:
        return f"{super().log_tail()}\n{self._zurl.log_tail()}"

    async def _ready(self) -> bool:
        self.check_running()
        return (
            await asyncio.to_thread(_publishes, self.port, self.publish_port)
            and await asyncio.to_thread(_publishes_to_sockets, self.port, self.publish_port)
            and await asyncio.to_thread(_asks_backends, self.port)
        )

    def _configure(self) -> None:
        lines = [
            f"{_HELD} test",
            f"{_NOWHERE} {LOOPBACK}:1",
            *(_line(route) for route in self._routes),
        ]
        (self.scratch / "routes").write_text("".join(f"{line}\n" for line in lines))
        zurl = f"ipc://{self.scratch}/zurl"
        sections = {
            "global": [f"include={_LIBRARY}/internal.conf", f"rundir={self.scratch}", "ipc_prefix=p-"],
            "runner": [
                "services=condure,pushpin-proxy,pushpin-handler",
                f"http_port={LOOPBACK}:{self.port}",
                f"logdir={self.scratch}",
                "log_level=3",
                "client_maxconn=1000",
                "condure_bin=condure",
            ],
            "proxy": [
                f"routesfile={self.scratch}/routes",
                f"zurl_out_specs={zurl}-in",
                f"zurl_out_stream_specs={zurl}-in-stream",
                f"zurl_in_specs={zurl}-out",
                "updates_check=off",
            ],
            "handler": [
                f"push_in_spec=tcp://{LOOPBACK}:{self.pull_port}",
                f"push_in_sub_specs=tcp://{LOOPBACK}:{self.sub_port}",
                f"push_in_http_addr={LOOPBACK}",
                f"push_in_http_port={self.publish_port}",
                f"command_spec=tcp://{LOOPBACK}:{self._command_port}",
            ],
        }
        for name, more in self._settings.items():
            sections[name] += more
        text = "".join(f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections.items())
        (self.scratch / "pushpin.conf").write_text(text)


class _Zurl(Managed):
    """Pushpin's HTTP client, a daemon of its own in this version."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        super().__init__("zurl", folder)
        self._scratch = scratch

    async def start(self) -> None:
        socket = f"ipc://{self._scratch}/zurl"
        config = self._scratch / "zurl.conf"
        config.write_text(
            f"[General]\ninstance_id=\nin_spec={socket}-in\nin_stream_spec={socket}-in-stream\nout_spec={socket}-out\n"
            "in_req_spec=\ndefpolicy=allow\nallow=\ndeny=\nmax_open_requests=1000\nbuffer_size=200000\n"
            "timeout=600\nin_hwm=1000\nout_hwm=1000\n"
        )
        self.spawn([needs_program("zurl", ""), f"--config={config}", "--loglevel=2"])

        def listening() -> bool:
            self.check_running()
            return (self._scratch / "zurl-out").exists()

        await wait_until(listening, "zurl listens")


def _line(route: GripRoute) -> str:
    """A route as a line of Pushpin's routes file."""
    condition = [
        "*",
        *([f"path_beg={route.path}"] if route.path != "/" else []),
        *([f"path_rem={len(route.path)}"] if route.strip else []),
        *(["debug"] if route.debug else []),
        *([f"prefix={route.prefix}"] if route.prefix else []),
        f'sig_key="{route.sig_key}"',
        f"sig_iss={route.sig_iss}",
    ]
    options = [
        *(["over_http"] if route.over_http else []),
        *(["one_event"] if route.one_event else []),
        *(f"sub={channel}" for channel in route.subscribe),
    ]
    targets = [",".join([url.removeprefix("http://").rstrip("/"), *options]) for url in route.backends]
    return " ".join([",".join(condition), *targets])


def _publishes(port: int, publish_port: int) -> bool:
    """Whether a held response is answered by a publication."""
    client, publisher = (http.client.HTTPConnection(LOOPBACK, number, timeout=1) for number in (port, publish_port))
    formats = {"http-stream": {"content": "x"}}, {"http-stream": {"action": "close"}}
    items = json.dumps({"items": [{"channel": "held", "formats": each} for each in formats]})
    try:
        client.request("GET", "/stream?channel=held", headers={"Host": _HELD})
        answer = client.getresponse()
        publisher.request("POST", "/publish/", items, {"Content-Type": "application/json"})
        # The subscription is in force a moment after the answer: without it nothing comes, and the time limit ends it.
        return publisher.getresponse().status == 200 and answer.status == 200 and b"x" in answer.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        client.close()
        publisher.close()


def _publishes_to_sockets(port: int, publish_port: int) -> bool:
    """Whether a WebSocket is published to: other sockets between proxy and handler than those of holds. Before they are
    connected, the first subscriptions are lost, and their clients dropped."""
    publisher = http.client.HTTPConnection(LOOPBACK, publish_port, timeout=1)
    items = json.dumps({"items": [{"channel": "held-socket", "formats": {"ws-message": {"content": "published"}}}]})
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1) as client:
            client.sendall(handshake("/ws?channel=held-socket", host=_HELD))
            if not client.recv(4096).startswith(b"HTTP/1.1 101 "):
                return False
            publisher.request("POST", "/publish/", items, {"Content-Type": "application/json"})
            return publisher.getresponse().status == 200 and b"published" in client.recv(4096)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        publisher.close()


def _asks_backends(port: int) -> bool:
    client = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        client.request("GET", "/", headers={"Host": _NOWHERE})
        return client.getresponse().status == 502
    except (OSError, http.client.HTTPException):
        return False
    finally:
        client.close()
