"""A backend that has links held for it, as its authors write one, and the users who want them: what they say has the
backend log them in. `benchmarks.peers.holdfast_links` starts it.

A link counts as logged in when the backend has been told that it is connected, and has its roster.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from websockets.asyncio.client import ClientConnection, connect

from backend_sdk import (
    App,
    AsyncPublisher,
    HoldfastError,
    Link,
    Message,
    ScramKeys,
    Session,
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
_TRIES = 30
_PAUSE_S = 1.0


class Desk:
    """What the backend was told, and who waits for it."""

    def __init__(self) -> None:
        self.connected: set[str] = set()
        self.rosters: set[str] = set()
        self.resumed_ns: dict[str, int] = {}
        self.heard: Counter[str] = Counter()
        """Bodies of messages."""
        self.echoes = True
        self._troubles: list[str] = []
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def told(self) -> None:
        """Something has changed: look who waits for it."""
        for condition, future in self._waiting:
            if not future.done() and (self._troubles or condition()):
                future.set_result(None)
        self._waiting = [waiting for waiting in self._waiting if not waiting[1].done()]

    def trouble(self, text: str) -> None:
        """Whoever waits, waits in vain."""
        self._troubles.append(text)
        self.told()

    async def until(self, condition: Callable[[], bool], missing: Callable[[], str]) -> None:
        """Raises RuntimeError when it takes too long, or something went wrong with any link."""
        if not condition():
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((condition, future))
            try:
                await asyncio.wait_for(future, _PATIENCE_S)
            except TimeoutError as error:
                raise RuntimeError(f"{missing()} after {_PATIENCE_S:g} s") from error
        if self._troubles:
            raise RuntimeError(f"{len(self._troubles)} troubles, first: {self._troubles[0]}")


def backend(desk: Desk, domain: str) -> App:
    app = App()
    login: dict[str, Any] = {"password": PASSWORD}
    if domain == KEYS_DOMAIN:
        keys = stored_keys()
        login = {"scram": ScramKeys("SHA-1", SALT, ITERATIONS, keys.client_key, keys.server_key)}

    @app.on_message
    async def wanted(session: Session, event: Message) -> None:
        name = f"u{event.text}"
        session.link(f"x:{name}").connect(
            f"{name}@{domain}",
            **login,
            resource="bench",
            roster=True,
            presence="<presence/>",
            keep_after_detach_s=_KEEP_S,
        )

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
        if desk.echoes and event.sender:
            link.send(event.sender, event.body)
        else:
            desk.told()

    @app.on_xmpp_auth_failed
    async def refused(link: Link, event: XmppAuthFailed) -> None:
        desk.trouble(f"{link.id} is refused: {event.condition} {event.text}")

    @app.on_xmpp_disconnected
    async def over(link: Link, event: XmppDisconnected) -> None:
        desk.trouble(f"{link.id} is over: {event.reason} {event.text}")

    @app.on_xmpp_reset
    async def reset(link: Link, event: XmppReset) -> None:
        desk.trouble(f"{link.id} had to log in anew: {event.reason}")

    @app.on_xmpp_send_failed
    async def unsent(link: Link, event: XmppSendFailed) -> None:
        desk.trouble(f"{link.id} could not send: {event.reason} {event.text}")

    return app


class Links:
    """The orders of the case."""

    def __init__(self, desk: Desk, at_once: int) -> None:
        self._desk = desk
        self._at_once = at_once
        self._users: list[ClientConnection] = []
        self._said: list[str] = []
        self._talking: asyncio.Task[None] | None = None

    async def log_in(self, url: str, first: int, count: int) -> Mapping[str, Any]:
        """By users who come to the edge at `url`, as many as may log in at once, and ask for one link after the other.
        They stay: their coming is not what is measured."""
        while len(self._users) < self._at_once:
            self._users.append(await connect(url, compression=None))
        numbers = iter(range(first, first + count))
        began = time.perf_counter_ns()
        await asyncio.gather(*(self._log_in(user, numbers) for user in self._users))
        return {"elapsed_ns": time.perf_counter_ns() - began}

    async def _log_in(self, user: ClientConnection, numbers: Iterator[int]) -> None:
        for number in numbers:
            await user.send(str(number))
            await self._logged_in(f"x:u{number}")

    async def _logged_in(self, link: str) -> None:
        connected, rosters = self._desk.connected, self._desk.rosters
        await self._desk.until(lambda: link in connected and link in rosters, lambda: f"{link} is not logged in")

    async def resumed(self, count: int) -> Mapping[str, Any]:
        """When the last of them was."""
        resumed_ns = self._desk.resumed_ns
        await self._desk.until(
            lambda: len(resumed_ns) == count, lambda: f"{len(resumed_ns)} of {count} sessions are resumed"
        )
        return {"last_ns": max(resumed_ns.values())}

    async def talk(self, control: str, to: str, per_s: float, count: int) -> Mapping[str, Any]:
        """No more echoes: from now on have one link after the other say something, `count` times in all, by the control
        API of an edge."""
        self._desk.echoes = False
        self._talking = asyncio.create_task(self._talk(control, to, per_s, count))
        return {}

    async def hush(self) -> Mapping[str, Any]:
        """Say no more. `said`: what an edge has taken."""
        if self._talking is not None:
            self._talking.cancel()
            await asyncio.wait([self._talking])
        return {"said": self._said}

    async def heard(self, bodies: list[str]) -> Mapping[str, Any]:
        """How many of these did not come at all, however long one waits, and how many more than once."""
        heard = self._desk.heard
        with contextlib.suppress(RuntimeError):
            await self._desk.until(lambda: all(body in heard for body in bodies), lambda: "some are not heard")
        return {
            "lost": sum(body not in heard for body in bodies),
            "doubled": sum(heard[body] > 1 for body in bodies),
        }

    async def _talk(self, control: str, to: str, per_s: float, count: int) -> None:
        under_way: set[asyncio.Task[None]] = set()
        names = sorted(self._desk.connected)
        async with AsyncPublisher(control, timeout_s=30) as publisher:
            try:
                for number in range(count):
                    order = actions.xmpp_send(to, f"out-{number}", id=f"bench-{number}")
                    task = asyncio.create_task(self._say(publisher, names[number % len(names)], order))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                    await asyncio.sleep(1 / per_s)
            finally:
                if under_way:
                    await asyncio.wait(under_way)

    async def _say(self, publisher: AsyncPublisher, link: str, order: Any) -> None:
        """Whoever is not told that it will be said orders it again: under the same id, it is said once."""
        for _ in range(_TRIES):
            try:
                await publisher.act(link, [order])
            except HoldfastError:
                await asyncio.sleep(_PAUSE_S)
            else:
                self._said.append(order["body"])
                return


async def main(options: argparse.Namespace) -> None:
    desk = Desk()
    links = Links(desk, options.at_once)
    orders = {each.__name__: each for each in (links.log_in, links.resumed, links.talk, links.hush, links.heard)}
    app = backend(desk, options.domain)
    settings = uvicorn.Config(app, port=options.port, log_level="warning", access_log=False)
    async with await take_orders(options.orders, orders):
        await uvicorn.Server(settings).serve()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--domain", required=True)
    parser.add_argument("--at-once", type=int, required=True)
    uvloop.run(main(parser.parse_args()))
