"""XMPP links: what they tell backends, and what backends order them to do, good and bad."""

from __future__ import annotations

from typing import Any

from tests.contract.cases.requests import AT, case, event, parcel

LINK = "x:u42"
JID = "u42@chat.example/edge-7"

IQ: dict[str, Any] = {
    "name": "iq",
    "from": "bob@x/p",
    "to": JID,
    "type": "get",
    "id": "q1",
    "query": ["urn:xmpp:ping", "ping"],
}
MESSAGE: dict[str, Any] = {
    "name": "message",
    "from": "bob@x/p",
    "to": JID,
    "type": "chat",
    "id": "m9",
    "body": "größer \U0001f600",
    "subject": None,
    "thread": "t1",
    "stanza_id": "K4AJ8d9",
    "carbon": None,
    "chat_state": "active",
    "receipt": "request",
    "receipt_id": None,
    "delay": {"stamp": "2026-01-01T00:00:00Z", "from": "chat.example"},
    "error": None,
    "children": [["http://jabber.org/protocol/chatstates", "active"], ["urn:xmpp:receipts", "request"]],
}
BOUNCED: dict[str, Any] = MESSAGE | {
    "type": "error",
    "body": None,
    "delay": None,
    "error": {"type": "cancel", "condition": "item-not-found", "text": None},
    "children": [],
}
PRESENCE: dict[str, Any] = {
    "name": "presence",
    "from": "bob@x/p",
    "to": JID,
    "type": "available",
    "id": None,
    "show": "away",
    "status": None,
    "priority": -5,
    "delay": None,
    "error": None,
    "children": [],
}

# (name, type, its own fields)
EVENTS: list[tuple[str, str, dict[str, Any]]] = [
    ("connected", "xmpp.connected", {"resumable": True, "max_s": 600, "fresh": True}),
    (
        "connected to a server that resumes nothing",
        "xmpp.connected",
        {"resumable": False, "max_s": None, "fresh": True},
    ),
    ("resumed", "xmpp.resumed", {"gap_ms": 840, "redelivered": 3}),
    (
        "message",
        "xmpp.message",
        {"stanza": MESSAGE, "xml": "<message><body>größer</body></message>", "replay": False},
    ),
    ("message that came back", "xmpp.message", {"stanza": BOUNCED, "xml": "<message type='error'/>", "replay": True}),
    ("presence", "xmpp.presence", {"stanza": PRESENCE, "xml": "<presence from='bob@x/p'/>"}),
    ("iq", "xmpp.iq", {"stanza": IQ | {"error": None}, "xml": "<iq/>", "reply_by": AT + 20_000}),
    (
        "iq that wants no answer",
        "xmpp.iq",
        {"stanza": IQ | {"type": "result", "query": None, "error": None}, "xml": "<iq/>", "reply_by": None},
    ),
    (
        "roster",
        "xmpp.roster",
        {
            "ver": "12",
            "full": True,
            "items": [
                {"jid": "bob@x", "sub": "both", "name": "Bob", "ask": False, "groups": ["Friends", "Work"]},
                {"jid": "eve@x", "sub": "none", "name": None, "ask": True, "groups": []},
            ],
        },
    ),
    ("roster push without a version", "xmpp.roster", {"ver": None, "full": False, "items": []}),
    (
        "iq answered",
        "xmpp.iq_result",
        {
            "action_id": "vcard#1",
            "ok": True,
            "reason": None,
            "stanza": IQ | {"type": "result", "error": None},
            "xml": "<iq type='result'/>",
        },
    ),
    (
        "iq refused",
        "xmpp.iq_result",
        {
            "action_id": "a-7",
            "ok": False,
            "reason": "error",
            "stanza": IQ
            | {"type": "error", "error": {"type": "wait", "condition": "internal-server-error", "text": "x"}},
            "xml": "<iq type='error'/>",
        },
    ),
    (
        "iq without answer",
        "xmpp.iq_result",
        {"action_id": "a-7", "ok": False, "reason": "timeout", "stanza": None, "xml": None},
    ),
    ("sent", "xmpp.sent", {"action_ids": ["a-5", "~x:u42:4.0"]}),
    ("send failed", "xmpp.send_failed", {"action_id": "a-6", "reason": "invalid", "certain": True, "text": "xml: …"}),
    (
        "send failed, whose is not known",
        "xmpp.send_failed",
        {"action_id": None, "reason": "session_lost", "certain": False, "text": ""},
    ),
    (
        "reset",
        "xmpp.reset",
        {"reason": "item-not-found", "server_h": 4, "resent": 2, "unknown": ["a-6"], "mam_after": "K4AJ8d9"},
    ),
    (
        "reset about which nothing is known",
        "xmpp.reset",
        {"reason": "expired", "server_h": None, "resent": 0, "unknown": [], "mam_after": None},
    ),
    ("caught up", "xmpp.caught_up", {"count": 3, "whole": True}),
    ("detached", "xmpp.detached", {"reason": "lost", "text": "connection reset"}),
    ("disconnected", "xmpp.disconnected", {"reason": "conflict", "text": "Replaced", "will_retry": False}),
    ("auth failed", "xmpp.auth_failed", {"condition": "not-authorized", "text": "", "will_retry": False}),
    ("credentials wanted", "xmpp.credentials", {"reason": "resume"}),
    (
        "state",
        "xmpp.state",
        {"phase": "live", "resumable": True, "attached": ["s1", "s2"], "waiting": 2, "unacked": 1},
    ),
]


