"""Requests: parcels as the edge holds them, and the JSON body they must become."""

from __future__ import annotations

from typing import Any

AT = 1_790_000_000_000


def parcel(session: str, *events: dict[str, Any], **shared: Any) -> dict[str, Any]:
    return {
        "session": session,
        "release": "3f2a91c",
        "user": None,
        "state": {},
        "version": 0,
        "attempt": 1,
        **shared,
        "events": list(events),
    }


def event(type: str, parcel: dict[str, Any], index: int, **fields: Any) -> dict[str, Any]:
    """The body's form of `parcel`'s event `index`: common fields, then its own."""
    source = parcel["events"][index]
    body = {
        "id": source["id"],
        "session": parcel["session"],
        "type": type,
        "attempt": parcel["attempt"],
        "at": source["at"],
        "release": parcel["release"],
        "user": parcel["user"],
    }
    if index == 0:
        body |= {"state": parcel["state"], "version": parcel["version"]}
    return body | fields


def message(id: str, payload: Any, at: int = AT) -> dict[str, Any]:
    return {"class": "Message", "id": id, "at": at, "payload": payload}


def case(name: str, parcels: list[dict[str, Any]], events: list[dict[str, Any]], *gone: str) -> dict[str, Any]:
    body: dict[str, Any] = {"edge": "edge-1", "events": events}
    if gone:
        body["gone"] = list(gone)
    return {"name": name, "edge": "edge-1", "gone": list(gone), "parcels": parcels, "body": body}


HANDSHAKE = {
    "method": "GET",
    "path": "/chat/größe",
    "query": "room=a%20b&x=",
    "headers": [["Host", "chat.example"], ["Cookie", "a=1"], ["Cookie", "b=2"], ["X-Raw", "na\u00efve"]],
    "client": "[2001:db8::1]:50123",
    "scheme": "wss",
    "subprotocols": ["chat.v2", "chat.v1"],
}


def singles() -> list[dict[str, Any]]:
    """One event each: every type."""
    opening = parcel("s1", {"class": "Open", "id": "s1:1", "at": AT, "request": HANDSHAKE, "transport": "websocket"})
    text = parcel("s1", message("s1:2", "hi"), user="ada", state={"room": "a"}, version=7)
    empty = parcel("s1", message("s1:3", ""))
    unicode = parcel("s1", message("s1:4", 'größer \u2028 \U0001f600 "\\ \u0000'))
    binary = parcel("s1", message("s1:5", {"b64": "AP/+gA=="}))
    no_bytes = parcel("s1", message("s1:6", {"b64": ""}))
    closing = {"code": 1001, "reason": "going away", "clean": True, "cause": "client"}
    close = parcel("s1", {"class": "Close", "id": "s1:close", "at": AT, **closing})
    lost = {"code": 1006, "reason": "", "clean": False, "cause": "edge-lost"}
    orphan = parcel("s1", {"class": "Close", "id": "s1:close", "at": AT, **lost}, attempt=3)
    due = {"name": "typing", "data": {"who": ["ada", None, 1, 2.5, True, {}], "n": 18446744073709551615}}
    timer = parcel("s1", {"class": "Timer", "id": "s1:8", "at": AT, **due})
    bare = parcel("s1", {"class": "Timer", "id": "s1:9", "at": AT, "name": "tick", "data": None})
    moved = parcel(
        "s1",
        {
            "class": "ReleaseChanged",
            "id": "s1:10",
            "at": AT,
            "from_release": "3f2a91c",
            "to_release": "77aa001",
        },
        release="77aa001",
    )
    hole = {"channel": "room:a", "since": [4, "e1"], "position": [19, "e2"]}
    gap = parcel("s1", {"class": "Gap", "id": "s1:11", "at": AT, **hole})
    places = {
        "channel": "room:a",
        "since": {"offset": 4, "epoch": "e1"},
        "position": {"offset": 19, "epoch": "e2"},
    }
    broken = {"of": "s1:4", "error": "nothing of it was done: Redis stayed away"}
    refused = parcel("s1", {"class": "ResultRefused", "id": "s1:12", "at": AT, **broken})
    return [
        case("open", [opening], [event("open", opening, 0, request=HANDSHAKE, transport="websocket")]),
        case("text message with user and state", [text], [event("message", text, 0, text="hi")]),
        case("empty text", [empty], [event("message", empty, 0, text="")]),
        case(
            "text beyond ASCII and with characters that JSON escapes",
            [unicode],
            [event("message", unicode, 0, text='größer \u2028 \U0001f600 "\\ \u0000')],
        ),
        case("binary message", [binary], [event("message", binary, 0, data={"b64": "AP/+gA=="})]),
        case("empty binary message", [no_bytes], [event("message", no_bytes, 0, data={"b64": ""})]),
        case("close by the client", [close], [event("close", close, 0, **closing)]),
        case("close of a killed edge, third attempt", [orphan], [event("close", orphan, 0, **lost)]),
        case("timer with data", [timer], [event("timer", timer, 0, **due)]),
        case("timer without data", [bare], [event("timer", bare, 0, name="tick", data=None)]),
        case("release", [moved], [event("release", moved, 0, **{"from": "3f2a91c", "to": "77aa001"})]),
        case("gap", [gap], [event("gap", gap, 0, **places)]),
        case("refused", [refused], [event("refused", refused, 0, **broken)]),
    ]


def batches() -> list[dict[str, Any]]:
    """Several sessions, several events of one, sessions that are gone."""
    first = parcel("s1", message("s1:2", "a"), message("s1:3", {"b64": "AQI="}), user="ada", state={"n": 1}, version=2)
    second = parcel("s2", message("s2:9", "b", AT + 5), attempt=2, state={"b64": "not binary"}, version=1)
    plain = parcel("s3", message("s3:1", "c"))
    return [
        case(
            "two sessions, one with two events: state and version stand once per session",
            [first, second],
            [
                event("message", first, 0, text="a"),
                event("message", first, 1, data={"b64": "AQI="}),
                event("message", second, 0, text="b"),
            ],
        ),
        case("gone sessions ride along", [plain], [event("message", plain, 0, text="c")], "s7", "s8"),
    ]


def requests() -> list[dict[str, Any]]:
    return singles() + batches()
