"""Which answer belongs to which request."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import WireError
from edge.protocol.xmpp.iq_table import IqTable, OpenIq, same_jid
from tests.unit.protocol.xmpp.elements import ACCOUNT, JID, element

BOB = "bob@chat.test/p"


def table(to: str | None = BOB, id: str = "e1-1") -> IqTable:
    made = IqTable(JID)
    made.ask(id, to, "a-1", 1_000)
    return made


def answer(sender: str | None, kind: str = "result", id: str = "e1-1") -> str:
    head = "" if sender is None else f" from='{sender}'"
    return f"<iq type='{kind}' id='{id}'{head}/>"


@pytest.mark.parametrize("kind", ["result", "error"])
def test_an_answer_closes_its_request(kind: str) -> None:
    open_ones = table()
    assert open_ones.answered(element(answer(BOB, kind))) == OpenIq("e1-1", BOB, "a-1", 1_000)
    assert len(open_ones) == 0
    assert open_ones.answered(element(answer(BOB, kind))) is None


@pytest.mark.parametrize(
    "xml",
    [
        answer("mallory@chat.test/x"),
        answer("bob@chat.test"),
        answer("bob@chat.test/q"),
        answer("bob@chat.test/P"),
        answer("chat.test"),
        answer(ACCOUNT),
        answer(None),
        answer(BOB, id="e1-2"),
        answer(BOB, kind="get"),
        answer(BOB, kind="set"),
        f"<iq type='result' from='{BOB}'/>",
        f"<message type='error' id='e1-1' from='{BOB}'/>",
    ],
)
def test_what_is_no_answer_leaves_the_request_open(xml: str) -> None:
    open_ones = table()
    assert open_ones.answered(element(xml)) is None
    assert len(open_ones) == 1
    assert open_ones.answered(element(answer(BOB))) is not None


@pytest.mark.parametrize("to", [None, ACCOUNT, "Alice@Chat.Test"])
@pytest.mark.parametrize("sender", [None, ACCOUNT, JID, "chat.test"])
def test_our_own_server_answers_for_our_account(to: str | None, sender: str | None) -> None:
    assert table(to).answered(element(answer(sender))) is not None


@pytest.mark.parametrize("to", [None, ACCOUNT])
@pytest.mark.parametrize("sender", [BOB, "alice@chat.test/other", "muc.test", "alice@evil.test", "test"])
def test_nobody_else_answers_for_our_account(to: str | None, sender: str) -> None:
    assert table(to).answered(element(answer(sender))) is None


@pytest.mark.parametrize(
    ("to", "sender", "theirs"),
    [
        ("chat.test", "chat.test", True),
        ("chat.test", None, True),
        ("chat.test", ACCOUNT, False),
        ("muc.test", "muc.test", True),
        ("muc.test", None, False),
        ("Bob@CHAT.test/p", BOB, True),
        ("Bob@CHAT.test/P", BOB, False),
        ("bob@chat.test", BOB, False),
        (JID, JID, True),
        (JID, None, True),
        ("ÉMIL@chat.test", "émil@chat.test", True),
    ],
)
def test_who_was_asked_answers(to: str, sender: str | None, theirs: bool) -> None:
    assert (table(to).answered(element(answer(sender))) is not None) is theirs


def test_requests_end_at_their_deadline() -> None:
    made = IqTable(JID)
    assert made.wake_at() is None
    first, second = made.ask("1", BOB, "a-1", 500), made.ask("2", None, "a-2", 400)
    assert made.wake_at() == 400
    assert made.expire(399) == ()
    assert made.expire(400) == (second,)
    assert made.wake_at() == 500
    assert made.answered(element(answer(ACCOUNT, id="2"))) is None
    assert list(made) == [first]
    assert made.expire(10_000) == (first,)


def test_what_is_not_asked_any_more() -> None:
    made = IqTable(JID)
    first, second, third = (made.ask(str(number), BOB, "a", 9) for number in range(3))
    assert made.forget("1") == second
    assert made.forget("1") is None
    assert made.forget_all() == (first, third)
    assert len(made) == 0


def test_ids_are_asked_once_and_not_without_end() -> None:
    made = IqTable(JID, capacity=2)
    made.ask("1", BOB, "a", 9)
    with pytest.raises(WireError, match="another id"):
        made.ask("1", BOB, "b", 9)
    made.ask("2", BOB, "a", 9)
    with pytest.raises(WireError, match="2 requests of this link wait"):
        made.ask("3", BOB, "a", 9)
    made.forget("1")
    made.ask("3", BOB, "a", 9)


ASKED = st.dictionaries(
    st.text(max_size=5),
    st.tuples(st.one_of(st.none(), st.text(max_size=5)), st.text(max_size=5), st.integers(0, 1 << 50)),
)


@given(ASKED)
def test_the_table_survives_its_edge(asked: dict[str, tuple[str | None, str, int]]) -> None:
    made = IqTable(JID)
    for id, (to, action, deadline) in asked.items():
        made.ask(id, to, action, deadline)
    stored = orjson.loads(orjson.dumps(made.to_stored(), option=orjson.OPT_PASSTHROUGH_DATACLASS))
    again = IqTable.from_stored(JID, stored)
    assert list(again) == list(made)
    assert again.wake_at() == made.wake_at()


@pytest.mark.parametrize("stored", [["x"], [["1", 2, "a", 3]], [["1", None, "a"]], [{}]])
def test_what_was_never_stored_is_refused(stored: list[object]) -> None:
    with pytest.raises(WireError, match="not a stored iq"):
        IqTable.from_stored(JID, stored)


@given(st.text("abAB@/.é", max_size=8), st.text("abAB@/.é", max_size=8))
def test_addresses_differ_by_more_than_case(one: str, other: str) -> None:
    if same_jid(one, other):
        assert one.casefold() == other.casefold()
        assert one.partition("/")[1:] == other.partition("/")[1:]
    assert same_jid(one, one)
    assert same_jid(one, other) == same_jid(other, one)
