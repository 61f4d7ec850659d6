"""Edges that hold links to a real XMPP server, the backend behind them, and what that backend was told.

What holds of every test is checked when its block ends: each event had one content, each link's events came in order
and without holes, no edge had an error it did not expect, and no password is in any log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.store.keys import Keys
from tests.support.client import RecordingClient, connect
from tests.support.journal import Journal
from tests.support.processes import Backend, Edge
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until
from tests.support.xmpp import COMPONENT_DOMAIN, DOMAIN, PASSWORD, SECRET, SERVERS, XmppServer

UNNUMBERED = ("xmpp.credentials", "release")
"""Events that concern one owner of a link only, and are not stored."""
APP = "tests.scenarios.xmpp.link_app:app"
KEY_VARIABLE = "HOLDFAST_LINK_KEY"
QUESTION = "vcard"
"""The name of questions that the backend has a handler of its own for."""
RESOURCE = "edge"
COMPONENT = "x:component"
"""The link of the component."""
LEASE_S = 2.0
FOREVER_S = 86_400
MANY_S = 120.0
"""Deadline for what many links do, on a machine that has other things to do."""


def link_id(number: int) -> str:
    return f"x:u{number}"


def full_jid(number: int) -> str:
    """What the link of the account `u<number>` is bound to."""
    return f"u{number}@{DOMAIN}/{RESOURCE}"


@dataclass(frozen=True, slots=True)
class Told:
    """An event of a link, as the backend was told it first."""

    link: str
    seq: int
    type: str
    fields: Mapping[str, Any] = field(repr=False)

    @property
    def body(self) -> str | None:
        body = self.fields["stanza"]["body"] if self.type == "xmpp.message" else None
        return None if body is None else str(body)


class Notes:
    """The backend's journal without repeats: an event is told at least once, always under the same id."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._read = 0
        self._contents: dict[str, Any] = {}
        self._told: dict[str, list[Told]] = defaultdict(list)
        self._refused: list[Mapping[str, Any]] = []
        """To sessions of clients."""
        self.repeats = 0

    def of(self, type: str, link: str) -> list[Told]:
        """A link's events of a type, oldest first."""
        self._catch_up()
        return [told for told in self._told[link] if told.type == f"xmpp.{type}"]

    def all(self, type: str) -> list[Told]:
        """All links' events of a type, oldest first for each link."""
        self._catch_up()
        return [told for events in self._told.values() for told in events if told.type == f"xmpp.{type}"]

    def unnumbered(self, type: str, link: str) -> list[Told]:
        """A link's events of a type of `UNNUMBERED`, oldest first."""
        self._catch_up()
        return [told for told in self._told[link] if told.type == type]

    def bodies(self, link: str) -> list[str]:
        return [told.body for told in self.of("message", link) if told.body is not None]

    def refusals(self) -> list[Mapping[str, Any]]:
        """What sessions, of clients and links, were told could not be carried out."""
        self._catch_up()
        of_links = [told for events in self._told.values() for told in events if told.type == "refused"]
        return [*self._refused, *(told.fields for told in of_links)]

    def forgive_refusals(self) -> None:
        """They were what the test wanted."""
        self._catch_up()
        self._refused.clear()

    def check(self) -> None:
        """Events of each link began with 1, and came one after the other."""
        self._catch_up()
        for link, events in self._told.items():
            numbers = [told.seq for told in events if told.type not in UNNUMBERED]
            assert numbers == list(range(1, len(numbers) + 1)), f"{link}: {events}"

    def _catch_up(self) -> None:
        with self._journal.path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # being written
                self._read += len(line)
                self._take(json.loads(line))

    def _take(self, note: dict[str, Any]) -> None:
        link = note.pop("link", None)
        if link is None:
            self._refused.append(note)
            return
        id = note["id"]
        content = {name: value for name, value in note.items() if name not in ("attempt", "pid")}
        if id in self._contents:
            self.repeats += 1
            assert self._contents[id] == content, "a repeated event has changed"
            return
        self._contents[id] = content
        if note["type"] in UNNUMBERED:
            self._told[link].append(Told(link, 0, note["type"], content))
            return
        before, _, seq = id.rpartition(":")
        assert before == link
        assert note.get("seq", int(seq)) == int(seq)
        self._told[link].append(Told(link, int(seq), note["type"], content))


