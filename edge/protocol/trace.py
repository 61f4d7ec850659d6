"""W3C trace context: the `traceparent` header (https://www.w3.org/TR/trace-context/, level 1).

The edge keeps no spans. It passes on, or begins, a trace, so that a backend's spans hang together with what the client
or the proxy in front began.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from edge.protocol.callbacks.events import Headers, Open, Parcel

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")
"""Section 3.2: version-traceid-parentid-flags, lower case, neither id all zero, version ff is forbidden. Later versions
may append fields; what stands before them means the same."""


def traceparent(parcels: Sequence[Parcel], fresh: bytes) -> str:
    """The header of a request that carries `parcels`. `fresh` is 24 random bytes: trace id, then parent id.

    A handshake that travels alone goes on with the trace in its own `traceparent`. Anything else begins a new one: a
    batch belongs to many traces, and a message on a WebSocket to none.
    """
    parent = fresh[16:24].hex()
    if len(parcels) == 1 and parcels[0].events and type(opened := parcels[0].events[0]) is Open:
        found = _found(opened.request.headers)
        if found is not None:
            return f"00-{found[1]}-{parent}-{found[2]}"
    return f"00-{fresh[:16].hex()}-{parent}-01"


def _found(headers: Headers) -> re.Match[str] | None:
    """The client's trace context, when it sent exactly one (section 3.2: with two of them, none counts)."""
    values = [value.strip() for name, value in headers if name.lower() == "traceparent"]
    return _TRACEPARENT.match(values[0]) if len(values) == 1 else None
