"""SASLprep: the examples of RFC 4013 §3, and more."""

from __future__ import annotations

import pytest

from edge.errors import WireError
from edge.protocol.xmpp.saslprep import saslprep


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("\u0627\u0628", "\u0627\u0628"),
        ("\u06271\u0628", "\u06271\u0628"),
        ("😀", "😀"),
        ("", ""),
        ("é", "é"),
    ],
)
def test_prepared(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize("text", ["\u0007", "\u06271", "a\u0627b", "\x7f", "\ue000", "a\n", "\u202e", "\ud800"])
def test_refused_without_showing_it(text: str) -> None:
    with pytest.raises(WireError) as caught:
        saslprep(text)
    assert text not in str(caught.value)