class Held:
    """The processes of a test. Edges may be killed and started; the block's end ends them all."""

    def __init__(
        self,
        folder: Path,
        server: XmppServer,
        redis: RedisServer,
        backend: Backend,
        journal: Journal,
        stack: contextlib.AsyncExitStack,
        edge: Mapping[str, Any],
        xmpp: Mapping[str, Any],
        component: Mapping[str, Any] | None,
        releases: Mapping[str, Backend],
        policy: str,
        timeouts: Mapping[str, float],
    ) -> None:
        self.server, self.redis, self.backend = server, redis, backend
        self.releases = releases
        """By SHA, the one of `backend` first; empty when there is only that."""
        self.edges: list[Edge] = []
        """Those that were not killed, oldest first."""
        self.notes = Notes(journal)
        self._folder, self._stack, self._edge, self._xmpp = folder, stack, edge, xmpp
        self._component = component
        self._policy, self._timeouts = policy, timeouts
        self._ever: list[Edge] = []

    # ------------------------------------------------------------------ edges

    async def start_edge(self) -> Edge:
        """One more."""
        number = len(self._ever)
        edge = Edge(
            self._folder,
            name=f"edge{number}",
            routes=[self._route()],
            redis=self.redis.url,
            edge={"lease_s": LEASE_S, "link_keys": [f"env:{KEY_VARIABLE}"], **self._edge},
            xmpp=self._servers(),
            environment={KEY_VARIABLE: "a key that all edges of a test share"},
        )  # fmt: skip
        self._ever.append(edge)
        await self._stack.enter_async_context(edge)
        self.edges.append(edge)
        return edge

    def _route(self) -> Mapping[str, Any]:
        route: dict[str, Any] = {"backend": self.backend.url, "policy": self._policy, "timeouts": self._timeouts}
        if self.releases:
            sha, *others = self.releases
            route |= {"release": sha, "release_urls": [self.releases[other].url for other in others]}
        return route

    def _servers(self) -> list[Mapping[str, Any]]:
        server = self.server
        users = {
            "domain": DOMAIN, "host": "127.0.0.1", "port": server.port, "tls": "starttls",
            "ca_file": str(server.certificate), **self._xmpp,
        }  # fmt: skip
        if self._component is None:
            return [users]
        component = {
            "domain": COMPONENT_DOMAIN, "host": "127.0.0.1", "port": server.component_port, "component_secret": SECRET,
            **self._component,
        }  # fmt: skip
        return [users, component]

    async def kill(self, edge: Edge) -> None:
        """SIGKILL it, for good."""
        self.edges.remove(edge)
        await edge.sigkill()

    async def drain(self, edge: Edge) -> None:
        """SIGTERM it, and wait until it has ended well."""
        self.edges.remove(edge)
        edge.sigterm()
        assert await edge.exit_code() == 0

    async def id_of(self, edge: Edge) -> str:
        """What the (only) worker of this edge is called among edges now."""
        async with connect(edge.url()) as client:
            [session] = await client.expect(1)
            return await self.owner(str(session), edge)

    async def owner(self, session: str, edge: Edge | None = None) -> str:
        """The id of the edge that has this session, or link; empty when nobody has."""
        status, body = await (edge or self.edges[-1]).get(f"/v1/sessions/{session}")
        return str(json.loads(body).get("edge") or "") if status == 200 else ""

    async def lapsed(self, id: str) -> None:
        """Wait until the lease of the edge with this id is over."""
        leases = Keys().edges

        def over() -> bool:
            with self.redis.client() as client:
                seconds, micros = client.time()
                until = client.zscore(leases, id)
            return until is None or until < seconds * 1_000 + micros // 1_000

        await wait_until(over, f"the lease of {id} is over", MANY_S)

    async def links_of(self, edge: Edge, numbers: Iterable[int]) -> list[int]:
        """Which of these it owns."""
        id = await self.id_of(edge)
        return [number for number in numbers if await self.owner(link_id(number), edge) == id]

    # ------------------------------------------------------------------ orders

    @contextlib.asynccontextmanager
    async def client(
        self, *orders: tuple[str, str, Mapping[str, Any]], edge: Edge | None = None
    ) -> AsyncIterator[RecordingClient]:
        """A client of the edge, in answer to whom the backend has given these orders: (link, order, arguments)."""
        async with connect((edge or self.edges[-1]).url()) as client:
            await client.send(json.dumps(orders))
            await client.expect_that(lambda heard: "ordered" in heard, "the backend has given its orders")
            yield client

    async def order(self, *orders: tuple[str, str, Mapping[str, Any]], edge: Edge | None = None) -> None:
        """Have the backend give these orders, in one answer to a client of the edge, who leaves then."""
        async with self.client(*orders, edge=edge):
            pass

    async def begin(self, numbers: Sequence[int], edge: Edge | None = None, **options: Any) -> None:
        """Order links for these accounts, as if one client had; see `connected`."""
        settings = {
            "resource": RESOURCE, "presence": "<presence/>", "stanzas": ["message", "iq"], "attach": [],
            "keep_after_detach_s": FOREVER_S, **options,
        }  # fmt: skip
        for first in range(0, len(numbers), 50):
            chunk = numbers[first : first + 50]
            orders = [(link_id(each), "connect", {"jid": self.server.jid(each), **settings}) for each in chunk]
            await self.order(*orders, edge=edge)

    async def connect(self, numbers: Sequence[int], **options: Any) -> None:
        """Links for these accounts, spread over all edges; returns when they are live."""
        share = len(self.edges)
        begun = [self.begin(numbers[place::share], edge, **options) for place, edge in enumerate(self.edges)]
        await asyncio.gather(*begun)
        await self.happened("connected", numbers)

    async def begin_component(self, edge: Edge | None = None, **options: Any) -> None:
        """Order the link of the component; see `told`."""
        await self.order((COMPONENT, "connect", {"jid": COMPONENT_DOMAIN, "attach": [], **options}), edge=edge)

    # ------------------------------------------------------------------ what the backend was told

    async def told(self, type: str, link: str, times: int = 1) -> Sequence[Told]:
        """Wait until a link has told of so many events of a type; all of them."""
        await wait_until(lambda: len(self.notes.of(type, link)) >= times, f"{link} has told of {type} {times}×", MANY_S)
        return self.notes.of(type, link)

    async def happened(self, type: str, numbers: Iterable[int], times: int = 1) -> None:
        """Wait until each of these links has told of so many events of a type."""
        await self._reached(type, dict.fromkeys(numbers, times))

    async def happened_again(self, type: str, before: Mapping[int, int]) -> None:
        """Wait until each of these links has told of more events of a type than in these `counts`."""
        await self._reached(type, {number: count + 1 for number, count in before.items()})

    async def _reached(self, type: str, wanted: Mapping[int, int]) -> None:
        missing = set(wanted)

        def told() -> bool:
            missing.difference_update(
                [each for each in missing if len(self.notes.of(type, link_id(each))) >= wanted[each]]
            )
            return not missing

        try:
            await wait_until(told, f"{len(wanted)} links have told of {type}", MANY_S)
        except AssertionError as error:
            error.add_note(f"missing: {sorted(missing)}")
            raise

    def counts(self, type: str, numbers: Iterable[int]) -> dict[int, int]:
        """How many events of a type each link has told of."""
        return {number: len(self.notes.of(type, link_id(number))) for number in numbers}

    def stanzas_counted(self, number: int) -> int:
        """How many stanzas the link has counted as received, as its owner keeps it."""
        with self.redis.client() as client:
            counted: Any = client.hget(Keys().link(link_id(number))[0], "h_in")
        return int(counted or 0)

    async def has_heard(self, number: int, bodies: Sequence[str]) -> None:
        """Wait until the link has told of all these messages; and it tells of no others, in this order."""
        link = link_id(number)
        await wait_until(lambda: set(self.notes.bodies(link)) >= set(bodies), f"{link} has heard all", MANY_S)
        assert self.notes.bodies(link) == list(bodies)

    # ------------------------------------------------------------------ what holds of every test

    def check(self) -> None:
        self.notes.check()
        assert self.notes.refusals() == []
        for edge in self._ever:
            log = edge.log()
            assert not any(sign in log for sign in ("Traceback", "never retrieved")), edge.log_tail()
            assert PASSWORD not in log
            assert SECRET not in log
        assert PASSWORD not in self.backend.log()


