"""Seals what links log in with, for Redis: AES-256-GCM, the key from `edge.link_keys` or a file in the data folder.

A sealed blob is one byte of version, four that name the key, a nonce of twelve, and the ciphertext with its tag. It
opens for the link it was sealed for only. Nonces are random: a key is good for 2^32 seals (NIST SP 800-38D §8.3), which
no edge gets to.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge.config import Secret, Settings
from edge.config.xmpp_kinds import KEY_BYTES, decoded_key, key_of
from edge.errors import VaultError, WireError
from edge.protocol.xmpp.credentials import Credentials, pack, unpack

KEY_FILE = "link.key"

_VERSION = 1
_ID_BYTES = 4
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEAD_BYTES = 1 + _ID_BYTES + _NONCE_BYTES
_ANEW = "have the backend connect the link anew, with credentials"


class Vault:
    """Seals with the first of `keys` (32 bytes each), opens with any of them."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise VaultError("credentials cannot be sealed without a key: set edge.link_keys")
        self._keys = tuple((hashlib.sha256(key).digest()[:_ID_BYTES], AESGCM(key)) for key in keys)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """With the keys of the settings, else with that of the data folder's key file, which is made when it is
        missing. Reads files. Raises VaultError when the key file cannot be read, made or understood."""
        keys = [key_of(secret) for secret in settings.edge.link_keys]
        return cls(keys or [_key_in(Path(settings.edge.data_dir))])

    def __repr__(self) -> str:
        return "Vault(...)"

    def seal(self, link: str, credentials: Credentials) -> bytes:
        """For Redis, under the id of the link."""
        return self.seal_bytes(link, pack(credentials))

    def seal_bytes(self, link: str, secret: bytes) -> bytes:
        """What has credentials in it, on its way to the link through Redis."""
        name, key = self._keys[0]
        nonce = os.urandom(_NONCE_BYTES)
        return bytes([_VERSION]) + name + nonce + key.encrypt(nonce, secret, _context(link))

    def open(self, link: str, sealed: bytes) -> Credentials:
        """Raises VaultError, which says what to do, and nothing of what is inside."""
        try:
            return unpack(self.open_bytes(link, sealed))
        except WireError as error:
            raise VaultError(f"what is stored to log {link} in cannot be used ({error}): {_ANEW}") from None

    def open_bytes(self, link: str, sealed: bytes) -> bytes:
        """Raises VaultError."""
        if sealed[:1] != bytes([_VERSION]):
            raise VaultError(
                f"what is stored to log {link} in was not sealed by this version of Holdfast: run the one that did, "
                f"or {_ANEW}"
            )
        if len(sealed) < _HEAD_BYTES + _TAG_BYTES:
            raise VaultError(_damaged(link))
        name, nonce = sealed[1 : 1 + _ID_BYTES], sealed[1 + _ID_BYTES : _HEAD_BYTES]
        named = [key for known, key in self._keys if known == name]
        if not named:
            raise VaultError(
                f"no key in edge.link_keys (or {KEY_FILE}) opens what is stored to log {link} in: add the one it was "
                f"sealed with behind the newest, or {_ANEW}"
            )
        for key in named:
            try:
                return key.decrypt(nonce, sealed[_HEAD_BYTES:], _context(link))
            except InvalidTag:  # four bytes may name two keys
                continue
        raise VaultError(_damaged(link))

    def stale(self, sealed: bytes) -> bool:
        """Sealed with another key than the newest: seal it again, so that the old key can go."""
        return sealed[: 1 + _ID_BYTES] != bytes([_VERSION]) + self._keys[0][0]


def _context(link: str) -> bytes:
    """Authenticated with the ciphertext: what one link logs in with cannot be put in the place of another's."""
    return bytes([_VERSION]) + link.encode()


def _damaged(link: str) -> str:
    return f"what is stored to log {link} in is damaged, or was stored for another link: {_ANEW}"


def _key_in(folder: Path) -> bytes:
    """The key of the data folder. Several workers that start at once agree on one."""
    path = folder / KEY_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not text"
        raise VaultError(
            f"the key that seals credentials, {path}, cannot be used: {reason}; make it possible, or set edge.link_keys"
        ) from None
    key = decoded_key(Secret(text))
    if not key:
        raise VaultError(
            f"{path} is not a key (base64 of {KEY_BYTES} bytes): put back the one that was there, or remove it and "
            "have the backend connect its links anew, with credentials"
        )
    return key


def _make(path: Path) -> None:
    """Whole or not at all, and never over another's: a file of our own gets the name, if nobody has taken it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
    # Credentials that are sealed now must open after a power cut: the name has to be on the disk, too.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