def link_requests() -> list[dict[str, Any]]:
    cases = []
    for name, kind, own in EVENTS:
        fields = {"seq": 58, "jid": JID, **own}
        source = {"class": "LinkEvent", "id": f"{LINK}:58", "at": AT, "kind": kind, "fields": fields}
        whole = parcel(LINK, source, state={"n": 1}, version=2)
        cases.append(case(f"link: {name}", [whole], [event(kind, whole, 0, **fields)]))
    return cases


SCRAM = {
    "algorithm": "SHA-1",
    "salt": "c2FsdA==",
    "iterations": 4096,
    "client_key": "Y2NjY2NjY2NjY2NjY2NjY2NjY2M=",
    "server_key": "c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M=",
}
KEYS = {"class": "ScramKeys"} | {
    name: value if name in ("algorithm", "iterations") else {"b64": value} for name, value in SCRAM.items()
}
CONNECT = {"type": "xmpp.connect", "jid": "u42@chat.example", "session": LINK}
CONNECTS = {"jid": "u42@chat.example", "session": LINK}
EVERYTHING = {
    "auth": {"password": "s3cret", "username": "ada"},
    "resource": "edge-7",
    "on_connect": {"roster": True, "presence": "<presence/>", "carbons": False},
    "route": {"stanzas": ["message", "iq"], "coalesce": []},
    "attach": ["s1", "s2"],
    "keep_after_detach_s": 0.5,
    "sent": True,
    "detached": True,
    "id": "a-1",
}

