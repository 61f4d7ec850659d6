"""What a backend may send: one stanza, and nothing else whatever it writes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.errors import FieldError
from edge.protocol.xmpp import names
from edge.protocol.xmpp.element import Element
from edge.protocol.xmpp.framing import Framer, StreamLimits
from edge.protocol.xmpp.outgoing import (
    MessageFields,
    PresenceFields,
    delayed,
    iq_error,
    iq_result,
    iq_stanza,
    message_stanza,
    presence_stanza,
    raw_stanza,
)
from edge.protocol.xmpp.senders import ComponentSender
from edge.protocol.xmpp.stanza import read_message, read_presence
from tests.unit.protocol.xmpp.elements import ACCOUNT, COMPONENT, COMPONENT_HEADER, HEADER, JID, TEXTS, element

SENDER = ComponentSender(COMPONENT)
STREAM_ERROR = "<x xmlns='http://etherx.jabber.org/streams'/>"


@pytest.mark.parametrize(
    "xml",
    [
        "<message/>",
        "<message to='bob@chat.test' type='chat'><body>hi &amp; &#233; <![CDATA[</message>]]></body></message>",
        "<message xmlns='jabber:client'/>",
        "<c:message xmlns:c='jabber:client'><c:body/></c:message>",
        "<message><x:any xmlns:x='urn:x' x:y='1' y='2'/></message>",
        "<message xmlns:stream='urn:mine'><stream:error/></message>",
        f"<message from='{JID}'/>",
        f"<message from='{ACCOUNT}'/>",
        "<message b:from='x' xmlns:b='urn:b'/>",
        "<presence type='unavailable'/>",
        "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq type='result' id='1'/>",
        "<iq type='result' id='hf:ping'/>",
        "<iq type='error' id='1'><ping xmlns='urn:xmpp:ping'/><error type='cancel'/></iq>",
        "<message>" + "<a>" * 63 + "</a>" * 63 + "</message>",
        "<message><body>" + "x" * (262_144 - 32) + "</body></message>",
    ],
)
def test_one_stanza_is_sent_as_it_was_written(xml: str) -> None:
    assert raw_stanza(xml, JID).raw == xml.encode()
    assert raw_stanza(f"\n {xml}\t ", JID).raw == xml.encode()


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "  \n",
        "hello",
        "<message>",
        "<message",
        "</message>",
        "<message/><message/>",
        "<message/><presence/>",
        "<message/>x",
        "x<message/>",
        "\ufeff<message/>",
        "</stream:stream>",
        "<message/></stream:stream>",
        "<message></stream:stream>",
        "<message/></stream:stream><message/>",
        "<message></message></message>",
        "<stream:stream xmlns:stream='http://etherx.jabber.org/streams'/>",
        "<stream:error/>",
        "<stream:features/>",
        f"<message>{STREAM_ERROR}</message>",
        f"<message><a><b>{STREAM_ERROR}</b></a></message>",
        "<message><stream:error/></message>",
        "<message stream:to='x'/>",
        "<message><body stream:to='x'/></message>",
        "<r xmlns='urn:xmpp:sm:3'/>",
        "<a xmlns='urn:xmpp:sm:3' h='7'/>",
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        "<active xmlns='urn:xmpp:csi:0'/>",
        "<Message/>",
        "<message xmlns=''/>",
        "<message xmlns='jabber:server'/>",
        "<message xmlns='jabber:component:accept'/>",
        "<?xml version='1.0'?><message/>",
        "<!DOCTYPE message><message/>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]><message>&b;</message>",
        "<message>&b;</message>",
        "<message><!-- x --></message>",
        "<message/><!-- x -->",
        "<message/><!--",
        "<message/><![CDATA[",
        "<message><![CDATA[",
        "<message><?x y?></message>",
        "<message/><?x",
        "<message/><r a='",
        "<message/><",
        "<message>\x00</message>",
        "<message>&#0;</message>",
        "<message>\x1b</message>",
        "<message>\ufffe</message>",
        "<message>&#xFFFF;</message>",
        "<message>\ud800</message>",
        "<message a='1' a='2'/>",
        "<message a=1/>",
        "<message><b:x/></message>",
        "<message b:x='1'/>",
        "<message xmlns:b=''/>",
        "<message xmlns:xml='urn:x'/>",
        "<message xmlns:a='u' xmlns:b='u' a:x='' b:x=''/>",
        "<message from='bob@chat.test'/>",
        f"<message from='{JID}2'/>",
        "<message from='chat.test'/>",
        "<message from=''/>",
        "<presence from='bob@chat.test'/>",
        "<iq/>",
        "<iq type='get'/>",
        "<iq type='get' id=''><x xmlns='urn:x'/></iq>",
        "<iq type='get' id='1'/>",
        "<iq type='set' id='1'><x xmlns='urn:x'/><x xmlns='urn:x'/></iq>",
        "<iq type='result' id='1'><x xmlns='urn:x'/><x xmlns='urn:x'/></iq>",
        "<iq type='nonsense' id='1'/>",
        "<iq type='get' id='hf:ping'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq type='get' id='hf:ack:1'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
        "<iq type='set' id='1'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>",
        "<message>" + "<a>" * 64 + "</a>" * 64 + "</message>",
        "<message " + " ".join(f"a{number}=''" for number in range(65)) + "/>",
        "<message><body>" + "x" * 262_144 + "</body></message>",
        "<message>" * 100_000,
    ],
)
def test_anything_else_is_refused(xml: str) -> None:
    with pytest.raises(FieldError, match=r"^xml: "):
        raw_stanza(xml, JID)


def test_an_action_may_be_for_one_kind_of_stanza() -> None:
    assert raw_stanza("<presence/>", JID, allowed=["presence"]).name == "presence"
    with pytest.raises(FieldError, match=r"^presence: must be <presence> in"):
        raw_stanza("<message/>", JID, allowed=["presence"], field="presence")


ADDRESSED = f"from='bot@{COMPONENT}' to='{ACCOUNT}'"


@pytest.mark.parametrize(
    "xml",
    [
        f"<message from='{COMPONENT}' to='{ACCOUNT}'/>",
        f"<message from='bot@{COMPONENT}/any &amp; 1' to=''/>",
        f"<message xmlns='jabber:component:accept' {ADDRESSED}><body>x</body></message>",
        f"<c:message xmlns:c='jabber:component:accept' {ADDRESSED}/>",
        f"<message {ADDRESSED}><x xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/></x></message>",
        f"<presence {ADDRESSED}/>",
        f"<iq type='get' id='1' {ADDRESSED}><ping xmlns='urn:xmpp:ping'/></iq>",
        f"<iq type='result' id='hf:ack:1' {ADDRESSED}/>",
    ],
)
def test_a_component_sends_for_anybody_at_its_domain(xml: str) -> None:
    assert raw_stanza(xml, SENDER).raw == xml.encode()


@pytest.mark.parametrize(
    ("xml", "problem"),
    [
        (f"<message xmlns='jabber:client' {ADDRESSED}/>", "in the namespace jabber:component:accept"),
        (f"<c:message xmlns:c='jabber:client' {ADDRESSED}/>", "in the namespace jabber:component:accept"),
        (f"<handshake {ADDRESSED}/>", "must be <message>"),
        (f"<message to='{ACCOUNT}'/>", "who it is from"),
        (f"<message from='{ACCOUNT}' to='{ACCOUNT}'/>", "the link is component.test"),
        (f"<message from='sub.{COMPONENT}' to='{ACCOUNT}'/>", "the link is component.test"),
        (f"<message from='x{COMPONENT}' to='{ACCOUNT}'/>", "the link is component.test"),
        (f"<message from='{COMPONENT.upper()}' to='{ACCOUNT}'/>", "the link is component.test"),
        (f"<message from='{COMPONENT}@chat.test' to='{ACCOUNT}'/>", "the link is component.test"),
        (f"<message from='chat.test/@{COMPONENT}' to='{ACCOUNT}'/>", "the link is component.test"),
        (f"<message from='@{COMPONENT}' to='{ACCOUNT}'/>", "from somebody at"),
        (f"<message from='bot@{COMPONENT}/' to='{ACCOUNT}'/>", "from somebody at"),
        (f"<message from='a b@{COMPONENT}' to='{ACCOUNT}'/>", "from somebody at"),
        (f"<message from='' to='{ACCOUNT}'/>", "from somebody at"),
        (f"<message from='{COMPONENT}'/>", "whom it is to"),
        (f"<presence from='{COMPONENT}'/>", "whom it is to"),
        (f"<message {ADDRESSED}><stream:error/></message>", "inside"),
        (f"<message {ADDRESSED}/></stream:stream>", "one whole stanza"),
        (f"<iq type='get' id='hf:ack:1:x' {ADDRESSED}><ping xmlns='urn:xmpp:ping'/></iq>", "the link's own"),
    ],
)
def test_a_component_sends_nothing_else(xml: str, problem: str) -> None:
    with pytest.raises(FieldError, match=problem) as refused:
        raw_stanza(xml, SENDER)
    assert refused.value.field == "xml"


def test_a_component_says_who_it_is_from() -> None:
    bot = f"bot@{COMPONENT}/1"
    assert message_stanza(MessageFields("b@c", body="x"), SENDER).raw == (
        b"<message from='component.test' to='b@c' type='chat'><body>x</body></message>"
    )
    assert message_stanza(MessageFields("b@c", sender=bot), SENDER).attributes["from"] == bot
    assert presence_stanza(PresenceFields("b@c"), SENDER).raw == b"<presence from='component.test' to='b@c'/>"
    assert presence_stanza(PresenceFields("b@c", sender=bot), SENDER).attributes["from"] == bot
    asked = iq_stanza("get", "1", "b@c", "<ping xmlns='urn:xmpp:ping'/>", SENDER, from_=bot)
    assert asked.raw == (
        b"<iq from='bot@component.test/1' to='b@c' type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>"
    )
    assert iq_result("1", "b@c", "", SENDER).raw == b"<iq from='component.test' to='b@c' type='result' id='1'/>"
    assert iq_result("1", "b@c", "", SENDER, from_=bot).attributes["from"] == bot
    refused = iq_error("1", "b@c", "service-unavailable", SENDER, from_=bot)
    assert refused.attributes["from"] == bot
    assert refused.namespace == names.COMPONENT
    assert refused.child("error") is not None


def test_an_account_may_say_who_it_is() -> None:
    assert message_stanza(MessageFields("b@c", sender=ACCOUNT), JID).raw == (
        b"<message from='alice@chat.test' to='b@c' type='chat'/>"
    )
    assert iq_result("1", "b@c", "", JID, from_=JID).attributes["from"] == JID


PIECES = st.sampled_from(
    [
        "<message>", "</message>", "<message/>", "<body>", "</body>", "<presence/>", "</stream:stream>",
        "<stream:error/>", "<stream:stream>", "<r xmlns='urn:xmpp:sm:3'/>", "<a", " a='", "'", '"', ">", "/>", "<",
        "x", " ", "&amp;", "&lt;", "&x;", "<![CDATA[", "]]>", "<!--", "-->", "<?x", "?>", "<!DOCTYPE a>", " xmlns='",
        "jabber:client", "urn:x", " xmlns:b='", "<b:c>", "</b:c>", " from='bob@chat.test'", "\x00", "é",
        "<iq type='get' id='1'>", "</iq>",
    ]
)  # fmt: skip


@given(st.one_of(st.lists(PIECES, max_size=10).map("".join), st.text(max_size=20)))
@example("<message/><")
def test_whatever_passes_is_one_stanza_to_whoever_reads_the_stream(xml: str) -> None:
    try:
        sent = raw_stanza(xml, JID).raw
    except FieldError:
        return
    framer = Framer(StreamLimits())
    framer.feed(HEADER + b"<presence/>")
    (heard,) = framer.feed(sent)
    assert isinstance(heard, Element)
    assert (heard.namespace, heard.raw) == (names.CLIENT, sent)
    assert heard.attributes.get("from", JID) == JID
    (behind,) = framer.feed(b"<iq/>")
    assert isinstance(behind, Element)
    assert behind.raw == b"<iq/>"


@given(st.lists(PIECES | st.just(f" {ADDRESSED}"), max_size=10).map("".join))
@example(f"<message {ADDRESSED}/>")
@example(f"<message xmlns='jabber:client' {ADDRESSED}/>")
def test_whatever_passes_of_a_component_is_its_own(xml: str) -> None:
    try:
        sent = raw_stanza(xml, SENDER).raw
    except FieldError:
        return
    heard = element(sent.decode(), COMPONENT_HEADER)
    assert (heard.namespace, heard.raw) == (names.COMPONENT, sent)
    assert heard.attributes["from"].partition("/")[0].rpartition("@")[2] == COMPONENT
    assert "to" in heard.attributes


@given(st.lists(PIECES, max_size=6).map("".join))
def test_what_stands_inside_does_not_get_out(xml: str) -> None:
    makers: list[Callable[[], Element]] = [
        lambda: message_stanza(MessageFields("bob@chat.test", body="b", xml=xml), JID),
        lambda: presence_stanza(PresenceFields(xml=xml), JID),
        lambda: iq_stanza("set", "1", "bob@chat.test", xml, JID),
        lambda: iq_result("1", "bob@chat.test", xml, JID),
    ]
    for make in makers:
        with contextlib.suppress(FieldError):
            sent = make()
            assert raw_stanza(sent.raw.decode(), JID).name == sent.name


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_fields_arrive_as_they_were(id: str, body: str, subject: str, thread: str) -> None:
    fields = MessageFields("bob@chat.test/p", "chat", id, body, subject, thread, "active", "request")
    read = read_message(element(message_stanza(fields, JID).raw.decode()), ACCOUNT)
    assert (read.to, read.type, read.id) == ("bob@chat.test/p", "chat", id)
    assert (read.body, read.subject, read.thread) == (body, subject, thread)
    assert (read.chat_state, read.receipt, read.sender) == ("active", "request", None)


@given(TEXTS, st.integers(-128, 127))
def test_presence_arrives_as_it_was(status: str, priority: int) -> None:
    sent = presence_stanza(PresenceFields(show="dnd", status=status, priority=priority, id="p"), JID)
    read = read_presence(element(sent.raw.decode()), ACCOUNT)
    assert (read.to, read.type, read.id) == (None, "available", "p")
    assert (read.show, read.status, read.priority) == ("dnd", status, priority)


def test_stanzas_are_short_and_readable() -> None:
    sent = message_stanza(MessageFields("b@c", receipt="received", receipt_id="m'9", xml="<x xmlns='u'/>"), JID)
    assert sent.raw == (
        b"<message to='b@c' type='chat'><received xmlns='urn:xmpp:receipts' id='m&apos;9'/><x xmlns='u'/></message>"
    )
    assert presence_stanza(PresenceFields(), JID).raw == b"<presence/>"
    assert presence_stanza(PresenceFields("b@c", "subscribe"), JID).raw == b"<presence to='b@c' type='subscribe'/>"
    assert iq_result("1", None, "", JID).raw == b"<iq type='result' id='1'/>"
    asked = iq_stanza("get", "e1-7", "b@c", "<ping xmlns='urn:xmpp:ping'/>", JID)
    assert asked.raw == b"<iq to='b@c' type='get' id='e1-7'><ping xmlns='urn:xmpp:ping'/></iq>"
    refused = iq_error("1", "b@c", "service-unavailable", JID, text="no <way>")
    error = refused.child("error")
    assert error is not None
    assert error.attributes == {"type": "cancel"}
    assert [(each.name, each.namespace, each.text()) for each in error.children()] == [
        ("service-unavailable", names.STANZA_ERRORS, ""),
        ("text", names.STANZA_ERRORS, "no <way>"),
    ]


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("to", lambda: message_stanza(MessageFields("@"), JID)),
        ("to", lambda: presence_stanza(PresenceFields("a b@c"), JID)),
        ("to", lambda: message_stanza(MessageFields(""), JID)),
        ("type", lambda: message_stanza(_message(type="error"), JID)),
        ("type", lambda: presence_stanza(_presence(type="probe"), JID)),
        ("show", lambda: presence_stanza(_presence(show="<"), JID)),
        ("priority", lambda: presence_stanza(PresenceFields(priority=128), JID)),
        ("status", lambda: presence_stanza(PresenceFields(status="\x00"), JID)),
        ("id", lambda: message_stanza(_message(id="\x01"), JID)),
        ("body", lambda: message_stanza(_message(body="\ud800"), JID)),
        ("subject", lambda: message_stanza(_message(subject="\ufffe"), JID)),
        ("thread", lambda: message_stanza(_message(thread="\x0b"), JID)),
        ("chat_state", lambda: message_stanza(_message(chat_state="x/><message"), JID)),
        ("receipt", lambda: message_stanza(_message(receipt="x"), JID)),
        ("receipt_id", lambda: message_stanza(_message(receipt="received"), JID)),
        ("receipt_id", lambda: message_stanza(_message(receipt="request", receipt_id="1"), JID)),
        ("receipt_id", lambda: message_stanza(_message(receipt_id="1"), JID)),
        ("receipt_id", lambda: message_stanza(_message(receipt="received", receipt_id="\x00"), JID)),
        ("xml", lambda: message_stanza(_message(xml="</message><message>"), JID)),
        ("xml", lambda: message_stanza(_message(body="x" * 300_000), JID)),
        ("xml", lambda: iq_stanza("get", "1", None, "", JID)),
        ("xml", lambda: iq_stanza("get", "", None, "<x xmlns='u'/>", JID)),
        ("from", lambda: message_stanza(_message(sender="bob@chat.test"), JID)),
        ("from", lambda: iq_stanza("get", "1", None, "<x xmlns='u'/>", JID, from_="bob@chat.test")),
        ("from", lambda: message_stanza(_message(sender="bob@chat.test"), SENDER)),
        ("from", lambda: message_stanza(_message(sender=f"@{COMPONENT}"), SENDER)),
        ("from", lambda: presence_stanza(_presence(sender="", to="b@c"), SENDER)),
        ("from", lambda: iq_result("1", "b@c", "", SENDER, from_="b@c")),
        ("from", lambda: iq_error("1", "b@c", "conflict", SENDER, from_="b@c")),
        ("to", lambda: presence_stanza(PresenceFields(), SENDER)),
        ("to", lambda: iq_stanza("get", "1", None, "<x xmlns='u'/>", SENDER)),
        ("condition", lambda: iq_error("1", None, "x/>", JID)),
        ("condition", lambda: iq_error("1", None, "", JID)),
        ("error_type", lambda: iq_error("1", None, "conflict", JID, kind="'")),
    ],
)
def test_a_refusal_names_the_field(field: str, make: Callable[[], Element]) -> None:
    with pytest.raises(FieldError) as refused:
        make()
    assert refused.value.field == field


def _message(**fields: Any) -> MessageFields:
    return MessageFields("bob@chat.test", **fields)


def _presence(**fields: Any) -> PresenceFields:
    return PresenceFields(**fields)


@pytest.mark.parametrize(
    "xml",
    [
        "<message/>",
        "<message\n to='b@c' />",
        "<message/ >".replace(" ", ""),
        "<c:message xmlns:c='jabber:client'/>",
        "<message><body>x</body></message>",
        "<message><x xmlns='u'/></message\n>",
        "<message></message>",
    ],
)
def test_a_stanza_sent_again_says_since_when_it_waits(xml: str) -> None:
    again = raw_stanza(delayed(xml.encode(), "2026-01-01T00:00:00Z", JID).decode(), JID)
    *before, delay = again.children()
    assert (delay.name, delay.namespace) == ("delay", names.DELAY)
    assert delay.attributes == {"from": JID, "stamp": "2026-01-01T00:00:00Z"}
    first = element(xml)
    assert [each.raw for each in before] == [each.raw for each in first.children()]
    assert again.attributes == first.attributes
