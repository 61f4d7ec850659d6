"""What a backend's answers do: in order, each once, and what no backend can handle does not hold up the rest."""

from __future__ import annotations

import asyncio
from asyncio import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edge.backend.base import Expired, Outcome, Refused
from edge.errors import Conflict, HoldfastError, SessionGone, StoreError, StoreUnavailable
from edge.protocol.callbacks.actions import BadResult, Pin, Publish, Result, Send
from edge.protocol.callbacks.events import Event, LinkEvent
from edge.sessions.links.outcomes import PARK_AFTER, Outcomes

LINK = "x:ann"
BROKEN = Expired("status 500", 0)


def event(seq: int) -> LinkEvent:
    return LinkEvent(f"{LINK}:{seq}", 0, "xmpp.message", {"seq": seq})


def publish(channel: str) -> Result:
    return Result((Publish(channel, "news"),))


class FakeLink:
    """What outcomes ask of a link, written down. Publications are answered by the test."""

    id = LINK

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.publications: list[Future[None]] = []
        self.flying: list[Event] = []
        self.ledger = SimpleNamespace(
            accept=lambda seq: self.log.append(("accepted", seq)),
            change_state=lambda changed, unset: self.log.append(("state", dict(changed), tuple(unset))),
        )
        self.mailbox = SimpleNamespace(settled=self.settled, announce=lambda: None)
        shared = SimpleNamespace(
            metrics=SimpleNamespace(process=SimpleNamespace(publications_published=SimpleNamespace(value=0))),
            policies=SimpleNamespace(of=lambda channel: channel),
            store=SimpleNamespace(publish=self.publish),
            registry=SimpleNamespace(get=lambda id: None),
            post=SimpleNamespace(order=self.order_elsewhere),
            deliverer=SimpleNamespace(report_gone=lambda app, id: self.log.append(("gone", id))),
        )
        self.services = SimpleNamespace(shared=shared)
        self.handle = SimpleNamespace(settings=SimpleNamespace(app="chat"))
        self.outcomes = Outcomes(cast(Any, self))

    def settled(self, event: LinkEvent, *, handed_back: bool) -> bool:
        if handed_back:
            self.log.append(("handed back", event.fields["seq"]))
        self.flying.remove(event)
        return not self.flying

    def publish(self, channel: str, payload: str, policy: Any, **more: Any) -> Future[None]:
        self.log.append(("published", channel, more["id"]))
        self.publications.append(asyncio.get_running_loop().create_future())
        return self.publications[-1]

    def order_elsewhere(self, target: str, result: Result, gone: Any, failed: Any, *, handle: Any) -> None:
        self.log.append(("ordered", target, result.actions[0].id))
        failed("it was full")

    def tell(self, kind: str, fields: dict[str, Any]) -> None:
        self.log.append((kind, fields["of"], fields["error"]))

    def park(self, event: LinkEvent, why: str) -> None:
        self.log.append(("parked", event.fields["seq"], why))

    def pin(self, release: str | None) -> None:
        self.log.append(("pinned", release))

    def pump(self) -> None:
        pass

    def settle(self, *outcomes: Outcome, first: int = 1) -> list[tuple[Any, ...]]:
        """The backend's answers to events from number `first` on; what came of them at once."""
        told: list[tuple[Event, Outcome]] = [(event(first + at), outcome) for at, outcome in enumerate(outcomes)]
        self.flying += [each for each, _ in told]
        self.log.clear()
        self.outcomes.settle(told)
        return self.log


async def test_answers_are_carried_out_in_order_with_their_events() -> None:
    link = FakeLink()
    pinned, changed = Result((Pin("abc"),)), Result(state_set={"a": 1}, state_unset=("b",))
    assert link.settle(pinned, changed) == [
        ("pinned", "abc"),
        ("accepted", 1),
        ("state", {"a": 1}, ("b",)),
        ("accepted", 2),
    ]
    assert not link.outcomes.busy


