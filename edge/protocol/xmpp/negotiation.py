"""How a client's stream comes to life (RFC 6120 §4.3, XEP-0198 §5), as tables: what may be heard when, and what to do
about what the server offers. `edge.protocol.xmpp.stream` does it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edge.protocol.xmpp import names
from edge.protocol.xmpp.element import Element


class Tls(enum.Enum):
    """How a connection is to be made secret."""

    DIRECT = "direct"
    """From the first byte (XEP-0368); the caller has done it before the stream begins."""
    STARTTLS = "starttls"
    """By upgrade; a server that does not offer it gets nothing."""
    NONE = "none"
    """Not at all: for a server on the same machine."""


class Phase(enum.Enum):
    """What a stream is waiting for."""

    HEADER = "the server's opening tag"
    FEATURES = "the server's features"
    TLS_ANSWER = "the answer to <starttls/>"
    TLS = "the TLS handshake"
    SASL = "the login"
    KEYS = "keys made of the password"
    RESUME = "the answer to <resume/>"
    BIND = "the answer to bind"
    ENABLE = "the answer to <enable/>"
    LIVE = "nothing: stanzas flow"
    OVER = "nothing: it has ended"


class Signal(enum.Enum):
    """What moves a stream on."""

    OPENED = enum.auto()
    FEATURES = enum.auto()
    PROCEED = enum.auto()
    TLS_FAILURE = enum.auto()
    TLS_UP = enum.auto()
    """The caller has done the handshake."""
    CHALLENGE = enum.auto()
    KEYS = enum.auto()
    """The caller has made the keys."""
    SUCCESS = enum.auto()
    FAILURE = enum.auto()
    RESUMED = enum.auto()
    FAILED = enum.auto()
    ENABLED = enum.auto()
    STANZA = enum.auto()
    ACK = enum.auto()
    ASK = enum.auto()
    ERROR = enum.auto()
    ENDED = enum.auto()


SIGNALS: Final[Mapping[tuple[str, str], Signal]] = {
    (names.STREAMS, "features"): Signal.FEATURES,
    (names.STREAMS, "error"): Signal.ERROR,
    (names.TLS, "proceed"): Signal.PROCEED,
    (names.TLS, "failure"): Signal.TLS_FAILURE,
    (names.SASL, "challenge"): Signal.CHALLENGE,
    (names.SASL, "success"): Signal.SUCCESS,
    (names.SASL, "failure"): Signal.FAILURE,
    (names.MANAGEMENT, "resumed"): Signal.RESUMED,
    (names.MANAGEMENT, "failed"): Signal.FAILED,
    (names.MANAGEMENT, "enabled"): Signal.ENABLED,
    (names.MANAGEMENT, "a"): Signal.ACK,
    (names.MANAGEMENT, "r"): Signal.ASK,
    (names.CLIENT, "message"): Signal.STANZA,
    (names.CLIENT, "presence"): Signal.STANZA,
    (names.CLIENT, "iq"): Signal.STANZA,
}
"""Elements by namespace and name. Any other is an error of the server's (RFC 6120 §4.9.3.24)."""

_P, _S = Phase, Signal
_CELLS: Mapping[tuple[Phase, Signal], tuple[Phase, ...]] = {
    (_P.HEADER, _S.OPENED): (_P.FEATURES, _P.OVER),
    (_P.FEATURES, _S.FEATURES): (_P.TLS_ANSWER, _P.SASL, _P.RESUME, _P.BIND, _P.OVER),
    (_P.TLS_ANSWER, _S.PROCEED): (_P.TLS, _P.OVER),
    (_P.TLS_ANSWER, _S.TLS_FAILURE): (_P.OVER,),
    (_P.TLS, _S.TLS_UP): (_P.HEADER,),
    (_P.SASL, _S.CHALLENGE): (_P.SASL, _P.KEYS, _P.OVER),
    (_P.SASL, _S.SUCCESS): (_P.HEADER, _P.OVER),
    (_P.SASL, _S.FAILURE): (_P.OVER,),
    (_P.KEYS, _S.KEYS): (_P.SASL,),
    (_P.KEYS, _S.FAILURE): (_P.OVER,),  # we took too long
    (_P.RESUME, _S.RESUMED): (_P.LIVE, _P.OVER),
    (_P.RESUME, _S.FAILED): (_P.BIND, _P.OVER),
    (_P.BIND, _S.STANZA): (_P.BIND, _P.ENABLE, _P.LIVE, _P.OVER),
    (_P.ENABLE, _S.STANZA): (_P.ENABLE, _P.OVER),
    (_P.ENABLE, _S.ENABLED): (_P.LIVE,),
    (_P.ENABLE, _S.FAILED): (_P.LIVE,),
    (_P.LIVE, _S.STANZA): (_P.LIVE,),
    (_P.LIVE, _S.ACK): (_P.LIVE, _P.OVER),
    (_P.LIVE, _S.ASK): (_P.LIVE, _P.OVER),
}
TABLE: Final[Mapping[tuple[Phase, Signal], tuple[Phase, ...]]] = {
    **_CELLS,
    **{
        (phase, end): (Phase.OVER,)
        for phase in Phase
        for end in (Signal.ERROR, Signal.ENDED)
        if phase is not Phase.OVER
    },
}
"""Where a signal leads from a phase. A pair that is not here breaks the protocol."""


@dataclass(frozen=True, slots=True)
class Features:
    """What the server offers now."""

    start_tls: bool = False
    tls_required: bool = False
    mechanisms: tuple[str, ...] = ()
    bind: bool = False
    management: bool = False
    client_state: bool = False


def read_features(element: Element) -> Features:
    """From ``<stream:features/>``."""
    found = {(child.namespace, child.name): child for child in element.children()}
    tls = found.get((names.TLS, "starttls"))
    mechanisms = found.get((names.SASL, "mechanisms"))
    return Features(
        start_tls=tls is not None,
        tls_required=tls is not None and tls.child("required") is not None,
        mechanisms=tuple(
            child.text().strip() for child in mechanisms.children() if child.name == "mechanism"
        ) if mechanisms is not None else (),
        bind=(names.BIND, "bind") in found,
        management=(names.MANAGEMENT, "sm") in found,
        client_state=(names.CLIENT_STATE, "csi") in found,
    )  # fmt: skip


class Step(enum.Enum):
    """What to do about features."""

    START_TLS = enum.auto()
    LOG_IN = enum.auto()
    RESUME = enum.auto()
    GIVE_UP_RESUMING = enum.auto()
    """And bind: there is a stream to resume, but this server does not know how."""
    BIND = enum.auto()
    NO_TLS = enum.auto()
    """End it: TLS is wanted, and not offered."""
    TLS_REQUIRED = enum.auto()
    """End it: the server wants TLS, the settings do not."""
    NO_BIND = enum.auto()
    """End it: this is no server for clients."""


def next_step(offered: Features, tls: Tls, *, secret: bool, logged_in: bool, to_resume: bool) -> Step:
    """`secret`: TLS is on; `to_resume`: there is a stream to resume."""
    if not secret:
        # What else is offered in the clear does not matter: somebody in the middle may have written it.
        if tls is not Tls.NONE:
            return Step.START_TLS if offered.start_tls and tls is Tls.STARTTLS else Step.NO_TLS
        if offered.tls_required:
            return Step.TLS_REQUIRED
    if not logged_in:
        return Step.LOG_IN
    if to_resume and offered.management:
        return Step.RESUME
    if not offered.bind:
        return Step.NO_BIND
    return Step.GIVE_UP_RESUMING if to_resume else Step.BIND
