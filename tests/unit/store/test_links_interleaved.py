"""Two owners of one link, in any interleaving: crashes, false alarms, releases, lost answers, commands sent twice.

The server below is XEP-0198 to the letter: acking or resuming with a wrong h is an error. At the end the backend has
seen every stanza of the server once, in order, and the server every action once, in order.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from edge.clock import SystemClock
from edge.config import EdgeSettings
from edge.errors import FenceRefused
from edge.ids import new_session_id
from edge.store.base import BusListener
from edge.store.links_base import (
    Change,
    Hold,
    LinkRow,
    LinkStore,
    NewStream,
    Outgoing,
    Sent,
    Standing,
    Stanza,
    WaitingEvent,
)
from edge.store.redis import open_store

GoOn = Callable[[object], None]


@dataclass
class Server:
    """One account. `queue` are stanzas without an ack; the first one's number is `acked + 1`, and the first `delivered`
    of them are on the wire."""

    told: list[bytes] = field(default_factory=list)
    queue: list[bytes] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)
    handled: Counter[int] = field(default_factory=Counter)
    """By session."""
    session: int = 0
    alive: bool = False
    holder: str = ""
    acked: int = 0
    delivered: int = 0

    def tell(self, count: int) -> None:
        fresh = [b"m%d" % (len(self.told) + n) for n in range(1, count + 1)]
        self.told += fresh
        self.queue += fresh

    def deliver(self, to: str, most: int) -> Sequence[bytes]:
        stanzas = self.queue[self.delivered : self.delivered + most] if self.holder == to else []
        self.delivered += len(stanzas)
        return stanzas

    def ack(self, by: str, h: int) -> None:
        if self.holder == by:
            assert self.acked <= h <= self.acked + self.delivered, "acked what was not sent"
            self._drop(h)

    def receive(self, by: str, stanza: bytes) -> None:
        if self.holder == by:
            self.received.append(stanza)
            self.handled[self.session] += 1

    def resume(self, by: str, session: int, h: int) -> tuple[bool, int]:
        """(resumed, stanzas handled in that session)."""
        if session == self.session:
            assert self.acked <= h <= self.acked + len(self.queue), "Prosody destroys the session for this"
            self._drop(h)
            if self.alive:
                self.holder, self.delivered = by, 0
                return True, self.handled[session]
        return False, self.handled[session]

    def begin(self, by: str) -> int:
        """A new session, which takes the queue over."""
        self.session += 1
        self.acked = self.delivered = 0
        self.alive, self.holder = True, by
        return self.session

    def expire(self) -> None:
        self.alive, self.holder = False, ""

    def _drop(self, h: int) -> None:
        del self.queue[: h - self.acked]
        self.delivered = max(0, self.delivered - (h - self.acked))
        self.acked = h


@dataclass
class World:
    link: str
    server: Server = field(default_factory=Server)
    dead: set[str] = field(default_factory=set)
    """Edges that were declared dead, whether they are or not."""
    seen: dict[int, bytes] = field(default_factory=dict)
    """What the backend was given, by seq."""
    actions: int = 0
    places: dict[bytes, tuple[int, int]] = field(default_factory=dict)


class Owner:
    """An edge: what it knows of the link is what the store told it."""

    def __init__(self, links: LinkStore, world: World, name: str) -> None:
        self.links, self.world, self.name = links, world, name
        self.boots = 0
        self.doubt = False
        self.forget()

    def forget(self) -> None:
        self.hold: Hold | None = None
        self.live = False
        self.unheard: list[tuple[Callable[[], Awaitable[object]], GoOn]] = []

    def reboot(self) -> None:
        """Who died, or learnt that it was declared dead, comes back under another name."""
        self.world.dead.add(self.name)
        self.boots += 1
        self.name = f"{self.name.partition('.')[0]}.{self.boots}"
        self.forget()

    async def act(self, what: str, number: int, doubt: bool) -> None:
        await self.hear()
        self.doubt = doubt
        if (self.hold is None and self.name in self.world.dead) or what == "crash":
            self.reboot()
        elif self.hold is None:
            await self.claim()
        elif what == "release":
            await self.links.release(self.hold)
            self.forget()
        elif not self.live or self.world.server.holder != self.name:
            self.live = False
            await self.connect(self.hold)
        elif what == "burst":
            # One tick's commands: nobody waits for an answer before the next one.
            self.doubt = True
            for each in ("deliver", "answer", "ack", "backend"):
                if (hold := self.hold) is not None:
                    await self.one(each, number, hold)
        else:
            await self.one(what, number, self.hold)

    async def run(self, command: Callable[[], Awaitable[object]], go_on: GoOn) -> None:
        """Carry a command out. In doubt its answer is lost, and it is sent again the next time we act."""
        try:
            answer = await command()
        except FenceRefused:
            event("refused")
            self.forget()
            return
        if self.doubt:
            self.unheard.append((command, go_on))
        else:
            go_on(answer)

    async def hear(self) -> None:
        """Send again what is unheard, in order and at once, as the commands of a broken connection are."""
        unheard, self.unheard = self.unheard, []
        answers = await asyncio.gather(*(command() for command, _ in unheard), return_exceptions=True)
        for answer, (_, go_on) in zip(answers, unheard, strict=True):
            if isinstance(answer, FenceRefused):
                event("refused the second time")
                self.forget()
            elif isinstance(answer, BaseException):
                raise answer
            else:
                go_on(answer)

    async def claim(self) -> None:
        world = self.world
        row = await self.links.load(world.link)
        assert row is not None
        found = [freed for freed in await self.links.freed(100) if freed.link == world.link]
        dead = row.owner if row.owner in world.dead else ""
        try:
            held = await self.links.claim(world.link, self.name, dead=dead, freed=found[0] if found else None)
        except FenceRefused:
            assert row.owner
            assert not dead
            return
        assert dead or row.owner in ("", self.name)
        assert held.row.fence == row.fence + (row.owner != self.name)
        row = held.row
        self.hold, self.session = row.hold, int(row.sm_id or 0)
        self.h_in, self.out_base, self.out_n, self.seq, self.done = (
            row.h_in, row.out_base, row.out_n, row.seq, row.done,
        )  # fmt: skip
        self.unacked = [stanza.raw for stanza in held.unacked]
        assert len(self.unacked) == self.out_n - self.out_base

    async def connect(self, hold: Hold) -> None:
        row = await self.links.load(self.world.link)
        if row is None or row.hold != hold:
            # Whoever is not the owner any more must not bother the server: a new session would end the new owner's.
            self.forget()
            return
        server = self.world.server
        resumed, handled = server.resume(self.name, self.session, self.h_in) if self.session else (False, self.out_base)
        left = self.unacked[handled - self.out_base :]

        def start(_: object) -> None:
            self.unacked = left
            self.live = True
            for raw in left:
                server.receive(self.name, raw)

        def resumed_at(answer: object) -> None:
            self.out_base = handled
            start(answer)

        def enabled(answer: object) -> None:
            self.hold, self.session = replace(hold, stream=hold.stream + 1), session
            self.h_in, self.out_base, self.out_n = 0, 0, len(left)
            start(answer)

        if resumed:
            await self.run(lambda: self.links.resumed(hold, handled), resumed_at)
            return
        event("new stream")
        session, out_n = server.begin(self.name), self.out_n
        new = NewStream(str(session), 300, "", [Stanza(raw, 0, raw.decode()) for raw in left])
        await self.run(lambda: self.links.enabled(hold, out_n, new), enabled)

    async def one(self, what: str, number: int, hold: Hold) -> None:
        match what:
            case "deliver":
                await self.deliver(number, hold)
            case "send":
                self.world.actions += number
                await self.send(range(self.world.actions - number + 1, self.world.actions + 1), hold)
            case "send again":
                await self.send(range(max(1, self.world.actions - number), self.world.actions + 1), hold)
            case "answer":
                await self.answer(number, hold)
            case "ack":
                await self.ack(hold)
            case "backend":
                await self.backend(number, hold)

    async def deliver(self, most: int, hold: Hold) -> None:
        stanzas = self.world.server.deliver(self.name, most)
        h, seq = self.h_in + len(stanzas), self.seq + len(stanzas)
        change = Change(self.seq + 1, stanzas)

        def go_on(answer: object) -> None:
            assert isinstance(answer, Standing)
            self.h_in, self.seq = h, seq
            self.world.server.ack(self.name, h)

        await self.run(lambda: self.links.receive(hold, h, change), go_on)

    async def send(self, ids: Sequence[int], hold: Hold, done: int = 0) -> None:
        before = self.out_n
        change = Change(done=done) if done else None
        raws = [b"a%d" % id for id in ids]
        outgoing = [Outgoing(Stanza(raw, 0, raw.decode())) for raw in raws]

        def go_on(answer: object) -> None:
            assert isinstance(answer, Sent)
            self.done = max(self.done, done)
            for raw, place in zip(raws, answer.places, strict=True):
                if place is not None:
                    assert place == self.out_n + 1
                    self.out_n = place
                    self.unacked.append(raw)
                    self.world.places[raw] = hold.stream, place
                    self.world.server.receive(self.name, raw)

        await self.run(lambda: self.links.send(hold, before, outgoing, change), go_on)

    async def answer(self, most: int, hold: Hold) -> None:
        """Actions that the backend answers with: they are kept, and the events accepted, in one write."""
        events = await self.taken(most, hold)
        if self.hold is not None:
            self.world.actions += most
            ids = range(self.world.actions - most + 1, self.world.actions + 1)
            await self.send(ids, hold, events[-1].seq if events else 0)

    async def ack(self, hold: Hold) -> None:
        h = self.world.server.handled[self.session]

        def go_on(_: object) -> None:
            del self.unacked[: h - self.out_base]
            self.out_base = h

        await self.run(lambda: self.links.acked(hold, h), go_on)

    async def backend(self, most: int, hold: Hold) -> None:
        events = await self.taken(most, hold)

        def go_on(_: object) -> None:
            self.done = max(self.done, events[-1].seq)

        if events:
            await self.run(lambda: self.links.accepted(hold, events[-1].seq), go_on)

    async def taken(self, most: int, hold: Hold) -> Sequence[WaitingEvent]:
        """Events that the backend is given; none, too, when the link is another's."""
        try:
            events = await self.links.take(hold, self.done, most, 1_000)
        except FenceRefused:
            self.forget()
            return []
        for each in events:
            assert self.world.seen.setdefault(each.seq, each.data) == each.data
        return events


