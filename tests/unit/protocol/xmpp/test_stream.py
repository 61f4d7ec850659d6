"""Streams: whole lives of them, in every cut, and what they do when the server does not keep its side."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.protocol.xmpp.credentials import Account
from edge.protocol.xmpp.framing import Ended
from edge.protocol.xmpp.negotiation import Phase, Tls
from edge.protocol.xmpp.sasl import KeysNeeded
from edge.protocol.xmpp.stream import (
    AckAsked,
    Acked,
    AuthFailed,
    Connected,
    Fact,
    Resumed,
    ResumeFailed,
    StanzaReceived,
    StreamFailed,
    StreamPlan,
    TlsWanted,
    XmppStream,
)
from edge.protocol.xmpp.stream_management import MODULUS, CountError, SavedStream
from tests.unit.protocol.xmpp import streams as say
from tests.unit.protocol.xmpp.streams import KEYED, KEYS, PLAIN, PLAN, RESUMING, Talk, live

CONNECTED = Connected("user@chat.example/edge", True, "sm-1", 300, "two.example:5222")


def test_a_whole_opening_with_tls_and_a_password() -> None:
    talk = Talk(replace(PLAN, tls=Tls.STARTTLS))
    assert talk.said.startswith(b"<?xml version='1.0'?><stream:stream to='chat.example' version='1.0'")
    assert talk.hear(say.HEADER, say.OFFER_TLS) == b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
    assert talk.hear(say.PROCEED) == b""
    assert talk.facts == [TlsWanted()]
    talk.stream.tls_up()
    assert talk.stream.take() == talk.said[: talk.said.index(b"<starttls")]
    assert b"mechanism='SCRAM-SHA-1'" in talk.hear(say.HEADER, say.OFFER_LOGIN)
    assert talk.hear(say.SCRAM_FIRST) == b""
    assert talk.facts[1:] == [KeysNeeded("SHA-1", KEYS.salt, 4096)]
    talk.stream.use_keys(KEYS)
    assert talk.stream.take().startswith(b"<response")
    assert talk.hear(say.SCRAM_SUCCESS).startswith(b"<?xml")
    assert b"<resource>edge</resource>" in talk.hear(say.HEADER, say.OFFER_ALL)
    said = talk.hear(say.BOUND)
    assert said.index(b"urn:xmpp:carbons:2") < said.index(b"<enable xmlns='urn:xmpp:sm:3' resume='true' max='600'/>")
    assert talk.hear(say.CARBONS, say.ENABLED) == b""
    assert talk.facts[2:] == [CONNECTED]
    assert talk.stream.live
    assert talk.stream.mechanism == "SCRAM-SHA-1"


LIFE = (
    say.HEADER, say.OFFER_LOGIN, say.SCRAM_FIRST, say.SCRAM_SUCCESS, say.HEADER, say.OFFER_ALL, say.BOUND, b" ",
    say.MESSAGE, say.ENABLED, say.CARBONS, say.MESSAGE, say.ASK, b"\n", say.MESSAGE, say.acked(0), say.ERROR, say.END,
)  # fmt: skip
RESUMED_LIFE = (
    say.HEADER, say.OFFER_LOGIN, say.SCRAM_FIRST, say.SCRAM_SUCCESS, say.HEADER, say.OFFER_ALL, say.resumed(8),
    say.MESSAGE, say.ASK, say.acked(9), say.END,
)  # fmt: skip
REFUSED_LIFE = (
    say.HEADER, say.OFFER_LOGIN, say.SCRAM_FIRST, say.SCRAM_SUCCESS, say.HEADER, say.OFFER_ALL, say.SM_FAILED % 8,
    say.BOUND, say.SM_FAILED % 0, say.MESSAGE, say.MESSAGE + b"<!-- -->",
)  # fmt: skip
LIVES = [
    (b"".join(words), replace(plan, credentials=KEYED))
    for words, plan in ((LIFE, PLAN), (RESUMED_LIFE, RESUMING), (REFUSED_LIFE, RESUMING))
]


def lived(plan: StreamPlan, *pieces: bytes) -> tuple[list[Fact], bytes]:
    """All facts and all bytes; that the server asks twice is told once if both come at once."""
    talk = Talk(plan, *pieces)
    return talk.facts, talk.said


@pytest.mark.parametrize(("stream", "plan"), LIVES)
def test_lives_are_the_same_byte_by_byte(stream: bytes, plan: StreamPlan) -> None:
    whole = lived(plan, stream)
    assert len(whole[0]) > 4
    assert lived(plan, *(stream[at : at + 1] for at in range(len(stream)))) == whole
    for at in range(len(stream)):
        assert lived(plan, stream[:at], stream[at:]) == whole


@given(st.sampled_from(LIVES), st.lists(st.integers(1, 2000), max_size=12))
@settings(max_examples=200)
def test_lives_are_the_same_in_every_cut(life: tuple[bytes, StreamPlan], cuts: list[int]) -> None:
    stream, plan = life
    bounds = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    assert lived(plan, *(stream[low:high] for low, high in itertools.pairwise(bounds))) == lived(plan, stream)


@given(st.sampled_from(LIVES), st.integers(0, 3000), st.binary(min_size=1, max_size=12))
@settings(max_examples=300)
def test_no_bytes_make_a_stream_raise(life: tuple[bytes, StreamPlan], at: int, noise: bytes) -> None:
    stream, plan = life
    at %= len(stream)
    broken = stream[:at] + noise + stream[at + len(noise) :]
    facts, _ = lived(plan, broken)
    assert lived(plan, *(broken[place : place + 7] for place in range(0, len(broken), 7)))[0] == facts


def test_what_a_life_tells() -> None:
    facts, _ = lived(LIVES[0][1], LIVES[0][0])
    assert facts[0] == CONNECTED
    assert [(fact.h, fact.ours) for fact in facts if isinstance(fact, StanzaReceived)] == [
        (0, False),  # came before <enabled/>: neither side counts it
        (1, True),
        (2, False),
        (3, False),
    ]
    assert facts[-2:] == [Acked(0), StreamFailed("conflict", "Replaced by new connection", by_server=True)]


def test_resuming_sends_again_what_the_server_lacks() -> None:
    talk = Talk(replace(RESUMING, credentials=KEYED), *RESUMED_LIFE[:5])
    assert talk.hear(say.OFFER_ALL) == b"<resume xmlns='urn:xmpp:sm:3' h='5' previd='sm-1'/>"
    assert talk.hear(say.resumed(8)) == b"<message id='9'/>" + say.ASK
    assert talk.facts == [Resumed(8, redelivered=1)]
    talk.hear(say.MESSAGE, say.ASK, say.acked(9))
    assert [type(fact) for fact in talk.facts[1:]] == [StanzaReceived, AckAsked, Acked]
    assert isinstance(talk.facts[1], StanzaReceived)
    assert talk.facts[1].h == 6
    assert talk.stream.save(durable=6) == SavedStream("sm-1", 6, 9, (), 300)


@pytest.mark.parametrize("lost", [None, 8, 7, 9, 6, 12])
def test_a_refused_resume_binds_on_the_same_stream(lost: int | None) -> None:
    failed = (say.SM_FAILED % lost) if lost is not None else (say.SM_FAILED % 0).replace(b" h='0'", b"")
    talk = Talk(replace(PLAIN, resume=say.SAVED), *say.TO_LOGGED_IN, say.OFFER_ALL)
    assert b"<bind" in talk.hear(failed)
    known = lost if lost in (7, 8, 9) else None
    left = say.SAVED.unacked[(known or 7) - 7 :]
    assert talk.facts == [ResumeFailed(known, tuple(left))]
    talk.hear(say.BOUND, say.ENABLED)
    assert talk.facts[1:] == [CONNECTED]
    assert talk.stream.save(0) == SavedStream("sm-1", 0, 0, (), 300, "two.example:5222")


def test_a_server_without_stream_management_cannot_resume() -> None:
    talk = Talk(replace(PLAIN, resume=say.SAVED), *say.TO_LOGGED_IN, say.OFFER_BIND, say.BOUND)
    assert talk.facts == [
        ResumeFailed(None, tuple(say.SAVED.unacked)),
        Connected("user@chat.example/edge", False, "", None, ""),
    ]
    assert talk.stream.save(0) is None
    talk.stream.send([b"<presence/>"])
    assert talk.stream.take() == b"<presence/>"
    talk.hear(say.MESSAGE + say.CARBONS)
    assert isinstance(talk.facts[2], StanzaReceived)
    assert talk.facts[2].h == 0
    assert len(talk.facts) == 3


def test_a_server_that_counts_and_does_not_resume() -> None:
    talk = Talk(PLAIN, *say.TO_LIVE[:-1], b"<enabled xmlns='urn:xmpp:sm:3'/>")
    assert talk.facts == [Connected("user@chat.example/edge", False, "", None, "")]
    assert talk.stream.save(0) is None
    talk.hear(say.MESSAGE)
    talk.stream.ack(1)
    assert talk.stream.take() == say.acked(1)


def test_nothing_is_acknowledged_unasked_for_by_the_caller() -> None:
    talk = live()
    assert talk.hear(say.MESSAGE * 3, say.ASK, say.ASK) == b""
    stream = talk.stream
    stream.ack(0)  # nothing is durable yet, and the server is answered all the same
    stream.ack(2)
    assert stream.take() == say.acked(0) + say.acked(2)
    for wrong in (1, 4, MODULUS - 1):
        with pytest.raises(CountError):
            stream.ack(wrong)
    assert stream.take() == b""


def test_one_question_for_each_burst_and_one_at_a_time() -> None:
    talk = live()
    stream = talk.stream
    stream.send([b"<message/>", b"<presence/>"])
    assert stream.take() == b"<message/><presence/>" + say.ASK
    stream.send([b"<iq/>"])
    assert stream.take() == b"<iq/>"
    assert talk.hear(say.acked(2)) == say.ASK  # for the third
    assert talk.hear(say.acked(3)) == b""
    assert talk.facts == [Acked(2), Acked(3)]
    stream.send([b"<message/>"])
    assert stream.take() == b"<message/>" + say.ASK


@pytest.mark.parametrize("h", ["1", "4294967295", "x", ""])
def test_counts_that_cannot_be_end_the_stream(h: str) -> None:
    talk = live()
    said = talk.hear(b"<a xmlns='urn:xmpp:sm:3' h='%s'/>" % h.encode())
    (failed,) = talk.facts
    assert isinstance(failed, StreamFailed)
    assert failed.condition == "undefined-condition"
    assert said.startswith(b"<stream:error><undefined-condition")
    assert (b"handled-count-too-high" in said) == h.isdigit()


@pytest.mark.parametrize("start", [0, MODULUS - 3, MODULUS - 1])
def test_counters_wrap_on_the_wire(start: int) -> None:
    saved = SavedStream("sm-1", start, start, ())
    talk = Talk(replace(PLAIN, resume=saved), *say.TO_LOGGED_IN, say.OFFER_ALL, say.resumed(start))
    talk.facts.clear()
    for step in range(1, 6):
        talk.hear(say.MESSAGE)
        talk.stream.send([b"<message/>"])
        talk.hear(say.acked((start + step) % MODULUS))
        talk.stream.ack((start + step) % MODULUS)
        assert talk.stream.take().endswith(say.acked((start + step) % MODULUS))
    heard = [fact.h for fact in talk.facts if isinstance(fact, StanzaReceived)]
    assert heard == [(start + step) % MODULUS for step in range(1, 6)]


@pytest.mark.parametrize(
    ("features", "plan", "condition"),
    [
        (say.OFFER_LOGIN, replace(PLAN, tls=Tls.STARTTLS), "tls-not-offered"),
        (say.OFFER_TLS, PLAN, ""),  # in TLS already
        (say.REQUIRE_TLS, replace(PLAN, tls=Tls.NONE), "tls-not-offered"),
        (say.features(say.mechanisms("PLAIN")), replace(PLAN, tls=Tls.NONE), "no-mechanism"),
        (say.features(say.mechanisms("PLAIN")), replace(PLAN, tls=Tls.NONE, bare_without_tls=True), ""),
        (say.features(say.mechanisms("PLAIN")), replace(PLAN, pinned="SCRAM-SHA-256"), "mechanism-downgrade"),
        (say.OFFER_NOTHING, PLAN, "no-mechanism"),
        (say.OFFER_LOGIN, replace(PLAN, credentials=Account("a\x07", "x")), "malformed-request"),
    ],
)
def test_what_is_not_given_away(features: bytes, plan: StreamPlan, condition: str) -> None:
    talk = Talk(plan, say.HEADER)
    said = talk.hear(features)
    if not condition:
        assert talk.phase is Phase.SASL
        return
    (failed,) = talk.facts
    assert isinstance(failed, AuthFailed | StreamFailed)
    assert failed.condition == condition
    assert b"<auth" not in said
    assert talk.phase is Phase.OVER


def test_a_server_that_does_not_know_the_password_is_left() -> None:
    talk = Talk(replace(PLAN, credentials=KEYED), say.HEADER, say.OFFER_LOGIN, say.SCRAM_FIRST)
    assert talk.hear(say.sasl("success", b"v=AAAA")) == say.END
    (failed,) = talk.facts
    assert isinstance(failed, AuthFailed)
    assert failed.condition == "server-not-authentic"


def test_a_false_challenge_is_aborted() -> None:
    talk = Talk(PLAN, say.HEADER, say.OFFER_LOGIN)
    assert talk.hear(say.sasl("challenge", b"r=other,s=QSXC,i=4096")).startswith(b"<abort")


def test_words_injected_before_tls_are_not_believed() -> None:
    for injected in (say.HEADER, b" ", b"<"):
        talk = Talk(replace(PLAN, tls=Tls.STARTTLS), say.HEADER, say.OFFER_TLS)
        assert talk.hear(say.PROCEED, injected) == b""
        assert isinstance(talk.facts[-1], StreamFailed)
        assert talk.phase is Phase.OVER


@pytest.mark.parametrize(
    ("header", "condition"),
    [
        (say.HEADER.replace(b" version='1.0' xml", b" xml"), "unsupported-version"),
        (say.HEADER.replace(b"http://etherx.jabber.org/streams", b"urn:x"), "invalid-namespace"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not-well-formed"),
    ],
)
def test_servers_of_something_else(header: bytes, condition: str) -> None:
    talk = Talk(PLAN)
    talk.hear(header)
    (failed,) = talk.facts
    assert isinstance(failed, StreamFailed)
    assert failed.condition == condition


def test_errors_of_bind_are_told() -> None:
    talk = Talk(PLAIN, *say.TO_LOGGED_IN, say.OFFER_ALL, say.BIND_ERROR)
    assert talk.facts == [StreamFailed("bind-refused", "conflict", by_server=True)]
    talk = Talk(PLAIN, *say.TO_LOGGED_IN, say.OFFER_ALL, say.BOUND.replace(b"user@", b"@"))
    assert isinstance(talk.facts[0], StreamFailed)


def test_another_host_is_told() -> None:
    talk = live()
    talk.hear(
        b"<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>two.example:5222</see-other-host>"
        b"</stream:error>"
    )
    assert talk.facts == [StreamFailed("see-other-host", "two.example:5222", by_server=True)]


def test_whether_somebody_looks() -> None:
    talk = live()
    stream = talk.stream
    stream.set_active(True)
    assert stream.take() == b""
    stream.set_active(False)
    stream.set_active(False)
    assert stream.take() == b"<inactive xmlns='urn:xmpp:csi:0'/>"
    stream.set_active(True)
    assert stream.take() == b"<active xmlns='urn:xmpp:csi:0'/>"
    again = Talk(replace(PLAIN, resume=say.SAVED, active=False), *say.TO_LOGGED_IN, say.OFFER_ALL)
    assert again.hear(say.resumed(9)) == b"<inactive xmlns='urn:xmpp:csi:0'/>"


def test_an_opening_that_takes_too_long() -> None:
    for words in ((), (say.HEADER, say.OFFER_LOGIN)):
        talk = Talk(PLAN, *words)
        assert talk.stream.wake_at() == 30
        assert talk.stream.wake(29.9) == []
        (failed,) = talk.stream.wake(30)
        assert isinstance(failed, StreamFailed)
        assert failed.condition == "connection-timeout"
        assert talk.stream.wake_at() is None
        assert talk.stream.take() == b""


@pytest.mark.parametrize("counted", [True, False])
def test_a_silent_server_is_asked_and_then_left_without_a_word(counted: bool) -> None:
    talk = Talk(PLAIN, *(say.TO_LIVE if counted else (*say.TO_LOGGED_IN, say.OFFER_BIND, say.BOUND)))
    stream = talk.stream
    assert stream.wake_at() == 120
    assert stream.wake(120) == []
    assert stream.take() == (say.ASK if counted else b"<iq type='get' id='hf:ping'><ping xmlns='urn:xmpp:ping'/></iq>")
    assert stream.wake_at() == 150
    stream.receive(say.acked(0) if counted else b"<iq type='result' id='hf:ping'/>", 130)
    assert stream.wake_at() == 250
    assert stream.wake(250) == []
    stream.take()
    (failed,) = stream.wake(280)
    assert isinstance(failed, StreamFailed)
    assert failed.condition == "connection-timeout"
    assert stream.take() == b""


def test_a_polite_end() -> None:
    for talk in (live(), Talk(PLAN), Talk(PLAN, say.HEADER, say.OFFER_LOGIN)):
        talk.stream.close()
        assert talk.stream.take().endswith(say.END)
        assert talk.stream.over
        assert talk.stream.receive(say.MESSAGE, 0.0) == []
        talk.stream.close()
        assert talk.stream.take() == b""


def test_the_end_is_told_once() -> None:
    talk = live(PLAIN, say.MESSAGE + say.END, say.MESSAGE)
    assert [type(fact) for fact in talk.facts] == [StanzaReceived, Ended]


def test_what_was_whole_before_bad_bytes_counts() -> None:
    talk = live()
    assert talk.hear(say.MESSAGE + b"<a></b>").startswith(b"<stream:error><not-well-formed")
    assert [type(fact) for fact in talk.facts] == [StanzaReceived, StreamFailed]


def test_no_secret_shows() -> None:
    stream = XmppStream(replace(PLAN, credentials=Account("user", "hunter2"), resume=say.SAVED), lambda: "n", 0.0)
    shown = f"{PLAN!r} {CONNECTED!r} {say.SAVED!r} {stream!r}"
    for secret in ("hunter2", "pencil", "sm-1"):
        assert secret not in shown
