"""A link's life: every cell of the table, and where it ends."""

from __future__ import annotations

from itertools import product

import pytest

from edge.model.link_phases import TRANSITIONS, LinkFact, LinkPhase
from edge.sessions.links.link import _phase_of

P, F = LinkPhase, LinkFact
TABLE = {
    P.CONNECTING: {
        F.CAME_ALIVE: P.LIVE, F.CUT: P.CONNECTING, F.PUT_TO_SLEEP: P.SUSPENDED, F.WANTED: P.CONNECTING,
        F.ENDED: P.ENDING, F.LEFT: P.GONE,
    },
    P.LIVE: {F.CUT: P.CONNECTING, F.PUT_TO_SLEEP: P.SUSPENDED, F.WANTED: P.LIVE, F.ENDED: P.ENDING, F.LEFT: P.GONE},
    P.SUSPENDED: {F.PUT_TO_SLEEP: P.SUSPENDED, F.WANTED: P.CONNECTING, F.ENDED: P.ENDING, F.LEFT: P.GONE},
    P.ENDING: {
        F.CUT: P.ENDING, F.ENDED: P.ENDING, F.PUT_TO_SLEEP: P.ENDING, F.TOLD: P.GONE, F.WANTED: P.CONNECTING,
        F.LEFT: P.GONE,
    },
    P.GONE: {F.LEFT: P.GONE},
}  # fmt: skip


@pytest.mark.parametrize(("phase", "fact"), list(product(P, F)))
def test_every_cell_of_the_table_leads_where_it_should_or_raises(phase: LinkPhase, fact: LinkFact) -> None:
    wanted = TABLE[phase].get(fact)
    if wanted is None:
        with pytest.raises(KeyError):
            TRANSITIONS[phase, fact]
    else:
        assert TRANSITIONS[phase, fact] is wanted


def test_gone_is_reachable_from_everywhere_and_never_left() -> None:
    for phase in P:
        seen, frontier = {phase}, [phase]
        while frontier:
            here = frontier.pop()
            following = {target for (source, _), target in TRANSITIONS.items() if source is here}
            frontier += following - seen
            seen |= following
        assert P.GONE in seen
    assert {target for (source, _), target in TRANSITIONS.items() if source is P.GONE} == {P.GONE}


def test_only_a_stream_that_came_alive_makes_a_link_live() -> None:
    assert {key for key, target in TRANSITIONS.items() if target is P.LIVE} == {
        (P.CONNECTING, F.CAME_ALIVE), (P.LIVE, F.WANTED),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("stored", "phase"),
    [
        ("connecting", P.CONNECTING), ("live", P.CONNECTING), ("catching-up", P.CONNECTING), ("", P.CONNECTING),
        ("gone", P.CONNECTING), ("of a newer edge", P.CONNECTING), ("suspended", P.SUSPENDED), ("ending", P.ENDING),
    ],
)  # fmt: skip
def test_what_was_live_has_to_be_reached_again_after_a_takeover(stored: str, phase: LinkPhase) -> None:
    assert _phase_of(stored) is phase