# (name, the action in the answer, the class it becomes, its fields that are not at their default)
LINK_ACTIONS: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("connect a component", CONNECT | {"jid": "c.example"}, "XmppConnect", CONNECTS | {"jid": "c.example"}),
    (
        "connect with a password",
        CONNECT | {"auth": {"password": "s3cret"}},
        "XmppConnect",
        CONNECTS | {"auth": {"class": "Account", "username": "u42", "password": "s3cret"}},
    ),
    (
        "connect with keys",
        CONNECT | {"auth": {"scram": SCRAM}},
        "XmppConnect",
        CONNECTS | {"auth": {"class": "Account", "username": "u42", "keys": [KEYS]}},
    ),
    (
        "connect with a token",
        CONNECT | {"auth": {"token": "s3cret"}},
        "XmppConnect",
        CONNECTS | {"auth": {"class": "Token", "username": "u42", "token": "s3cret"}},
    ),
    (
        "connect with a certificate",
        CONNECT | {"auth": {"external": True}},
        "XmppConnect",
        CONNECTS | {"auth": {"class": "Certificate", "address": "u42@chat.example"}},
    ),
    (
        "connect and be asked for credentials",
        CONNECT | {"auth": {"callback": True}},
        "XmppConnect",
        CONNECTS | {"auth": {"class": "AskBackend"}},
    ),
    (
        "connect with everything",
        CONNECT | EVERYTHING,
        "XmppConnect",
        CONNECTS
        | {
            "auth": {"class": "Account", "username": "ada", "password": "s3cret"},
            "resource": "edge-7",
            "on_connect": {"class": "OnConnect", "roster": True, "presence": "<presence/>", "carbons": False},
            "routing": {"class": "Routing", "stanzas": ["message", "iq"], "coalesce": []},
            "attach": ["s1", "s2"],
            "keep_after_detach_s": 0.5,
            "sent": True,
            "detached": True,
            "id": "a-1",
        },
    ),
    (
        "send a text",
        {"type": "xmpp.send", "to": "bob@x", "body": "größer"},
        "XmppSend",
        {"stanza": {"class": "MessageFields", "to": "bob@x", "body": "größer"}},
    ),
    (
        "send with everything",
        {
            "type": "xmpp.send",
            "to": "room@x",
            "from": "ada@c.example",
            "stanza_type": "groupchat",
            "stanza_id": "m1",
            "body": "",
            "subject": "s",
            "thread": "t",
            "chat_state": "gone",
            "receipt": "received",
            "receipt_id": "m0",
            "extra": "<x xmlns='a'/>",
            "session": LINK,
            "id": "a-2",
        },
        "XmppSend",
        {
            "stanza": {
                "class": "MessageFields",
                "to": "room@x",
                "type": "groupchat",
                "id": "m1",
                "body": "",
                "subject": "s",
                "thread": "t",
                "chat_state": "gone",
                "receipt": "received",
                "receipt_id": "m0",
                "xml": "<x xmlns='a'/>",
                "sender": "ada@c.example",
            },
            "session": LINK,
            "id": "a-2",
        },
    ),
    ("send a stanza", {"type": "xmpp.send", "xml": "<message/>"}, "XmppSend", {"stanza": "<message/>"}),
    ("presence", {"type": "xmpp.presence"}, "XmppPresence", {"stanza": {"class": "PresenceFields"}}),
    (
        "presence with everything",
        {
            "type": "xmpp.presence",
            "to": "room@x/ada",
            "from": "ada@c.example/1",
            "stanza_type": "unavailable",
            "stanza_id": "p1",
            "show": "xa",
            "status": "off",
            "priority": -128,
            "extra": "<x/>",
        },
        "XmppPresence",
        {
            "stanza": {
                "class": "PresenceFields",
                "to": "room@x/ada",
                "type": "unavailable",
                "id": "p1",
                "show": "xa",
                "status": "off",
                "priority": -128,
                "xml": "<x/>",
                "sender": "ada@c.example/1",
            }
        },
    ),
    ("presence as XML", {"type": "xmpp.presence", "xml": "<presence/>"}, "XmppPresence", {"stanza": "<presence/>"}),
    ("iq to the account", {"type": "xmpp.iq", "xml": "<q/>", "id": "a-3"}, "XmppIq", {"xml": "<q/>", "id": "a-3"}),
    (
        "iq with everything",
        {
            "type": "xmpp.iq",
            "xml": "<q/>",
            "to": "x",
            "from": "ada@c.example",
            "stanza_type": "set",
            "timeout_s": 600,
            "id": "v#1",
        },
        "XmppIq",
        {"xml": "<q/>", "to": "x", "stanza_type": "set", "timeout_s": 600.0, "sender": "ada@c.example", "id": "v#1"},
    ),
    ("iq answered with nothing", {"type": "xmpp.iq_reply", "seq": 60}, "XmppIqReply", {"seq": 60}),
    ("iq answered", {"type": "xmpp.iq_reply", "seq": 60, "xml": "<q/>"}, "XmppIqReply", {"seq": 60, "xml": "<q/>"}),
    (
        "iq refused",
        {"type": "xmpp.iq_reply", "seq": 60, "condition": "not-allowed", "error_type": "auth", "text": "no"},
        "XmppIqReply",
        {"seq": 60, "condition": "not-allowed", "error_type": "auth", "text": "no"},
    ),
    (
        "credentials: the name is the link's",
        {"type": "xmpp.credentials", "auth": {"password": "s3cret"}},
        "XmppCredentials",
        {"auth": {"class": "Account", "username": "", "password": "s3cret"}},
    ),
    ("attach who acts", {"type": "xmpp.attach", "session": LINK}, "XmppAttach", {"session": LINK}),
    ("attach", {"type": "xmpp.attach", "client": "s1"}, "XmppAttach", {"client": "s1"}),
    ("detach", {"type": "xmpp.detach", "client": "s1"}, "XmppDetach", {"client": "s1"}),
    ("suspend", {"type": "xmpp.suspend"}, "XmppSuspend", {}),
    ("disconnect", {"type": "xmpp.disconnect", "id": "a-4"}, "XmppDisconnect", {"id": "a-4"}),
    ("get", {"type": "xmpp.get"}, "XmppGet", {}),
]


