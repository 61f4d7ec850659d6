"""A component's stream: whole lives of it in every cut, and how it comes to know what a server has handled."""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.protocol.xmpp import names
from edge.protocol.xmpp.component import SIGNALS, TABLE, Acks, ComponentStream
from edge.protocol.xmpp.credentials import ScramKeys
from edge.protocol.xmpp.framing import Ended, Framer, StreamLimits
from edge.protocol.xmpp.negotiation import Phase, Signal
from edge.protocol.xmpp.stanza import read_message
from edge.protocol.xmpp.stream import XmppStream
from edge.protocol.xmpp.stream_facts import (
    Acked,
    AuthFailed,
    ComponentPlan,
    Connected,
    Fact,
    StanzaReceived,
    Stream,
    StreamFailed,
)
from edge.protocol.xmpp.stream_management import MODULUS, CountError
from tests.unit.protocol.xmpp import components as say
from tests.unit.protocol.xmpp import streams
from tests.unit.protocol.xmpp.components import PLAN, Talk, live

CONNECTED = Connected("component.test", False, "", None, "")
ONE, TWO, THREE = (f"<message from='component.test' to='b@c' id='{number}'/>".encode() for number in (1, 2, 3))
TOKEN = hashlib.sha1(b"3BF96D32").hexdigest()[:12]


def ping(number: int, to: str = "component.test") -> bytes:
    return (
        f"<iq from='component.test' to='{to}' type='get' id='hf:ack:{number}:{TOKEN}'>"
        "<ping xmlns='urn:xmpp:ping'/></iq>"
    ).encode()


def passed_back(number: int) -> bytes:
    return say.passed_back(f"hf:ack:{number}:{TOKEN}")


def test_both_kinds_of_streams_have_one_face() -> None:
    both: list[Stream] = [ComponentStream(PLAN, 0.0), XmppStream(streams.PLAN, lambda: "n", 0.0)]
    for stream in both:
        assert stream.phase is Phase.HEADER
        assert (stream.live, stream.over, stream.mechanism, stream.management) == (False, False, "", None)
        assert stream.save(0) is None
        assert stream.wake_at() == 30
        stream.tls_up()
        stream.use_keys(ScramKeys("SHA-1", b"", 1, b"", b""))
        stream.set_active(False)
        assert stream.take().startswith(b"<?xml version='1.0'?><stream:stream to='")
        assert stream.take() == b""
        stream.close()
        assert stream.take() == say.END
        assert stream.over
        assert (stream.wake_at(), stream.wake(1e9), stream.receive(b"x", 0.0)) == (None, [], [])


def test_a_whole_opening() -> None:
    talk = Talk(replace(PLAN, domain="plays.shakespeare.lit", secret="test"))
    assert talk.said == (
        b"<?xml version='1.0'?><stream:stream to='plays.shakespeare.lit' xmlns='jabber:component:accept' "
        b"xmlns:stream='http://etherx.jabber.org/streams'>"
    )
    digest = hashlib.sha1(b"3BF96D32test").hexdigest()
    assert talk.hear(say.HEADER) == f"<handshake>{digest}</handshake>".encode()
    assert talk.phase is Phase.SASL
    talk.hear(say.HANDSHAKE)
    assert talk.facts == [replace(CONNECTED, jid="plays.shakespeare.lit")]
    assert talk.stream.live


def test_the_id_counts_as_it_is_read() -> None:
    talk = Talk(PLAN)
    said = talk.hear(say.HEADER.replace(b"3BF96D32", b"a&amp;b&#x20;c"))
    assert said == f"<handshake>{hashlib.sha1(b'a&b cs3cret').hexdigest()}</handshake>".encode()


@pytest.mark.parametrize("text", ["", "Given token does not match calculated token"])
def test_a_wrong_secret(text: str) -> None:
    talk = Talk(PLAN, say.HEADER)
    assert talk.hear(say.error("not-authorized", text)) == b""
    assert talk.facts == [AuthFailed("not-authorized", text)]
    assert talk.phase is Phase.OVER


