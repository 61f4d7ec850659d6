"""What a test asks of a GRIP proxy, whichever it is: the route to a backend, where clients come in, where to publish.

`tests.support.pushpin.Pushpin` is the original, `GripEdge` here is ours; a test that takes either shows that they do
the same.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.support.ports import LOOPBACK
from tests.support.processes import Edge


@dataclass(frozen=True, slots=True)
class GripRoute:
    """One route with its backends, tried in order. Every field says what both proxies can be told."""

    backends: Sequence[str]
    """URLs, http:// and without a path."""
    path: str = "/"
    strip: bool = False
    """Cut `path` off before the backend sees it; it then must not end with a slash."""
    over_http: bool = True
    one_event: bool = False
    subscribe: Sequence[str] = ()
    """Implicit channels of every connection."""
    debug: bool = False
    prefix: str = ""
    sig_key: str = "changeme"
    sig_iss: str = "pushpin"


class GripProxy(Protocol):
    """A running proxy. Both are async context managers that start with their block and are gone after it."""

    name: str
    port: int

    @property
    def control_url(self) -> str:
        """What a library is given as ``control_uri``: it appends ``/publish/``."""
        ...

    def log(self) -> str: ...


def http_url(proxy: GripProxy, path: str = "/") -> str:
    return f"http://{LOOPBACK}:{proxy.port}{path}"


def ws_url(proxy: GripProxy, path: str = "/") -> str:
    return f"ws://{LOOPBACK}:{proxy.port}{path}"


async def publish(proxy: GripProxy, *items: Mapping[str, Any]) -> None:
    """POST items as any library does; what is not 200 is an AssertionError with the answer's text."""
    status, text = await post_publish(proxy, json.dumps({"items": items}).encode())
    assert status == 200, (status, text)


async def post_publish(
    proxy: GripProxy, body: bytes, headers: Mapping[str, str] | None = None, path: str = "/publish/"
) -> tuple[int, str]:
    """Status and text of a POST to the control port."""
    return await asyncio.to_thread(_post, proxy.control_url, path, body, headers or {})


def _post(control_url: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
    host = control_url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace").strip()
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class EdgeOptions:
    """What only ours has: tables laid over the configuration."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Top-level tables, such as ``{"publisher": [{…}], "grip": {…}}``."""
    edge: Mapping[str, Any] = field(default_factory=dict)
    route: Mapping[str, Any] = field(default_factory=dict)
    """Laid over every route, such as ``{"timeouts": {"ping_s": 3600.0}}``."""


class GripEdge(Edge):
    """A Holdfast edge whose routes speak GRIP."""

    def __init__(
        self, folder: Path, *routes: GripRoute, options: EdgeOptions | None = None, redis: str = "", workers: int = 1,
        name: str = "holdfast",
    ) -> None:  # fmt: skip
        options = options or EdgeOptions()
        tables = [{**_table(route), **options.route} for route in routes]
        super().__init__(folder, routes=tables, edge=options.edge, redis=redis, workers=workers, name=name)
        self.settings.update(options.settings)


def _table(route: GripRoute) -> dict[str, Any]:
    """The ``[[route]]`` table of a route."""
    targets = [
        {"url": url, "over_http": route.over_http, "one_event": route.one_event, "subscribe": list(route.subscribe)}
        for url in route.backends
    ]
    grip = {
        "debug": route.debug,
        "prefix": route.prefix,
        "sig_key": route.sig_key,
        "sig_iss": route.sig_iss,
        "path_remove": len(route.path) if route.strip else 0,
    }
    # An app of its own: its backend is another one.
    app = {"app": route.path.strip("/").replace("/", "-")} if route.path != "/" else {}
    return {**app, "path": route.path, "protocol": "grip", "grip": grip, "target": targets}