def _connecting(**fields: Any) -> list[dict[str, Any]]:
    return [CONNECT | fields]


def _auth(**fields: Any) -> list[dict[str, Any]]:
    return _connecting(auth=fields)


# (name, the actions, the field to be named)
BAD_LINK_ACTIONS: list[tuple[str, Any, str]] = [
    ("connect without an address", [{"type": "xmpp.connect"}], "actions[0].jid"),
    ("connect with a resource in the address", _connecting(jid="u42@x/phone"), "actions[0].jid"),
    ("connect with an unknown field", _connecting(host="xmpp.example"), "actions[0].host"),
    ("a link whose id is a client's", _connecting(session="u42"), "actions[0].session"),
    ("auth of no kind", _auth(), "actions[0].auth"),
    ("auth of two kinds", _auth(password="x", token="y"), "actions[0].auth"),
    ("password of another type", [{"type": "xmpp.get"}, *_auth(password=5)], "actions[1].auth.password"),
    ("empty token", _auth(token=""), "actions[0].auth.token"),
    ("external false", _auth(external=False), "actions[0].auth.external"),
    ("username with callback", _auth(callback=True, username="u"), "actions[0].auth.username"),
    ("scram of an unknown algorithm", _auth(scram=SCRAM | {"algorithm": "MD5"}), "actions[0].auth.scram.algorithm"),
    (
        "scram with a key of another length",
        _auth(scram=SCRAM | {"client_key": "AAAA"}),
        "actions[0].auth.scram.client_key",
    ),
    ("on_connect with an unknown field", _connecting(on_connect={"rooms": []}), "actions[0].on_connect.rooms"),
    ("route of an unknown stanza", _connecting(route={"stanzas": ["iq", "pubsub"]}), "actions[0].route.stanzas[1]"),
    ("attach of a link", _connecting(attach=["s1", "x:u43"]), "actions[0].attach[1]"),
    ("kept for more than a day", _connecting(keep_after_detach_s=86_401), "actions[0].keep_after_detach_s"),
    ("sent of another type", _connecting(sent=1), "actions[0].sent"),
    ("send to nobody", [{"type": "xmpp.send", "body": "x"}], "actions[0].to"),
    ("send twice over", [{"type": "xmpp.send", "xml": "<message/>", "body": "x"}], "actions[0].body"),
    ("send whole, and from somebody", [{"type": "xmpp.send", "xml": "<message/>", "from": "a@x"}], "actions[0].from"),
    ("send from a number", [{"type": "xmpp.send", "to": "b@x", "from": 5}], "actions[0].from"),
    ("send of an unknown type", [{"type": "xmpp.send", "to": "b@x", "stanza_type": "error"}], "actions[0].stanza_type"),
    ("a receipt for nothing", [{"type": "xmpp.send", "to": "b@x", "receipt": "received"}], "actions[0].receipt_id"),
    ("presence of priority 128", [{"type": "xmpp.presence", "priority": 128}], "actions[0].priority"),
    ("presence shown as something else", [{"type": "xmpp.presence", "show": "here"}], "actions[0].show"),
    ("presence from a list", [{"type": "xmpp.presence", "from": ["a@x"]}], "actions[0].from"),
    ("iq without content", [{"type": "xmpp.iq"}], "actions[0].xml"),
    ("iq from a number", [{"type": "xmpp.iq", "xml": "<q/>", "from": 5}], "actions[0].from"),
    ("iq that waits for an hour", [{"type": "xmpp.iq", "xml": "<q/>", "timeout_s": 3600}], "actions[0].timeout_s"),
    ("reply to nothing", [{"type": "xmpp.iq_reply", "xml": "<q/>"}], "actions[0].seq"),
    (
        "reply with content and error",
        [{"type": "xmpp.iq_reply", "seq": 1, "xml": "<q/>", "condition": "not-allowed"}],
        "actions[0].condition",
    ),
    ("reply with a text alone", [{"type": "xmpp.iq_reply", "seq": 1, "text": "no"}], "actions[0].text"),
    (
        "credentials that ask back",
        [{"type": "xmpp.credentials", "auth": {"callback": True}}],
        "actions[0].auth.callback",
    ),
    ("attach an empty name", [{"type": "xmpp.attach", "client": ""}], "actions[0].client"),
    ("get with a field", [{"type": "xmpp.get", "client": "s1"}], "actions[0].client"),
]
