"""A backend that has links held for it, as its authors write one: the SDK's App, and its publisher to order with.
`benchmarks.peers.holdfast_links` starts it.

A link counts as logged in when the backend has been told that it is connected, and has its roster.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from backend_sdk import (
    App,
    AsyncPublisher,
    HoldfastError,
    Link,
    ScramKeys,
    XmppAuthFailed,
    XmppConnected,
    XmppDisconnected,
    XmppMessage,
    XmppReset,
    XmppResumed,
    XmppRoster,
    XmppSendFailed,
    actions,
)
from benchmarks.peers.orders import take_orders
from benchmarks.peers.xmpp_server import ITERATIONS, KEYS_DOMAIN, PASSWORD, SALT, stored_keys

_PATIENCE_S = 120.0
_KEEP_S = 86_400
_TRIES = 60


class Desk:
    """What the backend was told, and who waits for it."""

    def __init__(self) -> None:
        self.connected: set[str] = set()
        self.rosters: set[str] = set()
        self.resumed_ns: dict[str, int] = {}
        self.heard: Counter[str] = Counter()
        """Bodies of messages."""
        self.echoes = True
        self.troubles: list[str] = []
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def told(self) -> None:
        """Something has changed: look who waits for it."""
        for condition, future in self._waiting:
            if not future.done() and (self.troubles or condition()):
                future.set_result(None)
        self._waiting = [waiting for waiting in self._waiting if not waiting[1].done()]

    async def until(self, condition: Callable[[], bool], what: Callable[[], str]) -> None:
        """Raises RuntimeError when it takes too long, or something went wrong with any link."""
        if not condition():
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((condition, future))
            try:
                await asyncio.wait_for(future, _PATIENCE_S)
            except TimeoutError as error:
                raise RuntimeError(f"{what()} after {_PATIENCE_S:g} s") from error
        if self.troubles:
            raise RuntimeError("; ".join(self.troubles[:3]))


def backend(desk: Desk) -> App:
    app = App()

    @app.on_xmpp_connected
    async def connected(link: Link, _: XmppConnected) -> None:
        desk.connected.add(link.id)
        desk.told()

    @app.on_xmpp_roster
    async def roster(link: Link, event: XmppRoster) -> None:
        if event.full:
            desk.rosters.add(link.id)
            desk.told()

    @app.on_xmpp_resumed
    async def resumed(link: Link, _: XmppResumed) -> None:
        desk.resumed_ns[link.id] = time.perf_counter_ns()
        desk.told()

    @app.on_xmpp_message
    async def heard(link: Link, event: XmppMessage) -> None:
        desk.heard[event.body or ""] += 1
        desk.told()
        if desk.echoes and event.sender:
            link.send(event.sender, event.body)

    @app.on_xmpp_auth_failed
    async def refused(link: Link, event: XmppAuthFailed) -> None:
        desk.troubles.append(f"{link.id} is refused: {event.condition} {event.text}")
        desk.told()

    @app.on_xmpp_disconnected
    async def over(link: Link, event: XmppDisconnected) -> None:
        desk.troubles.append(f"{link.id} is over: {event.reason} {event.text}")
        desk.told()

    @app.on_xmpp_reset
    async def reset(link: Link, event: XmppReset) -> None:
        desk.troubles.append(f"{link.id} had to log in anew: {event.reason}")
        desk.told()

    @app.on_xmpp_send_failed
    async def unsent(link: Link, event: XmppSendFailed) -> None:
        desk.troubles.append(f"{link.id} could not send: {event.reason} {event.text}")
        desk.told()

    return app


class Links:
    """The orders of the case."""

    def __init__(self, desk: Desk, domain: str, at_once: int) -> None:
        self._desk = desk
        self._domain = domain
        self._at_once = at_once
        self._said: list[str] = []
        self._talking: asyncio.Task[None] | None = None
        self._login: dict[str, Any] = {"password": PASSWORD}
        if domain == KEYS_DOMAIN:
            keys = stored_keys()
            self._login = {"scram": ScramKeys("SHA-1", SALT, ITERATIONS, keys.client_key, keys.server_key)}

    async def log_in(self, control: str, first: int, count: int) -> Mapping[str, Any]:
        """By the control API of an edge."""
        desk, room = self._desk, asyncio.Semaphore(self._at_once)

        async def one(number: int) -> None:
            link = f"x:u{number}"
            connect = actions.xmpp_connect(
                f"u{number}@{self._domain}",
                **self._login,
                resource="bench",
                roster=True,
                presence="<presence/>",
                attach=[],
                keep_after_detach_s=_KEEP_S,
            )
            async with room:
                await publisher.act(link, [connect])
                await desk.until(
                    lambda: link in desk.connected and link in desk.rosters, lambda: f"{link} is not logged in"
                )

        async with AsyncPublisher(control, timeout_s=30) as publisher:
            began = time.perf_counter_ns()
            await asyncio.gather(*map(one, range(first, first + count)))
            return {"elapsed_ns": time.perf_counter_ns() - began}

    async def resumed(self, count: int) -> Mapping[str, Any]:
        """When the first and the last of them were."""
        desk = self._desk
        await desk.until(
            lambda: len(desk.resumed_ns) == count, lambda: f"{len(desk.resumed_ns)} of {count} sessions are resumed"
        )
        return {"last_ns": max(desk.resumed_ns.values())}

    async def talk(self, control: str, to: str, per_s: float) -> Mapping[str, Any]:
        """No more echoes: from now on have one link after the other say something, by the control API of an edge."""
        self._desk.echoes = False
        self._talking = asyncio.create_task(self._talk(control, to, per_s))
        return {}

    async def hush(self) -> Mapping[str, Any]:
        """Say no more. `said`: what an edge has said it would say."""
        if self._talking is not None:
            self._talking.cancel()
            await asyncio.wait([self._talking])
        return {"said": self._said}

    async def heard(self, bodies: list[str]) -> Mapping[str, Any]:
        """How many of these did not come at all, however long one waits, and how many more than once."""
        desk = self._desk
        with contextlib.suppress(RuntimeError):
            await desk.until(lambda: all(body in desk.heard for body in bodies), lambda: "not all is heard")
        return {
            "lost": sum(body not in desk.heard for body in bodies),
            "doubled": sum(desk.heard[body] > 1 for body in bodies),
        }

    async def _talk(self, control: str, to: str, per_s: float) -> None:
        under_way: set[asyncio.Task[None]] = set()
        names = sorted(self._desk.connected)
        async with AsyncPublisher(control, timeout_s=30, attempts=20) as publisher:

            async def say(number: int) -> None:
                body = f"out-{number}"
                # Who is not told that it will be said says it again; under the same id, it is said once.
                order = actions.xmpp_send(to, body, id=f"bench-{number}")
                for _ in range(_TRIES):
                    try:
                        await publisher.act(names[number % len(names)], [order])
                    except HoldfastError:
                        await asyncio.sleep(0.5)
                    else:
                        self._said.append(body)
                        return

            try:
                for number in itertools.count():
                    task = asyncio.create_task(say(number))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                    await asyncio.sleep(1 / per_s)
            finally:
                if under_way:
                    await asyncio.wait(under_way)


async def main(options: argparse.Namespace) -> None:
    desk = Desk()
    links = Links(desk, options.domain, options.at_once)
    settings = uvicorn.Config(backend(desk), port=options.port, log_level="warning", access_log=False)
    orders = {each.__name__: each for each in (links.log_in, links.resumed, links.talk, links.hush, links.heard)}
    await take_orders(options.orders, orders)
    await uvicorn.Server(settings).serve()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--domain", required=True)
    parser.add_argument("--at-once", type=int, required=True)
    uvloop.run(main(parser.parse_args()))
