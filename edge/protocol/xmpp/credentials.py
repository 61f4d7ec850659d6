"""What a stream logs in with, and how that is written down.

Nothing here shows a secret in its `repr`, so none gets into logs, traces or errors by accident. `pack` writes the
secrets themselves: what it returns is to be encrypted before it is stored.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from typing import Any

import orjson

from edge.errors import WireError

_VERSION = 1


@dataclass(frozen=True, slots=True, repr=False)
class ScramKeys:
    """What SCRAM makes of a password (RFC 5802 §3): enough to log in to this server as long as the password, the salt
    and the iterations stay as they are, and of no use elsewhere. Computing them takes milliseconds; using them does
    not."""

    algorithm: str
    """``SHA-256`` or ``SHA-1``."""
    salt: bytes
    iterations: int
    client_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return "ScramKeys(...)"


@dataclass(frozen=True, slots=True, repr=False)
class Account:
    """A name with a password, or with the keys made of it, or with both."""

    username: str
    """As a rule the local part of the address."""
    password: str | None = None
    keys: tuple[ScramKeys, ...] = ()
    """At most one for each algorithm."""

    def __repr__(self) -> str:
        return "Account(...)"

    def with_keys(self, keys: ScramKeys) -> Account:
        """The same, with `keys` in the place of those for the same algorithm."""
        others = tuple(old for old in self.keys if old.algorithm != keys.algorithm)
        return replace(self, keys=(*others, keys))

    def without_password(self) -> Account:
        """The same, good for logging in until the server salts the password anew."""
        return replace(self, password=None)


@dataclass(frozen=True, slots=True, repr=False)
class Token:
    """A name with an OAuth 2 bearer token (RFC 7628)."""

    username: str
    token: str

    def __repr__(self) -> str:
        return "Token(...)"


@dataclass(frozen=True, slots=True, repr=False)
class Certificate:
    """The certificate of the TLS connection (SASL EXTERNAL, XEP-0178)."""

    address: str = ""
    """The bare address to log in as; empty: the only one that the certificate names."""

    def __repr__(self) -> str:
        return "Certificate(...)"


Credentials = Account | Token | Certificate


def pack(credentials: Credentials) -> bytes:
    """For `unpack`, perhaps in a later version of this program. Not encrypted."""
    fields: dict[str, Any] = {"v": _VERSION}
    match credentials:
        case Account(username, password, keys):
            fields |= {"kind": "account", "username": username, "password": password}
            fields["keys"] = [
                [key.algorithm, _text(key.salt), key.iterations, _text(key.client_key), _text(key.server_key)]
                for key in keys
            ]
        case Token(username, token):
            fields |= {"kind": "token", "username": username, "token": token}
        case Certificate(address):
            fields |= {"kind": "certificate", "address": address}
    return orjson.dumps(fields)


def unpack(data: bytes) -> Credentials:
    """Raises WireError, whose message says nothing of what was in `data`."""
    try:
        fields = orjson.loads(data)
        if fields["v"] != _VERSION:
            raise WireError(f"stored credentials have version {fields['v']!r}, not {_VERSION}")
        match fields["kind"]:
            case "account":
                keys = tuple(
                    ScramKeys(str(name), b64decode(salt), int(iterations), b64decode(client), b64decode(server))
                    for name, salt, iterations, client, server in fields["keys"]
                )
                return Account(str(fields["username"]), fields["password"], keys)
            case "token":
                return Token(str(fields["username"]), str(fields["token"]))
            case "certificate":
                return Certificate(str(fields["address"]))
    except (orjson.JSONDecodeError, binascii.Error, KeyError, TypeError, ValueError):
        pass
    raise WireError("stored credentials cannot be read")


def _text(data: bytes) -> str:
    return b64encode(data).decode()
