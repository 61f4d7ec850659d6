"""Instructions in headers and in bodies."""

from __future__ import annotations

import contextlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import FieldError, WireError
from edge.protocol.grip.instruct import (
    HeldChannel,
    Instruct,
    KeepAlive,
    Link,
    Shown,
    is_instruct_body,
    is_instructed,
    parse_instruct,
)

INSTRUCT = (b"Content-Type", b"application/grip-instruct")


def read(*headers: tuple[str, str], status: int = 200, body: object = None) -> Instruct:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    if body is not None:
        raw.append(INSTRUCT)
    instruct = parse_instruct(status, raw, b"" if body is None else orjson.dumps(body))
    assert instruct is not None
    return instruct


def test_answers_without_instructions() -> None:
    headers = [(b"Content-Type", b"text/plain"), (b"Set-Cookie", b"grip-hold=1"), (b"Grip", b"x")]
    assert not is_instructed(headers)
    assert parse_instruct(200, headers, b"") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"Grip-Hold", b"stream"),
        (b"GRIP-STATUS", b"404"),
        (b"grip-unheard-of", b"x"),
        (b"content-type", b"application/grip-instruct"),
        (b"Content-Type", b"application/grip-instruct; charset=utf-8"),
    ],
)
def test_answers_with_instructions(name: bytes, value: bytes) -> None:
    assert is_instructed([(b"A", b"b"), (name, value)])


def test_only_the_type_makes_a_body_an_instruct() -> None:
    assert is_instruct_body([INSTRUCT])
    assert not is_instruct_body([(b"Grip-Hold", b"stream"), (b"Content-Type", b"text/plain")])


def test_a_stream_hold_as_django_eventstream_writes_it() -> None:
    instruct = read(
        ("Content-Type", "text/event-stream"),
        ("Grip-Hold", "stream"),
        ("Grip-Channel", "events-room; prev-id=5; filter=build-id; filter=skip-users, user-alice; filter=require-sub"),
        ("Grip-Set-Meta", 'user="alice", id_format="room:%(events-room)s"'),
        ("Grip-Keep-Alive", "event: keep-alive\\ndata:\\n\\n; format=cstring; timeout=20"),
        ("Grip-Link", "</events/?link=next&x=1>; rel=next; timeout=3.5"),
    )
    assert instruct == Instruct(
        hold="stream",
        channels=(
            HeldChannel("events-room", "5", ("build-id", "skip-users")),
            HeldChannel("user-alice", None, ("require-sub",)),
        ),
        keep_alive=KeepAlive(b"event: keep-alive\ndata:\n\n", 20.0),
        meta={"user": "alice", "id_format": "room:%(events-room)s"},
        next=Link("/events/?link=next&x=1", 3.5),
    )


@pytest.mark.parametrize(
    ("value", "keep_alive"),
    [
        ("x", KeepAlive(b"x")),
        ('"x"', KeepAlive(b'"x"')),
        ("x; mode=interval; timeout=0", KeepAlive(b"x", 1.0, idle=False)),
        ("x; mode=idle; format=raw", KeepAlive(b"x")),
        ("a\\\\b\\r\\n\\t\\x00\\xFf; format=cstring", KeepAlive(b"a\\b\r\n\t\x00\xff")),
        ("AAE=; format=base64", KeepAlive(b"\0\1")),
        ("AAE; format=base64", KeepAlive(b"\0\1")),
        ("\\n; format=raw", KeepAlive(b"\\n")),
        ("", None),
    ],
)
def test_keep_alives(value: str, keep_alive: KeepAlive | None) -> None:
    assert read(("Grip-Keep-Alive", value)).keep_alive == keep_alive


def test_times_have_least_values() -> None:
    assert read(("Grip-Hold", "response")).timeout_s == 55.0
    assert read(("Grip-Timeout", "2")).timeout_s == 5.0
    assert read(("Grip-Timeout", "600")).timeout_s == 600.0
    assert read(("Grip-Link", "<x>; rel=next")).next == Link("x", 120.0)


