"""Heads of answers."""

from __future__ import annotations

import pytest

from edge.protocol.http_answer import Asked, Body, body_of, write_fields, write_head

GET = Asked("GET", "1.1", True)
OLD = Asked("GET", "1.0", True)


@pytest.mark.parametrize(
    ("asked", "status", "length", "body"),
    [
        (GET, 200, 5, Body.LENGTH),
        (GET, 200, 0, Body.LENGTH),
        (GET, 200, None, Body.CHUNKED),
        (OLD, 200, None, Body.CLOSE),
        (OLD, 200, 5, Body.LENGTH),
        (GET, 204, 5, Body.NONE),
        (GET, 304, None, Body.NONE),
        (Asked("HEAD", "1.1", True), 200, 5, Body.NONE),
    ],
)
def test_how_a_body_is_framed(asked: Asked, status: int, length: int | None, body: Body) -> None:
    assert body_of(asked, status, length) is body


def test_a_head() -> None:
    head = write_head(GET, 200, "", [("X-A", "b")], Body.LENGTH, 5, "now")
    assert head == b"HTTP/1.1 200 OK\r\nX-A: b\r\nDate: now\r\nContent-Length: 5\r\n\r\n"
    closing = Asked("GET", "1.1", False)
    assert write_head(closing, 299, "Why", [], Body.CHUNKED, None, "now") == (
        b"HTTP/1.1 299 Why\r\nDate: now\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    assert b"\r\nConnection: keep-alive\r\n" in write_head(OLD, 200, "", [], Body.LENGTH, 5, "now")
    assert b"\r\nConnection: close\r\n" in write_head(OLD, 200, "", [], Body.CLOSE, None, "now")


def test_a_status_without_a_usual_phrase() -> None:
    assert write_head(GET, 799, "", [], Body.LENGTH, 0, "now").startswith(b"HTTP/1.1 799 \r\n")


@pytest.mark.parametrize(("given", "kept"), [("5", True), ("5x", False), ("", False), ("\xb2", False)])
def test_a_length_without_a_body(given: str, kept: bool) -> None:
    head = write_head(Asked("HEAD", "1.1", True), 200, "", [("Content-Length", given)], Body.NONE, None, "now")
    assert (b"Content-Length: 5\r\n" in head) is kept
    assert head.count(b"Content-Length") == kept


def test_lines_cannot_be_broken() -> None:
    fields = [("X-A", "b\nc"), ("X-A\r\nB", "c"), ("X-B:", "c"), ("X-C", "\x7f"), ("X-D", "a\tb"), ("TE", "trailers")]
    assert write_fields(fields) == b"X-D: a\tb\r\n"
    assert b"evil" not in write_head(GET, 200, "OK\r\nevil: 1", [("X", "\revil: 1")], Body.LENGTH, 0, "now")