async def test_what_is_behind_a_publication_waits_until_that_is_there() -> None:
    link = FakeLink()
    assert link.settle(publish("room"), publish("hall")) == [("published", "room", f"~{LINK}:1/1")]
    assert link.outcomes.busy
    link.publications[0].set_result(None)
    await asyncio.sleep(0)
    assert link.log[1:] == [("accepted", 1), ("published", "hall", f"~{LINK}:2/1")]
    link.publications[1].set_exception(StoreUnavailable("away"))
    await asyncio.sleep(0)
    assert link.log[3:] == [("refused", f"{LINK}:2", "publish to 'hall': away"), ("accepted", 2)]
    assert not link.outcomes.busy


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (BadResult("actions[0].type", "no such action"), "its answer does not hold: actions[0].type: no such action"),
        (Refused(404, [], b""), "the backend answered 404"),
        (
            Result((Pin("abc"), Send("hi")), {"a": 1}),
            "its answer does not hold: actions[1].session: a link has no client: name the session that the action is "
            "for",
        ),
    ],
)
async def test_an_answer_that_cannot_be_lays_its_event_aside_and_is_not_done(outcome: Outcome, why: str) -> None:
    link = FakeLink()
    assert link.settle(outcome, Result()) == [("parked", 1, why), ("accepted", 1), ("accepted", 2)]


async def test_an_event_that_nobody_answered_comes_again_with_those_behind_it() -> None:
    link = FakeLink()
    assert link.settle(Result(), BROKEN, publish("room"), first=1) == [
        ("accepted", 1), ("handed back", 2), ("handed back", 3),
    ]  # fmt: skip
    assert link.settle(Result(), first=2) == [("accepted", 2)]


async def test_an_event_is_laid_aside_when_a_backend_that_is_there_fails_again_and_again() -> None:
    link = FakeLink()
    for _ in range(PARK_AFTER - 1):
        assert link.settle(BROKEN) == [("handed back", 1)]
    assert link.settle(BROKEN) == [("parked", 1, f"status 500, {PARK_AFTER} retry windows long"), ("accepted", 1)]
    assert link.settle(BROKEN, first=2) == [("handed back", 2)], "each event has its own tries"


@pytest.mark.parametrize(
    "away", ["connection refused", "no answer within 10 s", "status 502", "status 503", "status 504"]
)
async def test_a_backend_that_is_away_for_hours_costs_no_event(away: str) -> None:
    link = FakeLink()
    for outcome in [*[Expired(away, 0)] * (3 * PARK_AFTER), *[BROKEN] * (PARK_AFTER - 1), Expired(away, 0)]:
        assert link.settle(outcome) == [("handed back", 1)], "what counts is what a backend itself says"
    assert link.settle(BROKEN)[0][0] == "parked"


async def test_what_becomes_of_an_action_for_others_is_told_later() -> None:
    link = FakeLink()
    answer = Result((Send("hi", session="a-session"),))
    assert link.settle(answer) == [
        ("ordered", "a-session", f"^{LINK}:1/1"), ("refused", f"{LINK}:1", "it was full"), ("accepted", 1),
    ]  # fmt: skip


async def test_who_gave_an_order_hears_what_became_of_it() -> None:
    link = FakeLink()
    heard: list[HoldfastError | None] = []
    link.outcomes.order(Result((Pin("abc"),)), heard.append)
    assert heard == [None]
    link.outcomes.order(Result((Send("hi"),)), heard.append)
    assert isinstance(heard[1], Conflict)
    link.outcomes.order(publish("room"), heard.append)
    link.outcomes.order(publish("hall"), heard.append)
    assert len(heard) == 2
    link.publications[0].set_exception(StoreUnavailable("away"))
    await asyncio.sleep(0)
    assert isinstance(heard[2], StoreError)
    assert "publish to 'room': away" in str(heard[2])


async def test_orders_of_a_link_that_has_another_owner_are_given_back() -> None:
    link = FakeLink()
    heard: list[HoldfastError | None] = []
    link.outcomes.order(publish("room"), heard.append)
    link.outcomes.order(Result(), heard.append)
    link.outcomes.drop()
    assert [type(error) for error in heard] == [SessionGone], "the one under way is not known to have failed"
