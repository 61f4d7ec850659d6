"""Questions to every live edge at once: which sessions they hold, and what they remember of one.

An answer is the rows of all that answered within `ANSWER_MS`, ours among them, and whether that was everybody. With
Redis away nobody else can be asked: then it is our rows, and not everybody's.
"""

from __future__ import annotations

from asyncio import Future, get_running_loop
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from edge.errors import StoreError
from edge.protocol.mail import Rows, RowsAsked, encode_letter
from edge.sessions.services import Services
from edge.store.base import SessionRow, StoredTimer

ANSWER_MS = 1_000
"""How long edges may take. People wait for it."""

Row = Mapping[str, Any]


@dataclass(slots=True, eq=False)
class _Open:
    """A question that waits for answers."""

    missing: set[str]
    done: Future[None]
    rows: list[Row] = field(default_factory=list)

    def close(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """None: any."""

    app: str | None = None
    release: str | None = None
    user: str | None = None
    limit: int = 100

    def passes(self, row: SessionRow) -> bool:
        return self.app in (None, row.app) and self.release in (None, row.release) and self.user in (None, row.user)


class Inquiries:
    """See the module's docstring."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._numbers = count(1)
        self._open: dict[int, _Open] = {}

    async def sessions(self, wanted: SessionFilter) -> tuple[Sequence[SessionRow], bool]:
        """Sessions that pass, oldest first, and whether every edge answered."""
        about = {"app": wanted.app, "release": wanted.release, "user": wanted.user, "limit": wanted.limit}
        rows, complete = await self._ask("sessions", about)
        found = {row.id: row for row in map(_session, rows)}
        return sorted(found.values(), key=lambda row: (row.opened_at, row.id))[: wanted.limit], complete

    async def life(self, session: str) -> tuple[Sequence[Row], bool]:
        """Facts (`at`, `edge`, `what`, `detail`), oldest first, and whether every edge answered."""
        rows, complete = await self._ask("life", {"session": session})
        return sorted(rows, key=lambda row: int(row["at"])), complete

    def asked(self, sender: str, letter: RowsAsked) -> None:
        body = encode_letter(Rows(letter.number, self._here(letter.topic, letter.about)))
        self._mail(sender, body)

    def told(self, sender: str, letter: Rows) -> None:
        question = self._open.get(letter.number)
        if question is None or sender not in question.missing:
            return
        question.rows += letter.rows
        question.missing.discard(sender)
        if not question.missing:
            question.close()

    async def _ask(self, topic: str, about: Row) -> tuple[list[Row], bool]:
        services = self._services
        mine = self._here(topic, about)
        try:
            others = set(await services.store.edges()) - {services.edge_id}
        except StoreError:
            return mine, False
        if not others:
            return mine, True
        number = next(self._numbers)
        question = self._open[number] = _Open(others, get_running_loop().create_future(), mine)
        alarm = services.wheel.after(ANSWER_MS, question.close)
        try:
            letter = encode_letter(RowsAsked(number, topic, about))
            for edge in tuple(others):
                self._mail(edge, letter)
            await question.done
        finally:
            alarm.cancel()
            del self._open[number]
        return question.rows, not question.missing

    def _mail(self, edge: str, body: bytes) -> None:
        # What cannot be sent is an edge that stays silent.
        self._services.store.send(edge, body).add_done_callback(lambda sent: sent.cancelled() or sent.exception())

    # What this process knows.

    def _here(self, topic: str, about: Row) -> list[Row]:
        """Our rows; a topic of a newer edge has none."""
        if topic == "sessions":
            return self._sessions_here(SessionFilter(**about))
        if topic == "life":
            edge = self._services.edge_id
            facts = self._services.journal.life(about["session"])
            return [{"at": fact.at, "edge": edge, "what": fact.what, "detail": fact.detail} for fact in facts]
        return []

    def _sessions_here(self, wanted: SessionFilter) -> list[Row]:
        found: list[Row] = []
        for session in self._services.registry:
            if len(found) >= wanted.limit:
                break
            row = session.row()
            if wanted.passes(row):
                found.append(_form(row))
        return found


def _form(row: SessionRow) -> Row:
    timers = [[timer.name, timer.due_ms, timer.data] for timer in row.timers]
    plain = {name: getattr(row, name) for name in _PLAIN}
    return {**plain, "state": dict(row.state), "channels": list(row.channels), "timers": timers}


def _session(form: Row) -> SessionRow:
    plain = {name: form[name] for name in (*_PLAIN, "state", "channels")}
    return SessionRow(**plain, timers=[StoredTimer(*timer) for timer in form["timers"]])


_PLAIN = (
    "id", "app", "route", "release", "owner", "fence", "transport", "client", "opened_at", "user", "pinned", "version",
)  # fmt: skip
