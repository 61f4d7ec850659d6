"""The post: orders for sessions, wherever they live, and small questions between edges.

Promises: an order to one session from one process arrives in the order given, and is carried out at most once even
when a letter has to be repeated. The bus delivers letters at most once, so an order is repeated until its receipt
comes, three times at most; then nobody knows, and `NotConfirmed` says so.

Longer than our other rooms: both ends of each letter are here, side by side.
"""

from __future__ import annotations

import logging
from asyncio import Future, get_running_loop
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, count
from typing import TYPE_CHECKING

from edge.backend.shadow import COUNTS, ShadowFigures
from edge.errors import Conflict, HoldfastError, NotConfirmed, SessionGone, StoreError, VaultError, WireError
from edge.model.canary import Figures
from edge.model.release import ReleaseCounts
from edge.protocol.callbacks.actions import Result, XmppConnect, XmppCredentials, is_link
from edge.protocol.mail import (
    Count,
    CountAsked,
    FiguresAsked,
    FiguresGiven,
    Letter,
    LinksFreed,
    Order,
    Receipt,
    Receivers,
    ReceiversAsked,
    Recover,
    ReleasesChanged,
    Rows,
    RowsAsked,
    SealedOrder,
    SessionsAsked,
    SessionsCounted,
    ShadowAsked,
    ShadowGiven,
    decode_letter,
    encode_letter,
)
from edge.store.base import SessionRow
from edge.wheel import Alarm

if TYPE_CHECKING:
    from edge.sessions.inquiries import Inquiries
    from edge.sessions.links.house import House
    from edge.sessions.links.link_post import LinkPost
    from edge.sessions.routes import RouteHandle
    from edge.sessions.services import Services

_log = logging.getLogger("holdfast.post")

REPEAT_MS = 700
TRIES = 3
COUNT_MS = 1_000
"""How long edges may take to count their subscribers; those that stay silent are not in the sum."""
REMEMBERED_ORDERS = 4_096
"""Receipts kept to answer repeated orders with."""


class _Sent:
    """An order that waits for its receipt."""

    __slots__ = ("alarm", "body", "done", "edge", "tries")

    def __init__(self, edge: str, body: bytes, done: Future[None]) -> None:
        self.edge = edge
        self.body = body
        self.done = done
        self.tries = 0
        self.alarm: Alarm | None = None


class _Tally:
    """Counts that wait for answers."""

    __slots__ = ("alarm", "done", "missing", "totals")

    def __init__(self, totals: Sequence[int], missing: int, done: Future[Sequence[int]]) -> None:
        self.totals = list(totals)
        self.missing = missing
        self.done = done
        self.alarm: Alarm | None = None