OWN = st.sampled_from(["deliver", "send", "send again", "answer", "ack", "backend", "burst", "crash", "release"])
WORLD = st.sampled_from(["tell", "tell", "expire", "suspect"])
STEPS = st.lists(
    st.tuples(st.integers(0, 1), OWN | OWN | OWN | WORLD, st.integers(1, 3), st.booleans()), min_size=5, max_size=60
)


async def play(links: LinkStore, steps: Sequence[tuple[int, str, int, bool]]) -> None:
    world = World(f"x:{new_session_id()}")
    server = world.server
    owners = [Owner(links, world, name + new_session_id()) for name in "ab"]
    row = LinkRow(id=world.link, app="chat", route="*/", release="abc", jid="u@x")
    await links.connect(row, owners[0].name)
    for who, what, number, doubt in steps:
        match what:
            case "tell":
                server.tell(number)
            case "expire":
                server.expire()
            case "suspect":
                world.dead.add(owners[who].name)
            case _:
                await owners[who].act(what, number, doubt)
    await settle(world, Owner(links, world, "z" + new_session_id()), owners)


async def settle(world: World, last: Owner, owners: Sequence[Owner]) -> None:
    """One owner is left, and carries everything to its end; the backend sends every action again."""
    world.dead |= {owner.name for owner in owners}
    server = world.server
    while not last.live:
        await last.act("ack", 1, False)
    assert last.hold is not None
    hold = last.hold
    await last.send(range(1, world.actions + 1), hold)
    await last.ack(last.hold)
    assert last.unacked == []
    await last.deliver(10_000, hold)
    await last.backend(10_000, hold)
    assert server.queue == []
    assert [world.seen[seq] for seq in sorted(world.seen)] == server.told
    assert sorted(world.seen) == list(range(1, len(server.told) + 1))
    assert Counter(server.received) == Counter(b"a%d" % id for id in range(1, world.actions + 1))
    order = [world.places[raw] for raw in server.received if raw in world.places]
    assert all(a[1] < b[1] for a, b in pairwise(order) if a[0] == b[0])
    for owner in owners:  # whatever they still think, they cannot do it
        await owner.hear()
        if owner.hold is not None:
            await owner.one("send", 1, owner.hold)
        assert owner.hold is None
    await last.links.disconnect(last.hold)


@given(st.lists(STEPS, min_size=4, max_size=4))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_interleaving_of_two_owners_loses_or_doubles_a_stanza(
    url: str, prefix: str, runs: list[list[tuple[int, str, int, bool]]]
) -> None:
    async def all_at_once() -> None:
        store = open_store(EdgeSettings(redis=url), "e", SystemClock(), prefix=prefix)
        nobody = BusListener(lambda _: None, lambda _, __: None, lambda: None, lambda _: None)
        await store.start(nobody)
        try:
            await asyncio.gather(*(play(store.links, steps) for steps in runs))
        finally:
            await store.close()

    asyncio.run(all_at_once())
