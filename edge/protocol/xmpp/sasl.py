"""SASL mechanisms, the client's side (RFC 6120 §6): which one is used, and what it says.

SCRAM (RFC 5802, RFC 7677) proves that the server knows the password, too; a login whose server could not prove it has
failed, whatever the server says. Its keys are computed by whoever is asked for them (`KeysNeeded`), as that takes
milliseconds that an event loop may not have.

`choose` takes the strongest mechanism that the server offers and the credentials allow; what would show a secret to
whoever listens is for TLS only; and what is weaker than the mechanism of an earlier login (the pin) is not used when
that one is suddenly not offered: that is how somebody in the middle would get at the password.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol, assert_never

from edge.errors import WireError
from edge.protocol.xmpp.credentials import Account, Certificate, Credentials, ScramKeys, Token
from edge.protocol.xmpp.saslprep import saslprep

MECHANISMS = ("EXTERNAL", "SCRAM-SHA-256", "SCRAM-SHA-1", "OAUTHBEARER", "X-OAUTH2", "PLAIN")
"""Strongest first."""
_BARE = frozenset({"OAUTHBEARER", "X-OAUTH2", "PLAIN"})
"""They send the secret itself."""
_HASHES = {"SHA-256": "sha256", "SHA-1": "sha1"}
_FEWEST_ITERATIONS = 4096
"""RFC 5802 §5.1, RFC 7677 §4. Fewer would help a false server to guess the password from what we answer."""
_MOST_ITERATIONS = 1_000_000
"""A second or so of computing; what a server may ask of us."""


class SaslError(WireError):
    """The login has failed; `condition` is one of RFC 6120 §6.5, or one of ours:

    - ``no-mechanism``: nothing that is offered fits the credentials and the settings
    - ``mechanism-downgrade``: what earlier logins used is not offered any more
    - ``credentials-outdated``: the stored keys are for another salt, and there is no password
    - ``server-not-authentic``: the server does not know the password, or breaks the rules of the mechanism
    """

    def __init__(self, condition: str, problem: str) -> None:
        self.condition = condition
        self.problem = problem
        super().__init__(f"{condition}: {problem}")


@dataclass(frozen=True, slots=True)
class KeysNeeded:
    """SCRAM goes on when `Scram.use` has keys made with these: `derive_keys`."""

    algorithm: str
    salt: bytes
    iterations: int


class Mechanism(Protocol):
    """One login."""

    name: str

    def start(self) -> bytes:
        """The initial response."""

    def answer(self, challenge: bytes) -> bytes | KeysNeeded:
        """The response to a challenge. Raises SaslError."""

    def finish(self, data: bytes) -> None:
        """The server says that we are logged in, perhaps with `data`. Raises SaslError if that must not be believed."""


class _OneMessage:
    """A mechanism that says all it has to say at once."""

    def __init__(self, name: str, message: bytes, last: bytes | None = None) -> None:
        self.name = name
        self._message = message
        self._last = last

    def start(self) -> bytes:
        return self._message

    def answer(self, challenge: bytes) -> bytes:
        if self._last is None:
            raise SaslError("server-not-authentic", f"{self.name} has no challenges")
        return self._last

    def finish(self, data: bytes) -> None:
        pass


class Scram:
    """SCRAM without channel binding."""

    def __init__(self, name: str, account: Account, nonce: str) -> None:
        """`nonce`: random printable ASCII without a comma, never used before."""
        self.name = name
        self.algorithm = name.removeprefix("SCRAM-")
        self._account = account
        self._nonce = nonce
        self._first = f"n={_escaped(saslprep(account.username))},r={nonce}"
        self._server_first = ""
        self._server_nonce = ""
        self._signature: bytes | None = None
        self._proven = False

    def start(self) -> bytes:
        return b"n,," + self._first.encode()

    def answer(self, challenge: bytes) -> bytes | KeysNeeded:
        try:
            text = challenge.decode()
        except UnicodeDecodeError:
            raise SaslError("server-not-authentic", "a challenge is not UTF-8") from None
        if self._signature is not None:
            self._verify(text)
            return b""
        if self._server_first:
            raise SaslError("server-not-authentic", "there is one challenge too many")
        return self._read_first(text)

    def _read_first(self, text: str) -> bytes | KeysNeeded:
        fields = [field.partition("=") for field in text.split(",")]
        if [name for name, _, _ in fields[:3]] != ["r", "s", "i"]:  # also a mandatory extension (m=), which we lack
            raise SaslError("server-not-authentic", "the first message of the server is not one of SCRAM")
        nonce, salt_text, count = (value for _, _, value in fields[:3])
        if not nonce.startswith(self._nonce) or len(nonce) <= len(self._nonce):
            raise SaslError("server-not-authentic", "the nonce of the server does not continue ours")
        salt = decode(salt_text)
        if not salt or not (count.isascii() and count.isdigit() and len(count) < 10):
            raise SaslError("server-not-authentic", "the first message of the server lacks a salt or a count")
        if not _FEWEST_ITERATIONS <= int(count) <= _MOST_ITERATIONS:
            raise SaslError(
                "server-not-authentic",
                f"the server asks for {count} iterations; {_FEWEST_ITERATIONS} to {_MOST_ITERATIONS} are accepted",
            )
        self._server_first, self._server_nonce = text, nonce
        for keys in self._account.keys:
            if (keys.algorithm, keys.salt, keys.iterations) == (self.algorithm, salt, int(count)):
                return self.use(keys)
        if self._account.password is None:
            raise SaslError("credentials-outdated", "the stored keys are for another salt, and there is no password")
        return KeysNeeded(self.algorithm, salt, int(count))

    def use(self, keys: ScramKeys) -> bytes:
        """The answer that was asked for, made with `keys`."""
        digest = _HASHES[self.algorithm]
        bare = f"c={b64encode(b'n,,').decode()},r={self._server_nonce}"
        signed = f"{self._first},{self._server_first},{bare}".encode()
        stored = hashlib.new(digest, keys.client_key).digest()
        signature = hmac.digest(stored, signed, digest)
        proof = bytes(one ^ other for one, other in zip(keys.client_key, signature, strict=True))
        self._signature = hmac.digest(keys.server_key, signed, digest)
        return f"{bare},p={b64encode(proof).decode()}".encode()

    def finish(self, data: bytes) -> None:
        if data:
            self._verify(data.decode(errors="replace"))
        if not self._proven:
            raise SaslError("server-not-authentic", "the server has not proven that it knows the password")

    def _verify(self, text: str) -> None:
        if text.startswith("e="):
            raise SaslError("not-authorized", "the server refused the proof")
        given = text.partition(",")[0]
        if self._proven or self._signature is None or not given.startswith("v="):
            raise SaslError("server-not-authentic", "the last message of the server is not one of SCRAM")
        if not hmac.compare_digest(decode(given[2:]), self._signature):
            raise SaslError("server-not-authentic", "the server does not know the password: its signature is wrong")
        self._proven = True


def derive_keys(password: str, needed: KeysNeeded) -> ScramKeys:
    """What SCRAM makes of a password (RFC 5802 §3). Takes about 0.4 ms per 1,000 iterations, other threads may run.
    Raises WireError for a password that cannot be typed."""
    digest = _HASHES[needed.algorithm]
    salted = hashlib.pbkdf2_hmac(digest, saslprep(password).encode(), needed.salt, needed.iterations)
    client, server = (hmac.digest(salted, label, digest) for label in (b"Client Key", b"Server Key"))
    return ScramKeys(needed.algorithm, needed.salt, needed.iterations, client, server)


def choose(offered: Collection[str], credentials: Credentials, *, may_be_bare: bool, pinned: str | None = None) -> str:
    """The mechanism to log in with. `may_be_bare`: nobody can listen, or the settings do not mind. `pinned`: what an
    earlier login to this server used. Raises SaslError."""
    usable = [name for name in MECHANISMS if name in offered and _fits(name, credentials)]
    for name in usable:
        if name in _BARE and not may_be_bare:
            continue
        if pinned in MECHANISMS and pinned not in offered and weaker(name, pinned):
            raise SaslError("mechanism-downgrade", f"earlier logins used {pinned}; now the best on offer is {name}")
        return name
    shown = ", ".join(sorted(offered)) or "nothing"
    hint = "; what is usable would need TLS" if usable else ""
    raise SaslError("no-mechanism", f"the server offers {shown}{hint}")


def weaker(one: str, other: str) -> bool:
    """`one` protects less than `other`."""
    return MECHANISMS.index(one) > MECHANISMS.index(other)


def _fits(name: str, credentials: Credentials) -> bool:
    match credentials:
        case Account(_, password, keys):
            if name == "PLAIN":
                return password is not None
            algorithm = name.removeprefix("SCRAM-")
            return algorithm in _HASHES and (password is not None or any(key.algorithm == algorithm for key in keys))
        case Token():
            return name in ("OAUTHBEARER", "X-OAUTH2")
        case Certificate():
            return name == "EXTERNAL"
        case _:
            assert_never(credentials)


def begin(name: str, credentials: Credentials, nonce: Callable[[], str]) -> Mechanism:
    """A login with a mechanism that `choose` chose. Raises WireError for credentials that it has no way to say."""
    match credentials:
        case Account(username, password, _):
            if name == "PLAIN":
                return _OneMessage(
                    name, _joined("\0", "", username, password or "")
                )  # the server prepares it (RFC 4616)
            return Scram(name, credentials, nonce())
        case Token(username, token):
            if name == "X-OAUTH2":
                return _OneMessage(name, _joined("\0", "", username, token))
            # RFC 7628 §3.1; §3.2.3: after an error message the client says one byte, and is then refused.
            message = _joined("\x01", f"n,a={_escaped(username)},", f"auth=Bearer {token}", "", "")
            return _OneMessage(name, message, b"\x01")
        case Certificate(address):
            return _OneMessage(name, _joined("\0", address))
        case _:
            assert_never(credentials)


def _joined(separator: str, *parts: str) -> bytes:
    if any(separator in part for part in parts):
        raise WireError("credentials contain a control character")
    try:
        return separator.join(parts).encode()
    except UnicodeEncodeError:
        raise WireError("credentials are not Unicode") from None


def decode(text: str) -> bytes:
    """Base64 of the other side. Raises SaslError."""
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SaslError("incorrect-encoding", "the server sent something that is not base64") from None


def _escaped(name: str) -> str:
    """RFC 5802 §5.1 (saslname)."""
    return name.replace("=", "=3D").replace(",", "=2C")
