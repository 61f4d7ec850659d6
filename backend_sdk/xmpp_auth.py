"""What a link logs in with, as it goes on the wire. No error and no `repr` shows any of it."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import Any

from backend_sdk.arguments import checked_text, flag, is_int
from backend_sdk.errors import ActionError

_SECRET_CHARS = 16_384
_KEY_BYTES = {"SHA-256": 32, "SHA-1": 20}
_ITERATIONS = 1_000_000


@dataclass(frozen=True, slots=True, repr=False)
class ScramKeys:
    """What SCRAM makes of a password (RFC 5802 §3): enough to log in with as long as the password, the salt and the
    iterations stay as they are. `algorithm`: ``SHA-256`` or ``SHA-1``."""

    algorithm: str
    salt: bytes
    iterations: int
    client_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return "ScramKeys(...)"


def auth_of(
    password: str | None,
    scram: ScramKeys | None,
    token: str | None,
    external: bool,
    callback: bool,
    username: str | None,
) -> dict[str, Any]:
    auth: dict[str, Any] = {}
    if password is not None:
        auth["password"] = _secret("password", password)
    if scram is not None:
        auth["scram"] = _scram(scram)
    if token is not None:
        auth["token"] = _secret("token", token)
    if flag("external", external):
        auth["external"] = True
    if flag("callback", callback):
        auth["callback"] = True
    if len(auth) != 1:
        raise ActionError("password", "exactly one of password, scram, token, external and callback must be given")
    if username is not None:
        if external or callback:
            raise ActionError("username", "goes with password, scram or token")
        auth["username"] = _secret("username", username)
    return auth


def _scram(keys: ScramKeys) -> dict[str, Any]:
    if not isinstance(keys, ScramKeys):
        raise ActionError("scram", f"must be ScramKeys, not {type(keys).__name__}")
    if keys.algorithm not in _KEY_BYTES:
        raise ActionError("scram.algorithm", f"must be one of {', '.join(_KEY_BYTES)}")
    if not is_int(keys.iterations) or not 1 <= keys.iterations <= _ITERATIONS:
        raise ActionError("scram.iterations", f"must be a whole number from 1 to {_ITERATIONS}")
    if not isinstance(keys.salt, bytes) or not keys.salt:
        raise ActionError("scram.salt", "must be bytes, at least one")
    for name, key in (("client_key", keys.client_key), ("server_key", keys.server_key)):
        if not isinstance(key, bytes) or len(key) != _KEY_BYTES[keys.algorithm]:
            raise ActionError(f"scram.{name}", f"must be {_KEY_BYTES[keys.algorithm]} bytes, for {keys.algorithm}")
    return {
        "algorithm": keys.algorithm,
        "salt": b64encode(keys.salt).decode(),
        "iterations": keys.iterations,
        "client_key": b64encode(keys.client_key).decode(),
        "server_key": b64encode(keys.server_key).decode(),
    }


def _secret(field: str, value: str) -> str:
    if not 0 < len(checked_text(field, value)) <= _SECRET_CHARS or "\0" in value or "\x01" in value:
        raise ActionError(field, f"must be a string of 1 to {_SECRET_CHARS} characters, without NUL and U+0001")
    return value
