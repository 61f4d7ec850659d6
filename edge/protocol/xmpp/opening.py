"""The opening of a client's stream, doing what `edge.protocol.xmpp.negotiation` decides: TLS by upgrade, the login,
resuming or binding. It holds the credentials, and is dropped with them as soon as stanzas flow.
"""

from __future__ import annotations

from collections.abc import Callable

from edge.errors import WireError
from edge.protocol.xmpp import names, phrases
from edge.protocol.xmpp.credentials import ScramKeys
from edge.protocol.xmpp.element import Element
from edge.protocol.xmpp.framing import Framer, Opened
from edge.protocol.xmpp.jid import parse_jid
from edge.protocol.xmpp.negotiation import Features, Phase, Signal, Step, Tls, next_step, read_features
from edge.protocol.xmpp.sasl import KeysNeeded, Mechanism, SaslError, Scram, begin, choose, decode
from edge.protocol.xmpp.stream_facts import (
    Connected,
    Fact,
    Resumed,
    ResumeFailed,
    StanzaReceived,
    StreamPlan,
    TlsWanted,
)
from edge.protocol.xmpp.stream_management import CountError, SavedStream, StreamManagement, read_count

_EARLY_STANZAS = 256
"""What a server may send between bind and the answer to ``<enable/>``; as a rule it is nothing."""


class OpeningFailed(WireError):
    """The stream cannot be opened; `condition` as in `StreamFailed`."""

    def __init__(self, condition: str, text: str, *, by_server: bool = False, silent: bool = False) -> None:
        self.condition = condition
        self.text = text
        self.by_server = by_server
        self.silent = silent
        """Nothing is to be said any more."""
        super().__init__(f"{condition}: {text}")


