"""The ring of rare facts."""

from __future__ import annotations

from edge.sessions.journal import DETAIL_CHARS, Journal


def test_a_life_is_told_in_order_and_holds_nothing_of_others() -> None:
    journal = Journal()
    journal.note(1, "a", "handshake", "accepted")
    journal.note(2, "b", "handshake", "accepted")
    journal.note(3, "a", "close", "client: code 1000, clean")
    assert [(fact.at, fact.what) for fact in journal.life("a")] == [(1, "handshake"), (3, "close")]
    assert journal.life("c") == []


def test_the_oldest_facts_make_room() -> None:
    journal = Journal(3)
    for number in range(10):
        journal.note(number, "a", "retry", "x" * 10 * DETAIL_CHARS)
    assert [fact.at for fact in journal.life("a")] == [7, 8, 9]
    assert all(len(fact.detail) == DETAIL_CHARS for fact in journal.life("a"))


def test_a_journal_can_be_made_smaller_and_turned_off_while_it_runs() -> None:
    journal = Journal(3)
    for number in range(3):
        journal.note(number, "a", "retry", "")
    journal.resize(2)
    assert [fact.at for fact in journal.life("a")] == [1, 2]
    journal.resize(0)
    journal.note(9, "a", "retry", "")
    assert len(journal) == 0
