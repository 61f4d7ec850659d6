"""Releases: one is current whatever happens, pins hold while they can, and URLs stay where they are allowed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge.errors import Conflict, FieldError, HoldfastError, NotFound
from edge.model.release import (
    ReleaseEntry,
    ReleaseTable,
    add,
    choose_release,
    delete,
    promote,
    retire,
    url_allowed,
)

SHAS = ["base", "a", "b", "c"]


class Operator(RuleBasedStateMachine):
    """Does anything in any order, the way the desk does: read the table, ask the rules, write one entry."""

    def __init__(self) -> None:
        super().__init__()
        self.stored: dict[str, dict[str, object]] = {}
        self.model_current = "base"
        self.retired: set[str] = set()
        self.known = {"base"}

    @property
    def table(self) -> ReleaseTable:
        return ReleaseTable.of("base", "http://base", self.stored)

    def write(self, entry: ReleaseEntry) -> None:
        self.stored[entry.sha] = entry.to_stored()

    @rule(sha=st.sampled_from(SHAS))
    def add(self, sha: str) -> None:
        if sha == "base":
            with pytest.raises(Conflict):
                add(self.table, sha, "http://x", 5)
            return
        self.write(add(self.table, sha, f"http://{sha}", 5))
        self.known.add(sha)
        self.retired.discard(sha)

    @rule(sha=st.sampled_from(SHAS))
    def promote(self, sha: str) -> None:
        try:
            self.write(promote(self.table, sha))
        except NotFound:
            assert sha not in self.known
        except Conflict:
            assert sha in self.retired
            assert sha != "base"
        else:
            self.model_current = sha
            self.retired.discard(sha)

    @rule(sha=st.sampled_from(SHAS))
    def retire(self, sha: str) -> None:
        try:
            self.write(retire(self.table, sha))
        except NotFound:
            assert sha not in self.known
        except Conflict:
            assert sha == self.model_current
        else:
            self.retired.add(sha)

    @rule(sha=st.sampled_from(SHAS))
    def delete(self, sha: str) -> None:
        try:
            delete(self.table, sha)
        except NotFound:
            assert sha not in self.known
        except Conflict:
            assert sha in (self.model_current, "base")
        else:
            self.stored.pop(sha)
            self.known.discard(sha)
            self.retired.discard(sha)

    @invariant()
    def exactly_one_is_current(self) -> None:
        table = self.table
        states = {sha: table.state(sha) for sha in table.entries}
        assert [sha for sha, state in states.items() if state == "current"] == [self.model_current]
        assert {sha for sha, state in states.items() if state == "retired"} == self.retired
        assert set(states) == self.known

    @invariant()
    def every_choice_can_be_reached(self) -> None:
        for policy in ("follow", "pin"):
            for pinned in (None, *SHAS):
                for held in (None, *SHAS):
                    sha = choose_release(policy, pinned, self.table, held)
                    assert self.table.reachable(sha)
                    assert self.table.entries[sha].url


TestOperator = Operator.TestCase
TestOperator.settings = settings(max_examples=40, stateful_step_count=25)


def _table(current: str = "base", retired: tuple[str, ...] = ()) -> ReleaseTable:
    entries = {sha: ReleaseEntry(sha, f"http://{sha}", retired=sha in retired) for sha in SHAS}
    entries[current] = replace(entries[current], promotion=1)
    return ReleaseTable("base", entries)


@pytest.mark.parametrize(
    ("policy", "pinned", "held", "chosen"),
    [
        ("follow", None, None, "b"),
        ("follow", None, "a", "b"),
        ("follow", "a", "b", "a"),
        ("follow", "gone", "a", "b"),
        ("follow", "c", None, "b"),
        ("pin", None, None, "b"),
        ("pin", None, "a", "a"),
        ("pin", None, "gone", "b"),
        ("pin", None, "c", "b"),
        ("pin", "base", "a", "base"),
        ("pin", "c", "a", "a"),
    ],
)
def test_a_pin_comes_first_then_what_is_held_then_what_is_current(
    policy: str, pinned: str | None, held: str | None, chosen: str
) -> None:
    assert choose_release(policy, pinned, _table("b", retired=("c",)), held) == chosen  # type: ignore[arg-type]


def test_the_configured_release_has_its_url_from_the_configuration_only() -> None:
    stored = {"base": ReleaseEntry("base", "http://old", promotion=3).to_stored()}
    table = ReleaseTable.of("base", "http://new", stored)
    assert table.current == ReleaseEntry("base", "http://new", promotion=3)


def test_a_release_that_left_the_configuration_cannot_be_reached_under_an_empty_url() -> None:
    table = ReleaseTable.of("new", "http://new", {"base": {"url": "", "promotion": 9}})
    assert table.current.sha == "new"
    assert not table.reachable("base")


def test_two_promotions_at_once_leave_one_current() -> None:
    table = _table()
    both = dict(table.entries) | {sha: promote(table, sha) for sha in ("a", "b")}
    raced = ReleaseTable("base", both)
    assert [sha for sha in both if raced.state(sha) == "current"] == ["b"]


@given(st.builds(ReleaseEntry, st.just("x"), st.text(), st.integers(0), st.booleans(), st.integers(0)))
def test_an_entry_comes_back_from_the_store_as_it_was(entry: ReleaseEntry) -> None:
    assert ReleaseEntry.from_stored("x", entry.to_stored() | {"from a newer version": 1}) == entry


@pytest.mark.parametrize("sha", ["", "-a", ".", "..", "a/b", "a b", "a@b", "a:b", "ä", "x" * 65, "a\n"])
def test_a_name_that_could_change_a_url_is_refused(sha: str) -> None:
    with pytest.raises(FieldError):
        add(_table(), sha, "http://x", 0)


def test_every_refusal_is_one_of_ours() -> None:
    for rule_of in (promote, retire, delete):
        with pytest.raises(NotFound) as refused:
            rule_of(_table(), "nope")
        assert isinstance(refused.value, HoldfastError)


@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("http://chat-{sha}.svc:8000", "http://chat-abc.svc:8000"),
        ("http://chat-{sha}.svc:8000", "http://chat-abc.svc:8000/"),
        ("http://CHAT-{sha}.svc", "http://chat-abc.svc:80"),
        ("https://svc/{sha}/hook", "https://svc:443/abc/hook"),
        ("http://10.0.0.1:8000", "http://10.0.0.1:8000/any/path"),
        ("http://svc/apps", "http://svc/apps/abc"),
        ("http://svc/apps/", "http://svc/apps"),
        ("http://[fd00::1]:80/", "http://[fd00::1]/x"),
    ],
)
def test_a_url_under_a_pattern_is_allowed(pattern: str, url: str) -> None:
    assert url_allowed(["http://other", pattern], "abc", url)


@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("http://chat-{sha}.svc:8000", "http://chat-def.svc:8000"),
        ("http://chat-{sha}.svc:8000", "http://chat-abc.svc:8000/x"),
        ("http://chat-{sha}.svc:8000", "http://chat-abc.svc:8001"),
        ("http://chat-{sha}.svc:8000", "https://chat-abc.svc:8000"),
        ("http://10.0.0.1", "http://10.0.0.1.evil.example"),
        ("http://10.0.0.1", "http://10.0.0.1@evil.example"),
        ("http://10.0.0.1", "http://10.0.0.1:80@evil.example"),
        ("http://10.0.0.1", "http://evil.example/http://10.0.0.1"),
        ("http://10.0.0.1", "http://10.0.0.1\\@evil.example"),
        ("http://10.0.0.1", "http://10.0.0.1:8000"),
        ("http://svc/apps", "http://svc/apps2"),
        ("http://svc/apps", "http://svc/apps/../admin"),
        ("http://svc/apps", "http://svc/apps/%2e%2e/admin"),
        ("http://svc/apps", "http://svc/apps?x=1"),
        ("http://svc/apps", "http://svc/apps#x"),
        ("http://svc", "http://svc:99999"),
        ("http://svc", "http://svc:0"),
        ("http://svc", "//svc"),
        ("http://svc", "svc"),
        ("http://svc", "file://svc/etc/passwd"),
        ("http://svc", "http://svc/\r\nHost: evil"),
        ("http://svc", "http://[svc"),
        ("http://svc", "http://svｃ"),
    ],
)
def test_a_url_beside_a_pattern_is_not(pattern: str, url: str) -> None:
    assert not url_allowed([pattern], "abc", url)
    assert not url_allowed([], "abc", url)
