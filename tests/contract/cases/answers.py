"""Answers: good ones with what they mean, bad ones with the field the error must name."""

from __future__ import annotations

from typing import Any

from tests.contract.cases.links import BAD_LINK_ACTIONS, LINK, LINK_ACTIONS

ID = "s1:2"

# (name, the action in the answer, the class it becomes, its fields that are not at their default)
ACTIONS: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("accept, nothing chosen", {"type": "accept"}, "Accept", {}),
    (
        "accept with subprotocol and headers",
        {
            "type": "accept",
            "subprotocol": "chat.v2",
            "headers": [["Set-Cookie", "a=1"], ["Set-Cookie", "b=2"]],
        },
        "Accept",
        {"subprotocol": "chat.v2", "headers": [["Set-Cookie", "a=1"], ["Set-Cookie", "b=2"]]},
    ),
    ("reject, all defaults", {"type": "reject"}, "Reject", {}),
    (
        "reject with everything",
        {
            "type": "reject",
            "status": 401,
            "text": "log in first",
            "headers": [["WWW-Authenticate", "Bearer"]],
        },
        "Reject",
        {"status": 401, "text": "log in first", "headers": [["WWW-Authenticate", "Bearer"]]},
    ),
    ("send text", {"type": "send", "text": "größer \U0001f600"}, "Send", {"payload": "größer \U0001f600"}),
    ("send empty text", {"type": "send", "text": ""}, "Send", {"payload": ""}),
    ("send binary", {"type": "send", "data": {"b64": "AP/+gA=="}}, "Send", {"payload": {"b64": "AP/+gA=="}}),
    (
        "send to another session with an idempotency key",
        {"type": "send", "text": "x", "session": "s9", "id": "k-1"},
        "Send",
        {"payload": "x", "session": "s9", "id": "k-1"},
    ),
    ("close, all defaults", {"type": "close"}, "CloseSession", {}),
    (
        "close with code and reason",
        {"type": "close", "code": 4000, "reason": "bye"},
        "CloseSession",
        {"code": 4000, "reason": "bye"},
    ),
    ("subscribe", {"type": "subscribe", "channel": "room:a"}, "Subscribe", {"channel": "room:a"}),
    (
        "subscribe since",
        {"type": "subscribe", "channel": "room:a", "since": {"offset": 4, "epoch": "e1"}},
        "Subscribe",
        {"channel": "room:a", "since": [4, "e1"]},
    ),
    ("unsubscribe", {"type": "unsubscribe", "channel": "room:a"}, "Unsubscribe", {"channel": "room:a"}),
    (
        "publish text",
        {"type": "publish", "channel": "room:a", "text": "hi"},
        "Publish",
        {"channel": "room:a", "payload": "hi"},
    ),
    (
        "publish binary, de-duplicated, not to self",
        {"type": "publish", "channel": "room:a", "data": {"b64": "AQI="}, "id": "p-1", "except_self": True},
        "Publish",
        {"channel": "room:a", "payload": {"b64": "AQI="}, "id": "p-1", "except_self": True},
    ),
    ("identify", {"type": "identify", "user": "ada"}, "Identify", {"user": "ada"}),
    ("identify nobody", {"type": "identify", "user": None}, "Identify", {"user": None}),
    (
        "timer",
        {"type": "timer", "name": "typing", "after_ms": 3000, "data": {"who": [1, None]}},
        "SetTimer",
        {"name": "typing", "after_ms": 3000, "data": {"who": [1, None]}},
    ),
    (
        "timer at once",
        {"type": "timer", "name": "t", "after_ms": 0},
        "SetTimer",
        {"name": "t", "after_ms": 0},
    ),
    ("cancel_timer", {"type": "cancel_timer", "name": "typing"}, "CancelTimer", {"name": "typing"}),
    ("pin", {"type": "pin", "release": "77aa001"}, "Pin", {"release": "77aa001"}),
    ("unpin", {"type": "pin", "release": None}, "Pin", {"release": None}),
]


def result(id: str, *actions: dict[str, Any], **state: Any) -> dict[str, Any]:
    """A result as the cases' `results` show it."""
    return {
        "id": id,
        "actions": list(actions),
        "state_set": state.get("set", {}),
        "state_unset": state.get("unset", []),
    }


def good(
    name: str, body: dict[str, Any] | None, asked: list[str], results: list[dict[str, Any]], **more: Any
) -> dict[str, Any]:
    missing = [id for id in asked if id not in {result["id"] for result in results}]
    return {
        "name": name,
        "asked": asked,
        "status": 200,
        "body": body,
        "results": results,
        "missing": missing,
    } | more


