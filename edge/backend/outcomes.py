"""Hands outcomes to mailboxes, in order, and counts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge.backend.base import Expired, Refused
from edge.backend.context import Context
from edge.backend.letters import Letter
from edge.model.retry import EXPIRED_RETRY_AFTER_S
from edge.protocol.callbacks.actions import BadResult, Result
from edge.telemetry.metrics import RouteMeters


class Outcomes:
    """Settles letters for one pool."""

    __slots__ = ("_context", "_meters")

    def __init__(self, context: Context, meters: RouteMeters) -> None:
        self._context = context
        self._meters = meters

    def results(
        self, letters: Sequence[Letter], results: Mapping[str, Result | BadResult]
    ) -> tuple[list[Letter], BadResult | None]:
        """Hand results to the letters' mailboxes. The letters that have events without an outcome, and the first bad
        result if there is one."""
        wall = self._context.clock.wall_ms()
        settle = self._context.settle
        observe = self._meters.event_seconds.observe
        watching = self._context.shadows.watching
        unfinished = []
        delivered = bad = 0
        first_bad = None
        for letter in letters:
            settled = letter.answered(results)
            for event, outcome in settled:
                if type(outcome) is Result:
                    delivered += 1
                    observe((wall - event.at) / 1000)
                elif type(outcome) is BadResult:
                    bad += 1
                    first_bad = first_bad or outcome
            if not letter.done:
                unfinished.append(letter)
            if settled:
                if watching:
                    self._context.shadows.answered(letter.mailbox.route, letter.parcel, settled)
                settle(letter.mailbox, settled)
        self._meters.events_delivered.value += delivered
        self._meters.bad_results.value += bad
        return unfinished, first_bad

    def refused(self, letter: Letter, outcome: Refused) -> None:
        """The events of the letter's request were judged; others of the letter may be left."""
        settled = letter.ended(outcome)
        self._meters.events_refused.value += len(letter.parcel.events)
        if settled:
            self._context.settle(letter.mailbox, settled)

    def expired(self, letter: Letter, phrase: str, after_ms: int | None = None) -> None:
        """The letter's window is over: all its events end."""
        after_s = EXPIRED_RETRY_AFTER_S if after_ms is None else max(1, -(-after_ms // 1000))
        outcome = Expired(phrase, after_s)
        settled = letter.given_up(outcome)
        self._meters.events_expired.value += sum([found is outcome for _, found in settled])
        self._context.settle(letter.mailbox, settled)
