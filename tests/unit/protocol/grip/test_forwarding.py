"""Which header fields pass, and the heads that are written of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.protocol.callbacks.events import Headers
from edge.protocol.grip.forwarding import (
    FEATURES,
    AnswerKind,
    event_headers,
    event_request_prefix,
    event_request_rest,
    field_line,
    proxied_head,
    proxied_headers,
    shown_headers,
    with_overrides,
)

HANDSHAKE = [
    ("Host", "chat.example"),
    ("Connection", "keep-alive, Upgrade, X-Hop"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "k"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Protocol", "p"),
    ("Sec-WebSocket-Extensions", "permessage-deflate"),
    ("Accept", "*/*"),
    ("Accept-Encoding", "gzip"),
    ("Accept-Language", "de"),
    ("Cookie", "a=b"),
    ("Origin", "https://chat.example"),
    ("Authorization", "Bearer x"),
    ("X-Hop", "1"),
    ("TE", "trailers"),
    ("Content-Length", "0"),
    ("Content-Type", "text/plain"),
    ("Connection-Id", "stolen"),
    ("Connection_Id", "stolen"),
    ("Meta-User", "root"),
    ("meta_user", "root"),
    ("Grip-Sig", "forged"),
    ("GRIP_SIG", "forged"),
    ("Content-Bytes-Replayed", "5"),
    ("X-Own", "1"),
]


def names(headers: Headers) -> list[str]:
    return [name for name, _ in headers]


def test_what_a_handshake_says_again_with_every_request() -> None:
    assert names(event_headers(HANDSHAKE)) == [
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol",
        "Accept-Language",
        "Cookie",
        "Origin",
        "Authorization",
        "X-Own",
    ]


def test_what_a_proxied_request_says() -> None:
    headers = [
        *HANDSHAKE,
        ("Content-Encoding", "gzip"),
        ("Expect", "100-continue"),
        ("Transfer-Encoding", "chunked"),
        ("Trailer", "X-Sum"),
    ]
    passed = names(proxied_headers(headers))
    assert "Content-Encoding" in passed
    assert "Trailer" in passed
    assert {"Accept", "Content-Type", "Cookie"} <= set(passed)
    for gone in ("Host", "Expect", "Transfer-Encoding", "TE", "X-Hop", "Accept-Encoding", "Content-Length", "Grip-Sig"):
        assert gone not in passed
    assert not [name for name in passed if name.lower().startswith(("meta", "grip", "connection"))]


ANSWER = [
    (b"Content-Type", b"application/websocket-events"),
    (b"Content-Length", b"5"),
    (b"Content-Encoding", b"gzip"),
    (b"Connection", b"close, X-Hop"),
    (b"X-Hop", b"1"),
    (b"Keep-Alive", b"timeout=5"),
    (b"Transfer-Encoding", b"chunked"),
    (b"Sec-WebSocket-Extensions", b"grip"),
    (b"Sec-WebSocket-Protocol", b"p"),
    (b"Set-Cookie", b"a=b"),
    (b"Set-Cookie", b"c=\xe9"),
    (b"Set-Meta-User", b"alice"),
    (b"Keep-Alive-Interval", b"30"),
    (b"Content-Bytes-Accepted", b"5"),
    (b"Grip-Hold", b"stream"),
    (b"grip-anything", b"x"),
]
COOKIES = [("Set-Cookie", "a=b"), ("Set-Cookie", "c=é")]


def test_what_a_socket_sees_of_the_answer_to_open() -> None:
    assert shown_headers(ANSWER, "socket") == [("Sec-WebSocket-Protocol", "p"), *COOKIES]


@pytest.mark.parametrize(("kind", "encoded"), [("proxied", True), ("held", False)])
def test_what_clients_see_of_an_answer(kind: AnswerKind, encoded: bool) -> None:
    shown = shown_headers(ANSWER, kind)
    assert ("Content-Type", "application/websocket-events") in shown
    assert (("Content-Encoding", "gzip") in shown) is encoded
    assert [item for item in shown if item[0] == "Set-Cookie"] == COOKIES
    for gone in ("Content-Length", "Connection", "Keep-Alive", "Transfer-Encoding", "X-Hop", "Grip-Hold"):
        assert gone not in names(shown)


def head_of(request: bytes) -> list[str]:
    head, _, _ = request.partition(b"\r\n\r\n")
    return head.decode("latin-1").split("\r\n")


def test_a_request_with_events() -> None:
    headers = [("Cookie", "a=b"), ("X-Forwarded-For", "9.9.9.9")]
    prefix = event_request_prefix(
        "/chat?x=1",
        "chat.example",
        headers,
        "c-1",
        client="[::1]:4711",
        scheme="wss",
        overrides=["X-Set: 1", "Cookie:"],
    )
    body = b"TEXT 1\r\na\r\n"
    request = prefix + event_request_rest(b"sig", [("User", "alice")], 7, body)
    assert head_of(request) == [
        "POST /chat?x=1 HTTP/1.1",
        "Host: chat.example",
        "X-Forwarded-For: 9.9.9.9, ::1",
        "X-Forwarded-Proto: https",
        "X-Set: 1",
        "Accept: application/websocket-events",
        "Content-Type: application/websocket-events",
        "Connection-Id: c-1",
        "Sec-WebSocket-Extensions: grip",
        f"Grip-Feature: {FEATURES}",
        "Grip-Sig: sig",
        "Meta-User: alice",
        "Content-Bytes-Replayed: 7",
        "Content-Length: 11",
    ]
    assert request.endswith(b"\r\n\r\n" + body)
    assert event_request_rest(b"sig", (), 0, b"") == b"Grip-Sig: sig\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "length", "framing"),
    [
        ("GET", 0, []),
        ("GET", 5, ["Content-Length: 5"]),
        ("POST", 0, ["Content-Length: 0"]),
        ("POST", None, ["Transfer-Encoding: chunked"]),
        ("PUT", 7, ["Content-Length: 7"]),
    ],
)
def test_a_proxied_head(method: str, length: int | None, framing: list[str]) -> None:
    head = proxied_head(
        method, "/a", "h", [("A", "é")], length, b"sig", client="1.2.3.4:5", scheme="http", last_ids=["room; last-id=5"]
    )
    assert head.endswith(b"\r\n\r\n")
    assert head_of(head) == [
        f"{method} /a HTTP/1.1",
        "Host: h",
        "A: é",
        "X-Forwarded-For: 1.2.3.4",
        "X-Forwarded-Proto: http",
        f"Grip-Feature: {FEATURES}",
        "Grip-Last: room; last-id=5",
        *framing,
        "Grip-Sig: sig",
    ]


def test_the_client_stands_once_in_the_chain_of_trusted_proxies() -> None:
    headers = [("X-Forwarded-For", "1.2.3.4, 10.0.0.1"), ("X-Forwarded-For", "10.0.0.2"), ("X-Forwarded-Proto", "x")]
    lines = head_of(proxied_head("GET", "/", "h", headers, 0, b"s", client="1.2.3.4:0", scheme="https"))
    assert [line for line in lines if line.startswith("X-")] == [
        "X-Forwarded-For: 1.2.3.4, 10.0.0.1, 10.0.0.2",
        "X-Forwarded-Proto: https",
    ]


def test_overrides() -> None:
    headers = [("A", "1"), ("B", "2"), ("a", "3")]
    assert with_overrides(headers, []) == headers
    assert with_overrides(headers, ["A: x:y", "C:z", "B:"]) == [("A", "x:y"), ("C", "z")]


def test_targets_stay_as_clients_wrote_them() -> None:
    def line(target: str) -> str:
        return head_of(proxied_head("GET", target, "h", [], 0, b"s", client="1.2.3.4:5", scheme="http"))[0]

    target = "/a%20b;v=1?q={x}|[y]\"'&z=%zz"
    assert line(target) == f"GET {target} HTTP/1.1"
    assert line("/é €") == "GET /%C3%A9%20%E2%82%AC HTTP/1.1"
    assert line("/é".encode().decode("latin-1")) == "GET /%C3%A9 HTTP/1.1"


NASTY = st.text(st.sampled_from("a\r\n\0:; \x0b\x0c\x1c\x85\u2028é\ud800\tß€"), max_size=12)


@given(NASTY, NASTY, NASTY, NASTY, NASTY, NASTY)
def test_nothing_a_client_says_becomes_a_line_of_its_own(
    target: str, host: str, name: str, value: str, last: str, method: str
) -> None:
    head = proxied_head(
        method, target, host, [(name, value)], 3, b"s", client="1.2.3.4:5", scheme="http", last_ids=[last]
    )
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert len(lines) in (8, 9)  # 8: the field had no name, or one that is not passed on
    assert not any(line.startswith((b" ", b"\t", b":")) for line in lines[1:])
    assert not any(control in line for line in lines for control in (b"\r", b"\n", b"\0"))
    assert lines[0].count(b" ") == 2
    assert lines[-1] == b"Grip-Sig: s"
    prefix = event_request_prefix(target, host, [(name, value)], "c", client="1.2.3.4:5", scheme="ws")
    assert prefix.count(b"\n") == prefix.count(b"\r\n") == prefix.count(b"\r")
    rest = event_request_rest(b"s", [(name, value)], 0, b"")
    assert rest.count(b"\n") == rest.count(b"\r") == 4
    assert field_line("a\r\nb c:", "x\r\n y") == b"abc: x  y\r\n"


@given(NASTY, NASTY)
def test_a_field_is_one_line(name: str, value: str) -> None:
    line = field_line(name, value)
    if line:
        assert line.endswith(b"\r\n")
        assert line.count(b"\n") == line.count(b"\r") == 1
        assert not line.startswith((b" ", b"\t", b":"))
