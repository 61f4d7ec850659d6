"""`Holdfast-Signature`: made by edges, checked by backends.

``t=<unix s>,v1=<hex HMAC-SHA256(secret, "<t>." + body)>``, one `v1` per active secret, so that either side can rotate
first. Source: edge/protocol/callbacks/SPEC.md, "The request".
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from backend_sdk.errors import BadSignature

HEADER = "Holdfast-Signature"
_MOST_SIGNATURES = 8  # bounds the work for a header full of v1


def digest(secret: bytes, t: int, body: bytes) -> str:
    """Hex HMAC-SHA256 of ``<t>.`` + `body`."""
    return hmac.digest(secret, b"%d." % t + body, "sha256").hex()


def sign(secrets: Sequence[bytes], t: int, body: bytes) -> str:
    """The header's value at unix second `t`, one `v1` for each of `secrets`."""
    return ",".join([f"t={t}", *(f"v1={digest(secret, t, body)}" for secret in secrets)])


def verify(secrets: Sequence[bytes], header: str | None, body: bytes, now: float, window_s: float) -> None:
    """Raises `BadSignature`, saying which part failed, unless one of `secrets` signed `body` less than `window_s`
    seconds from `now`. Every signature is compared with every secret in constant time."""
    if header is None:
        raise BadSignature("the header is missing")
    t, signatures = _parse(header)
    if now - t > window_s:
        raise BadSignature(f"too old: made {now - t:.0f} s ago, at most {window_s:g} s are accepted")
    if t - now > window_s:
        raise BadSignature(f"made {t - now:.0f} s in the future, at most {window_s:g} s are accepted; check the clocks")
    matches = 0
    for secret in secrets:
        expected = digest(secret, t, body).encode()
        for signature in signatures:
            matches += hmac.compare_digest(expected, signature)
    if not matches:
        raise BadSignature("no v1 signature matches a secret of this backend")


def _parse(header: str) -> tuple[int, list[bytes]]:
    """``t`` and the `v1` values; other schemes are left to who knows them."""
    times: list[str] = []
    signatures: list[bytes] = []
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            times.append(value)
        elif name == "v1":
            signatures.append(value.encode("utf-8", "surrogateescape"))
    if len(times) != 1 or not times[0].isascii() or not times[0].isdigit() or len(times[0]) > 15:
        raise BadSignature("malformed: it needs one t=<unix seconds>")
    if not 0 < len(signatures) <= _MOST_SIGNATURES:
        raise BadSignature(f"malformed: it needs 1 to {_MOST_SIGNATURES} v1=<hex> signatures")
    return int(times[0]), signatures