def test_status_and_exposed_headers() -> None:
    instruct = read(("Grip-Status", "404 Not here"), ("Grip-Expose-Headers", "Content-Type, ETag"))
    assert instruct.shown == Shown(404, "Not here")
    assert instruct.exposed == ("content-type", "etag")
    assert read(("Grip-Status", "404")).shown == Shown(404, "")
    assert read(("Grip-Status", "")).shown == Shown()
    assert read(("Grip-Hold", "stream")).exposed is None


def test_links_of_two_kinds() -> None:
    links = ("Grip-Link", "<http://a.example/n;v?a=b,c>; rel=next, </gone>; rel=gone; timeout=x, </other>; rel=prev")
    instruct = read(links)
    assert (instruct.next, instruct.gone) == (Link("http://a.example/n;v?a=b,c"), Link("/gone"))


def test_meta_keeps_the_case_of_names() -> None:
    assert read(("Grip-Set-Meta", 'User="a, \\"b\\""'), ("Grip-Set-Meta", "x=y")).meta == {"User": 'a, "b"', "x": "y"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("Grip-Hold", "forever", "Grip-Hold must be response or stream"),
        ("Grip-Hold", "", "Grip-Hold must be response or stream"),
        ("Grip-Channel", "; filter=x", "Grip-Channel must begin with the name"),
        ("Grip-Channel", 'a; prev-id="1', "Grip-Channel: a quote is not closed"),
        ("Grip-Timeout", "soon", "Grip-Timeout must be a number of seconds"),
        ("Grip-Timeout", "-1", "Grip-Timeout must be a number of seconds"),
        ("Grip-Timeout", "nan", "Grip-Timeout must be a number of seconds"),
        ("Grip-Keep-Alive", "; timeout=5", "Grip-Keep-Alive must begin with what to send"),
        ("Grip-Keep-Alive", "x; mode=often", "mode of Grip-Keep-Alive must be idle or interval"),
        ("Grip-Keep-Alive", "x; timeout=-5", "timeout of Grip-Keep-Alive"),
        ("Grip-Keep-Alive", "x; format=hex", "format of Grip-Keep-Alive must be raw, cstring or base64"),
        ("Grip-Keep-Alive", "\\q; format=cstring", "Grip-Keep-Alive: the escapes are"),
        ("Grip-Keep-Alive", "\\x0; format=cstring", "Grip-Keep-Alive: the escapes are"),
        ("Grip-Keep-Alive", "a\\; format=cstring", "Grip-Keep-Alive: the escapes are"),
        ("Grip-Keep-Alive", "?; format=base64", "Grip-Keep-Alive is not base64"),
        ("Grip-Set-Meta", '="x"', "Grip-Set-Meta must be name"),
        ("Grip-Status", "x", "Grip-Status must begin with a status from 200 to 999"),
        ("Grip-Status", "101 Switching", "Grip-Status must begin with a status from 200 to 999"),
        ("Grip-Status", "99999", "Grip-Status must begin with a status from 200 to 999"),
        ("Grip-Link", "/x; rel=next", "Grip-Link must begin with <uri>"),
        ("Grip-Link", "<>; rel=next", "Grip-Link has no valid URI"),
        ("Grip-Link", "<ftp://a/b>; rel=next", "Grip-Link has no valid URI"),
        ("Grip-Link", "<http://>; rel=next", "Grip-Link has no valid URI"),
        ("Grip-Link", "<http://[::1/>; rel=next", "Grip-Link has no valid URI"),
        ("Grip-Link", "<http://a:99999/>; rel=next", "Grip-Link has no valid URI"),
        ("Grip-Link", "</x>; rel=next; timeout=never", "timeout of Grip-Link"),
    ],
)
def test_malformed_headers_are_named(name: str, value: str, message: str) -> None:
    with pytest.raises(WireError, match=message):
        read((name, value))