def answers() -> list[dict[str, Any]]:
    cases = [
        good(
            f"action: {name}",
            {"results": [{"id": ID, "actions": [action]}]},
            [ID],
            [result(ID, {"class": kind, **fields})],
        )
        for name, action, kind, fields in ACTIONS
    ]
    cases += [
        good(
            f"link: {name}",
            {"results": [{"id": f"{LINK}:2", "actions": [action]}]},
            [f"{LINK}:2"],
            [result(f"{LINK}:2", {"class": kind, **fields})],
        )
        for name, action, kind, fields in LINK_ACTIONS
    ]
    send, sent = {"type": "send", "text": "x"}, {"class": "Send", "payload": "x"}
    change = {"set": {"n": 1, "deep": {"b64": "a map, not bytes"}}, "unset": ["old"]}
    one = {"results": [{"id": ID}]}
    return [
        *cases,
        good("a result without actions or state", one, [ID], [result(ID)]),
        good(
            "state and actions together",
            {"results": [{"id": ID, "actions": [send], "state": change}]},
            [ID],
            [result(ID, sent, **change)],
        ),
        good(
            "state set only, actions empty",
            {"results": [{"id": ID, "actions": [], "state": {"set": {"n": None}}}]},
            [ID],
            [result(ID, set={"n": None})],
        ),
        good(
            "actions keep their order",
            {"results": [{"id": ID, "actions": [send, {"type": "close"}]}]},
            [ID],
            [result(ID, sent, {"class": "CloseSession"})],
        ),
        good(
            "three asked, two answered in another order",
            {"results": [{"id": "s2:1"}, {"id": ID, "actions": [send]}]},
            [ID, "s2:1", "s3:1"],
            [result("s2:1"), result(ID, sent)],
        ),
        good("nothing answered", {"results": []}, [ID], []),
        good("204: no actions for any", None, [ID, "s2:1"], [result(ID), result("s2:1")], status=204, sdk=False),
        good(
            "id left out: one event was asked (a static file can be a backend)",
            {"results": [{"actions": [send]}]},
            [ID],
            [result(ID, sent)],
            sdk=False,
        ),
        good(
            "a result nobody asked for is ignored",
            {"results": [{"id": "s9:9", "actions": [{"type": "nonsense"}]}, {"id": ID}]},
            [ID],
            [result(ID)],
            sdk=False,
        ),
        good(
            "null stands for an optional field left out",
            {"results": [{"id": ID, "actions": [{"type": "subscribe", "channel": "c", "since": None, "id": None}]}]},
            [ID],
            [result(ID, {"class": "Subscribe", "channel": "c"})],
            sdk=False,
        ),
    ]


