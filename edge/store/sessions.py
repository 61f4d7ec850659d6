"""Sessions: their rows, the lists of their owners, and the index by user."""

from __future__ import annotations

import asyncio
import secrets
from asyncio import Future
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from edge.errors import StoreRefused, StoreUnavailable
from edge.store import rows
from edge.store.base import Committed, Patch, SessionRow
from edge.store.futures import both, relay, then
from edge.store.keys import Keys
from edge.store.router import Router
from edge.store.scripts import COMMIT, FORGET, REGISTER
from edge.store.wire import Reply

GIVEN_UP_COMMITS = 100
"""Of one session; the oldest are forgotten first. A commit is given up once a `store_wait_s` or so."""
GIVEN_UP_SESSIONS = 10_000
"""A bound for the memory of an outage; the sessions whose last commit was given up longest ago are forgotten first."""


class Sessions:
    """`SessionStore` over a router."""

    def __init__(self, router: Router, keys: Keys) -> None:
        self._router = router
        self._keys = keys
        self._boot = secrets.token_urlsafe(6)
        self._commits = count()
        self._given_up: OrderedDict[str, deque[str]] = OrderedDict()
        """Session → tokens of commits with action ids that may have run although their callers were refused."""
        self._gates: dict[str, list[Callable[[], None]]] = {}
        """Sessions whose list entry is on its way to another server than their row: what waits for that."""

    def register(self, row: SessionRow) -> Future[None]:
        keys = self._keys
        try:
            fields = rows.to_fields(row)
        except (TypeError, ValueError) as error:
            return self._router.refused(StoreRefused(f"register: {error}"))
        owned, key = keys.owned(row.owner), keys.session(row.id)

        def write() -> Future[Any]:
            args = (row.fence, row.owner, *fields)
            return self._router.call(REGISTER, (key,), args, nothing, repeatable=True)

        listed = self._router.send(("SADD", owned, row.id), owned, nothing, repeatable=True)
        together = self._router.same_lane(owned, key)
        written = both(listed, write()) if together else self._gate(row.id, listed, write)
        user = row.user
        return written if user is None else then(written, lambda _: self._index(user, row.id))

    def commit(self, patch: Patch) -> Future[Committed]:
        token = f"{self._boot}{next(self._commits):x}"
        try:
            args = self._patch_args(patch, token)
        except (TypeError, ValueError) as error:
            return self._router.refused(StoreRefused(f"commit: {error}"))
        done = self._issue(patch, args)
        if patch.action_ids:
            done.add_done_callback(lambda answer: self._watch(patch.session, token, answer))
        return done

    def _issue(self, patch: Patch, args: Sequence[Any]) -> Future[Committed]:
        keys = self._keys
        sid = patch.session
        names = [keys.session(sid), *[keys.action(sid, action_id) for action_id in patch.action_ids]]
        if patch.user is None and patch.session not in self._gates:
            return self._router.call(COMMIT, names, args, _committed(patch.action_ids), repeatable=True)

        def issue() -> Future[Any]:
            return self._router.call(COMMIT, names, args, repeatable=True)

        done = self._in_order(patch.session, issue)
        return then(done, lambda reply: self._reindex(patch, reply))

    def _watch(self, sid: str, token: str, answer: Future[Any]) -> None:
        if answer.cancelled() or not isinstance(answer.exception(), StoreUnavailable):
            return
        self._given_up.setdefault(sid, deque(maxlen=GIVEN_UP_COMMITS)).append(token)
        self._given_up.move_to_end(sid)
        while len(self._given_up) > GIVEN_UP_SESSIONS:
            self._given_up.popitem(last=False)

    def _patch_args(self, patch: Patch, token: str) -> list[Any]:
        bump = bool(patch.state_set or patch.state_unset)
        gone = [rows.STATE + key for key in patch.state_unset]
        gone += [rows.CHANNEL + channel for channel in patch.unsubscribe]
        gone += [rows.TIMER + name for name in patch.cancel_timers]
        fields: list[Any] = []
        for key, value in patch.state_set.items():
            fields += (rows.STATE + key, rows.dump(value))
        for channel in patch.subscribe:
            fields += (rows.CHANNEL + channel, b"")
        for timer in patch.set_timers:
            fields += rows.timer_field(timer)
        if patch.release is not None:
            fields += ("release", patch.release)
        for name, change in (("user", patch.user), ("pinned", patch.pinned)):
            if change is not None and change[0] is None:
                gone.append(name)
            elif change is not None:
                fields += (name, change[0])
        given_up = self._given_up.get(patch.session) if patch.action_ids else None
        void = f" {' '.join(given_up)} " if given_up else ""
        return [patch.fence, token, int(bump), void, len(gone), *gone, *fields]

    def _reindex(self, patch: Patch, reply: Reply) -> Future[Committed]:
        """The row says who the user is; now the index follows. It may lag, and is repaired on read."""
        committed = _committed(patch.action_ids)(reply)
        done: Future[Any] = asyncio.get_running_loop().create_future()
        user = patch.user[0] if patch.user is not None else None
        before = reply[1].decode() if reply[1] else None
        if patch.user is not None and before is not None and before != user:
            self._unindex(before, patch.session)
        if user is not None:
            relay(then(self._index(user, patch.session), lambda _: _now(committed)), done)
        else:
            done.set_result(committed)
        return done

    def forget(self, session: str, owner: str, fence: int) -> Future[None]:
        key = self._keys.session(session)
        self._given_up.pop(session, None)

        def delete() -> Future[Any]:
            return self._router.call(FORGET, (key,), (fence,), repeatable=True)

        def unlist(user: bytes | None) -> Future[Any]:
            if user is not None:
                self._unindex(user.decode(), session)
            owned = self._keys.owned(owner)
            return self._router.send(("SREM", owned, session), owned, nothing, repeatable=True)

        return then(self._in_order(session, delete), unlist)

    def load(self, session: str) -> Future[SessionRow | None]:
        key = self._keys.session(session)

        def issue() -> Future[Any]:
            return self._router.send(
                ("HGETALL", key), key, lambda reply: rows.from_fields(session, reply), repeatable=True
            )

        return self._in_order(session, issue)

    def sessions_of_user(self, user: str) -> Future[Sequence[SessionRow]]:
        return asyncio.get_running_loop().create_task(self._of_user(user))

    async def _of_user(self, user: str) -> Sequence[SessionRow]:
        key = self._keys.user(user)
        members = await self._router.send(("SMEMBERS", key), key, repeatable=True)
        found = await asyncio.gather(*(self.load(member.decode()) for member in members))
        stale = [m for m, row in zip(members, found, strict=True) if row is None or row.user != user]
        if stale:
            await self._router.send(("SREM", key, *stale), key, repeatable=True)
        return [row for row in found if row is not None and row.user == user]

    def _index(self, user: str, session: str) -> Future[None]:
        key = self._keys.user(user)
        return self._router.send(("SADD", key, session), key, nothing, repeatable=True)

    def _unindex(self, user: str, session: str) -> None:
        key = self._keys.user(user)
        gone = self._router.send(("SREM", key, session), key, nothing, repeatable=True)
        gone.add_done_callback(Future.exception)  # a stale entry is harmless: reads repair the index

    def _gate(self, sid: str, first: Future[Any], write: Callable[[], Future[Any]]) -> Future[Any]:
        """Write the row once the list entry stands; whatever else is wanted of the session queues up behind
        it."""
        waiting = self._gates.setdefault(sid, [])
        outer: Future[Any] = first.get_loop().create_future()

        def opened(done: Future[Any]) -> None:
            if self._gates.get(sid) is waiting:
                del self._gates[sid]
            if done.cancelled() or (error := done.exception()) is None:
                relay(write(), outer)
            elif not outer.done():
                outer.set_exception(error)
            for issue in waiting:
                issue()

        first.add_done_callback(opened)
        return outer

    def _in_order(self, sid: str, issue: Callable[[], Future[Any]]) -> Future[Any]:
        waiting = self._gates.get(sid)
        if waiting is None:
            return issue()
        outer: Future[Any] = asyncio.get_running_loop().create_future()
        waiting.append(lambda: relay(issue(), outer))
        return outer


def nothing(reply: Reply) -> None:
    """The answer of a command that only has to succeed."""


def _now(value: Any) -> Future[Any]:
    future: Future[Any] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


def _committed(action_ids: Sequence[str]) -> Callable[[Reply], Committed]:
    if not action_ids:
        return _committed_plain
    return lambda reply: Committed(reply[0], frozenset(action_ids[index] for index in reply[2:]))


def _committed_plain(reply: Reply) -> Committed:
    return Committed(reply[0], _NONE)


_NONE: frozenset[str] = frozenset()
