"""Credentials are read back as they were written, and shown nowhere."""

from __future__ import annotations

import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import WireError
from edge.protocol.xmpp.credentials import Account, Certificate, Credentials, ScramKeys, Token, pack, unpack

KEYS = st.builds(
    ScramKeys, st.sampled_from(["SHA-1", "SHA-256"]), st.binary(), st.integers(1, 10**6), *[st.binary()] * 2
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ANY = (
    st.builds(Account, TEXT, st.none() | TEXT, st.lists(KEYS, max_size=2).map(tuple))
    | st.builds(Token, TEXT, TEXT)
    | st.builds(Certificate, TEXT)
)


@given(ANY)
def test_they_are_read_back(credentials: Credentials) -> None:
    assert unpack(pack(credentials)) == credentials


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b'{"v":1}', b'{"v":1,"kind":"x"}', b'{"v":1,"kind":"token","username":"hunter2"}',
     b'{"v":1,"kind":"account","username":"a","password":"hunter2","keys":[["hunter2"]]}', b'{"v":2,"t":"hunter2"}'],
)  # fmt: skip
def test_what_cannot_be_read_is_not_shown(data: bytes) -> None:
    with pytest.raises(WireError) as caught:
        unpack(data)
    assert "hunter2" not in str(caught.value)


def test_no_repr_shows_them() -> None:
    keys = ScramKeys("SHA-1", b"hunter2", 4096, b"hunter2", b"hunter2")
    shown: list[object] = [
        Account("hunter2", "hunter2", (keys,)),
        Token("hunter2", "hunter2"),
        Certificate("hunter2"),
        keys,
    ]
    for one in shown:
        assert "hunter2" not in f"{one} {one!r} {[one]}"
    trace = "".join(traceback.format_exception(ValueError(shown)))
    assert "hunter2" not in trace


def test_new_keys_take_the_place_of_old_ones() -> None:
    old, new = (ScramKeys("SHA-1", salt, 4096, b"", b"") for salt in (b"a", b"b"))
    other = ScramKeys("SHA-256", b"c", 4096, b"", b"")
    account = Account("u", "p").with_keys(old).with_keys(other).with_keys(new)
    assert account.keys == (other, new)
    assert account.without_password().password is None