# (name, the actions, the field to be named)
BAD_ACTIONS: list[tuple[str, Any, str]] = [
    ("actions is no list", {"type": "send"}, "actions"),
    ("an action is no map", ["send"], "actions[0]"),
    ("no type", [{"text": "x"}], "actions[0].type"),
    ("type is no string", [{"type": 5}], "actions[0].type"),
    ("unknown type", [{"type": "send", "text": "x"}, {"type": "shout", "text": "x"}], "actions[1].type"),
    ("unknown field", [{"type": "send", "text": "x", "colour": "red"}], "actions[0].colour"),
    ("send without payload", [{"type": "send"}], "actions[0].text"),
    ("send with two payloads", [{"type": "send", "text": "x", "data": {"b64": "AQI="}}], "actions[0].data"),
    ("send text of another type", [{"type": "send", "text": 5}], "actions[0].text"),
    ("session of another type", [{"type": "send", "text": "x", "session": 5}], "actions[0].session"),
    ("empty session", [{"type": "send", "text": "x", "session": ""}], "actions[0].session"),
    ("id of another type", [{"type": "send", "text": "x", "id": 5}], "actions[0].id"),
    ("id that is the edge's own", [{"type": "send", "text": "x", "id": "^s-1:4/1"}], "actions[0].id"),
    (
        "subscribe without channel",
        [{"type": "send", "text": "x"}, {"type": "subscribe"}],
        "actions[1].channel",
    ),
    ("empty channel", [{"type": "subscribe", "channel": ""}], "actions[0].channel"),
    ("channel of another type", [{"type": "unsubscribe", "channel": 1}], "actions[0].channel"),
    ("since is no map", [{"type": "subscribe", "channel": "c", "since": 4}], "actions[0].since"),
    (
        "since without epoch",
        [{"type": "subscribe", "channel": "c", "since": {"offset": 4}}],
        "actions[0].since.epoch",
    ),
    (
        "since with a negative offset",
        [{"type": "subscribe", "channel": "c", "since": {"offset": -1, "epoch": "e"}}],
        "actions[0].since.offset",
    ),
    (
        "since with a truth value as offset",
        [{"type": "subscribe", "channel": "c", "since": {"offset": True, "epoch": "e"}}],
        "actions[0].since.offset",
    ),
    ("publish without payload", [{"type": "publish", "channel": "c"}], "actions[0].text"),
    ("publish without channel", [{"type": "publish", "text": "x"}], "actions[0].channel"),
    (
        "except_self of another type",
        [{"type": "publish", "channel": "c", "text": "x", "except_self": 1}],
        "actions[0].except_self",
    ),
    ("close code 1006 is nobody's to send", [{"type": "close", "code": 1006}], "actions[0].code"),
    ("close code 2999", [{"type": "close", "code": 2999}], "actions[0].code"),
    ("close code 5000", [{"type": "close", "code": 5000}], "actions[0].code"),
    ("close code of another type", [{"type": "close", "code": "1000"}], "actions[0].code"),
    ("close reason over 123 bytes", [{"type": "close", "reason": "ö" * 62}], "actions[0].reason"),
    ("reject status 200", [{"type": "reject", "status": 200}], "actions[0].status"),
    ("reject status 600", [{"type": "reject", "status": 600}], "actions[0].status"),
    ("reject text of another type", [{"type": "reject", "text": 5}], "actions[0].text"),
    ("headers is no list", [{"type": "accept", "headers": {"a": "b"}}], "actions[0].headers"),
    ("a header is no pair", [{"type": "accept", "headers": [["a", "b"], ["c"]]}], "actions[0].headers[1]"),
    ("a header splits", [{"type": "accept", "headers": [["a", "b\r\nc: d"]]}], "actions[0].headers[0]"),
    ("a header name with a space", [{"type": "accept", "headers": [["a b", "c"]]}], "actions[0].headers[0]"),
    ("subprotocol of another type", [{"type": "accept", "subprotocol": 5}], "actions[0].subprotocol"),
    ("identify without user", [{"type": "identify"}], "actions[0].user"),
    ("user of another type", [{"type": "identify", "user": 5}], "actions[0].user"),
    ("timer without name", [{"type": "timer", "after_ms": 5}], "actions[0].name"),
    ("timer without after_ms", [{"type": "timer", "name": "t"}], "actions[0].after_ms"),
    ("timer in the past", [{"type": "timer", "name": "t", "after_ms": -1}], "actions[0].after_ms"),
    ("timer with a fraction", [{"type": "timer", "name": "t", "after_ms": 1.5}], "actions[0].after_ms"),
    ("cancel_timer without name", [{"type": "cancel_timer"}], "actions[0].name"),
    ("pin without release", [{"type": "pin"}], "actions[0].release"),
    ("release of another type", [{"type": "pin", "release": 5}], "actions[0].release"),
]

# (name, the state, the field to be named)
BAD_STATES: list[tuple[str, Any, str]] = [
    ("state is no map", [], "state"),
    ("state has an unknown field", {"put": {}}, "state.put"),
    ("state.set is no map", {"set": ["n"]}, "state.set"),
    ("state.unset is no list", {"unset": "n"}, "state.unset"),
    ("state.unset names no string", {"unset": ["n", 5]}, "state.unset[1]"),
]


def bad_answers() -> list[dict[str, Any]]:
    def bad(name: str, body: Any, field: str, **more: Any) -> dict[str, Any]:
        return {
            "name": name,
            "asked": [ID],
            "body": body,
            "bad": [{"id": ID, "field": field}],
            "good": [],
        } | more

    def raw(name: str, content_type: str, octets: bytes) -> dict[str, Any]:
        return {
            "name": name,
            "asked": [ID, "s2:1"],
            "unparsable": True,
            "content_type": content_type,
            "raw_hex": octets.hex(),
        }

    json, packed = "application/vnd.holdfast.v1+json", "application/vnd.holdfast.v1+msgpack"
    not_base64 = [{"type": "send", "data": {"b64": "A"}}]
    mixed = {
        "results": [
            {"id": "s1:2", "actions": [{"type": "send", "text": "x"}, {"type": "subscribe"}]},
            {"id": "s2:1", "actions": [{"type": "send", "text": "y"}]},
        ]
    }
    return [
        *(
            bad(name, {"results": [{"id": ID, "actions": actions}]}, field)
            for name, actions, field in BAD_ACTIONS + BAD_LINK_ACTIONS
        ),
        *(bad(name, {"results": [{"id": ID, "state": state}]}, field) for name, state, field in BAD_STATES),
        bad("unknown field of a result", {"results": [{"id": ID, "acts": []}]}, "acts"),
        bad(
            "data that is not base64",
            {"results": [{"id": ID, "actions": not_base64}]},
            "actions[0].data",
            msgpack_hex=None,
        ),
        bad(
            "one bad result does not spoil the others",
            mixed,
            "actions[1].channel",
            asked=["s1:2", "s2:1"],
            good=["s2:1"],
        ),
        raw("JSON that breaks off", json, b'{"results": ['),
        raw("JSON without results", json, b"{}"),
        raw("results is no list", json, b'{"results": {}}'),
        raw("a result is no map", json, b'{"results": [1]}'),
        raw("a list", json, b"[]"),
        raw("not UTF-8", json, b'{"results": ["\xff"]}'),
        raw("a result without id, two asked", json, b'{"results": [{"actions": []}]}'),
        raw("an id that is no string", json, b'{"results": [{"id": 5}, {"id": "s2:1"}]}'),
        raw("nothing at all, with 200", json, b""),
        raw("HTML", "text/html", b"<h1>It works!</h1>"),
        raw("JSON named msgpack", packed, b'{"results": []}'),
        raw("msgpack that breaks off", packed, bytes.fromhex("81a7726573756c747391")),
        raw("msgpack with something behind it", packed, bytes.fromhex("81a7726573756c747390c0")),
    ]


