"""Negotiation: every cell of the table, walked with a real stream, and every step that features can lead to."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from edge.protocol.xmpp.framing import Ended
from edge.protocol.xmpp.negotiation import SIGNALS, TABLE, Features, Phase, Signal, Step, Tls, next_step
from edge.protocol.xmpp.sasl import KeysNeeded, derive_keys
from edge.protocol.xmpp.stream import AuthFailed, StreamFailed
from tests.unit.protocol.xmpp import streams as say
from tests.unit.protocol.xmpp.streams import KEYED, PLAIN, PLAN, Talk

STARTTLS = replace(PLAN, tls=Tls.STARTTLS)
TOKEN_RESUMING = replace(PLAIN, resume=say.SAVED)


def reach(phase: Phase) -> Talk:
    """A stream in `phase`."""
    match phase:
        case Phase.HEADER:
            talk = Talk(PLAN)
        case Phase.FEATURES:
            talk = Talk(PLAN, say.HEADER)
        case Phase.TLS_ANSWER:
            talk = Talk(STARTTLS, say.HEADER, say.OFFER_TLS)
        case Phase.TLS:
            talk = Talk(STARTTLS, say.HEADER, say.OFFER_TLS, say.PROCEED)
        case Phase.SASL:
            talk = Talk(PLAN, say.HEADER, say.OFFER_LOGIN)
        case Phase.KEYS:
            talk = Talk(PLAN, say.HEADER, say.OFFER_LOGIN, say.SCRAM_FIRST)
        case Phase.RESUME:
            talk = Talk(TOKEN_RESUMING, *say.TO_LOGGED_IN, say.OFFER_ALL)
        case Phase.BIND:
            talk = Talk(PLAIN, *say.TO_LOGGED_IN, say.OFFER_ALL)
        case Phase.ENABLE:
            talk = Talk(PLAIN, *say.TO_LOGGED_IN, say.OFFER_ALL, say.BOUND)
        case Phase.LIVE:
            talk = Talk(PLAIN, *say.TO_LIVE)
        case Phase.OVER:
            talk = Talk(PLAN, say.HEADER, say.ERROR)
    assert talk.phase is phase
    talk.facts.clear()
    talk.said = b""
    return talk


SAID = {
    Signal.OPENED: say.HEADER,
    Signal.FEATURES: say.OFFER_ALL,
    Signal.PROCEED: say.PROCEED,
    Signal.TLS_FAILURE: say.TLS_FAILURE,
    Signal.CHALLENGE: say.SCRAM_FIRST,
    Signal.SUCCESS: say.SUCCESS,
    Signal.FAILURE: say.FAILURE,
    Signal.RESUMED: say.resumed(7),
    Signal.FAILED: say.SM_FAILED % 8,
    Signal.ENABLED: say.ENABLED,
    Signal.STANZA: say.MESSAGE,
    Signal.ACK: say.acked(0),
    Signal.ASK: say.ASK,
    Signal.ERROR: say.ERROR,
    Signal.ENDED: say.END,
}
"""What a server says; `TLS_UP` and `KEYS` are the caller's."""


CELLS = [(phase, signal) for phase in Phase for signal in SAID if signal is not Signal.OPENED or phase is Phase.HEADER]
"""Inside a stream an opening tag is not even an element: `test_a_second_opening_tag`."""


@pytest.mark.parametrize(("phase", "signal"), CELLS)
def test_every_cell_that_a_server_can_choose(phase: Phase, signal: Signal) -> None:
    talk = reach(phase)
    if phase is Phase.HEADER and signal is not Signal.OPENED:
        # Nothing is an element before the stream is open; after the framer's restart it is the same.
        talk.hear(say.HEADER.replace(b"stream:stream", b"stream:features"))
        assert talk.phase is Phase.OVER
        return
    talk.hear(SAID[signal])
    allowed = TABLE.get((phase, signal))
    if phase is Phase.OVER:
        assert (talk.facts, talk.said) == ([], b"")
    elif allowed is None or phase is Phase.TLS:
        (failed,) = talk.facts
        assert isinstance(failed, StreamFailed)
        assert failed.condition == "policy-violation"
        assert not failed.by_server
        assert talk.phase is Phase.OVER
        assert (talk.said == b"") == (phase is Phase.TLS)
    else:
        assert talk.phase in allowed


WAYS: dict[tuple[Phase, Signal], dict[Phase, tuple[Talk, tuple[bytes, ...]]]] = {}
"""For each cell: how each of its following phases is come to."""


def way(phase: Phase, signal: Signal, following: Phase, *words: bytes, talk: Talk | None = None) -> None:
    WAYS.setdefault((phase, signal), {})[following] = (talk or reach(phase), words)


