"""A new session at the server, and what becomes of what the old one left unacknowledged.

A message that the old session certainly did not have is sent again, with the time it was meant for. One of which nobody
knows is not: twice is as bad as never where people talk, and the backend is told which ones. Presence and answers to
requests made sense in the old session only; the requests themselves end as ``session_lost``.

A component has no session, and nobody counts for it: what may not have arrived is said again, always.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from edge.protocol.xmpp.outgoing import delayed
from edge.protocol.xmpp.stream_management import ahead
from edge.store.links_base import Stanza

_NAME = re.compile(rb"<(?:[^\s:/>]+:)?([^\s/>]+)")
"""Of an element, without the prefix that a backend may have given it."""


@dataclass(frozen=True, slots=True)
class Remains:
    """`again`: to be sent in the new session, the first `resent` of them for the second time. `unknown`: ids of
    messages that may or may not have arrived. `dropped`: ids of stanzas that certainly did not, and are not sent."""

    again: Sequence[Stanza]
    resent: int
    unknown: Sequence[str]
    dropped: Sequence[str]


def sort_out(unacked: Sequence[Stanza], base: int, h: int | None, written: int, jid: str) -> Remains:
    """`unacked` follow the count `base`; the first `written` of them may have been written to the old session, the
    others never were. `h`: what the old session had of ours, if the server says."""
    handled = ahead(h, base) if h is not None else 0
    certain = h is not None and handled <= len(unacked)
    again: list[Stanza] = []
    unknown: list[str] = []
    dropped: list[str] = []
    resent = 0
    for index, stanza in enumerate(unacked):
        if certain and index < handled:
            continue
        if index >= written:
            again.append(stanza)  # nobody has seen it: as good as new
        elif not _is(b"message", stanza):
            if not _is(b"iq", stanza):
                dropped.append(stanza.action_id)
        elif certain:
            again.append(Stanza(delayed(stanza.raw, stamp(stanza.at), jid), stanza.at, stanza.action_id))
            resent += 1
        else:
            unknown.append(stanza.action_id)
    return Remains(again, resent, [id for id in unknown if id], [id for id in dropped if id])


def said_again(unacked: Iterable[Stanza], written: int, domain: str) -> tuple[bytes, ...]:
    """A component's, for its next stream. Messages among the first `written` may come twice, and say when they were
    meant."""
    return tuple(
        delayed(stanza.raw, stamp(stanza.at), domain) if index < written and _is(b"message", stanza) else stanza.raw
        for index, stanza in enumerate(unacked)
    )


def _is(name: bytes, stanza: Stanza) -> bool:
    found = _NAME.match(stanza.raw)
    return found is not None and found[1] == name


def stamp(wall_ms: int) -> str:
    """A time as XEP-0082 writes it."""
    return datetime.fromtimestamp(wall_ms / 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