class _Poll:
    """A question to other edges that waits for its answers."""

    __slots__ = ("answers", "asked", "done")

    def __init__(self, asked: int, done: Future[None]) -> None:
        self.asked = asked
        self.answers: dict[str, Letter] = {}
        self.done = done

    def over(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class Post:
    """See the module's docstring. `services`, `links`, `house` and `inquiries` are set by the wiring, which
    builds the post first."""

    def __init__(self) -> None:
        self.services: Services
        self._numbers = count(1)
        self._sent: dict[int, _Sent] = {}
        self._tallies: dict[int, _Tally] = {}
        self._polls: dict[int, _Poll] = {}
        self.routes: Callable[[str], Sequence[str]] = lambda app: ()
        """Names of an app's routes."""
        self.shadow: Callable[[str], ShadowFigures] = lambda app: ShadowFigures()
        self._receipts: OrderedDict[tuple[str, int], Receipt | None] = OrderedDict()
        self.releases_changed: Callable[[str], None] = lambda app: None
        self.receivers: Callable[[str, Sequence[str]], int] = lambda channel, kinds: 0
        """Members of GRIP channels in this process: (channel, kinds)."""
        self.recover: Callable[[], None] = lambda: None
        self.links: LinkPost
        self.house: House
        self.inquiries: Inquiries
        self.links_freed: Callable[[], None] = lambda: None

    # Orders.

    @property
    def undone(self) -> int:
        """Letters that nobody has confirmed yet, and orders that wait for links: lost if this process ended now."""
        return len(self._sent) + self.links.waiting

    def order(
        self,
        target: str,
        result: Result,
        gone: Callable[[], None],
        failed: Callable[[str], None] = lambda _: None,
        handle: RouteHandle | None = None,
    ) -> None:
        """Give an order without waiting; `gone` is called when the session has ended. Other failures are logged, and
        `failed` is told what was not done. `handle`: whose backend a link is for that is begun by it."""

        def done(answer: Future[None]) -> None:
            if answer.cancelled():
                return
            error = answer.exception()
            if isinstance(error, SessionGone):
                gone()
            elif error is not None:
                _log.warning("an order for session %s was not carried out: %s", target, error)
                failed(f"order for session {target}: {error}")

        self.act(target, result, handle).add_done_callback(done)

    def act(self, target: str, result: Result, handle: RouteHandle | None = None) -> Future[None]:
        """Carry out `result` on session or link `target`. Fails with `SessionGone`, `NotConfirmed`, `StoreUnavailable`,
        `Conflict` when a limit of the session forbids it, or `StoreError` when its owner could not do it (what was and
        was not done is in the text)."""
        if is_link(target):
            return self.links.act(target, result, handle)
        done: Future[None] = get_running_loop().create_future()
        session = self.services.registry.get(target)
        if session is not None:
            session.order(result, _reply_to(done))
            return done

        def found(answer: Future[SessionRow | None]) -> None:
            if answer.cancelled():
                done.cancel()
            elif (error := answer.exception()) is not None:
                _fail(done, error)
            else:
                self._send_order(target, answer.result(), result, done)

        self.services.store.load(target).add_done_callback(found)
        return done

    def _send_order(self, target: str, row: SessionRow | None, result: Result, done: Future[None]) -> None:
        local = self.services.registry.get(target)
        if local is not None:
            local.order(result, _reply_to(done))
        elif row is None or row.owner == self.services.edge_id:
            _fail(done, SessionGone(f"session {target} has ended"))
        else:
            self._begin_order(row.owner, target, result, done)

    def send_order(self, edge: str, target: str, result: Result) -> Future[None]:
        """Have `edge` carry out `result` on a session or link of its own. Fails as `act` does; `SessionGone`: it is not
        there (any more)."""
        done: Future[None] = get_running_loop().create_future()
        self._begin_order(edge, target, result, done)
        return done

    def _begin_order(self, edge: str, target: str, result: Result, done: Future[None]) -> None:
        number = next(self._numbers)
        letter = encode_letter(Order(number, target, result))
        if any(isinstance(action, XmppConnect | XmppCredentials) for action in result.actions):
            letter = encode_letter(SealedOrder(target, self.house.services.vault.seal_bytes(target, letter)))
        sent = self._sent[number] = _Sent(edge, letter, done)
        self._try(number, sent)

    def _try(self, number: int, sent: _Sent) -> None:
        if sent.tries >= TRIES:
            del self._sent[number]
            _fail(sent.done, NotConfirmed(f"edge {sent.edge} did not confirm within {REPEAT_MS * TRIES} ms"))
            return
        sent.tries += 1
        sent.alarm = self.services.wheel.after(REPEAT_MS, lambda: self._try(number, sent))
        self._mail(sent.edge, sent.body)

    def _mail(self, edge: str, body: bytes) -> None:
        # A letter that cannot be sent is a letter that was lost: the sender's deadline sees to both.
        self.services.store.send(edge, body).add_done_callback(lambda sent: sent.cancelled() or sent.exception())

    # Questions and news.

    async def count(self, channel: str) -> int:
        """Subscribers of `channel` over all live edges."""
        mine = self.services.hub.subscribers(channel)
        others = [edge for edge in await self.services.store.edges() if edge != self.services.edge_id]
        number = next(self._numbers)
        (total,) = await self._tally(number, [mine], others, encode_letter(CountAsked(number, channel)))
        return total

    async def count_releases(self, app: str) -> ReleaseCounts:
        """Sessions and links of `app` per release over all live edges."""
        answers, complete = await self._ask_all(lambda number: SessionsAsked(number, app))
        counts = Counter(self._sessions_here(app))
        for answer in answers.values():
            if isinstance(answer, SessionsCounted):
                counts.update(answer.counts)
        return ReleaseCounts(counts, complete)

    async def release_figures(self, app: str, sha: str) -> tuple[Mapping[str, Figures], bool]:
        """What each live edge has counted of a release, and whether all of them have said so."""
        answers, complete = await self._ask_all(lambda number: FiguresAsked(number, app, sha))
        figures = {self.services.edge_id: self._figures_here(app, sha)}
        for edge, answer in answers.items():
            if isinstance(answer, FiguresGiven):
                figures[edge] = Figures(answer.answered, answer.failed, answer.took)
        return figures, complete

    async def shadow_figures(self, app: str) -> ShadowFigures:
        """How the answers of the app's shadow compare, over all live edges that answer."""
        answers, _ = await self._ask_all(lambda number: ShadowAsked(number, app))
        total = ShadowFigures()
        total.add(self.shadow(app))
        for answer in answers.values():
            if isinstance(answer, ShadowGiven) and len(answer.counts) == len(COUNTS):
                seen, same, different, failed, dropped = answer.counts
                told = deque((a, b, c, d) for a, b, c, d in answer.differences)
                total.add(ShadowFigures(seen, same, different, failed, dropped, told))
        return total

    def _sessions_here(self, app: str) -> Mapping[str, int]:
        sessions = (s.model.release for s in self.services.registry if s.route.app == app)
        links = (link.ledger.base.release for link in self.house if link.handle.settings.app == app)
        return Counter(chain(sessions, links))

    def _figures_here(self, app: str, sha: str) -> Figures:
        total = Figures()
        for route in self.routes(app):
            meters = self.services.metrics.route(route, sha)
            failures = sum(counter.value for counter in meters.request_failures.values())
            failed = failures + meters.bad_results.value + meters.events_expired.value
            total = total.plus(Figures(meters.events_delivered.value, failed, tuple(meters.event_seconds.counts)))
        return total

    async def _ask_all(self, letter: Callable[[int], Letter]) -> tuple[Mapping[str, Letter], bool]:
        """The answers of all other live edges to a question, within `COUNT_MS`, by edge; and whether all of them
        answered."""
        others = [edge for edge in await self.services.store.edges() if edge != self.services.edge_id]
        if not others:
            return {}, True
        number = next(self._numbers)
        poll = self._polls[number] = _Poll(len(others), get_running_loop().create_future())
        alarm = self.services.wheel.after(COUNT_MS, poll.over)
        try:
            question = encode_letter(letter(number))
            for edge in others:
                self._mail(edge, question)
            await poll.done
        finally:
            alarm.cancel()
            del self._polls[number]
        return poll.answers, len(poll.answers) >= len(others)

    def _answered(self, sender: str, number: int, letter: Letter) -> None:
        poll = self._polls.get(number)
        if poll is not None:
            poll.answers[sender] = letter
            if len(poll.answers) >= poll.asked:
                poll.over()

    def count_receivers(
        self, items: Sequence[tuple[str, Sequence[str]]], edges: Iterable[str]
    ) -> Future[Sequence[int]]:
        """Members over all `edges` that would be handed each of `items` (channel, kinds) now. The questions are on
        their way when this returns: what is published after it is counted before it is delivered."""
        mine = [self.receivers(channel, kinds) for channel, kinds in items]
        others = [edge for edge in edges if edge != self.services.edge_id]
        number = next(self._numbers)
        return self._tally(number, mine, others, encode_letter(ReceiversAsked(number, items)))

    def _tally(self, number: int, mine: Sequence[int], others: Sequence[str], letter: bytes) -> Future[Sequence[int]]:
        """Ask `others` and add their answers to `mine`, within `COUNT_MS`."""
        tally = _Tally(mine, len(others), get_running_loop().create_future())
        if not others:
            tally.done.set_result(tally.totals)
            return tally.done
        self._tallies[number] = tally
        tally.alarm = self.services.wheel.after(COUNT_MS, lambda: self._counted(number))
        for edge in others:
            self._mail(edge, letter)
        return tally.done

    async def tell_recover(self) -> None:
        """Every live edge asks backends what its GRIP clients may have missed."""
        self.recover()
        for edge in await self.services.store.edges():
            if edge != self.services.edge_id:
                self._mail(edge, encode_letter(Recover()))

    async def tell_links_freed(self) -> None:
        """Every other live edge looks for links that have been given away."""
        for edge in await self.services.store.edges():
            if edge != self.services.edge_id:
                self._mail(edge, encode_letter(LinksFreed()))

    async def tell_releases_changed(self, app: str) -> None:
        """Every other live edge reads the release table of `app` again."""
        for edge in await self.services.store.edges():
            if edge != self.services.edge_id:
                self._mail(edge, encode_letter(ReleasesChanged(app)))

    # Incoming letters.

    def received(self, sender: str, body: bytes) -> None:
        """A letter came. One that does not parse is logged; it never ends anything."""
        try:
            letter: Letter = decode_letter(body)
            if isinstance(letter, SealedOrder):
                letter = decode_letter(self.house.services.vault.open_bytes(letter.link, letter.sealed))
        except (WireError, VaultError) as error:
            _log.warning("a letter from edge %s was not understood: %s", sender, error)
            return
        match letter:
            case Order():
                self._carry_out(sender, letter)
            case Receipt():
                self._receipt(letter)
            case CountAsked(number, channel):
                self._mail(sender, encode_letter(Count(number, self.services.hub.subscribers(channel))))
            case Count(number, counted):
                self._add(number, [counted])
            case ReleasesChanged(app):
                self.releases_changed(app)
            case SessionsAsked(number, app):
                self._mail(sender, encode_letter(SessionsCounted(number, self._sessions_here(app))))
            case FiguresAsked(number, app, sha):
                mine = self._figures_here(app, sha)
                self._mail(sender, encode_letter(FiguresGiven(number, mine.answered, mine.failed, mine.took)))
            case ShadowAsked(number, app):
                mine_of_it = self.shadow(app)
                counts = [getattr(mine_of_it, name) for name in COUNTS]
                self._mail(sender, encode_letter(ShadowGiven(number, counts, list(mine_of_it.differences))))
            case ShadowGiven(number):
                self._answered(sender, number, letter)
            case SessionsCounted(number) | FiguresGiven(number):
                self._answered(sender, number, letter)
            case ReceiversAsked(number, items):
                counts = [self.receivers(channel, kinds) for channel, kinds in items]
                self._mail(sender, encode_letter(Receivers(number, counts)))
            case Receivers(number, counts):
                self._add(number, counts)
            case RowsAsked():
                self.inquiries.asked(sender, letter)
            case Rows():
                self.inquiries.told(sender, letter)
            case Recover():
                self.recover()
            case LinksFreed():
                self.links_freed()
            case SealedOrder():
                _log.warning("a letter from edge %s was sealed twice", sender)

    def _add(self, number: int, counts: Sequence[int]) -> None:
        tally = self._tallies.get(number)
        if tally is not None:
            tally.totals = [total + count for total, count in zip(tally.totals, counts, strict=False)]
            tally.missing -= 1
            if not tally.missing:
                self._counted(number)

    def _counted(self, number: int) -> None:
        tally = self._tallies.pop(number, None)
        if tally is None:
            return
        if tally.alarm is not None:
            tally.alarm.cancel()
        if not tally.done.done():
            tally.done.set_result(tally.totals)

    def _carry_out(self, sender: str, order: Order) -> None:
        key = (sender, order.number)
        if key in self._receipts:
            receipt = self._receipts[key]
            if receipt is not None:  # None: still being carried out; its receipt will come
                self._mail(sender, encode_letter(receipt))
            return
        self._receipts[key] = None
        while len(self._receipts) > REMEMBERED_ORDERS:
            self._receipts.popitem(last=False)

        def reply(error: HoldfastError | None) -> None:
            if isinstance(error, SessionGone):
                receipt = Receipt(order.number, "gone", str(error))
            elif error is not None:
                outcome = "refused" if isinstance(error, Conflict) else "failed"
                receipt = Receipt(order.number, outcome, str(error))
            else:
                receipt = Receipt(order.number, "done")
            self._receipts[key] = receipt
            self._mail(sender, encode_letter(receipt))

        session = self.house.get(order.session) if is_link(order.session) else self.services.registry.get(order.session)
        if session is None:
            reply(SessionGone(f"session {order.session} has ended"))
        else:
            session.order(order.result, reply)

    def _receipt(self, receipt: Receipt) -> None:
        sent = self._sent.pop(receipt.number, None)
        if sent is None:
            return
        if sent.alarm is not None:
            sent.alarm.cancel()
        if sent.done.done():
            return
        if receipt.outcome == "done":
            sent.done.set_result(None)
        elif receipt.outcome == "gone":
            sent.done.set_exception(SessionGone(receipt.detail))
        elif receipt.outcome == "refused":
            sent.done.set_exception(Conflict(receipt.detail))
        else:
            sent.done.set_exception(StoreError(receipt.detail))


def _fail(done: Future[None], error: BaseException) -> None:
    """Whoever waits may have left: a control call that was hung up on is a cancelled future."""
    if not done.done():
        done.set_exception(error)


def _reply_to(done: Future[None]) -> Callable[[HoldfastError | None], None]:
    def reply(error: HoldfastError | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    return reply
