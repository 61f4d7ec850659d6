"""In whose name a link may send; what stanzas make of it: `test_outgoing`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import FieldError
from edge.protocol.xmpp.jid import parse_jid
from edge.protocol.xmpp.senders import AccountSender, ComponentSender, SenderRule, rule_of
from tests.unit.protocol.xmpp.elements import ACCOUNT, COMPONENT, JID

ACCOUNTS: SenderRule = AccountSender(JID)
COMPONENTS: SenderRule = ComponentSender(COMPONENT)


def test_a_full_address_stands_for_its_account() -> None:
    assert rule_of(JID) == ACCOUNTS
    assert rule_of(COMPONENTS) is COMPONENTS


def test_an_account_is_itself() -> None:
    for said in (None, JID, ACCOUNT):
        ACCOUNTS.check(said)
        assert ACCOUNTS.choose(said) == said
    for said in ("", "chat.test", JID + "2", "bob@chat.test"):
        with pytest.raises(FieldError, match=r"^from: "):
            ACCOUNTS.choose(said)


def test_a_component_is_everybody_at_its_domain() -> None:
    assert COMPONENTS.choose(None) == COMPONENT
    for said in (COMPONENT, f"bot@{COMPONENT}", f"bot@{COMPONENT}/a@b/c", f"{COMPONENT}/x"):
        COMPONENTS.check(said)
        assert COMPONENTS.choose(said) == said
    with pytest.raises(FieldError, match=r"^xml: "):
        COMPONENTS.check(None, "xml")


@given(st.text(alphabet="ab@/.\n component.test", max_size=30) | st.text(max_size=30))
def test_nobody_else_passes_for_a_component(said: str) -> None:
    try:
        COMPONENTS.check(said)
    except FieldError:
        return
    assert parse_jid(said).domain == COMPONENT
