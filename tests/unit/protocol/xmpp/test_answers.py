"""What a link answers by itself: pings, who it is, what it can, and pushes of the roster from the account alone."""

from __future__ import annotations

import pytest

from edge.protocol.xmpp.answers import ROSTER_QUERY, answer_for
from tests.unit.protocol.xmpp.elements import ACCOUNT, COMPONENT, COMPONENT_HEADER, JID, element

PING = "<ping xmlns='urn:xmpp:ping'/>"
VERSION = "<query xmlns='jabber:iq:version'/>"
DISCO = "<query xmlns='http://jabber.org/protocol/disco#info'/>"
ROSTER = "<query xmlns='jabber:iq:roster'><item jid='bob@chat.test' subscription='both'/></query>"


def asked(inside: str, kind: str = "get", from_: str | None = "bob@chat.test/p") -> str | None:
    sender = f" from='{from_}'" if from_ is not None else ""
    return answer_for(element(f"<iq type='{kind}' id='q1'{sender} to='{JID}'>{inside}</iq>"), ACCOUNT)


@pytest.mark.parametrize("from_", ["bob@chat.test/p", "chat.test", ACCOUNT, None])
def test_pings_are_answered_to_everybody(from_: str | None) -> None:
    assert asked(PING, from_=from_) == ""


def test_who_the_link_is() -> None:
    answer = asked(VERSION)
    assert answer is not None
    read = element(answer)
    assert [(child.name, child.text()) for child in read.children()] == [("name", "Holdfast"), ("version", "1")]
    assert read.namespace == "jabber:iq:version"


def test_what_the_link_can_is_what_it_answers() -> None:
    answer = asked(DISCO)
    assert answer is not None
    read = element(answer)
    identity = read.child("identity")
    assert identity is not None
    assert identity.attributes == {"category": "client", "type": "bot", "name": "Holdfast"}
    features = [child.attributes["var"] for child in read.children() if child.name == "feature"]
    assert features == ["http://jabber.org/protocol/disco#info", "urn:xmpp:ping", "jabber:iq:version"]
    assert all(asked(f"<query xmlns='{name}'/>") or asked(f"<ping xmlns='{name}'/>") is not None for name in features)


@pytest.mark.parametrize(
    "inside",
    [
        "<query xmlns='http://jabber.org/protocol/disco#info' node='caps#1'/>",
        "<query xmlns='http://jabber.org/protocol/disco#items'/>",
        "<ping xmlns='jabber:iq:version'/>",
        "<query xmlns='urn:xmpp:ping'/>",
        "<time xmlns='urn:xmpp:time'/>",
        "",
        "text alone",
        PING + PING,
        ROSTER_QUERY,
    ],
)
def test_everything_else_is_for_the_backend(inside: str) -> None:
    assert asked(inside) is None


@pytest.mark.parametrize("inside", [PING, VERSION, DISCO])
def test_nothing_of_it_can_be_set(inside: str) -> None:
    assert asked(inside, "set") is None


@pytest.mark.parametrize("kind", ["result", "error", "of another kind"])
def test_answers_are_not_answered(kind: str) -> None:
    assert asked(ROSTER, kind, ACCOUNT) is None


@pytest.mark.parametrize(
    ("from_", "answer"),
    [
        (None, ""), (ACCOUNT, ""), (JID, None), ("bob@chat.test", None), ("eve@chat.test/x", None), ("chat.test", None),
        ("", None),
    ],
)  # fmt: skip
def test_pushes_of_the_roster_are_taken_from_the_account_itself_alone(from_: str | None, answer: str | None) -> None:
    """RFC 6121 §2.1.6: others could put contacts into it."""
    assert asked(ROSTER, "set", from_) == answer


def test_a_component_is_pinged_as_well_and_has_no_roster() -> None:
    def to_component(kind: str, inside: str, from_: str) -> str | None:
        xml = f"<iq type='{kind}' id='q' from='{from_}' to='bot@{COMPONENT}'>{inside}</iq>"
        return answer_for(element(xml, COMPONENT_HEADER), COMPONENT)

    assert to_component("get", PING, "bob@chat.test/p") == ""
    assert to_component("set", ROSTER, "bob@chat.test/p") is None
