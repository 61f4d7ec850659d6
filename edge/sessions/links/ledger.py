"""What is durable of one link, and the lane by which more becomes so.

Owns the link's picture of its row and the order of writes. One flush is under way at a time: everything that has
gathered meanwhile leaves in the next one, with those of all other links in one pipeline of the store. What is told back
is only what Redis has confirmed; so what the link acknowledges to the server, or writes to it, is durable before.

When Redis does not answer, the same commands are given again until it does: they take effect once. Before that the row
is looked at: if Redis has lost something, it is written again from here, where it is known. If another edge owns the
link meanwhile, the ledger is closed (`Keeper.dispossessed`) and nothing of it is written any more.

Longer than our other rooms: each command stands beside what its success, a full queue and a lost answer mean, and to
part these would hide the order that everything rests on.
"""

from __future__ import annotations

import logging
from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from edge.clock import Clock
from edge.errors import CountTooHigh, FenceRefused, HoldfastError, QueueFull, SessionGone, StoreError, StoreUnavailable
from edge.model.link_backlog import Backlog, to_stored
from edge.protocol.callbacks.events import LinkEvent
from edge.protocol.xmpp.archive import newer
from edge.protocol.xmpp.stream_management import MODULUS
from edge.store.links_base import (
    Change,
    HeldLink,
    IqEntry,
    LinkRow,
    LinkStore,
    NewStream,
    Outgoing,
    Restored,
    Save,
    Sent,
    Stanza,
    WaitingEvent,
)
from edge.wheel import Wheel

_log = logging.getLogger("holdfast.links")

AGAIN_MS = 250
"""Until commands that Redis did not answer are given again."""
DRAFTS = 1_000
"""Stanzas that may wait for Redis in memory. More are refused."""
_HALF = MODULUS // 2


@dataclass(slots=True, eq=False)
class Draft:
    """A stanza on its way to being durable. `told`: with None when it is (or was, for a repeated action), or with what
    is in the way."""

    outgoing: Outgoing
    told: Callable[[HoldfastError | None], None] | None = None


class Keeper(Protocol):
    """The link, as its ledger sees it."""

    def kept(self, h: int | None) -> None:
        """Events and stanzas of the server up to count `h` (None: no news of it) are durable."""
        ...

    def may_send(self, stanzas: Sequence[Stanza]) -> None:
        """These are durable, in this order, and have not been written."""
        ...

    def unasked(self, id: str) -> None:
        """This question is not sent: its action was carried out before, or there is no room."""
        ...

    def flushed(self) -> None:
        """Nothing is under way: what has gathered may be flushed."""
        ...

    def dispossessed(self, why: str) -> None:
        """Another edge owns the link. Once, and last."""
        ...


@dataclass(slots=True, eq=False)
class _Step:
    """One command: `issue` gives the same each time. `done` takes its answer, `full` what it means that there is no
    room."""

    name: str
    issue: Callable[[], Future[Any]]
    done: Callable[[Any], None]
    full: Callable[[], None] | None = None