class Opening:
    """A stream that is not live. What it does is to be read from `out`, `facts`, `management` and `features`."""

    __slots__ = (
        "_early", "_framer", "_jid", "_logged_in", "_login", "_nonce", "_plan", "_secret", "facts", "features",
        "management", "mechanism", "out",
    )  # fmt: skip

    def __init__(self, plan: StreamPlan, nonce: Callable[[], str], framer: Framer) -> None:
        self._plan = plan
        self._nonce = nonce
        self._framer = framer
        self._secret = plan.tls is Tls.DIRECT
        self._logged_in = False
        self._login: Mechanism | None = None
        self._jid = ""
        self._early: list[StanzaReceived] = []
        self.mechanism = ""
        self.features = Features()
        self.management = StreamManagement(plan.resume) if plan.resume is not None else None
        self.facts: list[Fact] = []
        self.out = phrases.header(plan.domain)

    @property
    def waits_for_s(self) -> float:
        """How long all of it may take."""
        return self._plan.negotiation_s

    def opened(self, opened: Opened) -> Phase:
        """The server's opening tag. Raises OpeningFailed."""
        if opened.name != "stream" or opened.namespace != names.STREAMS:
            raise OpeningFailed("invalid-namespace", "the server does not speak XMPP")
        if not opened.attributes.get("version", "").startswith("1."):
            raise OpeningFailed("unsupported-version", "the server's XMPP is older than version 1.0")
        return Phase.FEATURES

    def tls_up(self) -> Phase:
        """The handshake is done."""
        self._secret = True
        return self._begin()

    def use_keys(self, keys: ScramKeys) -> Phase:
        """They have been made."""
        assert isinstance(self._login, Scram)
        self.out += phrases.response(self._login.use(keys))
        return Phase.SASL

    def follow(self, signal: Signal, element: Element, phase: Phase) -> Phase:
        """Do what was heard asks for. The phase after it. Raises SaslError, CountError and OpeningFailed."""
        match signal:
            case Signal.FEATURES:
                self.features = read_features(element)
                return self._step(to_resume=self.management is not None)
            case Signal.PROCEED:
                return self._proceed()
            case Signal.TLS_FAILURE:
                raise OpeningFailed("tls-refused", "the server cannot do TLS now", by_server=True)
            case Signal.CHALLENGE | Signal.SUCCESS | Signal.FAILURE:
                return self._sasl(signal, element)
            case Signal.RESUMED:
                return self._resumed(element)
            case Signal.FAILED:
                return self._management_failed(element, phase)
            case Signal.ENABLED:
                return self._enabled(element)
            case _:
                return self._stanza(element, phase)

    def _begin(self) -> Phase:
        """A new stream in the same connection."""
        self._framer.restart()
        self.out += phrases.header(self._plan.domain)
        return Phase.HEADER

    def _step(self, to_resume: bool) -> Phase:
        plan = self._plan
        step = next_step(self.features, plan.tls, secret=self._secret, logged_in=self._logged_in, to_resume=to_resume)
        match step:
            case Step.START_TLS:
                self.out += phrases.START_TLS
                return Phase.TLS_ANSWER
            case Step.LOG_IN:
                return self._log_in()
            case Step.RESUME:
                assert self.management is not None
                self.out += phrases.resume(self.management.id, self.management.received)
                return Phase.RESUME
            case Step.GIVE_UP_RESUMING:
                self._forget_session(None)
            case Step.NO_TLS:
                raise OpeningFailed("tls-not-offered", "the server does not offer TLS, and the settings ask for it")
            case Step.TLS_REQUIRED:
                raise OpeningFailed("tls-not-offered", "the server requires TLS, and the settings forbid it")
            case Step.NO_BIND:
                raise OpeningFailed("bind-refused", "the server does not offer to bind a resource")
            case Step.BIND:
                pass
        self.out += phrases.bind(plan.resource)
        return Phase.BIND

    def _proceed(self) -> Phase:
        if self._framer.unread:
            # Somebody in the middle may have written them, to be taken for the server's when TLS is on.
            raise OpeningFailed("policy-violation", "bytes in the clear after <proceed/>", silent=True)
        self.facts.append(TlsWanted())
        return Phase.TLS

    def _log_in(self) -> Phase:
        plan = self._plan
        name = choose(
            self.features.mechanisms,
            plan.credentials,
            may_be_bare=self._secret or plan.bare_without_tls,
            pinned=plan.pinned,
        )
        try:
            self._login = begin(name, plan.credentials, self._nonce)
            initial = self._login.start()
        except SaslError:
            raise
        except WireError as error:
            raise SaslError("malformed-request", str(error)) from None
        self.mechanism = name
        self.out += phrases.auth(name, initial)
        return Phase.SASL

    def _sasl(self, signal: Signal, element: Element) -> Phase:
        if signal is Signal.FAILURE:
            condition, text = condition_of(element, names.SASL)
            raise SaslError(condition or "not-authorized", text)
        assert self._login is not None
        data = element.text().strip()
        said = b"" if data == "=" else decode(data)
        if signal is Signal.CHALLENGE:
            answer = self._login.answer(said)
            if isinstance(answer, KeysNeeded):
                self.facts.append(answer)
                return Phase.KEYS
            self.out += phrases.response(answer)
            return Phase.SASL
        self._login.finish(said)
        self._logged_in = True
        self._login = None
        return self._begin()

    def _resumed(self, element: Element) -> Phase:
        management = self.management
        assert management is not None
        h = read_count(element.attributes.get("h", ""))
        management.acknowledge(h)
        again = management.unacked
        self.out += b"".join(again)
        self.facts.append(Resumed(h, len(again)))
        return Phase.LIVE

    def _management_failed(self, element: Element, phase: Phase) -> Phase:
        if phase is Phase.ENABLE:
            self.management = None
            return self._connected()
        try:
            h: int | None = read_count(element.attributes.get("h", ""))
        except CountError:
            h = None
        self._forget_session(h)
        return self._step(to_resume=False)

    def _forget_session(self, h: int | None) -> None:
        management, self.management = self.management, None
        assert management is not None
        if h is not None:
            try:
                management.acknowledge(h)
            except CountError:  # another session's count: as good as none
                h = None
        self.facts.append(ResumeFailed(h, management.unacked))

    def _bound(self, answer: Element) -> Phase:
        bound = answer.child("bind", names.BIND)
        jid = bound.child("jid") if bound is not None else None
        if answer.attributes.get("type") != "result" or jid is None:
            failure = answer.child("error")
            condition, text = condition_of(failure, names.STANZA_ERRORS) if failure is not None else ("", "")
            raise OpeningFailed("bind-refused", " ".join(filter(None, (condition, text))), by_server=True)
        try:
            self._jid = str(parse_jid(jid.text()))
        except WireError as error:
            raise OpeningFailed("bind-refused", f"the server bound what is no address: {error}") from None
        # Before <enable/>: nothing is counted yet, so nothing needs to be durable.
        if self._plan.carbons:
            self.out += phrases.CARBONS
        if not self.features.management:
            return self._connected()
        self.out += phrases.enable(self._plan.resume_max_s)
        return Phase.ENABLE

    def _enabled(self, element: Element) -> Phase:
        given = element.attributes
        resumable = given.get("resume") in ("true", "1") and bool(given.get("id"))
        seconds = given.get("max", "")
        self.management = StreamManagement(
            SavedStream(
                id=given["id"] if resumable else "",
                received=0,
                base=0,
                unacked=(),
                max_s=int(seconds) if seconds.isascii() and seconds.isdigit() and len(seconds) < 10 else None,
                location=given.get("location", ""),
            )
        )
        return self._connected()

    def _connected(self) -> Phase:
        counts = self.management
        if counts is None:
            self.facts.append(Connected(self._jid, False, "", None, ""))
        else:
            self.facts.append(Connected(self._jid, bool(counts.id), counts.id, counts.max_s, counts.location))
        self.facts += self._early
        self._early = []
        return Phase.LIVE

    def _stanza(self, element: Element, phase: Phase) -> Phase:
        given = element.attributes
        if phase is Phase.BIND and element.name == "iq" and given.get("id") == phrases.BIND_ID:
            return self._bound(element)
        if len(self._early) >= _EARLY_STANZAS:
            raise OpeningFailed("policy-violation", "the server sends stanzas and no answer")
        if not phrases.answers_us(element):
            self._early.append(StanzaReceived(element, 0))
        return phase


def condition_of(element: Element, namespace: str) -> tuple[str, str]:
    """The defined condition in an error, and the text beside it; of see-other-host, the text in it."""
    condition = text = ""
    for child in element.children():
        if child.namespace != namespace:
            continue
        if child.name == "text":
            text = child.text()
        elif not condition:
            condition = child.name
            text = text or child.text()
    return condition, text
