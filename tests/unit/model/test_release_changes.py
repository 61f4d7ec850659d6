"""What operators may do to a release table, in any order; what is refused changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge.errors import Conflict, FieldError, HoldfastError, NotFound
from edge.model import release_changes as changes
from edge.model.cohort import Subject
from edge.model.release import ReleaseTable, Retirement, StoredTable, choose_release

SHAS = ["base", "a", "b", "c"]
NOW = Retirement("now", 1)


def base() -> ReleaseTable:
    return ReleaseTable.of("base", "http://base")


def with_releases(*shas: str) -> ReleaseTable:
    table = base()
    for at, sha in enumerate(shas, 1):
        table = changes.add(table, sha, f"http://{sha}", at)
    return table


class Operator(RuleBasedStateMachine):
    """Does anything in any order, the way the desk does: read the table, take a step, write it whole."""

    def __init__(self) -> None:
        super().__init__()
        self.stored = StoredTable()

    @property
    def table(self) -> ReleaseTable:
        return ReleaseTable.of("base", "http://base", self.stored)

    def do(self, change: Callable[[ReleaseTable], ReleaseTable]) -> None:
        table = self.table
        try:
            changed = change(table)
        except HoldfastError:
            return
        self.stored = StoredTable(table.version + 1, changed.to_document())
        assert replace(self.table, version=0) == replace(changed, version=0)

    @rule(sha=st.sampled_from(SHAS), checks=st.integers(1, 2))
    def add(self, sha: str, checks: int) -> None:
        self.do(lambda table: changes.add(table, sha, f"http://{sha}", 5, checks=checks))

    @rule(sha=st.sampled_from(SHAS), error=st.sampled_from(["", "status 503"]))
    def check(self, sha: str, error: str) -> None:
        self.do(lambda table: changes.checked(table, sha, error))

    @rule(sha=st.sampled_from(SHAS))
    def promote(self, sha: str) -> None:
        self.do(lambda table: changes.promote(table, sha))

    @rule(weights=st.dictionaries(st.sampled_from(SHAS), st.integers(-1, 3)))
    def weights(self, weights: dict[str, int]) -> None:
        self.do(lambda table: changes.set_weights(table, weights))

    @rule()
    def roll_back(self) -> None:
        self.do(changes.roll_back)

    @rule(sha=st.sampled_from(SHAS))
    def retire(self, sha: str) -> None:
        self.do(lambda table: changes.retire(table, sha, NOW))

    @rule(sha=st.sampled_from(SHAS))
    def empty(self, sha: str) -> None:
        self.do(lambda table: changes.emptied(table, sha, 9))

    @rule(sha=st.sampled_from(SHAS), sessions=st.sampled_from([0, 0, 3, None]))
    def remove(self, sha: str, sessions: int | None) -> None:
        self.do(lambda table: changes.remove(table, sha, sessions))

    @rule(sha=st.sampled_from(SHAS), steps=st.lists(st.integers(0, 100), max_size=3))
    def canary(self, sha: str, steps: list[int]) -> None:
        self.do(lambda table: changes.start_canary(table, sha, 5, steps=sorted(steps), every_ms=1_000))

    @rule()
    def next_step(self) -> None:
        self.do(lambda table: changes.next_step(table, 6))

    @rule(breach=st.booleans())
    def end_canary(self, breach: bool) -> None:
        self.do(lambda table: changes.end_canary(table, "because", 6, breach=breach))

    @invariant()
    def somebody_serves(self) -> None:
        table = self.table
        assert table.weights
        assert sum(table.share(sha) for sha in table.entries) == pytest.approx(100)
        for policy in ("follow", "pin"):
            for pinned in (None, *SHAS):
                for held in (None, *SHAS):
                    sha = choose_release(policy, pinned, table, Subject("s"), held, 100)
                    assert table.entries[sha].state == "active"
                    assert table.entries[sha].url

    @invariant()
    def only_active_releases_have_a_weight(self) -> None:
        for entry in self.table.entries.values():
            assert entry.state == "active" or not entry.weight
            assert (entry.retirement is not None) == (entry.state in ("draining", "empty"))


TestOperator = Operator.TestCase
TestOperator.settings = settings(max_examples=60, stateful_step_count=30)


def test_promote_and_roll_back_are_one_step_each() -> None:
    table = with_releases("a", "b")
    promoted = changes.promote(changes.set_weights(table, {"base": 80, "a": 20}), "b")
    assert promoted.weights == {"b": 100}
    back = changes.roll_back(promoted)
    assert back.weights == {"base": 80, "a": 20}
    assert changes.roll_back(back).weights == {"b": 100}


def test_a_rollback_wakes_a_release_that_is_being_emptied_but_not_one_that_is_empty() -> None:
    retired = changes.retire(changes.promote(with_releases("a"), "a"), "base", NOW)
    assert changes.roll_back(retired).entries["base"].state == "active"
    with pytest.raises(Conflict, match="add it again"):
        changes.roll_back(changes.emptied(retired, "base", 5))


def test_nothing_to_roll_back_to_is_said() -> None:
    with pytest.raises(Conflict, match="nothing to go back to"):
        changes.roll_back(with_releases("a"))


def test_the_last_active_release_cannot_be_retired() -> None:
    for table in (base(), changes.promote(with_releases("a"), "a")):
        with pytest.raises(Conflict, match="last active release; promote another one first"):
            changes.retire(table, table.current.sha, NOW)


def test_weights_of_nothing_are_refused() -> None:
    for weights in ({}, {"base": 0}, {"base": 0, "a": 0}):
        with pytest.raises(FieldError, match="sum of all weights is 0"):
            changes.set_weights(with_releases("a"), weights)
    with pytest.raises(NotFound):
        changes.set_weights(base(), {"nope": 0, "base": 1})
    with pytest.raises(FieldError):
        changes.set_weights(base(), {"base": -1})


def test_a_release_receives_nothing_before_its_health_checks_have_passed() -> None:
    table = changes.add(base(), "a", "http://a", 1, checks=3)
    for change in (changes.promote, lambda t, s: changes.set_weights(t, {s: 1})):
        with pytest.raises(Conflict, match="warming, 1 of 3 health checks have passed"):
            change(table, "a")
    table = changes.checked(changes.checked(table, "a", ""), "a", "status 503 at /healthz")
    assert (table.entries["a"].checks_passed, table.entries["a"].state) == (0, "warming")
    with pytest.raises(Conflict, match="status 503 at /healthz"):
        changes.promote(table, "a")
    for _ in range(3):
        table = changes.checked(table, "a", "")
    assert changes.promote(table, "a").weights == {"a": 100}


def test_a_release_that_stays_ill_in_the_same_way_changes_no_table() -> None:
    table = changes.checked(changes.add(base(), "a", "http://a", 1, checks=2), "a", "status 503")
    assert changes.checked(table, "a", "status 503") is table
    assert changes.checked(table, "a", "status 500") is not table


def test_a_release_whose_url_changes_keeps_what_it_has() -> None:
    table = changes.set_cohorts(changes.promote(with_releases("a"), "a"), "a", ["user:ann"])
    moved = changes.add(table, "a", "http://elsewhere", 99).entries["a"]
    assert (moved.url, moved.weight, moved.state, moved.added_at) == ("http://elsewhere", 100, "active", 1)
    assert [rule.key for rule in moved.cohorts] == ["user:ann"]


def test_a_retired_release_begins_again_when_it_is_added_again() -> None:
    table = changes.retire(changes.promote(with_releases("a", "b"), "b"), "a", NOW)
    again = changes.add(table, "a", "http://a", 9).entries["a"]
    assert (again.state, again.retirement, again.weight, again.added_at) == ("active", None, 0, 9)


def test_a_release_with_sessions_is_not_removed() -> None:
    table = changes.promote(with_releases("a", "b"), "b")
    with pytest.raises(Conflict, match="still has 3 sessions"):
        changes.remove(table, "a", 3)
    with pytest.raises(Conflict, match="not every edge"):
        changes.remove(table, "a", None)
    with pytest.raises(Conflict, match="gets sessions"):
        changes.remove(table, "b", 0)
    with pytest.raises(Conflict, match="from the configuration"):
        changes.remove(table, "base", 0)
    assert "a" not in changes.remove(table, "a", 0).entries


def test_a_canary_has_its_percentage_exactly_and_the_others_share_the_rest_as_before() -> None:
    table = changes.set_weights(with_releases("a", "b"), {"base": 2, "a": 1})
    table = changes.start_canary(table, "b", 5, steps=[1, 25, 100], every_ms=1_000)
    assert table.share("b") == 1
    assert table.share("base") == pytest.approx(2 * table.share("a"))
    table = changes.next_step(table, 6)
    assert (table.share("b"), table.share("a")) == (25, 25)
    table = changes.next_step(table, 7)
    assert table.weights == {"b": 100}
    done = changes.next_step(table, 8)
    assert done.canary is not None
    assert (done.canary.outcome, done.weights) == ("done", {"b": 100})
    assert changes.roll_back(done).weights == {"base": 2, "a": 1}


def test_a_canary_that_ends_gives_back_what_it_took() -> None:
    table = changes.start_canary(with_releases("a"), "a", 5, steps=[10, 50], every_ms=1_000)
    back = changes.end_canary(changes.next_step(table, 6), "errors 5 %", 7, breach=True)
    assert back.weights == {"base": 100}
    assert back.canary is not None
    assert (back.canary.outcome, back.canary.reason) == ("rolled-back", "errors 5 %")
    with pytest.raises(Conflict, match="no canary is running"):
        changes.end_canary(back, "again", 8, breach=False)


def test_while_a_canary_runs_nobody_else_changes_weights_but_a_promotion_ends_it() -> None:
    table = changes.start_canary(with_releases("a", "b"), "a", 5, steps=[10], every_ms=1_000)
    attempts: list[Callable[[], object]] = [
        lambda: changes.set_weights(table, {"b": 1}),
        lambda: changes.retire(table, "a", NOW),
        lambda: changes.start_canary(table, "b", 6, steps=[5], every_ms=1_000),
    ]
    for attempt in attempts:
        with pytest.raises(Conflict, match="a canary is running with release 'a'"):
            attempt()
    promoted = changes.promote(table, "b")
    assert promoted.weights == {"b": 100}
    assert promoted.canary is not None
    assert promoted.canary.outcome == "stopped"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"steps": []}, "steps"),
        ({"steps": [5, 5]}, "steps"),
        ({"steps": [50, 5]}, "steps"),
        ({"steps": [101]}, "steps"),
        ({"every_ms": 10}, "every_ms"),
        ({"max_error_rate": 1.5}, "max_error_rate"),
        ({"max_p99_ms": 0}, "max_p99_ms"),
        ({"min_events": 0}, "min_events"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, object], field: str) -> None:
    plan: dict[str, object] = {"steps": [5], "every_ms": 1_000} | wrong
    with pytest.raises(FieldError) as refused:
        changes.start_canary(with_releases("a"), "a", 5, **plan)  # type: ignore[arg-type]
    assert refused.value.field == field


def test_a_shadow_needs_an_active_release_and_goes_with_it() -> None:
    table = changes.set_shadow(with_releases("a"), "a", 5)
    assert table.shadow is not None
    assert changes.remove(table, "a", 0).shadow is None
    assert changes.retire(table, "a", NOW).shadow is None
    assert changes.end_shadow(table).shadow is None
    with pytest.raises(FieldError):
        changes.set_shadow(table, "a", 0)


@pytest.mark.parametrize("sha", ["", "-a", ".", "..", "a/b", "a b", "a@b", "a:b", "ä", "x" * 65, "a\n"])
def test_a_name_that_could_change_a_url_is_refused(sha: str) -> None:
    with pytest.raises(FieldError):
        changes.add(base(), sha, "http://x", 0)
