"""Header fields of a WebSocket-over-HTTP answer: what they say besides the events in its body."""

from __future__ import annotations

from collections.abc import Sequence

from edge.facts import fact
from edge.protocol.callbacks.events import Headers
from edge.protocol.grip.socket_events import EVENTS_TYPE

_TYPE, _INTERVAL, _ACCEPTED = 1, 2, 3
_NAMES = {b"content-type": _TYPE, b"keep-alive-interval": _INTERVAL, b"content-bytes-accepted": _ACCEPTED}
_SET_META = b"set-meta-"
_OTHERS = (
    b"Date", b"Server", b"Content-Length", b"Connection", b"Keep-Alive", b"Transfer-Encoding", b"Vary", b"Allow",
    b"X-Frame-Options", b"X-Content-Type-Options", b"Referrer-Policy", b"Cross-Origin-Opener-Policy", b"X-Powered-By",
)  # fmt: skip
_COMMON = {
    **{spelt: which for name, which in _NAMES.items() for spelt in (name, name.title())},
    **{spelt: 0 for name in _OTHERS for spelt in (name, name.lower())},
}
"""Names as servers usually write them: one look-up, instead of folding each name of each answer. 0: says nothing."""
_EVENTS_TYPE = EVENTS_TYPE.encode()


@fact
class AnswerFields:
    """`events`: the content type is exactly that of events (parameters are not tolerated, as in Pushpin).
    `interval_s` of Keep-Alive-Interval: None: not said; 0: no more polls. `accepted` of Content-Bytes-Accepted; None:
    everything. `meta`: Set-Meta-*, names without that; an empty value forgets."""

    events: bool = True
    interval_s: int | None = None
    accepted: int | None = None
    meta: Headers = ()


PLAIN = AnswerFields()
"""Events, and nothing else is said: nearly every answer."""


def answer_fields(headers: Sequence[tuple[bytes, bytes]]) -> AnswerFields:
    """What the headers of an answer say. Of a repeated field the first counts."""
    events, interval_s, accepted = None, None, None
    meta: list[tuple[str, str]] | None = None
    for name, value in headers:
        which = _COMMON.get(name)
        if which == 0:
            continue
        if which is None:
            folded = name.lower()
            if folded.startswith(_SET_META) and len(folded) > len(_SET_META):
                meta = meta or []
                meta.append((name[len(_SET_META) :].decode("latin-1"), value.decode("latin-1")))
            which = _NAMES.get(folded, 0)
        if which == _TYPE and events is None:
            events = value == _EVENTS_TYPE
        elif which == _INTERVAL and interval_s is None:
            interval_s = _number(value) or 0
        elif which == _ACCEPTED and accepted is None:
            accepted = _number(value)
    if events and interval_s is None and accepted is None and meta is None:
        return PLAIN
    return AnswerFields(bool(events), interval_s, accepted, tuple(meta) if meta else ())


def _number(value: bytes) -> int | None:
    """A whole number of at most nine digits; None for anything else."""
    value = value.strip()
    return int(value) if value.isdigit() and len(value) < 10 else None
