"""Kinds of values that only settings of XMPP links have: keys that seal credentials, domains, hosts."""

from __future__ import annotations

import binascii
import hashlib
import ipaddress
import re
from base64 import b64decode
from dataclasses import dataclass

from edge.config.groups import Secret
from edge.config.kinds import HIDDEN, Environment, SecretValue, Text, Wrong

KEY_BYTES = 32
SHORTEST_PASSPHRASE = 16
"""Characters. It is hashed, not stretched: what is stored can be tried against it as fast as SHA-256 runs."""

_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*", re.ASCII)


@dataclass(frozen=True, slots=True)
class LinkKey(SecretValue):
    """A key that seals credentials at rest: base64 of 32 bytes, or a passphrase."""

    allowed: str = (
        f"base64 of {KEY_BYTES} bytes (make it by `openssl rand -base64 {KEY_BYTES}`), or a passphrase of at least "
        f"{SHORTEST_PASSPHRASE} characters: itself, env:NAME, or file:/path"
    )

    def read(self, raw: object, env: Environment) -> Secret:
        # Named: a class with slots is made anew by its decorator, and a bare super() still means the first one.
        secret = SecretValue.read(self, raw, env)
        if len(secret.value) < SHORTEST_PASSPHRASE:
            raise Wrong(self.allowed, shown=HIDDEN)
        return secret


def key_of(secret: Secret) -> bytes:
    """The 32 bytes that `secret` stands for: those it is the base64 of, else its SHA-256."""
    return decoded_key(secret) or hashlib.sha256(secret.value.encode()).digest()


def decoded_key(secret: Secret) -> bytes:
    """The 32 bytes that `secret` is the base64 of; empty: it is a passphrase."""
    try:
        key = b64decode(secret.value, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return key if len(key) == KEY_BYTES else b""


def _domain(text: str) -> str:
    domain = text.lower().removesuffix(".")
    if not _NAME.fullmatch(domain.encode("idna").decode()):
        raise ValueError(text)
    return domain


def _host(text: str) -> str:
    if not text:
        return ""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return _domain(text)


XMPP_DOMAIN = Text("the domain of addresses, such as chat.example, without user or port", _domain)
XMPP_HOST = Text("a host name or an IP address without port, or empty for what DNS says of the domain", _host)
