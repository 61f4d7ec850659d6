"""Signatures: what the edge writes and what a backend accepts (spec: HMAC-SHA256 over ``<t>.`` + body)."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

NOW = 1_790_000_000
BODY = b'{"edge": "edge-1", "events": []}'
NEW, OLD, WRONG = "new-secret", "old-sécret", "wrong"


def v1(secret: str, t: int, body: bytes = BODY) -> str:
    return hmac.new(secret.encode(), f"{t}.".encode() + body, hashlib.sha256).hexdigest()


def header(t: int, *secrets: str, body: bytes = BODY) -> str:
    return ",".join([f"t={t}", *(f"v1={v1(secret, t, body)}" for secret in secrets)])


def signatures() -> dict[str, Any]:
    binary = bytes(range(256))
    signing = [([NEW], NOW, BODY), ([NEW, OLD], NOW, BODY), ([OLD], NOW + 1, b""), ([NEW, OLD], NOW, binary)]

    def check(name: str, sent: str | None, names: str = "", **more: Any) -> dict[str, Any]:
        return {
            "name": name,
            "secrets": [NEW],
            "now": NOW,
            "window_s": 300,
            "header": sent,
            "body_hex": BODY.hex(),
            "ok": not names,
            "names": names,
        } | more

    right = header(NOW, NEW)
    return {
        "signing": [
            {"secrets": secrets, "t": t, "body_hex": body.hex(), "header": header(t, *secrets, body=body)}
            for secrets, t, body in signing
        ],
        "checking": [
            check("one secret", right),
            check("the edge rotates: signs with both, the backend has the new one", header(NOW, NEW, OLD)),
            check("the same, the backend has the old one", header(NOW, NEW, OLD), secrets=[OLD]),
            check(
                "the backend rotates: has both, the edge signs with the old one",
                header(NOW, OLD),
                secrets=[NEW, OLD],
            ),
            check("spaces after the commas", right.replace(",", ", ")),
            check("an unknown scheme beside v1", right + ",v2=00"),
            check("as old as the window", header(NOW - 300, NEW)),
            check("as far ahead as the window", header(NOW + 300, NEW)),
            check("no header", None, "missing"),
            check("an empty header", "", "malformed"),
            check("no t", right.split(",")[1], "malformed"),
            check("no v1", f"t={NOW}", "malformed"),
            check("t is no number", right.replace(f"t={NOW}", "t=soon"), "malformed"),
            check("t is signed twice over", f"t={NOW + 1}," + right, "malformed"),
            check("too old", header(NOW - 301, NEW), "too old"),
            check("too far ahead", header(NOW + 301, NEW), "future"),
            check("another secret", header(NOW, WRONG), "match"),
            check("another time than was signed", right.replace(f"t={NOW}", f"t={NOW - 1}"), "match"),
            check("another body", right, "match", body_hex=(BODY + b" ").hex()),
            check("a shortened signature", right[:-2], "match"),
            check("a signature that is not ASCII", right[:-1] + "é", "match"),
        ],
    }
