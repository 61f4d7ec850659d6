"""A release may only be where the configuration allows."""

from __future__ import annotations

import pytest

from edge.model.release_url import url_allowed


@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("http://chat-{sha}.svc:8000", "http://chat-abc.svc:8000"),
        ("http://chat-{sha}.svc:8000", "http://chat-abc.svc:8000/"),
        ("http://CHAT-{sha}.svc", "http://chat-abc.svc:80"),
        ("https://svc/{sha}/hook", "https://svc:443/abc/hook"),
        ("http://10.0.0.1:8000", "http://10.0.0.1:8000/any/path"),
        ("http://svc/apps", "http://svc/apps/abc"),
        ("http://svc/apps/", "http://svc/apps"),
        ("http://[fd00::1]:80/", "http://[fd00::1]/x"),
    ],
)
def test_a_url_under_a_pattern_is_allowed(pattern: str, url: str) -> None:
    assert url_allowed(["http://other", pattern], "abc", url)


@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("http://chat-{sha}.svc:8000", "http://chat-def.svc:8000"),
        ("http://chat-{sha}.svc:8000", "http://chat-abc.svc:8000/x"),
        ("http://chat-{sha}.svc:8000", "http://chat-abc.svc:8001"),
        ("http://chat-{sha}.svc:8000", "https://chat-abc.svc:8000"),
        ("http://10.0.0.1", "http://10.0.0.1.evil.example"),
        ("http://10.0.0.1", "http://10.0.0.1@evil.example"),
        ("http://10.0.0.1", "http://10.0.0.1:80@evil.example"),
        ("http://10.0.0.1", "http://evil.example/http://10.0.0.1"),
        ("http://10.0.0.1", "http://10.0.0.1\\@evil.example"),
        ("http://10.0.0.1", "http://10.0.0.1:8000"),
        ("http://svc/apps", "http://svc/apps2"),
        ("http://svc/apps", "http://svc/apps/../admin"),
        ("http://svc/apps", "http://svc/apps/%2e%2e/admin"),
        ("http://svc/apps", "http://svc/apps?x=1"),
        ("http://svc/apps", "http://svc/apps#x"),
        ("http://svc", "http://svc:99999"),
        ("http://svc", "http://svc:0"),
        ("http://svc", "//svc"),
        ("http://svc", "svc"),
        ("http://svc", "file://svc/etc/passwd"),
        ("http://svc", "http://svc/\r\nHost: evil"),
        ("http://svc", "http://[svc"),
        ("http://svc", "http://svｃ"),
    ],
)
def test_a_url_beside_a_pattern_is_not(pattern: str, url: str) -> None:
    assert not url_allowed([pattern], "abc", url)
    assert not url_allowed([], "abc", url)
