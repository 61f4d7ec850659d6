"""What becomes of unacknowledged stanzas in a new session: all kinds of them, written or not, known of or not."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.protocol.xmpp.stream_management import MODULUS
from edge.sessions.links.reset import Remains, said_again, sort_out, stamp
from edge.store.links_base import Stanza

JID = "u42@chat.example/edge"
AT = 1_700_000_000_000
RAW = {
    "message": b"<message to='bob@x'><body>hi</body></message>",
    "empty message": b"<message to='bob@x'/>",
    "prefixed": b"<c:message xmlns:c='jabber:client' to='bob@x'><c:body>hi</c:body></c:message>",
    "presence": b"<presence/>",
    "get": b"<iq type='get' id='e1-1'><query xmlns='q'/></iq>",
    "result": b"<iq type='result' id='q1'/>",
}
DELAYED = {
    "message": b"<message to='bob@x'><body>hi</body><delay xmlns='urn:xmpp:delay' from='u42@chat.example/edge' "
    b"stamp='2023-11-14T22:13:20Z'/></message>",
    "empty message": b"<message to='bob@x'><delay xmlns='urn:xmpp:delay' from='u42@chat.example/edge' "
    b"stamp='2023-11-14T22:13:20Z'/></message>",
    "prefixed": b"<c:message xmlns:c='jabber:client' to='bob@x'><c:body>hi</c:body><delay xmlns='urn:xmpp:delay' "
    b"from='u42@chat.example/edge' stamp='2023-11-14T22:13:20Z'/></c:message>",
}


def one(kind: str, id: str = "a-1") -> Stanza:
    return Stanza(RAW[kind], AT, id)


def fate(kind: str, h: int | None, written: int) -> Remains:
    """Of a single stanza behind the count 7."""
    return sort_out([one(kind)], 7, h, written, JID)


@pytest.mark.parametrize("kind", RAW)
def test_what_the_old_session_had_is_done_with(kind: str) -> None:
    assert fate(kind, 8, 1) == Remains([], 0, [], [])


@pytest.mark.parametrize(("kind", "h"), list(product(RAW, (None, 7))))
def test_what_nobody_has_seen_is_as_good_as_new(kind: str, h: int | None) -> None:
    assert fate(kind, h, 0) == Remains([one(kind)], 0, [], [])


@pytest.mark.parametrize("kind", DELAYED)
def test_a_message_that_certainly_did_not_arrive_is_sent_again_with_its_time(kind: str) -> None:
    assert fate(kind, 7, 1) == Remains([Stanza(DELAYED[kind], AT, "a-1")], 1, [], [])


@pytest.mark.parametrize(("kind", "h"), list(product(DELAYED, (None, 9, 6, 7 - MODULUS // 2))))
def test_a_message_of_which_nobody_knows_is_told_and_not_sent(kind: str, h: int | None) -> None:
    """None: the server does not say. The others are counts that cannot be."""
    assert fate(kind, None if h is None else h % MODULUS, 1) == Remains([], 0, ["a-1"], [])


@pytest.mark.parametrize("h", [None, 7, 9])
def test_presence_made_sense_in_the_old_session_only(h: int | None) -> None:
    assert fate("presence", h, 1) == Remains([], 0, [], ["a-1"])


@pytest.mark.parametrize(("kind", "h"), list(product(("get", "result"), (None, 7, 9))))
def test_of_requests_and_answers_others_tell(kind: str, h: int | None) -> None:
    assert fate(kind, h, 1) == Remains([], 0, [], [])


def test_what_the_edge_itself_had_sent_is_told_to_nobody() -> None:
    assert sort_out([one("message", ""), one("presence", "")], 0, None, 2, JID) == Remains([], 0, [], [])


def test_counts_wrap() -> None:
    stanzas = [one("message", f"a-{n}") for n in range(4)]
    remains = sort_out(stanzas, MODULUS - 2, 1, 4, JID)
    assert [stanza.action_id for stanza in remains.again] == ["a-3"]
    assert remains.resent == 1


def test_a_component_says_again_what_may_not_have_arrived_and_marks_messages_that_may_come_twice() -> None:
    unacked = [one(kind) for kind in RAW]
    said = said_again(unacked, len(unacked) - 1, JID)
    assert said[:-1] == tuple(DELAYED.get(kind, raw) for kind, raw in RAW.items())[:-1]
    assert said_again(unacked, 0, JID) == tuple(RAW.values())


def test_a_time_is_written_as_the_standard_has_it() -> None:
    assert stamp(0) == "1970-01-01T00:00:00Z"
    assert stamp(AT + 999) == "2023-11-14T22:13:20Z"


@given(
    st.lists(st.sampled_from(list(RAW)), max_size=8),
    st.sampled_from([0, 7, MODULUS - 3]),
    st.none() | st.integers(-2, 10),
    st.integers(0, 8),
)
def test_every_stanza_ends_in_exactly_one_place(kinds: list[str], base: int, offset: int | None, written: int) -> None:
    written = min(written, len(kinds))
    stanzas = [one(kind, f"a-{n}") for n, kind in enumerate(kinds)]
    h = None if offset is None else (base + offset) % MODULUS
    remains = sort_out(stanzas, base, h, written, JID)
    handled = offset if offset is not None and 0 <= offset <= len(kinds) else 0
    again = [stanza.action_id for stanza in remains.again]
    places = [*again, *remains.unknown, *remains.dropped]
    assert len(places) == len(set(places))
    told_elsewhere = {f"a-{n}" for n, kind in enumerate(kinds[:written]) if kind in ("get", "result")}
    done = {f"a-{n}" for n in range(handled)}
    assert set(places) | told_elsewhere | done == {stanza.action_id for stanza in stanzas}
    assert not done.intersection(places)
    # What is sent again keeps its order, is first, and says so.
    assert again == sorted(again, key=lambda id: int(id[2:]))
    resent = remains.again[: remains.resent]
    assert all(b"urn:xmpp:delay" in stanza.raw for stanza in resent)
    assert list(remains.again[remains.resent :]) == [
        stanza for stanza in stanzas[written:] if stanza.action_id in again
    ]
