"""Signatures: ``Grip-Sig`` tells a backend that a request came through this edge; a publisher's ``Authorization`` tells
the edge who publishes. Both are JSON Web Tokens; PyJWT does the cryptography. Time is given by the caller.
"""

from __future__ import annotations

import hmac
import operator
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Any

import jwt
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwt.algorithms import HMACAlgorithm

from edge.errors import WireError
from edge.protocol.grip.fields import from_base64

LIFETIME_S = 3_600
"""Pushpin's."""
CLOCK_SKEW_S = 60
_PEM = "-----BEGIN"


class GripSigner:
    """Signs requests to the backends of one route. Tokens of the same second are the same, and made once."""

    __slots__ = ("_algorithm", "_claims", "_key", "_second", "_token")

    def __init__(self, key: str, issuer: str) -> None:
        """`key`: text or ``base64:`` (HS256), or a PEM private key (EC P-256: ES256, RSA: RS256). A ``file:`` is read
        by whoever reads settings. Raises WireError for a key that is none."""
        self._key, self._algorithm = _signing_key(key)
        self._claims = {"iss": issuer} if issuer else {}
        self._second = -1
        self._token = b""
        try:
            self.token(0)
        except (jwt.PyJWTError, TypeError) as error:  # it is empty
            raise WireError(f"the signing key cannot be used: {error}") from None

    def token(self, now_s: int) -> bytes:
        """The value of Grip-Sig at `now_s` (seconds since the epoch)."""
        if now_s != self._second:
            claims = {**self._claims, "exp": now_s + LIFETIME_S}
            self._token = _JWS.encode(orjson.dumps(claims), self._key, self._algorithm).encode()
            self._second = now_s
        return self._token


def _signing_key(key: str) -> tuple[Any, str]:
    if _PEM not in key:
        return key_bytes(key), "HS256"
    try:
        loaded = load_pem_private_key(key.strip().encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise WireError(f"the signing key is not a PEM private key without password: {error}") from None
    if isinstance(loaded, EllipticCurvePrivateKey) and isinstance(loaded.curve, SECP256R1):
        return loaded, "ES256"
    if isinstance(loaded, RSAPrivateKey):
        return loaded, "RS256"
    raise WireError("the signing key must be an EC key on P-256, or an RSA key")


def key_bytes(key: str) -> bytes:
    """A shared key as bytes: the text itself, or what follows ``base64:``. Raises WireError."""
    if not key.startswith("base64:"):
        return key.encode()
    try:
        return from_base64(key.removeprefix("base64:"))
    except ValueError:
        raise WireError("a key after base64: must be base64") from None


def verify_publisher(authorization: str, publishers: Mapping[str, str], now_s: int) -> str:
    """Whose `authorization` header this is: the name of one of `publishers` (name → key, as in settings). Raises
    WireError, which says what is wrong with it."""
    scheme, _, credentials = authorization.strip().partition(" ")
    match scheme.lower():
        case "bearer":
            return _by_token(credentials.strip(), publishers, now_s)
        case "basic":
            return _by_password(credentials.strip(), publishers)
    raise WireError("Authorization must be Bearer with a JWT, or Basic")


def _by_token(token: str, publishers: Mapping[str, str], now_s: int) -> str:
    try:
        unchecked = orjson.loads(_JWS.decode_complete(token, options={"verify_signature": False})["payload"])
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise WireError("the token is not a JSON Web Token") from None
    issuer = unchecked.get("iss") if isinstance(unchecked, dict) else None
    key = publishers.get(issuer) if isinstance(issuer, str) else None
    if key is None:
        raise WireError("the token's iss is no known publisher")
    checking, algorithm = _checking_key(key)
    try:
        claims = orjson.loads(_JWS.decode(token, checking, algorithms=[algorithm]))
    except (jwt.PyJWTError, ValueError):
        raise WireError(f"the token's signature is wrong ({algorithm} with this publisher's key)") from None
    for name, problem, holds in (("exp", "has expired", operator.gt), ("nbf", "is not valid yet", _has_begun)):
        stamp = claims.get(name)
        if stamp is None and name == "nbf":
            continue
        if type(stamp) not in (int, float):
            raise WireError(f"the token must have {name}: seconds since 1970")
        if not holds(stamp, now_s):
            raise WireError(f"the token {problem}")
    return str(issuer)


def _has_begun(stamp: float, now_s: int) -> bool:
    """Clocks differ a little."""
    return stamp <= now_s + CLOCK_SKEW_S


def _by_password(credentials: str, publishers: Mapping[str, str]) -> str:
    try:
        name, _, password = b64decode(credentials, validate=True).decode().partition(":")
    except (Base64Error, ValueError):
        raise WireError("Basic credentials must be base64 of name:key, in UTF-8") from None
    # An unknown name costs the same comparison as a wrong key.
    key = publishers.get(name, "")
    if not hmac.compare_digest(password.encode(), key.encode()) or not key or _PEM in key:
        raise WireError("no publisher of this name has this key")
    return name


def _checking_key(key: str) -> tuple[Any, str]:
    if _PEM not in key:
        return key_bytes(key), "HS256"
    try:
        loaded = load_pem_public_key(key.strip().encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise WireError(f"a publisher's key is not a PEM public key: {error}") from None
    if isinstance(loaded, EllipticCurvePublicKey) and isinstance(loaded.curve, SECP256R1):
        return loaded, "ES256"
    if isinstance(loaded, RSAPublicKey):
        return loaded, "RS256"
    raise WireError("a publisher's key must be text, or a public key: EC on P-256, or RSA")


class _AnyKey(HMACAlgorithm):
    """PyJWT warns of short keys, and Pushpin's own default is one: whoever chose it is told so by the settings. It also
    refuses what looks like a public key; ours do not get here, as they are told apart before."""

    def prepare_key(self, key: str | bytes) -> bytes:
        if not key:
            raise jwt.InvalidKeyError("a key must not be empty")
        return key.encode() if isinstance(key, str) else key

    def check_key_length(self, key: Any) -> str | None:
        return None


def _jws() -> jwt.PyJWS:
    jws = jwt.PyJWS(["HS256", "ES256", "RS256"])
    jws.unregister_algorithm("HS256")
    jws.register_algorithm("HS256", _AnyKey(HMACAlgorithm.SHA256))
    return jws


_JWS = _jws()
