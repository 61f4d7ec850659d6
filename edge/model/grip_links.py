"""The rules of links: where they lead, who may share an answer, when they are followed again. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urljoin, urlsplit

RETRIES = 5
"""After 1, 2, 4, 8 and 16 s, and up to a second more each: backends that restart are back by then."""
RETRY_MS = 1_000
RETRY_JITTER_MS = 1_000
PER_SECOND = 1_000
"""Requests that nobody waits for (ids that do not fit, silence on all channels) are spread so that no more than this
many leave a process in a second: a publication with a gap must not bring 10,000 holds down on a backend at once."""
SPREAD = 0.1
"""Part of a link's timeout over which holds with different links are spread."""
LEAST_TIMEOUT_S = 1.0
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class LinkKey:
    """Holds with equal keys are answered with one request. The query belongs to it: it may say whose link it is."""

    route: str
    uri: str
    last_ids: Sequence[tuple[str, str]]


def link_key(route: str, uri: str, last_ids: Sequence[tuple[str, str]]) -> LinkKey:
    return LinkKey(route, uri, tuple(sorted(last_ids)))


def resolve(base: str, link: str) -> str | None:
    """The absolute address of `link` in an answer of `base`; None when it is no address of this kind of service."""
    try:
        joined = urljoin(base, link)
        parts = urlsplit(joined)
        if parts.scheme not in _PORTS or not parts.hostname or parts.port == 0:
            return None
    except ValueError:
        return None
    # Escaped as a browser would: what stands in a request line must not end it.
    return quote(parts._replace(fragment="").geturl(), safe="%/:=&?~#+!$,;'@()*[]")


def same_service(uri: str, base: str) -> bool:
    """Whether `uri` leads to where `base` came in, so that its route serves it without a way through the network.

    The same scheme, host and port; or the same host at the usual ports of http and https: where TLS ends in front of
    the edge, only the backend knows of it.
    """
    one, other = urlsplit(uri), urlsplit(base)
    if (one.hostname or "").lower() != (other.hostname or "").lower():
        return False
    if one.scheme == other.scheme:
        return _port(one) == _port(other)
    return _port(one) == _PORTS[one.scheme] and _port(other) == _PORTS.get(other.scheme)


def _port(parts: SplitResult) -> int | None:
    return parts.port or _PORTS.get(parts.scheme)


def retry_ms(attempt: int, random: float) -> int:
    """The pause after the failure of number `attempt` (from 0). `random` is in [0, 1)."""
    return (RETRY_MS << attempt) + int(random * RETRY_JITTER_MS)


def idle_due_ms(now_ms: int, timeout_s: float, key: LinkKey) -> int:
    """When a hold that hears nothing follows its link: after `timeout_s`, and up to a tenth more.

    Holds with the same link come at the same moments, whenever they began, so that one request does for all; those
    with different links are spread evenly by what these say.
    """
    timeout_ms = int(max(timeout_s, LEAST_TIMEOUT_S) * 1_000)
    earliest = now_ms + timeout_ms
    period = max(1, int(timeout_ms * SPREAD))
    phase = zlib.crc32(repr((key.route, key.uri)).encode()) % period
    return earliest + (phase - earliest) % period


def last_id_field(name: str, last_id: str) -> str:
    """The value of one Grip-Last field."""
    return f"{_token(name)}; last-id={_token(last_id)}"


def _token(text: str) -> str:
    """As it is, where that can be read back; else quoted. What would end the line is left out."""
    text = "".join(each for each in text if each >= " " and each != "\x7f")
    if any(each in ';,"' for each in text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text
