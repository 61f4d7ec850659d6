"""Kinds of values that only GRIP settings have: signing keys, header lines, ZeroMQ addresses, backend addresses."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Literal

from edge.config.addresses import parse_address
from edge.config.groups import TEST_BACKEND, Secret
from edge.config.kinds import HIDDEN, Environment, SecretValue, Text, Wrong
from edge.config.urls import BACKEND

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_FRAMING = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""What says how a message is sent, not what it is: the edge's own business. (Host has a setting.)"""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key for Grip-Sig: text, ``base64:…`` of bytes, or a PEM private key; each itself, env:NAME or file:/path."""

    allowed: str = "text, base64:…, or a PEM private key (EC P-256 or RSA): itself, env:NAME, or file:/path"

    def from_text(self, text: str) -> object:
        return text

    def read(self, raw: object, env: Environment) -> Secret:
        secret = SecretValue(self.allowed).read(raw, env)
        check_signing_key(secret.value)
        return secret


@dataclass(frozen=True, slots=True)
class PublisherKey:
    """What a publisher signs with, as its verifier needs it: text, ``base64:…`` of bytes, or a PEM public key."""

    allowed: str = "text, base64:…, or a PEM public key (EC P-256 or RSA): itself, env:NAME, or file:/path"

    def from_text(self, text: str) -> object:
        return text

    def read(self, raw: object, env: Environment) -> Secret:
        secret = SecretValue(self.allowed).read(raw, env)
        _check_key(secret.value, "public")
        return secret


def check_signing_key(value: str) -> None:
    """Raises `Wrong`, without the key, for one that nothing can be signed with."""
    _check_key(value, "private")


def _check_key(value: str, half: Literal["private", "public"]) -> None:
    if value.startswith("base64:"):
        try:
            decoded = base64.b64decode(value[7:], validate=True)
        except (binascii.Error, ValueError):
            raise Wrong("base64 after base64:, with its padding (=)", shown=HIDDEN) from None
        if not decoded:
            raise Wrong("at least one byte after base64:", shown=HIDDEN)
    elif "-----BEGIN" in value:
        _check_pem(value.strip().encode(), half)


def _check_pem(value: bytes, half: Literal["private", "public"]) -> None:
    # Only for PEM: most edges sign with a text, and never need it.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

    fits = "EC P-256 (ES256) or RSA of at least 2,048 bits (RS256)"
    allowed = f"a PEM private key without passphrase, {fits}" if half == "private" else f"a PEM public key, {fits}"
    try:
        key = load_pem_private_key(value, password=None) if half == "private" else load_pem_public_key(value)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Wrong(allowed, shown=HIDDEN) from None
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        known = key.curve.name == "secp256r1"
    else:
        known = isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey) and key.key_size >= 2_048
    if not known:
        raise Wrong(allowed, shown=HIDDEN)


def _header_line(text: str) -> str:
    name, colon, value = text.partition(":")
    value = value.strip(" \t")
    if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise ValueError(text)
    if name.lower() in _FRAMING:
        raise Wrong(f"any header but {name}: " + ("use `host`" if name.lower() == "host" else "the edge writes it"))
    return f"{name}: {value}" if value else f"{name}:"


def _zmq_address(text: str) -> str:
    if text.startswith("ipc://"):
        if len(text) == len("ipc://"):
            raise ValueError(text)
        return text
    if text:
        scheme, separator, place = text.partition("://")
        host = place.replace("*", "", 1) if place.startswith("*:") else place
        if scheme != "tcp" or not separator or (not host.rpartition(":")[0] and not place.startswith("*:")):
            raise ValueError(text)
        if parse_address(host).port == 0:
            raise ValueError(text)
    return text


def _host_header(text: str) -> str:
    if text and not re.fullmatch(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", text, re.ASCII):
        raise ValueError(text)
    return text


def _target_url(text: str) -> str:
    if text == TEST_BACKEND:
        return text
    return BACKEND.check(text)


HEADER_LINE = Text("`Name: value` to set a header, `Name:` to remove it", _header_line)
ZMQ_ADDRESS = Text("tcp://host:port, tcp://*:port, ipc:///path, or empty", _zmq_address)
HOST_HEADER = Text("a host name, maybe with :port, or empty", _host_header)
TARGET_URL = Text(f"{BACKEND.allowed}; or `{TEST_BACKEND}`", _target_url)
