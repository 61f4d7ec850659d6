"""Orders for links wherever they are: in the order given, again when the link has moved, and not for ever."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edge.errors import Conflict, HoldfastError, NotConfirmed, QueueFull, SessionGone, StoreUnavailable
from edge.protocol.callbacks.actions import Result, XmppConnect, XmppGet
from edge.sessions.links import link_post
from edge.sessions.links.link_post import LinkPost

LINK = "x:ann"
Told = Callable[[HoldfastError | None], None]


def order(number: int) -> Result:
    return Result((XmppGet(id=str(number)),))


def number_of(result: Result) -> int:
    return int(str(result.actions[0].id))


class HereLink:
    """A link of this edge. It answers with `error`; `asked` is what it was ordered."""

    def __init__(self, error: HoldfastError | None = None, *, moving: bool = False) -> None:
        self.id = LINK
        self.error, self.moving = error, moving
        self.asked: list[int] = []
        self.silent = False
        self.unanswered: list[Told] = []

    def order(self, result: Result, told: Told) -> None:
        self.asked.append(number_of(result))
        if self.silent:  # Redis is away
            self.unanswered.append(told)
        else:
            asyncio.get_running_loop().call_soon(told, self.error)


class Edges:
    """This edge, which is "us", and the others. `owner` of the link as the store has it, None: there is no link."""

    def __init__(self) -> None:
        self.owner: str | None = "them"
        self.here: HereLink | None = None
        self.claimable: HereLink | None = None
        self.closed = False
        self.sent: list[tuple[str, int]] = []
        """(edge, number) of each letter."""
        self.answers: list[HolderAnswer] = []
        """To the next letters; to those after them: it is done."""
        self.away = 0
        """How often the store does not answer."""
        loop = asyncio.get_running_loop()
        links = SimpleNamespace(load=self.load)
        shared = SimpleNamespace(edge_id="us", store=SimpleNamespace(links=links))
        self.services = SimpleNamespace(loop=loop, random=lambda: 0.0, shared=shared)
        self.post = LinkPost(cast(Any, self), cast(Any, self))

    async def load(self, id: str) -> Any:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        return None if self.owner is None else SimpleNamespace(owner=self.owner)

    def get(self, id: str) -> HereLink | None:
        return self.here

    async def claim(self, id: str) -> HereLink | None:
        if self.claimable is not None:
            self.here, self.owner = self.claimable, "us"
        return self.claimable

    def send_order(self, edge: str, target: str, result: Result) -> Future[None]:
        self.sent.append((edge, number_of(result)))
        done: Future[None] = asyncio.get_running_loop().create_future()
        answer = self.answers.pop(0) if self.answers else None
        asyncio.get_running_loop().call_soon(self.answer, done, answer)
        return done

    def answer(self, done: Future[None], answer: HolderAnswer) -> None:
        if callable(answer):
            answer = answer()
        if answer is None:
            done.set_result(None)
        else:
            done.set_exception(answer)

    async def give(self, *numbers: int) -> list[HolderAnswer]:
        """What became of these orders, given at once."""
        given = [self.post.act(LINK, order(number), None) for number in numbers]
        assert self.post.waiting == (len(numbers) if self.here is None else 0)
        results = await asyncio.wait_for(asyncio.gather(*given, return_exceptions=True), 10)
        assert self.post.waiting == 0
        return cast(list[HolderAnswer], results)


HolderAnswer = HoldfastError | None | Callable[[], HoldfastError | None]


async def test_a_link_that_is_here_is_ordered_at_once() -> None:
    edges = Edges()
    edges.here = HereLink()
    assert await edges.give(1, 2, 3) == [None, None, None]
    assert edges.here.asked == [1, 2, 3]
    assert edges.sent == []


async def test_nobody_waits_for_ever_for_a_link_that_is_here_and_cannot_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_post, "ORDER_S", 0.05)
    monkeypatch.setattr(link_post, "WAITING", 2)
    edges = Edges()
    edges.here = here = HereLink()
    here.silent = True
    late, too = [edges.post.act(LINK, order(number), None) for number in (1, 2)]
    with pytest.raises(QueueFull, match="2 orders wait"):
        await edges.post.act(LINK, order(3), None)
    for given in (late, too):
        with pytest.raises(NotConfirmed, match="may yet be carried out"):
            await asyncio.wait_for(given, 10)
    with pytest.raises(QueueFull):  # it has them still
        await edges.post.act(LINK, order(4), None)
    here.moving = True
    here.unanswered[0](None)
    here.unanswered[1](SessionGone("gone"))  # nobody waits for this one any more: it is not given again
    here.silent = False
    assert await edges.give(5) == [None]
    assert here.asked == [1, 2, 5]
    assert edges.sent == []


async def test_orders_for_a_link_elsewhere_go_one_after_the_other() -> None:
    edges = Edges()
    assert await edges.give(1, 2, 3) == [None, None, None]
    assert edges.sent == [("them", 1), ("them", 2), ("them", 3)]


async def test_an_order_that_did_not_find_its_link_is_given_to_the_next_owner_before_those_behind_it() -> None:
    edges = Edges()

    def moved() -> HoldfastError:
        edges.owner = "others"
        return SessionGone("not here")

    edges.answers = [None, NotConfirmed("silence"), moved]
    assert await edges.give(1, 2, 3) == [None, None, None]
    assert edges.sent == [("them", 1), ("them", 2), ("them", 2), ("others", 2), ("others", 3)]


async def test_a_link_that_is_to_be_had_is_taken_and_ordered_here() -> None:
    edges = Edges()
    edges.owner, edges.claimable = "", HereLink()
    assert await edges.give(1, 2) == [None, None]
    assert edges.claimable.asked == [1, 2]
    assert edges.sent == []


async def test_a_link_that_leaves_takes_its_orders_with_it() -> None:
    edges = Edges()
    edges.here = leaving = HereLink(SessionGone("given away"), moving=True)
    edges.owner = "them"
    given = [edges.post.act(LINK, order(number), None) for number in (1, 2)]
    edges.services.loop.call_later(0.05, lambda: setattr(edges, "here", None))
    await asyncio.wait_for(asyncio.gather(*given), 10)
    assert leaving.asked[:2] == [1, 2]
    assert edges.sent == [("them", 1), ("them", 2)]


async def test_what_the_link_refuses_is_told_and_those_behind_it_go_on() -> None:
    edges = Edges()
    edges.answers = [QueueFull("no room")]
    refused, done = await edges.give(1, 2)
    assert isinstance(refused, QueueFull)
    assert done is None


async def test_there_is_no_link() -> None:
    edges = Edges()
    edges.owner = None
    [gone] = await edges.give(1)
    assert isinstance(gone, SessionGone)


async def test_a_store_that_is_away_for_a_while_delays_orders_only() -> None:
    edges = Edges()
    edges.away = 3
    assert await edges.give(1) == [None]


async def test_an_order_is_given_up_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_post, "ORDER_S", 0.4)
    edges = Edges()
    edges.owner = ""
    late, behind = await edges.give(1, 2)
    assert isinstance(late, NotConfirmed)
    assert isinstance(behind, NotConfirmed)
    assert "was not reached within 0.4 s: link x:ann has no owner now" in str(late)


async def test_only_so_many_orders_wait_for_one_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_post, "WAITING", 2)
    edges = Edges()
    given = [edges.post.act(LINK, order(number), None) for number in (1, 2, 3)]
    results = await asyncio.wait_for(asyncio.gather(*given, return_exceptions=True), 10)
    assert results[:2] == [None, None]
    assert isinstance(results[2], QueueFull)
    assert await edges.give(4) == [None]


async def test_an_edge_that_goes_down_begins_no_link() -> None:
    edges = Edges()
    edges.owner, edges.closed = None, True
    handle: Any = SimpleNamespace()
    begun = edges.post.act(LINK, Result((XmppConnect("ann@chat.test"),)), handle)
    with pytest.raises(NotConfirmed, match="going down and begins no links: ask another one"):
        await asyncio.wait_for(begun, 10)


async def test_a_link_is_begun_for_a_backend_only() -> None:
    edges = Edges()
    edges.owner = None
    begun = edges.post.act(LINK, Result((XmppConnect("ann@chat.test"),)), None)
    with pytest.raises(Conflict, match="begun by the backend whose events it will be"):
        await asyncio.wait_for(begun, 10)
