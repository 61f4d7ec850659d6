"""The Lua scripts: one file, one operation. Loaded on every new connection, called by their SHA1."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """One operation: its name, source, and the SHA1 Redis knows it by."""

    name: str
    source: bytes
    sha: str


def _load(name: str, *, head: str = "") -> Script:
    """`head` names a file whose lines stand before the script's own."""
    folder = resources.files("edge.store").joinpath("lua")
    source = b"".join(folder.joinpath(f"{part}.lua").read_bytes() for part in (head, name) if part)
    # SHA1 is Redis's name for a script, not a safeguard.
    return Script(name, source, hashlib.sha1(source, usedforsecurity=False).hexdigest())


REGISTER = _load("register")
COMMIT = _load("commit")
FORGET = _load("forget")
INHERIT = _load("inherit")
PUBLISH = _load("publish")
HISTORY = _load("history")
RENEW = _load("renew")
RELEASE = _load("release")
EDGES = _load("edges")
LAPSED = _load("lapsed")
CLAIM = _load("claim")
BURY = _load("bury")
MAIL = _load("mail")

LINK_CONNECT = _load("link_connect")
LINK_CLAIM = _load("link_claim")
LINK_IN = _load("link_in", head="link_head")
LINK_TAKE = _load("link_take", head="link_head")
LINK_DONE = _load("link_done", head="link_head")
LINK_OUT = _load("link_out", head="link_head")
LINK_ACK = _load("link_ack", head="link_head")
LINK_ENABLED = _load("link_enabled", head="link_head")
LINK_SAVE = _load("link_save", head="link_head")
LINK_RELEASE = _load("link_release", head="link_head")
LINK_FORGET = _load("link_forget")
LINK_RESTORE = _load("link_restore")
CONDEMN = _load("condemn")

RELEASE_TABLE = _load("release_table")
OFFICE = _load("office")

ALL = (
    REGISTER, COMMIT, FORGET, INHERIT, PUBLISH, HISTORY, RENEW, RELEASE, EDGES, LAPSED, CLAIM, BURY, MAIL,
    LINK_CONNECT, LINK_CLAIM, LINK_IN, LINK_TAKE, LINK_DONE, LINK_OUT, LINK_ACK, LINK_ENABLED, LINK_SAVE, LINK_RELEASE,
    LINK_FORGET, LINK_RESTORE, CONDEMN, RELEASE_TABLE, OFFICE,
)  # fmt: skip
