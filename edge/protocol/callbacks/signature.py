"""The `Holdfast-Signature` header: ``t=<unix s>,v1=<hex HMAC-SHA256(secret, "<t>." + body)>``, one ``v1`` per
active secret (two while rotating), newest first. A backend accepts when any of them is right and `t` is recent.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence


def sign(secrets: Sequence[bytes], body: bytes, now_s: int) -> str:
    """The header's value for `body`, signed with each of `secrets` at `now_s` (seconds since the epoch)."""
    stamp = str(now_s)
    message = stamp.encode() + b"." + body
    parts = [f"t={stamp}"]
    parts.extend(f"v1={hmac.digest(secret, message, 'sha256').hex()}" for secret in secrets)
    return ",".join(parts)
