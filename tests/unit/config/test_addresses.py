"""The three forms of an address, and what is none of them."""

from __future__ import annotations

import pytest

from edge.config.addresses import Address, parse_address


@pytest.mark.parametrize(
    ("text", "address", "loopback"),
    [
        ("127.0.0.1:7999", ("127.0.0.1", 7999), True),
        ("127.8.8.8:0", ("127.8.8.8", 0), True),
        ("0.0.0.0:65535", ("0.0.0.0", 65535), False),
        (":80", ("", 80), False),
        ("[::1]:80", ("::1", 80), True),
        ("[0:0::0001]:80", ("::1", 80), True),
        ("[::]:80", ("::", 80), False),
        ("localhost:80", ("localhost", 80), True),
        ("localhost.evil.example:80", ("localhost.evil.example", 80), False),
        ("Edge.Example:80", ("edge.example", 80), False),
    ],
)
def test_accepted(text: str, address: tuple[str, int], loopback: bool) -> None:
    parsed = parse_address(text)
    assert parsed == Address(*address)
    assert parsed.is_loopback is loopback
    assert parse_address(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text",
    ["", "80", "host", "host:", "host:65536", "host:-1", "host:٣", "::1:80", "[::1]", "[::1]80", "[x]:1",
     "256.0.0.1:80", "1.2.3:80", "a b:80", "-a:80", "http://a:80", "a..b:80", "127.0.0.1:80 "],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the words are the caller's
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [(":80", "127.0.0.1:80"), ("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("a:1", "a:1")],
)
def test_for_a_url(text: str, shown: str) -> None:
    assert parse_address(text).for_url == shown
