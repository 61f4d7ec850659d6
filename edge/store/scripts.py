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


def _load(name: str) -> Script:
    source = resources.files("edge.store").joinpath("lua", f"{name}.lua").read_bytes()
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

ALL = (REGISTER, COMMIT, FORGET, INHERIT, PUBLISH, HISTORY, RENEW, RELEASE, EDGES, LAPSED, CLAIM, BURY, MAIL)
