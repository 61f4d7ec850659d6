"""What a backend is told of a connection, request by request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model.grip_phases import TRANSITIONS, GripFact, GripPhase
from edge.model.grip_socket import Dialogue
from edge.protocol.grip.answer_fields import AnswerFields
from edge.protocol.grip.socket_events import SocketEvent

MOST = 1_000
ALL = AnswerFields()


def text(content: str) -> SocketEvent:
    return SocketEvent("TEXT", content.encode())


def live(*, one_event: bool = False) -> Dialogue:
    """A dialogue whose OPEN was answered with OPEN."""
    dialogue = Dialogue(one_event=one_event)
    assert dialogue.ready
    assert dialogue.take() == b"OPEN\r\n"
    dialogue.move(GripFact.OPENED)
    assert answer(dialogue) is False
    return dialogue


def answer(dialogue: Dialogue, fields: AnswerFields = ALL) -> bool:
    assert dialogue.answered(fields, MOST) is None
    return dialogue.settled()


def accepts(count: int) -> AnswerFields:
    return AnswerFields(accepted=count)


@pytest.mark.parametrize("phase", GripPhase)
@pytest.mark.parametrize("fact", GripFact)
def test_every_cell_of_the_table_either_leads_somewhere_or_raises(phase: GripPhase, fact: GripFact) -> None:
    dialogue = Dialogue()
    dialogue.phase = phase
    if (phase, fact) in TRANSITIONS:
        assert dialogue.move(fact) is TRANSITIONS[phase, fact]
    else:
        with pytest.raises(KeyError):
            dialogue.move(fact)


# Messages.


def test_a_message_goes_at_once_and_what_comes_meanwhile_goes_together() -> None:
    dialogue = live()
    assert dialogue.heard(text("one"))
    assert dialogue.take() == b"TEXT 3\r\none\r\n"
    assert not dialogue.heard(text("two"))
    assert not dialogue.heard(SocketEvent("BINARY", b"\x00" * 17))
    assert not dialogue.heard(SocketEvent("PING"))
    assert not dialogue.ready
    assert answer(dialogue)
    assert dialogue.take() == b"TEXT 3\r\ntwo\r\nBINARY 11\r\n" + b"\x00" * 17 + b"\r\nPING\r\n"
    assert not answer(dialogue)
    assert dialogue.idle
    assert (dialogue.queue, dialogue.queue_bytes) == (None, 0)


def test_one_event_means_one_event() -> None:
    dialogue = live(one_event=True)
    dialogue.heard(text("one"))
    dialogue.take()
    dialogue.heard(text("two"))
    dialogue.heard(text("three"))
    dialogue.said_goodbye(b"\x03\xe8")
    bodies = []
    while answer(dialogue):
        bodies.append(dialogue.take())
    assert bodies == [b"TEXT 3\r\ntwo\r\n", b"TEXT 5\r\nthree\r\n", b"CLOSE 2\r\n\x03\xe8\r\n"]
    assert dialogue.phase is GripPhase.OVER


def test_a_retry_carries_what_the_failed_request_carried() -> None:
    dialogue = live()
    dialogue.heard(text("one"))
    first = dialogue.take()
    dialogue.heard(text("two"))
    assert dialogue.again() == first
    dialogue.move(GripFact.VANISHED)
    assert dialogue.again() == first


def test_a_client_that_is_behind_makes_no_requests_with_its_messages() -> None:
    dialogue = live()
    dialogue.congested = True
    assert not dialogue.heard(text("one"))
    assert not dialogue.ready
    assert dialogue.refresh(), "but a refresh is somebody else's wish"
    assert dialogue.take() == b"TEXT 3\r\none\r\n"


def test_the_buffer_is_full_by_content_or_by_number() -> None:
    dialogue = live()
    dialogue.heard(text("x" * (MOST - 1)))
    assert not dialogue.full(MOST)
    dialogue.heard(text("x"))
    assert dialogue.full(MOST)
    dialogue.take()
    answer(dialogue)
    assert not dialogue.full(MOST)
    for _ in range(MOST):
        dialogue.heard(text(""))
    assert dialogue.full(MOST)


@given(st.lists(st.one_of(st.binary(max_size=5), st.just(None)), max_size=30), st.booleans())
def test_everything_said_is_told_once_and_in_order(said: list[bytes | None], one_event: bool) -> None:
    dialogue = live(one_event=one_event)
    told = b""
    for content in said:
        event = SocketEvent("PING") if content is None else SocketEvent("BINARY", content)
        if dialogue.heard(event) or (content == b"" and answer(dialogue)):
            told += dialogue.take()
    if dialogue.busy:
        while answer(dialogue):
            told += dialogue.take()
    expected = [b"PING\r\n" if c is None else b"BINARY %x\r\n%b\r\n" % (len(c), c) for c in said]
    assert told == b"".join(expected)
    assert dialogue.queue_bytes == 0


# Opening.


def test_a_handshake_may_stay_pending_while_the_backend_is_polled() -> None:
    dialogue = Dialogue()
    dialogue.take()
    assert not answer(dialogue, AnswerFields(interval_s=1))
    assert dialogue.interval_s == 20
    assert dialogue.poll()
    assert dialogue.take() == b"OPEN\r\n"
    dialogue.move(GripFact.OPENED)
    assert not answer(dialogue)
    assert dialogue.poll()
    assert dialogue.take() == b""


def test_a_client_that_goes_while_it_is_opened_is_reported() -> None:
    dialogue = Dialogue()
    dialogue.take()
    dialogue.move(GripFact.VANISHED)
    dialogue.move(GripFact.OPENED)
    assert answer(dialogue)
    assert dialogue.take() == b"DISCONNECT\r\n"
    assert not answer(dialogue)
    assert dialogue.phase is GripPhase.OVER


# Ends.


def test_a_goodbye_goes_behind_the_last_messages() -> None:
    dialogue = live()
    dialogue.heard(text("one"))
    dialogue.said_goodbye(b"\x0f\xa0bye")
    assert dialogue.ready
    assert dialogue.take() == b"TEXT 3\r\none\r\nCLOSE 5\r\n\x0f\xa0bye\r\n"
    assert not answer(dialogue)
    assert dialogue.phase is GripPhase.OVER


def test_a_goodbye_without_a_code_has_no_content() -> None:
    dialogue = live()
    dialogue.said_goodbye(None)
    assert dialogue.take() == b"CLOSE\r\n"
    assert dialogue.again() == b"CLOSE\r\n"


def test_a_goodbye_while_a_request_is_out_waits_for_its_answer() -> None:
    dialogue = live()
    dialogue.heard(text("one"))
    dialogue.take()
    dialogue.said_goodbye(None)
    assert not dialogue.ready
    assert answer(dialogue)
    assert dialogue.take() == b"CLOSE\r\n"


def test_who_vanishes_is_reported_alone_and_behind_what_it_said() -> None:
    dialogue = live()
    dialogue.heard(text("one"))
    dialogue.take()
    dialogue.heard(text("two"))
    dialogue.move(GripFact.VANISHED)
    assert answer(dialogue)
    assert dialogue.take() == b"TEXT 3\r\ntwo\r\n"
    assert answer(dialogue)
    assert dialogue.take() == b"DISCONNECT\r\n"
    assert dialogue.again() == b"DISCONNECT\r\n"
    assert not answer(dialogue)
    assert dialogue.phase is GripPhase.OVER


def test_a_backend_that_closed_hears_how_its_client_took_it() -> None:
    dialogue = live()
    dialogue.heard(text("one"))
    dialogue.take()
    dialogue.move(GripFact.BACKEND_CLOSED)
    assert not answer(dialogue)
    assert not dialogue.heard(text("too late"))
    assert not dialogue.refresh()
    assert not dialogue.poll()
    dialogue.said_goodbye(b"\x03\xe8")
    assert dialogue.take() == b"CLOSE 2\r\n\x03\xe8\r\n"


def test_a_backend_that_broke_the_connection_is_asked_nothing_more() -> None:
    dialogue = live()
    dialogue.heard(text("one"))
    dialogue.take()
    dialogue.heard(text("two"))
    dialogue.move(GripFact.FAILED)
    assert not dialogue.settled()
    assert not dialogue.ready
    assert dialogue.queue is None
    assert dialogue.move(GripFact.VANISHED) is GripPhase.OVER


# Acceptance.


def test_what_is_not_accepted_goes_again_with_what_is_new() -> None:
    dialogue = live()
    dialogue.heard(text("hello"))
    dialogue.take()
    assert not answer(dialogue, accepts(2))
    assert (dialogue.replayed, dialogue.queue_bytes) == (3, 3)
    assert dialogue.idle, "nobody waits for it"
    assert dialogue.heard(text("new"))
    assert dialogue.take() == b"TEXT 3\r\nllo\r\nTEXT 3\r\nnew\r\n"
    assert not answer(dialogue)
    assert (dialogue.replayed, dialogue.queue) == (0, None)


def test_acceptance_ends_between_messages_as_well_as_in_them() -> None:
    dialogue = live()
    dialogue.heard(text("one"))
    dialogue.take()
    for event in (text("two"), text(""), SocketEvent("PING", b"p"), text("three")):
        dialogue.heard(event)
    assert answer(dialogue)
    dialogue.take()
    assert not answer(dialogue, accepts(4))
    assert dialogue.queue == [text("three")]
    dialogue.refresh()
    assert dialogue.take() == b"TEXT 5\r\nthree\r\n"
    assert not answer(dialogue, accepts(5))
    assert dialogue.queue is None


def test_messages_that_came_meanwhile_were_not_accepted() -> None:
    dialogue = live()
    dialogue.heard(text("abc"))
    dialogue.take()
    dialogue.heard(text("def"))
    assert answer(dialogue, accepts(1))
    assert dialogue.replayed == 2
    assert dialogue.take() == b"TEXT 2\r\nbc\r\nTEXT 3\r\ndef\r\n"


def test_more_than_was_offered_cannot_be_accepted() -> None:
    dialogue = live()
    dialogue.heard(text("abc"))
    dialogue.take()
    assert dialogue.answered(accepts(4), MOST) is not None


@pytest.mark.parametrize(("accepted", "sound"), [(9, False), (0, True), (1, True)])
def test_a_poll_offers_nothing_but_what_waits(accepted: int, sound: bool) -> None:
    dialogue = live()
    dialogue.heard(text("abc"))
    dialogue.take()
    answer(dialogue, accepts(2))
    dialogue.refresh()
    assert dialogue.take() == b"TEXT 1\r\nc\r\n"
    assert (dialogue.answered(accepts(accepted), MOST) is None) is sound


def test_a_full_buffer_must_move() -> None:
    dialogue = live()
    dialogue.heard(text("x" * MOST))
    dialogue.take()
    assert dialogue.answered(accepts(0), MOST) == "backend accepts nothing of what it is offered"
    dialogue = live()
    dialogue.heard(text("x" * (2 * MOST)))
    dialogue.take()
    assert answer(dialogue, accepts(1)), "nobody is read from: the rest goes at once"
    assert len(dialogue.take()) > 2 * MOST - 1
    assert not answer(dialogue, accepts(MOST)), "now the client may speak again"


def test_one_event_that_nothing_is_accepted_of_blocks_those_behind_it() -> None:
    dialogue = live(one_event=True)
    dialogue.heard(text("abc"))
    dialogue.take()
    assert not answer(dialogue, accepts(0)), "nothing is behind it"
    dialogue.heard(text("def"))
    assert dialogue.take() == b"TEXT 3\r\nabc\r\n"
    assert dialogue.answered(accepts(0), MOST) == "backend accepts nothing of what it is offered"


def test_a_close_waits_for_the_messages_before_it() -> None:
    dialogue = live()
    dialogue.heard(text("abcdef"))
    dialogue.said_goodbye(b"\x03\xe8")
    assert dialogue.take() == b"TEXT 6\r\nabcdef\r\nCLOSE 2\r\n\x03\xe8\r\n"
    assert answer(dialogue, accepts(2))
    assert dialogue.take() == b"TEXT 4\r\ncdef\r\nCLOSE 2\r\n\x03\xe8\r\n"
    assert not answer(dialogue, accepts(6))
    assert dialogue.phase is GripPhase.OVER


@pytest.mark.parametrize("accepted", [3, 4])
def test_who_takes_all_messages_must_take_the_close(accepted: int) -> None:
    dialogue = live()
    dialogue.heard(text("abc"))
    dialogue.said_goodbye(b"\x03\xe8")
    dialogue.take()
    assert dialogue.answered(accepts(accepted), MOST) == "backend accepted all but the close"


def test_a_close_that_cannot_come_nearer_is_an_error() -> None:
    dialogue = live()
    dialogue.heard(text("abc"))
    dialogue.said_goodbye(None)
    dialogue.take()
    assert dialogue.answered(accepts(0), MOST) == "backend accepts nothing of what it is offered"


def test_what_a_vanished_client_said_is_not_offered_for_ever() -> None:
    dialogue = live()
    dialogue.heard(text("abc"))
    dialogue.take()
    dialogue.move(GripFact.VANISHED)
    assert answer(dialogue, accepts(1))
    assert dialogue.take() == b"DISCONNECT\r\n"


# Meta and polling.


def test_meta_is_kept_changed_and_forgotten_whatever_the_case() -> None:
    dialogue = live()
    dialogue.refresh()
    dialogue.take()
    answer(dialogue, AnswerFields(meta=(("User", "alice"), ("Room", "7"))))
    assert dialogue.meta == {"user": ("User", "alice"), "room": ("Room", "7")}
    dialogue.refresh()
    dialogue.take()
    answer(dialogue, AnswerFields(meta=(("USER", "bob"), ("room", ""), ("nothing", ""))))
    assert dialogue.meta == {"user": ("USER", "bob")}
    dialogue.refresh()
    dialogue.take()
    answer(dialogue, AnswerFields(meta=(("user", ""),)))
    assert dialogue.meta is None


@pytest.mark.parametrize(("said", "kept"), [(0, 0), (-1, 0), (1, 20), (20, 20), (300, 300)])
def test_polls_are_no_closer_than_twenty_seconds(said: int, kept: int) -> None:
    dialogue = live()
    dialogue.refresh()
    dialogue.take()
    answer(dialogue, AnswerFields(interval_s=said))
    assert dialogue.interval_s == kept
    assert dialogue.poll() is (kept > 0)


def test_no_poll_is_made_beside_a_request() -> None:
    dialogue = live()
    dialogue.interval_s = 20
    dialogue.heard(text("one"))
    dialogue.take()
    assert not dialogue.poll()
    assert not answer(dialogue)
    assert dialogue.poll()
    assert dialogue.ready


def test_a_refresh_while_a_request_is_out_follows_it() -> None:
    dialogue = live()
    dialogue.heard(text("one"))
    dialogue.take()
    assert not dialogue.refresh()
    assert answer(dialogue)
    assert dialogue.take() == b""
    assert not answer(dialogue)
