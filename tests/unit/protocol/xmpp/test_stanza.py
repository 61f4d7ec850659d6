"""What stanzas say, and whose word is taken for what."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.protocol.xmpp import escape
from edge.protocol.xmpp.element import Element
from edge.protocol.xmpp.stanza import (
    Delay,
    Iq,
    Message,
    Presence,
    Roster,
    RosterItem,
    StanzaError,
    carbon_of,
    is_stanza,
    read_message,
    read_presence,
    read_roster,
    read_stanza,
    replaces,
    roster_form,
    stanza_form,
)
from tests.unit.protocol.xmpp.elements import ACCOUNT, COMPONENT, COMPONENT_HEADER, JID, TEXTS, element

FORWARDED = (
    "<forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>"
    "<message xmlns='jabber:client' from='bob@chat.test/p' to='alice@chat.test/other' type='chat' id='m1'>"
    "<body>hi</body><stanza-id xmlns='urn:xmpp:sid:0' by='alice@chat.test' id='a7'/>"
    "<active xmlns='http://jabber.org/protocol/chatstates'/></message></forwarded>"
)


def message(xml: str) -> Message:
    return read_message(element(xml), ACCOUNT)


def presence(xml: str) -> Presence:
    return read_presence(element(xml), ACCOUNT)


def iq(xml: str) -> Iq:
    read = read_stanza(element(xml), ACCOUNT)
    assert isinstance(read, Iq)
    return read


def to_component(xml: str) -> Any:
    read = read_stanza(element(xml, COMPONENT_HEADER), COMPONENT)
    assert read is not None
    return read


def test_what_comes_to_a_component_is_in_its_own_namespace() -> None:
    heard = to_component(
        "<message from='bob@chat.test/p' to='bot@component.test' type='chat' id='m9'><subject>s</subject>"
        "<body>hi</body><body xmlns='jabber:client'>no</body><thread>t</thread><request xmlns='urn:xmpp:receipts'/>"
        "<active xmlns='http://jabber.org/protocol/chatstates'/></message>"
    )
    assert (heard.sender, heard.to, heard.type, heard.id) == ("bob@chat.test/p", "bot@component.test", "chat", "m9")
    assert (heard.subject, heard.body, heard.thread, heard.receipt) == ("s", "hi", "t", "request")
    assert heard.chat_state == "active"
    seen = to_component("<presence from='b@c'><show>away</show><status>x</status><priority>5</priority></presence>")
    assert (seen.type, seen.show, seen.status, seen.priority) == ("available", "away", "x", 5)
    assert replaces(seen) == ("presence", "b@c")
    failed = to_component(
        "<iq from='b@c' id='1' type='error'><query xmlns='u'/><error type='cancel'>"
        "<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    )
    assert (failed.query, failed.error) == (("u", "query"), StanzaError("cancel", "item-not-found", None))


def test_a_message_with_everything() -> None:
    assert message(
        f"<message from='bob@chat.test/p' to='{JID}' type='chat' id='m9'><subject>s</subject><body>hi &amp; bye</body>"
        "<thread>t</thread><request xmlns='urn:xmpp:receipts'/><active xmlns='http://jabber.org/protocol/chatstates'/>"
        "<stanza-id xmlns='urn:xmpp:sid:0' by='alice@chat.test' id='K4'/>"
        "<delay xmlns='urn:xmpp:delay' from='chat.test' stamp='2026-01-01T00:00:00Z'>Offline</delay>"
        "<x xmlns='urn:x'><body xmlns='jabber:client'>no</body></x></message>"
    ) == Message(
        "bob@chat.test/p",
        JID,
        "chat",
        "m9",
        "hi & bye",
        "s",
        "t",
        Delay("2026-01-01T00:00:00Z", "chat.test"),
        "K4",
        None,
        "active",
        "request",
        None,
        None,
        (("urn:xmpp:receipts", "request"), ("http://jabber.org/protocol/chatstates", "active"), ("urn:x", "x")),
    )


def test_a_message_with_nothing() -> None:
    assert message("<message/>") == Message(
        None, None, "normal", None, None, None, None, None, None, None, None, None, None, None, ()
    )
    assert message("<message type='nonsense'/>").type == "normal"
    assert message("<message><body/></message>").body == ""
    assert message("<message><body xmlns='urn:x'>x</body></message>").body is None


def test_of_several_languages_the_stanzas_own_counts() -> None:
    both = "<message><body xml:lang='de'>ja</body><body>yes</body></message>"
    assert message(both).body == "yes"
    assert message(both.replace("<body>", "<body xml:lang='en'>")).body == "ja"


def test_the_receipt_for_a_message() -> None:
    read = message("<message><received xmlns='urn:xmpp:receipts' id='m9'/></message>")
    assert (read.receipt, read.receipt_id) == ("received", "m9")
    assert message("<message><other xmlns='urn:xmpp:receipts' id='m9'/></message>").receipt is None


def test_archive_ids_count_from_the_accounts_own_archive_only() -> None:
    forged = "<stanza-id xmlns='urn:xmpp:sid:0' by='room@muc.test' id='1'/>"
    own = "<stanza-id xmlns='urn:xmpp:sid:0' by='alice@chat.test' id='2'/>"
    assert message(f"<message>{forged}</message>").stanza_id is None
    read = message(f"<message>{forged}{own}</message>")
    assert (read.stanza_id, read.children) == ("2", (("urn:xmpp:sid:0", "stanza-id"),))
    assert message("<message><stanza-id xmlns='urn:xmpp:sid:0' by='alice@chat.test'/></message>").stanza_id is None


def test_our_servers_word_on_delays_counts_first() -> None:
    first = "<delay xmlns='urn:xmpp:delay' from='bob@evil.test' stamp='1'/>"
    assert message(f"<message>{first}</message>").delay == Delay("1", "bob@evil.test")
    for ours in ("chat.test", ACCOUNT):
        second = f"<delay xmlns='urn:xmpp:delay' from='{ours}' stamp='2'/>"
        assert message(f"<message>{first}{second}</message>").delay == Delay("2", ours)
    assert message("<message><delay xmlns='urn:xmpp:delay'/></message>").delay is None


@pytest.mark.parametrize("direction", ["sent", "received"])
def test_a_carbon_is_read_as_the_message_inside(direction: str) -> None:
    copied = f"<{direction} xmlns='urn:xmpp:carbons:2'>{FORWARDED}</{direction}>"
    read = message(f"<message from='{ACCOUNT}' to='{JID}'>{copied}</message>")
    assert (read.sender, read.to, read.type, read.id) == ("bob@chat.test/p", "alice@chat.test/other", "chat", "m1")
    assert (read.body, read.stanza_id, read.carbon, read.chat_state) == ("hi", "a7", direction, "active")
    assert read.delay == Delay("2026-01-01T00:00:00Z", None)


COPIED = f"<received xmlns='urn:xmpp:carbons:2'>{FORWARDED}</received>"


@pytest.mark.parametrize(
    "xml",
    [
        f"<message from='bob@chat.test/p'>{COPIED}</message>",
        f"<message from='{JID}'>{COPIED}</message>",
        f"<message>{COPIED}</message>",
        f"<message from='{ACCOUNT}'><received xmlns='urn:xmpp:carbons:2'/></message>",
        f"<message from='{ACCOUNT}'><other xmlns='urn:xmpp:carbons:2'>{FORWARDED}</other></message>",
        f"<message from='{ACCOUNT}'><x xmlns='urn:x'>{COPIED}</x></message>",
        f"<message from='{ACCOUNT}'>{FORWARDED}</message>",
    ],
)
def test_forged_and_broken_carbons_are_messages_that_say_nothing(xml: str) -> None:
    assert carbon_of(element(xml), ACCOUNT) is None
    read = message(xml)
    assert (read.carbon, read.body, read.id) == (None, None, None)


def test_an_error_that_came_back() -> None:
    read = message(
        "<message type='error'><body>hi</body><error type='cancel'>"
        "<gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>xmpp:x</gone>"
        "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>moved</text></error></message>"
    )
    assert read.error == StanzaError("cancel", "gone", "moved")
    assert message("<message type='error'/>").error == StanzaError("", "", None)
    assert message("<message><error type='cancel'/></message>").error is None


def test_presence() -> None:
    assert presence(
        "<presence from='bob@chat.test/p' to='alice@chat.test' id='1'><show>away</show><status>lunch</status>"
        "<priority>-5</priority><c xmlns='http://jabber.org/protocol/caps' ver='x'/></presence>"
    ) == Presence(
        "bob@chat.test/p",
        "alice@chat.test",
        "available",
        "1",
        "away",
        "lunch",
        -5,
        None,
        None,
        (("http://jabber.org/protocol/caps", "c"),),
    )
    assert presence("<presence type='subscribe'/>").type == "subscribe"
    assert presence("<presence><show>here</show></presence>").show is None


@pytest.mark.parametrize(
    ("text", "priority"),
    [("5", 5), ("-129", -128), ("1000", 127), ("", 0), ("x", 0), ("٣", 0), ("1" * 10_000, 0), (" 7 ", 7), ("1.5", 0)],
)
def test_priorities_are_taken_as_far_as_they_go(text: str, priority: int) -> None:
    assert presence(f"<presence><priority>{text}</priority></presence>").priority == priority


def test_iq() -> None:
    asked = iq("<iq from='bob@chat.test/p' type='get' id='q1'><ping xmlns='urn:xmpp:ping'/></iq>")
    assert asked == Iq("bob@chat.test/p", None, "get", "q1", ("urn:xmpp:ping", "ping"), None)
    refused = iq(
        "<iq type='error' id='q1'><error type='cancel'>"
        "<conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    )
    assert refused == Iq(None, None, "error", "q1", None, StanzaError("cancel", "conflict", None))


@pytest.mark.parametrize("xml", ["<r xmlns='urn:xmpp:sm:3'/>", "<message xmlns='urn:x'/>", "<stream:features/>"])
def test_other_elements_are_no_stanzas(xml: str) -> None:
    assert not is_stanza(element(xml))
    assert read_stanza(element(xml), ACCOUNT) is None


ITEM = "<item jid='bob@chat.test' subscription='both' name='Bob'><group>a</group><group>b</group></item>"


def roster(head: str, items: str, version: str = "") -> Roster | None:
    return read_roster(
        element(f"<iq {head} id='1'><query xmlns='jabber:iq:roster'{version}>{items}</query></iq>"), ACCOUNT
    )


def test_rosters_and_pushes() -> None:
    bob = RosterItem("bob@chat.test", "both", "Bob", False, ("a", "b"))
    carol = RosterItem("carol@chat.test", "none", None, True, ())
    second = "<item jid='carol@chat.test' ask='subscribe'/>"
    assert roster("type='result'", ITEM + second, " ver='12'") == Roster("12", True, (bob, carol))
    assert roster("type='set'", ITEM) == Roster(None, False, (bob,))
    assert roster(f"type='set' from='{ACCOUNT}'", ITEM) == Roster(None, False, (bob,))
    assert roster("type='result'", "") == Roster(None, True, ())
    assert roster("type='result'", "<item/><item jid='x' subscription='y'/>") == Roster(
        None, True, (RosterItem("x", "none", None, False, ()),)
    )


@pytest.mark.parametrize(
    ("head", "items"),
    [
        ("type='set' from='bob@chat.test'", ITEM),
        ("type='set' from='chat.test'", ITEM),
        (f"type='set' from='{JID}'", ITEM),
        ("type='set'", ""),
        ("type='set'", ITEM + ITEM),
        ("type='get'", ITEM),
        ("type='error'", ITEM),
    ],
)
def test_what_is_no_roster_of_ours(head: str, items: str) -> None:
    """RFC 6121 §2.1.6: pushes of others are ignored, or anybody could change what the user sees."""
    assert roster(head, items) is None


def test_what_makes_older_news_worthless() -> None:
    def key(xml: str) -> object:
        read = read_stanza(element(xml), ACCOUNT)
        assert read is not None
        return replaces(read)

    typing = "<composing xmlns='http://jabber.org/protocol/chatstates'/>"
    bob = "from='bob@chat.test/p'"
    assert key(f"<presence {bob}/>") == key(f"<presence {bob} type='unavailable'/>") is not None
    assert key(f"<presence {bob}/>") != key("<presence from='bob@chat.test/q'/>")
    for kind in ("subscribe", "subscribed", "unsubscribe", "unsubscribed", "error", "probe"):
        assert key(f"<presence {bob} type='{kind}'/>") is None
    assert key(f"<presence {bob}><x xmlns='http://jabber.org/protocol/muc#user'/></presence>") is None
    assert key(f"<message {bob} type='chat'>{typing}</message>") is not None
    assert key(f"<message {bob} type='chat'>{typing}<no-store xmlns='urn:xmpp:hints'/></message>") == key(
        f"<message {bob} type='chat'>{typing.replace('composing', 'active')}</message>"
    )
    assert key(f"<message {bob}>{typing}</message>") != key(f"<message {bob}>{typing}<thread>t</thread></message>")
    assert key(f"<message {bob}>{typing}</message>") != key(f"<presence {bob}/>")
    for more in ("<body/>", "<subject/>", "<x xmlns='urn:x'/>", "<request xmlns='urn:xmpp:receipts'/>"):
        assert key(f"<message {bob}>{typing}{more}</message>") is None
    assert key(f"<message {bob} type='error'>{typing}</message>") is None
    assert key(f"<message {bob}/>") is None
    assert key("<iq type='get' id='1'><x xmlns='u'/></iq>") is None


def test_stanzas_as_backends_see_them() -> None:
    form = stanza_form(message("<message from='b@c'><body>hi</body><x xmlns='urn:x'/></message>"))
    assert form == {
        "name": "message", "from": "b@c", "to": None, "type": "normal", "id": None, "body": "hi", "subject": None,
        "thread": None, "stanza_id": None, "carbon": None, "chat_state": None, "receipt": None, "receipt_id": None,
        "delay": None, "error": None, "children": [["urn:x", "x"]],
    }  # fmt: skip
    seen = presence("<presence from='b@c'><delay xmlns='urn:xmpp:delay' from='c' stamp='1'/></presence>")
    assert stanza_form(seen) == {
        "name": "presence", "from": "b@c", "to": None, "type": "available", "id": None, "show": None, "status": None,
        "priority": 0, "delay": {"stamp": "1", "from": "c"}, "error": None, "children": [],
    }  # fmt: skip
    asked = iq("<iq type='error' id='1'><x xmlns='u'/><error type='wait'/></iq>")
    assert stanza_form(asked) == {
        "name": "iq", "from": None, "to": None, "type": "error", "id": "1", "query": ["u", "x"],
        "error": {"type": "wait", "condition": "", "text": None},
    }  # fmt: skip
    pushed = roster("type='set'", ITEM, " ver='7'")
    assert pushed is not None
    assert roster_form(pushed) == {
        "ver": "7",
        "full": False,
        "items": [{"jid": "bob@chat.test", "sub": "both", "name": "Bob", "ask": False, "groups": ["a", "b"]}],
    }


NAMES = st.sampled_from(
    ["message", "presence", "iq", "body", "error", "received", "sent", "forwarded", "delay", "stanza-id", "query",
     "item", "group", "priority", "show", "request", "active", "result", "thread", "text", "fin"]
)  # fmt: skip
NAMESPACES = st.sampled_from(
    ["", "jabber:client", "urn:xmpp:carbons:2", "urn:xmpp:forward:0", "urn:xmpp:delay", "urn:xmpp:sid:0",
     "jabber:iq:roster", "urn:xmpp:receipts", "http://jabber.org/protocol/chatstates",
     "urn:ietf:params:xml:ns:xmpp-stanzas"]
)  # fmt: skip
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["from", "to", "type", "id", "by", "jid", "stamp", "subscription", "ask", "ver"]),
    st.one_of(TEXTS, st.sampled_from([ACCOUNT, JID, "chat.test", "error", "set", "result", "get", "chat"])),
    max_size=4,
)


def _written(name: str, namespace: str, attributes: dict[str, str], inside: str) -> str:
    head = f" xmlns='{namespace}'" if namespace else ""
    head += "".join(f" {key}='{escape.attribute(value)}'" for key, value in attributes.items())
    return f"<{name}{head}>{inside}</{name}>"


INSIDE = st.recursive(
    TEXTS.map(escape.text),
    lambda inner: st.lists(st.builds(_written, NAMES, NAMESPACES, ATTRIBUTES, inner), max_size=3).map("".join),
    max_leaves=8,
)


@given(st.builds(_written, st.sampled_from(["message", "presence", "iq"]), st.just(""), ATTRIBUTES, INSIDE))
def test_whatever_comes_is_read(xml: str) -> None:
    came = element(xml)
    read = read_stanza(came, ACCOUNT)
    assert read is not None
    form: dict[str, Any] = orjson.loads(orjson.dumps(stanza_form(read)))
    assert form["name"] == came.name
    if isinstance(read, Message) and came.attributes.get("from") != ACCOUNT:
        assert read.carbon is None
        assert read.sender == came.attributes.get("from")
    items = read_roster(came, ACCOUNT)
    assert items is None or orjson.dumps(roster_form(items))
    hash(replaces(read))


@given(INSIDE)
def test_reading_changes_nothing(inside: str) -> None:
    came = element(f"<message>{inside}</message>")
    raw = came.raw
    read_message(came, ACCOUNT)
    assert came.raw == raw
    assert came == Element(came.name, came.namespace, came.attributes, raw, came.context)
