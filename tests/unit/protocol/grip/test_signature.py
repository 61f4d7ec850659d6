"""Signatures: to backends, and of publishers."""

from __future__ import annotations

import contextlib
import hmac
from base64 import b64encode, urlsafe_b64encode
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import WireError
from edge.protocol.grip.signature import GripSigner, verify_publisher

NOW_S = 1_700_000_000
SECRET = "a secret of more than thirty-two bytes"
PUBLISHERS = {"app": SECRET, "packed": "base64:" + b64encode(SECRET.encode()).decode(), "": "nameless", "empty": ""}


def pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def public_pem(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("key", "algorithm", "checking"),
    [
        (SECRET, "HS256", SECRET),
        ("base64:" + b64encode(SECRET.encode()).decode(), "HS256", SECRET),
        (pem(EC_KEY), "ES256", public_pem(EC_KEY)),
        (pem(RSA_KEY) + "\n", "RS256", public_pem(RSA_KEY)),
    ],
)
def test_backends_can_check_what_was_signed(key: str, algorithm: str, checking: str) -> None:
    token = GripSigner(key, "pushpin").token(NOW_S)
    claims = jwt.decode(token, checking, [algorithm], options={"verify_exp": False})
    assert claims == {"iss": "pushpin", "exp": NOW_S + 3600}


def test_a_token_is_made_once_a_second() -> None:
    signer = GripSigner("changeme", "pushpin")
    first = signer.token(NOW_S)
    assert signer.token(NOW_S) is first
    assert signer.token(NOW_S + 1) != first
    assert signer.token(NOW_S) == first


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("base64:?", "must be base64"),
        ("", "cannot be used"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "is not a PEM private key"),
        (public_pem(EC_KEY), "is not a PEM private key"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "must be an EC key on P-256, or an RSA key"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "must be an EC key on P-256, or an RSA key"),
    ],
)
def test_keys_nobody_can_sign_with(key: str, message: str) -> None:
    with pytest.raises(WireError, match=message) as caught:
        GripSigner(key, "pushpin")
    assert "AAAA" not in str(caught.value)


def token_of(claims: Any, key: Any = SECRET, algorithm: str = "HS256") -> str:
    return f"Bearer {jwt.encode(claims, key, algorithm)}"


def basic(text: str) -> str:
    return f"Basic {b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    ("authorization", "name"),
    [
        (token_of({"iss": "app", "exp": NOW_S + 1}), "app"),
        (token_of({"iss": "app", "exp": NOW_S + 0.5, "nbf": NOW_S + 5}).replace("Bearer", "bearer "), "app"),
        (token_of({"iss": "packed", "exp": NOW_S + 3600}), "packed"),
        (basic(f"app:{SECRET}"), "app"),
    ],
)
def test_known_publishers(authorization: str, name: str) -> None:
    assert verify_publisher(authorization, PUBLISHERS, NOW_S) == name


@pytest.mark.parametrize(("key", "algorithm"), [(EC_KEY, "ES256"), (RSA_KEY, "RS256")])
def test_publishers_with_key_pairs(key: Any, algorithm: str) -> None:
    publishers = {"app": public_pem(key)}
    authorization = token_of({"iss": "app", "exp": NOW_S + 1}, pem(key), algorithm)
    assert verify_publisher(authorization, publishers, NOW_S) == "app"
    # The public key is no shared secret.
    forged = token_of({"iss": "app", "exp": NOW_S + 1})
    with pytest.raises(WireError, match=f"signature is wrong \\({algorithm}"):
        verify_publisher(forged, publishers, NOW_S)
    with pytest.raises(WireError, match="no publisher of this name has this key"):
        verify_publisher(basic(f"app:{publishers['app']}"), publishers, NOW_S)


@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        ("", "must be Bearer with a JWT, or Basic"),
        ("Digest x", "must be Bearer with a JWT, or Basic"),
        ("Bearer", "is not a JSON Web Token"),
        ("Bearer a.b.c", "is not a JSON Web Token"),
        (token_of({"exp": NOW_S + 1}), "iss is no known publisher"),
        (token_of({"iss": "other", "exp": NOW_S + 1}), "iss is no known publisher"),
        (token_of({"iss": "app", "exp": NOW_S + 1}, SECRET + "x"), "signature is wrong"),
        (token_of({"iss": "app", "exp": NOW_S + 1}, None, "none"), "signature is wrong"),
        (token_of({"iss": "app", "exp": NOW_S}), "has expired"),
        (token_of({"iss": "app"}), "must have exp"),
        (token_of({"iss": "app", "exp": "later"}), "must have exp"),
        (token_of({"iss": "app", "exp": NOW_S + 1, "nbf": NOW_S + 600}), "is not valid yet"),
        (token_of({"iss": "app", "exp": NOW_S + 1, "nbf": []}), "must have nbf"),
        (token_of({"iss": "empty", "exp": NOW_S + 1}, "x" * 32), "signature is wrong"),
        ("Basic ?", "must be base64"),
        ("Basic /w==", "must be base64"),
        (basic("app"), "no publisher of this name has this key"),
        (basic("app:"), "no publisher of this name has this key"),
        (basic("other:" + SECRET), "no publisher of this name has this key"),
        (basic("other:"), "no publisher of this name has this key"),
        (basic("empty:"), "no publisher of this name has this key"),
    ],
)
def test_who_is_no_publisher(authorization: str, message: str) -> None:
    with pytest.raises(WireError, match=message) as caught:
        verify_publisher(authorization, PUBLISHERS, NOW_S)
    assert SECRET not in str(caught.value)


def test_a_key_without_bytes_lets_nobody_in() -> None:
    signed = b".".join(
        urlsafe_b64encode(part).rstrip(b"=") for part in (b'{"alg":"HS256"}', b'{"iss":"empty","exp":9999999999}')
    )
    forged = (signed + b"." + urlsafe_b64encode(hmac.digest(b"", signed, "sha256")).rstrip(b"=")).decode()
    with pytest.raises(WireError):
        verify_publisher(f"Bearer {forged}", PUBLISHERS, NOW_S)


@given(st.one_of(st.text(max_size=30), st.text("abc.:=AZ09", max_size=40)), st.sampled_from(("Bearer ", "Basic ", "")))
def test_garbage_is_refused(credentials: str, scheme: str) -> None:
    with contextlib.suppress(WireError):
        verify_publisher(scheme + credentials, PUBLISHERS, NOW_S)
    with contextlib.suppress(WireError):
        GripSigner(credentials, "x").token(NOW_S)


def test_any_text_is_a_key_between_two_who_know_it() -> None:
    for key in ("changeme", "ssh-rsa AAAA", "é"):
        token = GripSigner(key, "app").token(NOW_S).decode()
        assert verify_publisher(f"Bearer {token}", {"app": key}, NOW_S) == "app"
