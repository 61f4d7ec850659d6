"""Contacts that talk to links all the time, what links say in return, and whether each word came once and in order."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import defaultdict
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.scenarios.xmpp.holding import MANY_S, Held, full_jid, link_id
from tests.support.waiting import wait_until
from tests.support.xmpp_peer import Peer

HANDOVER_MS = 2_000
OPEN = 4
"""Messages to a link that may be unanswered. Contacts wait past it: here servers' queues are not tested."""


class Traffic:
    """Rounds over all links while the block runs: a contact says something to each, which the link answers, and now and
    then something that it passes on to another link. `rate`: messages a second of all contacts together. At the block's
    end all of it is checked."""

    def __init__(self, here: Held, contacts: Sequence[Peer], links: Sequence[int], rate: float = 60) -> None:
        self._here, self._contacts, self._links = here, contacts, links
        self._pause_s = 1 / rate
        self._said: dict[int, list[str]] = {number: [] for number in links}
        """To each link, by its contact."""
        self._echoes: dict[int, list[str]] = {number: [] for number in links}
        """What each link owes to its contact."""
        self._passed: dict[tuple[int, int], list[str]] = defaultdict(list)
        """What the first link owes to the second."""
        self._answered: dict[int, int] = dict.fromkeys(links, 0)
        self._heard = [0] * len(contacts)
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._talk())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        await self._task
        if error is None:
            await self._finish()

    def contact_of(self, number: int) -> Peer:
        return self._contacts[number % len(self._contacts)]

    async def flows(self, answers: int = 1) -> None:
        """Return when each link has answered so often from now on."""
        goal = {number: count + answers for number, count in self._answered.items()}
        await self._until(goal, f"each link has answered {answers} times more")

    async def _finish(self) -> None:
        """Wait until all is answered, and check everything."""
        await self._until({number: len(owed) for number, owed in self._echoes.items()}, "everything is answered")
        try:
            await wait_until(lambda: not self._missing(), "all that links passed on has come", MANY_S)
        except AssertionError as error:
            error.add_note(f"missing: {sorted(self._missing())}")
            raise
        self._check()

    def _check(self) -> None:
        """Each word that was said came once, and in order for each pair."""
        passed: dict[int, list[str]] = defaultdict(list)
        for tag in self._all_passed():
            passed[_target(tag)].append(tag)
        for number in self._links:
            told = self._here.notes.bodies(link_id(number))
            said = set(self._said[number])
            self._check_order(number, self._said[number])
            assert sorted(body for body in told if body not in said) == sorted(passed[number])
            heard = [body for body in self.contact_of(number).bodies if body.startswith(f"{number}-")]
            assert heard == self._echoes[number]
        for (_, target), tags in self._passed.items():
            self._check_order(target, tags)

    def _check_order(self, number: int, said: list[str]) -> None:
        """These came to a link once each, in order.

        Only what comes to ejabberd just when it hands a session from one connection to the next may change places: what
        was on its way to the old connection's process is sent on from there, behind what goes to the new one's.
        """
        messages = self._here.notes.of("message", link_id(number))
        told = [each for each in messages if each.body in set(said)]
        bodies = [str(each.body) for each in told]
        if bodies == said or self._here.server.kind != "ejabberd":
            assert bodies == said
            return
        assert sorted(bodies) == sorted(said)
        resumed = self._here.notes.of("resumed", link_id(number))
        places = {body: place for place, body in enumerate(said)}
        for one, other in itertools.pairwise(told):
            if places[str(one.body)] > places[str(other.body)]:
                assert any(0 <= other.fields["at"] - each.fields["at"] < HANDOVER_MS for each in resumed), bodies

    @property
    def said(self) -> int:
        return sum(map(len, self._said.values()))

    async def _until(self, goal: dict[int, int], why: str) -> None:
        def met() -> bool:
            if self._task.done():
                self._task.result()
            self._count_answers()
            return all(self._answered[number] >= count for number, count in goal.items())

        try:
            await wait_until(met, why, MANY_S)
        except AssertionError as error:
            error.add_note(
                f"behind: { ({n: (self._answered[n], c) for n, c in goal.items() if self._answered[n] < c}) }"
            )
            raise

    async def _talk(self) -> None:
        turn = 0
        while not self._stop.is_set():
            self._count_answers()
            for number in self._links:
                if len(self._echoes[number]) - self._answered[number] < OPEN:
                    self._say(number, turn)
                with contextlib.suppress(TimeoutError):  # the load that a test chose, not a wait for anything
                    await asyncio.wait_for(self._stop.wait(), self._pause_s)
                if self._stop.is_set():
                    return
            turn += 1

    def _say(self, number: int, turn: int) -> None:
        contact = self.contact_of(number)
        self._echoes[number].append(f"{number}-{turn}")
        bodies = [f"echo {number}-{turn}"]
        if turn % 3 == 1:  # every third time to another link too
            others = len(self._links) - 1
            target = self._links[(self._links.index(number) + 1 + turn % others) % len(self._links)]
            tag = f"{number}>{target}-{turn}"
            self._passed[number, target].append(tag)
            bodies.insert(0, f"pass {full_jid(target)} {tag}")
        for body in bodies:
            contact.say(full_jid(number), body)
            self._said[number].append(body)

    def _count_answers(self) -> None:
        for place, contact in enumerate(self._contacts):
            news = contact.messages[self._heard[place] :]
            self._heard[place] += len(news)
            for message in news:
                number = str(message["body"]).partition("-")[0]
                if number.isdigit():
                    self._answered[int(number)] += 1

    def _all_passed(self) -> list[str]:
        return [tag for tags in self._passed.values() for tag in tags]

    def _missing(self) -> set[str]:
        """What was passed on and has not come."""
        return set(self._all_passed()) - {str(told.body) for told in self._here.notes.all("message")}


def _target(tag: str) -> int:
    return int(tag.partition(">")[2].partition("-")[0])


class Watch:
    """What a contact sees of links: they are there, and nothing else ever happens to them."""

    def __init__(self, contact: Peer, links: Sequence[int]) -> None:
        self.contact, self.links = contact, links

    async def begins(self) -> None:
        """Wait until all are seen."""
        wanted = {full_jid(number) for number in self.links}
        await wait_until(lambda: {jid for jid, _ in self.contact.presences} >= wanted, "all links are seen", MANY_S)
        self.saw_nothing()

    def saw_nothing(self) -> None:
        """Nothing but their coming."""
        ours = {full_jid(number) for number in self.links}
        seen = [(jid, kind) for jid, kind in self.contact.presences if jid in ours]
        assert sorted(seen) == sorted((jid, "available") for jid in ours)
