"""SASL: the examples of the RFCs, servers that are not who they say, and what is not given up."""

from __future__ import annotations

import hashlib
import hmac
import random
from base64 import b64encode
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import WireError
from edge.protocol.xmpp.credentials import Account, Certificate, Credentials, ScramKeys, Token
from edge.protocol.xmpp.sasl import KeysNeeded, SaslError, Scram, begin, choose, derive_keys, weaker

VECTORS = {
    # RFC 5802 §5 and RFC 7677 §3
    "SCRAM-SHA-1": (
        "fyko+d2lbbFgONRv9qkxdawL",
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    "SCRAM-SHA-256": (
        "rOprNGfwEbeRWgbNEkqO",
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
}
NAMES = sorted(VECTORS)
PENCIL = Account("user", "pencil")


def answered(name: str, account: Account = PENCIL) -> tuple[Scram, bytes]:
    """A login of the example that has answered the server's first message."""
    nonce, first, _, _ = VECTORS[name]
    scram = Scram(name, account, nonce)
    answer = scram.answer(first)
    if isinstance(answer, KeysNeeded):
        assert account.password is not None
        answer = scram.use(derive_keys(account.password, answer))
    return scram, answer


def keys_of(name: str) -> ScramKeys:
    needed = Scram(name, PENCIL, VECTORS[name][0]).answer(VECTORS[name][1])
    assert isinstance(needed, KeysNeeded)
    return derive_keys("pencil", needed)


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_the_rfcs(name: str) -> None:
    nonce, _, final, server_final = VECTORS[name]
    scram, answer = answered(name)
    assert scram.start() == f"n,,n=user,r={nonce}".encode()
    assert answer == final
    scram.finish(server_final)


@pytest.mark.parametrize("name", NAMES)
def test_stored_keys_are_as_good_as_the_password(name: str) -> None:
    account = Account("user", "pencil").with_keys(keys_of(name)).without_password()
    scram, answer = answered(name, account)
    assert answer == VECTORS[name][2]
    scram.finish(VECTORS[name][3])


@pytest.mark.parametrize("name", NAMES)
def test_the_server_may_prove_itself_in_a_challenge(name: str) -> None:
    scram, _ = answered(name)
    assert scram.answer(VECTORS[name][3]) == b""
    scram.finish(b"")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("final", [b"", b"v=", b"v=AAAA", b"v=!", b"x", b"\xff", b"v=rmF9pqV8S7suAoZWja4dJRkFsKA="])
def test_a_server_that_does_not_know_the_password_is_not_believed(name: str, final: bytes) -> None:
    scram, _ = answered(name)
    with pytest.raises(SaslError) as caught:
        scram.finish(final)
    assert caught.value.condition in ("server-not-authentic", "incorrect-encoding")


def test_success_out_of_nothing_is_not_believed() -> None:
    for data in (b"", VECTORS["SCRAM-SHA-1"][3]):
        scram = Scram("SCRAM-SHA-1", PENCIL, "n")
        with pytest.raises(SaslError, match="server-not-authentic"):
            scram.finish(data)


def test_the_server_may_say_no_in_its_last_message() -> None:
    with pytest.raises(SaslError) as caught:
        answered("SCRAM-SHA-1")[0].finish(b"e=invalid-proof")
    assert caught.value.condition == "not-authorized"


@pytest.mark.parametrize(
    "first",
    [
        b"", b"\xff", b"r=n1,s=QSXC", b"s=QSXC,r=n1,i=4096", b"m=x,r=n1,s=QSXC,i=4096", b"r=n,s=QSXC,i=4096",
        b"r=other,s=QSXC,i=4096", b"r=n1,s=,i=4096", b"r=n1,s=!,i=4096", b"r=n1,s=QSXC,i=4095", b"r=n1,s=QSXC,i=-1",
        b"r=n1,s=QSXC,i=1000001", b"r=n1,s=QSXC,i=9" + b"9" * 5000, b"r=n1,s=QSXC,i=", "r=n1,s=QSXC,i=٤٠٩٦".encode(),
    ],
)  # fmt: skip
def test_first_messages_that_are_none(first: bytes) -> None:
    with pytest.raises(SaslError):
        Scram("SCRAM-SHA-256", PENCIL, "n").answer(first)


@given(st.binary(max_size=80), st.binary(max_size=40))
def test_any_challenge_is_answered_or_refused(first: bytes, last: bytes) -> None:
    scram = Scram("SCRAM-SHA-1", PENCIL, "n")
    with suppress(SaslError):
        if isinstance(needed := scram.answer(first), KeysNeeded):
            scram.use(ScramKeys("SHA-1", needed.salt, needed.iterations, b"k" * 20, b"s" * 20))
    with pytest.raises(SaslError):
        scram.finish(last)


def test_a_challenge_too_many() -> None:
    scram = Scram("SCRAM-SHA-1", PENCIL, "n")
    scram.answer(b"r=n1,s=QSXC,i=4096")
    with pytest.raises(SaslError, match="too many"):
        scram.answer(b"r=n1,s=QSXC,i=4096")


def test_keys_for_another_salt_are_outdated() -> None:
    account = Account("user", None, (replace(keys_of("SCRAM-SHA-1"), salt=b"old"),))
    with pytest.raises(SaslError) as caught:
        answered("SCRAM-SHA-1", account)
    assert caught.value.condition == "credentials-outdated"
    scram, answer = answered("SCRAM-SHA-1", replace(account, password="pencil"))
    assert answer == VECTORS["SCRAM-SHA-1"][2]
    assert scram is not None


def test_names_are_escaped_and_prepared() -> None:
    scram = Scram("SCRAM-SHA-1", Account("a=b,c\u00ad\u2168", "x"), "n")
    assert scram.start() == b"n,,n=a=3Db=2CcIX,r=n"
    with pytest.raises(WireError):
        Scram("SCRAM-SHA-1", Account("a\x07", "x"), "n")


@given(st.text("aäⅨ\u00a0é😀", max_size=8), st.text("ab=,€", min_size=1, max_size=8), st.sampled_from(NAMES))
def test_a_server_of_our_own_agrees(password: str, username: str, name: str) -> None:
    """The server's side, from the password, as RFC 5802 §3 has it."""
    digest = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}[name]
    scram = Scram(name, Account(username, password), "client")
    first = f"r=clientserver,s={b64encode(b'salt').decode()},i=4096"
    needed = scram.answer(first.encode())
    assert isinstance(needed, KeysNeeded)
    keys = derive_keys(password, needed)
    answer = scram.use(keys).decode()
    bare, _, proof = answer.rpartition(",p=")
    signed = f"{scram.start()[3:].decode()},{first},{bare}".encode()
    stored = hashlib.new(digest, keys.client_key).digest()
    signature = hmac.digest(stored, signed, digest)
    expected = bytes(left ^ right for left, right in zip(keys.client_key, signature, strict=True))
    assert proof == b64encode(expected).decode()
    scram.finish(b"v=" + b64encode(hmac.digest(keys.server_key, signed, digest)))


def start(name: str, credentials: Credentials) -> bytes:
    return begin(name, credentials, lambda: "nonce").start()


def test_the_others_say_it_at_once() -> None:
    assert start("PLAIN", Account("u", "pä")) == "\0u\0pä".encode()
    assert start("X-OAUTH2", Token("u", "t")) == b"\0u\0t"
    assert start("OAUTHBEARER", Token("u@x", "t")) == b"n,a=u@x,\x01auth=Bearer t\x01\x01"
    assert start("EXTERNAL", Certificate("u@x")) == b"u@x"
    assert start("EXTERNAL", Certificate()) == b""
    assert start("SCRAM-SHA-1", Account("u", "p")) == b"n,,n=u,r=nonce"


@pytest.mark.parametrize(
    ("name", "credentials"),
    [
        ("PLAIN", Account("u", "p\0q")),
        ("PLAIN", Account("u\0v", "p")),
        ("PLAIN", Account("u", "\ud800")),
        ("X-OAUTH2", Token("u", "t\0")),
        ("OAUTHBEARER", Token("u", "t\x01host=x")),
        ("EXTERNAL", Certificate("\ud800")),
    ],
)
def test_credentials_that_would_say_something_else(name: str, credentials: Credentials) -> None:
    with pytest.raises(WireError, match="credentials"):
        start(name, credentials)


def test_a_refused_token_is_told_so_before_the_failure() -> None:
    bearer = begin("OAUTHBEARER", Token("u", "t"), lambda: "")
    assert bearer.answer(b'{"status":"invalid_token"}') == b"\x01"
    with pytest.raises(SaslError, match="no challenges"):
        begin("PLAIN", Account("u", "p"), lambda: "").answer(b"")


KEYED = Account("u", None, (ScramKeys("SHA-1", b"s", 4096, b"", b""),))
ALL = [
    "PLAIN",
    "SCRAM-SHA-1",
    "SCRAM-SHA-256",
    "SCRAM-SHA-256-PLUS",
    "EXTERNAL",
    "OAUTHBEARER",
    "X-OAUTH2",
    "DIGEST-MD5",
]


@pytest.mark.parametrize(
    ("offered", "credentials", "may_be_bare", "pinned", "chosen"),
    [
        (ALL, Account("u", "p"), True, None, "SCRAM-SHA-256"),
        (ALL, KEYED, True, None, "SCRAM-SHA-1"),
        (ALL, KEYED, True, "SCRAM-SHA-256", "SCRAM-SHA-1"),  # still on offer: it is our keys that are weaker
        (ALL, Token("u", "t"), True, None, "OAUTHBEARER"),
        (["X-OAUTH2", "PLAIN"], Token("u", "t"), True, None, "X-OAUTH2"),
        (ALL, Certificate(), False, None, "EXTERNAL"),
        (["PLAIN"], Account("u", "p"), True, None, "PLAIN"),
        (["PLAIN"], Account("u", "p"), True, "PLAIN", "PLAIN"),
        (["SCRAM-SHA-1", "PLAIN"], Account("u", "p"), False, None, "SCRAM-SHA-1"),
        (["SCRAM-SHA-1", "SCRAM-SHA-256"], Account("u", "p"), False, "SCRAM-SHA-1", "SCRAM-SHA-256"),
        (["PLAIN"], Account("u", "p"), True, "UNHEARD-OF", "PLAIN"),
        (["PLAIN"], Account("u", "p"), False, None, "no-mechanism"),
        (["PLAIN"], KEYED, True, None, "no-mechanism"),
        ([], Account("u", "p"), True, None, "no-mechanism"),
        (["DIGEST-MD5"], Account("u", "p"), True, None, "no-mechanism"),
        (["OAUTHBEARER"], Token("u", "t"), False, None, "no-mechanism"),
        (["PLAIN"], Account("u", "p"), True, "SCRAM-SHA-1", "mechanism-downgrade"),
        (["PLAIN", "EXTERNAL"], Account("u", "p"), True, "SCRAM-SHA-1", "mechanism-downgrade"),
        (["PLAIN", "SCRAM-SHA-1"], Account("u", "p"), True, "SCRAM-SHA-256", "mechanism-downgrade"),
    ],
)
def test_the_choice(
    offered: list[str], credentials: Credentials, may_be_bare: bool, pinned: str | None, chosen: str
) -> None:
    random.Random(7).shuffle(offered := list(offered))
    if "-" in chosen and chosen.islower():
        with pytest.raises(SaslError) as caught:
            choose(offered, credentials, may_be_bare=may_be_bare, pinned=pinned)
        assert caught.value.condition == chosen
    else:
        assert choose(offered, credentials, may_be_bare=may_be_bare, pinned=pinned) == chosen


def test_weaker() -> None:
    assert weaker("PLAIN", "SCRAM-SHA-1")
    assert not weaker("SCRAM-SHA-256", "SCRAM-SHA-256")
