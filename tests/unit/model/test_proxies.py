"""Whose word about the client's address counts."""

import pytest

from edge.model.proxies import parse_networks, show_address, true_client, true_scheme

TRUSTED = parse_networks(["10.0.0.0/8", "::1"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", ["1.2.3.4"], ("192.0.2.1", 99)),  # a stranger's word
        ("10.0.0.1", [], ("10.0.0.1", 99)),
        ("10.0.0.1", ["1.2.3.4"], ("1.2.3.4", 0)),
        ("10.0.0.1", ["6.6.6.6, 1.2.3.4, 10.0.0.7"], ("1.2.3.4", 0)),  # 6.6.6.6 is the client's invention
        ("10.0.0.1", ["6.6.6.6", "1.2.3.4:555"], ("1.2.3.4", 555)),
        ("::1", ["[2001:db8::1]:555"], ("2001:db8::1", 555)),
        ("::1", ["2001:db8::1"], ("2001:db8::1", 0)),
        ("::ffff:10.0.0.1", ["1.2.3.4"], ("1.2.3.4", 0)),
        ("10.0.0.1", ["1.2.3.4, unknown"], ("10.0.0.1", 99)),
        ("10.0.0.1", ["10.0.0.2, 10.0.0.3"], ("10.0.0.2", 0)),
        ("", ["1.2.3.4"], ("", 99)),
    ],
)
def test_the_first_address_that_is_no_trusted_proxy(peer: str, forwarded: list[str], client: tuple[str, int]) -> None:
    assert true_client((peer, 99), forwarded, TRUSTED) == client


def test_nobody_is_trusted_by_default() -> None:
    assert true_client(("10.0.0.1", 1), ["1.2.3.4"], parse_networks([])) == ("10.0.0.1", 1)


def test_scheme() -> None:
    assert true_scheme("ws", "10.0.0.1", ["https"], TRUSTED) == "wss"
    assert true_scheme("ws", "10.0.0.1", ["http, https"], TRUSTED) == "wss"
    assert true_scheme("ws", "10.0.0.1", ["gopher"], TRUSTED) == "ws"
    assert true_scheme("ws", "192.0.2.1", ["https"], TRUSTED) == "ws"


def test_addresses_are_shown_with_their_port() -> None:
    assert show_address("1.2.3.4", 5) == "1.2.3.4:5"
    assert show_address("::1", 5) == "[::1]:5"


def test_bad_network() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/99"):
        parse_networks(["10.0.0.0/99"])
