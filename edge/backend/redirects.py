"""What to say of a backend that answers with a redirect. It is never followed: backend URLs come from configuration."""

from __future__ import annotations

from urllib.parse import urljoin

from edge.backend.dialer import Target
from edge.backend.http11 import Answer

SHOWN_CHARS = 300
"""Of the address in the answer, which is the backend's own word."""


def advice(answer: Answer, target: Target) -> str:
    """What came back, from where, and what to set. Frameworks redirect to add a slash (``/edge`` to ``/edge/``)."""
    asked = f"{'https' if target.tls else 'http'}://{target.authority}{target.path}"
    said = answer.header(b"location")
    try:
        where = urljoin(asked, said) if said.isprintable() else ""
    except ValueError:
        where = ""
    goal = f"requests go to {where[:SHOWN_CHARS]}" if said and where else "requests go to the final URL"
    return f"status {answer.status} from {asked}; set callback_path so that {goal}"
