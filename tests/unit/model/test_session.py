"""The session machine: every cell of the table, the queue's bounds, what a result may change, and random lives."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.config import LimitSettings
from edge.model.phases import TRANSITIONS, Fact, Phase
from edge.model.session import Flow, Session
from edge.model.verdict import Changes, Refusal, Verdict, plain
from edge.protocol.callbacks.actions import (
    Accept,
    Action,
    CancelTimer,
    Identify,
    Pin,
    Reject,
    Result,
    Send,
    SetTimer,
    Subscribe,
    Unsubscribe,
)
from edge.protocol.callbacks.events import ClientRequest, Close, Event, Message, Open, ReleaseChanged, Timer

REQUEST = ClientRequest("GET", "/", "", (), "127.0.0.1:1", "http", ())
LIMITS = LimitSettings(queue_events=4, queue_bytes=1_000, subscriptions=2)


def live(id: str = "s") -> Session:
    """A session whose open was accepted and settled."""
    session = Session(id, "r1")
    session.opened(REQUEST, "websocket", 0)
    (opened,) = session.take(10, 10_000)
    session.accepted()
    session.settled(opened, LIMITS)
    return session


def changes_of(session: Session, *actions: Action, event: Event | None = None, **state: object) -> Changes | None:
    verdict = session.judge(event, Result(actions, dict(state)), 1_000, LIMITS)
    assert isinstance(verdict, Verdict)
    return verdict.changes


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("fact", Fact)
def test_every_cell_of_the_table_either_leads_somewhere_or_raises(phase: Phase, fact: Fact) -> None:
    session = Session("s", "r1")
    session.phase = phase
    if (phase, fact) in TRANSITIONS:
        session._move(fact)
        assert session.phase is TRANSITIONS[phase, fact]
    else:
        with pytest.raises(KeyError):
            session._move(fact)


def test_done_is_reachable_from_everywhere_and_never_left() -> None:
    for phase in Phase:
        seen, frontier = {phase}, [phase]
        while frontier:
            here = frontier.pop()
            for (source, _), target in TRANSITIONS.items():
                if source is here and target not in seen:
                    seen.add(target)
                    frontier.append(target)
        assert Phase.DONE in seen
    assert {target for (source, _), target in TRANSITIONS.items() if source is Phase.DONE} == {Phase.DONE}


def test_event_ids_count_up_and_the_close_event_has_its_own_name() -> None:
    session = live("abc")
    session.received("one", 1, LIMITS)
    session.ended(1000, "", clean=True, cause="client", now=2)
    assert [event.id for event in session.take(10, 10_000)] == ["abc:2", "abc:close"]


def test_a_full_queue_pauses_once_and_resumes_when_half_empty() -> None:
    session = live()
    flows = [session.received("x", 0, LIMITS) for _ in range(5)]
    assert [bool(flow & Flow.PAUSE) for flow in flows] == [False, False, False, True, False]
    flying = session.take(10, 10_000)
    resumed = [bool(session.settled(event, LIMITS) & Flow.RESUME) for event in flying]
    assert resumed == [False, False, True, False, False]


def test_a_queue_is_full_by_bytes_too_and_nothing_read_is_dropped() -> None:
    session = live()
    assert session.received("x" * 2_000, 0, LIMITS) & Flow.PAUSE
    session.received("y", 0, LIMITS)
    assert [event.payload for event in session.take(10, 10_000) if isinstance(event, Message)] == ["x" * 2_000, "y"]


def test_take_stops_at_the_byte_bound_but_a_single_larger_event_still_goes() -> None:
    session = live()
    for payload in ("x" * 500, "y" * 500, "z"):
        session.received(payload, 0, LIMITS)
    assert [len(session.take(10, 400)) for _ in range(3)] == [1, 1, 1]
    assert session.take(10, 400) == []


def test_the_goodbye_is_answered_when_nothing_is_owed_any_more() -> None:
    idle = live()
    assert idle.said_goodbye() & Flow.FINISH
    busy = live()
    busy.received("last words", 0, LIMITS)
    assert not busy.said_goodbye() & Flow.FINISH
    (event,) = busy.take(1, 1_000)
    assert busy.settled(event, LIMITS) & Flow.FINISH


def test_a_session_that_was_never_accepted_has_no_close_event() -> None:
    session = Session("s", "r1")
    session.opened(REQUEST, "websocket", 0)
    assert session.ended(1006, "", clean=False, cause="client", now=1) == Flow.NOTHING
    session.rejected()
    assert session.phase is Phase.DONE
    assert [type(event) for event in session.take(10, 1_000)] == [Open]


def test_a_client_that_left_during_open_is_closed_right_after_it_was_accepted() -> None:
    session = Session("s", "r1")
    session.opened(REQUEST, "websocket", 0)
    (opened,) = session.take(1, 1_000)
    session.ended(1006, "", clean=False, cause="client", now=1)
    session.ended_while_opening(1006, "", clean=False, cause="client", now=1)
    assert session.settled(opened, LIMITS) & Flow.DELIVER
    (closed,) = session.take(1, 1_000)
    assert isinstance(closed, Close)
    session.settled(closed, LIMITS)
    assert session.phase is Phase.DONE


def test_a_move_to_another_release_is_told_before_the_next_event_and_not_to_a_stranger() -> None:
    session = live()
    session.received("hello", 0, LIMITS)
    session.moved("r2", 1)
    first, second = session.take(10, 10_000)
    assert isinstance(first, ReleaseChanged)
    assert (first.from_release, first.to_release) == ("r1", "r2")
    assert isinstance(second, Message)
    new = Session("n", "r1")
    new.opened(REQUEST, "websocket", 0)
    new.moved("r2", 1)
    assert [type(event) for event in new.take(10, 1_000)] == [Open]


def test_moves_that_nobody_was_told_of_become_one_or_none() -> None:
    session = live()
    for release in ("r2", "r3"):
        session.moved(release, 1)
    (only,) = session.take(10, 10_000)
    assert isinstance(only, ReleaseChanged)
    assert (only.from_release, only.to_release) == ("r1", "r3")
    session.settled(only, LIMITS)
    for release in ("r4", "r3"):
        session.moved(release, 2)
    assert (session.take(10, 10_000), session.release, session.queue_bytes) == ([], "r3", 0)


def test_plain_sends_need_no_change_and_anything_else_does() -> None:
    session = live()
    assert plain(Result((Send("a"), Send(b"b"))))
    assert not plain(Result((Send("a", session="other"),)))
    assert not plain(Result((), {"k": 1}))
    assert changes_of(session, Send("a")) is None
    assert changes_of(session, Send("a", id="once")) is not None


def test_changes_collect_what_the_row_needs() -> None:
    session = live()
    session.channels = {"old"}
    actions = (
        Subscribe("old"),
        Subscribe("new"),
        Unsubscribe("old"),
        Unsubscribe("never"),
        Identify("ada"),
        Pin("r7"),
        SetTimer("t", 500, {"n": 1}),
        CancelTimer("u"),
    )
    changes = changes_of(session, *actions, k="v")
    assert changes is not None
    assert (changes.subscribe, changes.unsubscribe) == (["new"], ["old"])
    assert (changes.user, changes.pinned) == (("ada",), ("r7",))
    assert changes.set_timers == {"t": (1_500, {"n": 1})}
    assert changes.cancel_timers == ["u"]
    session.applied(changes, 1)
    assert session.state == {"k": "v"}
    assert (session.user, session.pinned, session.version) == ("ada", "r7", 1)
    assert session.channels == {"new"}
    assert session.timers == {"t": (1_500, {"n": 1})}


def test_the_later_of_subscribe_and_unsubscribe_wins() -> None:
    session = live()
    there_and_back = changes_of(session, Subscribe("c"), Unsubscribe("c"), Identify("x"))
    assert there_and_back is not None
    assert (there_and_back.subscribe, there_and_back.unsubscribe) == ([], [])


def test_a_timer_leaves_the_row_with_its_event_unless_it_is_set_again() -> None:
    session = live()
    session.timers = {"t": (5, "data")}
    session.timer_due("t", 6)
    (event,) = session.take(1, 1_000)
    assert isinstance(event, Timer)
    assert event.data == "data"
    gone = changes_of(session, event=event)
    assert gone is not None
    assert gone.cancel_timers == ["t"]
    again = changes_of(session, SetTimer("t", 10), event=event)
    assert again is not None
    assert again.cancel_timers == []
    assert again.set_timers == {"t": (1_010, None)}


def test_accepting_anything_but_an_open_is_refused() -> None:
    session = live()
    for action in (Accept(), Reject()):
        refusal = session.judge(Message("s:2", 0, "x"), Result((Send("a"), action)), 0, LIMITS)
        assert isinstance(refusal, Refusal)
        assert "actions[1].type" in refusal.reason


def test_too_many_subscriptions_are_refused_whole() -> None:
    session = live()
    refusal = session.judge(None, Result(tuple(Subscribe(f"c{n}") for n in range(3))), 0, LIMITS)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.limit) == (1008, "subscriptions")
    assert session.channels is None


class SessionLife(RuleBasedStateMachine):
    """Any order of facts: order is kept, nothing is lost or doubled, the end comes last and once."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session("s", "r1")
        self.session.opened(REQUEST, "websocket", 0)
        self.sent: list[str] = []
        self.taken: list[Event] = []
        self.flying: list[Event] = []
        self.gone = False

    @rule(payload=st.text(max_size=40))
    def a_message(self, payload: str) -> None:
        if self.gone:
            return
        before = self.session.number
        self.session.received(payload, 0, LIMITS)
        if self.session.number != before:
            self.sent.append(payload)

    @precondition(lambda self: not self.gone)
    @rule()
    def goodbye(self) -> None:
        self.session.said_goodbye()

    @precondition(lambda self: not self.gone)
    @rule()
    def the_connection_ends(self) -> None:
        self.gone = True
        self.session.ended(1006, "", clean=False, cause="client", now=0)

    @precondition(lambda self: not self.flying)
    @rule(events=st.integers(1, 5), size=st.integers(1, 2_000))
    def take(self, events: int, size: int) -> None:
        self.flying = self.session.take(events, size)
        self.taken += self.flying

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def settle_one(self, data: st.DataObject) -> None:
        event = data.draw(st.sampled_from(self.flying))
        self.flying = [other for other in self.flying if other is not event]
        if isinstance(event, Open):
            if self.gone:
                self.session.ended_while_opening(1006, "", clean=False, cause="client", now=0)
            else:
                self.session.accepted()
        if self.session.settled(event, LIMITS) & Flow.LEAVE:
            assert self.session.ordered_to_close()

    @rule()
    def close_is_ordered(self) -> None:
        if self.session.phase is not Phase.OPENING:
            self.session.ordered_to_close()

    @rule()
    def leaving_is_asked_for(self) -> None:
        if self.session.phase is not Phase.OPENING and self.session.asked_to_leave():
            self.session.ordered_to_close()

    @invariant()
    def who_leaves_waits_for_something(self) -> None:
        if self.session.leaving and self.session.phase is Phase.CLOSING and not self.session.goodbye_said:
            assert self.session.unsettled

    @invariant()
    def messages_are_taken_in_order(self) -> None:
        payloads = [event.payload for event in self.taken if isinstance(event, Message)]
        assert payloads == self.sent[: len(payloads)]

    @invariant()
    def the_end_is_last_and_once(self) -> None:
        kinds = [type(event) for event in self.taken]
        assert kinds.count(Close) <= 1
        if Close in kinds:
            assert kinds[-1] is Close
            assert len([kind for kind in kinds if kind is Message]) == len(self.sent)

    @invariant()
    def the_byte_count_is_never_negative_and_zero_when_empty(self) -> None:
        assert self.session.queue_bytes >= 0
        if self.session.unsettled == 0:
            assert self.session.queue_bytes == 0

    @invariant()
    def a_paused_session_has_something_waiting(self) -> None:
        assert not self.session.paused or self.session.unsettled


SessionLife.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestSessionLife = SessionLife.TestCase


def test_who_is_asked_to_leave_goes_when_the_last_answer_is_there_and_reads_nothing_more() -> None:
    assert live().asked_to_leave()
    limits = LimitSettings(queue_events=2)
    busy = live()
    for payload in ("first", "second"):
        busy.received(payload, 0, limits)
    assert busy.paused
    assert not busy.asked_to_leave()
    first, second = busy.take(2, 1_000)
    assert not busy.settled(first, limits) & (Flow.LEAVE | Flow.RESUME)
    assert busy.settled(second, limits) == Flow.LEAVE
    assert busy.ordered_to_close()
    assert not busy.ordered_to_close()


def test_the_backend_may_close_a_session_that_is_about_to_leave() -> None:
    session = live()
    session.received("last", 0, LIMITS)
    assert not session.asked_to_leave()
    (event,) = session.take(1, 1_000)
    assert session.ordered_to_close()
    assert session.settled(event, LIMITS) == Flow.NOTHING