way(Phase.HEADER, Signal.OPENED, Phase.FEATURES, say.HEADER)
way(Phase.HEADER, Signal.OPENED, Phase.OVER, b"<html>")
way(Phase.FEATURES, Signal.FEATURES, Phase.SASL, say.OFFER_LOGIN)
way(Phase.FEATURES, Signal.FEATURES, Phase.TLS_ANSWER, say.OFFER_TLS, talk=Talk(STARTTLS, say.HEADER))
way(Phase.FEATURES, Signal.FEATURES, Phase.OVER, say.OFFER_LOGIN, talk=Talk(STARTTLS, say.HEADER))
way(Phase.FEATURES, Signal.FEATURES, Phase.BIND, say.OFFER_ALL, talk=Talk(PLAIN, *say.TO_LOGGED_IN))
way(Phase.FEATURES, Signal.FEATURES, Phase.RESUME, say.OFFER_ALL, talk=Talk(TOKEN_RESUMING, *say.TO_LOGGED_IN))
way(Phase.TLS_ANSWER, Signal.PROCEED, Phase.TLS, say.PROCEED)
way(Phase.TLS_ANSWER, Signal.PROCEED, Phase.OVER, say.PROCEED + say.HEADER)
way(Phase.TLS_ANSWER, Signal.TLS_FAILURE, Phase.OVER, say.TLS_FAILURE)
way(Phase.SASL, Signal.CHALLENGE, Phase.KEYS, say.SCRAM_FIRST)
way(
    Phase.SASL, Signal.CHALLENGE, Phase.SASL, say.SCRAM_FIRST,
    talk=Talk(replace(PLAN, credentials=KEYED), say.HEADER, say.OFFER_LOGIN),
)  # fmt: skip
way(Phase.SASL, Signal.CHALLENGE, Phase.OVER, say.sasl("challenge", b"x"))
way(Phase.SASL, Signal.SUCCESS, Phase.HEADER, say.SUCCESS, talk=Talk(PLAIN, say.HEADER, say.OFFER_TOKEN))
way(Phase.SASL, Signal.SUCCESS, Phase.OVER, say.SUCCESS)
way(Phase.SASL, Signal.FAILURE, Phase.OVER, say.FAILURE)
way(Phase.KEYS, Signal.FAILURE, Phase.OVER, say.FAILURE)
way(Phase.RESUME, Signal.RESUMED, Phase.LIVE, say.resumed(8))
way(Phase.RESUME, Signal.RESUMED, Phase.OVER, say.resumed(10))
way(Phase.RESUME, Signal.FAILED, Phase.BIND, say.SM_FAILED % 8)
way(
    Phase.RESUME, Signal.FAILED, Phase.OVER, say.SM_FAILED % 8,
    talk=Talk(TOKEN_RESUMING, *say.TO_LOGGED_IN, say.features("<sm xmlns='urn:xmpp:sm:3'/>")),
)  # fmt: skip
way(Phase.BIND, Signal.STANZA, Phase.BIND, say.MESSAGE)
way(Phase.BIND, Signal.STANZA, Phase.ENABLE, say.BOUND)
way(Phase.BIND, Signal.STANZA, Phase.LIVE, say.BOUND, talk=Talk(PLAIN, *say.TO_LOGGED_IN, say.OFFER_BIND))
way(Phase.BIND, Signal.STANZA, Phase.OVER, say.BIND_ERROR)
way(Phase.ENABLE, Signal.STANZA, Phase.ENABLE, say.CARBONS)
way(Phase.ENABLE, Signal.STANZA, Phase.OVER, say.MESSAGE * 257)
way(Phase.ENABLE, Signal.ENABLED, Phase.LIVE, say.ENABLED)
way(Phase.ENABLE, Signal.FAILED, Phase.LIVE, say.SM_FAILED % 0)
way(Phase.LIVE, Signal.STANZA, Phase.LIVE, say.MESSAGE)
way(Phase.LIVE, Signal.ACK, Phase.LIVE, say.acked(0))
way(Phase.LIVE, Signal.ACK, Phase.OVER, say.acked(1))
way(Phase.LIVE, Signal.ASK, Phase.LIVE, say.ASK)
way(
    Phase.LIVE, Signal.ASK, Phase.OVER, say.ASK,
    talk=Talk(PLAIN, *say.TO_LOGGED_IN, say.OFFER_BIND, say.BOUND),
)  # fmt: skip
for _phase in Phase:
    if _phase not in (Phase.OVER, Phase.TLS, Phase.HEADER):
        way(_phase, Signal.ERROR, Phase.OVER, say.ERROR)
        way(_phase, Signal.ENDED, Phase.OVER, say.END)
way(Phase.HEADER, Signal.ENDED, Phase.OVER, say.HEADER + say.END)
way(Phase.HEADER, Signal.ERROR, Phase.OVER, say.HEADER + say.ERROR)