class Ledger:
    """See the module's docstring. Made from what `claim` read, or from the row that `connect` has begun."""

    __slots__ = (
        "_clock",
        "_done",
        "_drafts",
        "_enabled",
        "_flying",
        "_h",
        "_h_told",
        "_iq_done",
        "_iq_set",
        "_keeper",
        "_odd",
        "_repeat",
        "_result_save",
        "_save",
        "_sending",
        "_store",
        "_wheel",
        "backlog",
        "base",
        "closed",
        "full",
        "h_in",
        "heard_upto",
        "hold",
        "iqs",
        "last_mam_id",
        "out_n",
        "unacked",
        "urgent",
        "waits_for_store",
    )  # fmt: skip

    def __init__(self, held: HeldLink, store: LinkStore, clock: Clock, wheel: Wheel, keeper: Keeper) -> None:
        row = replace(held.row)
        self._store, self._clock, self._wheel, self._keeper = store, clock, wheel, keeper
        self.base = row
        """Everything that is not kept in fields of their own, as last confirmed."""
        self.hold = row.hold
        self.backlog = Backlog(row.id, row.seq, row.done)
        self.h_in = row.h_in
        """Stanzas of the server that are durable, as a count of this stream."""
        self.heard_upto = row.h_in
        """Those that are dealt with, durable or not."""
        self.out_n = row.out_n
        """Stanzas of ours that are."""
        self.unacked: list[Stanza] = list(held.unacked)
        self.iqs: dict[str, IqEntry] = {entry.key: entry for entry in held.iqs}
        self.last_mam_id = row.last_mam_id
        self.closed = False
        self.full = False
        """There is no room for more events until the backend has accepted some."""
        self.urgent = False
        """Among the news there is some that nobody can hold back."""
        self.waits_for_store = False
        """Redis does not answer."""
        self._h: int | None = None
        self._h_told: int | None = None
        self._done = 0
        self._save: dict[str, Any] = {}
        self._result_save: dict[str, Any] = {}
        self._iq_set: list[IqEntry] = []
        self._iq_done: list[str] = []
        self._drafts: list[Draft] = []
        self._sending: list[Draft] = []
        self._enabled: tuple[Callable[[], NewStream], Callable[[], None]] | None = None
        self._flying = 0
        self._repeat: list[_Step] = []
        self._odd = 0

    # -- what gathers for the next flush

    def heard(self, h: int) -> None:
        """The server's stanzas up to `h` are dealt with, once the news is stored."""
        self._h = self.heard_upto = h

    def accept(self, seq: int) -> None:
        """The backend has accepted the events up to `seq`."""
        self._done = max(self._done, seq)

    def save(self, **fields: Any) -> None:
        """Small state, as in `Save`; the picture has it at once."""
        self._picture(fields)
        self._save.update(fields)

    def archived(self, id: str) -> None:
        """A message that came has this id in the archive."""
        self.last_mam_id = self._save["last_mam_id"] = newer(id, self.last_mam_id)

    def save_result(self, **fields: Any) -> None:
        """Small state that an answer of the backend changes: written together with its stanzas, and with the event's
        being accepted."""
        self._picture(fields)
        self._result_save.update(fields)

    def change_state(self, set: Mapping[str, Any], unset: Sequence[str]) -> None:
        """The link's state, changed by an answer of the backend."""
        state = {**self.base.state, **set}
        for key in unset:
            state.pop(key, None)
        version = self.base.state_version + 1
        self._picture({"state": state, "state_version": version})
        change = {"state_set": set, "state_unset": unset, "state_version": version}
        self._result_save = _merged(self._result_save, change)

    def ask(self, entry: IqEntry) -> None:
        """A request that waits for an answer."""
        self.iqs[entry.key] = entry
        self._iq_set.append(entry)

    def answered(self, key: str) -> None:
        if self.iqs.pop(key, None) is not None:
            self._iq_done.append(key)

    def send(self, draft: Draft) -> None:
        if len(self._drafts) >= DRAFTS:
            self._unask(draft)
            if draft.told is not None:
                draft.told(QueueFull(f"{DRAFTS} stanzas of link {self.hold.link} wait for Redis: come back later"))
            return
        if draft.outgoing.iq is not None:
            self.iqs[draft.outgoing.iq.key] = draft.outgoing.iq
        self._drafts.append(draft)

    def acknowledged(self, h: int) -> None:
        """The server has handled our stanzas up to `h`."""
        self._h_told = h

    def new_stream(self, make: Callable[[], NewStream], then: Callable[[], None]) -> None:
        """The server has begun a new session. `make` is called when nothing of the old one is under way any more; until
        `then` is called nothing may be sent on the new one."""
        self._enabled = (make, then)
        self._h = self._h_told = None

    @property
    def drafted(self) -> Sequence[Stanza]:
        """Stanzas that wait for the next flush."""
        return [draft.outgoing.stanza for draft in self._drafts]

    @property
    def idle(self) -> bool:
        """Everything is durable."""
        return not (self._flying or self._repeat or self._pending())

    def _pending(self) -> bool:
        return bool(
            self._h is not None or self._done or self._save or self._result_save or self._iq_set or self._iq_done
            or self._drafts or self._enabled or self._h_told is not None or self.backlog.has_news
        )  # fmt: skip

    # -- flushing

    def flush(self) -> None:
        """Write what has gathered, unless a flush is under way: then it leaves with the next."""
        if self._flying or self._repeat or self.closed or not self._pending():
            return
        if steps := self._steps():
            self._issue(steps)

    def close(self) -> None:
        """Write nothing more. Who gave drafts asks the link's next owner, who knows whether they were kept."""
        if self.closed:
            return
        self.closed = True
        self._repeat = []
        left, self._sending, self._drafts = [*self._sending, *self._drafts], [], []
        for draft in left:
            if draft.told is not None:
                draft.told(SessionGone(f"link {self.hold.link} has another owner"))

    def _steps(self) -> list[_Step]:
        if self._enabled is not None:
            return [self._step_enabled(*self._enabled)]
        steps = []
        hold, store = self.hold, self._store
        drafts, self._drafts = self._drafts, []
        done, self._done = self._done, 0
        result_save, self._result_save = self._result_save, {}
        if drafts:
            sending = Change(done=done, save=Save(**result_save) if result_save else None) if done else None
            if sending is None:
                self._save = _merged(self._save, result_save)
            receiving = self._change(0)
        else:
            self._save = _merged(self._save, result_save)
            receiving = self._change(done)
        if receiving is not None:
            steps.append(receiving)
        if drafts:
            steps.append(self._step_send(drafts, sending, result_save))
        told, self._h_told = self._h_told, None
        if told is not None:
            steps.append(_Step("ack", lambda: store.acked(hold, told), lambda _: self._acked(told)))
        return steps

    def _change(self, done: int) -> _Step | None:
        """What came from the server, and small state."""
        if self.full and not self.urgent:
            news: Sequence[tuple[int, LinkEvent]] = ()
            replaced: Mapping[int, LinkEvent] = {}
            h = None
        else:
            (news, replaced), h, self._h = self.backlog.news(), self._h, None
        urgent, self.urgent = self.urgent, False
        fields, self._save = self._save, {}
        iq_set, iq_done = self._iq_set, self._iq_done
        self._iq_set, self._iq_done = [], []
        if not (news or replaced or h is not None or fields or iq_set or iq_done or done):
            return None
        change = Change(
            first_seq=news[0][0] if news else 0,
            events=[to_stored(event) for _, event in news],
            urgent=urgent,
            done=done,
            replace={seq: to_stored(event) for seq, event in replaced.items()} or None,
            save=Save(**fields) if fields else None,
            iq_set=iq_set,
            iq_done=iq_done,
        )
        hold, store = self.hold, self._store

        def kept(_: object) -> None:
            if done or news:
                self.full = False
            if h is not None:
                self.h_in = h
            self._accepted(done)
            self.backlog.stored(news)
            self._keeper.kept(h)

        def full() -> None:
            # Not the events, but everything else must go on: above all what the backend has accepted.
            self.full = True
            self.backlog.put_back(news, replaced)
            if self._h is None and self._enabled is None:
                self._h = h
            self._save = _merged(fields, self._save)
            self._iq_set, self._iq_done = [*iq_set, *self._iq_set], [*iq_done, *self._iq_done]
            self._done = max(self._done, done)

        return _Step("receive", lambda: store.receive(hold, h, change), kept, full)

    def _step_send(self, drafts: list[Draft], change: Change | None, fields: Mapping[str, Any]) -> _Step:
        hold, store, before = self.hold, self._store, self.out_n
        outgoing = [draft.outgoing for draft in drafts]
        self._sending = drafts

        def sent(answer: Sent) -> None:
            self._sending = []
            fresh = []
            for draft, place in zip(drafts, answer.places, strict=True):
                if place is not None:
                    self.out_n = place
                    fresh.append(draft.outgoing.stanza)
                else:
                    self._unask(draft)
            self.unacked.extend(fresh)
            if change is not None:
                self._accepted(change.done)
            if fresh:
                self._keeper.may_send(fresh)
            for draft in drafts:
                if draft.told is not None:
                    draft.told(None)

        def full() -> None:
            self._sending = []
            if change is not None:
                self._done = max(self._done, change.done)
                self._save = _merged(fields, self._save)
            for draft in drafts:
                self._unask(draft)
                if draft.told is not None:
                    draft.told(QueueFull("the XMPP server does not acknowledge what was sent: come back later"))

        return _Step("send", lambda: store.send(hold, before, outgoing, change), sent, full)

    def _unask(self, draft: Draft) -> None:
        entry = draft.outgoing.iq
        if entry is not None:
            self.iqs.pop(entry.key, None)
            self._keeper.unasked(entry.id)

    def _step_enabled(self, make: Callable[[], NewStream], then: Callable[[], None]) -> _Step:
        self._enabled = None
        new = make()
        news, replaced = self.backlog.news()
        fields, self._save = self._save, {}
        iq_done, self._iq_done = self._iq_done, []
        self._iq_set = []
        self.urgent = False
        change = Change(
            first_seq=news[0][0] if news else 0,
            events=[to_stored(event) for _, event in news],
            urgent=True,
            replace={seq: to_stored(event) for seq, event in replaced.items()} or None,
            save=Save(**fields) if fields else None,
            iq_done=iq_done,
        )
        hold, store, out_n = self.hold, self._store, self.out_n

        def enabled(_: object) -> None:
            self.hold = replace(hold, stream=hold.stream + 1)
            self._picture(
                {"stream": hold.stream + 1, "sm_id": new.sm_id, "sm_max_s": new.max_s, "location": new.location}
            )
            self.h_in = self.heard_upto = 0
            self.out_n = len(new.resend)
            self.unacked = list(new.resend)
            self.backlog.stored(news)
            self._keeper.kept(None)
            then()

        return _Step("enabled", lambda: store.enabled(hold, out_n, new, change), enabled)

    def _issue(self, steps: Sequence[_Step]) -> None:
        outcomes: list[Future[Any] | None] = [None] * len(steps)
        self._flying = len(steps)

        def ended(index: int, answer: Future[Any]) -> None:
            outcomes[index] = answer
            self._flying -= 1
            if not self._flying:
                self._settle(steps, outcomes)

        for index, step in enumerate(steps):
            step.issue().add_done_callback(lambda answer, index=index: ended(index, answer))  # type: ignore[misc]

    def _settle(self, steps: Sequence[_Step], outcomes: Sequence[Future[Any] | None]) -> None:
        if self.closed:
            for answer in outcomes:
                assert answer is not None
                answer.cancelled() or answer.exception()  # nobody wants to know any more
            return
        repeat, trouble = [], None
        for step, answer in zip(steps, outcomes, strict=True):
            assert answer is not None
            error = StoreUnavailable("cancelled") if answer.cancelled() else answer.exception()
            if error is None:
                step.done(answer.result())
            elif isinstance(error, QueueFull) and step.full is not None:
                step.full()
            elif isinstance(error, CountTooHigh):
                _log.error("link %s: %s", self.hold.link, error)
            else:
                repeat.append(step)
                trouble = trouble or error
            if self.closed:
                return
        if trouble is None:
            self._odd = 0
            self.waits_for_store = False
            self._keeper.flushed()
            return
        self._repeat = repeat
        self._after(trouble)

    # -- when Redis does not answer, or answers something else than we know

    def _after(self, trouble: BaseException) -> None:
        if isinstance(trouble, StoreUnavailable):
            if not self.waits_for_store:
                self.waits_for_store = True
                self._keeper.kept(None)
            self._wheel.after(AGAIN_MS, self._look)
            return
        if not isinstance(trouble, FenceRefused):
            self._odd += 1
            _log.warning("link %s: a write was refused: %s", self.hold.link, trouble)
            if self._odd > 3:
                # What Redis has is not what we know, and it did not help to write it again. It is the truth then.
                self.close()
                self._keeper.dispossessed(f"what Redis has of the link does not fit: {trouble}")
                return
        self._look()

    def verify(self) -> None:
        """See whether the link is still ours, and whole in Redis; write it again if not. A flush under way will see."""
        if not (self._flying or self._repeat or self.closed):
            self._repeat = [_Step("verify", lambda: self._store.load(self.hold.link), lambda _: None)]
            self._look()

    def _look(self) -> None:
        if not self.closed:
            self._store.load(self.hold.link).add_done_callback(self._looked)

    def _looked(self, answer: Future[LinkRow | None]) -> None:
        if self.closed:
            return
        if answer.cancelled() or isinstance(answer.exception(), StoreError):
            self._wheel.after(AGAIN_MS, self._look)
            return
        row = answer.result()
        if row is not None and (row.fence > self.hold.fence or row.owner != self.hold.owner):
            self.close()
            self._keeper.dispossessed(f"edge {row.owner or 'nobody'} owns the link, fence {row.fence}")
        elif row is None or self._behind(row):
            _log.warning("link %s: Redis has lost some of it; writing it again", self.hold.link)
            self._store.restore(self._held(), self._events()).add_done_callback(self._restored)
        else:
            self._again()

    def _behind(self, row: LinkRow) -> bool:
        """Redis has less than was confirmed."""
        if row.fence < self.hold.fence or row.stream < self.hold.stream or row.seq < self.backlog.kept:
            return True
        if row.stream > self.hold.stream:
            return False
        return _less(row.h_in, self.h_in) or _less(row.out_n, self.out_n)

    def _restored(self, answer: Future[Restored]) -> None:
        if self.closed:
            return
        error = None if answer.cancelled() else answer.exception()
        if isinstance(error, FenceRefused):
            self.close()
            self._keeper.dispossessed(str(error))
        elif answer.cancelled() or error is not None:
            self._wheel.after(AGAIN_MS, self._look)
        else:
            if lost := answer.result().lost:
                _log.error("link %s: Redis has lost %d events that waited for the backend", self.hold.link, lost)
            self._again()

    def _again(self) -> None:
        steps, self._repeat = self._repeat, []
        if steps:
            self._issue(steps)

    # -- the picture of the row

    def row(self) -> LinkRow:
        """The link as the store should know it."""
        backlog = self.backlog
        return replace(
            self.base,
            owner=self.hold.owner,
            fence=self.hold.fence,
            stream=self.hold.stream,
            h_in=self.h_in,
            out_base=(self.out_n - len(self.unacked)) % MODULUS,
            out_n=self.out_n,
            seq=backlog.kept,
            done=backlog.done,
            last_mam_id=self.last_mam_id,
        )

    def _picture(self, fields: Mapping[str, Any]) -> None:
        """In place: the row is this ledger's alone, and a copy of so many fields costs as much as a stanza."""
        for name, value in fields.items():
            setattr(self.base, name, value)

    def _held(self) -> HeldLink:
        return HeldLink(self.row(), tuple(self.unacked), tuple(self.iqs.values()))

    def _events(self) -> Sequence[WaitingEvent]:
        return [WaitingEvent(seq, to_stored(event)) for seq, event in self.backlog.in_memory()]

    def _accepted(self, done: int) -> None:
        if done:
            self.backlog.accepted(done)

    def _acked(self, h: int) -> None:
        count = (h - (self.out_n - len(self.unacked))) % MODULUS
        if count < _HALF:
            del self.unacked[:count]


def _merged(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Small state (fields of `Save`) of two changes, one after the other."""
    merged = {**earlier, **later}
    if "state_version" in merged:
        now_set, now_unset = later.get("state_set", {}), later.get("state_unset", ())
        state = {**earlier.get("state_set", {}), **now_set}
        merged["state_set"] = {key: value for key, value in state.items() if key not in now_unset}
        merged["state_unset"] = tuple({*earlier.get("state_unset", ()), *now_unset}.difference(now_set))
    return merged


def _less(one: int, other: int) -> bool:
    """`one` is behind `other`, as counts modulo 2^32."""
    return 0 < (other - one) % MODULUS < _HALF
