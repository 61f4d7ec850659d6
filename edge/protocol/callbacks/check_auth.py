"""Checks what a link is to log in with (`auth`). No error holds a value: they are secrets."""

from __future__ import annotations

import binascii
from base64 import b64decode

from edge.errors import FieldError
from edge.protocol.callbacks.actions import AskBackend
from edge.protocol.callbacks.fields import checked_text, only_known
from edge.protocol.xmpp.credentials import Account, Certificate, Credentials, ScramKeys, Token
from edge.protocol.xmpp.jid import Jid

SECRET_CHARS = 16_384
"""Longest password or token. Tokens with many claims have several thousand characters."""
SCRAM_KEY_BYTES = {"SHA-256": 32, "SHA-1": 20}
"""Each hash's length (RFC 5802 section 3)."""
SCRAM_ITERATIONS_MAX = 1_000_000

_FORMS = ("password", "scram", "token", "external", "callback")
_FIELDS = frozenset({*_FORMS, "username"})
_SCRAM_FIELDS = frozenset({"algorithm", "salt", "iterations", "client_key", "server_key"})


def parse_auth(value: object, jid: Jid | None) -> Credentials | AskBackend:
    """`jid`: whose they are; None: of a link that knows, and fills in the name that is left empty."""
    if type(value) is not dict:
        raise FieldError("auth", "must be a map")
    only_known(value, _FIELDS, "auth")
    given = [form for form in _FORMS if value.get(form) is not None]
    if len(given) != 1:
        raise FieldError("auth", f"must have exactly one of {', '.join(_FORMS)}")
    form = given[0]
    if form in ("external", "callback"):
        if value[form] is not True:
            raise FieldError(f"auth.{form}", "must be true")
        if value.get("username") is not None:
            raise FieldError("auth.username", f"may not be given with {form}")
        return AskBackend() if form == "callback" else Certificate("" if jid is None else jid.bare)
    username = "" if jid is None else jid.local
    if value.get("username") is not None:
        username = _secret("auth.username", value["username"])
    elif jid is not None and not username:
        raise FieldError("auth.username", "is missing, and the jid has no local part to take its place")
    if form == "password":
        return Account(username, _secret("auth.password", value["password"]))
    if form == "token":
        return Token(username, _secret("auth.token", value["token"]))
    return Account(username, None, (_scram(value["scram"]),))


def _scram(value: object) -> ScramKeys:
    if type(value) is not dict:
        raise FieldError("auth.scram", "must be a map")
    only_known(value, _SCRAM_FIELDS, "auth.scram")
    algorithm, iterations = value.get("algorithm"), value.get("iterations")
    if type(algorithm) is not str or algorithm not in SCRAM_KEY_BYTES:
        raise FieldError("auth.scram.algorithm", f"must be one of {', '.join(SCRAM_KEY_BYTES)}")
    if type(iterations) is not int or not 1 <= iterations <= SCRAM_ITERATIONS_MAX:
        raise FieldError("auth.scram.iterations", f"must be an integer from 1 to {SCRAM_ITERATIONS_MAX}")
    salt = _base64("auth.scram.salt", value.get("salt"))
    keys = []
    for name in ("client_key", "server_key"):
        keys.append(_base64(f"auth.scram.{name}", value.get(name)))
        if len(keys[-1]) != SCRAM_KEY_BYTES[algorithm]:
            raise FieldError(f"auth.scram.{name}", f"must be {SCRAM_KEY_BYTES[algorithm]} bytes, for {algorithm}")
    return ScramKeys(algorithm, salt, iterations, *keys)


def _secret(field: str, value: object) -> str:
    text = checked_text(field, value)
    if not 0 < len(text) <= SECRET_CHARS:
        raise FieldError(field, f"must be text of 1 to {SECRET_CHARS} characters")
    if "\0" in text or "\x01" in text:  # what mechanisms put between their fields (RFC 4616, RFC 7628)
        raise FieldError(field, "must not hold NUL or U+0001")
    return text


def _base64(field: str, value: object) -> bytes:
    if type(value) is not str or not value:
        raise FieldError(field, "is missing" if value is None else "must be base64")
    try:
        return b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise FieldError(field, "must be base64") from None