def test_a_domain_that_the_server_does_not_know() -> None:
    talk = Talk(PLAN)
    assert talk.hear(say.UNKNOWN) == b""  # an id that anybody could have
    talk.hear(say.error("host-unknown", "no such component"))
    assert talk.facts == [StreamFailed("host-unknown", "no such component", by_server=True)]


def test_a_domain_that_somebody_else_has() -> None:
    for words in (say.TO_LIVE[:1], say.TO_LIVE):
        talk = Talk(PLAN, *words)
        talk.facts.clear()
        talk.hear(say.error("conflict", "Component already connected"))
        assert talk.facts == [StreamFailed("conflict", "Component already connected", by_server=True)]
    talk = live()
    talk.hear(say.error("not-authorized"))  # what it is when logged in
    assert talk.facts == [StreamFailed("not-authorized", "", by_server=True)]


@pytest.mark.parametrize(
    ("header", "condition"),
    [
        (say.HEADER.replace(b"jabber:component:accept", b"jabber:client"), "invalid-namespace"),
        (say.HEADER.replace(b"http://etherx.jabber.org/streams", b"urn:x"), "invalid-namespace"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not-well-formed"),
    ],
)
def test_servers_of_something_else(header: bytes, condition: str) -> None:
    talk = Talk(PLAN)
    assert b"handshake" not in talk.hear(header)
    (failed,) = talk.facts
    assert isinstance(failed, StreamFailed)
    assert failed.condition == condition


# -- the table

REACH = {Phase.HEADER: (), Phase.SASL: (say.HEADER,), Phase.LIVE: say.TO_LIVE, Phase.OVER: (say.HEADER, say.END)}
WORDS = {
    Signal.SUCCESS: say.HANDSHAKE,
    Signal.STANZA: say.MESSAGE,
    Signal.ERROR: say.error("reset"),
    Signal.ENDED: say.END,
}


@pytest.mark.parametrize("phase", [Phase.SASL, Phase.LIVE, Phase.OVER])
@pytest.mark.parametrize("signal", WORDS)
def test_every_cell_of_an_open_stream(phase: Phase, signal: Signal) -> None:
    talk = Talk(PLAN, *REACH[phase])
    assert talk.phase is phase
    talk.facts.clear()
    said = talk.hear(WORDS[signal])
    allowed = TABLE.get((phase, signal))
    if phase is Phase.OVER:
        assert (talk.facts, said) == ([], b"")
    elif allowed is None:
        assert [fact.condition for fact in talk.facts if isinstance(fact, StreamFailed)] == ["policy-violation"]
        assert said.startswith(b"<stream:error><policy-violation")
        assert talk.phase is Phase.OVER
    else:
        assert (talk.phase,) == allowed


def test_every_cell_of_a_stream_that_opens() -> None:
    for words, following in ((say.HEADER, Phase.SASL), (b"<html>", Phase.OVER)):
        talk = Talk(PLAN, words)
        assert talk.phase is following
        assert following in TABLE[Phase.HEADER, Signal.OPENED]
    assert Talk(PLAN, say.HEADER + say.END).facts == [Ended()]
    assert set(SIGNALS.values()) | {Signal.ENDED} == set(WORDS)
    assert {phase for phase, _ in TABLE} | {Phase.OVER} == set(REACH)


@pytest.mark.parametrize(
    "raw",
    [b"<x/>", b"<message xmlns='jabber:client'/>", b"<stream:features/>", b"<r xmlns='urn:xmpp:sm:3'/>"],
)
def test_elements_of_no_meaning(raw: bytes) -> None:
    for phase in (Phase.SASL, Phase.LIVE):
        talk = Talk(PLAN, *REACH[phase])
        talk.facts.clear()
        assert talk.hear(raw).endswith(b"</stream:error></stream:stream>")
        assert [fact.condition for fact in talk.facts if isinstance(fact, StreamFailed)] == ["unsupported-stanza-type"]


# -- hearing


def test_what_comes_is_counted_for_the_caller() -> None:
    talk = live()
    assert talk.hear(say.MESSAGE, say.MESSAGE + b" " + say.MESSAGE) == b""
    heard = [fact for fact in talk.facts if isinstance(fact, StanzaReceived)]
    assert [(fact.h, fact.ours) for fact in heard] == [(1, False), (2, False), (3, False)]
    assert heard[0].element.namespace == names.COMPONENT
    assert read_message(heard[0].element, "component.test").body == "hi"
    talk.stream.ack(0)
    talk.stream.ack(2)
    for wrong in (1, 4):
        with pytest.raises(CountError):
            talk.stream.ack(wrong)
    talk.stream.ack(3)
    assert talk.stream.take() == b""
    assert talk.stream.management is not None
    assert talk.stream.management.confirmed == 3


def test_counts_may_go_on_and_wrap() -> None:
    talk = live(replace(PLAN, base=MODULUS - 2, received=MODULUS - 1))
    talk.hear(say.MESSAGE, say.MESSAGE)
    talk.send(ONE, TWO, THREE)
    talk.hear(say.passed_back(talk.pings[-1]))
    assert [fact.h for fact in talk.facts if isinstance(fact, StanzaReceived)] == [0, 1]
    assert [fact for fact in talk.facts if isinstance(fact, Acked)] == [Acked(1)]


@pytest.mark.parametrize(
    "stanza",
    [
        say.answer(f"hf:ack:1:{TOKEN}", sender="mallory@chat.test/x"),
        say.answer(f"hf:ack:1:{TOKEN}", sender="chat.test"),
        say.answer(f"hf:ack:1:{TOKEN}", sender="bot@component.test"),
        say.answer("hf:ping"),
        say.passed_back(f"hf:ack:1:{TOKEN}").replace(b"iq", b"message"),
        b"<iq type='result' id='hf:ack:1:%s'/>" % TOKEN.encode(),
    ],
)
def test_what_is_no_end_of_a_ping_is_told(stanza: bytes) -> None:
    talk = live(answers=False)
    talk.facts.clear()
    talk.hear(stanza)
    assert [type(fact) for fact in talk.facts] == [StanzaReceived]
    assert talk.stream.acks is Acks.UNKNOWN


def test_pings_of_others_are_told() -> None:
    talk = live(replace(PLAN, ack_from="other.test"), answers=False)
    talk.facts.clear()
    talk.hear(say.passed_back("hf:ack:1:x").replace(b"from='component.test'", b"from='other.test'"))
    assert [type(fact) for fact in talk.facts] == [StanzaReceived]


# -- acknowledgement


def test_the_first_ping_asks_whether_there_are_answers() -> None:
    talk = Talk(PLAN, *say.TO_LIVE)
    assert talk.said.endswith(b"</handshake>" + ping(1))
    talk.facts.clear()
    assert talk.hear(passed_back(1)) == b""
    assert talk.stream.acks is Acks.PINGS
    assert talk.facts == []  # of no stanza


@pytest.mark.parametrize("kind", ["result", "error"])
@pytest.mark.parametrize("target", ["", "chat.test"])
def test_any_answer_acknowledges(kind: str, target: str) -> None:
    talk = Talk(replace(PLAN, ack_from=target), *say.TO_LIVE)
    sender = target or "component.test"
    assert talk.said.endswith(ping(1, to=sender))
    talk.facts.clear()
    talk.hear(say.answer(talk.pings[-1], kind, sender.upper()))
    assert talk.send(ONE, TWO) == ONE + TWO + ping(2, to=sender)
    talk.hear(say.answer(talk.pings[-1], kind, sender))
    assert talk.facts == [Acked(2)]


def test_one_ping_for_each_burst_and_one_at_a_time() -> None:
    talk = live()
    assert talk.send() == b""
    assert talk.send(ONE, TWO) == ONE + TWO + ping(2)
    assert talk.send(THREE) == THREE
    assert talk.hear(passed_back(1)) == b""  # an old one
    assert talk.facts == []
    assert talk.hear(passed_back(2)) == ping(3)  # for the third
    assert talk.facts == [Acked(2)]
    assert talk.stream.management is not None
    assert talk.stream.management.unacked == (THREE,)
    assert talk.hear(passed_back(2) + passed_back(3)) == b""
    assert talk.facts == [Acked(2), Acked(3)]
    assert talk.stream.management.waiting == 0


def test_what_no_server_is_known_to_have_is_sent_first() -> None:
    talk = Talk(replace(PLAN, unacked=(ONE, TWO), base=7), *say.TO_LIVE)
    assert talk.said.endswith(b"</handshake>" + ONE + TWO + ping(1))
    assert talk.send(THREE) == THREE
    assert talk.hear(passed_back(1)) == ping(2)
    assert talk.facts == [CONNECTED, Acked(9)]
    talk.hear(passed_back(2))
    assert talk.facts[2:] == [Acked(10)]


def test_an_answer_to_another_stream_is_none() -> None:
    talk = live()
    talk.send(ONE)
    talk.hear(say.passed_back("hf:ack:2:0123456789ab"))
    assert talk.facts == []
    talk.hear(passed_back(2))
    assert talk.facts == [Acked(1)]


def test_without_an_answer_what_is_written_counts() -> None:
    talk = Talk(replace(PLAN, unacked=(ONE,)), *say.TO_LIVE)
    talk.facts.clear()
    talk.hear(say.MESSAGE)
    stream = talk.stream
    assert stream.wake_at() == 30
    assert talk.wake(29) == b""
    assert [type(fact) for fact in talk.facts] == [StanzaReceived]
    stream.send([TWO])  # and not written when the time is up
    assert stream.wake(30) == [Acked(1)]
    assert stream.acks is Acks.WRITING
    assert stream.take() == TWO
    at = stream.wake_at()
    assert at is not None
    assert at <= 30
    assert stream.wake(31) == [Acked(2)]
    assert talk.send(THREE) == THREE
    assert stream.receive(say.MESSAGE, 32)[0] == Acked(3)
    assert stream.management is not None
    assert stream.management.waiting == 0


def test_a_late_answer_is_believed() -> None:
    talk = live(answers=False)
    talk.send(ONE)
    talk.facts.clear()
    talk.wake(30)
    assert talk.facts == [Acked(1)]
    assert talk.send(TWO) == TWO
    talk.stream.send([THREE])
    assert talk.hear(passed_back(1)) == THREE + ping(2)
    assert talk.stream.acks is Acks.PINGS
    assert talk.facts == [Acked(1), Acked(2)]
    talk.hear(passed_back(2))
    assert talk.facts[2:] == [Acked(3)]


def test_an_answer_that_went_elsewhere_is_asked_for_again() -> None:
    talk = live()
    talk.now = 5.0
    talk.hear(say.MESSAGE)
    talk.send(ONE)
    assert talk.stream.wake_at() == 5  # what time is it?
    assert talk.wake(10) == b""
    talk.send(TWO)
    assert talk.stream.wake_at() == 40
    talk.facts.clear()
    assert talk.wake(40) == ping(2)
    assert talk.stream.wake_at() == 70
    talk.hear(say.MESSAGE)
    assert talk.stream.wake_at() == 70
    assert talk.hear(passed_back(2)) == ping(3)
    assert talk.facts[1:] == [Acked(1)]
    talk.now = 50.0
    talk.hear(say.MESSAGE)  # tells the time as well
    assert talk.stream.wake_at() == 70


# -- time


def test_an_opening_that_takes_too_long() -> None:
    for words, waited in (((), "opening tag"), ((say.HEADER,), "login")):
        talk = Talk(PLAN, *words)
        assert talk.wake(29.9) == b""
        assert talk.facts == []
        assert talk.wake(30) == b""
        (failed,) = talk.facts
        assert isinstance(failed, StreamFailed)
        assert failed.condition == "connection-timeout"
        assert waited in failed.text
        assert talk.stream.wake_at() is None


def test_a_silent_server_is_asked_and_then_left_without_a_word() -> None:
    for waiting in (False, True):
        talk = live()
        if waiting:
            talk.send(ONE)
            talk.wake(0)
            for at in (30, 60, 90):
                assert talk.wake(at) == ping(2)
        assert talk.stream.wake_at() == 120
        assert talk.wake(120) == ping(2)
        assert talk.stream.wake_at() == 150
        talk.now = 130.0
        talk.hear(passed_back(2))
        assert talk.facts == ([Acked(1)] if waiting else [])
        assert talk.wake(250) == ping(3)
        talk.facts.clear()
        assert talk.wake(280) == b""
        (failed,) = talk.facts
        assert isinstance(failed, StreamFailed)
        assert (failed.condition, failed.by_server) == ("connection-timeout", False)


def test_a_server_without_answers_is_asked_now_and_then() -> None:
    talk = live(answers=False)
    talk.wake(30)
    talk.facts.clear()
    for at in (120, 240, 360):
        talk.now = at - 1.0
        talk.hear(say.MESSAGE)
        assert talk.stream.wake_at() == at
        assert talk.wake(at) == ping(1)
    talk.hear(passed_back(1))
    assert talk.stream.acks is Acks.PINGS
    assert [type(fact) for fact in talk.facts] == [StanzaReceived] * 3
    assert talk.stream.wake_at() == 480


def test_who_leaves_hears_what_the_server_had_to_say() -> None:
    talk = live()
    talk.send(ONE)
    talk.facts.clear()
    talk.stream.finish(talk.now)
    assert not talk.stream.live
    assert not talk.stream.over
    # A ping comes to its end, and none follows it.
    assert talk.hear(say.MESSAGE, say.passed_back(talk.pings[-1])) == say.END
    assert [type(fact) for fact in talk.facts] == [StanzaReceived, Acked]
    talk.hear(say.END)
    assert talk.facts[-1] == Ended()
    assert talk.stream.over


def test_a_server_that_does_not_let_go_is_left() -> None:
    talk = live()
    talk.now = 100.0
    talk.stream.finish(talk.now)
    assert talk.stream.take() == say.END
    assert talk.stream.wake_at() == 100.0 + PLAN.answer_s
    assert talk.wake(talk.now + PLAN.answer_s) == b""
    assert talk.facts[-1] == StreamFailed("connection-timeout", "waited for its end")
    closed = live()
    closed.stream.finish(closed.now)
    closed.stream.close()
    assert (closed.stream.take(), closed.stream.over) == (say.END, True)


def test_the_end_is_told_once() -> None:
    talk = live()
    talk.hear(say.MESSAGE + say.END, say.MESSAGE)
    assert [type(fact) for fact in talk.facts] == [StanzaReceived, Ended]
    talk = live()
    assert talk.hear(say.MESSAGE + b"<a></b>").startswith(b"<stream:error><not-well-formed")
    assert [type(fact) for fact in talk.facts] == [StanzaReceived, StreamFailed]


def test_no_secret_shows() -> None:
    shown = f"{replace(PLAN, unacked=(ONE,))!r} {live().stream!r}"
    assert "s3cret" not in shown
    assert "message" not in shown


# -- whatever comes

LIFE = b"".join(
    [
        say.HEADER, say.HANDSHAKE, b" ", say.MESSAGE, passed_back(1), say.MESSAGE, b"\n", passed_back(1),
        say.answer(f"hf:ack:2:{TOKEN}"), say.MESSAGE, say.error("system-shutdown"),
    ]
)  # fmt: skip
LIFE_PLAN = replace(PLAN, unacked=(ONE, TWO))


def lived(*pieces: bytes, plan: ComponentPlan = LIFE_PLAN) -> tuple[list[Fact], bytes]:
    talk = Talk(plan, *pieces)
    return talk.facts, talk.said


def test_what_a_life_tells() -> None:
    facts, _ = lived(LIFE)
    assert [type(fact) for fact in facts] == [
        Connected, StanzaReceived, Acked, StanzaReceived, StanzaReceived, StreamFailed,
    ]  # fmt: skip
    for at in range(len(LIFE)):
        assert lived(LIFE[:at], LIFE[at:]) == lived(LIFE)


@given(st.lists(st.integers(1, len(LIFE)), max_size=12))
def test_lives_are_the_same_in_every_cut(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(LIFE)]
    assert lived(*(LIFE[low:high] for low, high in itertools.pairwise(bounds))) == lived(LIFE)


@given(st.integers(0, len(LIFE) - 1), st.binary(min_size=1, max_size=12))
@settings(max_examples=200)
def test_no_bytes_make_a_stream_raise(at: int, noise: bytes) -> None:
    broken = LIFE[:at] + noise + LIFE[at + len(noise) :]
    facts, _ = lived(broken)
    assert lived(*(broken[place : place + 7] for place in range(0, len(broken), 7)))[0] == facts


STEPS = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 3)),
    st.tuples(st.sampled_from(["handle", "answer", "refuse", "pass back", "lose", "forge", "message"]), st.just(0)),
    st.tuples(st.just("sleep"), st.sampled_from([1, 29, 30, 31, 120, 200])),
)


