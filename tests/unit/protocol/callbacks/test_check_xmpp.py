"""Orders for links: what each form means, and that a bad one is named without a word of what it holds."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from edge.errors import FieldError
from edge.protocol.callbacks.actions import (
    AskBackend,
    XmppAttach,
    XmppConnect,
    XmppCredentials,
    XmppIqReply,
    XmppPresence,
    XmppSend,
)
from edge.protocol.callbacks.check import parse_actions
from edge.protocol.xmpp.credentials import Account, Certificate, ScramKeys, Token
from edge.protocol.xmpp.outgoing import MessageFields, PresenceFields

SECRET = "correct horse battery staple"
SCRAM = {
    "algorithm": "SHA-1",
    "salt": b64encode(b"salt").decode(),
    "iterations": 4096,
    "client_key": b64encode(b"c" * 20).decode(),
    "server_key": b64encode(b"s" * 20).decode(),
}
KEYS = ScramKeys("SHA-1", b"salt", 4096, b"c" * 20, b"s" * 20)


def parsed(type: str, **fields: Any) -> Any:
    (action,) = parse_actions([{"type": f"xmpp.{type}", **fields}], from_json=True)
    return action


def test_a_connect_with_nothing_but_an_address_is_a_components() -> None:
    assert parsed("connect", jid="chat.example") == XmppConnect("chat.example")


@pytest.mark.parametrize(
    ("auth", "meant", "alone"),
    [
        ({"password": SECRET}, Account("u42", SECRET), Account("", SECRET)),
        ({"password": SECRET, "username": "ada"}, Account("ada", SECRET), Account("ada", SECRET)),
        ({"token": SECRET}, Token("u42", SECRET), Token("", SECRET)),
        ({"scram": SCRAM}, Account("u42", None, (KEYS,)), Account("", None, (KEYS,))),
        ({"external": True}, Certificate("u42@chat.example"), Certificate()),
    ],
)
def test_credentials_in_a_connect_are_whole_and_those_alone_leave_the_name_to_the_link(
    auth: dict[str, Any], meant: Any, alone: Any
) -> None:
    assert parsed("connect", jid="u42@chat.example", auth=auth).auth == meant
    assert parsed("credentials", auth=auth) == XmppCredentials(alone)


def test_a_backend_may_be_asked_for_credentials() -> None:
    assert parsed("connect", jid="u42@chat.example", auth={"callback": True}).auth == AskBackend()


def test_a_stanza_is_given_whole_or_in_fields() -> None:
    assert parsed("send", xml="<message/>") == XmppSend("<message/>")
    assert parsed("send", to="bob@x", body="hi") == XmppSend(MessageFields("bob@x", body="hi"))
    assert parsed("send", to="not an address") == XmppSend(MessageFields("not an address"))
    assert parsed("presence", xml="<presence/>") == XmppPresence("<presence/>")
    assert parsed("presence", show="away", priority=-1) == XmppPresence(PresenceFields(show="away", priority=-1))
    assert parsed("iq_reply", seq=3, xml=None) == XmppIqReply(3)


def test_words_named_twice_count_once() -> None:
    routing = parsed("connect", jid="u@x", route={"stanzas": ["iq", "iq"], "coalesce": []}).routing
    assert (routing.stanzas, routing.coalesce) == (("iq",), ())


CONNECT = {"type": "xmpp.connect", "jid": "u42@chat.example"}
SEND = {"type": "xmpp.send"}
REPLY = {"type": "xmpp.iq_reply", "seq": 1}

BAD: list[tuple[dict[str, Any], str]] = [
    ({"type": "xmpp.connect"}, "jid"),
    (CONNECT | {"jid": "u42@chat.example/phone"}, "jid"),
    (CONNECT | {"jid": f"{SECRET}@x"}, "jid"),
    (CONNECT | {"jid": "\udcff"}, "jid"),
    (CONNECT | {"resource": "a\nb"}, "resource"),
    (CONNECT | {"resource": 5}, "resource"),
    (CONNECT | {"auth": SECRET}, "auth"),
    (CONNECT | {"auth": {}}, "auth"),
    (CONNECT | {"auth": {"password": SECRET, "token": SECRET}}, "auth"),
    (CONNECT | {"auth": {"password": SECRET, "pin": SECRET}}, "auth.pin"),
    (CONNECT | {"auth": {"password": [SECRET]}}, "auth.password"),
    (CONNECT | {"auth": {"password": ""}}, "auth.password"),
    (CONNECT | {"auth": {"password": f"{SECRET}\0"}}, "auth.password"),
    (CONNECT | {"auth": {"password": f"{SECRET}\udcff"}}, "auth.password"),
    (CONNECT | {"auth": {"password": SECRET * 1_000}}, "auth.password"),
    (CONNECT | {"auth": {"token": f"{SECRET}\x01"}}, "auth.token"),
    (CONNECT | {"auth": {"password": SECRET, "username": ""}}, "auth.username"),
    (CONNECT | {"auth": {"external": SECRET}}, "auth.external"),
    (CONNECT | {"auth": {"external": True, "username": SECRET}}, "auth.username"),
    (CONNECT | {"auth": {"callback": 1}}, "auth.callback"),
    (CONNECT | {"jid": "chat.example", "auth": {"password": SECRET}}, "auth.username"),
    (CONNECT | {"auth": {"scram": SECRET}}, "auth.scram"),
    (CONNECT | {"auth": {"scram": SCRAM | {"key": SECRET}}}, "auth.scram.key"),
    (CONNECT | {"auth": {"scram": SCRAM | {"algorithm": SECRET}}}, "auth.scram.algorithm"),
    (CONNECT | {"auth": {"scram": SCRAM | {"algorithm": [SECRET]}}}, "auth.scram.algorithm"),
    (CONNECT | {"auth": {"scram": SCRAM | {"salt": SECRET}}}, "auth.scram.salt"),
    (CONNECT | {"auth": {"scram": SCRAM | {"iterations": 0}}}, "auth.scram.iterations"),
    (CONNECT | {"auth": {"scram": SCRAM | {"client_key": SCRAM["salt"]}}}, "auth.scram.client_key"),
    (CONNECT | {"auth": {"scram": SCRAM | {"server_key": None}}}, "auth.scram.server_key"),
    (CONNECT | {"on_connect": True}, "on_connect"),
    (CONNECT | {"on_connect": {"roster": 1}}, "on_connect.roster"),
    (CONNECT | {"on_connect": {"presence": 1}}, "on_connect.presence"),
    (CONNECT | {"on_connect": {"rooms": []}}, "on_connect.rooms"),
    (CONNECT | {"route": {"stanzas": "iq"}}, "route.stanzas"),
    (CONNECT | {"route": {"stanzas": ["iq", ["iq"]]}}, "route.stanzas[1]"),
    (CONNECT | {"route": {"coalesce": ["message"]}}, "route.coalesce[0]"),
    (CONNECT | {"attach": "s1"}, "attach"),
    (CONNECT | {"attach": ["s1", None]}, "attach[1]"),
    (CONNECT | {"attach": ["s1", "x:u42"]}, "attach[1]"),
    (CONNECT | {"keep_after_detach_s": 86_401}, "keep_after_detach_s"),
    (CONNECT | {"keep_after_detach_s": True}, "keep_after_detach_s"),
    (CONNECT | {"keep_after_detach_s": float("nan")}, "keep_after_detach_s"),
    (CONNECT | {"sent": "yes"}, "sent"),
    (CONNECT | {"host": "xmpp.example"}, "host"),
    (CONNECT | {"session": "u42"}, "session"),
    (CONNECT | {"session": "x:"}, "session"),
    (SEND, "to"),
    (SEND | {"xml": "<message/>", "body": SECRET}, "body"),
    (SEND | {"xml": 5}, "xml"),
    (SEND | {"to": 5}, "to"),
    (SEND | {"to": "bob@x", "from": 5}, "from"),
    (SEND | {"xml": "<message/>", "from": SECRET}, "from"),
    (SEND | {"to": "bob@x", "stanza_type": "error"}, "stanza_type"),
    (SEND | {"to": "bob@x", "chat_state": SECRET}, "chat_state"),
    (SEND | {"to": "bob@x", "receipt": "received"}, "receipt_id"),
    (SEND | {"to": "bob@x", "receipt": "request", "receipt_id": "m1"}, "receipt_id"),
    (SEND | {"to": "bob@x", "extra": ["<x/>"]}, "extra"),
    ({"type": "xmpp.presence", "priority": 128}, "priority"),
    ({"type": "xmpp.presence", "show": "here"}, "show"),
    ({"type": "xmpp.presence", "stanza_type": "probe"}, "stanza_type"),
    ({"type": "xmpp.presence", "from": ["a@x"]}, "from"),
    ({"type": "xmpp.iq"}, "xml"),
    ({"type": "xmpp.iq", "xml": "<q/>", "from": 5}, "from"),
    ({"type": "xmpp.iq", "xml": "<q/>", "stanza_type": "result"}, "stanza_type"),
    ({"type": "xmpp.iq", "xml": "<q/>", "timeout_s": 0.5}, "timeout_s"),
    ({"type": "xmpp.iq", "xml": "<q/>", "timeout_s": 10**400}, "timeout_s"),
    ({"type": "xmpp.iq_reply"}, "seq"),
    (REPLY | {"seq": 0}, "seq"),
    (REPLY | {"xml": "<q/>", "condition": "bad-request"}, "condition"),
    (REPLY | {"condition": "<bad/>"}, "condition"),
    (REPLY | {"error_type": "wait"}, "error_type"),
    (REPLY | {"text": "why"}, "text"),
    (REPLY | {"condition": "bad-request", "error_type": "fatal"}, "error_type"),
    ({"type": "xmpp.credentials"}, "auth"),
    ({"type": "xmpp.credentials", "auth": {"callback": True}}, "auth.callback"),
    ({"type": "xmpp.attach", "client": "x:u42"}, "client"),
    ({"type": "xmpp.detach", "client": ""}, "client"),
    ({"type": "xmpp.suspend", "client": "s1"}, "client"),
    ({"type": "xmpp.disconnect", "session": "s1"}, "session"),
    ({"type": "xmpp.get", "session": 5}, "session"),
]


@pytest.mark.parametrize(("action", "field"), BAD, ids=[f"{action['type']} {field}" for action, field in BAD])
def test_a_bad_field_is_named_and_its_value_is_not(action: dict[str, Any], field: str) -> None:
    with pytest.raises(FieldError) as refusal:
        parse_actions([{"type": "send", "text": "x"}, action], from_json=True)
    assert refusal.value.field == f"actions[1].{field}"
    assert SECRET not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__


def test_a_client_is_attached_by_name_or_by_who_acts() -> None:
    assert parsed("attach") == XmppAttach()
    assert parsed("attach", client="s1", session="x:u42", id="k") == XmppAttach("s1", "x:u42", "k")