def test_a_whole_body() -> None:
    instruct = read(
        ("Grip-Link", "</next>; rel=next"),
        body={
            "hold": {
                "mode": "stream",
                "channels": [{"name": "a", "prev-id": "1", "filters": ["f"]}, {"name": "b"}],
                "timeout": 7,
                "keep-alive": {"content-bin": "AAE=", "timeout": 10},
                "meta": {"user": "alice"},
            },
            "response": {"code": 404, "reason": "No", "headers": {"A": "é"}, "body-bin": "AAE="},
        },
    )
    assert instruct == Instruct(
        hold="stream",
        channels=(HeldChannel("a", "1", ("f",)), HeldChannel("b")),
        timeout_s=7.0,
        keep_alive=KeepAlive(b"\0\1", 10.0),
        meta={"user": "alice"},
        shown=Shown(404, "No", (("A", "Ã©"),), b"\0\1"),
        next=Link("/next"),
    )


def test_a_short_body() -> None:
    instruct = read(body={"hold": {"channels": []}})
    assert (instruct.hold, instruct.timeout_s, instruct.shown) == ("response", 55.0, Shown(headers=(), body=b""))
    instruct = read(("Grip-Status", "404 No"), body={"response": {"headers": [["A", "b"], ["A", "c"]], "body": "é"}})
    assert instruct.hold is None
    assert instruct.shown == Shown(404, "No", (("A", "b"), ("A", "c")), "é".encode())
    assert read(body={"hold": {"channels": [], "keep-alive": {"timeout": 5}}}).keep_alive is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "instruct"),
        ({"hold": 1}, "instruct.hold"),
        ({"hold": {}}, "instruct.hold.channels"),
        ({"hold": {"mode": "x", "channels": []}}, "instruct.hold.mode"),
        ({"hold": {"channels": [{}]}}, "instruct.hold.channels[0].name"),
        ({"hold": {"channels": [{"name": "a"}, 7]}}, "instruct.hold.channels[1]"),
        ({"hold": {"channels": [{"name": "a", "filters": [1]}]}}, "instruct.hold.channels[0].filters[0]"),
        ({"hold": {"channels": [], "timeout": -1}}, "instruct.hold.timeout"),
        ({"hold": {"channels": [], "keep-alive": {"content": 1}}}, "instruct.hold.keep-alive.content"),
        ({"hold": {"channels": [], "meta": {"a": 1}}}, "instruct.hold.meta.a"),
        ({"response": {"code": 99}}, "instruct.response.code"),
        ({"response": {"reason": "a\r\nb"}}, "instruct.response.reason"),
        ({"response": {"headers": {"A": "a\nb"}}}, "instruct.response.headers.A"),
        ({"response": {"headers": {"A b": "c"}}}, "instruct.response.headers.A b"),
        ({"response": {"headers": [["A"]]}}, "instruct.response.headers[0]"),
        ({"response": {"body": 1}}, "instruct.response.body"),
    ],
)
def test_malformed_bodies_are_named(body: object, field: str) -> None:
    with pytest.raises(FieldError) as caught:
        read(body=body)
    assert caught.value.field == field


def test_a_body_that_is_no_json_or_has_another_status() -> None:
    with pytest.raises(WireError, match="application/grip-instruct is not JSON"):
        parse_instruct(200, [INSTRUCT], b"{")
    with pytest.raises(WireError, match="must have status 200, not 201"):
        parse_instruct(201, [INSTRUCT], b"{}")


NAMES = ("hold", "channel", "timeout", "keep-alive", "set-meta", "status", "expose-headers", "link")
HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"Grip-" + name.encode() for name in NAMES]),
        st.one_of(
            st.binary(max_size=12),
            st.lists(
                st.sampled_from(
                    [
                        b"stream",
                        b";",
                        b"=",
                        b",",
                        b'"',
                        b"<",
                        b">",
                        b"\\",
                        b"rel=next",
                        b"5",
                        b"format=cstring",
                        b"\xc3",
                    ]
                ),
                max_size=8,
            ).map(b"".join),
        ),
    ),
    max_size=4,
)


@given(HEADERS)
def test_garbage_in_headers_is_refused_or_read(headers: list[tuple[bytes, bytes]]) -> None:
    with contextlib.suppress(WireError):
        parse_instruct(200, headers, b"")