@given(st.lists(STEPS, max_size=40), st.sampled_from(["", "chat.test"]), st.sampled_from([0, MODULUS - 2]))
@settings(max_examples=300)
def test_nothing_counts_as_handled_that_may_not_be(steps: list[tuple[str, int]], target: str, base: int) -> None:
    """A server reads as it likes, and answers pings in order, in any way, or never; others claim answers it never gave.
    While pings are answered, what is acknowledged the server has handled; without answers, it was written."""
    plan = replace(PLAN, ack_from=target, base=base, unacked=(ONE,))
    talk = Talk(plan, *say.TO_LIVE)
    reads = Framer(StreamLimits())
    wire = deque(item for item in reads.feed(talk.said) if getattr(item, "name", "") in ("message", "iq"))
    open_pings = deque[str]()
    """Handled, and neither answered nor lost."""
    sent, handled, acked, seen = 1, 0, 0, 0
    talk.facts.clear()
    for step, number in steps:
        said, acks = b"", talk.stream.acks
        match step:
            case "send" if talk.stream.live:
                said = talk.send(*[TWO] * number)
                sent += number
            case "handle" if wire:
                item = wire.popleft()
                if getattr(item, "name", "") == "iq":
                    open_pings.append(item.attributes["id"])  # type: ignore[union-attr]
                else:
                    handled += 1
            case "answer" | "refuse" if open_pings:
                kind = "result" if step == "answer" else "error"
                said = talk.hear(say.answer(open_pings.popleft(), kind, target or "component.test"))
            case "pass back" if open_pings and not target:
                said = talk.hear(say.passed_back(open_pings.popleft()))
            case "lose" if open_pings:
                open_pings.popleft()
            case "forge" if talk.pings:
                said = talk.hear(say.answer(talk.pings[-1], sender="mallory@chat.test/x"))
            case "message":
                said = talk.hear(say.MESSAGE)
            case "sleep":
                said = talk.wake(talk.now + number)
        if talk.stream.over:
            break
        wire += reads.feed(said.strip())
        trusting = Acks.WRITING in (acks, talk.stream.acks)
        for fact in talk.facts[seen:]:
            if isinstance(fact, Acked):
                news = (fact.h - base) % MODULUS
                assert acked < news <= (sent if trusting else handled)
                acked = news
        seen = len(talk.facts)
        management = talk.stream.management
        assert management is not None
        assert (management.sent - base) % MODULUS == sent
        assert management.waiting == sent - acked
        assert talk.stream.wake_at() is not None
