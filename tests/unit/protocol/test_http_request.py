"""What of a request's head is refused, because two readers in a row could understand it differently."""

from __future__ import annotations

import pytest

from edge.protocol.http_request import BadRequest, Framing, allowed_trailers, read_framing, split_target

HOST = ("Host", "x")


@pytest.mark.parametrize(
    ("method", "version", "headers", "framing"),
    [
        ("GET", "1.1", [], Framing(0, True, False, "")),
        ("POST", "1.1", [("Content-Length", "7")], Framing(7, True, False, "")),
        ("POST", "1.1", [("content-length", "007")], Framing(7, True, False, "")),
        ("POST", "1.1", [("Transfer-Encoding", "Chunked")], Framing(None, True, False, "")),
        ("GET", "1.1", [("Connection", "Close")], Framing(0, False, False, "")),
        ("GET", "1.1", [("Connection", "x"), ("Connection", "a, close ,b")], Framing(0, False, False, "")),
        ("GET", "1.0", [], Framing(0, False, False, "")),
        ("GET", "1.0", [("Connection", "Keep-Alive")], Framing(0, True, False, "")),
        ("PUT", "1.1", [("Expect", "100-Continue"), ("Content-Length", "1")], Framing(1, True, True, "")),
        ("PUT", "1.0", [("Expect", "100-continue"), ("Content-Length", "1")], Framing(1, False, False, "")),
        ("GET", "1.1", [("Upgrade", "WebSocket"), ("Connection", "Upgrade")], Framing(0, True, False, "websocket")),
        ("GET", "1.1", [("Upgrade", "websocket")], Framing(0, True, False, "")),
    ],
)
def test_framing(method: str, version: str, headers: list[tuple[str, str]], framing: Framing) -> None:
    assert read_framing(method, version, [HOST, *headers]) == framing


@pytest.mark.parametrize(
    ("status", "method", "version", "headers"),
    [
        (400, "POST", "1.1", [HOST, ("Content-Length", "5"), ("Transfer-Encoding", "chunked")]),
        (400, "POST", "1.1", [HOST, ("Content-Length", "5"), ("Content-Length", "5")]),
        (400, "POST", "1.1", [HOST, ("Content-Length", "5, 5")]),
        (400, "POST", "1.1", [HOST, ("Content-Length", "+5")]),
        (400, "POST", "1.1", [HOST, ("Content-Length", "-0")]),
        (400, "POST", "1.1", [HOST, ("Content-Length", "")]),
        (400, "POST", "1.1", [HOST, ("Content-Length", "0x10")]),
        (400, "POST", "1.1", [HOST, ("Content-Length", "\xb2")]),
        (400, "POST", "1.1", [HOST, ("Content-Length", "9" * 30)]),
        (400, "POST", "1.1", [HOST, ("Transfer-Encoding", "chunked, identity")]),
        (400, "POST", "1.1", [HOST, ("Transfer-Encoding", "xchunked")]),
        (400, "POST", "1.1", [HOST, ("Transfer-Encoding", "")]),
        (400, "POST", "1.0", [HOST, ("Transfer-Encoding", "chunked")]),
        (501, "POST", "1.1", [HOST, ("Transfer-Encoding", "gzip, chunked")]),
        (501, "POST", "1.1", [HOST, ("Transfer-Encoding", "gzip"), ("Transfer-Encoding", "chunked")]),
        (501, "POST", "1.1", [HOST, ("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")]),
        (400, "GET", "1.1", []),
        (400, "GET", "1.1", [HOST, HOST]),
        (400, "GET", "1.0", [HOST, HOST]),
        (400, "GET", "1.1", [("Host", "a b")]),
        (400, "GET", "1.1", [("Host", "a, b")]),
        (400, "GET", "1.1", [("Host", "a/b")]),
        (400, "GET", "1.1", [("Host", "me@b")]),
        (405, "CONNECT", "1.1", [HOST]),
        (417, "PUT", "1.1", [HOST, ("Expect", "tea")]),
        (505, "GET", "2.0", [HOST]),
        (505, "GET", "0.9", []),
    ],
)
def test_refused(status: int, method: str, version: str, headers: list[tuple[str, str]]) -> None:
    with pytest.raises(BadRequest) as refused:
        read_framing(method, version, headers)
    assert refused.value.status == status
    assert refused.value.text.endswith(".\n")


def test_http_1_0_may_leave_the_host_out() -> None:
    assert read_framing("GET", "1.0", []).length == 0


@pytest.mark.parametrize(
    ("target", "path", "query", "host"),
    [
        ("/a%2f/b?c=%20d?e", "/a%2f/b", "c=%20d?e", "x"),
        ("//a", "//a", "", "x"),
        ("*", "*", "", "x"),
        ("http://h:8/p?q", "/p", "q", "h:8"),
        ("HTTPS://[::1]", "/", "", "[::1]"),
        ("http://h?q", "/", "q", "h"),
    ],
)
def test_targets(target: str, path: str, query: str, host: str) -> None:
    assert split_target(target, [("X-A", "1"), HOST])[:2] == (path, query)
    headers = split_target(target, [("X-A", "1"), HOST])[2]
    assert sorted(headers) == sorted([("X-A", "1"), ("Host", host)])


@pytest.mark.parametrize("target", ["/a#b", "http:///a", "http://u@h/a", "ftp://h/a", "h:80", "http:/a", ""])
def test_bad_targets(target: str) -> None:
    with pytest.raises(BadRequest):
        split_target(target, [HOST])


def test_trailers_decide_nothing() -> None:
    fields = [("X-Sum", "1"), ("Content-Length", "5"), ("HOST", "x"), ("Authorization", "me"), ("ETag", '"a"')]
    assert allowed_trailers(fields) == [("X-Sum", "1"), ("ETag", '"a"')]