def bad_requests() -> list[dict[str, Any]]:
    json, packed = "application/vnd.holdfast.v1+json", "application/vnd.holdfast.v1+msgpack"
    fields = '"id": "s1:1", "session": "s1", "type": "message", "attempt": 1, "at": 1, '
    fields += '"release": "r", "user": null'

    def bad(name: str, octets: bytes, names: str, content_type: str | None = json, status: int = 400) -> dict[str, Any]:
        return {
            "name": name,
            "method": "POST",
            "content_type": content_type,
            "raw_hex": octets.hex(),
            "status": status,
            "names": names,
        }

    def one(event: str) -> bytes:
        return f'{{"edge": "e", "events": [{{{event}}}]}}'.encode()

    opening = fields.replace('"message"', '"open"')
    linked = fields.replace('"message"', '"xmpp.message"') + ', "seq": 1, "jid": "u@x"'
    stanza = '{"type": "chat", "from": null, "to": null, "id": null, "delay": null, "error": null'
    texts = ("body", "subject", "thread", "stanza_id", "carbon", "chat_state", "receipt", "receipt_id")
    stanza += "".join(f', "{name}": null' for name in texts) + "}"
    return [
        bad("nothing", b"", "body"),
        bad("JSON that breaks off", b'{"edge": ', "body"),
        bad("a list", b"[]", "body"),
        bad("not UTF-8", b'{"edge": "\xff"}', "body"),
        bad("msgpack that breaks off", b"\x82\xa4edge", "body", packed),
        bad("msgpack with something behind it", b"\x80\xc0", "body", packed),
        bad("no events", b'{"edge": "e"}', "events"),
        bad("events is no list", b'{"edge": "e", "events": {}}', "events"),
        bad("an event is no map", b'{"edge": "e", "events": [1]}', "events[0]"),
        bad("an event without id", one(fields.replace('"id": "s1:1", ', "")), "events[0].id"),
        bad("an event without session", one(fields.replace('"session": "s1", ', "")), "events[0].session"),
        bad("an event without type", one(fields.replace('"type": "message", ', "")), "events[0].type"),
        bad(
            "at of another type",
            one(fields.replace('"at": 1', '"at": "1"') + ', "text": "x"'),
            "events[0].at",
        ),
        bad("user of another type", one(fields.replace("null", "5") + ', "text": "x"'), "events[0].user"),
        bad(
            "state of another type",
            one(fields + ', "state": [], "version": 1, "text": "x"'),
            "events[0].state",
        ),
        bad("a message without payload", one(fields), "events[0].text"),
        bad("text of another type", one(fields + ', "text": 5'), "events[0].text"),
        bad("data that is not base64", one(fields + ', "data": {"b64": "A"}'), "events[0].data"),
        bad("open without request", one(opening + ', "transport": "websocket"'), "events[0].request"),
        bad(
            "open with a request that is not whole",
            one(opening + ', "transport": "websocket", "request": {"method": "GET"}'),
            "events[0].request.path",
        ),
        bad("timer without name", one(fields.replace('"message"', '"timer"')), "events[0].name"),
        bad("an event of a link without seq", one(linked.replace('"seq": 1, ', "")), "events[0].seq"),
        bad("a stanza without children", one(f'{linked}, "stanza": {stanza}'), "stanza.children"),
        bad("gone of another type", b'{"edge": "e", "events": [], "gone": [1]}', "gone"),
        bad("no content type", b'{"edge": "e", "events": []}', "Content-Type", None, 415),
        bad("a form", b"a=b", "Content-Type", "application/x-www-form-urlencoded", 415),
        bad("GET", b"", "POST", None, 405) | {"method": "GET"},
    ]