@pytest.mark.parametrize(("phase", "signal"), TABLE)
def test_every_following_phase_is_come_to(phase: Phase, signal: Signal) -> None:
    if (phase, signal) in ((Phase.TLS, Signal.TLS_UP), (Phase.KEYS, Signal.KEYS)) or phase is Phase.TLS:
        return  # the caller's: below; and inside a handshake nothing is heard
    ways = WAYS[phase, signal]
    assert set(ways) == set(TABLE[phase, signal])
    for following, (talk, words) in ways.items():
        talk.hear(*words)
        assert talk.phase is following


def test_the_steps_of_the_caller() -> None:
    talk = reach(Phase.TLS)
    talk.stream.tls_up()
    assert (talk.phase,) == TABLE[Phase.TLS, Signal.TLS_UP]
    assert talk.stream.take().startswith(b"<?xml")
    talk = reach(Phase.SASL)
    talk.hear(say.SCRAM_FIRST)
    (needed,) = talk.facts
    assert isinstance(needed, KeysNeeded)
    talk.stream.use_keys(derive_keys("pencil", needed))
    assert (talk.phase,) == TABLE[Phase.KEYS, Signal.KEYS]
    for phase in Phase:
        if phase not in (Phase.TLS, Phase.KEYS):
            talk = reach(phase)
            talk.stream.tls_up()
            talk.stream.use_keys(derive_keys("pencil", needed))
            assert talk.phase is phase
            assert talk.stream.take() == b""


def test_a_second_opening_tag() -> None:
    for phase in (Phase.FEATURES, Phase.SASL, Phase.LIVE):
        talk = reach(phase)
        talk.hear(say.HEADER[len(b"<?xml version='1.0'?>") :], say.END)
        (failed,) = talk.facts
        assert isinstance(failed, StreamFailed)
        assert talk.phase is Phase.OVER


def test_each_signal_has_its_element() -> None:
    assert set(SIGNALS.values()) | {Signal.OPENED, Signal.ENDED, Signal.TLS_UP, Signal.KEYS} == set(Signal)
    assert not [cell for cell in TABLE if cell[0] is Phase.OVER]


@pytest.mark.parametrize(
    "raw",
    [b"<x/>", b"<message xmlns='jabber:server'/>", b"<features/>", b"<stream:message/>", b"<a xmlns='urn:xmpp:sm:2'/>"],
)
def test_elements_of_no_meaning(raw: bytes) -> None:
    for phase in (Phase.FEATURES, Phase.SASL, Phase.LIVE):
        talk = reach(phase)
        said = talk.hear(raw)
        (failed,) = talk.facts
        assert isinstance(failed, StreamFailed)
        assert failed.condition == "unsupported-stanza-type"
        assert said.endswith(b"</stream:error></stream:stream>")


def test_ends_and_errors_are_told_in_every_phase() -> None:
    for phase in Phase:
        if phase in (Phase.HEADER, Phase.TLS, Phase.OVER):
            continue
        talk = reach(phase)
        assert talk.hear(say.ERROR + say.END) == b""
        assert talk.facts == [StreamFailed("conflict", "Replaced by new connection", by_server=True)]
        talk = reach(phase)
        assert talk.hear(say.END) == b""
        assert talk.facts == [Ended()]


def test_failures_of_the_login_are_told() -> None:
    talk = reach(Phase.SASL)
    assert talk.hear(say.FAILURE) == say.END
    assert talk.facts == [AuthFailed("not-authorized", "Wrong.")]


ANY_FEATURES = [
    Features(start_tls=tls, tls_required=tls and required, mechanisms=names, bind=bind, management=sm)
    for tls, required, names, bind, sm in itertools.product(
        (False, True), (False, True), ((), ("PLAIN",)), (False, True), (False, True)
    )
]


@pytest.mark.parametrize("tls", Tls)
@pytest.mark.parametrize("secret", [False, True])
@pytest.mark.parametrize("logged_in", [False, True])
@pytest.mark.parametrize("to_resume", [False, True])
def test_every_step(tls: Tls, secret: bool, logged_in: bool, to_resume: bool) -> None:
    for offered in ANY_FEATURES:
        step = next_step(offered, tls, secret=secret, logged_in=logged_in, to_resume=to_resume)
        if secret or tls is Tls.NONE:
            assert step not in (Step.START_TLS, Step.NO_TLS)
            assert (step is Step.TLS_REQUIRED) == (not secret and offered.tls_required)
        else:
            assert step is (Step.START_TLS if offered.start_tls and tls is Tls.STARTTLS else Step.NO_TLS)
        if step is Step.LOG_IN:
            assert not logged_in
        if step in (Step.RESUME, Step.GIVE_UP_RESUMING, Step.BIND, Step.NO_BIND):
            assert logged_in
            assert (step is Step.RESUME) == (to_resume and offered.management)
            assert (step is Step.NO_BIND) == (step is not Step.RESUME and not offered.bind)
            assert (step is Step.GIVE_UP_RESUMING) == (to_resume and not offered.management and offered.bind)
