"""Letters between edges say the same thing at both ends, and anything else is refused by name."""

from __future__ import annotations

import contextlib
from typing import get_args

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import VaultError, WireError
from edge.links.vault import Vault
from edge.protocol.callbacks.actions import Action, Result, Send, XmppConnect, XmppCredentials
from edge.protocol.mail import (
    Count,
    CountAsked,
    FiguresAsked,
    FiguresGiven,
    Letter,
    LinksFreed,
    Order,
    Receipt,
    Receivers,
    ReceiversAsked,
    Recover,
    ReleasesChanged,
    Rows,
    RowsAsked,
    SealedOrder,
    SessionsAsked,
    SessionsCounted,
    ShadowAsked,
    ShadowGiven,
    decode_letter,
    encode_letter,
)
from edge.protocol.xmpp.credentials import Account, Credentials, ScramKeys
from tests.unit.protocol.callbacks.generated import all_actions, credentials

LETTERS: list[Letter] = [
    Order(1, "s1", Result((Send("hi"),), {"a": 1}, ("b",))),
    Receipt(2, "refused", "too many subscriptions"),
    CountAsked(3, "room ○"),
    Count(3, 17),
    ReleasesChanged("chat"),
    ReceiversAsked(4, [("room", ("socket", "stream")), ("", ())]),
    Receivers(4, [3, 0]),
    SessionsAsked(5, "chat"),
    SessionsCounted(5, {"c0ffee1": 3}),
    FiguresAsked(6, "chat", "c0ffee1"),
    FiguresGiven(6, 10, 1, [3, 4, 0]),
    ShadowAsked(7, "chat"),
    ShadowGiven(7, [5, 3, 1, 1, 0], [("message", "send", "reply", "x")]),
    RowsAsked(5, "sessions", {"app": "chat", "release": None, "limit": 10}),
    Rows(5, [{"id": "s1", "state": {"a": [1]}}]),
    Recover(),
    LinksFreed(),
    SealedOrder("x:u42", b"\x00sealed\xff"),
]


@pytest.mark.parametrize("letter", LETTERS, ids=lambda letter: type(letter).__name__)
def test_a_letter_is_read_as_it_was_written(letter: Letter) -> None:
    assert decode_letter(encode_letter(letter)) == letter


def test_there_is_an_example_of_every_letter() -> None:
    assert {type(letter) for letter in LETTERS} == set(get_args(Letter))


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"t": "unknown"},
        {"t": "receivers?", "n": 1},
        {"t": "receivers?", "n": 1, "items": [["room"]]},
        {"t": "receivers?", "n": 1, "items": [1]},
        {"t": "receivers", "n": 1, "counts": ["many"]},
        {"t": "receivers", "n": "1", "counts": []},
        {"t": "sealed", "link": "x:u42"},
        {"t": "sealed", "link": "x:u42", "data": "text"},
        {"t": "sealed", "link": b"x:u42", "data": b"bytes"},
        [],
    ],
)
def test_what_is_no_letter_is_refused(form: object) -> None:
    with pytest.raises(WireError, match="not a letter"):
        decode_letter(msgpack.packb(form))


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    with contextlib.suppress(WireError):
        decode_letter(body)


def test_there_is_an_example_of_every_action() -> None:
    assert set(all_actions) == set(get_args(Action))


@pytest.mark.parametrize("kind", all_actions, ids=lambda kind: kind.__name__)
@given(st.data())
def test_every_action_is_read_as_it_was_written(kind: type, data: st.DataObject) -> None:
    order = Order(1, "x:u42", Result((data.draw(all_actions[kind]),)))
    body = encode_letter(order)
    assert decode_letter(body) == order
    assert encode_letter(decode_letter(body)) == body


@given(credentials(st.just("u42"), ""))
def test_a_letter_carries_credentials_and_does_not_show_them(auth: Credentials) -> None:
    order = Order(1, "x:u42", Result((XmppConnect("u42@chat.example", auth), XmppCredentials(auth))))
    hidden = {"Account", "Token", "Certificate", "ScramKeys", "auth"}
    assert not any(word in repr(order) for word in hidden)


def test_of_an_account_with_password_and_keys_the_password_is_passed_on() -> None:
    keys = ScramKeys("SHA-1", b"salt", 4096, b"c" * 20, b"s" * 20)
    sent = Order(1, "x:u42", Result((XmppCredentials(Account("u42", "s3cret", (keys,))),)))
    assert decode_letter(encode_letter(sent)) == Order(1, "x:u42", Result((XmppCredentials(Account("u42", "s3cret")),)))


def test_an_order_with_credentials_travels_sealed_for_its_link_alone() -> None:
    order = Order(1, "x:u42", Result((XmppCredentials(Account("u42", "s3cret")),)))
    vault = Vault([b"k" * 32])
    body = encode_letter(SealedOrder("x:u42", vault.seal_bytes("x:u42", encode_letter(order))))
    assert b"s3cret" not in body
    sealed = decode_letter(body)
    assert isinstance(sealed, SealedOrder)
    assert decode_letter(vault.open_bytes(sealed.link, sealed.sealed)) == order
    with pytest.raises(VaultError):
        vault.open_bytes("x:eve", sealed.sealed)
