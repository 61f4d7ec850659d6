"""Fetching what was missed, from an archive that pages like a real one and from some that do not."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.protocol.xmpp import escape, names
from edge.protocol.xmpp.archive import Archived, Catchup, CatchupEnd, newer
from edge.protocol.xmpp.element import Element
from edge.protocol.xmpp.stanza import Delay
from tests.unit.protocol.xmpp.elements import ACCOUNT, JID, element

START = "2026-01-01T00:00:00Z"


@dataclass
class Archive:
    """An account's archive, as far as a catch-up sees it. `first`: ids below are forgotten."""

    size: int
    page: int = 3
    first: int = 1
    counts_last: bool = True
    asked: list[Element] = field(default_factory=list)

    def answer(self, query: bytes) -> tuple[list[Element], Element]:
        """The messages, and the iq behind them."""
        iq = element(query.decode())
        self.asked.append(iq)
        inside = iq.child("query", names.ARCHIVE)
        assert inside is not None
        rsm = inside.child("set", names.RESULT_SETS)
        assert rsm is not None
        after = rsm.child("after")
        begin = self.first
        if after is not None:
            begin = int(after.text().removeprefix("id-")) + 1
            if begin <= self.first:
                return [], refusal(iq, "item-not-found")
        queryid = inside.attributes["queryid"]
        ids = range(begin, min(begin + self.page, self.size + 1))
        complete = " complete='true'" if not ids or ids[-1] == self.size else ""
        last = f"<last>id-{ids[-1]}</last>" if ids and self.counts_last else ""
        fin = f"<fin xmlns='{names.ARCHIVE}'{complete}><set xmlns='{names.RESULT_SETS}'>{last}</set></fin>"
        return [archived(queryid, number) for number in ids], element(
            f"<iq type='result' id='{escape.attribute(iq.attributes['id'])}'>{fin}</iq>"
        )


def archived(queryid: str, number: int, sender: str = ACCOUNT, inner: str = "bob@chat.test/p") -> Element:
    head = f"<result xmlns='urn:xmpp:mam:2' queryid='{escape.attribute(queryid)}' id='id-{number}'>"
    return element(
        f"<message from='{sender}' to='{JID}'>{head}"
        f"<forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='{number}'/>"
        f"<message xmlns='jabber:client' from='{inner}' id='m-{number}'><body>{number}</body></message>"
        "</forwarded></result></message>"
    )


def refusal(iq: Element, condition: str) -> Element:
    error = f"<error type='cancel'><{condition} xmlns='{names.STANZA_ERRORS}'/></error>"
    return element(f"<iq type='error' id='{iq.attributes['id']}'>{error}</iq>")


def fetch(catchup: Catchup, archive: Archive) -> list[Archived]:
    """All that comes of it, to its end."""
    given: list[Archived] = []
    while (query := catchup.ask()) is not None:
        messages, iq = archive.answer(query)
        for message in messages:
            assert catchup.belongs(message)
            one = catchup.give(message)
            if one is not None:
                given.append(one)
        assert iq.attributes["id"] == catchup.id
        catchup.finish(iq)
    return given


def numbers(given: list[Archived]) -> list[int]:
    return [int(one.id.removeprefix("id-")) for one in given]


@given(
    size=st.integers(0, 20), after=st.integers(1, 20), page=st.integers(1, 7), live=st.sets(st.integers(1, 20)),
    counts_last=st.booleans(),
)  # fmt: skip
def test_all_that_was_missed_comes_once_and_in_order(
    size: int, after: int, page: int, live: set[int], counts_last: bool
) -> None:
    catchup = Catchup(JID, "mam", f"id-{after}")
    for number in live:
        catchup.arrived(f"id-{number}")
    archive = Archive(size, page, counts_last=counts_last)
    assert numbers(fetch(catchup, archive)) == [each for each in range(after + 1, size + 1) if each not in live]
    assert catchup.end is CatchupEnd.WHOLE
    assert catchup.newest == f"id-{max(after, size)}"


def test_the_queries() -> None:
    archive = Archive(5, 3)
    given = fetch(Catchup(JID, "c<1>", "id-1", START, page=50), archive)
    assert given[0].message.raw.startswith(b"<message xmlns='jabber:client' from='bob@chat.test/p' id='m-2'>")
    assert given[0].delay == Delay("2", None)
    assert [query.raw.decode() for query in archive.asked] == [
        f"<iq type='set' id='c&lt;1&gt;-{number}'><query xmlns='urn:xmpp:mam:2' queryid='c&lt;1&gt;-{number}'>"
        f"<set xmlns='http://jabber.org/protocol/rsm'><max>50</max><after>id-{after}</after></set></query></iq>"
        for number, after in ((1, 1), (2, 4))
    ]


@pytest.mark.parametrize("after", [None, "id-1"])
def test_without_a_known_message_it_begins_at_a_time(after: str | None) -> None:
    archive = Archive(9, first=4)
    catchup = Catchup(JID, "mam", after, START)
    assert numbers(fetch(catchup, archive)) == [4, 5, 6, 7, 8, 9]
    assert catchup.end is CatchupEnd.WHOLE
    timed = archive.asked[0 if after is None else 1].raw.decode()
    assert (
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>urn:xmpp:mam:2</value>"
        f"</field><field var='start'><value>{START}</value></field></x>"
    ) in timed


