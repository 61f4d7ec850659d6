"""Links: their rows and queues, under their owners' fences, and the lists on which survivors find them.

Owns the order of writes between a link's slot and the lists, which are elsewhere in a cluster: an entry too many is
harmless and goes when it is met, one too few would lose the link. Everything else is in `lua/link_*.lua`.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import Future
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from edge.errors import FenceRefused, StoreError, StoreRefused
from edge.store import link_rows
from edge.store.keys import Keys
from edge.store.links_base import (
    PARKED,
    ROW_VERSION,
    Action,
    Begun,
    Change,
    Freed,
    HeldLink,
    Hold,
    LinkBounds,
    LinkRow,
    NewStream,
    Outgoing,
    Restored,
    Sent,
    Standing,
    WaitingEvent,
)
from edge.store.router import Router
from edge.store.scripts import (
    CONDEMN,
    LINK_ACK,
    LINK_CLAIM,
    LINK_CONNECT,
    LINK_DONE,
    LINK_ENABLED,
    LINK_FORGET,
    LINK_IN,
    LINK_OUT,
    LINK_RELEASE,
    LINK_RESTORE,
    LINK_SAVE,
    LINK_TAKE,
    Script,
)
from edge.store.sessions import nothing
from edge.store.wire import Reply

Decode = Callable[[Reply], Any]
T = TypeVar("T")
PARKED_S = 7 * 86_400


class Links:
    """`LinkStore` over a router."""

    def __init__(self, router: Router, keys: Keys, bounds: LinkBounds | None = None) -> None:
        self._router = router
        self._keys = keys
        self._bounds = bounds or LinkBounds()

    # ------------------------------------------------------------------ the owner's commands

    def receive(self, hold: Hold, h: int | None, change: Change) -> Future[Standing]:
        return self._write(LINK_IN, hold, ("" if h is None else h,), change, _standing)

    def take(self, hold: Hold, after: int, limit: int, most_bytes: int) -> Future[Sequence[WaitingEvent]]:
        return self._write(LINK_TAKE, hold, (after, limit, most_bytes), None, _events)

    def accepted(self, hold: Hold, upto: int, change: Change | None = None) -> Future[Standing]:
        return self._write(LINK_DONE, hold, (upto,), change, _standing)

    def send(self, hold: Hold, before: int, outgoing: Sequence[Outgoing], change: Change | None = None) -> Future[Sent]:
        bounds, keys = self._bounds, self._keys
        actions: list[str] = []
        args: list[Any] = [before, bounds.stanzas, bounds.stanza_bytes, len(outgoing)]
        try:
            for each in outgoing:
                action_id = each.stanza.action_id
                remembered = bool(action_id) and not action_id.startswith("~")
                if remembered:
                    actions.append(keys.link_action(hold.link, action_id))
                args += (len(actions) if remembered else 0, link_rows.stanza_to_stored(each.stanza))
                args += ("", "") if each.iq is None else (each.iq.key, link_rows.iq_to_stored(each.iq))
        except (TypeError, ValueError) as error:
            return self._router.refused(StoreRefused(f"send: {error}"))
        return self._write(LINK_OUT, hold, args, change, _sent, actions)

    def acked(self, hold: Hold, h: int, change: Change | None = None) -> Future[int]:
        return self._write(LINK_ACK, hold, (h,), change, _second)

    def resumed(self, hold: Hold, h: int, change: Change | None = None) -> Future[int]:
        return self.acked(hold, h, change)

    def enabled(self, hold: Hold, out_n: int, new: NewStream, change: Change | None = None) -> Future[Standing]:
        try:
            again = [link_rows.stanza_to_stored(stanza) for stanza in new.resend]
        except (TypeError, ValueError) as error:
            return self._router.refused(StoreRefused(f"enabled: {error}"))
        args = (out_n, new.sm_id, new.max_s, new.location, len(again), *again)
        return self._write(LINK_ENABLED, hold, args, change, _standing)

    def save(self, hold: Hold, change: Change, action: Action | None = None) -> Future[bool]:
        if action is None:
            return self._write(LINK_SAVE, hold, ("",), change, _first_time)
        names = (self._keys.link_action(hold.link, action.id),)
        return self._write(LINK_SAVE, hold, (action.token,), change, _first_time, names)

    def _write(
        self,
        script: Script,
        hold: Hold,
        args: Sequence[Any],
        change: Change | None,
        decode: Decode,
        more_keys: Sequence[str] = (),
    ) -> Future[Any]:
        head = (hold.fence, hold.owner, hold.stream, 5 + len(args) if change is not None else 0)
        try:
            tail = () if change is None else self._change(change)
        except (TypeError, ValueError) as error:
            return self._router.refused(StoreRefused(f"{script.name}: {error}"))
        names = (*self._keys.link(hold.link), *more_keys)
        return self._router.call(script, names, (*head, *args, *tail), decode, repeatable=True)

    def _change(self, change: Change) -> Sequence[Any]:
        bounds, events = self._bounds, change.events
        room = (0, 0) if change.urgent else (bounds.events, bounds.event_bytes)
        if change.replace is None and change.save is None and not change.iq_set and not change.iq_done:
            return (change.first_seq, *room, change.done, len(events), *events)  # what nearly all are
        fields, gone = link_rows.saved(change.save) if change.save is not None else ([], [])
        replaced = [part for pair in (change.replace or {}).items() for part in pair]
        iqs = [part for entry in change.iq_set for part in (entry.key, link_rows.iq_to_stored(entry))]
        return (
            change.first_seq, *room, change.done, len(events), *events, len(replaced), *replaced, len(fields), *fields,
            len(gone), *gone, len(iqs), *iqs, len(change.iq_done), *change.iq_done,
        )  # fmt: skip

    # ------------------------------------------------------------------ becoming and ceasing to be the owner

    def connect(self, row: LinkRow, by: str, action: Action | None = None) -> Future[Begun]:
        try:
            fields = link_rows.to_stored(row)
        except (TypeError, ValueError) as error:
            return self._router.refused(StoreRefused(f"connect: {error}"))
        return asyncio.get_running_loop().create_task(self._connect(row.id, by, action, fields))

    async def _connect(self, link: str, by: str, action: Action | None, fields: Sequence[Any]) -> Begun:
        keys = self._keys
        names = [keys.link(link)[0], keys.link_fence(link)]
        if action is not None:
            names.append(keys.link_action(link, action.id))
        token = (action or Action("")).token
        listed = await self._listed(by, link)
        written: Future[Begun] = self._router.call(
            LINK_CONNECT,
            names,
            (by, token, *fields),
            lambda reply: Begun(link_rows.from_stored(link, reply[1]), reply[0] == 1),
            repeatable=True,
        )
        begun = await _last(listed, written)
        if begun.row is None or begun.row.owner != by:
            await self._unlist(by, link)
        return begun

    def load(self, link: str) -> Future[LinkRow | None]:
        key = self._keys.link(link)[0]
        return self._router.send(
            ("HGETALL", key), key, lambda reply: link_rows.from_stored(link, reply), repeatable=True
        )

    def claim(self, link: str, by: str, *, dead: str = "", freed: Freed | None = None) -> Future[HeldLink]:
        return asyncio.get_running_loop().create_task(self._claim(link, by, dead, freed))

    async def _claim(self, link: str, by: str, dead: str, freed: Freed | None) -> HeldLink:
        """List first, row second, the lists it was found on last."""
        row, _, unacked, iqs = self._keys.link(link)
        listed = await self._listed(by, link)
        claimed: Future[tuple[str, HeldLink]] = self._router.call(
            LINK_CLAIM,
            (row, unacked, iqs),
            (by, dead, ROW_VERSION),
            lambda reply: (reply[0].decode(), link_rows.held(link, reply[1:])),
            repeatable=True,
        )
        try:
            before, held = await _last(listed, claimed)
        except StoreRefused:
            await self._unlist(by, link)
            raise
        except FenceRefused:
            await self._tidy(link, by, dead, freed)
            raise
        for other in {before, dead} - {"", by}:
            await self._unlist(other, link)
        if freed is not None:
            await self._unfree(freed)
        return held

    async def _tidy(self, link: str, by: str, dead: str, freed: Freed | None) -> None:
        """The claim was refused: remove those entries that are out of date."""
        row = await self.load(link)
        owner = row.owner if row is not None else None
        if owner != by:
            await self._unlist(by, link)
        if dead and owner != dead and dead != by:
            await self._unlist(dead, link)
        if freed is not None and (row is None or owner != "" or row.fence != freed.fence):
            await self._unfree(freed)

    def release(self, hold: Hold, change: Change | None = None) -> Future[None]:
        released = self._write(LINK_RELEASE, hold, (), change, nothing)
        return asyncio.get_running_loop().create_task(self._release(hold, released))

    async def _release(self, hold: Hold, released: Future[None]) -> None:
        """Row first: who meets the new entry may claim at once, or it is out of date. The owner's list last."""
        # Refused: an earlier run of this command, or another owner; then the entry below is out of date.
        with contextlib.suppress(FenceRefused):
            await released
        key = self._keys.free_links
        await self._router.send(("SADD", key, _entry(Freed(hold.link, hold.fence))), key, nothing, repeatable=True)
        await self._unlist(hold.owner, hold.link)

    def disconnect(self, hold: Hold, *, drop: bool = False) -> Future[None]:
        names = (*self._keys.link(hold.link), self._keys.link_fence(hold.link))
        args = (hold.fence, hold.owner, int(drop))
        gone: Future[None] = self._router.call(LINK_FORGET, names, args, nothing, repeatable=True)
        return asyncio.get_running_loop().create_task(self._disconnect(hold, gone))

    async def _disconnect(self, hold: Hold, gone: Future[None]) -> None:
        await gone
        await self._unlist(hold.owner, hold.link)

    def restore(self, held: HeldLink, events: Sequence[WaitingEvent]) -> Future[Restored]:
        row = held.row
        first = events[0].seq if events else row.seq + 1
        try:
            stanzas = [link_rows.stanza_to_stored(stanza) for stanza in held.unacked]
            iqs = [part for entry in held.iqs for part in (entry.key, link_rows.iq_to_stored(entry))]
            fields = link_rows.to_stored(row)
        except (TypeError, ValueError) as error:
            return self._router.refused(StoreRefused(f"restore: {error}"))
        args = (
            row.fence, row.owner, row.stream, row.seq, row.h_in, row.out_base, row.out_n, row.done, first,
            len(events), *[event.data for event in events], len(stanzas), *stanzas, len(iqs), *iqs,
            len(fields), *fields,
        )  # fmt: skip
        listed = self._list(row.owner, row.id)
        written: Future[Restored] = self._router.call(
            LINK_RESTORE,
            self._keys.link(row.id),
            args,
            lambda reply: Restored(reply[0] == 1, reply[1]),
            repeatable=True,
        )
        return asyncio.get_running_loop().create_task(_last(listed, written))

    def park(self, link: str, event: bytes) -> Future[None]:
        key = self._keys.link_parked(link)
        laid_aside: Future[None] = self._router.send(("RPUSH", key, event), key, nothing, repeatable=True)
        for command in (("LTRIM", key, -PARKED, -1), ("EXPIRE", key, PARKED_S)):
            self._router.send(command, key, nothing, repeatable=True).add_done_callback(_unread)
        return laid_aside

    def parked(self, link: str) -> Future[Sequence[bytes]]:
        key = self._keys.link_parked(link)
        return self._router.send(("LRANGE", key, 0, -1), key, repeatable=True)

    # ------------------------------------------------------------------ lists

    def links_of(self, edge: str, limit: int) -> Future[Sequence[str]]:
        key = self._keys.links_of(edge)
        return self._router.send(
            ("SRANDMEMBER", key, limit), key, lambda reply: [member.decode() for member in reply], repeatable=True
        )

    def freed(self, limit: int) -> Future[Sequence[Freed]]:
        key = self._keys.free_links
        return self._router.send(
            ("SRANDMEMBER", key, limit), key, lambda reply: [_freed(member) for member in reply], repeatable=True
        )

    def condemn(self, edge: str, by: str, grace_ms: int) -> Future[bool]:
        keys = self._keys
        names = (keys.edges, keys.claims, keys.buried)
        return self._router.call(CONDEMN, names, (edge, by, grace_ms), bool, repeatable=True)

    async def _listed(self, edge: str, link: str) -> Future[None]:
        """On its way to the list. One server takes what comes behind it in order, so there is no need to wait; in a
        cluster list and row are not in one place."""
        listed = self._list(edge, link)
        if self._router.address.kind == "cluster":
            await listed
        return listed

    def _list(self, edge: str, link: str) -> Future[None]:
        key = self._keys.links_of(edge)
        return self._router.send(("SADD", key, link), key, nothing, repeatable=True)

    def _unlist(self, edge: str, link: str) -> Future[None]:
        key = self._keys.links_of(edge)
        return self._router.send(("SREM", key, link), key, nothing, repeatable=True)

    def _unfree(self, freed: Freed) -> Future[None]:
        key = self._keys.free_links
        return self._router.send(("SREM", key, _entry(freed)), key, nothing, repeatable=True)


def _unread(answer: Future[Any]) -> None:
    """What fails here is tried again with the next event."""
    answer.cancelled() or answer.exception()


def _entry(freed: Freed) -> str:
    """With its fence: an entry that is out of date is never mistaken for one of a later release."""
    return f"{freed.fence} {freed.link}"


def _freed(entry: bytes) -> Freed:
    fence, _, link = entry.decode().partition(" ")
    return Freed(link, int(fence))


async def _last(first: Future[Any], second: Future[T]) -> T:
    """The result of the second, when both have ended; the first error otherwise, and none is left unread."""
    outcomes = await asyncio.gather(first, second, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, StoreError):
            raise outcome
    return second.result()


def _standing(reply: Reply) -> Standing:
    return Standing(*reply)


def _second(reply: Reply) -> Any:
    return reply[1]


def _first_time(reply: Reply) -> bool:
    return not reply[1]


def _sent(reply: Reply) -> Sent:
    return Sent([None if place < 0 else place for place in reply[1]], Standing(*reply[0]))


def _events(reply: Reply) -> Sequence[WaitingEvent]:
    """Empty ones stand for events that Redis lost."""
    return [WaitingEvent(seq, data) for seq, data in enumerate(reply[1:], reply[0] + 1) if data]
