"""Where tabs are told things and in what form, and which texts are taken from tabs and contacts."""

from __future__ import annotations

import json
import os
import re
from typing import Any

MARKERS = "urn:xmpp:chat-markers:0"
"""XEP-0333: who has seen what."""

NAME_LENGTH = 255
"""Longest id of an order or a publication, in characters."""

ADDRESS_LENGTH = 190
_ADDRESS = re.compile(r"[^\s@/\"&'<>:\0-\x1f\x7f]+@[^\s@/\"&'<>:\0-\x1f\x7f]+")


def talk(link: str) -> str:
    """The channel of what is said; holdfast.toml gives its prefix a history."""
    return f"talk:{link}"


def people(link: str) -> str:
    """The channel of who is there and how the link is: without history, for only now counts."""
    return f"people:{link}"


def bare(jid: str) -> str:
    return jid.partition("/")[0]


def is_address(jid: str) -> bool:
    return len(jid) <= ADDRESS_LENGTH and _ADDRESS.fullmatch(jid) is not None and is_text(jid, ADDRESS_LENGTH)


def is_text(text: str, longest: int) -> bool:
    """Whether this is some text, not too long, that can be written as UTF-8: JSON can name half characters."""
    return bool(text.strip()) and len(text) <= longest and not any("\ud800" <= char <= "\udfff" for char in text)


def pack(message: dict[str, Any]) -> str:
    """Each answer names the process that gave it: the only thing here that differs from process to process."""
    return json.dumps({**message, "process": os.getpid()}, ensure_ascii=False)


def understand(payload: str | bytes) -> object:
    """What the tab sent, or None. Never raise about input: an exception means "try again later" to the edge."""
    try:
        return json.loads(payload)
    except ValueError:
        return None