@contextlib.asynccontextmanager
async def held(
    folder: Path,
    kind: str,
    edges: int = 1,
    *,
    accounts: int = 3,
    server: Mapping[str, Any] | None = None,
    edge: Mapping[str, Any] | None = None,
    xmpp: Mapping[str, Any] | None = None,
    component: Mapping[str, Any] | None = None,
    releases: Sequence[str] = (),
    policy: str = "follow",
    timeouts: Mapping[str, float] | None = None,
    redis: Collection[str] = ("appendonly yes", "appendfsync always"),
) -> AsyncIterator[Held]:
    """A server of this kind, a Redis, a backend and so many edges. `server` are options of `XmppServer`; `edge` and
    `xmpp` settings of ``[edge]`` and ``[[xmpp]]``, `component` those of another ``[[xmpp]]``, for the component (None:
    there is none); `releases` SHAs of backends that run side by side, under this `policy`; `timeouts` the route's;
    `redis` lines of redis.conf."""
    journal = Journal(folder / "journal")
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(journal.close)
        there = await stack.enter_async_context(SERVERS[kind](folder, accounts=accounts, **(server or {})))
        memory = stack.enter_context(RedisServer(folder / "redis", *redis))
        backend = await stack.enter_async_context(Backend(folder, APP, journal=journal))
        sides = {sha: Backend(folder, APP, name=sha, journal=journal) for sha in releases[1:]}
        for side in sides.values():
            await stack.enter_async_context(side)
        both = {releases[0]: backend, **sides} if releases else {}
        here = Held(
            folder, there, memory, backend, journal, stack, edge or {}, xmpp or {}, component, both, policy,
            timeouts or {},
        )  # fmt: skip
        await asyncio.gather(*(here.start_edge() for _ in range(edges)))
        yield here
        here.check()
