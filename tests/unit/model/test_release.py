"""Which release a session goes to: pins, cohorts, weights, and how sessions leave one that is being emptied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import NotFound
from edge.model.cohort import Subject, parse_rules
from edge.model.release import (
    Canary,
    ReleaseEntry,
    ReleaseState,
    ReleaseTable,
    Retirement,
    Shadow,
    StoredTable,
    choose_release,
)

SESSIONS = [f"session-{number}" for number in range(5_000)]


def table(
    weights: Mapping[str, int],
    states: Mapping[str, ReleaseState] | None = None,
    rules: Mapping[str, list[str]] | None = None,
    retirement: Retirement | None = None,
) -> ReleaseTable:
    """Releases in the order they were added in; the first is the configured one."""
    entries = {}
    for at, (sha, weight) in enumerate(weights.items()):
        state = (states or {}).get(sha, "active")
        entries[sha] = ReleaseEntry(
            sha, f"http://{sha}", weight, state, parse_rules((rules or {}).get(sha, [])), at,
            retirement=retirement if state == "draining" else None,
        )  # fmt: skip
    return ReleaseTable(next(iter(weights)), entries)


def shares(of: ReleaseTable) -> Counter[str]:
    return Counter(choose_release("follow", None, of, Subject(session)) for session in SESSIONS)


@pytest.mark.parametrize(
    ("policy", "pinned", "held", "chosen"),
    [
        ("follow", None, None, "b"),
        ("follow", None, "a", "b"),
        ("follow", "a", "b", "a"),
        ("follow", "gone", "a", "b"),
        ("follow", "empty", None, "b"),
        ("follow", "warming", None, "b"),
        ("follow", "draining", None, "b"),
        ("pin", None, None, "b"),
        ("pin", None, "a", "a"),
        ("pin", None, "gone", "b"),
        ("pin", None, "empty", "b"),
        ("pin", None, "draining", "b"),
        ("pin", "base", "a", "base"),
        ("pin", "empty", "a", "a"),
    ],
)
def test_a_pin_comes_first_then_what_is_held_then_the_weights(
    policy: str, pinned: str | None, held: str | None, chosen: str
) -> None:
    of = table(
        {"base": 0, "a": 0, "b": 100, "empty": 0, "warming": 0, "draining": 0},
        {"empty": "empty", "warming": "warming", "draining": "draining"},
        retirement=Retirement("now", 0),
    )
    assert choose_release(policy, pinned, of, Subject("s"), held) == chosen  # type: ignore[arg-type]


def test_weights_are_shares_of_the_sessions() -> None:
    found = shares(table({"base": 70, "a": 25, "b": 5, "c": 0}))
    assert {sha: round(count / 50) for sha, count in found.items()} == pytest.approx(
        {"base": 70, "a": 25, "b": 5}, abs=2
    )


@given(st.integers(0, 50), st.integers(51, 300))
def test_a_release_that_gains_weight_moves_sessions_to_itself_only(before: int, after: int) -> None:
    old, new = table({"base": 60, "a": 40, "b": before}), table({"base": 60, "a": 40, "b": after})
    for session in SESSIONS[:200]:
        one, other = (choose_release("follow", None, of, Subject(session)) for of in (old, new))
        assert one == other or other == "b"


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(0, 100), min_size=1), st.text())
def test_whatever_the_weights_are_the_choice_can_be_reached_and_is_always_the_same(
    weights: dict[str, int], session: str
) -> None:
    of = table({"base": 0} | weights)
    chosen = choose_release("follow", None, of, Subject(session))
    assert of.reachable(chosen, session, None, 0)
    assert not any(weights.values()) or weights[chosen] > 0
    assert chosen == choose_release("follow", None, of, Subject(session), chosen)


def test_without_any_weight_the_configured_release_serves() -> None:
    of = ReleaseTable.of("base", "http://base")
    assert (of.current.sha, of.share("base"), of.weights) == ("base", 100.0, {"base": 100})
    assert ReleaseTable("base", {"base": ReleaseEntry("base", "http://base")}).current.sha == "base"


def test_a_cohort_comes_before_the_weights_and_the_newest_release_first() -> None:
    of = table({"base": 100, "a": 0, "b": 0}, rules={"a": ["user:ann", "header:x-beta"], "b": ["user:ann"]})
    assert choose_release("follow", None, of, Subject("s", "ann")) == "b"
    assert choose_release("follow", None, of, Subject("s", None, frozenset({"header:x-beta"}))) == "a"
    assert choose_release("follow", None, of, Subject("s", "bob")) == "base"
    gone = table({"base": 100, "a": 0}, {"a": "draining"}, {"a": ["user:ann"]}, Retirement("now", 0))
    assert choose_release("follow", None, gone, Subject("s", "ann")) == "base"


def test_a_percentage_is_a_share_that_does_not_follow_another_release_s() -> None:
    of = table({"base": 100, "a": 0}, rules={"a": ["percent:10"]})
    assert shares(of)["a"] / 50 == pytest.approx(10, abs=2)
    both = table({"base": 100, "a": 0, "b": 0}, rules={"a": ["percent:50"], "b": ["percent:50"]})
    assert shares(both)["base"] / 50 == pytest.approx(25, abs=3)


# Retirement.


def left_after(retirement: Retirement, now: int) -> int:
    of = table({"base": 100, "old": 0}, {"old": "draining"}, retirement=retirement)
    chosen = [choose_release("pin", None, of, Subject(session), "old", now) for session in SESSIONS]
    return chosen.count("old")


def test_sessions_leave_evenly_over_the_time_asked_for() -> None:
    over = Retirement("over", 1_000, 60_000)
    assert left_after(over, 1_000) == pytest.approx(5_000, abs=5)
    assert left_after(over, 31_000) == pytest.approx(2_500, abs=150)
    assert left_after(over, 61_000) == 0
    assert over.until == 61_000


def test_sessions_stay_at_most_as_long_as_asked_for() -> None:
    assert left_after(Retirement("at-most", 1_000, 60_000), 60_999) == 5_000
    assert left_after(Retirement("at-most", 1_000, 60_000), 61_000) == 0
    bounded = Retirement("when-idle", 1_000, 60_000, at_most_ms=5_000)
    assert (left_after(bounded, 5_999), left_after(bounded, 6_000)) == (5_000, 0)
    assert (bounded.until, Retirement("when-idle", 1_000, 60_000).until) == (6_000, None)


def test_a_session_whose_turn_it_is_leaves_also_when_it_is_pinned() -> None:
    of = table({"base": 100, "old": 0}, {"old": "draining"}, retirement=Retirement("when-idle", 0, 10))
    assert choose_release("pin", "old", of, Subject("s"), "old", 99) == "old"
    assert choose_release("pin", "old", of, Subject("s"), "old", 99, stay=False) == "base"
    assert choose_release("follow", None, of, Subject("s"), "old", 99) == "old"
    assert choose_release("follow", "old", of, Subject("s"), "base", 99) == "base"


def test_sessions_leave_in_another_order_when_a_release_is_retired_again() -> None:
    first, second = Retirement("over", 0, 1_000, number=1), Retirement("over", 0, 1_000, number=2)
    early = [{s for s in SESSIONS if not way.stays(s, 100)} for way in (first, second)]
    assert len(early[0] & early[1]) < len(early[0]) / 2


# The document.

ENTRIES = st.builds(
    ReleaseEntry,
    st.just("x"),
    st.text(min_size=1),
    st.integers(0, 100),
    st.sampled_from(["warming", "active", "draining", "empty"]),
    st.just(parse_rules(["user:a,b", "header:X-Beta=1", "percent:2.5"])),
    st.integers(0),
    retirement=st.none() | st.builds(Retirement, st.sampled_from(["now", "over"]), st.integers(0), notice=st.text()),
    check_error=st.text(),
)


@given(ENTRIES)
def test_an_entry_comes_back_from_the_store_as_it_was(entry: ReleaseEntry) -> None:
    assert ReleaseEntry.from_stored("x", entry.to_stored() | {"from a newer version": 1}) == entry


def test_a_table_comes_back_from_the_store_as_it_was() -> None:
    canary = Canary("a", (1, 50), 1_000, None, 500, 20, 1, 7, {"base": 100}, "rolled-back", "too slow")
    whole = replace(
        table({"base": 1, "a": 99}),
        version=3,
        previous={"base": 100},
        canary=canary,
        shadow=Shadow("a", 2.5),
        notice="n",
    )
    assert ReleaseTable.of("base", "http://base", StoredTable(3, whole.to_document())) == whole


def test_the_configured_release_has_its_url_from_the_configuration_only() -> None:
    stored = StoredTable(1, table({"base": 3, "a": 1}).to_document())
    assert ReleaseTable.of("base", "http://new", stored).current == ReleaseEntry("base", "http://new", 3)


def test_a_release_that_left_the_configuration_gives_way_to_the_new_one() -> None:
    stored = StoredTable(1, table({"base": 100, "a": 0}).to_document())
    of = ReleaseTable.of("new", "http://new", stored)
    assert (of.current.sha, sorted(of.entries)) == ("new", ["a", "new"])


def test_who_asks_for_an_unknown_release_is_told_which_there_are() -> None:
    with pytest.raises(NotFound, match="there are a, base"):
        table({"base": 1, "a": 0}).entry("nope")
