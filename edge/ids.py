"""Identifiers: short, URL-safe, unguessable.

A session id is 16 characters of URL-safe base64 (96 random bits), as is a stanza's; an edge id names host, worker and
boot.
"""

from __future__ import annotations

import secrets
import socket


def new_session_id() -> str:
    """Nearly 96 random bits, 16 characters. Never contains ``:``, so that ``<session>:<n>`` splits on the last colon,
    nor begins with ``-``, which would make it an option of whatever command it is given to."""
    while (id := secrets.token_urlsafe(12)).startswith("-"):
        pass
    return id


def new_stanza_id() -> str:
    """For a message that its sender gave none: 96 random bits, 16 characters."""
    return secrets.token_urlsafe(12)


def new_edge_id(worker: int = 0, host: str | None = None) -> str:
    """``<host>.<worker>.<boot nonce>``: a restarted process is another edge; its old sessions are taken over."""
    name = (host or socket.gethostname()).split(".")[0][:32] or "edge"
    return f"{name}.{worker}.{secrets.token_hex(4)}"
