"""Redis URLs: every kind is understood, a wrong one is refused without showing its password."""

from __future__ import annotations

import pytest

from edge.config import Secret
from edge.config.redis_address import Endpoint, Login, parse_address
from edge.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "kind", "endpoints", "login", "tls"),
    [
        ("redis://localhost", "standalone", [Endpoint("localhost", 6379)], Login(), False),
        ("redis://h:7/3", "standalone", [Endpoint("h", 7)], Login(db=3), False),
        ("redis://:p%40w@h", "standalone", [Endpoint("h", 6379)], Login("", Secret("p@w")), False),
        ("rediss://u:a@b@h:1", "standalone", [Endpoint("h", 1)], Login("u", Secret("a@b")), True),
        ("redis://[::1]:7", "standalone", [Endpoint("::1", 7)], Login(), False),
        ("unix:///a%20b/r.sock", "standalone", [Endpoint("", 0, "/a b/r.sock")], Login(), False),
        ("unix://u:p@/r.sock?db=2", "standalone", [Endpoint("", 0, "/r.sock")], Login("u", Secret("p"), 2), False),
        ("redis+cluster://a,b:7", "cluster", [Endpoint("a", 6379), Endpoint("b", 7)], Login(), False),
        (
            "rediss+cluster://u:p@a,b",
            "cluster",
            [Endpoint("a", 6379), Endpoint("b", 6379)],
            Login("u", Secret("p")),
            True,
        ),
        ("redis+sentinel://a,b:7/main/2", "sentinel", [Endpoint("a", 26379), Endpoint("b", 7)], Login(db=2), False),
    ],
)
def test_a_url_is_understood(url: str, kind: str, endpoints: list[Endpoint], login: Login, tls: bool) -> None:
    address = parse_address(url)
    assert (address.kind, list(address.endpoints), address.login, address.tls) == (kind, endpoints, login, tls)
    assert (address.ssl_context() is not None) == tls


def test_sentinels_may_have_a_login_of_their_own() -> None:
    address = parse_address("redis+sentinel://u:p@h/main?sentinel_username=s&sentinel_password=q")
    assert address.service == "main"
    assert address.sentinel_login == Login("s", Secret("q"))


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost:6379", "http://u:hunter2@h", "redis://u:hunter2@", "redis://u:hunter2@h:x", "redis://u:hunter2@h:0",
        "redis://u:hunter2@h/db", "redis://u:hunter2@a,b", "redis+cluster://u:hunter2@a/1", "redis+sentinel://u:hunter2@a",
        "unix://relative", "redis://u:hunter2@h?ssl_typo=1", "redis://u:hunter2@[::1", "redis://h:6379?sentinel_password=hunter2",
    ],
)  # fmt: skip
def test_a_wrong_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_address(url)
    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in repr(refused.value.value)


def test_an_address_shows_no_password() -> None:
    address = parse_address("redis+sentinel://u:hunter2@h/main?sentinel_password=hunter3")
    for text in (repr(address), str(address)):
        assert "hunter" not in text


def test_tls_verification_is_on_unless_turned_off() -> None:
    strict, lax = (
        parse_address("rediss://h").ssl_context(),
        parse_address("rediss://h?ssl_cert_reqs=none").ssl_context(),
    )
    assert strict is not None
    assert lax is not None
    assert (strict.check_hostname, lax.check_hostname) == (True, False)