def test_without_either_nothing_can_be_fetched() -> None:
    catchup = Catchup(JID, "mam", None)
    assert catchup.end is CatchupEnd.BROKEN
    assert catchup.ask() is None


def test_an_archive_that_has_forgotten_the_message_says_so() -> None:
    catchup = Catchup(JID, "mam", "id-1")
    assert fetch(catchup, Archive(9, first=4)) == []
    assert catchup.end is CatchupEnd.BROKEN


@pytest.mark.parametrize("condition", ["item-not-found", "service-unavailable"])
def test_a_refusal_does_not_go_round_for_ever(condition: str) -> None:
    catchup = Catchup(JID, "mam", "id-1", START)
    asked = 0
    while (query := catchup.ask()) is not None:
        asked += 1
        catchup.finish(refusal(element(query.decode()), condition))
    assert catchup.end is CatchupEnd.BROKEN
    assert asked <= 2


def test_an_archive_that_does_not_get_on_is_left() -> None:
    catchup = Catchup(JID, "mam", "id-1")
    while (query := catchup.ask()) is not None:
        queryid = element(query.decode()).attributes["id"]
        catchup.give(archived(queryid, 2))
        catchup.finish(
            element(
                f"<iq type='result' id='{queryid}'><fin xmlns='urn:xmpp:mam:2'>"
                "<set xmlns='http://jabber.org/protocol/rsm'><last>id-1</last></set></fin></iq>"
            )
        )
    assert catchup.end is CatchupEnd.BROKEN


def test_an_endless_archive_is_left() -> None:
    catchup = Catchup(JID, "mam", "id-1", pages=4)
    assert len(fetch(catchup, Archive(1_000))) == 12
    assert catchup.end is CatchupEnd.BROKEN


@pytest.mark.parametrize("inside", ["", "<x xmlns='urn:x'/>", "<fin xmlns='urn:xmpp:mam:1'/>"])
def test_an_answer_without_an_end_ends_it(inside: str) -> None:
    catchup = Catchup(JID, "mam", "id-1")
    assert catchup.ask() is not None
    catchup.finish(element(f"<iq type='result' id='mam-1'>{inside}</iq>"))
    assert catchup.end is CatchupEnd.BROKEN


def test_no_answer_ends_it() -> None:
    catchup = Catchup(JID, "mam", "id-1")
    assert catchup.ask() is not None
    catchup.fail()
    assert catchup.end is CatchupEnd.BROKEN
    assert not catchup.belongs(archived("mam-1", 2))
    assert catchup.ask() is None


def test_only_the_accounts_own_archive_has_a_say() -> None:
    catchup = Catchup(JID, "mam", "id-1")
    catchup.ask()
    for forged in (
        archived("mam-1", 2, sender="bob@chat.test/p"),
        archived("mam-1", 2, sender=JID),
        archived("mam-2", 2),
        element(f"<message from='{ACCOUNT}'><result xmlns='urn:xmpp:mam:2' queryid='mam-1'/></message>"),
        element(f"<iq from='{ACCOUNT}' type='get' id='1'><result xmlns='urn:xmpp:mam:2' queryid='mam-1' id='2'/></iq>"),
        element("<message><body>x</body></message>"),
    ):
        assert not catchup.belongs(forged)
        assert catchup.give(forged) is None
    own = element(archived("mam-1", 2).raw.decode().replace(f" from='{ACCOUNT}'", ""))
    assert catchup.belongs(own)
    assert catchup.give(own) is not None


@pytest.mark.parametrize(
    ("id", "known", "wanted"),
    [
        ("1700000000000002", "1700000000000001", "1700000000000002"),
        ("1700000000000001", "1700000000000002", "1700000000000002"),
        ("999", "1000", "1000"),
        ("abc", "1000", "abc"),
        ("1000", "abc", "1000"),
        ("b", "c", "b"),
        ("5", "", "5"),
        ("9" * 5_000, "1000", "9" * 5_000),
        ("1000", "9" * 5_000, "9" * 5_000),
    ],
)
def test_of_two_messages_that_changed_places_the_newer_one_is_read_on_behind(id: str, known: str, wanted: str) -> None:
    assert newer(id, known) == wanted


def test_what_the_link_sent_itself_is_marked() -> None:
    catchup = Catchup(JID, "mam", "id-1")
    catchup.ask()
    for number, (sender, ours) in enumerate([(JID, True), ("alice@chat.test/phone", False), (ACCOUNT, False)], 2):
        given = catchup.give(archived("mam-1", number, inner=sender))
        assert given is not None
        assert given.ours is ours


def test_results_without_a_message_are_passed_over() -> None:
    catchup = Catchup(JID, "mam", "id-1")
    catchup.ask()
    head = f"<message from='{ACCOUNT}'><result xmlns='urn:xmpp:mam:2' queryid='mam-1' id='id-2'>"
    for inside in ("", "<forwarded xmlns='urn:xmpp:forward:0'/>"):
        empty = element(f"{head}{inside}</result></message>")
        assert catchup.belongs(empty)
        assert catchup.give(empty) is None
    assert catchup.newest == "id-2"
