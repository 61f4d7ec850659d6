"""What backends may answer, and what clients see of it: the same behind Pushpin and behind Holdfast.

Each case is a request, the bytes of a backend's answers, and where we mean to differ from Pushpin, what is seen
instead and why. Everywhere:

- `Date`, `Server` and how a body is framed (Content-Length, chunks, Connection) are not compared, the body is.
- The text of a 502 is each proxy's own. A handshake that a backend refuses has the usual reason phrase of its status.
- Where Pushpin cuts a WebSocket without a word because its backend failed, Holdfast says so in a close frame.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import pytest_asyncio

from tests.scenarios.grip.conftest import PROXIES
from tests.scenarios.grip.sight import Seen, SeenSocket, see_response, see_socket
from tests.support.grip_proxy import GripProxy, GripRoute, post_publish, publish
from tests.support.raw_backend import Answer, Asked, RawBackend, raw_backend
from tests.support.raw_websocket import client_frame, close_frame
from tests.support.waiting import DEADLINE_S

pytestmark = [pytest.mark.scenario, pytest.mark.asyncio(loop_scope="module")]

FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "keep-alive"})
FAILED = frozenset({1011, 1012, 1013})
"""Close codes with which Holdfast tells of a backend that failed."""
PLAIN = ("Content-Type", "text/plain")
INSTRUCT = ("Content-Type", "application/grip-instruct")
EVENTS = ("Content-Type", "application/websocket-events")
GRIP = ("Sec-WebSocket-Extensions", "grip")


@dataclass(frozen=True, slots=True)
class Http:
    """A request, GET /name unless said otherwise, and its answer."""

    answer: Answer | bytes
    request: str = "GET"
    headers: str = ""
    body: bytes = b""
    version: str = "1.1"
    items: Sequence[Mapping[str, Any]] = ()
    """Formats of items published to channel `name` when the answer has begun to come. For a response hold, again and
    again until one has had its effect."""
    ours: Callable[[Seen], Seen] | None = None
    """Makes of what is seen of Pushpin what is seen of Holdfast."""
    why: str = ""


def text(*headers: tuple[str, str], status: str = "200 OK", body: bytes = b"x") -> Answer:
    return Answer(status, headers, body)


def hold(mode: str, *headers: tuple[str, str], status: str = "200 OK", body: bytes = b"first ") -> Answer:
    """`NAME` stands for the name of the case."""
    return Answer(status, [("Grip-Hold", mode), ("Grip-Channel", "NAME"), *headers], body)


def instruct(document: Any, *headers: tuple[str, str], status: str = "200 OK") -> Answer:
    return Answer(status, [INSTRUCT, *headers], json.dumps(document).encode())


def answered(**fields: Any) -> Mapping[str, Any]:
    return {"http-response": fields}


def streamed(**fields: Any) -> Mapping[str, Any]:
    return {"http-stream": fields}


CLOSE = streamed(action="close")
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"

HTTP: dict[str, Http] = {
    # Plain proxying
    "ordinary": Http(text(PLAIN, ("X-One", "1"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))),
    "no-content": Http(text(status="204 No Content", body=b"")),
    "not-modified": Http(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"),
    "own-reason": Http(text(PLAIN, status="404 Nope")),
    "redirect": Http(text(("Location", "http://127.0.0.1/x"), status="302 Found")),
    "chunked": Http(CHUNKS),
    "until-the-end": Http(b"HTTP/1.1 200 OK\r\nX-One: 1\r\n\r\nuntil the end"),
    "head": Http(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", request="HEAD"),
    "post": Http(text(PLAIN), request="POST", headers="Content-Length: 5\r\n", body=b"hello"),
    "put-chunked": Http(
        text(PLAIN), request="PUT", headers="Transfer-Encoding: chunked\r\n", body=b"3\r\nabc\r\n0\r\n\r\n"
    ),
    "delete": Http(text(status="200 OK", body=b""), request="DELETE"),
    "options": Http(text(("Allow", "GET"), body=b""), request="OPTIONS"),
    "nothing": Http(b""),
    "garbage": Http(b"garbage\r\n\r\n"),
    "continue": Http(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
    "early-hints": Http(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
    "http-1.0": Http(text(PLAIN), version="1.0"),
    "http-1.0-chunked": Http(CHUNKS, version="1.0"),
    "hop-by-hop": Http(
        text(("Connection", "X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "timeout=3"), ("X-Two", "2")),
        ours=lambda theirs: replace(theirs, headers=(("x-two", "2"),)),
        why="what Connection names concerns the edge alone (RFC 9110, section 7.6.1)",
    ),
    "events-from-a-client": Http(
        text(), request="POST", headers="Content-Type: application/websocket-events\r\nContent-Length: 6\r\n",
        body=b"OPEN\r\n",
    ),
    # Instructions in headers
    "unknown-grip-header": Http(text(("Grip-Foo", "1"))),
    "channel-without-hold": Http(text(("Grip-Channel", "c"))),
    "unknown-hold": Http(text(("Grip-Hold", "forever"), ("Grip-Channel", "c"))),
    "hold-without-channel": Http(text(("Grip-Hold", "response"), ("Grip-Timeout", "5"))),
    "bad-timeout": Http(hold("response", ("Grip-Timeout", "x"))),
    "bad-keep-alive": Http(hold("stream", ("Grip-Keep-Alive", "x; format=zip"))),
    "grip-status": Http(text(("Grip-Status", "404 Gone Fishing"))),
    "grip-status-without-reason": Http(text(("Grip-Status", "404"))),
    "bad-grip-status": Http(text(("Grip-Status", "abc"))),
    "exposed-headers": Http(text(PLAIN, ("Grip-Expose-Headers", "X-A"), ("X-A", "1"), ("X-B", "2"))),
    "next-link-alone": Http(text(PLAIN, ("Grip-Link", "</ordinary>; rel=next"), body=b"first ")),
    # Instructions in a body
    "instruct-response": Http(
        instruct({"response": {"code": 201, "reason": "Made", "headers": {"X-Y": "z"}, "body": "b"}})
    ),
    "instruct-pairs": Http(
        instruct({"response": {"headers": [["A", "1"], ["A", "2"]], "body-bin": "AAEC"}}, ("X-Own", "1"))
    ),
    "instruct-nothing": Http(
        instruct({}),
        ours=lambda theirs: Seen(200, "OK", (), b""),
        why="1.36 takes an empty body for a failure of its own ('filter error')",
    ),
    "instruct-broken": Http(text(INSTRUCT, body=b"{")),
    "instruct-with-404": Http(instruct({"response": {}}, status="404 Not Found")),
    "instruct-list": Http(instruct([])),
    "instruct-unknown-mode": Http(instruct({"hold": {"mode": "x", "channels": [{"name": "c"}]}})),
    "instruct-no-channels": Http(instruct({"hold": {"mode": "stream"}})),
    "instruct-bad-channel": Http(instruct({"hold": {"channels": [{"nome": "c"}]}})),
    # Response holds
    "held": Http(hold("response", PLAIN), items=[answered(body="pushed")]),
    "held-headers": Http(
        hold("response", PLAIN, ("X-A", "1"), ("X-B", "2"), ("Set-Cookie", "a=1")),
        items=[answered(code=404, reason="Gone Fishing", headers={"X-A": "9", "X-C": "3"}, body="pushed")],
    ),
    "held-pairs": Http(
        hold("response", PLAIN), items=[answered(headers=[["X-A", "1"], ["X-A", "2"]], **{"body-bin": "AAEC"})]
    ),
    "held-exposed": Http(
        hold("response", PLAIN, ("Grip-Expose-Headers", "X-A")),
        items=[answered(headers={"X-A": "1", "X-B": "2"}, body="pushed")],
    ),
    "held-status": Http(hold("response", ("Grip-Status", "404 Held")), items=[answered(body="pushed")]),
    "held-with-404": Http(hold("response", status="404 Held"), items=[answered(body="pushed")]),
    "held-empty": Http(hold("response", PLAIN), items=[answered(body="")]),
    "held-code-alone": Http(hold("response", PLAIN), items=[answered(code=204, body="")]),
    "held-patch": Http(
        hold("response", ("Content-Type", "application/json"), body=b'{"a": [1]}'),
        items=[answered(**{"body-patch": [{"op": "replace", "path": "/a", "value": "b"}]})],
    ),
    "held-instruct": Http(
        instruct({"hold": {"channels": [{"name": "held-instruct"}]}, "response": {"headers": {"X-A": "1"}}}),
        items=[answered(body="pushed")],
    ),
    # Stream holds
    "stream": Http(hold("stream", PLAIN), items=[streamed(content="one "), streamed(content="two"), CLOSE]),
    "stream-with-404": Http(hold("stream", status="404 Held"), items=[streamed(content="one"), CLOSE]),
    "stream-status": Http(hold("stream", ("Grip-Status", "404 Held")), items=[CLOSE]),
    "stream-exposed": Http(
        hold("stream", PLAIN, ("Grip-Expose-Headers", "X-A"), ("X-A", "1"), ("X-B", "2")), items=[CLOSE]
    ),
    "stream-binary": Http(hold("stream"), items=[streamed(**{"content-bin": "AAEC/w=="}), CLOSE]),
    "stream-empty": Http(hold("stream", body=b""), items=[streamed(content="one"), CLOSE]),
    "stream-other-formats": Http(
        hold("stream"), items=[answered(body="no"), {"ws-message": {"content": "no"}}, streamed(content="yes"), CLOSE]
    ),
    "stream-instruct": Http(
        instruct({"hold": {"mode": "stream", "channels": [{"name": "stream-instruct"}]}, "response": {"body": "b "}}),
        items=[streamed(content="one"), CLOSE],
    ),
    "stream-quoted-channel": Http(
        Answer(headers=[("Grip-Hold", "stream"), ("Grip-Channel", 'stream-quoted-channel; filter="skip-self"')]),
        items=[streamed(content="one"), CLOSE],
    ),
    "stream-two-channels": Http(
        Answer(headers=[("Grip-Hold", "stream"), ("Grip-Channel", "other, stream-two-channels")]),
        items=[streamed(content="one"), CLOSE],
    ),
    "stream-prev-id-without-link": Http(
        Answer(headers=[("Grip-Hold", "stream"), ("Grip-Channel", "stream-prev-id-without-link; prev-id=1")], body=b"b")
    ),
    "stream-unknown-filter": Http(
        Answer(headers=[("Grip-Hold", "stream"), ("Grip-Channel", "stream-unknown-filter; filter=x")]),
        items=[streamed(content="one"), CLOSE],
    ),
    "stream-var-subst": Http(
        Answer(
            headers=[
                ("Grip-Hold", "stream"), ("Grip-Channel", "stream-var-subst; filter=var-subst"),
                ("Grip-Set-Meta", 'a="1"'), ("Grip-Set-Meta", "b=2"),
            ],
            body=b"%(a)s first ",
        ),
        items=[streamed(content="%(a)s %(b)s %(c)s 100 %%", **{"content-filters": ["var-subst"]}), CLOSE],
    ),
    "stream-content-filter-missing": Http(
        hold("stream"), items=[streamed(content="no", **{"content-filters": ["var-subst"]}), CLOSE]
    ),
    "stream-after-content-filters": Http(
        hold("stream"),
        items=[streamed(content="no", **{"content-filters": ["var-subst"]}), streamed(content="yes"), CLOSE],
        ours=lambda theirs: replace(theirs, body=b"first yes"),
        why="after an item that was made for other filters 1.36 delivers nothing more; newer ones go on, and so do we",
    ),
}  # fmt: skip


def event(kind: str, content: bytes | str | None = None) -> bytes:
    if content is None:
        return f"{kind}\r\n".encode()
    data = content.encode() if isinstance(content, str) else content
    return f"{kind} {len(data):x}\r\n".encode() + data + b"\r\n"


def closing(code: int, reason: str = "") -> bytes:
    return event("CLOSE", code.to_bytes(2, "big") + reason.encode())


def says(*events: bytes, headers: Sequence[tuple[str, str]] = ()) -> Answer:
    return Answer(headers=[EVENTS, *headers], body=b"".join(events))


OPEN = says(event("OPEN"))
OPEN_GRIP = says(event("OPEN"), headers=[GRIP])
BYE = event("CLOSE")
MESSAGE = client_frame(1, b"hi")


@dataclass(frozen=True, slots=True)
class Socket:
    """A WebSocket: the answers to the requests of its connection in their order, and what the client sends."""

    answers: Sequence[Answer | bytes]
    frames: Sequence[bytes] = (MESSAGE,)
    headers: Sequence[str] = ()
    items: Sequence[Mapping[str, Any]] = ()
    """Formats of items published to channel `name` once the handshake is answered."""
    ours: Callable[[SeenSocket], SeenSocket] | None = None
    why: str = ""
    theirs_stall: bool = False
    """Nothing is seen of Pushpin, for ever."""


def ends(code: int, reason: bytes = b"") -> Callable[[SeenSocket], SeenSocket]:
    """With this close frame, whatever Pushpin ends with."""

    def change(theirs: SeenSocket) -> SeenSocket:
        before = theirs.frames if theirs.cut else theirs.frames[:-1]
        return replace(theirs, frames=(*before, (0x88, code.to_bytes(2, "big") + reason)), cut=False)

    return change


def hears(*frames: tuple[int, bytes]) -> Callable[[SeenSocket], SeenSocket]:
    """Exactly these frames instead of a cut."""
    return lambda theirs: replace(theirs, frames=frames, cut=False)


UNSENDABLE = "the code must not be sent (RFC 6455, section 7.4.1): clients would take it for a broken frame"

SOCKETS: dict[str, Socket] = {
    # Handshakes
    "wrong-type": Socket([Answer(headers=[PLAIN], body=event("OPEN"))]),
    "type-with-charset": Socket([Answer(headers=[(EVENTS[0], EVENTS[1] + "; charset=utf-8")], body=event("OPEN"))]),
    "refused": Socket([text(PLAIN, ("X-A", "1"), ("Set-Cookie", "a=1"), status="404 Not Here", body=b"no such room")]),
    "refused-with-events": Socket([Answer("500 Oops", [EVENTS], event("OPEN"))]),
    "created": Socket([Answer("201 Created", [EVENTS], event("OPEN"))]),
    "redirected": Socket([text(("Location", "/elsewhere"), status="302 Found", body=b"")]),
    "no-events": Socket([says()]),
    "message-first": Socket([says(event("TEXT", "hi"))]),
    "open-later": Socket([says(event("TEXT", "hi"), event("OPEN"))]),
    "open-cut-short": Socket([says(b"OPEN")]),
    "open-in-lower-case": Socket([says(event("open"))]),
    "broken-connection": Socket([b""]),
    "headers": Socket(
        [
            says(
                event("OPEN"), BYE,
                headers=[
                    GRIP, ("X-A", "1"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Cache-Control", "no-cache"),
                    ("Sec-WebSocket-Protocol", "p1"), ("Set-Meta-A", "1"), ("Keep-Alive-Interval", "30"),
                ],
            )
        ],
        headers=["Sec-WebSocket-Protocol: p1, p2", "Origin: http://a.example"],
    ),
    "messages-with-open": Socket([says(event("OPEN"), event("TEXT", "a"), event("BINARY", b"\0b"), BYE)]),
    # Messages
    "echo": Socket([OPEN, says(event("TEXT", "hi"), BYE)]),
    "empty-messages": Socket(
        [OPEN, says(event("TEXT"), event("TEXT", ""), event("BINARY", b""), event("BINARY"), BYE)]
    ),
    "upper-case-length": Socket([OPEN, says(b"TEXT A\r\n0123456789\r\n", BYE)]),
    "unknown-events": Socket([OPEN, says(event("FOO", "x"), event("TEXT", "hi"), event("BAR"), BYE)]),
    "after-close": Socket([OPEN, says(BYE, event("TEXT", "hi"))]),
    "cut-short": Socket([OPEN, says(b"TEXT 8\r\nhi"), says(BYE)], frames=[MESSAGE, client_frame(1, b"ho")]),
    "pings-to-the-client": Socket([OPEN, says(event("PING", "hi"), event("PONG"), BYE)]),
    "ping-of-the-client": Socket([OPEN, says(closing(4001))], frames=[client_frame(9, b"abc")]),
    "ten-kilobytes": Socket([OPEN, says(event("TEXT", "x" * 10_000), BYE)]),
    "many-kilobytes": Socket(
        [OPEN, says(event("TEXT", "x" * 300_000), BYE)],
        ours=hears((0x81, b"x" * 300_000), (0x88, b"\x03\xe8")), theirs_stall=True,
        why="1.36 never delivers what is larger than 16,384 bytes",
    ),
    # The prefix, and control messages
    "prefix": Socket(
        [OPEN_GRIP, says(event("TEXT", "m:a"), event("TEXT", "b"), event("BINARY", "m:c"), event("BINARY", "d"), BYE)]
    ),
    "no-prefix": Socket(
        [
            says(event("OPEN"), headers=[(GRIP[0], 'grip; message-prefix=""')]),
            says(event("TEXT", "m:a"), event("TEXT", "b"), event("TEXT", "c:{no"), BYE),
        ]
    ),
    "own-prefix": Socket(
        [
            says(event("OPEN"), headers=[(GRIP[0], 'grip; message-prefix="x-"')]),
            says(event("TEXT", "m:a"), event("TEXT", "x-b"), BYE),
        ]
    ),
    "without-grip": Socket([OPEN, says(event("TEXT", 'c:{"type":"subscribe","channel":"c"}'), BYE)]),
    "malformed-control": Socket(
        [
            OPEN_GRIP,
            says(
                *(event("TEXT", f"c:{junk}") for junk in ("{no", '{"a":1}', "[]", '{"type":7}', '{"type":"xyz"}', "")),
                event("TEXT", 'c:{"type":"subscribe"}'), event("TEXT", 'c:{"type":"subscribe","channel":""}'),
                event("TEXT", 'c:{"type":"subscribe","channel":7}'), event("TEXT", 'c:{"type":"keep-alive"}'),
                event("TEXT", "m:well"), BYE,
            ),
        ]
    ),
    "control-after-a-space": Socket(
        [OPEN_GRIP, says(event("TEXT", 'c: {"type":"detach"}'), event("TEXT", "m:x"), BYE)]
    ),
    "publications": Socket(
        [says(event("OPEN"), event("TEXT", 'c:{"type":"subscribe","channel":"publications"}'), headers=[GRIP])],
        frames=[],
        items=[
            {"ws-message": {"content": "text"}}, {"ws-message": {"content-bin": "AAEC/w=="}},
            {"ws-message": {"content": "as binary", "type": "binary"}}, streamed(content="no"),
            {"ws-message": {"content": "m:kept"}}, {"ws-message": {"action": "close", "code": 4001, "reason": "why"}},
        ],
    ),
    "publication-closes": Socket(
        [says(event("OPEN"), event("TEXT", 'c:{"type":"subscribe","channel":"publication-closes"}'), headers=[GRIP])],
        frames=[],
        items=[{"ws-message": {"action": "close"}}],
    ),
    # Endings
    "close": Socket([OPEN, says(closing(4001))]),
    "close-with-reason": Socket([OPEN, says(closing(4001, "bye"))]),
    "close-at-once": Socket([says(event("OPEN"), closing(4001))]),
    "close-without-code": Socket([OPEN, says(BYE)]),
    "close-one-byte": Socket([OPEN, says(event("CLOSE", b"\x03"))]),
    "close-0": Socket([OPEN, says(closing(0))], ours=ends(1000), why=UNSENDABLE),
    "close-1005": Socket([OPEN, says(closing(1005))], ours=ends(1000), why=UNSENDABLE),
    "close-1006": Socket([OPEN, says(closing(1006))], ours=ends(1000), why=UNSENDABLE),
    "disconnect": Socket([OPEN, says(event("DISCONNECT"))]),
    "client-closes": Socket([OPEN, says()], frames=[close_frame(4005, "why")],
        ours=hears((0x88, b"\x0f\xa5why")), why="a client that says goodbye is answered, whatever its backend does"),
    "client-closes-and-is-answered": Socket([OPEN, says(closing(4006))], frames=[close_frame(4005, "why")]),
    "client-closes-and-hears-more": Socket([OPEN, says(event("TEXT", "hi"))], frames=[close_frame(4005)],
        ours=hears((0x81, b"hi"), (0x88, b"\x0f\xa5")), why="what the backend still has to say is delivered"),
    # Failures
    "bad-length": Socket([OPEN, says(b"TEXT zz\r\nhi\r\n")]),
    "no-line-end": Socket([OPEN, says(b"TEXT 2")]),
    "second-open": Socket([OPEN, says(event("OPEN"), event("TEXT", "hi"), BYE)]),
    "later-404": Socket([OPEN, text(PLAIN, status="404 No")]),
    "later-type": Socket([OPEN, text(PLAIN)]),
    "too-much": Socket([OPEN, says(event("TEXT", "x" * 1_000_001))]),
}  # fmt: skip


STREAM = {"http-stream": {"content": "x"}}
PUBLICATIONS: dict[str, Any] = {
    "nothing": {"items": []},
    "no-items": {},
    "not-a-list": {"items": {}},
    "a-list": [],
    "item-is-text": {"items": ["x"]},
    "no-channel": {"items": [{"formats": STREAM}]},
    "empty-channel": {"items": [{"channel": "", "formats": STREAM}]},
    "channel-is-a-number": {"items": [{"channel": 7, "formats": STREAM}]},
    "no-formats": {"items": [{"channel": "c"}]},
    "empty-formats": {"items": [{"channel": "c", "formats": {}}]},
    "formats-are-a-list": {"items": [{"channel": "c", "formats": []}]},
    "unknown-format": {"items": [{"channel": "c", "formats": {"x": {}}}]},
    "formats-in-the-item": {"items": [{"channel": "c", **STREAM}]},
    "format-is-text": {"items": [{"channel": "c", "formats": {"http-stream": "x"}}]},
    "one-of-two-is-wrong": {"items": [{"channel": "c", "formats": STREAM}, {"channel": "c", "formats": []}]},
    "all-fields": {
        "items": [
            {
                "channel": "c",
                "id": "2",
                "prev-id": "1",
                "no-seq": True,
                "meta": {"a": "b"},
                "size": 7,
                "formats": STREAM,
            }
        ]
    },
    "id-is-a-number": {"items": [{"channel": "c", "id": 7, "formats": STREAM}]},
    "prev-id-is-a-number": {"items": [{"channel": "c", "prev-id": 7, "formats": STREAM}]},
    "meta-is-a-list": {"items": [{"channel": "c", "meta": [], "formats": STREAM}]},
    "meta-of-numbers": {"items": [{"channel": "c", "meta": {"a": 7}, "formats": STREAM}]},
    "unknown-fields": {"items": [{"channel": "c", "formats": STREAM, "x": 1}], "y": 2},
    "stream-without-content": {"items": [{"channel": "c", "formats": {"http-stream": {}}}]},
    "stream-content-is-a-number": {"items": [{"channel": "c", "formats": {"http-stream": {"content": 7}}}]},
    "stream-base64-without-padding": {"items": [{"channel": "c", "formats": {"http-stream": {"content-bin": "AA"}}}]},
    "stream-bad-base64": {"items": [{"channel": "c", "formats": {"http-stream": {"content-bin": "%%"}}}]},
    "stream-unknown-action": {"items": [{"channel": "c", "formats": {"http-stream": {"action": "x"}}}]},
    "stream-hint": {"items": [{"channel": "c", "formats": {"http-stream": {"action": "hint"}}}]},
    "stream-filters-are-text": {
        "items": [{"channel": "c", "formats": {"http-stream": {"content": "x", "content-filters": "x"}}}]
    },
    "response-without-body": {"items": [{"channel": "c", "formats": {"http-response": {"code": 204}}}]},
    "response-code-as-text": {"items": [{"channel": "c", "formats": {"http-response": {"code": "404", "body": ""}}}]},
    "response-code-is-text": {"items": [{"channel": "c", "formats": {"http-response": {"code": "x", "body": ""}}}]},
    "response-headers-are-text": {
        "items": [{"channel": "c", "formats": {"http-response": {"headers": "x", "body": ""}}}]
    },
    "response-patch-is-text": {"items": [{"channel": "c", "formats": {"http-response": {"body-patch": "x"}}}]},
    "socket-without-content": {"items": [{"channel": "c", "formats": {"ws-message": {}}}]},
    "socket-unknown-type": {"items": [{"channel": "c", "formats": {"ws-message": {"content": "x", "type": "x"}}}]},
    "socket-ping": {"items": [{"channel": "c", "formats": {"ws-message": {"content": "x", "type": "ping"}}}]},
    "socket-close": {"items": [{"channel": "c", "formats": {"ws-message": {"action": "close"}}}]},
    "socket-close-code-as-text": {
        "items": [{"channel": "c", "formats": {"ws-message": {"action": "close", "code": "4001"}}}]
    },
    "socket-close-code-is-text": {
        "items": [{"channel": "c", "formats": {"ws-message": {"action": "close", "code": "x"}}}]
    },
    "socket-close-code-is-too-large": {
        "items": [{"channel": "c", "formats": {"ws-message": {"action": "close", "code": 70000}}}]
    },
}

REFUSED = {
    "empty-channel": "nobody can be subscribed to it",
    "stream-bad-base64": "what would be delivered is not what was sent",
    "response-code-is-text": "it is no number",
    "socket-close-code-is-text": "it is no number",
}
"""Publications that Pushpin takes and makes something of; Holdfast says what is wrong with them."""


@dataclass
class Pair:
    """Both proxies before one backend, which answers by the name in the path."""

    theirs: GripProxy
    ours: GripProxy
    backend: RawBackend


async def _respond(asked: Asked, requests: dict[str, int]) -> Answer | bytes:
    name = asked.target.strip("/")
    connection = asked.header("connection-id")
    if connection is None:
        answer = HTTP[name].answer
        if isinstance(answer, bytes):
            return answer
        headers = [(key, value.replace("NAME", name)) for key, value in answer.headers]
        return replace(answer, headers=headers)
    number = requests[connection] = requests.get(connection, -1) + 1
    answers = SOCKETS[name].answers
    return answers[number] if number < len(answers) else says()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    requests: dict[str, int] = {}
    folder = tmp_path_factory.mktemp("pair")
    async with raw_backend(lambda asked: _respond(asked, requests)) as backend:
        route = GripRoute([backend.url])
        async with PROXIES["pushpin"](folder, route) as theirs, PROXIES["holdfast"](folder, route) as ours:
            yield Pair(theirs, ours, backend)


async def _see(proxy: GripProxy, name: str, case: Http) -> Seen:
    request = f"{case.request} /{name} HTTP/{case.version}\r\nHost: a.example\r\n{case.headers}\r\n".encode()
    if b"Grip-Hold: response" in _answer_head(case) or "held" in name:
        seeing = asyncio.create_task(see_response(proxy.port, request + case.body))
        while not seeing.done():
            for formats in case.items:
                await publish(proxy, {"channel": name, "formats": formats})
            await asyncio.wait([seeing], timeout=0.1)
        return seeing.result()

    async def meanwhile() -> None:
        for formats in case.items:
            await publish(proxy, {"channel": name, "formats": formats})

    return await see_response(proxy.port, request + case.body, meanwhile if case.items else None)


def _answer_head(case: Http) -> bytes:
    return case.answer if isinstance(case.answer, bytes) else case.answer.encode().partition(b"\r\n\r\n")[0]


def _compared(seen: Seen) -> Seen:
    headers = tuple(header for header in seen.headers if header[0] not in FRAMING)
    if seen.status == 502:
        return replace(seen, headers=(), body=b"")
    return replace(seen, headers=headers)


@pytest.mark.parametrize("name", HTTP)
async def test_http(pair: Pair, name: str) -> None:
    case = HTTP[name]
    async with asyncio.timeout(DEADLINE_S):
        theirs, ours = await asyncio.gather(_see(pair.theirs, name, case), _see(pair.ours, name, case))
    expected = case.ours(theirs) if case.ours is not None else theirs
    assert _compared(ours) == _compared(expected), case.why


async def _see_socket(proxy: GripProxy, name: str, case: Socket) -> Seen | SeenSocket:
    async def meanwhile() -> None:
        for formats in case.items:
            await publish(proxy, {"channel": name, "formats": formats})

    async def say(text: str) -> None:
        await publish(proxy, {"channel": name, "formats": {"ws-message": {"content": text}}})

    return await see_socket(
        proxy.port, f"/{name}", case.frames, meanwhile, case.headers, say=say if case.items else None
    )


def _compared_socket(theirs: SeenSocket, ours: SeenSocket) -> tuple[SeenSocket, SeenSocket]:
    """With a cut of theirs and a word of ours about a failure made equal."""
    if theirs.cut and ours.frames and ours.frames[-1][0] == 0x88:
        code = int.from_bytes(ours.frames[-1][1][:2], "big")
        if code in FAILED:
            ours = replace(ours, frames=ours.frames[:-1], cut=True)
    return theirs, ours


@pytest.mark.parametrize("name", SOCKETS)
async def test_websocket(pair: Pair, name: str) -> None:
    case = SOCKETS[name]
    if case.theirs_stall:
        assert case.ours is not None
        ours = await _see_socket(pair.ours, name, case)
        assert isinstance(ours, SeenSocket)
        assert ours == case.ours(SeenSocket(ours.headers, (), cut=True)), case.why
        return
    async with asyncio.timeout(DEADLINE_S):
        theirs, ours = await asyncio.gather(_see_socket(pair.theirs, name, case), _see_socket(pair.ours, name, case))
    if isinstance(theirs, Seen) or isinstance(ours, Seen):
        assert isinstance(theirs, Seen), (theirs, ours)
        assert isinstance(ours, Seen), (theirs, ours)
        assert replace(_compared(ours), reason="") == replace(_compared(theirs), reason=""), case.why
        return
    expected = case.ours(theirs) if case.ours is not None else theirs
    expected, ours = _compared_socket(expected, ours)
    assert ours == expected, case.why


@pytest.mark.parametrize("name", PUBLICATIONS)
async def test_publishing(pair: Pair, name: str) -> None:
    """What is refused, and what is said when it is not. The text of a refusal is each proxy's own."""
    body = json.dumps(PUBLICATIONS[name]).encode()
    theirs, ours = await asyncio.gather(post_publish(pair.theirs, body), post_publish(pair.ours, body))
    if name in REFUSED:
        assert (theirs[0], ours[0]) == (200, 400), REFUSED[name]
        return
    assert (ours if ours[0] == 200 else ours[0]) == (theirs if theirs[0] == 200 else theirs[0])


@pytest.mark.parametrize("path", ["/publish", "/publish/", "/publish/x", "/nowhere"])
async def test_paths_to_publish_on(pair: Pair, path: str) -> None:
    body = json.dumps({"items": [{"channel": "c", "formats": STREAM}]}).encode()
    theirs, ours = await asyncio.gather(*(post_publish(each, body, path=path) for each in (pair.theirs, pair.ours)))
    assert ours[0] == theirs[0]


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "text/plain", "text/html", "application/json, text/plain"]
)
async def test_answers_to_publishers_in_the_type_they_ask_for(pair: Pair, accept: str) -> None:
    body = json.dumps({"items": [{"channel": "c", "formats": STREAM}]}).encode()
    headers = {"Accept": accept}
    theirs, ours = await asyncio.gather(*(post_publish(each, body, headers) for each in (pair.theirs, pair.ours)))
    assert ours[0] == theirs[0]
    if theirs[1].startswith("{"):
        # More keys than theirs are welcome: libraries ignore them.
        assert json.loads(ours[1]).items() >= json.loads(theirs[1]).items()
    elif theirs[0] == 200:
        assert ours == theirs
