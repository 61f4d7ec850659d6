"""Contacts that talk to links all the time, what links say in return, and whether each word came once and in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.scenarios.xmpp.holding import MANY_S, Held, full_jid, link_id
from tests.support.waiting import wait_until
from tests.support.xmpp import Ejabberd
from tests.support.xmpp_peer import Peer

OPEN = 4
"""Messages to a link that may be unanswered. Contacts wait past it: here servers' queues are not tested."""
EVERYTHING = {"carbons": False, "stanzas": ["message", "presence", "iq"], "coalesce": []}
"""Options of links whose events are as many as the stanzas they were sent."""


class Traffic:
    """Rounds over all links while the block runs: a contact says something to each, which the link answers, and now and
    then something that it passes on to another link. `rate`: messages a second of all contacts together.

    At the block's end all of it is checked: what was said was told once and in order for each pair, and whatever the
    server has counted as sent to a link was told to the backend. Links need the options `EVERYTHING`. One thing is
    forgiven: of what ejabberd 23.01 is just handing out when a session is resumed, now and then a message is sent late,
    behind later ones, or never. So it is with any client.
    """

    def __init__(self, here: Held, contacts: Sequence[Peer], links: Sequence[int], rate: float = 60) -> None:
        self._here, self._contacts, self._links = here, contacts, links
        self._pause_s = 1 / rate
        self._said: dict[int, list[str]] = {number: [] for number in links}
        """To each link, by its contact."""
        self._echoes: dict[int, list[str]] = {number: [] for number in links}
        """What each link owes to its contact for that."""
        self._passed: dict[tuple[int, int], list[str]] = defaultdict(list)
        """What the first link owes to the second."""
        self._answered: dict[int, int] = dict.fromkeys(links, 0)
        """How many of its echoes have come, or were overtaken."""
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

    @property
    def said(self) -> int:
        return sum(map(len, self._said.values()))

    async def flows(self, answers: int = 1) -> None:
        """Return when each link has answered so often from now on."""
        goal = {number: len(self._echoes[number]) + answers for number in self._links}
        await self._until(goal, f"each link has answered {answers} times more")

    # ------------------------------------------------------------------ talking

    async def _talk(self) -> None:
        turn = 0
        while not self._stop.is_set():
            self._count_answers()
            for number in self._links:
                if len(self._echoes[number]) - self._answered[number] < OPEN:
                    self._ask(number, turn)
                await self._pace()
                if self._stop.is_set():
                    return
            turn += 1

    async def _pace(self) -> None:
        """The load that a test chose, not a wait for anything."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), self._pause_s)

    def _ask(self, number: int, turn: int) -> None:
        if turn % 3 == 1:  # every third time to another link too
            others = len(self._links) - 1
            target = self._links[(self._links.index(number) + 1 + turn % others) % len(self._links)]
            self._pass(number, target, f"{number}>{target}-{turn}")
        self._echo(number, f"{number}-{turn}")

    def _echo(self, number: int, tag: str) -> None:
        self._echoes[number].append(tag)
        self._say(number, f"echo {tag}")

    def _pass(self, number: int, target: int, tag: str) -> None:
        self._passed[number, target].append(tag)
        self._say(number, f"pass {full_jid(target)} {tag}")

    def _say(self, number: int, body: str) -> None:
        self._said[number].append(body)
        self._contact_of(number).say(full_jid(number), body)

    def _contact_of(self, number: int) -> Peer:
        return self._contacts[number % len(self._contacts)]

    # ------------------------------------------------------------------ answers

    def _count_answers(self) -> None:
        for place, contact in enumerate(self._contacts):
            news = contact.messages[self._heard[place] :]
            self._heard[place] += len(news)
            for message in news:
                tag = str(message["body"])
                number = tag.partition("-")[0]
                if number.isdigit():
                    place_of = self._echoes[int(number)].index(tag) + 1
                    self._answered[int(number)] = max(self._answered[int(number)], place_of)

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

    # ------------------------------------------------------------------ checking

    async def _finish(self) -> None:
        """Say a last word on every way: when it has come, nothing that was said before is still on its way."""
        self._stop.clear()
        for number, target in list(self._passed):
            self._pass(number, target, f"{number}>{target}-end")
            await self._pace()
        for number in self._links:
            self._echo(number, f"{number}-end")
            await self._pace()
        await self._until({number: len(echoes) for number, echoes in self._echoes.items()}, "all last words are echoed")
        last = {tags[-1] for tags in self._passed.values()}
        bodies: set[str | None] = set()

        def all_told() -> bool:
            bodies.update(told.body for told in self._here.notes.all("message"))
            return last <= bodies

        await wait_until(all_told, "all last words were passed on", MANY_S)
        wrong = [body for number in self._links for body in self._check_link(number)]
        assert len(wrong) <= self._forgiven(), f"{len(wrong)} of {self.said} messages are lost or late: {wrong[:20]}"

    def _check_link(self, number: int) -> list[str]:
        """What was said to the link is told, once and in order; returns what is missing or late."""
        link = link_id(number)
        told = self._here.notes.bodies(link)
        assert len(set(told)) == len(told), "something came twice"
        wrong = _wrong(told, self._said[number])
        # Whatever the backend was told to do is done, in the order in which it was told.
        mine = set(self._echoes[number])
        echoes = [body.removeprefix("echo ") for body in told if body.startswith("echo ")]
        assert [body for body in self._contact_of(number).bodies if body in mine] == echoes
        order = f"pass {full_jid(number)} "
        for source, target in self._passed:
            if target == number:
                orders = self._here.notes.bodies(link_id(source))
                wrong += _wrong(told, [body.removeprefix(order) for body in orders if body.startswith(order)])
        # Whatever the server has sent is told.
        events = [len(self._here.notes.of(kind, link)) for kind in ("message", "presence", "iq")]
        assert self._here.stanzas_counted(number) == sum(events)
        return wrong

    def _forgiven(self) -> int:
        return len(self._here.notes.all("resumed")) if isinstance(self._here.server, Ejabberd) else 0


def _wrong(told: Sequence[str], said: Sequence[str]) -> list[str]:
    """What of this was not told, or behind something that was said later."""
    place = {body: number for number, body in enumerate(said)}
    late, last = [], -1
    for body in told:
        if body in place and place[body] < last:
            late.append(body)
        last = max(last, place.get(body, last))
    return [*(place.keys() - set(told)), *late]


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
