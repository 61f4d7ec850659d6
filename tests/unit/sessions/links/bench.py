"""Links under test on a real Redis: a ledger with a keeper that believes nothing, answers that can get lost, a socket
in memory."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Sequence
from typing import Any

import redis

from edge.clock import SystemClock
from edge.errors import HoldfastError, StoreUnavailable
from edge.model.link_backlog import from_stored
from edge.sessions.links.ledger import Draft, Ledger
from edge.store.links import Links
from edge.store.links_base import HeldLink, IqEntry, LinkBounds, LinkRow, LinkStore, Outgoing, Stanza
from edge.wheel import Wheel
from tests.support.waiting import wait_until
from tests.unit.store.conftest import Edge
from tests.unit.store.some_links import LINK, begin, state

AT = 1_700_000_000_000


class LossyLinks:
    """A `LinkStore` that writes down what it is asked, and loses what `fate` says: a command on its way there
    (``before``), or its answer (``after``)."""

    def __init__(self, links: LinkStore) -> None:
        self._links = links
        self.asked: list[str] = []
        self.fate: Callable[[str], str] = lambda name: ""

    def __getattr__(self, name: str) -> Any:
        command = getattr(self._links, name)

        def asked(*args: Any, **more: Any) -> Future[Any]:
            self.asked.append(name)
            fate = self.fate(name)
            if fate == "before":
                lost = asyncio.get_running_loop().create_future()
                lost.set_exception(StoreUnavailable("lost on its way"))
                return lost
            answer: Future[Any] = command(*args, **more)
            return asyncio.ensure_future(_lose(answer)) if fate == "after" else answer

        return asked


async def _lose(answer: Future[Any]) -> None:
    await answer
    raise StoreUnavailable("its answer was lost")


class Transport:
    """A socket in memory: what was written, and whether it is read."""

    def __init__(self) -> None:
        self.written = b""
        self.reading = True
        self.end = ""

    def write(self, data: bytes) -> None:
        assert not self.end
        self.written += data

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def close(self) -> None:
        self.end = self.end or "closed"

    def abort(self) -> None:
        self.end = self.end or "aborted"


class Bench:
    """A link's ledger, and its `Keeper`: it looks into Redis whether what it is told is true."""

    def __init__(self, edge: Edge, held: HeldLink, bounds: LinkBounds | None, client: redis.Redis) -> None:
        clock, keys = SystemClock(), edge.store._links._keys
        self.edge = edge
        self.links = LossyLinks(Links(edge.store._router, keys, bounds))
        self.wheel = Wheel(clock)
        self.wheel.start(asyncio.get_running_loop())
        self.ledger = Ledger(held, self.links, clock, self.wheel, self)
        self.log: list[tuple[str, Any]] = []
        """What the keeper was told, in order."""
        self.told: list[tuple[str, HoldfastError | None]] = []
        """And those who gave drafts, by their actions."""
        self._client, self._key = client, keys.link(LINK)[0]

    # -- Keeper

    def kept(self, h: int | None) -> None:
        self.log.append(("kept", h))
        if h is not None:
            assert self._stored("h_in") == h

    def may_send(self, stanzas: Sequence[Stanza]) -> None:
        self.log.append(("may send", [stanza.raw for stanza in stanzas]))
        assert self._stored("out_n") == self.ledger.out_n
        assert list(self.ledger.unacked)[-len(stanzas) :] == list(stanzas)

    def unasked(self, id: str) -> None:
        self.log.append(("unasked", id))

    def flushed(self) -> None:
        self.log.append(("flushed", None))
        self.ledger.flush()

    def dispossessed(self, why: str) -> None:
        self.log.append(("dispossessed", why))

    # -- what tests do and see

    def of(self, what: str) -> list[Any]:
        """What the keeper was told of one kind."""
        return [value for name, value in self.log if name == what]

    def add(self, *numbers: int, key: str | None = None) -> None:
        for number in numbers:
            self.ledger.backlog.add("xmpp.message", AT, {"n": number}, key)

    def send(self, raw: bytes, action: str = "", iq: IqEntry | None = None) -> None:
        outgoing = Outgoing(Stanza(raw, AT, action), iq)
        self.ledger.send(Draft(outgoing, lambda error: self.told.append((action, error))))

    async def settle(self) -> None:
        """Flush, until everything is durable."""
        self.ledger.flush()
        await wait_until(lambda: self.ledger.idle, "everything is durable")

    async def stored(self) -> HeldLink:
        return await state(self.edge)

    async def waiting(self) -> list[tuple[int, Any]]:
        """Events in Redis: seq, number."""
        found = await self.edge.store.links.take(self.ledger.hold, 0, 10_000, 2**24)
        return [(each.seq, from_stored(LINK, each.seq, each.data).fields["n"]) for each in found]

    async def check(self) -> HeldLink:
        """Redis has what the ledger says."""
        held = await self.stored()
        assert comparable(held.row) == comparable(self.ledger.row())
        assert list(held.unacked) == list(self.ledger.unacked)
        assert {entry.key: entry for entry in held.iqs} == self.ledger.iqs
        return held

    def _stored(self, field: str) -> int:
        value: Any = self._client.hget(self._key, field)
        return int(value)


def comparable(row: LinkRow) -> dict[str, Any]:
    """What a ledger knows of it."""
    return {name: getattr(row, name) for name in vars(LinkRow)["__slots__"] if not name.endswith("_bytes")}


async def bench(edge: Edge, client: redis.Redis, bounds: LinkBounds | None = None) -> Bench:
    """With an enabled stream, its number 1."""
    await begin(edge)
    return Bench(edge, await state(edge), bounds, client)
